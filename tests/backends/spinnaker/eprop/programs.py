"""Networks of core programs: the emitted C, compiled for this machine, one process a core, packets carried between them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType

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
Ints = npt.NDArray[np.int64]


def compile_program(folder: Path, *, state_bits: int = 16, numbers: str | None = None) -> Path:
    """Return a core's program for this machine, with sanitizers. numbers : the header of one population, which the program then is for."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    program, own = folder / f"program{state_bits}", []
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
    """neurons (n, 8) : columns of cells.py; coefficients (n, 8) : columns of kernels.py; saturated, ring_saturations : counts."""

    neurons: Ints
    coefficients: Ints
    rows: list[tuple[Row, npt.NDArray[np.int32]]]
    saturated: int
    ring_saturations: int


class _Core:
    def __init__(
        self,
        program: Path,
        plan: EpropPlan,
        population: PlannedPopulation,
        neurons: Ints,
        keys: Mapping[tuple[str, int], int],
        errors: tuple[int, int],
        schedule: Schedule,
        state_bits: int,
    ) -> None:
        self.population, self.neurons, self.state_bits = population, neurons, state_bits
        self.recorded: list[Ints] = []
        n = len(neurons)
        index_bits = int(np.ceil(np.log2(n))) if n > 1 else 0
        made = core_rows(plan, population.name, neurons, state_bits=state_bits, control_bits=lambda n: (index_bits, index_bits + 1))
        self.rows = sorted(made, key=lambda row: row_key(row, plan, keys))
        self.key = keys[population.name, 1] + int(neurons[0])
        low, high = bounds(plan, population.name)
        is_task = population.name == plan.readout
        region = neuron_region(population, neurons, softmax=plan.softmax and is_task)
        synapses = synapse_region(population.scales, low, high, schedule, neurons, *sweep_list(self.rows, plan, keys), (*errors, 0))
        self.process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.say([n, self.key, population.shift, DELAY_BITS])
        for part in (region, synapses):
            self.say([len(part)], part)
        self.say([len(self.rows)])
        for row in self.rows:
            self.say([row_key(row, plan, keys), len(row.content)], row.content)

    def say(self, words: list[int], *more: npt.NDArray[np.int32]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(np.array(words, np.int64).astype(np.uint32).tobytes() + b"".join(m.astype("<i4").tobytes() for m in more))

    def tick(self, time: int) -> None:
        assert self.process.stdin is not None
        self.say([0, time])
        self.process.stdin.flush()

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
        neurons, coefficients = (self.hear(8 * n).view(np.int32).reshape(n, 8).astype(np.int64) for _ in range(2))
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


class CoreNetwork:
    """A network on cores of at most ``per_core`` neurons. Hidden neurons' spikes of a delay d > 1 are sent d - 1 ticks late, under a key
    of their own; static synapses delay in the ring buffer."""

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
            p.name: sorted({1, *(int(d) for q in plan.projections if q.pre == p.name and q.learns for d in q.rows.delay)})
            for p in network.populations
        }
        keys, at = {}, 1 << 16
        for p in network.populations:
            for d in self.delays[p.name]:
                keys[p.name, d] = at
                at += 1 << 16
        self.keys = keys
        mask = 0xFFFF0000
        errors = (keys[plan.readout, 1], mask) if plan.readout is not None else (0, mask)
        self.cores: list[_Core] = []
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
                self.cores.append(_Core(own, plan, population, neurons, keys, errors, schedule, state_bits))
        self._late: list[tuple[int, int]] = []
        self._sample, self._period = sample_ticks, sample_ticks + break_ticks

    def run(self, sources: Mapping[str, list[Ints]], n_ticks: int, begin: int = 0) -> dict[str, list[Ints]]:
        """Run some ticks; sources : spikes of each tick. Return those of the other populations, in each tick."""
        found: dict[str, list[Ints]] = {name: [] for name in self.plan.populations}
        for t in range(begin, begin + n_ticks):
            for core in self.cores:
                core.tick(t)
            packets = [core.sent() for core in self.cores]
            made = np.concatenate(packets)
            fired: dict[str, Ints] = {name: np.asarray(given[t], np.int64) for name, given in sources.items()}
            for name in self.plan.populations:
                key = self.keys[name, 1]
                mine = made[(made[:, 0] >> 16 == key >> 16) & (made[:, 1] == 0)]
                fired[name] = np.sort(mine[:, 0].astype(np.int64) - key)
                found[name].append(fired[name])
            self._late += [
                (t + d - 1, self.keys[name, d] + int(i)) for name, who in fired.items() for d in self.delays[name] if d > 1 for i in who
            ]
            if self._sample and t % self._period >= self._sample:
                self._late.clear()  # sources forget in a break too
            due = [key for when, key in self._late if when == t]
            self._late = [entry for entry in self._late if entry[0] > t]
            keys = [self.keys[name, 1] + int(i) for name in sources for i in fired[name]] + due
            carried = np.concatenate([made, np.array([[key, 0, 0] for key in keys], np.uint32).reshape(-1, 3)])
            for core in self.cores:
                core.say([1, len(carried)], carried.view(np.int32))
        return found

    def states(self) -> list[tuple[PlannedPopulation, Ints, CoreState]]:
        return [(core.population, core.neurons, core.state()) for core in self.cores]

    def __enter__(self) -> CoreNetwork:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for core in self.cores:
            core.close(kill=error is not None)


def schedule_of(population: PlannedPopulation, signal: Signal, sample_ticks: int = 0, break_ticks: int = 0) -> Schedule:
    """Return a signal's rows as targets, one a tick."""
    targets = np.rint(signal.target * population.target_unit).astype(np.int64)
    targets[~signal.window] = NO_TARGET
    return Schedule(targets=targets, ticks_per_target=1, sample_ticks=sample_ticks, break_ticks=break_ticks)


__all__ = ["CoreNetwork", "CoreState", "compile_program", "read_rows", "schedule_of"]
