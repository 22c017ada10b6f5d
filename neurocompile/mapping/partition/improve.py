"""From any assignment to a good partition that keeps every limit: repair, dissolve, refine, merge. Every step tests every limit exactly.

- ``repair``: units leave parts that pass a limit, those that cost least first, and go where they fit and cost least; where nothing fits, a
  part is opened.
- ``dissolve``: while there are more parts than wanted, the emptiest part is shared out, if all its units find room.
- ``refine``: rounds over all units in random order: the best move, or exchange, with a gain in weighted km1 (label propagation with exact
  gains), until a round gains less than 1e-4 (or what was asked for) of what is left.
- ``merge``: two parts that fit into one become one, largest common traffic first. Neither refining nor merging ever raises km1.
"""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.partition._passes import eject, eject_order, insert, put_back, sweep, take_out
from neurocompile.mapping.partition._state import State, new_scratch, new_state, over_parts, weighted_km1
from neurocompile.mapping.partition.units import Net, Units
from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

_LARGE_PINS = 20_000_000  # synapses beyond which a network is large: less room in lists, shorter rounds, one refinement
_ROOM = 8  # parts for which the list of each net of a large network has room, beside those that it has
_NEAR = 0.02  # large networks: units whose best move would have lost less than this share of what they could lose
WISHES = 1 << 16
"""Places in the memory of units that want to go somewhere."""
LEAST_GAIN = 1e-4
"""Share of what is left that a round of refining must gain for another to follow."""
_LEAST_LARGE = 5e-3  # the same on large networks
_MOST_ROUNDS = 20
_MERGE_AT_MOST = 2048  # parts looked at for merging, the emptiest first


def improve(
    units: Units, part: Int32Array, *, share: FloatArray, wanted: int, most: int | None = None, seed: int = 1, least: float = LEAST_GAIN
) -> Int32Array | None:
    """Return a partition of units that keeps every limit, from ``part`` (-1: external, or nowhere yet); None if no room was found.

    Parameters
    ----------
    share
        Share of a part that each unit takes: ties and sizes.
    wanted
        Number of parts from which dissolving stops.
    most
        No more parts than this are opened; None: as many as it takes.
    least
        Rounds of refining end with one that gains less than this share of what is left.
    """
    rng = np.random.default_rng(seed)
    repaired = repair(units, part, share=share, most=most)
    if repaired is None:
        return None
    part = compress(repaired)
    part = dissolve(units, part, share=share, wanted=wanted)
    for _ in range(1 if _is_large(units.net) else 4):
        before = int(part.max(initial=-1)) + 1
        part = refine(units, part, rng, least)
        part = dissolve(units, merge(units, part), share=share, wanted=wanted)
        if int(part.max(initial=-1)) + 1 == before:
            break
    return part


def compress(part: Int32Array) -> Int32Array:
    """Number the parts through, -1 stays."""
    found = part.copy()
    inside = part >= 0
    found[inside] = np.unique(part[inside], return_inverse=True)[1]
    return found


def room_of(net: Net) -> int:
    """Room of a net's list: every part (-1), or so many parts more than it has."""
    return _ROOM if _is_large(net) else -1


def _is_large(net: Net) -> bool:
    return len(net.out_units) > _LARGE_PINS


def with_axons_out(net: Net) -> bool:
    """Whether a limit counts axons-out."""
    return bool((net.axon_out > 0).any())


