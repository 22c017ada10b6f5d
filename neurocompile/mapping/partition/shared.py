"""A lower bound on cores from the sources that a unit can share: stronger than ``bounds.py`` where axons bind, and slower.

Proof. A part S has sum over its units i of share_i distinct sources, share_i = sum over the d sources s of i of 1 / c_s, with c_s the
units of S that have source s: each source is counted once. The c_s of unit i sum to d + T, T = sum over the other units j of S of the
sources that i and j have in common, and that is at most the sum over the n - 1 units of the class that have most in common with i, if S
has at most n units. 1 / c is convex, and c is whole, so share_i is at least d times the value at 1 + T / d of the line through the
points 1 / k, 1 / (k + 1) next to it. With own cost + price of an axon x that as the least cost of a unit, no part has more units than
the cheapest that fit together. If that is below n, n is lowered and all is repeated: costs only grow. Least costs are summed in the
end.
"""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.partition.bounds import Bounds
from neurocompile.mapping.partition.units import Net, Units
from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

_EXACT = 1e-9  # relative: for rounding of sums of floats
_SIZES = 32  # sizes of parts for which shares are kept
_WORK = 2_000_000_000  # pairs of synapses with a common source that are looked at, at most: some ten seconds


def with_shared_sources(units: Units, bounds: Bounds, *, most_work: int = _WORK) -> Bounds:
    """Return ``bounds``, raised where common sources say so; as they are where no limit counts axons-in, or that takes too long."""
    net = units.net
    fan_out = np.diff(net.out_start).astype(np.float64)
    if not (net.axon_in > 0).any() or float(fan_out @ fan_out) > most_work:
        return bounds
    by_limit = np.zeros((len(net.limits), units.n_classes), np.int64)
    by_size = np.zeros(units.n_classes, np.int64)
    for c in range(units.n_classes):
        by_limit[:, c], by_size[c] = _of_class(net, np.flatnonzero(net.unit_class == c).astype(np.int32))
    by_class = np.maximum(bounds.by_class, np.maximum(by_limit.max(axis=0, initial=0), by_size))
    raised = dict(bounds.by_limit)
    for resource, cores in zip(units.resources, by_limit.sum(axis=1).tolist(), strict=True):
        raised[resource.name] = max(raised[resource.name], cores)
    name = max(raised, key=lambda n: raised[n], default="")
    return Bounds(by_limit=raised, by_class=by_class, cores=int(by_class.sum()), name=name)


def _of_class(net: Net, members: Int32Array) -> tuple[Int64Array, int]:
    """(cores by each limit, cores by the number of units) that the units of a class need."""
    cost = net.cost[members]
    sizes = np.unique(np.geomspace(1, max(_fitting(cost, net.limits), 1), _SIZES).astype(np.int64))
    share = _shares(net, members, sizes)
    at = len(sizes) - 1
    while True:
        least = cost + net.axon_in[None, :] * share[:, at, None]
        fitting = max(_fitting(least, net.limits), 1)
        lower = int(np.searchsorted(sizes, fitting))
        if lower >= at:
            break
        at = lower
    some = net.limits > 0
    cores = np.zeros(len(net.limits), np.int64)
    cores[some] = np.ceil(least.sum(axis=0)[some] / net.limits[some] * (1 - _EXACT))
    return cores, -(-len(members) // min(fitting, int(sizes[at])))


def _fitting(cost: FloatArray, limits: FloatArray) -> int:
    """Most units that fit on a core together, whatever limit one looks at."""
    most = len(cost)
    for r in range(len(limits)):
        if limits[r] > 0:
            most = min(most, int(np.searchsorted(np.cumsum(np.sort(cost[:, r])), limits[r] * (1 + _EXACT), side="right")))
    return most


@numba.njit(cache=True, nogil=True)
def _shares(net: Net, members: Int32Array, sizes: Int64Array) -> FloatArray:
    """Least share_i of each member in a part of at most ``sizes`` units (ascending), (members, sizes)."""
    found = np.zeros((len(members), len(sizes)))
    common = np.zeros(len(net.unit_class), np.int32)
    touched = np.empty(len(net.unit_class), np.int32)
    longest = 0
    for i in members:
        longest = max(longest, net.in_start[i + 1] - net.in_start[i])
    count = np.zeros(longest + 1, np.int64)
    for m in range(len(members)):
        i = members[m]
        degree = net.in_start[i + 1] - net.in_start[i]
        if degree == 0:
            continue
        n = 0
        for e in range(net.in_start[i], net.in_start[i + 1]):
            s = net.in_sources[e]
            for f in range(net.out_start[s], net.out_start[s + 1]):
                j = net.out_units[f]
                if common[j] == 0:
                    touched[n] = j
                    n += 1
                common[j] += 1
        count[: degree + 1] = 0
        for k in range(n):
            j = touched[k]
            if j != i and net.unit_class[j] == net.unit_class[i]:
                count[common[j]] += 1
            common[j] = 0
        most = degree  # units with ``most`` or more in common are in ``total``
        taken, total = 0, 0
        for k in range(len(sizes)):
            while most > 0 and taken + count[most] <= sizes[k] - 1:
                taken += count[most]
                total += most * count[most]
                most -= 1
            rest = (sizes[k] - 1 - taken) * most
            mean = 1.0 + (total + rest) / degree
            low = np.floor(mean)
            found[m, k] = degree * (1.0 / low - (mean - low) / (low * (low + 1.0)))
    return found


__all__ = ["with_shared_sources"]
