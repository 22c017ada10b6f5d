"""Synapses between the same two neurons, numbered: a connection process holds one synapse of each pair, repeated ones go to others."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import Int32Array, IntArray
from neurocompile.ir.errors import InputError
from neurocompile.ir.sampling import counting_sort

UInt8Array = npt.NDArray[np.uint8]
_MOST = 256


def number_repeats(pre: Int32Array, post: Int32Array) -> UInt8Array:
    """Number the synapses between the same two neurons 0, 1, .. in their order, uint8 (m,).

    Lists that rise by target and source, or by source and target, without a repeated pair cost one look; others are sorted by source
    (12 bytes a synapse).

    Raises
    ------
    InputError
        NC201: more than 256 synapses between two neurons.
    """
    number = np.zeros(len(pre), np.uint8)
    if _rises(post, pre) or _rises(pre, post):
        return number
    start, target, synapse = counting_sort(pre, post, int(pre.max()) + 1)
    most = _number(start, target, synapse, int(post.max()) + 1, number)
    if most > _MOST:
        raise InputError.of("NC201", f"{most} synapses between the same two neurons, at most {_MOST} are possible")
    return number


@numba.njit(cache=True, nogil=True)
def _rises(first: Int32Array, second: Int32Array) -> bool:
    """Whether the pairs rise strictly."""
    i = 1
    while i < len(first) and (first[i] > first[i - 1] or (first[i] == first[i - 1] and second[i] > second[i - 1])):
        i += 1
    return i >= len(first)


@numba.njit(cache=True, nogil=True)
def _number(start: IntArray, target: Int32Array, synapse: IntArray, n_targets: int, number: UInt8Array) -> int:
    """Fill in the numbers of repeated pairs (of up to 256); the most synapses that a pair has."""
    row = np.full(n_targets, -1, np.int32)
    count = np.zeros(n_targets, np.int64)
    most = 0
    for source in range(len(start) - 1):
        for i in range(start[source], start[source + 1]):
            t = target[i]
            if row[t] != source:
                row[t], count[t] = source, 0
            number[synapse[i]] = count[t] & 255
            count[t] += 1
            most = max(most, count[t])
    return most


__all__ = ["number_repeats"]
