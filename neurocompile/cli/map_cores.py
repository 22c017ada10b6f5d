"""``map``: neurons to cores (and chips), for descriptions and for bare graphs."""

from __future__ import annotations

import resource
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from neurocompile.backends.base import BuildOptions, Target, load_targets
from neurocompile.cli.common import Output, common_options, network_options, open_network, table
from neurocompile.hints import recorded_rates, with_hints
from neurocompile.ir.errors import InputError
from neurocompile.ir.hints import expected_rates
from neurocompile.ir.npz import AnyArray, save_npz
from neurocompile.ir.realise import realise_all
from neurocompile.machine import Machine, load_machine
from neurocompile.mapping import EFFORTS, MapOptions, check_problem, partition_and_place
from neurocompile.mapping.edges import BALANCES, graph_problem, read_edge_file
from neurocompile.mapping.partition import ALGORITHMS, partition
from neurocompile.mapping.problem import MappingProblem
from neurocompile.mapping.verify import verify_partition

_BOTH = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # one partitioner runs in a process of its own


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in _BOTH]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _of_edges(net: Path, cores: int | None, slack: float, balance: str, rates: Path | None) -> tuple[str, int, MappingProblem]:
    if cores is None:
        raise InputError.of(
            "NC160", f"{net.name} is a graph: what its neurons cost on a core is not known", help="add --cores K, or give a description"
        )
    if rates is not None:
        raise InputError.of("NC160", "--rates goes with a description; a graph has its own array 'rate'", help="leave out --rates")
    n, pre, post, rate = read_edge_file(net)
    return net.stem, 1, graph_problem(n, pre, post, rate=rate, cores=cores, slack=slack, balance=balance)


def _of_description(
    net: Path,
    machine: Machine | None,
    cores: int | None,
    slack: float,
    balance: str,
    rates: Path | None,
    options: dict[str, Any],
) -> tuple[str, int, MappingProblem]:
    opened = open_network(net, **options)
    network = opened.network
    connections = realise_all(network) if opened.connections is None else opened.connections
    measured = None if rates is None else recorded_rates(network, rates)
    if cores is None:
        assert machine is not None
        problem = _target_of(machine).lower(network, connections, machine, BuildOptions(allow_approximation=True)).problem
        assert problem is not None
        return network.name, network.seed, with_hints(problem, network, machine, measured)
    synaptic = network.synaptic_projections
    pre = np.concatenate([np.zeros(0, np.int64), *(connections[p.name].pre + np.int64(network.offsets[p.pre]) for p in synaptic)])
    post = np.concatenate([np.zeros(0, np.int64), *(connections[p.name].post + np.int64(network.offsets[p.post]) for p in synaptic)])
    external = np.zeros(network.n_neurons, np.bool_)
    for source in network.spike_sources:
        external[network.offsets[source.name] : network.offsets[source.name] + source.size] = True
    rate = expected_rates(network) if measured is None else measured
    found = graph_problem(network.n_neurons, pre, post, rate=rate, cores=cores, slack=slack, balance=balance, external=external)
    return network.name, network.seed, found


def _target_of(machine: Machine) -> Target:
    found = [t for t in load_targets().values() if machine.family in t.machine_families]
    if not found:
        raise InputError.of(
            "NC302",
            f"no target builds for machine '{machine.name}' (family '{machine.family}'), so costs of its cores are not known",
            help="add --cores K to map onto K equal cores of it",
        )
    return found[0]


