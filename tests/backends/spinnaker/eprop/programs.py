"""Networks of core programs: the emitted C, compiled for this machine, one process a core, packets carried between them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType, TracebackType

import numpy as np
import numpy.typing as npt
import pytest

from neurocompile.backends.spinnaker.eprop.image import (
    NO_TARGET,
    NOTHING,
    Row,
    Schedule,
    core_rows,
    neuron_region,
    read_rows,
    row_key,
    sweep_list,
    synapse_region,
)
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedPopulation
from neurocompile.ir import Network
from neurocompile.ir.signals import Signal

SHIM = Path(__file__).parent / "shim"
FLAGS = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
DELAY_BITS = 6
COLOUR_BITS = 4
"""Lower bits of a key that are the tick in which a spike is sent, as sPyNNaker has them (shim/program.c)"""
COLOURS = (1 << COLOUR_BITS) - 1
NO_PACKETS = np.zeros((0, 3), np.uint32)
Ints = npt.NDArray[np.int64]


def _program() -> ModuleType:
    """Return the module of an emitted program that makes spikes, which needs nothing but NumPy."""
    text = (resources.files("neurocompile.backends.spinnaker") / "templates" / "pynn_network.py.txt").read_text()
    module = ModuleType("emitted_pynn_network")
    exec(compile(text, "pynn_network.py.txt", "exec"), module.__dict__)
    return module


PROGRAM = _program()


def compile_program(folder: Path, *, state_bits: int = 16, adaptive: bool = False, numbers: str | None = None) -> Path:
    """Return a core's program for this machine, with sanitizers. numbers : the header of one population, which the program then is for."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    program, own = folder / f"program{state_bits}{'a' * adaptive}", []
    if numbers is not None:
        (folder / "numbers.h").write_text(numbers)
        own = [f'-DEPROP_NUMBERS="{folder / "numbers.h"}"']
    with resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include:
        sources = [SHIM / "program.c", include / "synapse_dynamics_eprop.c", include / "synaptogenesis_eprop.c"]
        done = subprocess.run(
            [
                compiler,
                *FLAGS,
                *own,
                f"-DEPROP_STATE_BITS={state_bits}",
                f"-DEPROP_ADAPTIVE={int(adaptive)}",
                f"-I{SHIM}",
                f"-I{include}",
                *map(str, sources),
                "-o",
                str(program),
            ],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return program


@dataclass(frozen=True, kw_only=True)
class CoreState:
    """neurons (n, 8) : columns of cells.py; coefficients (n, 8; adaptive: 19) : columns of kernels.py; the last two
    are counts."""

    neurons: Ints
    coefficients: Ints
    rows: list[tuple[Row, npt.NDArray[np.int32]]]
    saturated: int
    ring_saturations: int


class Core:
    """A process. rows : (key, row), sorted by key; key : of the first neuron; region, synapses : words of both halves."""

    def __init__(
        self,
        program: Path,
        population: PlannedPopulation,
        neurons: Ints,
        rows: list[tuple[int, Row]],
        key: int,
        region: npt.NDArray[np.int32],
        synapses: npt.NDArray[np.int32],
    ) -> None:
        self.population, self.neurons, self.key = population, neurons, key
        self.rows = [row for _, row in rows]
        self.recorded: list[Ints] = []
        self.process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.say([len(neurons), key, population.shift, DELAY_BITS, COLOUR_BITS])
        for part in (region, synapses):
            self.say([len(part)], part)
        self.say([len(rows)])
        for row_of, row in rows:
            self.say([row_of, len(row.content)], row.content)

    def say(self, words: list[int], *more: npt.NDArray[np.int32]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(np.array(words, np.int64).astype(np.uint32).tobytes() + b"".join(m.astype("<i4").tobytes() for m in more))

    def tick(self, time: int) -> None:
        assert self.process.stdin is not None
        self.say([0, time])
        self.process.stdin.flush()

    def packets(self, command: int, packets: npt.NDArray[np.uint32]) -> None:
        """Give it packets (n, 3); errors only to a core that hears them, as they are routed."""
        mine = packets if self.population.feedback is not None else packets[packets[:, 1] == 0]
        self.say([command, len(mine)], mine.view(np.int32))

    def hear(self, n: int) -> npt.NDArray[np.uint32]:
        assert self.process.stdout is not None
        raw = self.process.stdout.read(4 * n)
        assert len(raw) == 4 * n, f"core of {self.population.name} ended: {self.process.wait()}"
        return np.frombuffer(raw, np.uint32)

    def sent(self) -> npt.NDArray[np.uint32]:
        self.recorded.append(self.hear(len(self.neurons)).view(np.int32).astype(np.int64))
        return self.hear(3 * int(self.hear(1)[0])).reshape(-1, 3)

    def state(self) -> CoreState:
        assert self.process.stdin is not None
        self.say([2])
        self.process.stdin.flush()
        n = len(self.neurons)
        scales = self.population.scales
        widths = (8, 19 if scales is not None and scales.adaptive else 8)
        neurons, coefficients = (self.hear(w * n).view(np.int32).reshape(n, w).astype(np.int64) for w in widths)
        rows = [(row, self.hear(len(row.content)).view(np.int32)) for row in self.rows]
        saturated, ring = self.hear(2)
        return CoreState(neurons=neurons, coefficients=coefficients, rows=rows, saturated=int(saturated), ring_saturations=int(ring))

    def close(self, *, kill: bool) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if kill:
            self.process.kill()
            self.process.wait()
        else:
            self.say([3])
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(timeout=60) == 0 or kill


def bounds(plan: EpropPlan, population: str) -> tuple[int, int]:
    """Return the bounds of a population's weights before signs narrow them."""
    mine = [p.rows for p in plan.projections if p.post == population and p.learns]
    if not mine:
        return 0, 0
    return min(int(r.low.min(initial=0)) for r in mine), max(int(r.high.max(initial=0)) for r in mine)


def rows_of(plan: EpropPlan, population: str, neurons: Ints, state_bits: int) -> list[Row]:
    """Return the rows of a core, in the format of the stand-ins."""
    n = len(neurons)
    index_bits = int(np.ceil(np.log2(n))) if n > 1 else 0
    return core_rows(plan, population, neurons, state_bits=state_bits, control_bits=lambda _: (index_bits, index_bits + 1))


def coloured(key: int) -> int:
    """Return a key with room for the colour below the neuron's number."""
    return (key & ~0xFFFF) + ((key & 0xFFFF) << COLOUR_BITS)


class CoreNetwork:
    """A network on cores of at most ``per_core`` neurons. For plastic synapses of delay d > 1 cores send a spike d - 1 ticks late, under
    a key of that delay; those of sources are given by :func:`late_spikes`. Static synapses delay in the ring buffer."""

    def __init__(
        self,
        program: Path | Mapping[str, Path],
        network: Network,
        plan: EpropPlan,
        signals: Mapping[str, Signal],
        *,
        per_core: int,
        state_bits: int = 16,
        sample_ticks: int = 0,
        break_ticks: int = 0,
    ) -> None:
        self.network, self.plan = network, plan
        self.delays = {
            p.name: sorted({int(d) if q.learns else 1 for q in plan.projections if q.pre == p.name for d in q.rows.delay})
            for p in network.populations
        }
        keys, at = {}, 1 << 16
        for p in network.populations:
            for d in sorted({1, *self.delays[p.name]}):  # delay 1: also a readout's, for its errors
                keys[p.name, d] = at
                at += 1 << 16
        self.keys = keys
        mask = 0xFFFF0000
        errors = (keys[plan.readout, 1], mask) if plan.readout is not None else (0, mask)
        self.cores: list[Core] = []
        self._samples = (sample_ticks, sample_ticks + break_ticks) if sample_ticks else None
        self.n_packets = 0  # of spikes, sent by the cores
        for name, population in plan.populations.items():
            signal = signals.get(name)
            schedule = NOTHING if signal is None else schedule_of(population, signal, sample_ticks, break_ticks)
            if signal is None:
                schedule = Schedule(targets=NOTHING.targets, ticks_per_target=0, sample_ticks=sample_ticks, break_ticks=break_ticks)
            together = plan.softmax and name == plan.readout  # its errors need all membranes
            most = population.size if together else per_core
            for first in range(0, population.size, most):
                neurons = np.arange(first, min(first + most, population.size))
                own = program if isinstance(program, Path) else program[name]
                self.cores.append(self._core(own, population, neurons, errors, schedule, state_bits))

    def _core(
        self, program: Path, population: PlannedPopulation, neurons: Ints, errors: tuple[int, int], schedule: Schedule, state_bits: int
    ) -> Core:
        plan, name, keys = self.plan, population.name, self.keys
        rows = sorted(rows_of(plan, name, neurons, state_bits), key=lambda row: row_key(row, plan, keys))
        due, per_key = sweep_list(rows, plan, keys)
        sweep = [[coloured(key) for key in some] for some in due]
        sends = [(d - 1, keys[name, d] - keys[name, 1]) for d in self.delays[name]]
        region = neuron_region(population, neurons, softmax=plan.softmax and name == plan.readout)
        hearing = (*errors, COLOUR_BITS)
        synapses = synapse_region(population.scales, *bounds(plan, name), schedule, neurons, sweep, per_key, hearing, sends)
        key = coloured(keys[name, 1] + int(neurons[0]))  # other keys are told as differences
        return Core(program, population, neurons, [(coloured(row_key(row, plan, keys)), row) for row in rows], key, region, synapses)

    def run(
        self, sources: Mapping[str, list[Ints]], n_ticks: int, begin: int = 0, late: Mapping[tuple[str, int], list[Ints]] | None = None
    ) -> dict[str, list[Ints]]:
        """Run some ticks; sources : spikes of each tick; late : (source, delay) -> those that the rows of that delay are to have, default
        :func:`late_spikes`. Return the spikes of the other populations in each tick, as their packets of the shortest delay say."""
        found: dict[str, list[Ints]] = {name: [] for name in self.plan.populations}
        if late is None:
            late = {
                (name, d): late_spikes(given, d, *self._samples or (len(given), len(given)))
                for name, given in sources.items()
                for d in self.delays[name]
                if d > 1
            }
        for t in range(begin, begin + n_ticks):
            colour = t & COLOURS
            keys = [self.keys[name, 1] + int(i) for name, given in sources.items() for i in given[t]]
            keys += [self.keys[name, d] + int(i) for (name, d), given in late.items() for i in given[t]]
            given_now = np.array([[coloured(key) | colour, 0, 0] for key in keys], np.uint32).reshape(-1, 3)
            # a readout may be done before others begin, a source always is: their packets come before the update they are to come after
            early, rest = given_now[::2], given_now[1::2]
            readouts = [core for core in self.cores if core.population.name == self.plan.readout]
            others = [core for core in self.cores if core.population.name != self.plan.readout]
            for core in readouts:
                core.packets(5, early)
                core.tick(t)
            of_readouts = np.concatenate([NO_PACKETS, *(core.sent() for core in readouts)])
            errors, spikes_of_readouts = of_readouts[of_readouts[:, 1] == 1], of_readouts[of_readouts[:, 1] == 0]
            assert (errors[:, 0] & COLOURS == colour).all()
            for core in others:
                core.packets(5, np.concatenate([early, errors]))
                core.tick(t)
            made = np.concatenate([spikes_of_readouts, *(core.sent() for core in others)])
            spikes = made[made[:, 1] == 0, 0].astype(np.int64)
            assert ((spikes & COLOURS) == (t & COLOURS)).all()
            for name in self.plan.populations:
                key = self.keys[name, min(self.delays[name], default=1)]
                found[name].append(np.sort(spikes[spikes >> 16 == key >> 16] - key >> COLOUR_BITS))
            carried = np.concatenate([made, rest])
            self.n_packets += int((made[:, 1] == 0).sum())
            for core in self.cores:
                core.packets(1, carried)
        return found

    def go_on(self) -> None:
        """What sPyNNaker does to cores before a run goes on."""
        for core in self.cores:
            core.say([4])

    def states(self) -> list[tuple[PlannedPopulation, Ints, CoreState]]:
        return [(core.population, core.neurons, core.state()) for core in self.cores]

    def __enter__(self) -> CoreNetwork:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for core in self.cores:
            core.close(kill=error is not None)


def late_spikes(given: list[Ints], delay: int, n_steps: int, period: int) -> list[Ints]:
    """Return the spikes of a source as the program has them for the rows of a delay, delay - 1 ticks later; samples of n_steps ticks, one
    each period."""
    clock = PROGRAM.Clock(n_steps, 1, 1)
    clock.period = period
    tick = np.repeat(np.arange(len(given)), [len(g) for g in given])
    neuron = np.concatenate([*given, np.zeros(0, np.int64)])
    of = np.arange(int(neuron.max(initial=0)) + 1)
    step = tick // period * n_steps + tick % period
    neuron, step = PROGRAM.held_back(neuron, step, of, np.full(len(of), delay - 1), clock)
    tick = clock.tick(step)
    return [neuron[tick == t] for t in range(len(given))]


def schedule_of(population: PlannedPopulation, signal: Signal, sample_ticks: int = 0, break_ticks: int = 0) -> Schedule:
    """Return a signal's rows as targets, one a tick."""
    targets = np.rint(signal.target * population.target_unit).astype(np.int64)
    targets[~signal.window] = NO_TARGET
    return Schedule(targets=targets, ticks_per_target=1, sample_ticks=sample_ticks, break_ticks=break_ticks)


__all__ = [
    "COLOURS",
    "COLOUR_BITS",
    "PROGRAM",
    "Core",
    "CoreNetwork",
    "CoreState",
    "compile_program",
    "read_rows",
    "rows_of",
    "schedule_of",
]
