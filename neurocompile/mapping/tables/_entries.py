"""Compiled loop from blocks of keys to table entries."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.types import Int32Array, Int64Array


@numba.njit(cache=True, nogil=True)
def block_entries(
    source_part: Int32Array,
    tree: Int32Array,
    target_start: Int64Array,
    targets: Int32Array,
    tree_start: Int64Array,
    hops: Int32Array,
    part_chip: Int32Array,
    core_bits: npt.NDArray[np.uint64],
    n_chips: int,
) -> tuple[Int64Array, Int64Array, npt.NDArray[np.bool_], npt.NDArray[np.uint64]]:
    """Return chip, block, whether default-routed, and output words (links, then words of ``core_bits``) of each entry.

    The arguments describe one route of each block. It has an entry at its source's chip and at every chip that its tree enters, in this
    order.
    """
    n_words = core_bits.shape[1]
    n = 0
    for r in range(len(source_part)):
        n += 1 + tree_start[tree[r] + 1] - tree_start[tree[r]]
    chip, block, default = np.empty(n, np.int64), np.empty(n, np.int64), np.zeros(n, np.bool_)
    words = np.zeros((n, 1 + n_words), np.uint64)
    entry_of = np.full(n_chips, -1, np.int64)
    at = 0
    for r in range(len(source_part)):
        first = at
        source = part_chip[source_part[r]]
        chip[at], block[at] = source, r
        entry_of[source] = at
        at += 1
        b, e = tree_start[tree[r]], tree_start[tree[r] + 1]
        for h in range(b, e):
            chip[at], block[at] = hops[h, 2], r
            entry_of[hops[h, 2]] = at
            at += 1
        for h in range(b, e):
            words[entry_of[hops[h, 0]], 0] |= np.uint64(1) << np.uint64(hops[h, 1])
        for t in range(target_start[r], target_start[r + 1]):
            here = entry_of[part_chip[targets[t]]]
            for w in range(n_words):
                words[here, 1 + w] |= core_bits[targets[t], w]
        for h in range(b, e):
            i = first + 1 + h - b
            straight = words[i, 0] == np.uint64(1) << np.uint64(hops[h, 1])
            for w in range(n_words):
                straight &= words[i, 1 + w] == 0
            default[i] = straight
    return chip, block, default, words
