"""Tables whose entries overlap: the same routing as a table in which entries of different routes do not."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.tables._kernels import UInt32Array
from neurocompile.mapping.types import Int64Array


@numba.njit(cache=True, nogil=True)
def disjoint(key: UInt32Array, mask: UInt32Array, label: Int64Array, most: int) -> tuple[UInt32Array, UInt32Array, Int64Array]:
    """Cut from every entry what earlier entries of another label catch.

    An entry minus another is one entry for each bit that only the other looks at: the first differs from it in the first of these bits, the
    second agrees in the first and differs in the second, and so on. Bits are taken from the highest.

    Returns
    -------
    key, mask, entry
        Pieces and the number of the entry that each is of; an entry that earlier ones cover has none. Nothing at all (length 0) if there
        were more than ``most`` pieces at any time.
    """
    out_key, out_mask, out_entry = np.empty(most, np.uint32), np.empty(most, np.uint32), np.empty(most, np.int64)
    piece_key, piece_mask = np.empty(most, np.uint32), np.empty(most, np.uint32)
    next_key, next_mask = np.empty(most, np.uint32), np.empty(most, np.uint32)
    n_out = 0
    for e in range(len(key)):
        piece_key[0], piece_mask[0] = key[e], mask[e]
        n = 1
        for i in range(e):
            if label[i] == label[e] or (key[i] ^ key[e]) & (mask[i] & mask[e]) != 0:
                continue
            n_next = 0
            for p in range(n):
                k, m = piece_key[p], piece_mask[p]
                if (key[i] ^ k) & (mask[i] & m) != 0:
                    if n_next == most:
                        return out_key[:0], out_mask[:0], out_entry[:0]
                    next_key[n_next], next_mask[n_next] = k, m
                    n_next += 1
                    continue
                for b in range(31, -1, -1):
                    bit = np.uint32(1) << np.uint32(b)
                    if mask[i] & ~m & bit:
                        if n_next == most:
                            return out_key[:0], out_mask[:0], out_entry[:0]
                        m |= bit
                        next_key[n_next], next_mask[n_next] = k | (~key[i] & bit), m
                        n_next += 1
                        k |= key[i] & bit
            piece_key, next_key = next_key, piece_key
            piece_mask, next_mask = next_mask, piece_mask
            n = n_next
        if n_out + n > most:
            return out_key[:0], out_mask[:0], out_entry[:0]
        out_key[n_out : n_out + n], out_mask[n_out : n_out + n] = piece_key[:n], piece_mask[:n]
        out_entry[n_out : n_out + n] = e
        n_out += n
    return out_key[:n_out], out_mask[:n_out], out_entry[:n_out]


def minimise_ordered(
    key: UInt32Array,
    mask: UInt32Array,
    route: Int64Array,
    default: npt.NDArray[np.bool_],
    *,
    target_length: int = 0,
    time_limit: float | None = None,
) -> tuple[UInt32Array, UInt32Array, Int64Array, bool]:
    """As :func:`neurocompile.mapping.tables.minimise.minimise`, for entries that may overlap (the first that matches wins).

    Returns
    -------
    key, mask, route, whole
        ``whole``: False where overlaps are so many that cutting them apart would make more than 8 pieces an entry (and 4000), or where
        minimising the pieces gave no shorter table; then the table is as it was, without the entries that an earlier one covers.
    """
    from neurocompile.mapping.tables.minimise import minimise

    key, mask = key.astype(np.uint32) & mask.astype(np.uint32), mask.astype(np.uint32)
    pieces_key, pieces_mask, entry = disjoint(key, mask, 2 * route + default, 4000 + 8 * len(key))
    whole = len(entry) > 0 or len(key) == 0
    covered = _covered(key, mask)
    if whole:
        found = minimise(pieces_key, pieces_mask, route[entry], default[entry], target_length=target_length, time_limit=time_limit)
        if len(found[0]) <= int((~covered).sum()):
            return *found, True
    return key[~covered], mask[~covered], route[~covered], False


def _covered(key: UInt32Array, mask: UInt32Array) -> npt.NDArray[np.bool_]:
    """Entries of which one earlier entry catches every key."""
    found = np.zeros(len(key), bool)
    for e in range(1, len(key)):
        found[e] = (((mask[:e] & ~mask[e]) == 0) & (((key[:e] ^ key[e]) & mask[:e]) == 0)).any()
    return found


__all__ = ["disjoint", "minimise_ordered"]
