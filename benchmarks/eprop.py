"""Event-driven e-prop side by side: this engine, NEST 3.10 and a dense clock-driven form. Same network, input and threads, in one run.

    python benchmarks/eprop.py --preset quick|readme|full [--sizes 1000,10000] [--no-nest] [--threads 1]
        [--out FILE [--resume]] [--png FILE]

JSON goes to stdout (or --out, after every point), progress to stderr. docs/benchmarks.md says how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from eprop_profile import bandwidth
from eprop_results import FORMAT_VERSION, Results, failures
from eprop_setup import DT, Point, network, with_input_weight
from eprop_worker import ENGINES, Answer, Worker, why_not

from neurocompile.backends.reference.simulator import max_threads
from neurocompile.ir.npz import physical_memory
from neurocompile.ir.realise import realise_all

Weights = Mapping[str, npt.NDArray[np.float64]]
EVERYBODY = ("anchored", "anchored_float32", "loop", "nest", "nest_cutoff", "dense")
_BYTES_PER_SYNAPSE = {"anchored": 45, "anchored_float32": 33, "loop": 150, "nest": 220, "nest_cutoff": 220, "dense": 60}
_NEST_BYTES_PER_NEURON = 90_000
_MEMORY_SHARE = 0.8


def log(text: str) -> None:
    """Tell the user how far it is."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A contestant with its threads and, for the anchored engine, steps between anchors (None: its own choice)."""

    contestant: str
    threads: int = 1
    window_steps: int | None = None

    @property
    def label(self) -> str:
        more = f" threads={self.threads}" if self.threads > 1 else ""
        return self.contestant + more + ("" if self.window_steps is None else f" window={self.window_steps}")

    def needed_bytes(self, point: Point) -> float:
        """Return a generous guess of the memory that it needs."""
        per_neuron = _NEST_BYTES_PER_NEURON if self.contestant.startswith("nest") else 1000
        return 3e8 + _BYTES_PER_SYNAPSE[self.contestant] * point.n_synapses + per_neuron * point.size


