"""Distinct targets of each source, from lists of synapses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.types import Int32Array, Int64Array

Ints = npt.NDArray[np.integer[Any]]


def distinct_targets(n: int, synapses: Iterable[tuple[Ints, Ints, int, int]]) -> tuple[Int64Array, Int32Array]:
    """Return CSR by source of the distinct targets of ``n`` neurons, sorted: int64 (n + 1,) and int32 (edges,).

    ``synapses``: (pre, post, number of the first neuron of pre's population, of post's), in any order, repeated pairs allowed. Beside what
    is given it takes 4 bytes a synapse.
    """
    lists = list(synapses)
    count = np.zeros(n + 1, np.int64)
    for pre, _, first, _ in lists:
        _count(pre, first, count)
    start = np.cumsum(count)
    target = np.empty(start[-1], np.int32)
    at = start[:-1].copy()
    for pre, post, first_pre, first_post in lists:
        _fill(pre, post, first_pre, first_post, at, target)
    length = _distinct(start, target)
    return start, target[:length].copy() if length < len(target) else target


@numba.njit(cache=True, nogil=True)
def _count(pre: Ints, first: int, count: Int64Array) -> None:
    for source in pre:
        count[first + source + 1] += 1


@numba.njit(cache=True, nogil=True)
def _fill(pre: Ints, post: Ints, first_pre: int, first_post: int, at: Int64Array, target: Int32Array) -> None:
    for i in range(len(pre)):
        source = first_pre + pre[i]
        target[at[source]] = first_post + post[i]
        at[source] += 1


@numba.njit(cache=True, nogil=True)
def _distinct(start: Int64Array, target: Int32Array) -> int:
    """Sort each row and drop repeated targets, in place (``start`` too); how many are left."""
    end = 0
    begin = start[0]
    for row in range(len(start) - 1):
        last = start[row + 1]
        ordered = True
        for i in range(begin + 1, last):
            ordered &= target[i] > target[i - 1]
        if not ordered:
            target[begin:last].sort()
        start[row] = end
        for i in range(begin, last):
            if i == begin or target[i] != target[i - 1]:
                kept = target[i]
                target[end] = kept
                end += 1
        begin = last
    start[len(start) - 1] = end
    return end


__all__ = ["Ints", "distinct_targets"]
