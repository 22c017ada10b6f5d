"""Compiled loops of the router: one spanning tree a source chip, of which every route is the part that leads to its targets."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

Int8Array = npt.NDArray[np.int8]


@numba.njit(cache=True, nogil=True)
def shortest_tree(source: int, neighbours: Int32Array, load: FloatArray, scale: float, parent: Int32Array, came: Int8Array) -> None:
    """Write the chip before each chip (``parent``, -1: source or not reached) and the link from there (``came``) of a tree of shortest ways.

    Of the ways with fewest links, the one with the least sum of (load * scale)^3; then the one over the lowest link numbers near its end
    (with no load on a mesh: along x first, then along y).
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
            elif not (p < price[other] or (p == price[other] and link > came[other])):
                continue
            price[other], parent[other], came[other] = p, here, link


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
    """Add the packets of trees ``first`` .. ``last`` - 1 (chips to reach: CSR; ``weight``: packets per step) to the links of a spanning tree.

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
@numba.njit(cache=True)
def hex_vector(dx: int, dy: int, width: int, height: int, torus: bool) -> tuple[int, int]:
    """The shortest (dx, dy) between two chips, over the edges of the machine where it is a torus."""
    if not torus:
        return dx, dy
    best_x, best_y, best = dx, dy, 1 << 30
    for sx in (0, -1, 1):
        for sy in (0, -1, 1):
            ux, uy = dx + sx * width, dy + sy * height
            length = hex_length(ux, uy)
            if length < best:
                best_x, best_y, best = ux, uy, length
    return best_x, best_y


@numba.njit(cache=True)
def hex_length(dx: int, dy: int) -> int:
    if (dx >= 0) == (dy >= 0):
        return max(abs(dx), abs(dy))
    return abs(dx) + abs(dy)


@numba.njit(cache=True)
def legs(dx: int, dy: int, hexagonal: bool, links: Int32Array, counts: Int32Array) -> None:
    """Write (link, number of steps) of up to three straight legs: X then Y on a mesh, longest first on hexagons."""
    links[:] = 0
    counts[:] = 0
    if not hexagonal:
        links[0], counts[0] = (0 if dx > 0 else 2), abs(dx)
        links[1], counts[1] = (1 if dy > 0 else 3), abs(dy)
        return
    diagonal = 0
    if (dx > 0 and dy > 0) or (dx < 0 and dy < 0):
        diagonal = min(abs(dx), abs(dy))
        links[2], counts[2] = (1 if dx > 0 else 4), diagonal
    links[0], counts[0] = (0 if dx > 0 else 3), abs(dx) - diagonal
    links[1], counts[1] = (2 if dy > 0 else 5), abs(dy) - diagonal
    for i in range(2):
        for j in range(2 - i):
            if counts[j] < counts[j + 1]:
                counts[j], counts[j + 1] = counts[j + 1], counts[j]
                links[j], links[j + 1] = links[j + 1], links[j]


@numba.njit(cache=True)
def build_tree(
    source: int,
    targets: Int32Array,
    neighbours: Int32Array,
    width: int,
    height: int,
    hexagonal: bool,
    torus: bool,
    in_tree: npt.NDArray[np.int64],
    mark: int,
    hops: Int32Array,
) -> int:
    """Write the hops (chip, link, next chip) of a tree from ``source`` to all ``targets``; return their number, -1 - target if cut off.

    ``in_tree``: workspace, one number a chip, none equal to ``mark``. Hexagons: from the nearest chip of the tree (as NER does, Navaridas
    et al. 2015), longest leg first, joining the tree where the way meets it last. Mesh: X, then Y, from the source. Where a link or chip is
    dead, breadth-first search from the whole tree.
    """
    n_links = neighbours.shape[1]
    n_hops = 0
    nodes = np.empty(neighbours.shape[0], np.int32)
    nodes[0] = source
    n_nodes = 1
    in_tree[source] = mark
    link_of = np.empty(neighbours.shape[0], np.int32)
    path = np.empty(2 * (width + height) + 2, np.int32)
    path_link = np.empty(2 * (width + height) + 2, np.int32)
    leg_link = np.zeros(3, np.int32)
    leg_count = np.zeros(3, np.int32)
    for target in targets:
        if in_tree[target] == mark:
            continue
        start = source
        tx, ty = target % width, target // width
        if hexagonal:
            nearest = 1 << 30
            for i in range(n_nodes):
                vx, vy = hex_vector(tx - nodes[i] % width, ty - nodes[i] // width, width, height, torus)
                length = hex_length(vx, vy)
                if length < nearest:
                    nearest, start = length, nodes[i]
        dx, dy = tx - start % width, ty - start // width
        if hexagonal:
            dx, dy = hex_vector(dx, dy, width, height, torus)
        legs(dx, dy, hexagonal, leg_link, leg_count)
        # Walk the legs; remember where the way leaves the tree for the last time.
        length = 0
        path[0] = start
        leave = 0
        alive = True
        for leg in range(3):
            for _ in range(leg_count[leg]):
                following = neighbours[path[length], leg_link[leg]]
                if following < 0:
                    alive = False
                    break
                path_link[length] = leg_link[leg]
                length += 1
                path[length] = following
                if in_tree[following] == mark:
                    leave = length
            if not alive:
                break
        if alive:
            for i in range(leave, length):
                hops[n_hops, 0], hops[n_hops, 1], hops[n_hops, 2] = path[i], path_link[i], path[i + 1]
                n_hops += 1
                in_tree[path[i + 1]] = mark
                nodes[n_nodes] = path[i + 1]
                n_nodes += 1
            continue
        # Breadth-first from all chips of the tree, in the order in which they joined.
        queue = np.empty(neighbours.shape[0], np.int32)
        parent = np.full(neighbours.shape[0], -1, np.int32)
        queue[:n_nodes] = nodes[:n_nodes]
        head, tail = 0, n_nodes
        while head < tail and parent[target] < 0:
            here = queue[head]
            head += 1
            for link in range(n_links):
                following = neighbours[here, link]
                if following >= 0 and in_tree[following] != mark and parent[following] < 0:
                    parent[following] = here
                    link_of[following] = link
                    queue[tail] = following
                    tail += 1
        if parent[target] < 0:
            return -1 - int(target)
        back = np.int64(target)
        first = n_hops
        while in_tree[back] != mark:
            hops[n_hops, 0], hops[n_hops, 1], hops[n_hops, 2] = parent[back], link_of[back], back
            n_hops += 1
            back = parent[back]
        for i in range((n_hops - first) // 2):
            for column in range(3):
                swap = hops[first + i, column]
                hops[first + i, column] = hops[n_hops - 1 - i, column]
                hops[n_hops - 1 - i, column] = swap
        for i in range(first, n_hops):
            in_tree[hops[i, 2]] = mark
            nodes[n_nodes] = hops[i, 2]
            n_nodes += 1
    return n_hops
