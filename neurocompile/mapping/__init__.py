"""Neurons to cores, connections to routing tables: partition, place, route, tabulate, with an independent verifier (docs/mapping.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.machine import Machine
from neurocompile.mapping.options import EFFORTS, MapOptions
from neurocompile.mapping.partition import partition as partition_neurons
from neurocompile.mapping.place import found_room, place
from neurocompile.mapping.problem import MappingProblem
from neurocompile.mapping.route import MODES, route
from neurocompile.mapping.route.merge import ENTRY_PRICE
from neurocompile.mapping.shortfall import ShortfallError
from neurocompile.mapping.tables import tabulate
from neurocompile.mapping.traffic import measure_traffic
from neurocompile.mapping.types import Mapping, Partition, Placement, Routes, RoutingTables
from neurocompile.mapping.usage import deliveries, measure_usage
from neurocompile.mapping.verify import verify_mapping, verify_partition, verify_placement

Say = Callable[[str], None]
_DEFAULT = MapOptions()
_DEARER = (8.0, 1e9)
"""Prices of an entry, as multiples of the first, at which routes become one where tables do not fit; the last joins all of a chip."""


def map_network(
    problem: MappingProblem, machine: Machine, options: MapOptions = _DEFAULT, *, progress: Callable[[str], None] | None = None
) -> Mapping:
    """Run all stages, with a verifier after each.

    Parameters
    ----------
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
    parts, placement = partition_and_place(problem, machine, options, progress=progress)
    routes, tables, price = _route_and_tabulate(problem, parts, placement, machine, options.routes, say)
    usage = measure_usage(problem, parts, placement, routes, tables, machine)
    traffic = measure_traffic(problem, placement, routes, tables, machine)
    traffic["sharing"] = {"asked": options.routes, "price": price, **deliveries(problem, parts, routes)}
    mapping = Mapping(partition=parts, placement=placement, routes=routes, tables=tables, usage=usage, traffic=traffic)
    say("verify")
    verify_mapping(problem, mapping, machine)
    return mapping


def _route_and_tabulate(
    problem: MappingProblem, parts: Partition, placement: Placement, machine: Machine, mode: str, say: Say
) -> tuple[Routes, RoutingTables, float | None]:
    """Routes, tables, and what an entry was worth in strays (``auto`` on machines with tables): more than usual where tables do not fit."""
    say("route")
    if mode != "auto" or machine.routing != "multicast_tcam":
        routes = route(problem, parts, placement, machine, mode=mode)
        say("tabulate")
        try:
            return routes, tabulate(problem.n_neurons, parts, placement, routes, machine), None
        except ShortfallError as short:
            wider = replace(short.diagnostic, help=f"let more neurons share entries (--routes auto); or {short.diagnostic.help}")
            raise ShortfallError(wider, replace(short.shortfall, partition=parts)) from None
    refusal: ShortfallError | None = None
    for factor in (1.0, *_DEARER):
        price = factor * ENTRY_PRICE
        if factor > 1.0:
            say(f"route: tables do not fit, an entry is worth {price:g} strays")
        routes = route(problem, parts, placement, machine, mode=mode, price=price)
        say("tabulate")
        try:
            return routes, tabulate(problem.n_neurons, parts, placement, routes, machine), price
        except ShortfallError as error:
            refusal = error
    assert refusal is not None
    raise ShortfallError(refusal.diagnostic, replace(refusal.shortfall, partition=parts))


def partition_and_place(
    problem: MappingProblem, machine: Machine, options: MapOptions = _DEFAULT, *, progress: Callable[[str], None] | None = None
) -> tuple[Partition, Placement]:
    """Run the first two stages, with a verifier after each; parameters and errors as of :func:`map_network`.

    Where parts spent to lower the traffic find no room on the machine, as few as possible are tried, then sequential fill.
    """
    say = progress or (lambda _stage: None)
    say("partition")
    parts = _partition(problem, options, say)
    verify_partition(problem, parts)
    say("place")
    try:
        placement = place(problem, parts, machine, seed=options.seed, effort=options.effort)
    except ShortfallError:
        closer = None if options.n_parts is not None else _fewer_parts(problem, parts, machine, options, say)
        if closer is None:
            raise
        parts = closer
        verify_partition(problem, parts)
        placement = place(problem, parts, machine, seed=options.seed, effort=options.effort)
    verify_placement(problem, parts, placement, machine)
    return parts, placement


def _partition(problem: MappingProblem, options: MapOptions, say: Say) -> Partition:
    return partition_neurons(
        problem,
        algorithm=options.partition,
        seed=options.seed,
        n_parts=options.n_parts,
        slack=options.slack,
        effort=options.effort,
        progress=say,
    )


def _fewer_parts(problem: MappingProblem, parts: Partition, machine: Machine, options: MapOptions, say: Say) -> Partition | None:
    """A partition for which there is room where one that lowers traffic with parts to spare has none; None: none was found."""
    quality = parts.quality
    assert quality is not None
    if quality.lower_bound > machine.n_cores:  # there is none; the message is about as few parts as were found
        few = quality.sequential_cores is not None and quality.sequential_cores < quality.cores
        return partition_neurons(problem, algorithm="sequential") if few else None
    for name in (options.partition, "sequential"):
        say("partition: with as few parts as there may be")
        try:
            found = _partition(problem, replace(options, partition=name, slack=0.0), say)
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
    lengths |= {len(a) for a in (problem.rate, problem.together, problem.chip, problem.repeats) if a is not None}
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
    if problem.repeats is not None and not ((problem.repeats >= -1) & (problem.repeats < n)).all():
        raise ValueError("a neuron repeats the spikes of one that does not exist")
    for labels in problem.set_resources:
        if (labels.label < -1).any():
            raise ValueError(f"set resource '{labels.name}' has labels below -1")


__all__ = ["EFFORTS", "MODES", "MapOptions", "check_problem", "map_network", "partition_and_place"]
