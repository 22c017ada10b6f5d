"""Rewiring (docs/eprop.md, "Rewiring"): the random walk of a weight, and the drawing of new pairs."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels.tables import I4, I8, U1, U8
from neurocompile.ir.counter_rng import below, philox_word, unit_normal, unit_open

SLOT_BITS = 40
"""``Walk.tag`` of a synapse: number of its rewired projection, from 1, << SLOT_BITS | its canonical number there (slot); else 0."""
_SLOT = (1 << SLOT_BITS) - 1
TRIES = 1024
"""Draws of a pair before the free pairs are counted through: one in 3e4 synapses at 1 % of free pairs, and only there that is cheap."""
_ATTEMPT_BITS = 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def walked(weight: float, negative: bool, since: int, now: int, l1: float, noise: float, keys: U8, tag: int) -> float:
    """Return a weight after the pull towards 0 and the random walk of the steps from ``since`` (~step: no event yet) to ``now``."""
    n = now - (since if since >= 0 else ~since)
    if n <= 0:
        return weight
    weight += n * l1 if negative else -n * l1
    if noise > 0.0:
        projection = tag >> SLOT_BITS
        word = philox_word(keys[projection, 0], keys[projection, 1], np.uint64(now), np.uint64(tag & _SLOT))
        weight += noise * math.sqrt(n) * unit_normal(unit_open(word))
    return weight


@njit(cache=True, nogil=True)
def steps_optimizer(since: int, now: int, batch: int) -> bool:
    """Return whether the optimizer of a synapse steps at an event: always, or with update intervals if one has ended since it last did
    (never at the first event, which starts the traces)."""
    return batch == 1 or (since >= 0 and max(since - 1, 0) // batch < (now - 1) // batch)


@njit(cache=True, nogil=True)
def _find(table: I8, pair: int) -> int:
    """Return where a pair is in a hash table (-1: nothing), or where it would be put."""
    mask = table.size - 1
    place = np.int64((np.uint64(pair) * _GOLDEN) >> np.uint64(20)) & mask
    while table[place] != -1 and table[place] != pair:
        place = (place + 1) & mask
    return place  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def _pair(number: int, n_post: int, autapses: bool) -> int:
    """Return source * n_post + target of a pair by its number among those that are allowed."""
    if autapses:
        return number
    source, target = number // (n_post - 1), number % (n_post - 1)
    return source * n_post + target + (target >= source)


@njit(cache=True, nogil=True)
def draw_pairs(k0: np.uint64, k1: np.uint64, number: int, slots: I8, pre: I4, post: I4, n_pre: int, n_post: int, autapses: bool) -> U1:
    """Move the synapses ``slots`` of a projection, one after the other, each to a pair that is free at that moment; in place.

    Draw k of a slot is the first word of counter (number << 16 | k, slot): a pair, drawn again while it is taken. After TRIES of them one
    more draw chooses among the free pairs in their order. Pairs are numbered by source, then target, autapses left out unless allowed.
    Returns whether each slot has moved: not if there was no free pair.
    """
    n_pairs = n_pre * (n_post if autapses else n_post - 1)
    size = 16
    while size < 2 * (pre.size + slots.size):  # pairs that have become free keep their places
        size *= 2
    table, count = np.full(size, -1, np.int64), np.zeros(size, np.int32)
    taken = 0
    for synapse in range(pre.size):
        pair = pre[synapse] * n_post + post[synapse]
        place = _find(table, pair)
        table[place] = pair
        count[place] += 1
        if count[place] == 1 and (autapses or pre[synapse] != post[synapse]):
            taken += 1
    moved = np.zeros(slots.size, np.uint8)
    for item in range(slots.size):
        slot = slots[item]
        free = n_pairs - taken
        if free <= 0:
            continue
        new, found = 0, False
        for attempt in range(TRIES):
            word = philox_word(k0, k1, np.uint64(number << _ATTEMPT_BITS | attempt), np.uint64(slot))
            new = _pair(below(word, n_pairs), n_post, autapses)
            found = count[_find(table, new)] == 0
            if found:
                break
        if not found:
            left = below(philox_word(k0, k1, np.uint64(number << _ATTEMPT_BITS | TRIES), np.uint64(slot)), free)
            for chosen in range(n_pairs):
                new = _pair(chosen, n_post, autapses)
                left -= count[_find(table, new)] == 0
                if left < 0:
                    break
        old = _find(table, pre[slot] * n_post + post[slot])
        count[old] -= 1
        if count[old] == 0 and (autapses or pre[slot] != post[slot]):
            taken -= 1
        place = _find(table, new)
        table[place] = new
        count[place] += 1
        taken += 1
        pre[slot], post[slot] = new // n_post, new % n_post
        moved[item] = 1
    return moved


__all__ = ["SLOT_BITS", "TRIES", "draw_pairs", "steps_optimizer", "walked"]
