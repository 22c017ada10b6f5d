"""Where the anchored engine's time goes, phase by phase, and how far it is from the memory's bandwidth. Prints JSON.

Phases are timed inside the compiled stepping loop: its source (kernels/anchored_loop.py) is compiled once more with a clock before and
after every statement that calls a phase, so what is timed is what runs, whatever the loop looks like. One thread.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import ctypes
import functools
import inspect
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from eprop_setup import DT, READOUTS, Point, Replay, with_input_weight
from numba import carray, int64, njit, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic

from neurocompile.backends.reference.kernels import anchored_loop

PHASES = {
    "deliver": "deliver",
    "_deliver_static": "deliver static",
    "update": "update neurons",
    "absorb": "absorb",
    "sweep": "sweep",
    "move_anchor": "sweep",
    "mark_arrivals": "bookkeeping of spikes",
    "_gather": "bookkeeping of spikes",
    "errors": "errors",
    "record": "record",
}
"""Function of the loop -> phase."""
NAMES = tuple(dict.fromkeys(PHASES.values()))
_CLOCK_MONOTONIC = 1
Array = npt.NDArray[np.float64]


class _Stopwatch(ast.NodeTransformer):
    """Put a clock around the simple statements that call a phase, and leave out caching, which needs a file."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                decorator.keywords = [k for k in decorator.keywords if k.arg != "cache"]
        return self.generic_visit(node)

    def _wrap(self, node: ast.stmt) -> ast.AST | list[ast.stmt]:
        for call in ast.walk(node):
            if isinstance(call, ast.Call):
                name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
                if name in PHASES:
                    self.found.add(name)
                    slot = NAMES.index(PHASES[name])
                    before, after = ast.parse("_began = _clock()").body[0], ast.parse(f"_add({slot}, _clock() - _began)").body[0]
                    return [before, node, after]
        return node

    visit_Assign = visit_AugAssign = visit_Expr = _wrap


