"""What partitioners move: units, i.e. neurons or groups that stay together, with costs, labels and nets for compiled loops.

Neurons that may never share a part because of a limit of one label a core (populations on SpiNNaker, ``core_width``) are of different
*classes*. A part has one class, so partitioning classes is exact: which parts of a class a source reaches does not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import Diagnostic, DoesNotFitError
from neurocompile.mapping.partition._kernels import contract, transpose
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem, Resource
from neurocompile.mapping.shortfall import Shortfall, ShortfallError
from neurocompile.mapping.types import Int64Array


class Net(NamedTuple):
    """Arrays that compiled loops read. Sources are neurons, targets are units; a unit's own neurons are its ``members``."""

    out_start: Int64Array  # (n_neurons + 1,) CSR by source: distinct target units
    out_units: Int32Array
    in_start: Int64Array  # (n_units + 1,) CSR by unit: distinct source neurons
    in_sources: Int32Array
    unit_of: Int32Array  # (n_neurons,)
    member_start: Int64Array  # (n_units + 1,)
    members: Int32Array
    weight: FloatArray  # (n_neurons,) spikes per step
    unit_class: Int32Array  # (n_units,), -1: external
    cost: FloatArray  # (n_units, n_resources)
    axon_in: FloatArray  # (n_resources,)
    axon_out: FloatArray
    limits: FloatArray
    label_start: Int64Array  # (n_units + 1,) CSR by unit: labels of all sets, numbered through
    labels: Int32Array
    label_set: Int32Array  # (n_labels,) set of each label
    set_limits: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """A problem made ready. ``order``: units on cores, by their first neuron. ``n_classes``: classes 0 .. n_classes-1;
    ``set_names``: of the sets of labels in ``net`` (sets that make classes are not there)."""

    problem: MappingProblem
    net: Net
    n_units: int
    order: Int32Array
    n_classes: int
    set_names: tuple[str, ...]

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Limits of a part: those of a core, then those of a chip (a part must fit onto an empty chip)."""
        return (*self.problem.resources, *self.problem.chip_resources)


def prepare(problem: MappingProblem) -> Units:
    """Return the units of a problem.

    Raises
    ------
    DoesNotFitError
        NC401: a neuron, or a group that must stay together, passes a limit even on a core of its own.
    """
    n = problem.n_neurons
    first, unit_of = _group(problem)
    n_units = len(first)
    single = n_units == n
    if single:
        out_start, out_units = problem.indptr, problem.indices
        member_start, members = np.arange(n + 1, dtype=np.int64), unit_of
    else:
        out_start, out_units = contract(problem.indptr, problem.indices, unit_of, n_units)
        members = np.argsort(unit_of, kind="stable").astype(np.int32)
        member_start = np.concatenate([[0], np.cumsum(np.bincount(unit_of, minlength=n_units))]).astype(np.int64)
    in_start, in_sources = transpose(n_units, out_start, out_units)
    resources = (*problem.resources, *problem.chip_resources)
    cost = np.zeros((n_units, len(resources)))
    for r, resource in enumerate(resources):
        cost[:, r] = resource.per_neuron if single else np.bincount(unit_of, resource.per_neuron, n_units)
    external = problem.external[first]
    unit_class, n_classes, inside_sets = _classes(problem, unit_of, first, external)
    label_start, labels, label_set = _labels(inside_sets, unit_of, n_units)
    net = Net(
        out_start=out_start,
        out_units=out_units,
        in_start=in_start,
        in_sources=in_sources,
        unit_of=unit_of,
        member_start=member_start,
        members=members,
        weight=np.ascontiguousarray(problem.rates, np.float64),
        unit_class=unit_class,
        cost=cost,
        axon_in=np.array([r.per_axon_in for r in resources], np.float64),
        axon_out=np.array([r.per_axon_out for r in resources], np.float64),
        limits=np.array([r.limit for r in resources], np.float64),
        label_start=label_start,
        labels=labels,
        label_set=label_set,
        set_limits=np.array([limit for _, limit, _ in inside_sets], np.int64),
    )
    units = Units(
        problem=problem,
        net=net,
        n_units=n_units,
        order=np.flatnonzero(~external).astype(np.int32),
        n_classes=n_classes,
        set_names=tuple(name for name, _, _ in inside_sets),
    )
    _refuse_impossible(units)
    return units


def _group(problem: MappingProblem) -> tuple[Int32Array, Int32Array]:
    """(first neuron of each unit, unit of each neuron); units are numbered by their first neuron."""
    n = problem.n_neurons
    every = np.arange(n, dtype=np.int32)
    if problem.together is None or not ((problem.together >= 0) & ~problem.external).any():
        return every, every
    grouped = (problem.together >= 0) & ~problem.external
    leader = every.copy()
    _, at, inverse = np.unique(problem.together[grouped], return_index=True, return_inverse=True)
    leader[grouped] = np.flatnonzero(grouped)[at][inverse]
    first, unit_of = np.unique(leader, return_inverse=True)
    return first.astype(np.int32), unit_of.astype(np.int32)


def _exclusive(problem: MappingProblem) -> list[tuple[str, Int32Array]]:
    """Label arrays of which a part may hold one label only, beside the set resources: widths, chips."""
    widths: list[tuple[str, Int32Array]] = [("core widths", problem.core_width[problem.population].astype(np.int32))]
    return widths + ([("chips", problem.chip)] if problem.chip is not None else [])


def _classes(
    problem: MappingProblem, unit_of: Int32Array, first: Int32Array, external: npt.NDArray[np.bool_]
) -> tuple[Int32Array, int, list[tuple[str, int, Int32Array]]]:
    """(class of each unit, number of classes, (name, limit, label of each neuron) of the sets that are no classes)."""
    inside = ~problem.external
    complete: list[Int32Array] = []
    others: list[tuple[str, int, Int32Array]] = []
    for name, limit, label in (
        *((name, 1, label) for name, label in _exclusive(problem)),
        *((s.name, s.limit, s.label) for s in problem.set_resources),
    ):
        if limit == 1 and (label[inside] >= 0).all():
            differ = inside & (label != label[first][unit_of])
            if differ.any():
                neuron = int(np.argmax(differ))
                raise DoesNotFitError.of(
                    "NC401",
                    f"{describe(problem, int(first[unit_of[neuron]]))} and {describe(problem, neuron)} must share a core, "
                    f"but a core holds one of {name}, and theirs differ",
                    help="take one of the two constraints away",
                )
            complete.append(label[first])
        elif (label[inside] >= 0).any():
            others.append((name, int(limit), np.where(inside, label, -1).astype(np.int32)))
    unit_class = np.full(len(first), -1, np.int32)
    found = np.zeros(int((~external).sum()), np.int64)
    for label in complete:
        _, found = np.unique(found * (int(label.max(initial=0)) + 1) + label[~external], return_inverse=True)
    unit_class[~external] = found
    return unit_class, int(unit_class.max(initial=-1)) + 1, others


def _labels(sets: list[tuple[str, int, Int32Array]], unit_of: Int32Array, n_units: int) -> tuple[Int64Array, Int32Array, Int32Array]:
    """CSR by unit of its distinct labels over all sets, numbered through, and the set of each label."""
    unit: list[Int64Array] = [np.zeros(0, np.int64)]
    numbered: list[Int64Array] = [np.zeros(0, np.int64)]
    label_set: list[int] = []
    for s, (_, _, label) in enumerate(sets):
        some = label >= 0
        different, number = np.unique(label[some], return_inverse=True)
        unit.append(unit_of[some].astype(np.int64))
        numbered.append(number.reshape(-1).astype(np.int64) + len(label_set))
        label_set += [s] * len(different)
    n_labels = max(len(label_set), 1)
    pairs = np.unique(np.concatenate(unit) * n_labels + np.concatenate(numbered))
    start = np.concatenate([[0], np.cumsum(np.bincount(pairs // n_labels, minlength=n_units))]).astype(np.int64)
    return start, (pairs % n_labels).astype(np.int32), np.array(label_set, np.int32)


def describe(problem: MappingProblem, neuron: int) -> str:
    """``neuron 3 of population 'hidden'``."""
    population = int(problem.population[neuron])
    local = neuron - int(np.argmax(problem.population == population))
    return f"neuron {local} of population '{problem.population_names[population]}'"


def _refuse_impossible(units: Units) -> None:
    """Every unit fits onto a core of its own, with all its targets on one core, or NC401."""
    net = units.net
    n_in = np.diff(net.in_start).astype(np.float64)
    sends = (np.diff(net.out_start) > 0).astype(np.float64)
    n_out = np.bincount(net.unit_of, sends, units.n_units)
    bad = np.zeros(units.n_units, bool)
    for r in range(len(net.limits)):
        bad |= net.cost[:, r] + net.axon_in[r] * n_in + net.axon_out[r] * n_out > net.limits[r]
    of_unit = np.repeat(np.arange(units.n_units), np.diff(net.label_start))
    for s, limit in enumerate(net.set_limits.tolist()):
        bad |= np.bincount(of_unit[net.label_set[net.labels] == s], minlength=units.n_units) > limit
    bad &= net.unit_class >= 0
    if bad.any():
        unit = int(np.argmax(bad))
        raise does_not_fit(units, unit, net.cost[unit] + net.axon_in * n_in[unit] + net.axon_out * n_out[unit])
    for resource in units.problem.set_resources:
        none = (resource.label >= 0) & ~units.problem.external
        if resource.limit < 1 and none.any():
            raise does_not_fit(units, int(net.unit_of[np.argmax(none)]), np.zeros(len(net.limits)))


def does_not_fit(units: Units, unit: int, used: FloatArray, n_parts: int | None = None) -> DoesNotFitError:
    """NC401 for a unit that takes ``used`` of each resource when it is alone (``n_parts``: with targets on that many cores)."""
    problem, net = units.problem, units.net
    members = net.members[net.member_start[unit] : net.member_start[unit + 1]]
    neuron = int(members[0])
    who = describe(problem, neuron)
    if len(members) > 1:
        who += f" and the {len(members) - 1} that must share its core"
    alone = "alone needs" if len(members) == 1 else "need"
    for r, resource in enumerate(units.resources):
        if used[r] > resource.limit:
            n_in, n_out = int(net.in_start[unit + 1] - net.in_start[unit]), int(np.diff(problem.indptr)[members].sum())
            where = "core" if r < len(problem.resources) else "chip"
            spread = f", with its targets on {n_parts} cores" if n_parts is not None else ""
            return ShortfallError(
                Diagnostic(
                    code="NC401",
                    message=f"{who} {alone} {used[r]:g} {resource.unit} of {resource.name}{spread}; "
                    f"a {where} has {resource.limit:g} ({resource.confidence}): {used[r] - resource.limit:g} too many",
                    help=f"it has {n_in} sources and {n_out} targets: lower its fan-in or fan-out, or take a machine with more "
                    f"{resource.name} on a {where}; if you know the limit better, replace its number with --set machine.QUANTITY=NUMBER",
                ),
                Shortfall(
                    resource=resource.name,
                    unit=resource.unit,
                    needed=float(used[r]),
                    available=resource.limit,
                    neurons=members,
                    outgoing=n_parts is not None,
                ),
            )
    for s in problem.set_resources:
        different = len(np.unique(s.label[members][s.label[members] >= 0]))
        if different > s.limit:
            has = f"{s.limit}" if s.limit > 0 else "none"
            needs = f"{alone} {different} different {s.name}" if len(members) > 1 else f"needs one of {s.name}"
            found = DoesNotFitError.of("NC401", f"{who} {needs}; a core has {has}", help="take a machine that has them")
            break
    else:
        found = DoesNotFitError.of(
            "NC401", f"{who} {alone} more than one chip, but must lie on one", help="take one of its constraints away"
        )
    assert isinstance(found, DoesNotFitError)
    return found


__all__ = ["Net", "Units", "describe", "does_not_fit", "prepare"]
