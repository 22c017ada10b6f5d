"""Compiled loops of the placers."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array


@numba.njit(cache=True)
def swap_parts(
    chip: Int32Array,
    width: Int32Array,
    external: npt.NDArray[np.bool_],
    start: Int64Array,
    neighbours: Int32Array,
    traffic: Int32Array,
    distance: npt.NDArray[np.int16],
    part_cost: FloatArray,
    chip_limit: FloatArray,
    first: Int32Array,
    second: Int32Array,
) -> int:
    """Exchange the chips of parts (first[i], second[i]) where that lowers sum(traffic * distance) and keeps the chip limits.

    ``start``, ``neighbours``, ``traffic``: symmetric CSR over parts. Only parts of equal width are exchanged, so cores stay legal.
    ``part_cost``: (n_resources, n_parts). Returns the gain; writes ``chip``.
    """
    n_resources = len(chip_limit)
    used = np.zeros((n_resources, len(distance)))
    for p in range(len(chip)):
        if not external[p]:
            for r in range(n_resources):
                used[r, chip[p]] += part_cost[r, p]
    total = 0
    for i in range(len(first)):
        a, b = first[i], second[i]
        ca, cb = chip[a], chip[b]
        if ca == cb or width[a] != width[b] or external[a] or external[b]:
            continue
        gain = 0
        for e in range(start[a], start[a + 1]):
            n = neighbours[e]
            if n not in (a, b):
                gain += traffic[e] * (np.int64(distance[ca, chip[n]]) - np.int64(distance[cb, chip[n]]))
        for e in range(start[b], start[b + 1]):
            n = neighbours[e]
            if n not in (a, b):
                gain += traffic[e] * (np.int64(distance[cb, chip[n]]) - np.int64(distance[ca, chip[n]]))
        if gain <= 0:
            continue
        legal = True
        for r in range(n_resources):
            change = part_cost[r, b] - part_cost[r, a]
            if used[r, ca] + change > chip_limit[r] or used[r, cb] - change > chip_limit[r]:
                legal = False
        if legal:
            for r in range(n_resources):
                change = part_cost[r, b] - part_cost[r, a]
                used[r, ca] += change
                used[r, cb] -= change
            chip[a], chip[b] = cb, ca
            total += gain
    return total
