"""The whole way: a build's program is mapped by sPyNNaker, its cores' regions and keys are given to the C of its extension, compiled for
this machine, and what the processes compute is the twin's, spike by spike and weight by weight."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker.eprop.image import Row, read_rows
from neurocompile.backends.spinnaker.eprop.late import Copies, copies_of
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedPopulation
from neurocompile.backends.spinnaker.eprop.scales import ACCUMULATOR_BITS
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.ir import Loss, Network
from neurocompile.ir.npz import load_npz
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.mapping import MapOptions, map_network
from tests.backends.spinnaker.eprop.networks import inputs, learner, lowered, targets
from tests.backends.spinnaker.eprop.programs import COLOUR_BITS, COLOURS, PROGRAM, Core, compile_program, rows_of

pytestmark = pytest.mark.slow
STEPS, SAMPLES = 60, 3


@dataclass(frozen=True, kw_only=True)
class Program:
    """document, arrays : network.json and network.npz; mapping : of a run on a virtual board; folder : of the program."""

    folder: Path
    document: dict[str, Any]
    arrays: dict[str, Any]
    mapping: dict[str, Any]

    def slots(self, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        entry = next(p for p in self.document["populations"] if p["name"] == name)
        return np.arange(entry["size"]) if entry["slot"] is None else np.asarray(self.arrays[entry["slot"]["array"]], np.int64)

    def number(self, name: str) -> int:
        return [p["name"] for p in self.document["populations"]].index(name)

    def keys(self, name: str, wait: int) -> dict[int, int]:
        """Return the key of each of a population's places, of the packets that wait so long."""
        placements, keys, held = (np.asarray(self.mapping[key], np.int64) for key in ("placements", "keys", "held"))
        found = {}
        for (row, key, _), (waits, bits) in zip(keys.tolist(), held.tolist(), strict=True):
            if placements[row, 0] == self.number(name) and waits == wait:
                assert bits == COLOUR_BITS
                low, high = placements[row, 2:4].tolist()
                found |= {at: key + (at - low << bits) for at in range(low, high + 1)}
        return found


