"""A partition that changes: exact pin counts, exact use of every limit, exact gain of every move. Compiled loops.

Of each net (source) the parts that hold its targets are kept as a short list of (part, number of targets). A move of a unit u from part a
to part b changes the weighted km1 by the nets that leave a with u, those that come to b with u, and u's own nets, whose home moves along.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from neurocompile.mapping.partition.units import Net
from neurocompile.mapping.problem import BoolArray, FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array


class State(NamedTuple):
    """``part`` of each unit (-1: external or nowhere) and what follows from it, for up to K parts."""

    part: Int32Array  # (n_units,)
    part_class: Int32Array  # (K,), -1: empty part, any class may come
    size: Int64Array  # (K,) units
    own: FloatArray  # (K, n_resources) sum of the units' own costs
    n_in: Int64Array  # (K,) distinct sources
    n_out: Int64Array  # (K,) (source of the part, part with a target of it) pairs
    label_count: Int32Array  # (K, n_labels) units that have the label
    n_labels: Int64Array  # (K, n_sets)
    slot_start: Int64Array  # (n_neurons + 1,) room of each net
    slot_part: Int32Array
    slot_count: Int32Array
    slot_len: Int32Array  # (n_neurons,) used of the room


class Scratch(NamedTuple):
    """What :func:`_scan` finds out about one unit."""

    score: FloatArray  # (K,) weight of the nets that would not get longer there
    shared: Int32Array  # (K,) sources of the unit that are already there
    token: Int64Array  # (1,) number of the scan
    stamp: Int64Array  # (K,) scan for which the two hold
    touched: Int32Array  # (K,) parts for which they hold
    tried: Int64Array  # (K,) scan for which the part was found too full
    out: Int64Array  # (K,) change of n_out
    out_parts: Int32Array  # (K,) parts with one
    loops: Int32Array  # (n_neurons,) unit for which the source was seen among its own sources
    extra: Int64Array  # (n_sets,) labels that the unit would bring


def new_state(net: Net, part: Int32Array, n_parts: int, room: int) -> State:
    """State of a partition (``part`` is copied); ``n_parts``: most parts there may ever be; ``room``: spare slots of a net, -1 for all."""
    n_labels, n_sets = len(net.label_set), len(net.set_limits)
    slot_start = _room(net.out_start, net.out_units, part, n_parts, room)
    state = State(
        part=part.astype(np.int32).copy(),
        part_class=np.full(n_parts, -1, np.int32),
        size=np.zeros(n_parts, np.int64),
        own=np.zeros((n_parts, len(net.limits))),
        n_in=np.zeros(n_parts, np.int64),
        n_out=np.zeros(n_parts, np.int64),
        label_count=np.zeros((n_parts, n_labels), np.int32),
        n_labels=np.zeros((n_parts, n_sets), np.int64),
        slot_start=slot_start,
        slot_part=np.empty(slot_start[-1], np.int32),
        slot_count=np.empty(slot_start[-1], np.int32),
        slot_len=np.zeros(len(net.unit_of), np.int32),
    )
    recount(net, state)
    return state


def new_scratch(net: Net, n_parts: int) -> Scratch:
    """Scratch for states of up to ``n_parts`` parts."""
    return Scratch(
        score=np.zeros(n_parts),
        shared=np.zeros(n_parts, np.int32),
        token=np.zeros(1, np.int64),
        stamp=np.zeros(n_parts, np.int64),
        touched=np.zeros(n_parts, np.int32),
        tried=np.zeros(n_parts, np.int64),
        out=np.zeros(n_parts, np.int64),
        out_parts=np.zeros(n_parts, np.int32),
        loops=np.full(len(net.unit_of), -1, np.int32),
        extra=np.zeros(len(net.set_limits), np.int64),
    )


@numba.njit(cache=True, nogil=True)
def _room(out_start: Int64Array, out_units: Int32Array, part: Int32Array, n_parts: int, room: int) -> Int64Array:
    n = len(out_start) - 1
    start = np.zeros(n + 1, np.int64)
    stamp = np.full(n_parts, -1, np.int32)
    for s in range(n):
        most = min(out_start[s + 1] - out_start[s], n_parts)
        if room >= 0:
            now = 0
            for e in range(out_start[s], out_start[s + 1]):
                p = part[out_units[e]]
                if p >= 0 and stamp[p] != s:
                    stamp[p] = s
                    now += 1
            most = min(most, now + max(now // 2, room))
        start[s + 1] = start[s] + most
    return start


@numba.njit(cache=True, nogil=True)
def recount(net: Net, st: State) -> None:
    """Everything from ``part``."""
    n, n_parts = len(net.unit_of), len(st.size)
    st.part_class[:] = -1
    st.size[:] = 0
    st.own[:] = 0.0
    st.n_in[:] = 0
    st.n_out[:] = 0
    st.label_count[:] = 0
    st.n_labels[:] = 0
    at = np.full(n_parts, -1, np.int64)
    stamp = np.full(n_parts, -1, np.int32)
    for s in range(n):
        first = st.slot_start[s]
        length = 0
        for e in range(net.out_start[s], net.out_start[s + 1]):
            p = st.part[net.out_units[e]]
            if p < 0:
                continue
            if stamp[p] != s:
                stamp[p] = s
                at[p] = first + length
                st.slot_part[first + length] = p
                st.slot_count[first + length] = 0
                st.n_in[p] += 1
                length += 1
            st.slot_count[at[p]] += 1
        st.slot_len[s] = length
        home = st.part[net.unit_of[s]]
        if home >= 0:
            st.n_out[home] += length
    for u in range(len(st.part)):
        p = st.part[u]
        if p >= 0:
            _take(net, st, u, p)


@numba.njit(cache=True, nogil=True)
def _take(net: Net, st: State, u: int, p: int) -> None:
    """Own costs, size, class and labels of a unit that comes to part p."""
    st.size[p] += 1
    st.part_class[p] = net.unit_class[u]
    for r in range(len(net.limits)):
        st.own[p, r] += net.cost[u, r]
    for e in range(net.label_start[u], net.label_start[u + 1]):
        label = net.labels[e]
        if st.label_count[p, label] == 0:
            st.n_labels[p, net.label_set[label]] += 1
        st.label_count[p, label] += 1


@numba.njit(cache=True, nogil=True)
def _give(net: Net, st: State, u: int, p: int) -> None:
    st.size[p] -= 1
    for r in range(len(net.limits)):
        st.own[p, r] -= net.cost[u, r]
    if st.size[p] == 0:
        st.part_class[p] = -1
        st.own[p, :] = 0.0
    for e in range(net.label_start[u], net.label_start[u + 1]):
        label = net.labels[e]
        st.label_count[p, label] -= 1
        if st.label_count[p, label] == 0:
            st.n_labels[p, net.label_set[label]] -= 1


@numba.njit(cache=True, nogil=True)
def _scan(net: Net, st: State, sc: Scratch, u: int) -> tuple[int, float, int]:
    """(number of touched parts, base, sources that leave with the unit): a move to part p gains base + score[p]; untouched parts: base."""
    # Local names: a named tuple handed to an inner function costs a reference count for each of its arrays.
    part, slot_start, slot_part, slot_count, slot_len = st.part, st.slot_start, st.slot_part, st.slot_count, st.slot_len
    score, shared, stamp, touched, loops = sc.score, sc.shared, sc.stamp, sc.touched, sc.loops
    weight, unit_of, in_sources, members = net.weight, net.unit_of, net.in_sources, net.members
    sc.token[0] += 1
    now = sc.token[0]
    a = part[u]
    n = 0
    base = 0.0
    freed = 0
    for e in range(net.in_start[u], net.in_start[u + 1]):
        s = in_sources[e]
        w = weight[s]
        own_net = unit_of[s] == u
        home = part[unit_of[s]]
        if own_net:
            loops[s] = u
        else:
            base -= w
            if home >= 0:
                if stamp[home] != now:
                    stamp[home] = now
                    score[home] = 0.0
                    shared[home] = 0
                    touched[n] = home
                    n += 1
                score[home] += w
        first = slot_start[s]
        for i in range(first, first + slot_len[s]):
            p = slot_part[i]
            if stamp[p] != now:
                stamp[p] = now
                score[p] = 0.0
                shared[p] = 0
                touched[n] = p
                n += 1
            shared[p] += 1
            if p == a:
                alone = slot_count[i] == 1
                if alone:
                    freed += 1
                if own_net:
                    if not alone:
                        base -= w
                elif alone and home != a:
                    base += w
            elif own_net or p != home:
                score[p] += w
    for m in range(net.member_start[u], net.member_start[u + 1]):
        s = members[m]
        if loops[s] == u:
            continue
        w = weight[s]
        first = slot_start[s]
        for i in range(first, first + slot_len[s]):
            p = slot_part[i]
            if p == a:
                base -= w
            else:
                if stamp[p] != now:
                    stamp[p] = now
                    score[p] = 0.0
                    shared[p] = 0
                    touched[n] = p
                    n += 1
                score[p] += w
    return n, base, freed


@numba.njit(cache=True, nogil=True)
def _slot(slot_start: Int64Array, slot_len: Int32Array, slot_part: Int32Array, s: int, p: int) -> int:
    """Place of part p in the list of net s, -1 if it is not there."""
    first = slot_start[s]
    for i in range(first, first + slot_len[s]):
        if slot_part[i] == p:
            return i
    return -1


@numba.njit(cache=True, nogil=True)
def _fits(net: Net, st: State, sc: Scratch, u: int, b: int, with_out: bool) -> bool:
    """Whether all limits hold after the move of the scanned unit u to part b (parts that only lose are not looked at)."""
    if st.size[b] > 0 and st.part_class[b] != net.unit_class[u]:
        return False
    new_in = net.in_start[u + 1] - net.in_start[u]
    if sc.stamp[b] == sc.token[0]:
        new_in -= sc.shared[b]
    n_in = st.n_in[b] + new_in
    for r in range(len(net.limits)):
        if st.own[b, r] + net.cost[u, r] + net.axon_in[r] * n_in + net.axon_out[r] * st.n_out[b] > net.limits[r]:
            return False
    if net.label_start[u + 1] > net.label_start[u]:
        sc.extra[:] = 0
        for e in range(net.label_start[u], net.label_start[u + 1]):
            label = net.labels[e]
            if st.label_count[b, label] == 0:
                sc.extra[net.label_set[label]] += 1
        for k in range(len(net.set_limits)):
            if sc.extra[k] and st.n_labels[b, k] + sc.extra[k] > net.set_limits[k]:
                return False
    a = st.part[u]
    # Room in the lists of nets that b is new to.
    for e in range(net.in_start[u], net.in_start[u + 1]):
        s = net.in_sources[e]
        if st.slot_start[s] + st.slot_len[s] == st.slot_start[s + 1] and _slot(st.slot_start, st.slot_len, st.slot_part, s, b) < 0:
            i = _slot(st.slot_start, st.slot_len, st.slot_part, s, a) if a >= 0 else -1
            if i < 0 or st.slot_count[i] > 1:
                return False
    return _fits_out(net, st, sc, u, a, b, n_in) if with_out else True


@numba.njit(cache=True, nogil=True)
def _fits_out(net: Net, st: State, sc: Scratch, u: int, a: int, b: int, n_in: int) -> bool:
    """Limits that count axons-out: the homes of the sources that get a new part, and b itself."""
    n = 0
    sc.out[b] = 0
    sc.out_parts[0] = b
    n = 1
    for e in range(net.in_start[u], net.in_start[u + 1]):
        s = net.in_sources[e]
        unit = net.unit_of[s]
        home = b if unit == u else st.part[unit]
        if home < 0:
            continue
        change = 0
        if _slot(st.slot_start, st.slot_len, st.slot_part, s, b) < 0:
            change += 1
        if a >= 0 and st.slot_count[_slot(st.slot_start, st.slot_len, st.slot_part, s, a)] == 1:
            change -= 1
        if change != 0:
            known = False
            for i in range(n):
                if sc.out_parts[i] == home:
                    known = True
                    break
            if not known:
                sc.out_parts[n] = home
                sc.out[home] = 0
                n += 1
            sc.out[home] += change
    for m in range(net.member_start[u], net.member_start[u + 1]):
        sc.out[b] += st.slot_len[net.members[m]]
    for i in range(n):
        p = sc.out_parts[i]
        if sc.out[p] <= 0:
            continue
        for r in range(len(net.limits)):
            if net.axon_out[r] > 0.0:
                own, n_in_p = st.own[p, r], st.n_in[p]
                if p == b:
                    own += net.cost[u, r]
                    n_in_p = n_in
                if own + net.axon_in[r] * n_in_p + net.axon_out[r] * (st.n_out[p] + sc.out[p]) > net.limits[r]:
                    return False
    return True


@numba.njit(cache=True, nogil=True)
def _move(net: Net, st: State, u: int, b: int) -> None:
    """Put unit u into part b (-1: nowhere)."""
    a = st.part[u]
    for m in range(net.member_start[u], net.member_start[u + 1]):
        length = st.slot_len[net.members[m]]
        if a >= 0:
            st.n_out[a] -= length
        if b >= 0:
            st.n_out[b] += length
    st.part[u] = b
    for e in range(net.in_start[u], net.in_start[u + 1]):
        s = net.in_sources[e]
        home = st.part[net.unit_of[s]]
        if a >= 0:
            i = _slot(st.slot_start, st.slot_len, st.slot_part, s, a)
            st.slot_count[i] -= 1
            if st.slot_count[i] == 0:
                last = st.slot_start[s] + st.slot_len[s] - 1
                st.slot_part[i] = st.slot_part[last]
                st.slot_count[i] = st.slot_count[last]
                st.slot_len[s] -= 1
                st.n_in[a] -= 1
                if home >= 0:
                    st.n_out[home] -= 1
        if b >= 0:
            i = _slot(st.slot_start, st.slot_len, st.slot_part, s, b)
            if i < 0:
                i = st.slot_start[s] + st.slot_len[s]
                st.slot_part[i] = b
                st.slot_count[i] = 0
                st.slot_len[s] += 1
                st.n_in[b] += 1
                if home >= 0:
                    st.n_out[home] += 1
            st.slot_count[i] += 1
    if a >= 0:
        _give(net, st, u, a)
    if b >= 0:
        _take(net, st, u, b)


@numba.njit(cache=True, nogil=True)
def _over(net: Net, st: State, p: int) -> bool:
    """Whether part p passes a limit."""
    for r in range(len(net.limits)):
        if st.own[p, r] + net.axon_in[r] * st.n_in[p] + net.axon_out[r] * st.n_out[p] > net.limits[r]:
            return True
    over = False
    for k in range(len(net.set_limits)):
        over |= st.n_labels[p, k] > net.set_limits[k]
    return over


@numba.njit(cache=True, nogil=True)
def weighted_km1(net: Net, st: State) -> float:
    """Packets between parts per step: weight x parts with a target, the source's own part left out."""
    total = 0.0
    for s in range(len(net.unit_of)):
        remote = st.slot_len[s]
        home = st.part[net.unit_of[s]]
        if home >= 0 and _slot(st.slot_start, st.slot_len, st.slot_part, s, home) >= 0:
            remote -= 1
        total += net.weight[s] * remote
    return total