@dataclass
class Plan:
    """What is measured: each point once, whatever sweeps it belongs to, with all entrants that one of them wants."""

    entrants: dict[Point, list[Entrant]] = field(default_factory=dict)
    sweeps: dict[Point, list[str]] = field(default_factory=dict)
    profiles: list[Point] = field(default_factory=list)
    event_rates: tuple[float, ...] = ()

    def add(self, sweep: str, point: Point, entrants: Iterable[Entrant]) -> None:
        """Add a point of a sweep."""
        mine = self.entrants.setdefault(point, [])
        mine += [e for e in entrants if e not in mine]
        names = self.sweeps.setdefault(point, [])
        if sweep not in names:
            names.append(sweep)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sizes and sweeps.

    ``time``: (warm-up, steps, repetitions) from a size on. Sweeps over rate and in-degree are at ``sweep_size`` neurons, those over threads
    at ``thread_size``, in many short turns (``thread_time``): on shared machines it changes from second to second how fast two cores are
    together. ``nest_sweeps``: NEST takes part in all of these, not in the comparison of sizes alone.
    """

    sizes: tuple[tuple[int, int], ...]
    time: Mapping[int, tuple[int, int, int]]
    rates: tuple[float, ...]
    indegrees: tuple[int, ...]
    windows: tuple[int, ...]
    sweep_size: int
    thread_size: int
    thread_time: tuple[int, int, int]
    nest_sweeps: bool
    dense_time: tuple[int, int, int]
    profiles: tuple[tuple[int, int], ...]
    event_rates: tuple[float, ...]
    slow_up_to: int = 1_000_000


PRESETS = {
    "quick": Preset(
        sizes=((1000, 100),),
        time={1000: (200, 200, 4), 10_000: (200, 50, 3)},
        rates=(0.5, 5.0, 20.0),
        indegrees=(50, 100, 200),
        windows=(32,),
        sweep_size=1000,
        thread_size=10_000,
        thread_time=(200, 50, 7),
        nest_sweeps=False,
        dense_time=(50, 30, 2),
        profiles=((1000, 100),),
        event_rates=(0.5, 5.0, 20.0),
    ),
    "readme": Preset(
        sizes=((1000, 100), (10_000, 100), (10_000, 1000), (100_000, 100)),
        time={1000: (300, 500, 5), 10_000: (300, 100, 3), 100_000: (200, 200, 7)},
        rates=(0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
        indegrees=(25, 50, 100, 200, 400, 800),
        windows=(16, 32, 64, 128, 256, 512),
        sweep_size=1000,
        thread_size=100_000,
        thread_time=(200, 100, 21),
        nest_sweeps=True,
        dense_time=(100, 100, 3),
        profiles=((1000, 100), (10_000, 100), (10_000, 1000), (100_000, 100)),
        event_rates=(0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
        slow_up_to=10_000,
    ),
    "full": Preset(
        sizes=((1000, 100), (3000, 100), (10_000, 100), (10_000, 1000), (30_000, 100), (100_000, 100)),
        time={1000: (500, 1000, 5), 10_000: (500, 200, 5), 100_000: (300, 100, 3)},
        rates=(0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
        indegrees=(25, 50, 100, 200, 400, 800),
        windows=(16, 32, 64, 128, 256, 512, 1024),
        sweep_size=10_000,
        thread_size=100_000,
        thread_time=(200, 100, 21),
        nest_sweeps=True,
        dense_time=(300, 200, 5),
        profiles=((1000, 100), (10_000, 100), (10_000, 1000), (100_000, 100)),
        event_rates=(0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
    ),
}


def plan(preset: Preset, sizes: tuple[tuple[int, int], ...], threads: int, names: tuple[str, ...]) -> Plan:
    """Return what a preset measures with the contestants ``names``."""

    def at(size: int, indegree: int = 100, rate: float = 5.0, input_rate: float = 10.0) -> Point:
        step = max((s for s in preset.time if s <= size), default=min(preset.time))
        warm_up, steps, repetitions = preset.time[step]
        degree = min(indegree, size - 1)
        return Point(size=size, indegree=degree, rate=rate, input_rate=input_rate, warm_up=warm_up, steps=steps, repetitions=repetitions)

    def entrants(*wanted: str, threads: int = threads, window_steps: int | None = None) -> list[Entrant]:
        return [Entrant(contestant=c, threads=threads, window_steps=window_steps) for c in wanted if c in names]

    result = Plan()
    for size, indegree in sizes:
        everybody = EVERYBODY if size <= preset.slow_up_to else ("anchored", "anchored_float32")
        result.add("size", at(size, indegree), entrants(*everybody))
    nest = ("nest",) if preset.nest_sweeps else ()
    size = preset.sweep_size
    for rate in preset.rates:
        result.add("rate", at(size, rate=rate), entrants("anchored", "loop", *nest))
        result.add("rate of sources and neurons", at(size, rate=rate, input_rate=rate), entrants("anchored"))
    for indegree in preset.indegrees:
        result.add("indegree", at(size, indegree), entrants("anchored", "loop", *nest))
    for window_steps in preset.windows:
        result.add("window", at(size), entrants("loop") + entrants("anchored", window_steps=window_steps))
    warm_up, steps, repetitions = preset.thread_time
    turns = replace(at(preset.thread_size), warm_up=warm_up, steps=steps, repetitions=repetitions)
    for number in sorted({1, 2, max_threads()} & set(range(1, max_threads() + 1))):
        result.add("threads", turns, entrants("anchored", threads=number))
        if preset.nest_sweeps:
            result.add("threads", at(min(preset.thread_size, 10_000)), entrants("anchored", "nest", threads=number))
    warm_up, steps, repetitions = preset.dense_time
    crowd = replace(at(1000, 999, rate=20.0), warm_up=warm_up, steps=steps, repetitions=repetitions)
    result.add("all to all", crowd, entrants("anchored", "loop", "dense"))
    result.profiles = [at(*p) for p in preset.profiles]
    result.event_rates = preset.event_rates
    return result


def groups(point: Point, entrants: list[Entrant], memory: float) -> Iterator[list[Entrant]]:
    """Split entrants into groups that fit the memory together; one that does not fit alone is a group of its own."""
    group: list[Entrant] = []
    for entrant in entrants:
        if group and sum(e.needed_bytes(point) for e in [*group, entrant]) > memory:
            yield group
            group = []
        group.append(entrant)
    if group:
        yield group


def measure(point: Point, entrants: list[Entrant], folder: Path) -> dict[str, Any]:
    """Measure all entrants at a point, in turns, and compare their weights."""
    point = with_input_weight(point)
    memory = physical_memory() * _MEMORY_SHARE
    results: dict[str, dict[str, Any]] = {}
    able = []
    for entrant in entrants:
        reason = why_not(entrant.contestant, point, entrant.threads)
        if reason is None and entrant.needed_bytes(point) > memory:
            reason = f"needs about {entrant.needed_bytes(point) / 2**30:.1f} GiB of memory"
        if reason is None:
            able.append(entrant)
        else:
            log(f"  {entrant.label}: skipped, {reason}")
            results[entrant.label] = {"skipped": reason}
    found: dict[str, Weights] = {}
    loads = [os.getloadavg()[0]]
    for group in groups(point, able, memory):
        for label, (result, weights) in _race(point, group, folder).items():
            results[label] = result
            if weights is not None:
                found[label] = weights
    loads.append(os.getloadavg()[0])
    _per_event(point, results)
    reference = next((label for label in found if label.partition(" ")[0] == "nest"), next((x for x in found if x == "loop"), None))
    return {
        "point": asdict(point),
        "plastic_synapses": point.n_synapses,
        "load_average": loads,
        "contestants": {e.label: results[e.label] for e in entrants},
        "differences": _differences(point, found, reference),
        "times_faster_than_nest": _ratios(results, "nest"),
        "times_faster_than_loop": _ratios(results, "loop"),
        "times_faster_than_dense": _ratios(results, "dense"),
        "times_faster_than_one_thread": _speedups(results),
    }


def _race(point: Point, group: list[Entrant], folder: Path) -> dict[str, tuple[dict[str, Any], Weights | None]]:
    """Build the entrants of a group one after the other, then let them run the same repetitions in turns."""
    results: dict[str, tuple[dict[str, Any], Weights | None]] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        runs: dict[str, list[Answer]] = {}
        for entrant in group:
            try:
                worker = stack.enter_context(Worker(point, entrant.contestant, threads=entrant.threads, window_steps=entrant.window_steps))
                worker.ask(do="run", steps=point.warm_up)
            except RuntimeError as error:
                log(f"  {entrant.label}: {error}")
                results[entrant.label] = {"failed": str(error)}, None
                continue
            workers[entrant.label], runs[entrant.label] = worker, []
        for repetition in range(point.repetitions):
            names = list(workers)
            for label in names[repetition % len(names) :] + names[: repetition % len(names)] if names else []:
                try:
                    runs[label].append(workers[label].ask(do="run", steps=point.steps))
                except RuntimeError as error:
                    log(f"  {label}: {error}")
                    results[label] = {"failed": str(error)}, None
                    del workers[label]
        for label, worker in workers.items():
            file = folder / "weights.npz"
            try:
                facts = worker.ask(do="finish", file=str(file))
            except RuntimeError as error:
                log(f"  {label}: {error}")
                results[label] = {"failed": str(error)}, None
                continue
            with np.load(file, allow_pickle=False) as arrays:
                weights = {name: arrays[name] for name in arrays.files}
            results[label] = _summary(point, worker.built | facts, runs[label]), weights or None
            wall = results[label][0]["wall_per_simulated_s"]["min"]
            log(f"  {label}: {wall:.4g} s a simulated s, {results[label][0]['hidden_rate_hz']:.2f} Hz")
    return results


def _summary(point: Point, facts: Answer, runs: list[Answer]) -> dict[str, Any]:
    simulated = point.steps * DT
    walls = [r["wall_s"] / simulated for r in runs]
    cpu = [r["cpu_s"] / simulated for r in runs]
    spikes = [r["spikes"] for r in runs]
    more = {"events": [r["events"] for r in runs]} if "events" in runs[0] else {}
    return {
        "wall_per_simulated_s": {"min": min(walls), "median": median(walls), "all": walls},
        "cpu_per_simulated_s": {"min": min(cpu), "median": median(cpu)},
        "spikes": spikes,
        "hidden_rate_hz": sum(spikes) / (point.size * simulated * len(runs)),
        **more,
        **facts,
        "peak_bytes_per_synapse": (facts["peak_mib"] - facts["base_mib"]) * 2**20 / point.n_synapses,
    }


def _per_event(point: Point, results: dict[str, dict[str, Any]]) -> None:
    """Add nanoseconds an event; all contestants go through the events that the engine counts, if they spike as it does."""
    counted = next((r for r in results.values() if "events" in r), None)
    if counted is None:
        return
    events = counted["events"]
    for result in results.values():
        if "wall_per_simulated_s" not in result:
            continue
        result["same_spikes"] = result["spikes"] == counted["spikes"]
        cost = [
            1e9 * wall * point.steps * DT / n if n else float("nan")
            for wall, n in zip(result["wall_per_simulated_s"]["all"], events, strict=True)
        ]
        result["ns_per_event"] = {"min": min(cost), "median": median(cost)}
        if "ns_per_silent_neuron_step" in result:
            silent = [result["ns_per_silent_neuron_step"] * point.size * point.steps / n if n else float("nan") for n in events]
            net = [c - s for c, s in zip(cost, silent, strict=True)]
            result["ns_per_event_without_neurons"] = {"min": min(net), "median": median(net)}


def _differences(point: Point, found: Mapping[str, Weights], reference: str | None) -> dict[str, Any]:
    """Compare final weights with NEST's, or with the loop's where NEST does not take part."""
    if reference is None:
        return {}
    start = {name: c.weight for name, c in realise_all(network(point)).items()}
    result: dict[str, Any] = {"reference": reference}
    for label, weights in found.items():
        if label == reference:
            continue
        result[label] = {}
        for name, initial in start.items():
            n = min(len(found[reference][name]), len(weights[name]))
            expected, apart = found[reference][name][:n], np.abs(weights[name][:n] - found[reference][name][:n])
            change = float(np.abs(expected - initial[:n]).max())
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.where(apart == 0.0, 0.0, apart / np.abs(expected))
            result[label][name] = {
                "compared": n,
                "largest_relative": float(relative.max()),
                "largest_over_largest_change": float(apart.max() / change) if change else None,
            }
    return result


def _ratios(results: Mapping[str, Mapping[str, Any]], slow: str) -> dict[str, dict[str, float]]:
    """Return how many times faster each engine's entrant is than the slow contestant with the same number of threads."""
    found = {}
    for label, result in results.items():
        name, _, more = label.partition(" ")
        threads = more.split(" ")[0] if more.startswith("threads") else ""
        other = results.get(f"{slow} {threads}".strip())
        if name in ENGINES and name != slow and other and "wall_per_simulated_s" in other and "wall_per_simulated_s" in result:
            theirs, ours = other["wall_per_simulated_s"], result["wall_per_simulated_s"]
            found[label] = {"min": theirs["min"] / ours["min"], "median": theirs["median"] / ours["median"]}
    return found