def mapped(folder: Path, network: Network, given: Spikes, signal: Signal) -> Program:
    """Return a network's program after a run on a virtual board, for STEPS steps of SAMPLES samples."""
    made = lowered(network)
    assert made.problem is not None
    mapping = map_network(made.problem, made.machine, MapOptions(seed=1, effort="fast"))
    for path, content in TARGET.emit(made, mapping, BuildOptions()).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    np.savez(folder / "in.npz", neuron=given.neuron, step=given.step)
    np.savez(folder / "target.npz", target=signal.target, window=signal.window)
    command = [sys.executable, str(folder / "program" / "run.py"), "--virtual", "--steps", str(STEPS), "--samples", str(SAMPLES)]
    command += ["--input", f"in={folder / 'in.npz'}", "--target", f"out={folder / 'target.npz'}", "--mapping", str(folder / "mapping.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Program(
        folder=folder / "program",
        document=json.loads((folder / "program" / "network.json").read_text()),
        arrays=dict(load_npz(folder / "program" / "network.npz")),
        mapping=dict(load_npz(folder / "mapping.npz")),
    )


def key_of(program: Program, plan: EpropPlan, copies: dict[str, Copies], row: Row) -> int:
    """Return the key that reaches a row, as PACMAN has allocated it."""
    projection = plan.projections[row.projection]
    wait = row.delay - 1 if projection.learns else 0
    if wait and projection.pre in copies:
        own = copies[projection.pre]
        return program.keys(own.name, 0)[int(program.slots(own.name)[own.numbers(np.array([row.source]), wait)[0]])]
    return program.keys(projection.pre, wait)[int(program.slots(projection.pre)[row.source])]


def bits_of(population: PlannedPopulation) -> int:
    """Return the bits of a population's states."""
    return 16 if population.scales is None else population.scales.state_bits


def joined(plan: EpropPlan, rows: list[Row]) -> list[Row]:
    """Return rows with all static ones of a source and projection as one, whatever their delays: sPyNNaker has one for each projection, and
    the sweep counts on that."""
    found, static = [], {}
    for row in rows:
        if plan.projections[row.projection].learns:
            found.append(row)
        else:
            static.setdefault((row.projection, row.source), []).append(row)
    for parts in static.values():
        words = np.concatenate([part.content[3:] for part in parts])
        head = np.array([0, len(words), 0], np.int32)
        synapses = np.concatenate([part.synapses for part in parts])
        found.append(dataclasses.replace(parts[0], delay=1, synapses=synapses, content=np.concatenate([head, words])))
    return found


def cores_of(program: Program, plan: EpropPlan, tmp_path: Path) -> list[Core]:
    """Return the processes of all cores with neurons: regions as sPyNNaker would load them, numbers of the build's headers."""
    copies = {c.of: c for c in copies_of(program.document, program.arrays)}
    placements = np.asarray(program.mapping["placements"], np.int64)
    found = []
    for index, entry in enumerate(program.document["populations"]):
        if entry["cell"] != "eprop":
            continue
        name, app = entry["name"], entry["eprop"]["binary"]
        (tmp_path / app).mkdir()
        population = plan.populations[name]
        adaptive = population.scales is not None and population.scales.adaptive
        header = (program.folder / "extension" / app / f"{app}.h").read_text()
        binary = compile_program(tmp_path / app, state_bits=bits_of(population), adaptive=adaptive, numbers=header)
        owner, taken = np.argsort(program.slots(name)), np.sort(program.slots(name))
        for low, high in sorted({(int(p[2]), int(p[3])) for p in placements if p[0] == index}):
            inside = (taken >= low) & (taken <= high)
            neurons = owner[inside]
            np.testing.assert_array_equal(taken[inside], low + np.arange(len(neurons)))  # what only fills up a slice comes behind
            rows = [(key_of(program, plan, copies, row), row) for row in joined(plan, rows_of(plan, name, neurons, bits_of(population)))]
            own = [keys[low] for wait in range(300) if low in (keys := program.keys(name, wait))] or [0]
            region = program.mapping[f"neurons:{index}:{low}"].view(np.int32)
            synapses = program.mapping[f"region:{index}:synapseDynamicsParams"].view(np.int32)
            found.append(Core(binary, population, neurons, sorted(rows, key=lambda r: r[0]), own[0], region, synapses))
    return found


@pytest.mark.parametrize(
    ("delay", "least", "loss", "model"),
    [
        (1, 1, Loss.CROSS_ENTROPY, "lif"),
        (4, 1, Loss.MEAN_SQUARED_ERROR, "to_value"),
        (6, 2, Loss.MEAN_SQUARED_ERROR, "lif"),
        (3, 1, Loss.MEAN_SQUARED_ERROR, "alif"),
    ],
)
def test_programs_compute_what_the_twin_computes(tmp_path: Path, delay: int, least: int, loss: Loss, model: str) -> None:
    """Three samples with their breaks; in the last one weights are settled, as the twin gives them."""
    rng = np.random.default_rng(delay)
    network = learner(
        delay,
        n_in=20,
        n=200,
        n_out=4,
        density=0.2,
        static=True,
        signs=True,
        delay=delay,
        least=least,
        loss=loss,
        learning_rate=1e-3,
        model=model,
    )
    total = STEPS * SAMPLES
    _, given = inputs(rng, 20, total, 0.08)
    signal = targets(rng, 4, total, loss)
    program = mapped(tmp_path, network, given, signal)
    made = lowered(network)
    plan, twin = made.eprop, TARGET.twin(made, learning=True)
    assert plan is not None
    before = twin.weights()
    expected = []
    for k in range(SAMPLES):
        part = slice(k * STEPS, (k + 1) * STEPS)
        run = twin.run(STEPS, spikes={"in": given}, signals={"out": Signal(target=signal.target[part], window=signal.window[part])})
        expected.append(run.spikes["hidden"])
        if k < SAMPLES - 1:
            twin.reset()
    longest = max(int(p.rows.delay.max(initial=1)) for p in plan.projections)
    clock = PROGRAM.Clock(STEPS, SAMPLES, longest, program.document["eprop"]["break_ticks"])
    packets: dict[int, list[int]] = {}
    sources = PROGRAM.all_spikes(program.document, program.arrays, {"in": (given.neuron.astype(np.int64), given.step)}, clock)
    assert ("in, held back" in sources) == (delay > 1)
    for name, (neuron, step) in sources.items():
        keys, slots = program.keys(name, 0), program.slots(name)
        for i, t in zip(neuron.tolist(), clock.tick(step).tolist(), strict=True):
            if keys:  # somebody listens
                packets.setdefault(t, []).append(keys[int(slots[i])])
    cores = cores_of(program, plan, tmp_path)
    assert sum(core.population.name == "hidden" for core in cores) > 1
    first = least - 1
    own = program.keys("hidden", first)
    spikes = {own[int(at)]: neuron for neuron, at in enumerate(program.slots("hidden"))}
    found = []
    try:
        for t in range(clock.period * SAMPLES):
            for core in cores:
                core.tick(t)
            sent = np.concatenate([core.sent() for core in cores])
            mine = [spikes.get(key & ~COLOURS) for key, has, _ in sent.tolist() if not has]
            found += [(t, neuron) for neuron in mine if neuron is not None]
            carried = np.concatenate([sent, np.array([(key | t & COLOURS, 0, 0) for key in packets.get(t, [])], np.uint32).reshape(-1, 3)])
            for core in cores:
                core.packets(1, carried)
        wanted = {
            (int(clock.tick(t)) + first, n)
            for run in expected
            for t, n in zip(run.step.tolist(), run.neuron.tolist(), strict=True)
            if t % STEPS + first < STEPS
        }
        assert set(found) == wanted
        assert len(found) == len(wanted) > 300
        after, changed = twin.weights(), 0
        for core in cores:
            population = core.population
            for row, content in core.state().rows:
                projection = plan.projections[row.projection]
                if projection.learns:
                    assert population.scales is not None
                    kind = {"regularised": population.scales.reg_max > 0, "adaptive": population.scales.adaptive}
                    held = read_rows(row, content, state_bits=bits_of(population), **kind)
                    synapses = projection.rows.order[row.synapses]
                    weight = held["weight"] * (population.weight_unit * 2.0**-ACCUMULATOR_BITS)
                    np.testing.assert_array_equal(weight, after[projection.name][synapses])
                    assert not held["e"].any()
                    changed += int((weight != before[projection.name][synapses]).sum())
        assert changed > 4000
    except BaseException:
        for core in cores:
            core.close(kill=True)
        raise
    for core in cores:
        core.close(kill=False)