def _pointer_rule(_typing: Any, address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


_pointer: Any = intrinsic(_pointer_rule)


@functools.cache
def timed_loop() -> tuple[npt.NDArray[np.int64], ModuleType, set[str]]:
    """Return an array of nanoseconds (one number a phase), the module of the stepping loop with clocks in it, which adds to them, and the
    phases' functions that it has. One for all: it takes long to compile."""
    times = np.zeros(len(NAMES), np.int64)
    gettime = ctypes.CDLL(None).clock_gettime
    gettime.argtypes, gettime.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_int
    moment = np.zeros(2, np.int64)
    slots, now, n_slots = times.ctypes.data, moment.ctypes.data, len(times)

    @njit(nogil=True)
    def clock() -> int:
        gettime(_CLOCK_MONOTONIC, now)
        found = carray(_pointer(now), 2, np.int64)
        nanoseconds: int = int64(found[0] * 1_000_000_000 + found[1])
        return nanoseconds

    @njit(nogil=True)
    def add(slot: int, elapsed: int) -> None:
        carray(_pointer(slots), n_slots, np.int64)[slot] += elapsed

    tree, stopwatch = ast.parse(inspect.getsource(anchored_loop)), _Stopwatch()
    module = ModuleType("timed_loop")
    module.__dict__.update(_clock=clock, _add=add, _keep=moment)  # the compiled code knows the buffer's address alone
    exec(compile(ast.fix_missing_locations(stopwatch.visit(tree)), "<timed loop>", "exec"), module.__dict__)  # noqa: S102
    return times, module, stopwatch.found


class TimedRun(Replay):
    """Steps that are timed phase by phase, again and again."""

    def __init__(self, point: Point, window_steps: int | None = None) -> None:
        self.cheapest = np.full(len(NAMES), np.inf)
        """Nanoseconds of each phase in its cheapest repetition."""
        self.wall_s = np.inf
        self.shares: list[float] = []
        """What part of each repetition's time was inside the clocks."""
        self.n_events = self.n_spikes = 0
        with _clocks() as (_, self.functions):
            super().__init__(point, window_steps=window_steps)

    def repeat(self) -> None:
        """Run the point's steps once more."""
        self.rewind()
        with _clocks() as (times, _):
            recording = self.turn()
        self.cheapest = np.minimum(self.cheapest, times)
        self.wall_s = min(self.wall_s, recording.wall_s)
        self.shares.append(float(times.sum()) / 1e9 / recording.wall_s)
        self.n_events, self.n_spikes = recording.n_synaptic_events, recording.n_spikes["hidden"]

    @property
    def events_per_step(self) -> float:
        return self.n_events / self.point.steps

    @property
    def hidden_rate_hz(self) -> float:
        return self.n_spikes / (self.point.size * self.point.steps * DT)

    def ns_per_neuron_step(self) -> dict[str, float]:
        """What each phase costs a neuron and step; phases that never ran are left out."""
        unit = self.point.size * self.point.steps
        return {name: float(cost) / unit for name, cost in zip(NAMES, self.cheapest, strict=True) if cost}


@contextlib.contextmanager
def _clocks() -> Iterator[tuple[npt.NDArray[np.int64], set[str]]]:
    """Put the loop with clocks in the place of the engine's, and its clocks to zero."""
    times, module, found = timed_loop()
    plain, anchored_loop.run = anchored_loop.run, module.run
    times[:] = 0
    try:
        yield times, found
    finally:
        anchored_loop.run = plain


def phases(point: Point, window_steps: int | None = None) -> dict[str, Any]:
    """Return what each phase costs in its cheapest repetition: nanoseconds a neuron and step, and an event where there are any."""
    run = TimedRun(point, window_steps)
    for _ in range(point.repetitions):
        run.repeat()
    per_step, costs = run.events_per_step, run.ns_per_neuron_step()
    synapse, row = run.state["synapse"], run.state["row"]
    return {
        "point": asdict(point),
        "functions": sorted(run.functions),
        "hidden_rate_hz": run.hidden_rate_hz,
        "events_per_step": per_step,
        **({"ns_per_event": 1e9 * run.wall_s / run.n_events} if run.n_events else {}),
        "share_timed": median(run.shares),
        "phases": {
            name: {
                "share": cost / sum(costs.values()),
                **({"ns_per_event": cost * point.size / per_step} if per_step else {}),
                "ns_per_neuron_step": cost,
            }
            for name, cost in costs.items()
        },
        "bytes": {
            "synapse": synapse.dtype.itemsize * synapse.shape[1],
            "target_index": 4,
            "target_row": row.dtype.itemsize * row.shape[1],
            "table_mib": synapse.nbytes / 2**20,
            "rows_mib": row.nbytes / 2**20,
        },
    }


@njit(nogil=True)
def _triad(a: Array, b: Array, c: Array, factor: float) -> None:
    for i in range(a.size):
        a[i] = b[i] + factor * c[i]


@njit(nogil=True)
def _touch(starts: npt.NDArray[np.int64], degree: int, target: npt.NDArray[np.int32], synapse: Array, row: Array) -> None:
    """The memory traffic of events and nothing else: whole rows of synapses read and written, a number added to each target."""
    for start in starts:
        for s in range(start, start + degree):
            j = target[s]
            total = row[j, 1]
            for column in range(synapse.shape[1]):
                total += synapse[s, column]
                synapse[s, column] = total
            row[j, 0] += total


def bandwidth(threads: int, megabytes: int = 192, repetitions: int = 5) -> dict[str, float]:
    """Return the bandwidth of a STREAM triad, GB/s: 24 bytes an element as STREAM counts; with the line that a store reads before it is
    written it is 32."""
    n = megabytes * 10**6 // 24 // threads
    parts = [(np.zeros(n), np.ones(n), np.full(n, 2.0)) for _ in range(threads)]
    a, b, c = (x[:8] for x in parts[0])
    _triad(a, b, c, 3.0)
    walls = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repetitions):
            began = time.perf_counter()
            for job in [pool.submit(_triad, *part, 3.0) for part in parts]:
                job.result()
            walls.append(time.perf_counter() - began)
    return {"threads": threads, "gb_per_s": 24 * n * threads / min(walls) / 1e9, "megabytes": megabytes}


