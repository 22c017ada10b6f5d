"""Compiled loops of the router: one spanning tree a source chip, of which every route is the part that leads to its targets."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.problem import BoolArray, FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

Int8Array = npt.NDArray[np.int8]


@numba.njit(cache=True, nogil=True)
def shortest_tree(
    source: int, neighbours: Int32Array, rank: Int64Array, load: FloatArray, scale: float, parent: Int32Array, came: Int8Array
) -> None:
    """Write a tree of shortest ways: the chip before each chip (``parent``, -1: source or not reached), the link from there (``came``).

    Of the ways with fewest links, the one with the least sum of (load * scale)^3; of equal ones that whose last link has the highest
    ``rank`` (with no load on a mesh: along x first, then along y).
    """
    n, n_links = neighbours.shape
    far = np.full(n, n, np.int32)
    price = np.zeros(n)
    queue = np.empty(n, np.int32)
    parent[:] = -1
    came[:] = -1
    far[source] = 0
    queue[0] = source
    head, tail = 0, 1
    while head < tail:
        here = queue[head]
        head += 1
        for link in range(n_links):
            other = neighbours[here, link]
            if other < 0 or far[other] < far[here] + 1:
                continue
            relative = load[here, link] * scale
            p = price[here] + relative * relative * relative
            if far[other] > far[here] + 1:
                far[other] = far[here] + 1
                queue[tail] = other
                tail += 1
            elif not (p < price[other] or (p == price[other] and rank[link] > rank[came[other]])):
                continue
            price[other], parent[other], came[other] = p, here, link


@numba.njit(cache=True, nogil=True)
def grown_tree(source: int, neighbours: Int32Array, wanted: BoolArray, parent: Int32Array, came: Int8Array) -> None:
    """Write a tree with few links that reaches the ``wanted`` chips: the nearest to what is there joins next, by a shortest way (Takahashi
    and Matsuyama, Math. Japonica 24, 1980); of equally near ones that whose way from the source becomes shortest. ``parent``, ``came``: as
    above; other chips are reached only where ways pass."""
    n, n_links = neighbours.shape
    far = np.full(n, n, np.int32)  # links to the tree
    depth = np.full(n, 2 * n, np.int32)  # links to the source by this way
    before = np.full(n, -1, np.int32)
    link_of = np.full(n, -1, np.int8)
    inside = np.zeros(n, np.bool_)
    queue = np.empty(n + 1, np.int32)  # a ring: a chip is in it once
    queued = np.zeros(n, np.bool_)
    left = 0
    for chip in range(n):
        if wanted[chip] and chip != source:
            left += 1
    parent[:] = -1
    came[:] = -1
    far[source], depth[source], inside[source] = 0, 0, True
    queue[0], queued[source] = source, True
    head, tail = 0, 1
    while left > 0:
        while head != tail:
            here = queue[head]
            head = (head + 1) % (n + 1)
            queued[here] = False
            for link in range(n_links):
                other = neighbours[here, link]
                if other < 0 or inside[other]:
                    continue
                f, d = far[here] + 1, depth[here] + 1
                if f < far[other] or (f == far[other] and d < depth[other]):
                    far[other], depth[other], before[other], link_of[other] = f, d, here, link
                    if not queued[other]:
                        queued[other] = True
                        queue[tail] = other
                        tail = (tail + 1) % (n + 1)
        best = -1
        for chip in range(n):
            if not wanted[chip] or inside[chip] or before[chip] < 0:
                continue
            if best < 0 or far[chip] < far[best] or (far[chip] == far[best] and depth[chip] < depth[best]):
                best = chip
        if best < 0:  # the rest is cut off
            return
        chip = best
        while not inside[chip]:
            inside[chip] = True
            if wanted[chip]:
                left -= 1
            parent[chip], came[chip] = before[chip], link_of[chip]
            far[chip] = 0
            queued[chip] = True
            queue[tail] = chip
            tail = (tail + 1) % (n + 1)
            chip = before[chip]


@numba.njit(cache=True, nogil=True)
def price_of_trees(
    source: int,
    first: int,
    last: int,
    start: Int64Array,
    chips: Int32Array,
    weight: FloatArray,
    parent: Int32Array,
    came: Int8Array,
    load: FloatArray,
    scale: float,
    own: FloatArray,
    mark: Int64Array,
    stamp: int,
) -> tuple[float, int]:
    """Packets x links of trees ``first`` .. ``last`` - 1 on a spanning tree, links that carry much dearer: x (1 + (total load x scale)^3).

    ``load``: without these trees; ``own``: workspace (chips, links) of zeros, left so; the rest as in :func:`add_trees`.
    """
    stamp = add_trees(source, first, last, start, chips, weight, parent, came, 1.0, own, mark, stamp)
    total = 0.0
    for chip in range(len(parent)):
        if parent[chip] >= 0:
            packets = own[parent[chip], came[chip]]
            own[parent[chip], came[chip]] = 0.0
            relative = (load[parent[chip], came[chip]] + packets) * scale
            total += packets * (1.0 + relative * relative * relative)
    return total, stamp


@numba.njit(cache=True, nogil=True)
def add_trees(
    source: int,
    first: int,
    last: int,
    start: Int64Array,
    chips: Int32Array,
    weight: FloatArray,
    parent: Int32Array,
    came: Int8Array,
    sign: float,
    load: FloatArray,
    mark: Int64Array,
    stamp: int,
) -> int:
    """Add the packets of trees ``first`` .. ``last`` - 1 to the links of a spanning tree.

    ``start``, ``chips``: CSR of the chips that each tree reaches; ``weight``: packets per step.

    ``mark``: workspace, one number a chip, none above ``stamp``. Returns the last number used.
    """
    for tree in range(first, last):
        stamp += 1
        mark[source] = stamp
        packets = sign * weight[tree]
        for e in range(start[tree], start[tree + 1]):
            chip = chips[e]
            while mark[chip] != stamp:
                mark[chip] = stamp
                load[parent[chip], came[chip]] += packets
                chip = parent[chip]
    return stamp


@numba.njit(cache=True, nogil=True)
def tree_hops(
    source: Int32Array, row: Int64Array, start: Int64Array, chips: Int32Array, parent: Int32Array, came: Int8Array
) -> tuple[Int64Array, Int32Array]:
    """CSR of the hops (chip, link, next chip) of each tree: its part of the spanning tree ``parent[row]``, ``came[row]``.

    Targets in the order of ``chips``; of each, the way from where it leaves what the tree has already.
    """
    n_trees, n_chips = len(source), parent.shape[1]
    mark = np.full(n_chips, -1, np.int64)
    way = np.empty(n_chips, np.int32)
    tree_start = np.zeros(n_trees + 1, np.int64)
    hops = np.empty((0, 3), np.int32)
    for fill in range(2):
        if fill == 1:
            hops = np.empty((tree_start[n_trees], 3), np.int32)
            mark[:] = -1
        at = 0
        for tree in range(n_trees):
            mark[source[tree]] = tree
            for e in range(start[tree], start[tree + 1]):
                chip, n = chips[e], 0
                while mark[chip] != tree:
                    mark[chip] = tree
                    way[n] = chip
                    n += 1
                    chip = parent[row[tree], chip]
                if fill == 1:
                    for i in range(n - 1, -1, -1):
                        hops[at, 0], hops[at, 1], hops[at, 2] = parent[row[tree], way[i]], came[row[tree], way[i]], way[i]
                        at += 1
                else:
                    at += n
            tree_start[tree + 1] = at
    return tree_start, hops
