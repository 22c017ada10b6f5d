"""Pair-merge minimisation of a routing table (first match wins).

Entries with the same route are candidates to become one: the merged entry keeps the bits on which both agree and ignores the others.
That may catch keys of other entries. It does no harm if those stand earlier in the table, so the table is ordered by route, rarest route
first (few entries, few chances to merge, so they go where they shield the others), and a merge is taken if it catches no entry of a
later route and no key that is default-routed because its entry was left out. Entries that default routing replaces are left out first.
A failed pair stays failed when its entries have grown, so one pass over the pairs of a route suffices.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurocompile.mapping.tables._kernels import UInt32Array, merge_groups
from neurocompile.mapping.types import Int64Array


def minimise(
    key: UInt32Array, mask: UInt32Array, route: Int64Array, default: npt.NDArray[np.bool_]
) -> tuple[UInt32Array, UInt32Array, Int64Array]:
    """Return a smaller table that routes every key of the given one in the same way.

    Parameters
    ----------
    key, mask : uint32 (n,)
        Entries that do not overlap.
    route : int64 (n,)
        Number of each entry's route (links and cores).
    default : bool (n,)
        Entries that default routing makes unnecessary.

    Returns
    -------
    key, mask, route
        In order of match.
    """
    keep = ~default
    routes, inverse, counts = np.unique(route[keep], return_inverse=True, return_counts=True)
    order = np.lexsort((key[keep], inverse, counts[inverse]))
    ranked = np.argsort(np.lexsort((np.arange(len(routes)), counts)))[inverse][order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.zeros(0, np.int64)
    group_start = np.append(starts, len(ranked)).astype(np.int64)
    new_key, new_mask, group = merge_groups(key[keep][order], mask[keep][order], group_start, key[default], mask[default])
    of_group = route[keep][order][starts]
    return new_key, new_mask, of_group[group] if len(of_group) else np.zeros(0, np.int64)