def repair(units: Units, part: Int32Array, *, share: FloatArray, most: int | None = None) -> Int32Array | None:
    """Move units out of parts over a limit, and put those that are nowhere into parts; None if a unit finds no room."""
    net = units.net
    n_now = int(part.max(initial=-1)) + 1
    room = min(n_now + max(n_now // 2, 16), units.n_units + 1) if most is None else most
    nowhere = units.order[part[units.order] < 0]
    while True:
        state, scratch = new_state(net, part, room, room_of(net)), new_scratch(net, room)
        over = over_parts(net, state)
        if over.any():
            suspects = units.order[(part[units.order] >= 0)]
            suspects = suspects[over[part[suspects]]]
            suspects = suspects[np.argsort(eject_order(net, state, scratch, suspects, share), kind="stable")]
            nowhere = np.concatenate([nowhere, eject(net, state, suspects)])
        if not len(nowhere):
            return state.part
        nowhere = nowhere[np.argsort(-share[nowhere], kind="stable")]
        load = np.bincount(state.part[state.part >= 0], share[state.part >= 0], room).astype(np.float64)
        stuck = insert(net, state, scratch, nowhere, share, load, 0.0, True, with_axons_out(net))
        if stuck < 0:
            return state.part
        part = state.part.copy()
        left = nowhere[part[nowhere] < 0]
        if room_of(net) < 0 or len(left) == len(nowhere):  # else lists of nets may be full: they get room again
            if room >= units.n_units or most is not None or bool((state.size == 0).any()):
                return None
            room = min(2 * room, units.n_units + 1)
        nowhere = left


def dissolve(units: Units, part: Int32Array, *, share: FloatArray, wanted: int) -> Int32Array:
    """Share out the emptiest parts while there are more than ``wanted``."""
    net = units.net
    n_parts = int(part.max(initial=-1)) + 1
    failed = 0
    if n_parts <= wanted:
        return part
    state, scratch = new_state(net, part, n_parts, room_of(net)), new_scratch(net, n_parts)
    load = np.bincount(state.part[units.order], share[units.order], n_parts).astype(np.float64)
    left = n_parts
    for p in np.argsort(load, kind="stable").tolist():
        if left <= wanted or failed > 16:
            break
        members = units.order[state.part[units.order] == p]
        if not len(members):
            continue
        members = members[np.argsort(-share[members], kind="stable")]
        before = load.copy()
        take_out(net, state, members)
        load[p] = 0.0
        if insert(net, state, scratch, members, share, load, 0.0, False, with_axons_out(net)) < 0:
            left -= 1
        else:
            put_back(net, state, members, p)
            load = before
            failed += 1
    return compress(state.part)


def refine(units: Units, part: Int32Array, rng: np.random.Generator, least: float = LEAST_GAIN) -> Int32Array:
    """Moves and exchanges with exact gain until a round gains less than ``least`` of what is left.

    Large networks: rounds are over units that wanted to move, or nearly did, until one gains less than 5e-3; then over all again, and if
    that gains no more, it ends.
    """
    net = units.net
    n_parts = int(part.max(initial=-1)) + 1
    if n_parts < 2:
        return part
    wish, wish_part = np.full(WISHES, -1, np.int32), np.full(WISHES, -1, np.int32)
    near = np.ones(units.n_units)
    large = _is_large(net)
    enough = max(least, _LEAST_LARGE) if large else least
    scratch = new_scratch(net, n_parts)
    for _ in range(_MOST_ROUNDS):
        # Made anew each round: sums of floats do not drift, and lists that are full get room.
        state = new_state(net, part, n_parts, room_of(net))
        # Part after part, both in random order: neighbours share sources, whose lists are then in the cache.
        some = units.order[near[units.order] > -_NEAR] if large else units.order
        order = rng.permutation(some)
        order = order[np.argsort(rng.permutation(n_parts)[part[order]], kind="stable")]
        gain, _ = sweep(net, state, scratch, order, wish, wish_part, near, with_axons_out(net))
        part = state.part
        if gain <= enough * weighted_km1(net, state):
            if len(some) == len(units.order):
                break
            near[:] = 1.0
    return compress(part)


def merge(units: Units, part: Int32Array) -> Int32Array:
    """Join pairs of parts that fit into one, largest common traffic first, until none is left."""
    net = units.net
    while True:
        n_parts = int(part.max(initial=-1)) + 1
        if n_parts < 2:
            return part
        state = new_state(net, part, n_parts, room_of(net))
        pairs = _pairs(net, state, n_parts)
        into = np.arange(n_parts, dtype=np.int32)
        joined = np.zeros(n_parts, bool)
        for p, q in pairs:
            if not (joined[p] or joined[q]):
                into[q] = p
                joined[[p, q]] = True
        if not joined.any():
            return part
        part = compress(np.where(part >= 0, into[part], -1).astype(np.int32))


def _pairs(net: Net, state: State, n_parts: int) -> list[tuple[int, int]]:
    """Pairs of parts that fit into one, the pair that saves most packets first."""
    limits = np.where(net.limits > 0, net.limits, 1.0)
    fill = (state.own / limits).max(axis=1, initial=0.0)
    few = np.sort(np.argsort(fill, kind="stable")[:_MERGE_AT_MOST]).astype(np.int32)
    if not len(few) or np.sort(fill)[:2].sum() > 1.0:
        return []
    rank = np.full(n_parts, -1, np.int32)
    rank[few] = np.arange(len(few), dtype=np.int32)
    common, saved = _overlap(net, state, rank, len(few))
    ok = state.part_class[few][:, None] == state.part_class[few][None, :]
    np.fill_diagonal(ok, False)
    n_in = state.n_in[few][:, None] + state.n_in[few][None, :] - common
    n_out = state.n_out[few][:, None] + state.n_out[few][None, :]
    for r, limit in enumerate(net.limits.tolist()):
        own = state.own[few, r]
        ok &= own[:, None] + own[None, :] + net.axon_in[r] * n_in + net.axon_out[r] * n_out <= limit
    p, q = np.nonzero(np.triu(ok))
    if len(net.label_set):
        fits = np.ones(len(p), bool)
        has = state.label_count[few] > 0
        for s, limit in enumerate(net.set_limits.tolist()):
            here = has[:, net.label_set == s]
            for i in range(len(p)):
                fits[i] &= int((here[p[i]] | here[q[i]]).sum()) <= limit
        p, q = p[fits], q[fits]
    # Without common traffic, the fullest together first: that leaves the fewest parts.
    order = np.lexsort((-(fill[few[p]] + fill[few[q]]), -saved[p, q]))
    return list(zip(few[p[order]].tolist(), few[q[order]].tolist(), strict=True))


@numba.njit(cache=True, nogil=True)
def _overlap(net: Net, st: State, rank: Int32Array, n: int) -> tuple[Int64Array, FloatArray]:
    """(sources that two parts share, packets saved if the two become one), for the parts with a rank."""
    common = np.zeros((n, n), np.int64)
    saved = np.zeros((n, n))
    for s in range(len(net.unit_of)):
        first, last = st.slot_start[s], st.slot_start[s] + st.slot_len[s]
        home_part = st.part[net.unit_of[s]]
        home = rank[home_part] if home_part >= 0 else -1
        at_home = False
        for i in range(first, last):
            p = rank[st.slot_part[i]]
            if st.slot_part[i] == home_part:
                at_home = True
            if p < 0:
                continue
            for j in range(i + 1, last):
                q = rank[st.slot_part[j]]
                if q >= 0:
                    common[p, q] += 1
                    common[q, p] += 1
                    saved[p, q] += net.weight[s]
                    saved[q, p] += net.weight[s]
        if home >= 0 and not at_home:
            for i in range(first, last):
                p = rank[st.slot_part[i]]
                if p >= 0:
                    saved[p, home] += net.weight[s]
                    saved[home, p] += net.weight[s]
    return common, saved


__all__ = ["LEAST_GAIN", "WISHES", "compress", "dissolve", "improve", "merge", "refine", "repair", "room_of", "with_axons_out"]
