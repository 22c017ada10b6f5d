"""Cores that no partition can do without. What each part of the bound rests on is proved in the docstrings; docs/mapping.md sums it up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from neurocompile.mapping.partition.units import Net, Units, prepare
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem
from neurocompile.mapping.types import Int64Array

_EXACT = 1e-9  # relative: bounds are taken from sums of floats that may come out too large by rounding
_LEVELS = 8  # in-degrees above which units are looked at alone
_MATTERS = 0.02  # share of a core from which the sources of one unit are worth a level
_GROUPS = 4  # groups of like sources that are looked at


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

    Units of different classes share no core, so bounds of classes add up. To take units away never takes more cores, so a class may be cut
    into blocks of which no two units can share a core, what can share a core with several of them left out (:func:`separate`).

    A core with a unit of in-degree d or more holds at least d distinct sources, so the units' own costs have limit - per_axon_in x d left
    there: *level d* of a class are its units of in-degree d or more, with that room. For each limit the largest of, over levels: (a)
    ceil(least sum / limit), where a source counts once for each core that its targets of the class need, by any limit, at any level; (b)
    units of the level / most of them that fit; (c) the bound L2 of Martello and Toth (1990) for units larger than a fraction of the room.
    For a set of labels: ceil(different labels / limit).
    """
    whole = _bounds(units, units.net.unit_class, np.arange(units.n_classes))
    found = separate(units)
    if found is None:
        return whole
    blocks = _bounds(units, *found)
    return blocks if blocks.cores > whole.cores else whole


