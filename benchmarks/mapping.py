"""Mapping of the reference networks through the public command: quality, cores, time and memory.

    python benchmarks/mapping.py [--preset quick|full|large] [--networks uniform,conv] [--order shuffled,natural] [--algorithms auto,graph]
        [--seeds 1,2,3] [--rates equal,lognormal] [--machine none,hala-point,spin5x18] [--out FILE [--resume]]
    python benchmarks/mapping.py --markdown FILE

Every run is a process of its own, `neurocompile map NET --cores K --slack 0.05 -o map.npz --format json` (or `-m MACHINE` in place of
cores, with all limits of the machine file), which verifies what it writes; packets and limits of cores are counted once more here, from
`core` alone. JSON goes to stdout (or --out, after every run), progress to stderr; --markdown prints results as tables. docs/mapping.md says
what came of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mapping_networks as networks
import numpy as np
import numpy.typing as npt
from eprop_results import write_whole
from mapping_networks import CELL, Reference

FORMAT_VERSION = "1.0"
SLACK = 0.05
SAME = ("format_version", "preset", "machine")
ORDERS = ("shuffled", "natural")
RATES = ("equal", "lognormal")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and the cores that it is mapped onto. ``balance``: what is shared evenly."""

    make: Callable[[], Reference]
    cores: int
    balance: str = "neurons"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What tells runs apart. ``machine``: 'none' for equal cores."""

    network: str
    order: str
    rates: str
    machine: str
    algorithm: str
    seed: int


FULL = {
    "uniform": Case(make=networks.uniform, cores=64),
    "spatial": Case(make=networks.spatial, cores=256),
    "modular": Case(make=networks.modular, cores=256),
    "conv": Case(make=networks.conv, cores=256),
    "conv_synapses": Case(make=networks.conv, cores=256, balance="synapses"),
    "larva": Case(make=networks.larva, cores=16),
    "microcircuit": Case(make=networks.microcircuit, cores=32),
    "cnn": Case(make=networks.cnn, cores=64),
}
PRESETS = {
    "quick": {
        "uniform": Case(make=partial(networks.uniform, n=300, degree=10), cores=4),
        "modular": Case(make=partial(networks.modular, communities=8, size=20, degree=20), cores=8),
        "conv_synapses": Case(make=partial(networks.conv, layers=((1, 8, 1), (4, 8, 1), (4, 4, 2)), dense=10), cores=5, balance="synapses"),
    },
    "full": FULL,
    "large": {"spatial_1m": Case(make=networks.spatial_1m, cores=1024)},
}


def log(text: str) -> None:
    """Tell the user how far it is."""
    print(text, file=sys.stderr, flush=True)


def packets(reference: Reference, core: npt.NDArray[np.int32], rate: npt.NDArray[np.float64]) -> tuple[int, float]:
    """Return (km1, rate-weighted km1): different cores with a target of each neuron, its own left out. Blocks of neurons at a time."""
    n_cores, total, weighted = int(core.max(initial=0)) + 1, 0, 0.0
    for a in range(0, reference.n_neurons, 65536):
        b = min(a + 65536, reference.n_neurons)
        source = np.repeat(np.arange(a, b), np.diff(reference.indptr[a : b + 1]))
        pair = np.unique(source * n_cores + core[reference.indices[reference.indptr[a] : reference.indptr[b]]])
        source, at = np.divmod(pair, n_cores)
        remote = source[core[source] != at]
        total += len(remote)
        weighted += float(rate[remote].sum())
    return total, weighted


@dataclass(frozen=True, kw_only=True, eq=False)
class Input:
    """A network in one order with rates, and what comparisons need: km1 of a random assignment and of the planted answer."""

    case: Case
    reference: Reference
    rate: npt.NDArray[np.float64]
    random: tuple[int, float]
    planted: tuple[int, float] | None


def prepare(case: Case, order: str, rates: str) -> Input:
    """Make a network and what its results are compared with."""
    reference = case.make()
    n = reference.n_neurons
    rate = np.ones(n) if rates == "equal" else networks.rates(n, 1)
    if order == "shuffled":
        reference, new = networks.shuffled(reference)
        rate = rate[np.argsort(new)]
    at_random = np.random.default_rng(3).permutation(np.arange(n) % case.cores).astype(np.int32)
    planted = None if reference.planted is None else packets(reference, reference.planted, rate)
    return Input(case=case, reference=reference, rate=rate, random=packets(reference, at_random, rate), planted=planted)


def write_graph(folder: Path, given: Input) -> Path:
    """Write an edge file."""
    reference = given.reference
    pre = np.repeat(np.arange(reference.n_neurons, dtype=np.int32), np.diff(reference.indptr))
    file = folder / "graph.npz"
    np.savez(file, pre=pre, post=reference.indices, rate=given.rate, n=np.array(reference.n_neurons))
    return file


def write_description(folder: Path, given: Input) -> tuple[Path, npt.NDArray[np.int64]]:
    """Write a description with a population for each of the network's, and return it with the reference's number of each of its neurons.

    All neurons are cuba_lif, each synapse has its own weight and a delay of one step.
    """
    reference = given.reference
    old = np.argsort(reference.population, kind="stable")
    new = np.empty(len(old), np.int32)
    new[old] = np.arange(len(old), dtype=np.int32)
    pre = np.repeat(new, np.diff(reference.indptr))
    post = new[reference.indices]
    sizes = np.bincount(reference.population, minlength=len(reference.population_names))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    owner = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    ends = owner[pre] * len(sizes) + owner[post]
    lines = ["name: " + reference.name, "dt: 1 ms", "seed: 1", "populations:"]
    lines += [f"  {name}: {CELL % size}" for name, size in zip(reference.population_names, sizes.tolist(), strict=True)]
    lines += ["projections:"]
    rng = np.random.default_rng(4)
    for code in np.flatnonzero(np.bincount(ends)).tolist():
        a, b = divmod(code, len(sizes))
        chosen = ends == code
        weight = rng.uniform(0.005, 0.02, int(chosen.sum()))
        np.savez(folder / f"{a}-{b}.npz", pre=pre[chosen] - starts[a], post=post[chosen] - starts[b], weight=weight)
        names = reference.population_names
        lines.append(f"  - {{pre: {names[a]}, post: {names[b]}, connect: {{file: {a}-{b}.npz}}, delay: 1 ms}}")
    file = folder / "network.yaml"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file, old


def measure(run: Run, given: Input, folder: Path) -> dict[str, Any]:
    """Map once, and count again what the command says.

    Raises
    ------
    RuntimeError
        The command failed, or what it says is not what it wrote.
    """
    reference, out = given.reference, folder / "map.npz"
    options = ["--partition", run.algorithm, "--seed", str(run.seed), "-o", str(out), "--format", "json"]
    old = np.arange(reference.n_neurons)
    if run.machine == "none":
        options += [str(write_graph(folder, given)), "--cores", str(given.case.cores)]
        options += ["--slack", str(SLACK), "--balance", given.case.balance]
    elif reference.file is not None and run.order == "natural":
        options += [str(reference.file), "-m", run.machine, "--dt", "1 ms"]
    else:
        file, old = write_description(folder, given)
        options += [str(file), "-m", run.machine]
    done = subprocess.run([sys.executable, "-m", "neurocompile", "map", *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"map ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-1000:]}")
    said = json.loads(done.stdout)
    with np.load(out, allow_pickle=False) as written:
        core = np.empty(reference.n_neurons, np.int32)
        core[old] = written["core"]
    used = int(core.max(initial=-1)) + 1
    rate = given.rate if run.machine == "none" else np.ones(reference.n_neurons)
    km1, weighted = packets(reference, core, rate)
    if (km1, used) != (said["km1"], said["cores_used"]) or abs(weighted - said["rate_weighted_km1"]) > 1e-9 * weighted:
        raise RuntimeError(f"map says km1 {said['km1']} on {said['cores_used']} cores, its file holds {km1} on {used}")
    found = {
        "neurons": reference.n_neurons,
        "synapses": len(reference.indices),
        "winner": said["partition"]["algorithm"],
        "km1": km1,
        "rate_weighted_km1": weighted,
        "of_sequential": weighted / s if (s := said["partition"]["sequential_weighted_km1"]) else None,
        "cores": used,
        "sequential_cores": said["partition"]["sequential_cores"],
        "lower_bound": said["lower_bound"],
        "bound_by": said["partition"]["bound_by"],
        "cores_of_bound": used / max(said["lower_bound"], 1),
        "wall_s": said["wall_s"],
        "cpu_s": said["cpu_s"],
        "peak_mib": said["peak_rss_mb"],
        "notes": said["notes"],
    }
    if run.machine == "none":
        found |= _with_slack(given, core, weighted)
    return found


def _with_slack(given: Input, core: npt.NDArray[np.int32], weighted: float) -> dict[str, Any]:
    """Compare packets with a random and the planted assignment; RuntimeError if a core is fuller than it may be."""
    n, cores = given.reference.n_neurons, given.case.cores
    cost = np.ones(n) if given.case.balance == "neurons" else np.bincount(given.reference.indices, minlength=n).astype(np.float64)
    share, fullest = cost.sum() / cores, np.bincount(core, cost).max()
    if core.min() < 0 or core.max() >= cores or fullest > max((1 + SLACK) * share, np.ceil(share), cost.max()) * (1 + 1e-9):
        raise RuntimeError(f"{fullest:g} {given.case.balance} on one of {int(core.max()) + 1} cores; {cores} of {share:g} were asked for")
    return {
        "fullest_over_share": float(fullest / share),
        "percent_of_random": 100.0 * weighted / given.random[1],
        "of_planted": None if given.planted is None else weighted / given.planted[1],
    }


def plan(args: argparse.Namespace) -> Iterator[Run]:
    """All runs; those on machines have no rates and no other balance."""
    for network in args.networks:
        for order in args.order:
            for machine in args.machine:
                if machine != "none" and network.endswith("_synapses"):
                    continue
                for rates in args.rates if machine == "none" else ("equal",):
                    for algorithm in args.algorithms:
                        for seed in args.seeds:
                            yield Run(network=network, order=order, rates=rates, machine=machine, algorithm=algorithm, seed=seed)


def markdown(document: dict[str, Any]) -> str:
    """Tables of the results: equal cores, then machines."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    done = [p for p in document["runs"] if "failed" not in p]
    lines = [
        "| network (cores) | order | rates | algorithm (winner) | seed | km1 | rate-weighted | % of random | of planted | of sequential "
        "| cores (bound) | CPU s | MiB |",
        "|" + "---|" * 13,
    ]
    for p in (p for p in done if p["machine"] == "none"):
        lines.append(
            f"| {p['network']} ({p['wanted_cores']}) | {p['order']} | {p['rates']} | {p['algorithm']} ({p['winner']}) | {p['seed']} "
            f"| {p['km1']:,} | {p['rate_weighted_km1']:,.0f} | {p['percent_of_random']:.1f} | {number(p['of_planted'], '.3f')} "
            f"| {number(p['of_sequential'], '.3f')} | {p['cores']} ({p['lower_bound']}) | {p['cpu_s']:.0f} | {p['peak_mib']:.0f} |"
        )
    lines += [
        "",
        "| network | machine | order | algorithm (winner) | cores | lower bound (limit) | ratio | sequential | km1 of sequential | CPU s |",
        "|" + "---|" * 10,
    ]
    for p in (p for p in done if p["machine"] != "none"):
        lines.append(
            f"| {p['network']} | {p['machine']} | {p['order']} | {p['algorithm']} ({p['winner']}) | {p['cores']} "
            f"| {p['lower_bound']} ({p['bound_by']}) | {p['cores_of_bound']:.3f} | {number(p['sequential_cores'], 'd')} "
            f"| {number(p['of_sequential'], '.3f')} | {p['cpu_s']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _earlier(file: Path, document: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs of an earlier document that did not fail; ValueError if it is none of this benchmark, or of another preset or machine."""
    try:
        earlier = json.loads(file.read_text())
        differing = [name for name in SAME if earlier[name] != document[name]]
        kept = [p for p in earlier["runs"] if "failed" not in p]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no result that can be resumed: {error!r}") from None
    if differing:
        raise ValueError(f"{file} was measured with another {', '.join(differing)}: choose another file, or leave out --resume")
    return kept


def _names(known: tuple[str, ...] | None = None) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        found = text.split(",")
        unknown = [] if known is None else [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(known or ())}")
        return found

    return read


def _read_arguments(words: list[str] | None) -> argparse.Namespace:
    from neurocompile.mapping.partition import ALGORITHMS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = tuple(dict.fromkeys(name for preset in PRESETS.values() for name in preset))
    parser.add_argument("--preset", choices=PRESETS, default="full")
    parser.add_argument("--networks", type=_names(every), help="default: all of the preset")
    parser.add_argument("--order", type=_names(ORDERS), default=list(ORDERS))
    parser.add_argument("--algorithms", type=_names(ALGORITHMS), default=["auto"])
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1])
    parser.add_argument("--rates", type=_names(RATES), default=["equal"])
    parser.add_argument("--machine", type=_names(), default=["none"], help="machine files; none: equal cores")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resume", action="store_true", help="measure what --out lacks, or what failed")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="print results as tables, measure nothing")
    args = parser.parse_args(words)
    args.networks = args.networks or list(PRESETS[args.preset])
    missing = [name for name in args.networks if name not in PRESETS[args.preset]]
    if missing:
        parser.error(f"--networks: preset {args.preset} has no {', '.join(missing)}")
    if args.resume and args.out is None:
        parser.error("--resume needs --out")
    args.error = parser.error
    return args


