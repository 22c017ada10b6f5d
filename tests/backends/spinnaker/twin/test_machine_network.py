"""A whole network that learns on one core of machine code, beside the twin: neurons, ring buffers, plastic and static rows of a binary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.twin import Twin
from neurocompile.backends.spinnaker.twin.plastic import rule_numbers
from neurocompile.ir import STDP, CubaLIF, Explicit, Network, Population, Projection, SpikeSource
from neurocompile.ir.neurons import Reset
from tests.backends.spinnaker.machine_code import Machine, binary
from tests.backends.spinnaker.twin.networks import lowered_of, spikes_of
from tests.backends.spinnaker.twin.test_machine_code import HASHES, PAIRS, RUNS, Updates, table_words

BINARY = "IF_curr_exp_stdp_mad_pair_additive"
UPDATE, TRANSFER, ROW, SYNAPSES = 0x220C, 0x2928, 0xC08, 0x400114
N, SOURCES, STEPS, INDEX_BITS, DELAY_BITS = 20, 12, 400, 5, 4


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    path = binary(f"{BINARY}.aplx")
    if path is None:
        pytest.skip("needs sPyNNaker's binaries, qemu-arm and an assembler for ARM (binutils-arm-none-eabi)")
    made = Machine(path, tmp_path_factory.mktemp("core"), HASHES[BINARY])
    yield made
    made.close()


def network(seed: int) -> Network:
    """in -> a and a -> a, both plastic with some negative synapses that are static, all delays 1 .. 15."""
    rng = np.random.default_rng(seed)

    def some(n_pre: int, mean: float) -> Explicit:
        pre, post = np.nonzero(rng.random((n_pre, N)) < 0.5)
        return Explicit(pre=pre, post=post, weight=rng.normal(mean, 0.1, len(pre)), delay=rng.integers(1, 16, len(pre)))

    cells = CubaLIF(tau_mem=rng.uniform(5e-3, 0.03, N), tau_syn=4e-3, v_threshold=0.5, t_ref=2e-3, bias=0.01, reset=Reset.TO_VALUE)
    rule = STDP(a_plus=0.02, a_minus=0.021, tau_plus=0.02, tau_minus=0.03, weight_bounds=(0.0, 0.4))
    return Network(
        name="one core",
        dt=1e-3,
        populations=(Population(name="in", size=SOURCES, model=SpikeSource()), Population(name="a", size=N, model=cells)),
        projections=(
            Projection(pre="in", post="a", connect=some(SOURCES, 0.1), learning=rule.name),
            Projection(pre="a", post="a", connect=some(N, 0.02), learning=rule.name),
        ),
        rules=(rule,),
    )


class OneCore:
    """The population ``a`` on a core; every neuron's packet leads to the rows of its projection: plastic ones, then static ones."""

    def __init__(self, machine: Machine, lowered: SpinnakerNetwork) -> None:
        machine._free = 0x30000000
        self.machine, cell = machine, lowered.cells[1]
        self.neurons = Updates(machine, UPDATE, cell, 1.0)
        both = INDEX_BITS + 1
        self.columns, slots = 1 << both, 1 << DELAY_BITS
        self.ring = machine.place(np.zeros(slots * self.columns, np.uint16))
        for offset, value in {
            12: both, 16: (1 << both) - 1, 20: INDEX_BITS, 24: (1 << INDEX_BITS) - 1, 32: 1, 40: slots - 1, 44: (slots - 1) << both,
            56: slots * self.columns - 1, 60: self.ring,
        }.items():  # fmt: skip
            machine.write(SYNAPSES + offset, value)
        shift = [15 + round(np.log2(unit)) for unit in lowered.buffers["a"].resolution]
        shifts = machine.place(np.array(shift, np.uint32))
        for offset, value in ((116, 1 << INDEX_BITS), (120, 2), (128, shifts)):
            machine.write(Updates.GLOBALS + offset, value)
        rule = rule_numbers(lowered.learning.rules[0], None, 1.0)
        machine.write(PAIRS["backprop"], 0)
        machine.write(PAIRS["history"], machine.place(np.zeros(25 * N, np.uint32)))
        machine.write(PAIRS["region"], machine.place(np.array([rule.least, rule.most, rule.plus, rule.minus] * 2, np.int32)))
        machine.write(PAIRS["weight_shift"], shifts)
        machine.write(PAIRS["tau_plus"], machine.place(table_words(rule.tau_plus)))
        machine.write(PAIRS["tau_minus"], machine.place(table_words(rule.tau_minus)))
        self.done = machine.place(np.zeros(4, np.uint8))
        self.rows: dict[tuple[str, int], list[int]] = {}
        self.plastic: dict[str, list[tuple[Any, int]]] = {}
        for p in lowered.network.synaptic_projections:
            c = lowered.connections[p.name]
            scale = np.broadcast_to(cell.weight_scale, (N,))[c.post]
            unit = np.where(c.weight < 0, lowered.buffers["a"].resolution[1], lowered.buffers["a"].resolution[0])
            word = np.rint(np.abs(c.weight * scale) / unit).astype(np.int64)
            control = c.delay.astype(np.int64) << both | (c.weight < 0) << INDEX_BITS | c.post
            for source in range(lowered.network.population(p.pre).size):
                learns, stays = (np.flatnonzero((c.pre == source) & m) for m in (c.weight >= 0, c.weight < 0))
                halves = np.append(word[learns], [0] * (len(learns) % 2))
                state = np.concatenate([np.zeros(4, np.int64), halves]).astype(np.uint16).view(np.uint32)
                controls = np.append(control[learns], [0] * (len(learns) % 2)).astype(np.uint16).view(np.uint32)
                plastic = machine.place(np.concatenate([[len(state)], state, [0, len(learns)], controls]).astype(np.uint32))
                static = machine.place(np.concatenate([[0, len(stays), 0], word[stays] << 16 | control[stays]]).astype(np.uint32))
                self.rows[p.pre, source] = [plastic, static]
                self.plastic.setdefault(p.name, []).append((learns, plastic))

    def tick(self, tick: int, arrived: list[int]) -> list[int]:
        """Neurons, then the packets of the tick: those that arrive and the core's own."""
        machine, n = self.machine, self.neurons.n
        machine.call(TRANSFER, self.ring + 2 * self.columns * (tick % (1 << DELAY_BITS)))
        machine.write(self.neurons.fired, np.zeros(8, np.uint32))
        machine.call(UPDATE, tick, 0)
        bits = machine.read(self.neurons.fired, np.uint32, 8)
        spiked = [i for i in range(n) if bits[i // 32] >> (i % 32) & 1]
        for name, sources in (("in", arrived), ("a", spiked)):
            for source in sources:
                for row in self.rows[name, source]:
                    machine.call(ROW, tick, 0, 0, row, self.done)
        return spiked

    def weights(self, name: str, m: int) -> Any:
        """Words of the synapses that learn, by their place in the projection; -1 for the others."""
        held = np.full(m, -1, np.int64)
        for ids, row in self.plastic[name]:
            held[ids] = self.machine.read(row + 12, np.uint16, len(ids))
        return held


@pytest.mark.parametrize("seed", range(max(RUNS // 4, 1)))
def test_a_learning_network(machine: Machine, seed: int) -> None:
    """Spikes of every tick and all weights at the end, 32 neurons and sources, 400 ticks."""
    lowered = lowered_of(network(seed))
    core, twin = OneCore(machine, lowered), Twin(lowered, learning=True)
    given = spikes_of(seed, SOURCES, STEPS, 0.05)
    run = twin.run(STEPS, spikes={"in": given}, signals={})
    expected = run.spikes["a"]
    for tick in range(STEPS):
        spiked = core.tick(tick, given.neuron[given.step == tick].tolist())
        assert spiked == expected.neuron[expected.step == tick].tolist(), f"tick {tick}"
    assert len(expected.step) > 200
    before, moved = Twin(lowered, learning=True).weights(), 0
    unit = lowered.buffers["a"].resolution[0] / float(np.max(lowered.cells[1].weight_scale))
    for name, weights in twin.weights().items():
        words = core.weights(name, len(weights))
        learns = words >= 0
        np.testing.assert_array_equal(np.rint(weights[learns] / unit), words[learns])
        moved += int((weights != before[name]).sum())
    assert moved > 100
