"""Minimisation of a routing table by pair merges and moves of routes (first match wins).

Entries with the same route are candidates to become one: the merged entry keeps the bits on which both agree and ignores the others.
That may catch keys of other entries. It does no harm if those stand earlier in the table, so the table is ordered by route, rarest route
first (few entries, few chances to merge, so they go where they shield the others), and a merge is taken if it catches no entry of a
later route and no key that is default-routed because its entry was left out. Entries that default routing replaces are left out first.

Then rounds of improvement: every route of more than one entry is merged in another order, and moved behind the routes that keep its
nearest pair apart; what it passes is merged anew where the move matters. A change stays if the table becomes no longer. The moves are what
gains most: the pair merge alone needs 130,070 and 140,444 entries on the benchmark of docs/mapping.md, ten rounds 4 % less.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from neurocompile.mapping.tables._kernels import UInt32Array, improve_round, merge_all
from neurocompile.mapping.types import Int64Array

ROUNDS = 30
"""Rounds at most: the hundredth gains 0.1 % over the tenth (benchmark of docs/mapping.md)."""
_ROUNDS_WITHOUT_GAIN = 4


def minimise(
    key: UInt32Array,
    mask: UInt32Array,
    route: Int64Array,
    default: npt.NDArray[np.bool_],
    *,
    target_length: int = 0,
    rounds: int = ROUNDS,
    time_limit: float | None = None,
) -> tuple[UInt32Array, UInt32Array, Int64Array]:
    """Return a smaller table that routes every key of the given one in the same way.

    Parameters
    ----------
    key, mask : uint32 (n,)
        Entries; those of different routes do not overlap (see :func:`neurocompile.mapping.tables.ordered.disjoint`).
    route : int64 (n,)
        Number of each entry's route (links and cores).
    default : bool (n,)
        Entries that default routing makes unnecessary.
    target_length
        Stop as soon as the table is no longer than this; 0: as short as it gets.
    rounds
        Rounds of improvement at most. They also end after 4 without gain.
    time_limit
        Seconds after which no further round begins: the table is right all the same, but how short it is depends on the computer.

    Returns
    -------
    key, mask, route
        In order of match.
    """
    begin = time.perf_counter()
    keep = ~default
    routes, inverse, counts = np.unique(route[keep], return_inverse=True, return_counts=True)
    by_route = np.lexsort((key[keep], inverse))
    kept_key, kept_mask = key[keep][by_route].astype(np.uint32), mask[keep][by_route].astype(np.uint32)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    order = np.argsort(counts, kind="stable").astype(np.int64)  # rarest first
    cube_key, cube_mask, line_key, line_mask = (np.empty(len(kept_key), np.uint32) for _ in range(4))
    n_cubes, line_start = np.empty(len(routes), np.int64), np.empty(len(routes) + 1, np.int64)
    blocked_key, blocked_mask = key[default].astype(np.uint32), mask[default].astype(np.uint32)
    state = (kept_key, kept_mask, start, order, blocked_key, blocked_mask, cube_key, cube_mask, n_cubes, line_key, line_mask, line_start)
    merge_all(*state)
    length, idle = int(n_cubes.sum()), 0
    for number in range(rounds):
        late = time_limit is not None and time.perf_counter() - begin > time_limit
        if length <= max(target_length, len(routes)) or idle == _ROUNDS_WITHOUT_GAIN or late:
            break
        found = improve_round(*state, target_length, number)
        idle = 0 if found < length else idle + 1
        length = found
    if not len(routes):
        return kept_key, kept_mask, np.zeros(0, np.int64)
    rows = np.concatenate([np.arange(start[g], start[g] + n_cubes[g]) for g in order])
    return cube_key[rows], cube_mask[rows], np.repeat(routes[order], n_cubes[order])