def _bounds(units: Units, block: Int32Array, class_of: Int64Array) -> Bounds:
    """Bounds from units in ``block`` (-1: left out), each of which belongs to a class."""
    net = units.net
    n_blocks, n_resources = len(class_of), len(net.limits)
    found = np.zeros((n_resources + len(net.set_limits), n_blocks), np.int64)
    inside = np.flatnonzero(block >= 0)
    degree = np.diff(net.in_start)
    level_of = _levels(net, degree[inside])
    level = (np.searchsorted(level_of, degree, side="right") - 1).astype(np.int32)
    room = np.maximum(net.limits[None, :] - net.axon_in[None, :] * level_of[:, None], 0.0)
    most = np.full((n_blocks, len(level_of)), np.iinfo(np.int64).max)
    for c in range(n_blocks):
        members = inside[block[inside] == c]
        for i in range(len(level_of)):
            cost = net.cost[members[level[members] >= i]]
            for r in range(n_resources):
                found[r, c] = max(found[r, c], int(len(members) > 0))
                if room[i, r] > 0 and len(cost):
                    fits = max(1, int(np.searchsorted(np.cumsum(np.sort(cost[:, r])), room[i, r] * (1 + _EXACT), side="right")))
                    most[c, i] = min(most[c, i], fits)
                    found[r, c] = max(found[r, c], _large(cost[:, r], room[i, r]), -(-len(cost) // fits))
    sources, sending = _least_axons(net.out_start, net.out_units, net.unit_of, block, net.cost, level, room, most)
    for r, limit in enumerate(net.limits.tolist()):
        if limit > 0:
            own = np.bincount(block[inside], net.cost[inside, r], n_blocks)
            total = own + net.axon_in[r] * sources + net.axon_out[r] * sending
            found[r] = np.maximum(found[r], np.ceil(total / limit * (1 - _EXACT)).astype(np.int64))
    of_label = np.repeat(block, np.diff(net.label_start)).astype(np.int64)
    for s, limit in enumerate(net.set_limits.tolist()):
        here = (net.label_set[net.labels] == s) & (of_label >= 0)
        pairs = np.unique(of_label[here] * len(net.label_set) + net.labels[here])
        found[n_resources + s] = -(-np.bincount(pairs // max(len(net.label_set), 1), minlength=n_blocks) // max(limit, 1))
    by_class = np.bincount(class_of, found.max(axis=0, initial=0), units.n_classes).astype(np.int64)
    names = [r.name for r in units.resources] + list(units.set_names)
    by_limit = dict(zip(names, found.sum(axis=1).tolist(), strict=True))
    return Bounds(
        by_limit=by_limit, by_class=by_class, cores=int(by_class.sum()), name=max(by_limit, key=lambda n: by_limit[n], default="")
    )


def _levels(net: Net, degree: Int64Array) -> Int64Array:
    """0 and up to seven in-degrees, evenly spread over those whose sources take a good part of a core, the largest among them."""
    takes = float((net.axon_in / np.where(net.limits > 0, net.limits, np.inf)).max(initial=0.0))
    different = np.unique(degree[degree * takes >= _MATTERS])
    if len(different) >= _LEVELS:
        different = different[np.linspace(0, len(different) - 1, _LEVELS - 1).astype(np.int64)]
    levels: Int64Array = np.concatenate([[0], different]).astype(np.int64)
    return levels


def separate(units: Units) -> tuple[Int32Array, Int64Array] | None:
    """Cut classes into blocks that share no core: (block of each unit, -1: left out; class of each block), or None.

    Units with the very same sources, as those of a dense layer, are a block if no core has room for one of them and one of another block:
    for every other unit of the class some limit is passed by the smallest own cost in the group + its own + the axons of the union of
    their sources. The other units that pass none may lie on cores of the block, or on others: they are left out.
    """
    net = units.net
    if not (net.axon_in > 0).any():
        return None
    key = _source_keys(net.unit_class, net.in_start, net.in_sources)
    _, first, group, size = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    share = (net.cost / np.where(net.limits > 0, net.limits, np.inf)).max(axis=1, initial=0.0)
    total = np.bincount(group, share, len(first))
    block, class_of = net.unit_class.copy(), list(range(units.n_classes))
    for g in np.argsort(-total, kind="stable")[:_GROUPS].tolist():
        like = int(first[g])
        members = (group == g) & (block >= 0) & (block == block[like])
        if size[g] < 2 or total[g] <= 1.0 or not members[like] or not _same_sources(net, np.flatnonzero(members), like):
            continue
        others = np.flatnonzero((block == block[like]) & ~members)
        need = net.cost[members].min(axis=0) + net.cost[others] + net.axon_in * _union(net, others, like)[:, None]
        joins = others[(need <= net.limits * (1 + _EXACT)).all(axis=1)]
        if share[joins].sum() >= total[g]:
            continue  # more would be left out than the block is worth
        block[joins] = -1
        block[members] = len(class_of)
        class_of.append(int(net.unit_class[like]))
    return (block, np.array(class_of, np.int64)) if len(class_of) > units.n_classes else None


@numba.njit(cache=True)
def _source_keys(unit_class: Int32Array, in_start: Int64Array, in_sources: Int32Array) -> Int64Array:
    """A number for each unit, the same for units of a class with the same sources (and hardly ever for others): sum of hashes."""
    key = np.zeros(len(in_start) - 1, np.int64)
    for u in range(len(key)):
        total = np.uint64(unit_class[u] + 1) * np.uint64(0x94D049BB133111EB)
        for e in range(in_start[u], in_start[u + 1]):
            x = (np.uint64(in_sources[e]) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
            x ^= x >> np.uint64(29)
            total += x * np.uint64(0xBF58476D1CE4E5B9)
        key[u] = np.int64(total >> np.uint64(1))
    return key


@numba.njit(cache=True)
def _same_sources(net: Net, members: Int64Array, like: int) -> bool:
    """Whether all members have exactly the sources of ``like``."""
    first, n = net.in_start[like], net.in_start[like + 1] - net.in_start[like]
    for u in members:
        if net.in_start[u + 1] - net.in_start[u] != n:
            return False
        for i in range(n):
            if net.in_sources[net.in_start[u] + i] != net.in_sources[first + i]:
                return False
    return True


@numba.njit(cache=True)
def _union(net: Net, others: Int64Array, like: int) -> Int64Array:
    """Distinct sources of ``like`` and each other unit together."""
    seen = np.zeros(len(net.unit_of), np.bool_)
    seen[net.in_sources[net.in_start[like] : net.in_start[like + 1]]] = True
    found = np.full(len(others), net.in_start[like + 1] - net.in_start[like])
    for i in range(len(others)):
        for e in range(net.in_start[others[i]], net.in_start[others[i] + 1]):
            found[i] += not seen[net.in_sources[e]]
    return found


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
    block: Int32Array,
    cost: FloatArray,
    level: Int32Array,
    room: FloatArray,
    most: Int64Array,
) -> tuple[FloatArray, FloatArray]:
    """Least sum of axons-in of each block, and of axons-out of the sources of each block: a source has an axon for each core that its
    targets need. Those of a level or above need at least own costs / ``room`` of the level and their number / ``most`` that fit."""
    n_blocks, n_levels = most.shape
    n_resources = cost.shape[1]
    sources, sending = np.zeros(n_blocks), np.zeros(n_blocks)
    total = np.zeros((n_blocks, n_levels, n_resources))
    count = np.zeros((n_blocks, n_levels), np.int64)
    met = np.full(n_blocks, -1, np.int64)
    seen = np.empty(n_blocks, np.int64)
    above = np.empty(n_resources)
    for s in range(len(unit_of)):
        n = 0
        for e in range(out_start[s], out_start[s + 1]):
            u = out_units[e]
            c = block[u]
            if c < 0:
                continue
            if met[c] != s:
                met[c] = s
                seen[n] = c
                n += 1
                total[c] = 0.0
                count[c] = 0
            count[c, level[u]] += 1
            for r in range(n_resources):
                total[c, level[u], r] += cost[u, r]
        home = block[unit_of[s]]
        for i in range(n):
            c = seen[i]
            need, n_above = 1, 0
            above[:] = 0.0
            for k in range(n_levels - 1, -1, -1):
                if count[c, k] == 0:
                    continue
                n_above += count[c, k]
                need = max(need, -(-n_above // most[c, k]))
                for r in range(n_resources):
                    above[r] += total[c, k, r]
                    if room[k, r] > 0.0:
                        need = max(need, int(np.ceil(above[r] / room[k, r] * (1.0 - _EXACT))))
            sources[c] += need
            if home >= 0:
                sending[home] += need
    return sources, sending


__all__ = ["Bounds", "bounds_of", "lower_bounds", "separate"]
