"""Compiled loops that draw which sources connect to a target. One function a rule; all are exact samplers of their rule.

Each returns ``(sources, counts)`` for the targets ``start .. start + len(counts) - 1``: the sources of one target after the other, rising
within a target. ``limit`` ends the work early: a target that would push the total above it is left out, unless it is the first.

* fixed_probability: the gaps between connected sources are geometric, so a target costs its synapses and not its candidates
  (``floor(log(u) / log(1 - p))``; Devroye, "Non-uniform random variate generation", 1986, X.2).
* fixed_indegree / fixed_outdegree: Floyd's sampling without replacement, ``degree`` draws (Bentley & Floyd, CACM 30(9), 1987).
* distance_dependent: pair (target, source) is connected if draw number ``source`` of the target's row is below the pair's probability;
  a grid of cells at least one radius wide finds the pairs within the radius.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.ir._types import BoolArray, FloatArray, Int32Array, IntArray
from neurocompile.ir.counter_rng import UInt64Array, below, philox, unit_half_open, unit_low_open


@njit(cache=True, nogil=True)
def _grown(array: Int32Array) -> Int32Array:
    larger = np.empty(2 * len(array) + 16, np.int32)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True)
def fixed_probability_rows(
    key: UInt64Array, start: int, stop: int, limit: int, n_pre: int, probability: float, no_self: bool
) -> tuple[Int32Array, IntArray]:
    """Draw each pair with ``probability`` in (0, 1]; ``no_self`` leaves source i out of target i."""
    candidates = n_pre - 1 if no_self else n_pre
    counts = np.zeros(stop - start, np.int64)
    expected = float(stop - start) * candidates * probability
    sources = np.empty(int(min(float(limit), expected + 6.0 * np.sqrt(expected))) + 16, np.int32)
    words = np.empty(4, np.uint64)
    scale = 1.0 / np.log1p(-probability) if probability < 1.0 else 0.0
    total = 0
    for row in range(start, stop):
        first, position, draw = total, -1, 0
        while True:
            if draw & 3 == 0:
                philox(key, np.uint64(draw >> 2), np.uint64(row), words)
            gap = np.floor(np.log(unit_low_open(words[draw & 3])) * scale)
            draw += 1
            if not gap < candidates - 1 - position:  # `not`: a gap of a tiny probability can be infinite or not a number
                break
            position += 1 + int(gap)
            if total == len(sources):
                sources = _grown(sources)
            sources[total] = position + 1 if no_self and position >= row else position
            total += 1
        if total > limit and row > start:
            return sources[:first], counts[: row - start]
        counts[row - start] = total - first
    return sources[:total], counts


@njit(cache=True, nogil=True)
def _sample(key: UInt64Array, row: int, n: int, degree: int, chosen: BoolArray, words: UInt64Array, out: Int32Array) -> None:
    """Write ``degree`` different numbers of 0 .. n-1 to ``out``, unordered; ``chosen`` is scratch (n,), all False before and after."""
    for draw in range(degree):
        top = n - degree + draw
        if draw & 3 == 0:
            philox(key, np.uint64(draw >> 2), np.uint64(row), words)
        number = below(words[draw & 3], top + 1)
        if chosen[number]:
            number = top
        chosen[number] = True
        out[draw] = number
    for k in range(degree):
        chosen[out[k]] = False


@njit(cache=True, nogil=True)
def fixed_indegree_rows(key: UInt64Array, start: int, stop: int, n_pre: int, degree: int, no_self: bool) -> Int32Array:
    """Draw ``degree`` different sources for each target; return the sources alone, shape ((stop - start) * degree,)."""
    candidates = n_pre - 1 if no_self else n_pre
    sources = np.empty((stop - start) * degree, np.int32)
    chosen = np.zeros(candidates, np.bool_)
    words = np.empty(4, np.uint64)
    for row in range(start, stop):
        part = sources[(row - start) * degree : (row - start + 1) * degree]
        _sample(key, row, candidates, degree, chosen, words, part)
        part.sort()
        if no_self:
            for k in range(degree):
                if part[k] >= row:
                    part[k] += 1
    return sources


@njit(cache=True, nogil=True)
def fixed_outdegree_counts(key: UInt64Array, start: int, stop: int, n_pre: int, n_post: int, degree: int, no_self: bool) -> IntArray:
    """Count the sources of each target start .. stop-1 where every source draws ``degree`` different targets."""
    counts = np.zeros(stop - start, np.int64)
    candidates = n_post - 1 if no_self else n_post
    chosen, words, part = np.zeros(candidates, np.bool_), np.empty(4, np.uint64), np.empty(degree, np.int32)
    for row in range(n_pre):
        _sample(key, row, candidates, degree, chosen, words, part)
        for k in range(degree):
            target = part[k] + 1 if no_self and part[k] >= row else part[k]
            if start <= target < stop:
                counts[target - start] += 1
    return counts


@njit(cache=True, nogil=True)
def fixed_outdegree_rows(key: UInt64Array, start: int, counts: IntArray, n_pre: int, n_post: int, degree: int, no_self: bool) -> Int32Array:
    """Return the sources of the targets start .. start + len(counts) - 1, whose ``counts`` are known."""
    sources = np.empty(counts.sum(), np.int32)
    following = np.cumsum(counts) - counts
    stop = start + len(counts)
    candidates = n_post - 1 if no_self else n_post
    chosen, words, part = np.zeros(candidates, np.bool_), np.empty(4, np.uint64), np.empty(degree, np.int32)
    for row in range(n_pre):  # rising sources, so each target's sources rise
        _sample(key, row, candidates, degree, chosen, words, part)
        for k in range(degree):
            target = part[k] + 1 if no_self and part[k] >= row else part[k]
            if start <= target < stop:
                sources[following[target - start]] = row
                following[target - start] += 1
    return sources


@njit(cache=True, nogil=True)
def cell_lists(cell_of: IntArray, n_cells: int) -> tuple[IntArray, Int32Array]:
    """Return (pointers, members): the members of each cell, rising, by counting sort."""
    pointers = np.zeros(n_cells + 1, np.int64)
    for cell in cell_of:
        pointers[cell + 1] += 1
    pointers = np.cumsum(pointers)
    following = pointers.copy()
    members = np.empty(len(cell_of), np.int32)
    for k in range(len(cell_of)):
        members[following[cell_of[k]]] = k
        following[cell_of[k]] += 1
    return pointers, members


@njit(cache=True, nogil=True)
def distance_rows(
    key: UInt64Array,
    start: int,
    stop: int,
    limit: int,
    pre: FloatArray,
    post: FloatArray,
    period: FloatArray,
    origin: FloatArray,
    width: FloatArray,
    n_cells: IntArray,
    pointers: IntArray,
    members: Int32Array,
    probability: float,
    scale: float,
    gaussian: bool,
    radius: float,
    no_self: bool,
) -> tuple[Int32Array, IntArray]:
    """Draw pairs by distance. ``pre`` (n_pre, 3), ``post`` (n_post, 3); ``period`` (3,): 0 = open border; cells as from the grid."""
    counts = np.zeros(stop - start, np.int64)
    sources = np.empty(1024, np.int32)
    words = np.empty(4, np.uint64)
    visit = np.empty((3, max(3, n_cells.max())), np.int64)
    n_visit = np.empty(3, np.int64)
    total = 0
    for row in range(start, stop):
        first = total
        for d in range(3):
            n = n_cells[d]
            n_visit[d] = 0
            if period[d] > 0.0 and n < 3:  # on a small torus left and right neighbour are the same cell: visit each once
                for c in range(n):
                    visit[d, c] = c
                n_visit[d] = n
                continue
            home = int(np.floor(min(max((post[row, d] - origin[d]) / width[d], -2.0), n + 1.0)))
            for c in range(home - 1, home + 2):
                if period[d] > 0.0:
                    visit[d, n_visit[d]] = c % n
                    n_visit[d] += 1
                elif 0 <= c < n:
                    visit[d, n_visit[d]] = c
                    n_visit[d] += 1
        block = np.int64(-1)
        for i in range(n_visit[0]):
            for j in range(n_visit[1]):
                for k in range(n_visit[2]):
                    cell = (visit[0, i] * n_cells[1] + visit[1, j]) * n_cells[2] + visit[2, k]
                    for m in range(pointers[cell], pointers[cell + 1]):
                        source = np.int64(members[m])
                        square = 0.0
                        for d in range(3):
                            delta = post[row, d] - pre[source, d]
                            if period[d] > 0.0:
                                delta -= period[d] * np.rint(delta / period[d])
                            square += delta * delta
                        if square > radius * radius or (no_self and source == row):
                            continue
                        if source >> 2 != block:
                            block = source >> 2
                            philox(key, np.uint64(block), np.uint64(row), words)
                        fall = -square / (2.0 * scale * scale) if gaussian else -np.sqrt(square) / scale
                        if unit_half_open(words[source & 3]) < probability * np.exp(fall):
                            if total == len(sources):
                                sources = _grown(sources)
                            sources[total] = source
                            total += 1
        if total > limit and row > start:
            return sources[:first], counts[: row - start]
        sources[first:total].sort()
        counts[row - start] = total - first
    return sources[:total], counts


@njit(cache=True, nogil=True)
def counting_sort(keys: Int32Array, values: Int32Array, n: int) -> tuple[IntArray, Int32Array, IntArray]:
    """Sort synapses stably by ``keys`` in 0 .. n-1; return (indptr (n+1,), values sorted (m,), old index of each (m,))."""
    indptr = np.zeros(n + 1, np.int64)
    for k in keys:
        indptr[k + 1] += 1
    indptr = np.cumsum(indptr)
    following = indptr.copy()
    indices, synapse = np.empty(len(keys), np.int32), np.empty(len(keys), np.int64)
    for m in range(len(keys)):
        place = following[keys[m]]
        indices[place], synapse[place] = values[m], m
        following[keys[m]] = place + 1
    return indptr, indices, synapse