def _speedups(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return how many times faster entrants with threads are than the same with one; ``pairs``: median over turns, each of which both ran
    one after the other."""
    found = {}
    for label, result in results.items():
        name, _, number = label.partition(" threads=")
        one = results.get(name)
        if number.isdigit() and one and "wall_per_simulated_s" in one and "wall_per_simulated_s" in result:
            theirs, ours = one["wall_per_simulated_s"], result["wall_per_simulated_s"]
            pairs = median(a / b for a, b in zip(theirs["all"], ours["all"], strict=True))
            found[label] = {"min": theirs["min"] / ours["min"], "median": theirs["median"] / ours["median"], "pairs": pairs}
    return found


def fit_costs(measured: list[dict[str, Any]]) -> dict[str, float]:
    """Fit wall = a * neurons * steps + b * events over the cheapest repetitions at different in-degrees."""
    rows, walls = [], []
    for item in measured:
        mine = item["contestants"].get("anchored", {})
        if "indegree" in item["sweeps"] and "events" in mine:
            point = item["point"]
            wall, events = min(zip(mine["wall_per_simulated_s"]["all"], mine["events"], strict=True), key=lambda x: x[0] / max(x[1], 1))
            rows.append([point["size"] * point["steps"], events])
            walls.append(1e9 * wall * point["steps"] * DT)
    if len({tuple(r) for r in rows}) < 2:
        return {}
    table, wall_ns = np.array(rows, np.float64), np.array(walls)
    # Relative residuals, so that the largest network does not decide alone.
    (a, b), *_ = np.linalg.lstsq(table / wall_ns[:, None], np.ones(len(wall_ns)), rcond=None)
    residual = table @ np.array([a, b]) / wall_ns - 1.0
    return {"ns_per_neuron_step": float(a), "ns_per_event": float(b), "largest_relative_residual": float(np.abs(residual).max())}


def profiles(points: list[Point], megabytes: int) -> Iterator[dict[str, Any]]:
    """Yield the profile of each point, from a process that compiles its own stepping loop; if it dies, the next one goes on."""
    script, remaining = Path(__file__).with_name("eprop_profile.py"), list(points)
    while remaining:
        words = [sys.executable, str(script), "--megabytes", str(megabytes), "--points", json.dumps([asdict(p) for p in remaining])]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.endswith("\n"):  # the end came while it wrote
                    break
                yield json.loads(line)
                del remaining[0]
        if remaining:
            reason = f"the profile ended with status {process.returncode}"
            log(f"  {reason}")
            yield {"point": asdict(remaining.pop(0)), "failed": reason}


def cost_by_rate(rates: Iterable[float]) -> dict[str, Any]:
    """Return what delivery costs an event at each firing rate, or how it failed."""
    script = Path(__file__).with_name("eprop_profile.py")
    words = [sys.executable, str(script), "--rates", ",".join(f"{rate:g}" for rate in rates)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failed": f"the profile by rate ended with status {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def machine() -> dict[str, Any]:
    """Describe the machine, without its name."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    versions = {}
    for package in ("numpy", "numba", "nest-simulator"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "cpu": model,
        "cores": max_threads(),
        "memory_gib": physical_memory() / 2**30,
        "python": platform.python_version(),
        **versions,
    }


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Parse "1000,10000x1000": sizes, with a recurrent in-degree other than 100 after an x."""
    found = []
    for word in text.split(","):
        size, _, indegree = word.partition("x")
        try:
            found.append((int(size), int(indegree or 100)))
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{word}' is not a size such as 1000 or 10000x1000") from None
        if found[-1][0] < 20 or found[-1][1] < 1:
            raise argparse.ArgumentTypeError(f"'{word}': at least 20 neurons and an in-degree of 1")
    return tuple(found)


def arguments() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    parser.add_argument("--sizes", type=_sizes, help="hidden neurons, and in-degree if not 100, such as 1000,10000x1000")
    parser.add_argument("--only", help="sweeps to run, comma-separated: size, rate, indegree, window, threads, all to all, ...")
    parser.add_argument("--no-nest", action="store_true", help="leave NEST out")
    parser.add_argument("--no-profile", action="store_true", help="leave the profile out")
    parser.add_argument("--threads", type=int, default=1, help="of every contestant (default 1)")
    parser.add_argument("--out", type=Path, help="write the JSON here instead of to stdout, after every point")
    parser.add_argument("--resume", action="store_true", help="keep what --out holds already; measure what is missing or failed")
    parser.add_argument("--png", type=Path, help="draw the results, after every point")
    return parser


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; 1 if a point, a contestant or a profile failed."""
    parser = arguments()
    given = parser.parse_args(words)
    if not 1 <= given.threads <= max_threads():
        parser.error(f"--threads {given.threads}: this machine has 1 .. {max_threads()}")
    preset = PRESETS[given.preset]
    names = tuple(c for c in EVERYBODY if not (given.no_nest and c.startswith("nest")))
    todo = plan(preset, given.sizes or preset.sizes, given.threads, names)
    wanted = None if given.only is None else {x.strip() for x in given.only.split(",")}
    known = {name for sweeps in todo.sweeps.values() for name in sweeps}
    if wanted is not None and wanted - known:
        parser.error(f"--only: there is no sweep {', '.join(sorted(wanted - known))}; there are {', '.join(sorted(known))}")
    if given.resume and given.out is None:
        parser.error("--resume needs --out")
    head = {"format_version": FORMAT_VERSION, "preset": given.preset, "threads": given.threads, "machine": machine()}
    results = Results(head, given.out, given.png)
    if given.resume and given.out.exists():
        try:
            results.resume(given.out)
        except ValueError as error:
            parser.error(str(error))
    run(todo, wanted, None if given.no_profile else 192, results)
    if given.out is None:
        print(json.dumps(results.document, indent=1))
    failed = failures(results.document)
    for text in failed:
        log(f"failed: {text}")
    return 1 if failed else 0


def run(todo: Plan, wanted: set[str] | None, profile_megabytes: int | None, results: Results) -> None:
    """Measure what is planned and not there yet; ``profile_megabytes``: size of the arrays for the bandwidth, None: no profile."""
    began, load = time.time(), os.getloadavg()

    def save() -> None:
        fit = fit_costs(results.document["points"])
        results.save(fit=fit, load_average={"start": load, "end": os.getloadavg()}, seconds=time.time() - began)

    points = [p for p in todo.entrants if wanted is None or wanted & set(todo.sweeps[p])]
    for number, point in enumerate(points, 1):
        entrants = todo.entrants[point]
        what = f"[{number}/{len(points)}] {point.size} neurons x {point.indegree}, {point.rate:g} Hz, sources {point.input_rate:g} Hz"
        if results.has(point, [e.label for e in entrants]):
            log(f"{what}: there already")
            continue
        log(f"{what} ({', '.join(todo.sweeps[point])}); load {os.getloadavg()[0]:.1f}")
        with tempfile.TemporaryDirectory() as folder:
            try:
                item = measure(point, entrants, Path(folder))
            except Exception as error:  # a benchmark of hours does not end with one of its points
                log(f"  {error!r}")
                item = {"point": asdict(point), "contestants": {}, "failed": repr(error)}
        results.add({"sweeps": todo.sweeps[point], **item})
        save()
    if profile_megabytes is not None:
        log("profile")
        try:
            results.document.pop("bandwidth_failed", None)
            results.document["bandwidth"] = [bandwidth(n, profile_megabytes) for n in sorted({1, max_threads()})]
        except Exception as error:  # such as too little memory for its arrays
            results.document["bandwidth_failed"] = f"bandwidth: {error!r}"
        mine = results.document.setdefault("profile", [])
        for found in profiles([p for p in todo.profiles if not results.has_profile(p)], profile_megabytes):
            mine.append(found)
            save()
        if "points" not in results.document.get("events_by_rate", {}):
            results.document["events_by_rate"] = cost_by_rate(todo.event_rates)
    save()


if __name__ == "__main__":
    sys.exit(main())