@numba.njit(cache=True, nogil=True)
def _try_swap(net: Net, st: State, sc: Scratch, u: int, v: int, gain_u: float, with_out: bool, least: float) -> float:
    """Exchange u and v if that gains more than ``least`` and keeps all limits; the gain, or 0.0 and nothing changed."""
    a, b = st.part[u], st.part[v]
    for e in range(net.in_start[u], net.in_start[u + 1]):
        s = net.in_sources[e]
        full = st.slot_start[s] + st.slot_len[s] == st.slot_start[s + 1] and _slot(st.slot_start, st.slot_len, st.slot_part, s, b) < 0
        if full and st.slot_count[_slot(st.slot_start, st.slot_len, st.slot_part, s, a)] > 1:
            return 0.0
    _move(net, st, u, b)
    _, base, _ = _scan(net, st, sc, v)
    gain = gain_u + base + (sc.score[a] if sc.stamp[a] == sc.token[0] else 0.0)
    if gain > least and _fits(net, st, sc, v, a, with_out):
        _move(net, st, v, a)
        # An exchange may give b or a third part more than it had: all that can have grown is looked at again.
        bad = _over(net, st, b) or _over(net, st, a)
        if with_out and not bad:
            bad = _homes_over(net, st, u) or _homes_over(net, st, v)
        if not bad:
            return gain
        _move(net, st, v, b)
    _move(net, st, u, a)
    return 0.0


