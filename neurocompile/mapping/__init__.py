"""Neurons to cores, connections to routing tables: partition, place, route, tabulate, with an independent verifier (docs/mapping.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.machine import Machine
from neurocompile.mapping.partition import partition as partition_neurons
from neurocompile.mapping.place import found_room, place
from neurocompile.mapping.problem import MappingProblem
from neurocompile.mapping.route import route
from neurocompile.mapping.shortfall import ShortfallError
from neurocompile.mapping.tables import tabulate
from neurocompile.mapping.traffic import measure_traffic
from neurocompile.mapping.types import Mapping, Partition, Placement
from neurocompile.mapping.usage import measure_usage
from neurocompile.mapping.verify import verify_mapping, verify_partition, verify_placement


def map_network(
    problem: MappingProblem,
    machine: Machine,
    *,
    seed: int = 1,
    partition: str = "auto",
    n_parts: int | None = None,
    slack: float = 0.05,
    progress: Callable[[str], None] | None = None,
) -> Mapping:
    """Run all stages, with a verifier after each.

    Parameters
    ----------
    seed
        Of everything random; the same problem, machine and seed give the same mapping.
    partition, n_parts, slack
        Algorithm, most parts, and parts that may be spent to lower the traffic: see :func:`neurocompile.mapping.partition.partition`.
    progress
        Called with the name of each stage as it begins.

    Raises
    ------
    DoesNotFitError
        NC401-NC406, with the limit, the number and a way out.
    MismatchError
        NC60x: the verifier found a defect.
    """
    say = progress or (lambda _stage: None)
    check_problem(problem)
    parts, placement = partition_and_place(
        problem, machine, seed=seed, partition=partition, n_parts=n_parts, slack=slack, progress=progress
    )
    say("route")
    routes = route(problem, parts, placement, machine)
    say("tabulate")
    try:
        tables = tabulate(problem.n_neurons, parts, placement, routes, machine)
    except DoesNotFitError as error:
        if all(d.code not in {"NC404", "NC406"} for d in error.diagnostics):
            raise
        say("route by core: tables of exact routes do not fit")
        routes = route(problem, parts, placement, machine, exact=False)
        try:
            tables = tabulate(problem.n_neurons, parts, placement, routes, machine)
        except ShortfallError as short:
            raise ShortfallError(short.diagnostic, replace(short.shortfall, partition=parts)) from None
    usage = measure_usage(problem, parts, placement, routes, tables, machine)
    traffic = measure_traffic(problem, placement, routes, tables, machine)
    mapping = Mapping(partition=parts, placement=placement, routes=routes, tables=tables, usage=usage, traffic=traffic)
    say("verify")
    verify_mapping(problem, mapping, machine)
    return mapping


def partition_and_place(
    problem: MappingProblem,
    machine: Machine,
    *,
    seed: int = 1,
    partition: str = "auto",
    n_parts: int | None = None,
    slack: float = 0.05,
    progress: Callable[[str], None] | None = None,
) -> tuple[Partition, Placement]:
    """Run the first two stages, with a verifier after each; parameters and errors as of :func:`map_network`.

    Where parts spent to lower the traffic find no room on the machine, as few as possible are tried, then sequential fill.
    """
    say = progress or (lambda _stage: None)
    say("partition")
    parts = partition_neurons(problem, algorithm=partition, seed=seed, n_parts=n_parts, slack=slack, progress=say)
    verify_partition(problem, parts)
    say("place")
    try:
        placement = place(problem, parts, machine, seed=seed)
    except ShortfallError:
        closer = None if n_parts is not None else _fewer_parts(problem, parts, machine, partition, seed, say)
        if closer is None:
            raise
        parts = closer
        verify_partition(problem, parts)
        placement = place(problem, parts, machine, seed=seed)
    verify_placement(problem, parts, placement, machine)
    return parts, placement


def _fewer_parts(
    problem: MappingProblem, parts: Partition, machine: Machine, algorithm: str, seed: int, say: Callable[[str], None]
) -> Partition | None:
    """A partition for which there is room where one that lowers traffic with parts to spare has none; None: none was found."""
    quality = parts.quality
    assert quality is not None
    if quality.lower_bound > machine.n_cores:  # there is none; the message is about as few parts as were found
        few = quality.sequential_cores is not None and quality.sequential_cores < quality.cores
        return partition_neurons(problem, algorithm="sequential") if few else None
    for name, slack in ((algorithm, 0.0), ("sequential", 0.0)):
        say("partition: with as few parts as there may be")
        try:
            found = partition_neurons(problem, algorithm=name, seed=seed, slack=slack, progress=say)
        except DoesNotFitError:
            continue
        if found_room(problem, found, machine):
            return found
    return None


def check_problem(problem: MappingProblem) -> None:
    """Raise ValueError if the arrays of a problem do not belong together: a defect of the backend that made it."""
    n = problem.n_neurons
    if (
        len(problem.indptr) != n + 1
        or problem.indptr[0] != 0
        or problem.indptr[-1] != len(problem.indices)
        or (np.diff(problem.indptr) < 0).any()
    ):
        raise ValueError(f"indptr does not describe {n} neurons and {len(problem.indices)} edges")
    if len(problem.indices) and (problem.indices.min() < 0 or problem.indices.max() >= n):
        raise ValueError("an edge leads to a neuron that does not exist")
    lengths = {len(problem.population), len(problem.external)} | {len(r.per_neuron) for r in (*problem.resources, *problem.chip_resources)}
    lengths |= {len(s.label) for s in problem.set_resources}
    lengths |= {len(a) for a in (problem.rate, problem.together, problem.chip) if a is not None}
    if lengths != {n}:
        raise ValueError(f"arrays of {sorted(lengths)} values for {n} neurons")
    falls = np.diff(problem.indices) <= 0
    falls[problem.indptr[(problem.indptr > 0) & (problem.indptr < len(problem.indices))] - 1] = False  # from one source to the next
    if falls.any():
        raise ValueError("targets of a source must be sorted and distinct")
    if problem.external[problem.indices].any():
        raise ValueError("an edge leads to an external neuron: only neurons on cores have synapses")
    n_populations = len(problem.population_names)
    if n and not (problem.population.min() >= 0 and problem.population.max() < n_populations):
        raise ValueError(f"a neuron is of a population outside 0 .. {n_populations - 1}")
    if len(problem.core_width) != n_populations or (problem.core_width < 1).any():
        raise ValueError(f"{len(problem.core_width)} core widths >= 1 for {n_populations} populations")
    for resource in (*problem.resources, *problem.chip_resources):
        costs = np.append(resource.per_neuron, (resource.per_axon_in, resource.per_axon_out))
        if not (np.isfinite(costs).all() and np.isfinite(resource.limit)) or (costs < 0).any():  # a limit < 0 is one that nothing keeps
            raise ValueError(f"resource '{resource.name}' has costs or a limit that are negative or not finite")
    if not (np.isfinite(problem.rates).all() and (problem.rates >= 0).all()):
        raise ValueError("rates must be finite and >= 0")
    for labels in problem.set_resources:
        if (labels.label < -1).any():
            raise ValueError(f"set resource '{labels.name}' has labels below -1")


__all__ = ["check_problem", "map_network", "partition_and_place"]
