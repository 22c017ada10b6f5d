"""Sequential fill: neurons in index order, population after population; the next core is opened when any limit would be passed.

Axons-out couple all parts (a neuron pays for each part that holds targets of it), so they are met afterwards: count them, split the parts
that are over (with the exact count of everything as the cost), and repeat. A split only refines the partition, so this ends, at the
latest with one neuron a part; numbers grow, so a limit that one neuron passes alone is reported as what does not fit.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.mapping.partition._kernels import count_source_axons, count_target_parts, fill, transpose
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem, Resource
from neurocompile.mapping.types import Int64Array, Partition


class _Fill(Protocol):
    def __call__(self, order: Int32Array, first: int, cost: FloatArray, *, n_parts: int | None = None) -> int: ...


def partition(problem: MappingProblem) -> Partition:
    """Return a partition that honours every limit of a core exactly.

    Neurons of populations with another ``core_width`` do not share a part; external neurons form one part for each population.
    A part also stays within every chip limit, so that it can be placed.

    Raises
    ------
    DoesNotFitError
        NC401: a neuron exceeds a limit alone.
    """
    resources = (*problem.resources, *problem.chip_resources)
    inside = np.flatnonzero(~problem.external).astype(np.int32)
    part = np.full(problem.n_neurons, -1, np.int32)
    in_start, in_sources = transpose(problem.n_neurons, problem.indptr, problem.indices)
    per_neuron = _matrix(resources, problem.n_neurons)
    axon_in = np.array([r.per_axon_in for r in resources], np.float64)
    axon_out = np.array([r.per_axon_out for r in resources], np.float64)
    limits = np.array([r.limit for r in resources], np.float64)
    labels = np.array([s.label for s in problem.set_resources], np.int32).reshape(len(problem.set_resources), problem.n_neurons)
    label_limits = np.array([s.limit for s in problem.set_resources], np.int64)
    block = problem.core_width[problem.population].astype(np.int32)
    source_stamp = np.full(problem.n_neurons, -1, np.int32)
    label_stamp = np.full((len(labels), int(labels.max(initial=-1)) + 1), -1, np.int32)

    def run(order: Int32Array, first: int, cost: FloatArray, *, n_parts: int | None = None) -> int:
        following, culprit = fill(
            order, first, block, in_start, in_sources, cost, axon_in, limits, labels, label_limits, source_stamp, label_stamp, part
        )
        if culprit >= 0:
            n_in = int(in_start[culprit + 1] - in_start[culprit])
            _refuse(problem, resources, int(culprit), cost[:, culprit] + axon_in * n_in, n_parts)
        return int(following)

    n_parts = run(inside, 0, per_neuron)
    if (axon_out > 0).any():
        n_parts = _split(problem, per_neuron, axon_in, axon_out, limits, part, n_parts, in_start, in_sources, run)
    return _number(problem, part, n_parts)


def _matrix(resources: tuple[Resource, ...], n_neurons: int) -> FloatArray:
    return np.array([r.per_neuron for r in resources], np.float64).reshape(len(resources), n_neurons)


def _split(
    problem: MappingProblem,
    per_neuron: FloatArray,
    axon_in: FloatArray,
    axon_out: FloatArray,
    limits: FloatArray,
    part: Int32Array,
    n_parts: int,
    in_start: Int64Array,
    in_sources: Int32Array,
    run: _Fill,
) -> int:
    """Split parts over a limit, axons-out included, until none is; returns the number of parts numbers used so far."""
    inside = np.flatnonzero(~problem.external).astype(np.int32)
    stamped = n_parts
    while True:
        live, part[inside] = np.unique(part[inside], return_inverse=True)
        n_live = len(live)
        part[problem.external] = n_live  # never a target, but it must be a number
        fan_out = count_target_parts(problem.indptr, problem.indices, part, n_live + 1)
        cost = per_neuron + axon_out[:, None] * fan_out
        order = inside[np.argsort(part[inside], kind="stable")]
        sources = count_source_axons(order, in_start, in_sources, part, n_live + 1)
        over = np.zeros(n_live, bool)
        for r in np.flatnonzero(axon_out > 0):
            used = np.bincount(part[inside], cost[r, inside], n_live) + axon_in[r] * sources[:n_live]
            over |= used > limits[r]
        if not over.any():
            return n_live
        # Numbers from `stamped` on are new to the stamp arrays; unsplit parts are renumbered in the next round.
        stamped = max(stamped, n_live)
        for p in np.flatnonzero(over):
            members = order[part[order] == p]
            before = stamped
            stamped = run(members, stamped, cost, n_parts=n_live)
            if stamped == before + 1:
                # Float rounding put the whole part below a limit that its sum passes: halve it.
                part[members[len(members) // 2 :]] = stamped
                stamped += 1


def _number(problem: MappingProblem, part: Int32Array, n_parts: int) -> Partition:
    """Number the parts by their first neuron, external ones included."""
    for population in np.unique(problem.population[problem.external]):
        part[problem.external & (problem.population == population)] = n_parts
        n_parts += 1
    _, first, inverse = np.unique(part, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    numbered = rank[inverse].astype(np.int32)
    external = np.zeros(len(first), bool)
    external[numbered[problem.external]] = True
    for array in (numbered, external):
        array.setflags(write=False)
    return Partition(part=numbered, n_parts=len(first), external=external)


def _refuse(
    problem: MappingProblem,
    resources: tuple[Resource, ...],
    neuron: int,
    used: FloatArray,
    n_parts: int | None,
) -> None:
    population = int(problem.population[neuron])
    local = neuron - int(np.argmax(problem.population == population))
    who = f"neuron {local} of population '{problem.population_names[population]}'"
    for r, resource in enumerate(resources):
        if used[r] > resource.limit:
            n_in, n_out = int(np.sum(problem.indices == neuron)), int(problem.indptr[neuron + 1] - problem.indptr[neuron])
            where = "core" if r < len(problem.resources) else "chip"
            spread = f", with its targets on {n_parts} cores" if n_parts is not None else ""
            raise DoesNotFitError.of(
                "NC401",
                f"{who} alone needs {used[r]:g} {resource.unit} of {resource.name}{spread}; "
                f"a {where} has {resource.limit:g} ({resource.confidence})",
                help=f"it has {n_in} sources and {n_out} targets: lower its fan-in or fan-out, or take a machine with more {resource.name} "
                f"on a {where}; if you know the limit better, replace its number with --set machine.QUANTITY=NUMBER",
            )
    name = next((s.name for s in problem.set_resources if s.limit < 1 and s.label[neuron] >= 0), "labels")
    raise DoesNotFitError.of("NC401", f"{who} needs one of {name}; a core has none", help="take a machine that has them")