@numba.njit(cache=True, nogil=True)
def _homes_over(net: Net, st: State, u: int) -> bool:
    for e in range(net.in_start[u], net.in_start[u + 1]):
        home = st.part[net.unit_of[net.in_sources[e]]]
        if home >= 0 and _over(net, st, home):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def sweep(
    net: Net, st: State, sc: Scratch, order: Int32Array, wish: Int32Array, wish_part: Int32Array, with_out: bool
) -> tuple[float, int]:
    """One round over ``order``: each unit takes the best move that gains and fits, or an exchange with a unit that wants to come back.

    ``wish``, ``wish_part``: memory of (unit, where it wants to go) between rounds, -1 at first. Returns (gain, moves).
    """
    total = 0.0
    moves = 0
    n_parts = len(st.size)
    for at in range(len(order)):
        u = order[at]
        a = st.part[u]
        n, base, _ = _scan(net, st, sc, u)
        now = sc.token[0]
        blocked = -1
        blocked_gain = 0.0
        done = False
        for _ in range(8):
            best = -1
            for i in range(n):
                p = sc.touched[i]
                if p != a and sc.tried[p] != now and st.part_class[p] == net.unit_class[u] and (best < 0 or sc.score[p] > sc.score[best]):
                    best = p
            if best < 0:
                break
            gain = base + sc.score[best]
            if gain <= 1e-9 * abs(base):
                break
            if _fits(net, st, sc, u, best, with_out):
                _move(net, st, u, best)
                total += gain
                moves += 1
                done = True
                break
            sc.tried[best] = sc.token[0]
            if blocked < 0:
                blocked, blocked_gain = best, gain
        if done or blocked < 0:
            continue
        slot = (np.int64(blocked) * n_parts + a) % len(wish)
        v = wish[slot]
        if v >= 0 and v != u and st.part[v] == blocked and wish_part[slot] == a:
            gain = _try_swap(net, st, sc, u, v, blocked_gain, with_out, 1e-9 * blocked_gain)
            if gain > 0.0:
                total += gain
                moves += 2
                wish[slot] = -1
                continue
        slot = (np.int64(a) * n_parts + blocked) % len(wish)
        wish[slot] = u
        wish_part[slot] = blocked
    return total, moves


