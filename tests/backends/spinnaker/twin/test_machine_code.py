"""The twin beside the machine code itself: functions of the binaries in sPyNNaker's wheel, run in qemu-arm.

Addresses are of exactly these builds (their hashes are checked), read from the disassembly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.spinnaker import accum
from neurocompile.backends.spinnaker.learning import Modulation, PlasticRule
from neurocompile.backends.spinnaker.neurons import Cell
from neurocompile.backends.spinnaker.twin.cells import Neurons
from neurocompile.backends.spinnaker.twin.events import Histories, Table, add_rewards, add_spikes
from neurocompile.backends.spinnaker.twin.plastic import PlasticRows, Rule, rule_numbers
from neurocompile.backends.spinnaker.twin.rows import Rows
from tests.backends.spinnaker.machine_code import Machine, binary

RUNS = int(os.environ.get("NEUROCOMPILE_RANDOM_PROGRAMS", "0")) or 12
"""Random programs of each kind"""
HASHES = {
    "IF_curr_delta": "9e991ac64c9eebc2f34a53e93ff667bad9b3ef112a16d4d91ac1605fd660dbcd",
    "IF_curr_exp": "acd257c9da6fa23c8995a080aeadd591182716cc0f8b6f2b26a1fbbdc15bc556",
    "IF_curr_delta_ca2_adaptive": "3e8e5bccf76fbabbd78618687233c7b6a2c0acbbf312f3a03c3fa07a3c69b03f",
    "IF_curr_exp_stdp_mad_pair_additive": "36834f0a6c8e94852cb4148b5bd18769abea4021caa77d3d77ccd4a0aef6a1e2",
    "IF_curr_exp_stdp_mad_pair_multiplicative": "690685bc329718cb21e26c37a882b15ff728e8c351e35df7bc96a1f77252d4c7",
    "synapses_stdp_izhikevich_neuromodulation_pair_additive": "d5a96bedf75639a5274637f0aeb8ef4e2a4bd9d9c2407f5fba569c5419511a61",
}


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Machine]]:
    made: dict[str, Machine] = {}

    def get(name: str) -> Machine:
        path = binary(f"{name}.aplx")
        if path is None:
            pytest.skip("needs sPyNNaker's binaries, qemu-arm and an assembler for ARM (binutils-arm-none-eabi)")
        if name not in made:
            made[name] = Machine(path, tmp_path_factory.mktemp(name), HASHES[name])
        return made[name]

    yield get
    for machine in made.values():
        machine.close()


def test_exponentials(core: Callable[[str], Machine]) -> None:
    machine = core("IF_curr_delta")
    exponents = -np.concatenate([np.arange(300), np.random.default_rng(0).integers(0, 345000, 700)])
    np.testing.assert_array_equal(accum.exponential(exponents), [machine.call(0x4CB0, int(x)) for x in exponents])


LOAD = 0x16B4
"""neuron_impl_load_neuron_parameters, at the same place in the three binaries of neurons"""


class Updates:
    """neuron_do_timestep_update of a binary, with neurons that its own loader has made from parameters in SDRAM's layout."""

    GLOBALS = 0x400168

    def __init__(self, machine: Machine, entry: int, cell: Cell, dt_ms: float) -> None:
        self.machine, self.entry, self.n = machine, entry, cell.size
        self.exponential, self.adaptive = cell.cell == "IF_curr_exp", cell.cell == "IF_curr_delta_ca2_adaptive"
        n = cell.size
        indices = machine.place(np.zeros(n, np.uint16))  # nothing is recorded but spikes
        words = machine.place(np.zeros(64, np.uint32))
        recorded = machine.place(np.array([0, 9, 0, 0, 0, 0] * 4, np.uint32))
        bits = machine.place(np.array([9, 0, 0, 0, 0, 0], np.uint32))
        self.fired = machine.place(np.zeros(8, np.uint32))
        pointers = [recorded, machine.place(np.array([words] * 3, np.uint32)), machine.place(np.array([indices] * 3, np.uint32)), bits]
        pointers += [machine.place(np.array([self.fired], np.uint32)), 0]
        pointers[5] = machine.place(np.array([machine.place(np.arange(n, dtype=np.uint16))], np.uint32))
        for k, pointer in enumerate(pointers):
            machine.write(self.GLOBALS + 4 * k, pointer)
        self.state, self.inputs, self.threshold, self.ca2 = (machine.place(np.zeros(k * n, np.uint32)) for k in (8, 6, 1, 3))
        between = [] if self.exponential else [machine.place(np.zeros(n, np.uint32))]
        between += [self.ca2] if self.adaptive else []
        where = self.GLOBALS + 76
        for value in [1, self.state, *between, self.inputs, self.threshold, n]:
            machine.write(where, value)
            where += 4
        machine.write(where + 4, 0)  # no current sources
        machine.write(where + 16, 0)  # no key: nothing is sent
        machine.call(LOAD, machine.place(self._parameters(cell, dt_ms)), n, 0)

    def _parameters(self, cell: Cell, dt_ms: float) -> Any:
        """The structures of sPyNNaker's neuron implementation, one after the other."""
        p = {name: np.broadcast_to(accum.encode(value), (cell.size,)) for name, value in cell.params.items()}
        step, zero = np.full(cell.size, accum.encode(dt_ms)), np.zeros(cell.size, np.int64)
        neuron = [p[k] for k in ("v_init", "v_rest", "cm", "tau_m", "i_offset", "v_reset", "tau_refrac")] + [zero, step]
        parts = [neuron, [] if self.exponential else [step], [p["v_thresh"]]]
        parts.append([p["tau_syn_E"], p["isyn_exc"], p["tau_syn_I"], p["isyn_inh"], step] if self.exponential else [zero, zero])
        parts.append([p["tau_ca2"], zero, p["i_alpha"], step] if self.adaptive else [])
        return np.concatenate([[1], *(np.stack(part, axis=1).ravel() for part in parts if part)]).astype(np.int32)

    def step(self, tick: int, arrived: Any, shift: Any) -> Any:
        machine = self.machine
        if self.exponential:
            held = machine.read(self.inputs, np.int32, 6 * self.n).reshape(self.n, 6).copy()
            decay = held.view(np.uint32)
            for r in (0, 1):  # what neuron_transfer does before the update
                add = (arrived[r].astype(np.int64) << shift[r]) * decay[:, 3 * r + 1].astype(np.int64) >> 32
                held[:, 3 * r + 2] += add.astype(np.int32)
        else:
            held = np.stack([arrived[r].astype(np.int64) << shift[r] for r in (0, 1)], axis=1).astype(np.int32)
        machine.write(self.inputs, held)
        machine.write(self.fired, np.zeros(8, np.uint32))
        machine.call(self.entry, tick, 0)
        bits = machine.read(self.fired, np.uint32, 8)
        return np.flatnonzero([bits[i // 32] >> (i % 32) & 1 for i in range(self.n)])


def cells(rng: np.random.Generator, kind: str, n: int) -> Cell:
    params = {
        "tau_m": rng.uniform(2.0, 60.0, n),
        "cm": rng.uniform(0.5, 2.0, n),
        "v_rest": rng.uniform(-2.0, 2.0, n),
        "v_reset": rng.uniform(-4.0, 1.0, n),
        "v_thresh": rng.uniform(3.0, 12.0, n),
        "tau_refrac": rng.uniform(0.0, 5.0, n),
        "i_offset": rng.uniform(-0.1, 2.0, n),
        "v_init": rng.uniform(-2.0, 2.0, n),
    }
    if kind == "IF_curr_exp":
        params |= {"tau_syn_E": rng.uniform(0.5, 20.0, n), "tau_syn_I": rng.uniform(0.5, 20.0, n)}
        params |= {"isyn_exc": rng.uniform(0.0, 2.0, n), "isyn_inh": rng.uniform(0.0, 2.0, n)}
    if kind == "IF_curr_delta_ca2_adaptive":
        params |= {"tau_ca2": rng.uniform(5.0, 200.0, n), "i_alpha": rng.uniform(0.0, 0.3, n)}
    return Cell(name="p", size=n, cell=kind, params=params)


@pytest.mark.parametrize(("kind", "entry"), [("IF_curr_delta", 0x2148), ("IF_curr_exp", 0x220C), ("IF_curr_delta_ca2_adaptive", 0x2248)])
def test_neurons(core: Callable[[str], Machine], kind: str, entry: int) -> None:
    """Membranes, refractory times, currents and spikes of random neurons and input, 150 ticks each, with inputs up to full ring buffers."""
    machine, spikes = core(kind), 0
    for seed in range(RUNS):
        rng, n = np.random.default_rng(seed), 9
        machine._free = 0x30000000
        shift = rng.integers(0, 8, 2)
        dt = float(rng.choice([0.1, 0.5, 1.0]))
        cell = cells(rng, kind, n)
        ours, theirs = Neurons(cell, dt, shift), Updates(machine, entry, cell, dt)
        for tick in range(150):
            arrived = (rng.random((2, n)) < 0.3) * rng.integers(0, 2 ** int(rng.integers(4, 17)), (2, n))
            expected = theirs.step(tick, arrived, shift)
            got = ours.step(arrived.astype(np.uint16))
            np.testing.assert_array_equal(got, expected)
            state = machine.read(theirs.state, np.int32, 8 * n).reshape(n, 8)
            np.testing.assert_array_equal(ours.state[0], state[:, 0])
            np.testing.assert_array_equal(ours.state[1], state[:, 5])
            if theirs.adaptive:
                np.testing.assert_array_equal(ours.state[4], machine.read(theirs.ca2, np.int32, 3 * n)[1::3])
            if theirs.exponential:
                held = machine.read(theirs.inputs, np.int32, 6 * n).reshape(n, 6)
                np.testing.assert_array_equal(ours.state[2:4], held[:, [2, 5]].T)
            spikes += len(got)
    assert spikes > 25 * RUNS


def table_words(table: Table) -> Any:
    return np.concatenate([np.array([len(table.values), table.shift]), table.values]).astype(np.uint16)


class Plasticity:
    """One row of a plastic binary and the histories of its targets. ``globals_``: addresses by name."""

    def __init__(self, machine: Machine, globals_: dict[str, int], rule: Rule, n: int, shift: int, delay_bits: int) -> None:
        self.machine, self.at, self.n = machine, globals_, n
        self.index_bits, self.type_bits = 4, 1
        at = globals_
        both = self.index_bits + self.type_bits
        for name, value in {
            "type_index_bits": both, "type_index_mask": (1 << both) - 1, "index_bits": self.index_bits,
            "index_mask": (1 << self.index_bits) - 1, "type_mask": 1, "delay_mask": (1 << delay_bits) - 1, "backprop": 0,
        }.items():  # fmt: skip
            machine.write(at[name], value)
        machine.write(at["tau_plus"], machine.place(table_words(rule.tau_plus)))
        machine.write(at["tau_minus"], machine.place(table_words(rule.tau_minus)))
        machine.write(at["weight_shift"], machine.place(np.array([shift, shift], np.uint32)))
        machine.write(at["region"], machine.place(np.array([rule.least, rule.most, rule.plus, rule.minus] * 2, np.int32)))
        self.gated = "gate" in at
        if self.gated:
            machine.write(at["gate"], rule.gate)
            machine.write(at["gate"] + 4, rule.ceiling)
            machine.write(at["gate"] + 8, rule.floor)
            machine.write(at["tau_c"], machine.place(table_words(rule.tau_c)))
            machine.write(at["tau_d"], machine.place(table_words(rule.tau_d)))
            machine.write(at["nm_shift"], machine.place(np.array([shift, shift], np.uint32)))
        self.words = 34 if self.gated else 25
        self.history = machine.place(np.zeros(self.words * n, np.uint32))
        machine.write(at["history"], self.history)
        self.ring = machine.place(np.zeros(2 ** (delay_bits + both), np.uint16))
        self.done = machine.place(np.zeros(4, np.uint8))

    def row(self, post: Any, delay: Any, weight: Any) -> None:
        control = (delay << (self.index_bits + self.type_bits) | post).astype(np.uint16)
        self.fixed = self.machine.place(np.concatenate([np.array([0, len(post)], np.uint32).view(np.uint16), control]))
        words = np.stack([weight, 0 * weight], axis=1).ravel() if self.gated else weight
        self.plastic = self.machine.place(np.concatenate([np.zeros(4, np.uint16), words.astype(np.uint16)]))

    def pre(self, tick: int) -> None:
        self.machine.call(self.at["process"], self.plastic, self.fixed, self.ring, tick, 0, self.done)

    def post(self, tick: int, i: int) -> None:
        self.machine.call(self.at["post"], tick, i)

    def weights(self, m: int) -> Any:
        words = self.machine.read(self.plastic + 8, np.uint16, 2 * m if self.gated else m)
        return words.reshape(m, 2).T if self.gated else words[None]


PAIRS = {
    "process": 0x3CAC, "post": 0x3A78, "tau_plus": 0x4002BC, "tau_minus": 0x4002C0, "backprop": 0x4002AC, "history": 0x4002B0,
    "region": 0x4002B4, "weight_shift": 0x4002B8, "type_index_bits": 0x400120, "type_index_mask": 0x400124, "index_bits": 0x400128,
    "index_mask": 0x40012C, "type_mask": 0x400134, "delay_mask": 0x40013C,
}  # fmt: skip

GATED = {
    "process": 0x2760, "post": 0x2590, "tau_plus": 0x40018C, "tau_minus": 0x400190, "backprop": 0x400164, "history": 0x400168,
    "region": 0x400184, "weight_shift": 0x400188, "type_index_bits": 0x400034, "type_index_mask": 0x400038, "index_bits": 0x40003C,
    "index_mask": 0x400040, "type_mask": 0x400048, "delay_mask": 0x400050, "gate": 0x40016C, "tau_c": 0x400178, "tau_d": 0x40017C,
    "nm_shift": 0x400180,
}  # fmt: skip


def learn_beside(machine: Machine, at: dict[str, int], multiplicative: bool, modulated: bool, seed: int) -> int:
    """Random spikes of one source, its targets and rewards: all weights, histories and what arrives after every event. Returns changes."""
    rng = np.random.default_rng(seed)
    machine._free = 0x30000000
    n, m, shift = 4, 9, int(rng.integers(0, 6))
    top = float(2 ** rng.integers(0, shift + 1)) * 0.9
    rule = PlasticRule(
        post="p",
        tau_plus=float(rng.uniform(3.0, 60.0)),
        tau_minus=float(rng.uniform(3.0, 60.0)),
        a_plus=float(rng.uniform(0.0, 0.2)) * (1.0 if multiplicative else top),
        a_minus=float(rng.uniform(0.0, 0.2)) * (1.0 if multiplicative else top),
        w_min=0.0 if modulated else float(rng.choice([0.0, 0.2])) * top,
        w_max=top,
        multiplicative=multiplicative,
    )
    gate = Modulation(
        pre="r", post="p", receptor="reward", weight=1.0, tau_c=float(rng.uniform(20.0, 900.0)), tau_d=float(rng.uniform(5.0, 200.0)),
        w_min=0.1 * top, w_max=top,
    ) if modulated else None  # fmt: skip
    numbers = rule_numbers(rule, gate, 1.0)
    theirs = Plasticity(machine, at, numbers, n, shift, 4)
    post, delay = rng.integers(0, n, m), rng.integers(1, 16, m)
    weight = rng.integers(0, int(top * 2 ** (15 - shift)), m)
    theirs.row(post, delay, weight)
    rows = Rows(np.zeros(m, np.int32), post.astype(np.int32), delay.astype(np.uint8),
                np.zeros(m, np.bool_), weight, n_pre=1, n_post=n)  # fmt: skip
    ours, events = PlasticRows(rows, numbers, np.array([shift, shift])), Histories(n)
    ring = np.zeros((16, 2 * n), np.uint16)
    order, changed = np.argsort(rows.order), 0
    for tick in range(int(rng.integers(2, 30)), 400):
        for i in np.flatnonzero(rng.random(n) < 0.08):
            theirs.post(tick, int(i))
            add_spikes(events.arrays, np.array([i]), tick, numbers.tau_minus, numbers.tau_d)
        if modulated and rng.random() < 0.05:
            amount = int(rng.integers(1, 2048))
            reward = bool(rng.random() < 0.6)
            flags = np.uint32(0x80000000 | int(reward) << 30)
            data = machine.place(np.array([flags, 0], np.uint32))
            words = machine.place(np.concatenate([[0, n], amount << 16 | np.arange(n)]).astype(np.uint32))
            machine.call(at["process"], data, words, theirs.ring, tick, 0, theirs.done)
            add_rewards(events.arrays, amount if reward else -amount, tick, numbers.tau_minus, numbers.tau_d)
        if rng.random() < 0.12:
            before = ours.rows.weight.copy()
            theirs.pre(tick)
            ours.receive(tick, np.array([0]), events.arrays, ring)
            changed += int((before != ours.rows.weight).sum())
            held = theirs.weights(m)
            np.testing.assert_array_equal(ours.rows.weight[order], held[0])
            if modulated:
                np.testing.assert_array_equal(ours.changing()["eligibility"][order], held[1])
        block = machine.read(theirs.history, np.uint32, theirs.words * n).reshape(n, theirs.words)
        np.testing.assert_array_equal(events.arrays.last, block[:, 0])
        for i in range(n):
            e = int(block[i, 0]) + 1
            np.testing.assert_array_equal(events.arrays.time[i, :e], block[i, 1 : 1 + e])
            halves = block[i, 17:].copy().view(np.int16)
            if modulated:
                np.testing.assert_array_equal(events.arrays.reward[i, :e], halves[0 : 2 * e : 2])
                np.testing.assert_array_equal(events.arrays.post[i, :e], halves[1 : 2 * e : 2])
                marks = int(block[i, 33])
                assert [marks >> k & 1 for k in range(1, e)] == events.arrays.gated[i, 1:e].tolist()
            else:
                np.testing.assert_array_equal(events.arrays.post[i, :e], halves[:e])
        # the next tick's slot, in the layout (delay, receptor, neuron) of a core
        slots = machine.read(theirs.ring, np.uint16, 512).reshape(16, 2, 16)[:, 0, :n]
        np.testing.assert_array_equal(ring[:, :n], slots)
        machine.write(theirs.ring + 2 * 32 * ((tick + 1) % 16), np.zeros(32, np.uint16))
        ring[(tick + 1) % 16] = 0
    return changed


@pytest.mark.parametrize("multiplicative", [False, True])
def test_pairs(core: Callable[[str], Machine], multiplicative: bool) -> None:
    machine = core(f"IF_curr_exp_stdp_mad_pair_{'multiplicative' if multiplicative else 'additive'}")
    changes = sum(learn_beside(machine, PAIRS, multiplicative, False, seed) for seed in range(RUNS))
    assert changes > 50 * RUNS


def test_rewards(core: Callable[[str], Machine]) -> None:
    machine = core("synapses_stdp_izhikevich_neuromodulation_pair_additive")
    changes = sum(learn_beside(machine, GATED, False, True, seed) for seed in range(RUNS))
    assert changes > 50 * RUNS


@pytest.mark.parametrize(("delay", "arrives"), [(3, True), (4, False)])
def test_a_plastic_delay_of_all_slots_is_dropped(core: Callable[[str], Machine], delay: int, arrives: bool) -> None:
    """A defect of the release: with four slots a delay of 4 is stored as 0, which the core takes for a spike that comes too late. The
    twin delivers it, and so does the program, which asks for more slots (docs/spinnaker.md)."""
    machine = core("IF_curr_exp_stdp_mad_pair_additive")
    machine._free = 0x30000000
    rule = PlasticRule(post="p", tau_plus=20.0, tau_minus=20.0, a_plus=0.0, a_minus=0.0, w_min=0.0, w_max=1.0, multiplicative=False)
    theirs = Plasticity(machine, PAIRS, rule_numbers(rule, None, 1.0), 1, 0, 2)
    theirs.row(np.array([0]), np.array([delay]), np.array([77]))
    theirs.pre(8)
    assert (machine.read(theirs.ring, np.uint16, 4 * 32).sum() == 77) == arrives


ROWS = {"process": 0xC08, "transfer": 0x2840, "globals": 0x400114, "neurons": 0x400168}


def test_static_rows_and_ring_buffers(core: Callable[[str], Machine]) -> None:
    """Words of 16 bits into slots of later ticks, up to full ones, and what neurons get of them."""
    machine, full = core("IF_curr_delta"), 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        machine._free = 0x30000000
        n, sources, bits = 5, 6, int(rng.integers(1, 7))
        slots, columns = 2**bits, 16  # eight places a receptor
        m = int(rng.integers(1, 60))
        pre, post, receptor = (rng.integers(0, k, m).astype(np.int32) for k in (sources, n, 2))
        delay, weight = rng.integers(1, slots + 1, m), rng.integers(0, 2 ** int(rng.integers(8, 17)), m)
        shift = rng.integers(0, 9, 2)
        rows = Rows(pre, post, delay.astype(np.uint8), receptor.astype(np.bool_), weight, n_pre=sources, n_post=n)
        word = (weight << 16 | (delay % 2 ** (16 - 4)) << 4 | receptor << 3 | post).astype(np.uint32)
        row = [machine.place(np.concatenate([[0, (pre == k).sum(), 0], word[pre == k]]).astype(np.uint32)) for k in range(sources)]
        ring, done = machine.place(np.zeros(slots * columns, np.uint16)), machine.place(np.zeros(4, np.uint8))
        for offset, value in ((12, 4), (40, slots - 1), (44, (slots - 1) << 4), (56, slots * columns - 1), (60, ring)):
            machine.write(ROWS["globals"] + offset, value)
        inputs, shifts = machine.place(np.zeros(2 * 8, np.int32)), machine.place(shift.astype(np.uint32))
        for offset, value in ((88, inputs), (96, n), (120, 8), (124, 2), (132, shifts)):
            machine.write(ROWS["neurons"] + offset, value)
        ours = np.zeros((slots + 1, 2 * n), np.uint16)
        for tick in range(100):
            slot = tick % len(ours)
            machine.write(inputs, np.zeros(16, np.int32))
            machine.call(ROWS["transfer"], ring + 2 * columns * (tick % slots))
            got = machine.read(inputs, np.int32, 16).reshape(8, 2)[:n].T
            np.testing.assert_array_equal(got, ours[slot].reshape(2, n).astype(np.int64) << shift[:, None])
            full += int((ours[slot] == 65535).sum())
            ours[slot] = 0
            spiked = np.flatnonzero(rng.random(sources) < 0.3)
            rows.deliver(tick, spiked, ours)
            for k in spiked:
                machine.call(ROWS["process"], tick, 0, 0, row[k], done)
    assert full > RUNS
