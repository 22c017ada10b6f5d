"""What a partition costs and what no partition can beat: km1, axons, exact use of every limit, lower bounds on cores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from neurocompile.mapping.partition._kernels import target_parts
from neurocompile.mapping.partition.units import Units, prepare
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem
from neurocompile.mapping.types import Int64Array

_EXACT = 1e-9  # relative: bounds are taken from sums of floats that may come out too large by rounding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Use:
    """What the parts of a partition take.

    km1 : (source neuron, other part with a target of it) pairs: packets between parts when every neuron spikes once; weighted_km1 : the
    same, weighted with the rates: packets per step; axons_in, axons_out : int64 (n_parts,), distinct sources with a target on the part, and
    (source of the part, part with a target) pairs; used : float64 (n_resources, n_parts), of the resources of a core, then of a chip.
    """

    km1: int
    weighted_km1: float
    axons_in: Int64Array
    axons_out: Int64Array
    used: FloatArray


def measure(problem: MappingProblem, part: Int32Array, n_parts: int) -> Use:
    """Count everything exactly. External neurons have parts of their own, whose packets count: they enter the machine."""
    start, found = target_parts(problem.indptr, problem.indices, part, n_parts)
    remote = _remote(start, found, part)
    axons_in = np.bincount(found, minlength=n_parts).astype(np.int64)
    axons_out = np.bincount(part, np.diff(start), n_parts).astype(np.int64)
    used = [
        np.bincount(part, r.per_neuron, n_parts) + r.per_axon_in * axons_in + r.per_axon_out * axons_out
        for r in (*problem.resources, *problem.chip_resources)
    ]
    return Use(
        km1=int(remote.sum()),
        weighted_km1=float(remote @ problem.rates),
        axons_in=axons_in,
        axons_out=axons_out,
        used=np.array(used, np.float64).reshape(len(used), n_parts),
    )


@numba.njit(cache=True)
def _remote(start: Int64Array, found: Int32Array, part: Int32Array) -> Int64Array:
    remote = np.zeros(len(part), np.int64)
    for s in range(len(part)):
        for e in range(start[s], start[s + 1]):
            if found[e] != part[s]:
                remote[s] += 1
    return remote


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """Cores that no partition can do without.

    by_limit : name of a limit -> cores that it alone enforces, over all classes of neurons that cannot share cores; by_class : int64
    (n_classes,), the largest of each class; cores : their sum; name : the limit that enforces most of it.
    """

    by_limit: dict[str, int]
    by_class: Int64Array
    cores: int
    name: str


def lower_bounds(problem: MappingProblem) -> Bounds:
    """Return :func:`bounds_of` the units of a problem."""
    return bounds_of(prepare(problem))


def bounds_of(units: Units) -> Bounds:
    """Return what can be proved, limit by limit and class by class.

    For each limit the largest of: (a) ceil(least sum / limit), where a source counts once for each core that its targets of the class need
    by any limit; (b) units / most units that fit; (c) the bound L2 of Martello and Toth (1990) for units larger than a fraction of the
    limit. For a set of labels: ceil(different labels / limit).
    """
    net = units.net
    n_classes, n_resources = units.n_classes, len(net.limits)
    found = np.zeros((n_resources + len(net.set_limits), n_classes), np.int64)
    most = np.full(n_classes, np.iinfo(np.int64).max)
    inside = units.order
    classes = net.unit_class[inside]
    for c in range(n_classes):
        cost = net.cost[inside[classes == c]]
        for r, limit in enumerate(net.limits.tolist()):
            found[r, c] = 1
            if limit > 0:
                fits = max(1, int(np.searchsorted(np.cumsum(np.sort(cost[:, r])), limit * (1 + _EXACT), side="right")))
                most[c] = min(most[c], fits)
                found[r, c] = max(_large(cost[:, r], limit), -(-len(cost) // fits))
    sources, sending = _least_axons(net.out_start, net.out_units, net.unit_of, net.unit_class, net.cost, net.limits, most)
    for r, limit in enumerate(net.limits.tolist()):
        if limit > 0:
            own = np.bincount(classes, net.cost[inside, r], n_classes)
            total = own + net.axon_in[r] * sources + net.axon_out[r] * sending
            found[r] = np.maximum(found[r], np.ceil(total / limit * (1 - _EXACT)).astype(np.int64))
    of_label = np.repeat(net.unit_class, np.diff(net.label_start)).astype(np.int64)
    for s, limit in enumerate(net.set_limits.tolist()):
        here = net.label_set[net.labels] == s
        pairs = np.unique(of_label[here] * len(net.label_set) + net.labels[here])
        found[n_resources + s] = -(-np.bincount(pairs // len(net.label_set), minlength=n_classes) // max(limit, 1))
    by_class = found.max(axis=0, initial=0)
    names = [r.name for r in units.resources] + list(units.set_names)
    by_limit = dict(zip(names, found.sum(axis=1).tolist(), strict=True))
    return Bounds(
        by_limit=by_limit, by_class=by_class, cores=int(by_class.sum()), name=max(by_limit, key=lambda n: by_limit[n], default="")
    )


def _large(cost: FloatArray, limit: float) -> int:
    """Martello and Toth's L2 for items ``cost`` and bins of ``limit``, over at most 64 thresholds."""
    limit *= 1 + _EXACT
    items = np.sort(cost[cost > 0])
    best = math.ceil(float(items.sum()) / limit * (1 - _EXACT)) if len(items) else 0
    small = np.unique(items[items <= limit / 2])
    total = np.concatenate([[0.0], np.cumsum(items)])
    half = int(np.searchsorted(items, limit / 2, side="right"))
    for threshold in (0.0, *small[:: max(1, len(small) // 64)].tolist()):
        low = int(np.searchsorted(items, threshold, side="left"))
        high = max(half, int(np.searchsorted(items, limit - threshold, side="right")))
        n_large, n_middle = len(items) - high, high - half
        room = n_middle * limit - (total[high] - total[half])
        left = float(total[half] - total[min(low, half)]) - room
        best = max(best, n_large + n_middle + max(0, math.ceil(left / limit * (1 - _EXACT))))
    return best


@numba.njit(cache=True)
def _least_axons(
    out_start: Int64Array,
    out_units: Int32Array,
    unit_of: Int32Array,
    unit_class: Int32Array,
    cost: FloatArray,
    limits: FloatArray,
    most: Int64Array,
) -> tuple[FloatArray, FloatArray]:
    """Least sum of axons-in of each class, and of axons-out of the sources of each class."""
    n_classes, n_resources = len(most), len(limits)
    sources, sending = np.zeros(n_classes), np.zeros(n_classes)
    total = np.zeros((n_classes, n_resources))
    count = np.zeros(n_classes, np.int64)
    seen = np.empty(n_classes, np.int64)
    for s in range(len(unit_of)):
        n = 0
        for e in range(out_start[s], out_start[s + 1]):
            u = out_units[e]
            c = unit_class[u]
            if count[c] == 0:
                seen[n] = c
                n += 1
                total[c, :] = 0.0
            count[c] += 1
            for r in range(n_resources):
                total[c, r] += cost[u, r]
        home = unit_class[unit_of[s]]
        for i in range(n):
            c = seen[i]
            need = -(-count[c] // most[c]) if most[c] > 0 else 1
            for r in range(n_resources):
                if limits[r] > 0.0:
                    need = max(need, int(np.ceil(total[c, r] / limits[r] * (1.0 - _EXACT))))
            count[c] = 0
            sources[c] += max(need, 1)
            if home >= 0:
                sending[home] += max(need, 1)
    return sources, sending


__all__ = ["Bounds", "Use", "bounds_of", "lower_bounds", "measure"]
