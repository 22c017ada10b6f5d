"""Neurons to cores, connections to routing tables: partition, place, route, tabulate, with an independent verifier (docs/mapping.md)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.machine import Machine
from neurocompile.mapping.partition import partition as partition_neurons
from neurocompile.mapping.place import place
from neurocompile.mapping.problem import MappingProblem
from neurocompile.mapping.route import route
from neurocompile.mapping.tables import tabulate
from neurocompile.mapping.traffic import measure_traffic
from neurocompile.mapping.types import Mapping
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
    say("partition")
    parts = partition_neurons(problem, algorithm=partition, seed=seed, n_parts=n_parts, slack=slack, progress=say)
    verify_partition(problem, parts)
    say("place")
    placement = place(problem, parts, machine, seed=seed)
    verify_placement(problem, parts, placement, machine)
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
        tables = tabulate(problem.n_neurons, parts, placement, routes, machine)
    usage = measure_usage(problem, parts, placement, routes, tables, machine)
    traffic = measure_traffic(problem, placement, routes, tables, machine)
    mapping = Mapping(partition=parts, placement=placement, routes=routes, tables=tables, usage=usage, traffic=traffic)
    say("verify")
    verify_mapping(problem, mapping, machine)
    return mapping


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
    source = np.repeat(np.arange(n), np.diff(problem.indptr))
    if ((np.diff(source) == 0) & (np.diff(problem.indices) <= 0)).any():
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


__all__ = ["check_problem", "map_network"]