@numba.njit(cache=True, nogil=True)
def over_parts(net: Net, st: State) -> BoolArray:
    """Which parts pass a limit."""
    over = np.zeros(len(st.size), np.bool_)
    for p in range(len(st.size)):
        over[p] = st.size[p] > 0 and _over(net, st, p)
    return over


@numba.njit(cache=True, nogil=True)
def eject_order(net: Net, st: State, sc: Scratch, units: Int32Array, share: FloatArray) -> FloatArray:
    """What it costs to take each unit out of its part, for what it frees: the lower, the sooner it should go.

    Where a part has too many labels, units with rare labels go first.
    """
    cost = np.zeros(len(units))
    total = 1.0
    for s in range(len(net.weight)):
        total += net.weight[s]
    for i in range(len(units)):
        u = units[i]
        _, base, _ = _scan(net, st, sc, u)
        cost[i] = -base / (share[u] + 1e-12)
        p = st.part[u]
        rare = np.int64(0)
        for e in range(net.label_start[u], net.label_start[u + 1]):
            k = net.label_set[net.labels[e]]
            if st.n_labels[p, k] > net.set_limits[k]:
                count = st.label_count[p, net.labels[e]]
                if rare == 0 or count < rare:
                    rare = count
        cost[i] += rare * 1e12 * total
    return cost