def access_pattern(size: int, degree: int, columns: int, row_columns: int, n_synapses: int) -> dict[str, float]:
    """Return what an event costs if it is memory traffic alone: rows of ``degree`` synapses in random order, random targets, in a table as
    large as the network's (a small one stays in a cache, and then the memory's bandwidth is no limit)."""
    rng = np.random.default_rng(1)
    n_sources = max(1, n_synapses // degree)
    target = np.sort(rng.integers(0, size, (n_sources, degree)), axis=1).astype(np.int32).ravel()
    synapse, row = np.zeros((len(target), columns)), np.zeros((size, row_columns))
    starts = rng.permutation(n_sources).astype(np.int64) * degree
    _touch(starts[:1], degree, target, synapse, row)
    walls = []
    for _ in range(5):
        began = time.perf_counter()
        _touch(starts, degree, target, synapse, row)
        walls.append(time.perf_counter() - began)
    return {"ns_per_event": 1e9 * min(walls) / len(target), "table_megabytes": synapse.nbytes / 1e6}


def distance(profile: dict[str, Any], triad: dict[str, float], pattern: dict[str, float]) -> dict[str, float]:
    """Return how far delivery is from the bandwidth: the time that the bytes of an event need at the triad's speed, over what it takes.

    Bytes: the synapse read and written, its target's index read. The target's row counts in ``ns_with_row`` (read, its input written):
    it comes from a cache where all rows fit there.
    """
    sizes = profile["bytes"]
    streamed = 2 * sizes["synapse"] + sizes["target_index"]
    with_row = streamed + sizes["target_row"] + 8
    taken = profile["phases"]["deliver"]["ns_per_event"]
    return {
        "bytes_per_event": streamed,
        "bytes_per_event_with_row": with_row,
        "ns_at_bandwidth": streamed / triad["gb_per_s"],
        "ns_at_bandwidth_with_row": with_row / triad["gb_per_s"],
        "ns_of_the_access_pattern": pattern["ns_per_event"],
        "ns_of_delivery": taken,
        "times_bandwidth": taken / (streamed / triad["gb_per_s"]),
        "times_access_pattern": taken / pattern["ns_per_event"],
    }


def report(point: Point, megabytes: int) -> dict[str, Any]:
    """Return the profile of a point with its distance to the bandwidth, which is measured beside it."""
    profile = phases(with_input_weight(point))
    triad = bandwidth(1, megabytes)
    columns, row_columns = (profile["bytes"][name] // 8 for name in ("synapse", "target_row"))
    pattern = access_pattern(point.size, point.indegree + READOUTS, columns, row_columns, point.n_synapses)
    return profile | {"triad": triad, "access_pattern": pattern, "distance": distance(profile, triad, pattern)}


def by_rate(rates: Sequence[float], size: int = 1000, indegree: int = 800, rounds: int = 10) -> dict[str, Any]:
    """Return what delivery costs an event when all neurons and sources fire at each rate, Hz, apart from what it costs in a silent network.

    A large in-degree, so that there are hundreds of events a step even at .5 Hz; fewer steps at high rates, before learning moves them.
    Rates take turns, ``rounds`` times, and each keeps its cheapest: a machine that is slow for seconds then slows down all, not one.
    All other phases are costs of neurons and steps, bounded at any rate: ``others_ns_per_neuron_step``.
    """
    quiet = Point(size=size, indegree=indegree, input_rate=0.0, input_weight=1e-3, warm_up=200, steps=1000)
    runs = [TimedRun(quiet)]
    for rate in rates:
        steps = round(min(1000, max(100, 2000 / rate)))
        point = Point(size=size, indegree=indegree, rate=rate, input_rate=rate, warm_up=100, steps=steps)
        runs.append(TimedRun(with_input_weight(point)))
    for _ in range(rounds):
        for run in runs:
            run.repeat()
    silent = runs[0].ns_per_neuron_step()["deliver"]
    points = []
    for run in runs[1:]:
        cost = run.ns_per_neuron_step()
        points.append(
            {
                "rate": run.point.rate,
                "hidden_rate_hz": run.hidden_rate_hz,
                "events_per_step": run.events_per_step,
                "ns_per_event": (cost["deliver"] - silent) * size / run.events_per_step,
                "others_ns_per_neuron_step": sum(cost.values()) - cost["deliver"],
            }
        )
    costs = [p["ns_per_event"] for p in points]
    return {
        "rounds": rounds,
        "silent_deliver_ns_per_neuron_step": silent,
        "points": points,
        "largest_over_smallest": max(costs) / min(costs),
    }


def main() -> None:
    """Profile some points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", help="JSON list of Points, which overrides --size and --indegree; prints a line of JSON for each")
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--indegree", type=int, default=100)
    parser.add_argument(
        "--megabytes", type=int, default=192, help="of the arrays that bandwidth is measured with: several times the caches"
    )
    parser.add_argument("--rates", help="such as 0.5,5,20: print what delivery costs an event at these firing rates, Hz, instead")
    given = parser.parse_args()
    if given.rates:
        print(json.dumps(by_rate([float(x) for x in given.rates.split(",")])), flush=True)
        return
    points = [Point(**p) for p in json.loads(given.points)] if given.points else [Point(size=given.size, indegree=given.indegree)]
    for point in points:
        print(json.dumps(report(point, given.megabytes), indent=None if given.points else 1), flush=True)


if __name__ == "__main__":
    main()
