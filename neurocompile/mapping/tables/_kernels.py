"""Compiled loops of table minimisation."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.types import Int64Array

UInt32Array = npt.NDArray[np.uint32]


@numba.njit(cache=True)
def merge_groups(
    key: UInt32Array, mask: UInt32Array, group_start: Int64Array, blocked_key: UInt32Array, blocked_mask: UInt32Array
) -> tuple[UInt32Array, UInt32Array, Int64Array]:
    """Merge pairs inside each group; see :mod:`neurocompile.mapping.tables.minimise`.

    Entries lie group after group (``group_start``: first entry of each group, and the total). ``blocked``: keys that no merged entry may
    match. Returns the surviving keys, masks, and the group of each.
    """
    n = len(key)
    n_groups = len(group_start) - 1
    out_key = key.copy()
    out_mask = mask.copy()
    out_group = np.empty(n, np.int64)
    n_out = 0
    alive = np.ones(n, np.bool_)
    for g in range(n_groups):
        begin, end = group_start[g], group_start[g + 1]
        for i in range(begin, end):
            if not alive[i]:
                continue
            k, m = key[i], mask[i]
            for j in range(i + 1, end):
                if not alive[j]:
                    continue
                new_mask = m & mask[j] & ~(k ^ key[j])
                new_key = k & new_mask
                hit = False
                for other in range(end, n):
                    if (new_key ^ key[other]) & (new_mask & mask[other]) == 0:
                        hit = True
                        break
                if not hit:
                    for other in range(len(blocked_key)):
                        if (new_key ^ blocked_key[other]) & (new_mask & blocked_mask[other]) == 0:
                            hit = True
                            break
                if not hit:
                    k, m = new_key, new_mask
                    alive[j] = False
            out_key[n_out], out_mask[n_out], out_group[n_out] = k, m, g
            n_out += 1
    return out_key[:n_out], out_mask[:n_out], out_group[:n_out]
