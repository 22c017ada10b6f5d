"""Greedy growth: one part after another takes the units that bring it the fewest new sources, until no more fit.

Dense parts first: a part begins with the unit that shares its sources with most of the units that are left. It is where squeezing begins if
axons bind (``squeeze.py``): on networks without structure, and where communities are a little larger than a core, it needs fewer parts than
any partition that is made from traffic. Axons-out are not looked at, for they depend on parts to come.
"""

from __future__ import annotations

import heapq

import numba
import numpy as np

from neurocompile.mapping.partition.units import Net, Units
from neurocompile.mapping.problem import Int32Array
from neurocompile.mapping.types import Int64Array

_STEPS = 1 << 8  # lists of candidates, by the share of their sources that would be new
_REJECTED = 50  # units that do not fit until a part is closed
_SEEN, _NONE = -2, -1  # places of candidates in no list: looked at already, not yet met


def assign(units: Units, *, seed: int = 1) -> Int32Array:
    """Return the part of each unit, -1 for external ones. All limits hold but those of axons-out."""
    part = np.full(units.n_units, -1, np.int32)
    _grow(units.net, np.random.default_rng([seed, 5]).permutation(units.order), part)
    return part


@numba.njit(cache=True, nogil=True)
def _common(net: Net, left: Int64Array, u: int) -> int:
    """Units that are left, each as often as u shares a source with it."""
    found = 0
    for e in range(net.in_start[u], net.in_start[u + 1]):
        found += left[net.in_sources[e]]
    return found


@numba.njit(cache=True, nogil=True)
def _unlink(u: int, i: int, head: Int32Array, after: Int32Array, before: Int32Array) -> None:
    """Take u out of list i."""
    if before[u] >= 0:
        after[before[u]] = after[u]
    else:
        head[i] = after[u]
    if after[u] >= 0:
        before[after[u]] = before[u]


@numba.njit(cache=True, nogil=True)
def _link(u: int, i: int, head: Int32Array, after: Int32Array, before: Int32Array) -> None:
    """Put u at the head of list i."""
    before[u] = -1
    after[u] = head[i]
    if head[i] >= 0:
        before[head[i]] = u
    head[i] = u


@numba.njit(cache=True, nogil=True)
def _grow(net: Net, order: Int32Array, part: Int32Array) -> None:
    """Fill ``part``; ``order``: of units with equally many common sources."""
    n_units, n_sources = len(part), len(net.unit_of)
    left = np.diff(net.out_start)
    queue = [(-_common(net, left, u), i) for i, u in enumerate(order)]  # keys only rise: looked at again when they come first
    heapq.heapify(queue)
    head = np.full(_STEPS + 1, -1, np.int32)
    after, before = np.full(n_units, -1, np.int32), np.full(n_units, -1, np.int32)
    place = np.full(n_units, _NONE, np.int32)  # holds, as ``shared`` does, if ``met`` is the part
    shared, met = np.zeros(n_units, np.int32), np.full(n_units, -1, np.int32)
    has, has_label = np.full(n_sources, -1, np.int32), np.full(len(net.label_set), -1, np.int32)
    own, n_labels = np.zeros(len(net.limits)), np.zeros(len(net.set_limits), np.int64)
    p, n_in, rejected, placed = 0, 0, 0, 0
    empty, part_class = True, -1
    while placed < len(order):
        u = -1
        if rejected <= _REJECTED:
            for i in range(_STEPS + 1):
                if head[i] >= 0:
                    u = head[i]
                    _unlink(u, i, head, after, before)
                    place[u] = _SEEN
                    break
        listed = u >= 0
        while u < 0:
            _, i = heapq.heappop(queue)
            if part[order[i]] < 0:
                key = -_common(net, left, order[i])
                if len(queue) == 0 or key <= queue[0][0]:
                    u = order[i]
                else:
                    heapq.heappush(queue, (key, i))
        new = net.in_start[u + 1] - net.in_start[u] - (shared[u] if met[u] == p else 0)
        fits = empty or part_class == net.unit_class[u]
        for r in range(len(own)):
            fits &= own[r] + net.cost[u, r] + net.axon_in[r] * (n_in + new) <= net.limits[r]
        for k in range(len(n_labels)):
            extra = 0
            for e in range(net.label_start[u], net.label_start[u + 1]):
                extra += net.label_set[net.labels[e]] == k and has_label[net.labels[e]] != p
            fits &= extra == 0 or n_labels[k] + extra <= net.set_limits[k]
        if not fits and listed:
            rejected += 1
            continue
        if not empty and not (fits and rejected <= _REJECTED):  # the next part begins with u
            p += 1
            own[:] = 0.0
            n_labels[:] = 0
            head[:] = -1
            n_in = rejected = 0
            new = net.in_start[u + 1] - net.in_start[u]
        part[u] = p
        placed += 1
        n_in += new
        empty = False
        part_class = net.unit_class[u]
        for r in range(len(own)):
            own[r] += net.cost[u, r]
        for e in range(net.label_start[u], net.label_start[u + 1]):
            label = net.labels[e]
            n_labels[net.label_set[label]] += has_label[label] != p
            has_label[label] = p
        for e in range(net.in_start[u], net.in_start[u + 1]):
            s = net.in_sources[e]
            left[s] -= 1
            if has[s] == p:
                continue
            has[s] = p
            for j in range(net.out_start[s], net.out_start[s + 1]):
                v = net.out_units[j]
                if part[v] >= 0 or net.unit_class[v] != net.unit_class[u]:
                    continue
                if met[v] != p:
                    met[v] = p
                    shared[v] = 0
                    place[v] = _NONE
                shared[v] += 1
                degree = net.in_start[v + 1] - net.in_start[v]
                i = (degree - shared[v]) * _STEPS // degree
                if place[v] not in (i, _SEEN):
                    if place[v] >= 0:
                        _unlink(v, place[v], head, after, before)
                    _link(v, i, head, after, before)
                    place[v] = i


__all__ = ["assign"]
