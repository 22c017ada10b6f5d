"""Rows of numbers in CSR arrays: equal ones, unions, selections."""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.problem import Int32Array
from neurocompile.mapping.types import Int64Array


@numba.njit(cache=True, nogil=True)
def _hash(label: int, start: int, end: int, values: Int32Array) -> np.uint64:
    h = (np.uint64(14695981039346656037) ^ np.uint64(label)) * np.uint64(1099511628211)
    for i in range(start, end):
        h = (h ^ np.uint64(values[i])) * np.uint64(1099511628211)
        h ^= h >> np.uint64(29)
    return h


@numba.njit(cache=True, nogil=True)
def distinct_rows(label: Int32Array, start: Int64Array, values: Int32Array) -> tuple[Int64Array, Int64Array]:
    """Number the different (label, row) pairs in the order in which they first come.

    Parameters
    ----------
    label
        int32 (n,), >= 0.
    start, values
        CSR of n rows; two rows are the same if they have the same values in the same order.

    Returns
    -------
    number, first
        int64 (n,), number of each row; int64 (n_numbers,), the first row of each number.
    """
    n = len(label)
    size = 4
    while size < 2 * n:
        size *= 2
    table = np.full(size, -1, np.int64)
    number, first = np.empty(n, np.int64), np.empty(n, np.int64)
    n_numbers = 0
    for row in range(n):
        b, length = start[row], start[row + 1] - start[row]
        slot = np.int64(_hash(label[row], b, b + length, values) & np.uint64(size - 1))
        while True:
            g = table[slot]
            if g < 0:
                table[slot] = n_numbers
                first[n_numbers] = row
                number[row] = n_numbers
                n_numbers += 1
                break
            other = first[g]
            ob = start[other]
            same = label[other] == label[row] and start[other + 1] - ob == length
            i = 0
            while same and i < length:
                same = values[ob + i] == values[b + i]
                i += 1
            if same:
                number[row] = g
                break
            slot = (slot + 1) & (size - 1)
    return number, first[:n_numbers].copy()


@numba.njit(cache=True, nogil=True)
def unite_rows(
    member_start: Int64Array, members: Int64Array, start: Int64Array, values: Int32Array, n_values: int
) -> tuple[Int64Array, Int32Array]:
    """CSR of the sorted union of some rows each: row i of the result is that of rows ``members[member_start[i] : member_start[i + 1]]``.

    Values are 0 .. ``n_values`` - 1.
    """
    n = len(member_start) - 1
    stamp = np.full(n_values, -1, np.int64)
    united = np.zeros(n + 1, np.int64)
    found = np.empty(0, np.int32)
    for fill in range(2):
        if fill == 1:
            found = np.empty(united[n], np.int32)
            stamp[:] = -1
        at = 0
        for g in range(n):
            first = at
            for m in range(member_start[g], member_start[g + 1]):
                for e in range(start[members[m]], start[members[m] + 1]):
                    if stamp[values[e]] != g:
                        stamp[values[e]] = g
                        if fill == 1:
                            found[at] = values[e]
                        at += 1
            if fill == 1:
                found[first:at].sort()
            united[g + 1] = at
    return united, found


def take_rows(rows: Int64Array, start: Int64Array, values: Int32Array) -> tuple[Int64Array, Int32Array]:
    """CSR of the rows with these numbers."""
    lengths = np.diff(start)[rows]
    taken = starts_of(lengths)
    within = np.arange(taken[-1]) - np.repeat(taken[:-1], lengths)
    return taken, values[np.repeat(start[:-1][rows], lengths) + within]


def starts_of(lengths: Int64Array) -> Int64Array:
    """Where rows of these lengths begin, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]).astype(np.int64)


__all__ = ["distinct_rows", "starts_of", "take_rows", "unite_rows"]