@numba.njit(cache=True, nogil=True)
def _relieves(net: Net, st: State, u: int, p: int) -> bool:
    """Whether a limit that part p passes is less passed without unit u (or, for labels, may become so)."""
    freed = 0
    sent = 0
    for e in range(net.in_start[u], net.in_start[u + 1]):
        if st.slot_count[_slot(st.slot_start, st.slot_len, st.slot_part, net.in_sources[e], p)] == 1:
            freed += 1
    for m in range(net.member_start[u], net.member_start[u + 1]):
        sent += st.slot_len[net.members[m]]
    for r in range(len(net.limits)):
        over = st.own[p, r] + net.axon_in[r] * st.n_in[p] + net.axon_out[r] * st.n_out[p] > net.limits[r]
        if over and net.cost[u, r] + net.axon_in[r] * freed + net.axon_out[r] * (sent + freed) > 0.0:
            return True
    for e in range(net.label_start[u], net.label_start[u + 1]):
        k = net.label_set[net.labels[e]]
        if st.n_labels[p, k] > net.set_limits[k]:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def eject(net: Net, st: State, order: Int32Array) -> Int32Array:
    """Take units out of parts over a limit, in ``order``, until no part is over; the units taken. First those that help, then any."""
    out = np.empty(len(order), np.int32)
    n = 0
    over = over_parts(net, st)
    for anyone in (False, True):
        for i in range(len(order)):
            u = order[i]
            p = st.part[u]
            if p >= 0 and over[p] and (anyone or _relieves(net, st, u, p)):
                _move(net, st, u, -1)
                out[n] = u
                n += 1
                over[p] = st.size[p] > 0 and _over(net, st, p)
    return out[:n].copy()