@click.command("map")
@click.argument("net", type=click.Path(path_type=Path))
@click.option("--cores", type=click.IntRange(1), metavar="K", help="Map onto at most K equal cores, instead of onto a machine's limits.")
@click.option(
    "--slack",
    type=click.FloatRange(0.0),
    default=0.05,
    show_default=True,
    help="With --cores: how much fuller than its share a core may be.",
)
@click.option("--balance", type=click.Choice(BALANCES), default="neurons", show_default=True, help="With --cores: what is shared evenly.")
@click.option("--machine", "-m", "machine_name", metavar="NAME|FILE", help="Machine: its limits (without --cores), and its chips.")
@click.option("--partition", "algorithm", type=click.Choice(ALGORITHMS), default="auto", show_default=True, help="How neurons get cores.")
@click.option("--effort", type=click.Choice(EFFORTS), default="normal", show_default=True, help="How long the mapper searches.")
@click.option("--rates", type=click.Path(path_type=Path), help="Firing rates: a recording (npz of `simulate --save`).")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="npz to write: core (n,), with a machine chip (n,).")
@network_options
@common_options
def map_cores(
    net: Path,
    cores: int | None,
    slack: float,
    balance: str,
    machine_name: str | None,
    algorithm: str,
    effort: str,
    rates: Path | None,
    out: Path,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> None:
    """Assign the neurons of NET to cores, and with a machine to chips.

    NET is a description, a build folder, or a graph: an npz file with pre and post, optionally rate (spikes per step) and n. Spike sources
    of a description lie outside the cores (core -1).
    """
    if cores is None and machine_name is None:
        raise InputError.of("NC160", "map needs --cores K, or --machine NAME whose limits are to be kept")
    machine = None if machine_name is None else load_machine(machine_name)
    if net.suffix.lower() == ".npz":
        name, own_seed, problem = _of_edges(net, cores, slack, balance, rates)
    else:
        name, own_seed, problem = _of_description(net, machine, cores, slack, balance, rates, {"dt": dt, "seed": seed, "output": output})
    chosen = own_seed if seed is None else seed
    check_problem(problem)
    wall, cpu = time.perf_counter(), _cpu_s()
    placement = None
    if machine is None:
        parts = partition(problem, algorithm=algorithm, seed=chosen, n_parts=cores, effort=effort, progress=output.progress)
        verify_partition(problem, parts)
    else:
        options = MapOptions(seed=chosen, partition=algorithm, n_parts=cores, effort=effort)
        parts, placement = partition_and_place(problem, machine, options, progress=output.progress)
    inside = np.cumsum(~parts.external) - 1  # cores are numbered without the parts of external neurons
    core = np.where(parts.external, -1, inside)[parts.part].astype(np.int32)
    arrays: dict[str, AnyArray] = {"core": core}
    if placement is not None:
        arrays["chip"] = placement.chip[parts.part]
    wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
    save_npz(out, arrays)
    quality = parts.quality
    assert quality is not None
    payload = {
        "name": name,
        "n_neurons": problem.n_neurons,
        "n_edges": len(problem.indices),
        "seed": chosen,
        "machine": None if machine is None else machine.name,
        "partition": {key: value for key, value in asdict(quality).items() if key != "notes"},
        "notes": list(quality.notes),
        "km1": quality.km1,
        "rate_weighted_km1": quality.weighted_km1,
        "cores_used": quality.cores,
        "lower_bound": quality.lower_bound,
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_rss_mb": max(resource.getrusage(who).ru_maxrss for who in _BOTH) / 1024.0,
        "out": str(out),
    }
    rows = table(f"{name}: {problem.n_neurons} neurons, {len(problem.indices)} edges", "", "here", "sequential")
    rows.add_row("cores", str(quality.cores), _text(quality.sequential_cores))
    rows.add_row("packets between cores when all spike once (km1)", str(quality.km1), _text(quality.sequential_km1))
    rows.add_row("packets between cores per step", f"{quality.weighted_km1:.6g}", _text(quality.sequential_weighted_km1))
    output.result(
        "map",
        payload,
        rows,
        f"lower bound {quality.lower_bound} cores ({quality.bound_by}); {quality.algorithm} won; {cpu:.1f} s of processor time",
        *(f"note: {note}" for note in quality.notes),
        f"wrote {out}",
    )


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
