"""Compiled loops of the placer: ways between chips, traffic between parts, annealing of hops and link loads."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping._random import State, below, uniform
from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

Int16Array = npt.NDArray[np.int16]
Int8Array = npt.NDArray[np.int8]


@numba.njit(cache=True, nogil=True)
def ways(neighbours: Int32Array, priority: Int64Array) -> tuple[Int16Array, Int8Array]:
    """Links between every two chips over live links, and the link that leads from a chip (second index) towards a target (first index).

    Breadth-first from every target; of several links that come nearer the first of ``priority`` is taken. Chips that cannot be reached are
    as far as there are chips, over link -1.
    """
    n, n_links = neighbours.shape
    distance = np.full((n, n), min(n, 32767), np.int16)
    link_to = np.full((n, n), -1, np.int8)
    queue = np.empty(n, np.int32)
    for target in range(n):
        far = distance[target]
        far[target] = 0
        queue[0] = target
        head, tail = 0, 1
        while head < tail:
            here = queue[head]
            head += 1
            for link in range(n_links):
                other = neighbours[here, link]
                if other >= 0 and neighbours[other, (link + n_links // 2) % n_links] == here and far[other] > far[here] + 1:
                    far[other] = far[here] + 1
                    queue[tail] = other
                    tail += 1
        for i in range(1, tail):
            here = queue[i]
            for link in priority:
                other = neighbours[here, link]
                if other >= 0 and far[other] == far[here] - 1:
                    link_to[target, here] = link
                    break
    return distance, link_to


@numba.njit(cache=True, nogil=True)
def part_traffic(
    start: Int64Array, found: Int32Array, part: Int32Array, rate: FloatArray, n_parts: int, order: Int32Array
) -> tuple[Int64Array, Int32Array, FloatArray]:
    """CSR over parts: packets per step from each part to each other part. ``start``, ``found``: target parts of each neuron; ``order``:
    neurons part by part."""
    stamp = np.full(n_parts, -1, np.int64)
    row = np.zeros(n_parts + 1, np.int64)
    for fill in range(2):
        if fill == 0:
            count = np.zeros(n_parts, np.int64)
            to, packets = np.empty(0, np.int32), np.empty(0)
        else:
            for p in range(n_parts):
                row[p + 1] = row[p] + count[p]
            to, packets = np.empty(row[n_parts], np.int32), np.zeros(row[n_parts])
            count[:] = 0
            stamp[:] = -1
        last = -1
        base = 0
        for neuron in order:
            p = part[neuron]
            if p != last:
                last = p
                base = row[p]
            for e in range(start[neuron], start[neuron + 1]):
                q = found[e]
                if q == p:
                    continue
                if fill == 0:
                    if stamp[q] != p:
                        stamp[q] = p
                        count[p] += 1
                else:
                    if stamp[q] < base:
                        stamp[q] = base + count[p]
                        to[stamp[q]] = q
                        count[p] += 1
                    packets[stamp[q]] += rate[neuron]
    return row, to, packets


@numba.njit(cache=True, nogil=True)
def _legal(a: int, b: int, ca: int, cb: int, cost: FloatArray, used: FloatArray, limit: FloatArray) -> bool:
    """Whether part a may go to chip cb, and part b (if >= 0) to chip ca."""
    for r in range(cost.shape[0]):
        change = cost[r, a] - (cost[r, b] if b >= 0 else 0.0)
        if change > 0 and used[r, cb] + change > limit[r, cb]:
            return False
        if change < 0 and used[r, ca] - change > limit[r, ca]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _propose(
    random: State,
    movable: Int32Array,
    fixed: npt.NDArray[np.bool_],
    chip: Int32Array,
    start: Int64Array,
    other: Int32Array,
    neighbours: Int32Array,
    on_chip: Int32Array,
    n_on_chip: Int32Array,
    open_chip: npt.NDArray[np.bool_],
) -> tuple[int, int, int]:
    """A part, the chip to which it might go, and the part there that would come back (-1: none); chip -1: no proposal.

    Three of four proposals lead to the chip of a part that the first one talks to, or a chip beside it; the others anywhere.
    """
    a = movable[below(random, len(movable))]
    degree = start[a + 1] - start[a]
    if degree > 0 and below(random, 4) > 0:
        target = chip[other[start[a] + below(random, degree)]]
        way = below(random, neighbours.shape[1] + 1)
        if way < neighbours.shape[1]:
            target = neighbours[target, way]
            if target < 0:
                return a, -1, -1
    else:
        target = chip[movable[below(random, len(movable))]]
    if target == chip[a] or not open_chip[target]:
        return a, -1, -1
    pick = below(random, n_on_chip[target] + 1)
    if pick == n_on_chip[target]:
        return a, target, -1
    b = on_chip[target, pick]
    return (a, -1, -1) if fixed[b] else (a, target, b)


@numba.njit(cache=True, nogil=True)
def _take(
    a: int, b: int, ca: int, cb: int, chip: Int32Array, cost: FloatArray, used: FloatArray, on_chip: Int32Array, n_on: Int32Array
) -> None:
    """Put part a on chip cb and part b (if >= 0) on chip ca."""
    for r in range(cost.shape[0]):
        change = cost[r, a] - (cost[r, b] if b >= 0 else 0.0)
        used[r, cb] += change
        used[r, ca] -= change
    chip[a] = cb
    for i in range(n_on[ca]):
        if on_chip[ca, i] == a:
            if b >= 0:
                on_chip[ca, i] = b
            else:
                n_on[ca] -= 1
                on_chip[ca, i] = on_chip[ca, n_on[ca]]
            break
    if b >= 0:
        chip[b] = ca
        for i in range(n_on[cb]):
            if on_chip[cb, i] == b:
                on_chip[cb, i] = a
                break
    else:
        on_chip[cb, n_on[cb]] = a
        n_on[cb] += 1


@numba.njit(cache=True, nogil=True)
def _longer(
    a: int, b: int, ca: int, cb: int, chip: Int32Array, start: Int64Array, other: Int32Array, weight: FloatArray, distance: Int16Array
) -> float:
    """By how much sum(weight * distance) grows if part a goes from chip ca to cb and part b (if >= 0) the other way."""
    change = 0.0
    to, back = distance[cb], distance[ca]
    for e in range(start[a], start[a + 1]):
        if other[e] != b:
            there = chip[other[e]]
            change += weight[e] * (to[there] - back[there])
    if b >= 0:
        for e in range(start[b], start[b + 1]):
            if other[e] != a:
                there = chip[other[e]]
                change += weight[e] * (back[there] - to[there])
    return change


@numba.njit(cache=True, nogil=True)
def _load(
    part: int,
    skip: int,
    sign: float,
    chip: Int32Array,
    start: Int64Array,
    other: Int32Array,
    out: FloatArray,
    into: FloatArray,
    link_to: Int8Array,
    neighbours: Int32Array,
    load: FloatArray,
) -> float:
    """Add (or with sign -1 remove) the packets of a part to and from all others but ``skip``; return the change of the sum of squares."""
    change = 0.0
    own = chip[part]
    for e in range(start[part], start[part + 1]):
        if other[e] == skip:
            continue
        there = chip[other[e]]
        for way in range(2):
            here, end, packets = (own, there, out[e]) if way == 0 else (there, own, into[e])
            if packets == 0.0:
                continue
            packets *= sign
            while here != end:
                link = link_to[end, here]
                if link < 0:
                    break
                change += packets * (2.0 * load[here, link] + packets)
                load[here, link] += packets
                here = neighbours[here, link]
    return change


@numba.njit(cache=True, nogil=True)
def link_loads(
    chip: Int32Array, start: Int64Array, other: Int32Array, out: FloatArray, link_to: Int8Array, neighbours: Int32Array
) -> FloatArray:
    """Packets per step over each link, (chips, links), if every packet from part to part went alone over the way of :func:`ways`."""
    load = np.zeros(neighbours.shape)
    nothing = np.zeros(len(out))
    for part in range(len(start) - 1):
        _load(part, -1, 1.0, chip, start, other, out, nothing, link_to, neighbours, load)
    return load


@numba.njit(cache=True, nogil=True)
def anneal_proposals(
    chip: Int32Array,
    movable: Int32Array,
    fixed: npt.NDArray[np.bool_],
    start: Int64Array,
    other: Int32Array,
    weight: FloatArray,
    out: FloatArray,
    into: FloatArray,
    distance: Int16Array,
    link_to: Int8Array,
    neighbours: Int32Array,
    cost: FloatArray,
    used: FloatArray,
    limit: FloatArray,
    on_chip: Int32Array,
    n_on_chip: Int32Array,
    open_chip: npt.NDArray[np.bool_],
    random: State,
    load: FloatArray,
    price: float,
    hot: float,
    cold: float,
    first: int,
    last: int,
    total: int,
) -> None:
    """Proposals ``first`` .. ``last`` - 1 of ``total``: accept what lowers sum(weight * distance) + price * sum(load^2), and what raises it
    with the probability of the temperature, which falls from ``hot`` to ``cold`` by a constant factor. ``load``: of :func:`link_loads`.

    A proposal whose ways alone are far too long for the temperature is not looked at further, although loads might make up for it: most
    proposals end there. Writes the placement (``chip``, ``used``, ``on_chip``, ``n_on_chip``) and ``load``.
    """
    for i in range(first, last):
        a, cb, b = _propose(random, movable, fixed, chip, start, other, neighbours, on_chip, n_on_chip, open_chip)
        if cb < 0:
            continue
        ca = chip[a]
        if not _legal(a, b, ca, cb, cost, used, limit):
            continue
        temperature = hot * (cold / hot) ** (i / total)
        d = _longer(a, b, ca, cb, chip, start, other, weight, distance)
        allowed = -np.log(1.0 - uniform(random)) * temperature
        if d > 0 and d > 4.0 * allowed + 8.0 * temperature:
            continue
        squares = _load(a, -1, -1.0, chip, start, other, out, into, link_to, neighbours, load)
        if b >= 0:
            squares += _load(b, a, -1.0, chip, start, other, out, into, link_to, neighbours, load)
        _take(a, b, ca, cb, chip, cost, used, on_chip, n_on_chip)
        squares += _load(a, -1, 1.0, chip, start, other, out, into, link_to, neighbours, load)
        if b >= 0:
            squares += _load(b, a, 1.0, chip, start, other, out, into, link_to, neighbours, load)
        if d + price * squares > allowed:
            _load(a, -1, -1.0, chip, start, other, out, into, link_to, neighbours, load)
            if b >= 0:
                _load(b, a, -1.0, chip, start, other, out, into, link_to, neighbours, load)
                _take(b, a, ca, cb, chip, cost, used, on_chip, n_on_chip)
            else:
                _take(a, -1, cb, ca, chip, cost, used, on_chip, n_on_chip)
            _load(a, -1, 1.0, chip, start, other, out, into, link_to, neighbours, load)
            if b >= 0:
                _load(b, a, 1.0, chip, start, other, out, into, link_to, neighbours, load)