@numba.njit(cache=True, nogil=True)
def take_out(net: Net, st: State, units: Int32Array) -> None:
    """Take units out of their parts."""
    for u in units:
        if st.part[u] >= 0:
            _move(net, st, u, -1)


@numba.njit(cache=True, nogil=True)
def insert(
    net: Net,
    st: State,
    sc: Scratch,
    order: Int32Array,
    weight: FloatArray,
    load: FloatArray,
    balance: float,
    open_new: bool,
    with_out: bool,
) -> int:
    """Put units that are nowhere into the parts where they cost least, all limits kept; the unit that found no room, or -1.

    Of parts that fit, the one with the highest score x (1 - balance x load) wins; ties go to the emptier. ``weight``: share of a part that
    a unit takes, ``load``: of each part, sum of its units' (kept up). A new part is opened where none fits (``open_new``).
    """
    n_parts = len(st.size)
    for at in range(len(order)):
        u = order[at]
        n, _, _ = _scan(net, st, sc, u)
        chosen = -1
        for _ in range(16):
            best = -1
            best_score = 0.0
            for i in range(n):
                p = sc.touched[i]
                if sc.tried[p] == sc.token[0] or st.part_class[p] != net.unit_class[u]:
                    continue
                score = sc.score[p] * max(1.0 - balance * load[p], 1e-3)
                if best < 0 or score > best_score or (score == best_score and load[p] < load[best]):
                    best, best_score = p, score
            if best < 0:
                break
            if _fits(net, st, sc, u, best, with_out):
                chosen = best
                break
            sc.tried[best] = sc.token[0]
        if chosen < 0:
            for p in range(n_parts):
                open_to = st.part_class[p] == net.unit_class[u] and sc.tried[p] != sc.token[0]
                if open_to and (chosen < 0 or load[p] < load[chosen]) and _fits(net, st, sc, u, p, with_out):
                    chosen = p
        if chosen < 0 and open_new:
            for p in range(n_parts):
                if st.size[p] == 0:
                    if _fits(net, st, sc, u, p, with_out):
                        chosen = p
                    break
        if chosen < 0:
            return int(u)
        _move(net, st, u, chosen)
        load[chosen] += weight[u]
    return -1