def main(words: list[str] | None = None) -> int:
    """Run; 1 if a run failed."""
    args = _read_arguments(words)
    if args.markdown is not None:
        print(markdown(json.loads(args.markdown.read_text())), end="")
        return 0
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "preset": args.preset,
        "machine": {"platform": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
        "runs": [],
        "skipped": {},
    }
    if args.resume and args.out.exists():
        try:
            document["runs"] = _earlier(args.out, document)
        except ValueError as error:
            args.error(str(error))
    key = tuple(Run.__dataclass_fields__)
    seen = {tuple(p[name] for name in key) for p in document["runs"]}
    given: tuple[tuple[str, str, str], Input] | None = None
    for run in plan(args):
        if tuple(asdict(run).values()) in seen or run.network in document["skipped"]:
            continue
        which = (run.network, run.order, run.rates)
        if given is None or given[0] != which:
            try:
                given = (which, prepare(PRESETS[args.preset][run.network], run.order, run.rates))
            except networks.MissingError as error:
                document["skipped"][run.network] = str(error)
                log(f"{run.network} is skipped: {error}")
                continue
        log(" ".join(str(value) for value in asdict(run).values()))
        row = asdict(run) | {"wanted_cores": given[1].case.cores}
        with tempfile.TemporaryDirectory() as folder:
            try:
                row |= measure(run, given[1], Path(folder))
            except RuntimeError as error:
                row["failed"] = str(error)
                log(f"failed: {error}")
        document["runs"].append(row)
        if args.out is not None:
            write_whole(args.out, json.dumps(document, indent=1) + "\n")
    if args.out is None:
        print(json.dumps(document, indent=1))
    else:
        write_whole(args.out, json.dumps(document, indent=1) + "\n")
    return 1 if any("failed" in p for p in document["runs"]) else 0


if __name__ == "__main__":
    sys.exit(main())
