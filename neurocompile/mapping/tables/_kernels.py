"""Compiled loops of table minimisation; :mod:`neurocompile.mapping.tables.minimise` says what they do and why."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping._random import shuffled
from neurocompile.mapping.types import Int64Array

UInt32Array = npt.NDArray[np.uint32]


@numba.njit(cache=True, nogil=True)
def _catches(key: int, mask: int, keys: UInt32Array, masks: UInt32Array, first: int) -> bool:
    """Return whether some packet matches both the cube (key, mask) and one of the entries from ``first`` on."""
    for o in range(first, len(keys)):  # noqa: SIM110 -- compiled: numba has no any()
        if (key ^ keys[o]) & (mask & masks[o]) == 0:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def merge_pairs(
    members: Int64Array,
    key: UInt32Array,
    mask: UInt32Array,
    off_key: UInt32Array,
    off_mask: UInt32Array,
    off_from: int,
    blocked_key: UInt32Array,
    blocked_mask: UInt32Array,
    out_key: UInt32Array,
    out_mask: UInt32Array,
) -> int:
    """Merge the entries ``members`` of one group; write the cubes that remain and return their number.

    ``off``: from ``off_from`` on, what no cube may match; ``blocked``: the same. A pair that failed stays failed when its entries have
    grown, so one pass over the pairs is enough.
    """
    n = len(members)
    alive = np.ones(n, np.bool_)
    n_out = 0
    for i in range(n):
        if not alive[i]:
            continue
        k, m = key[members[i]], mask[members[i]]
        for j in range(i + 1, n):
            if not alive[j]:
                continue
            other = members[j]
            new_mask = m & mask[other] & ~(k ^ key[other])
            new_key = k & new_mask
            if not (_catches(new_key, new_mask, off_key, off_mask, off_from) or _catches(new_key, new_mask, blocked_key, blocked_mask, 0)):
                k, m = new_key, new_mask
                alive[j] = False
        out_key[n_out], out_mask[n_out] = k, m
        n_out += 1
    return n_out


@numba.njit(cache=True, nogil=True)
def merge_all(
    key: UInt32Array,
    mask: UInt32Array,
    start: Int64Array,
    order: Int64Array,
    blocked_key: UInt32Array,
    blocked_mask: UInt32Array,
    cube_key: UInt32Array,
    cube_mask: UInt32Array,
    n_cubes: Int64Array,
    line_key: UInt32Array,
    line_mask: UInt32Array,
    line_start: Int64Array,
) -> None:
    """Merge every group against the groups behind it.

    Entries lie group after group (``start``); ``order``: groups in order of match. Writes the cubes of group g from ``start[g]`` on, their
    number to ``n_cubes[g]``, and the entries in order of match to ``line`` (``line_start``: first entry of each place).
    """
    at = 0
    for p in range(len(order)):
        g = order[p]
        line_start[p] = at
        for e in range(start[g], start[g + 1]):
            line_key[at], line_mask[at] = key[e], mask[e]
            at += 1
    line_start[len(order)] = at
    for p in range(len(order)):
        g = order[p]
        b, e = start[g], start[g + 1]
        n_cubes[g] = merge_pairs(
            np.arange(b, e),
            key,
            mask,
            line_key,
            line_mask,
            line_start[p + 1],
            blocked_key,
            blocked_mask,
            cube_key[b:e],
            cube_mask[b:e],
        )


@numba.njit(cache=True, nogil=True)
def first_free_place(
    keys: UInt32Array,
    masks: UInt32Array,
    place: int,
    line_key: UInt32Array,
    line_mask: UInt32Array,
    line_start: Int64Array,
    blocked_key: UInt32Array,
    blocked_mask: UInt32Array,
) -> int:
    """The first place behind ``place`` at which some pair of these cubes could merge; the number of places if there is none."""
    n_places = len(line_start) - 1
    best = n_places
    for i in range(len(keys)):
        for j in range(i + 1, len(keys)):
            mask = masks[i] & masks[j] & ~(keys[i] ^ keys[j])
            key = keys[i] & mask
            if _catches(key, mask, blocked_key, blocked_mask, 0):
                continue
            last = place
            for o in range(line_start[n_places] - 1, line_start[place + 1] - 1, -1):
                if (key ^ line_key[o]) & (mask & line_mask[o]) == 0:
                    last = int(np.searchsorted(line_start, o, side="right")) - 1
                    break
            best = min(best, last)
    return best


@numba.njit(cache=True, nogil=True)
def improve_round(
    key: UInt32Array,
    mask: UInt32Array,
    start: Int64Array,
    order: Int64Array,
    blocked_key: UInt32Array,
    blocked_mask: UInt32Array,
    cube_key: UInt32Array,
    cube_mask: UInt32Array,
    n_cubes: Int64Array,
    line_key: UInt32Array,
    line_mask: UInt32Array,
    line_start: Int64Array,
    target: int,
    seed: int,
) -> int:
    """Try two changes for every group that is more than one cube; keep what makes the table no longer. Return its length.

    The changes: merge the group's entries in another order; move the group behind those that keep its nearest pair from merging, where
    the groups that it passes are merged anew if one of their cubes catches an entry of it. Stops at ``target`` entries.
    """
    state = np.array([seed], np.uint64)
    n_groups, n = len(order), len(key)
    out_key, out_mask = np.empty(n, np.uint32), np.empty(n, np.uint32)
    saved_key, saved_mask, saved_n = np.empty(n, np.uint32), np.empty(n, np.uint32), np.empty(n_groups, np.int64)
    place = np.empty(n_groups, np.int64)
    for p in range(n_groups):
        place[order[p]] = p
    total = int(n_cubes.sum())
    for g in shuffled(state, 0, n_groups):
        if total <= target:
            break
        if n_cubes[g] <= 1:
            continue
        p, b, e = place[g], start[g], start[g + 1]
        if e - b > 2:
            c = merge_pairs(
                shuffled(state, b, e - b),
                key,
                mask,
                line_key,
                line_mask,
                line_start[p + 1],
                blocked_key,
                blocked_mask,
                out_key,
                out_mask,
            )
            if c <= n_cubes[g]:
                total += c - n_cubes[g]
                n_cubes[g] = c
                cube_key[b : b + c], cube_mask[b : b + c] = out_key[:c], out_mask[:c]
        last = b + n_cubes[g]
        q = first_free_place(cube_key[b:last], cube_mask[b:last], p, line_key, line_mask, line_start, blocked_key, blocked_mask)
        if q in (n_groups, p):
            continue
        # The line with group g behind place q: the groups in between move forward by its size.
        size, first, end = e - b, line_start[p], line_start[q + 1]
        between_key, between_mask = line_key[first + size : end].copy(), line_mask[first + size : end].copy()
        line_key[first : end - size], line_mask[first : end - size] = between_key, between_mask
        line_key[end - size : end], line_mask[end - size : end] = key[b:e], mask[b:e]
        c = merge_pairs(np.arange(b, e), key, mask, line_key, line_mask, end, blocked_key, blocked_mask, saved_key[b:e], saved_mask[b:e])
        saved_n[g] = c
        change = c - n_cubes[g]
        changed = [g]
        for passed in range(p + 1, q + 1):
            if change > 0:
                break
            h = order[passed]
            hb, he = start[h], start[h + 1]
            hit = False
            if n_cubes[h] < he - hb:
                for i in range(hb, hb + n_cubes[h]):
                    if _catches(cube_key[i], cube_mask[i], key[b:e], mask[b:e], 0):
                        hit = True
                        break
            if hit:
                c = merge_pairs(
                    np.arange(hb, he),
                    key,
                    mask,
                    line_key,
                    line_mask,
                    line_start[passed + 1] - size,
                    blocked_key,
                    blocked_mask,
                    saved_key[hb:he],
                    saved_mask[hb:he],
                )
                saved_n[h] = c
                change += c - n_cubes[h]
                changed.append(h)
        if change > 0:
            line_key[first : first + size], line_mask[first : first + size] = key[b:e], mask[b:e]
            line_key[first + size : end], line_mask[first + size : end] = between_key, between_mask
            continue
        total += change
        for h in changed:
            hb = start[h]
            c = saved_n[h]
            cube_key[hb : hb + c], cube_mask[hb : hb + c], n_cubes[h] = saved_key[hb : hb + c], saved_mask[hb : hb + c], c
        for t in range(p, q):
            order[t] = order[t + 1]
            line_start[t] = line_start[t + 1] - size
            place[order[t]] = t
        order[q], line_start[q], place[g] = g, end - size, q
    return total