@numba.njit(cache=True, nogil=True)
def restream(
    net: Net, st: State, sc: Scratch, order: Int32Array, weight: FloatArray, load: FloatArray, balance: float, with_out: bool
) -> None:
    """Each unit chooses again, with the same rule as in :func:`insert`, and stays where nothing better fits."""
    for at in range(len(order)):
        u = order[at]
        a = st.part[u]
        if a < 0:
            continue
        n, _, _ = _scan(net, st, sc, u)
        now = sc.token[0]
        here = 0.0
        # What the unit itself holds together in its part does not count: its sources with other targets there do.
        for e in range(net.in_start[u], net.in_start[u + 1]):
            s = net.in_sources[e]
            i = _slot(st.slot_start, st.slot_len, st.slot_part, s, a)
            if st.slot_count[i] > 1 or (net.unit_of[s] != u and st.part[net.unit_of[s]] == a):
                here += net.weight[s]
        for m in range(net.member_start[u], net.member_start[u + 1]):
            s = net.members[m]
            if sc.loops[s] != u and _slot(st.slot_start, st.slot_len, st.slot_part, s, a) >= 0:
                here += net.weight[s]
        here *= max(1.0 - balance * (load[a] - weight[u]), 1e-3)
        for _ in range(8):
            best = -1
            best_score = here
            for i in range(n):
                p = sc.touched[i]
                if p != a and sc.tried[p] != now and st.part_class[p] == net.unit_class[u]:
                    score = sc.score[p] * max(1.0 - balance * load[p], 1e-3)
                    if score > best_score:
                        best, best_score = p, score
            if best < 0:
                break
            if _fits(net, st, sc, u, best, with_out):
                _move(net, st, u, best)
                load[a] -= weight[u]
                load[best] += weight[u]
                break
            sc.tried[best] = now


@numba.njit(cache=True, nogil=True)
def breadth_first(net: Net, units: Int32Array) -> Int32Array:
    """The units on cores as a breadth-first search along synapses, both ways, meets them, from the first of ``units``."""
    n = len(net.unit_class)
    seen = np.zeros(n, np.bool_)
    inside = 0
    for u in range(n):
        seen[u] = net.unit_class[u] < 0
        inside += not seen[u]
    order = np.empty(inside, np.int32)
    end = 0
    at = 0
    for round_ in range(2):
        for start in range(len(units) if round_ == 0 else n):
            first = units[start] if round_ == 0 else start
            if seen[first]:
                continue
            seen[first] = True
            order[end] = first
            end += 1
            while at < end:
                u = order[at]
                at += 1
                for m in range(net.member_start[u], net.member_start[u + 1]):
                    for e in range(net.out_start[net.members[m]], net.out_start[net.members[m] + 1]):
                        other = net.out_units[e]
                        if not seen[other]:
                            seen[other] = True
                            order[end] = other
                            end += 1
                for e in range(net.in_start[u], net.in_start[u + 1]):
                    other = net.unit_of[net.in_sources[e]]
                    if not seen[other]:
                        seen[other] = True
                        order[end] = other
                        end += 1
    return order


__all__ = [
    "Scratch",
    "State",
    "breadth_first",
    "eject",
    "eject_order",
    "insert",
    "new_scratch",
    "new_state",
    "over_parts",
    "recount",
    "restream",
    "sweep",
    "take_out",
    "weighted_km1",
]
