"""Rounds over many units: refine, take units out of parts that are too full, put units in. Compiled."""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.partition._moves import fits, move, scan, try_swap
from neurocompile.mapping.partition._state import Scratch, State, is_over, over_parts, slot_of
from neurocompile.mapping.partition.units import Net
from neurocompile.mapping.problem import FloatArray, Int32Array


@numba.njit(cache=True, nogil=True)
def sweep(
    net: Net, st: State, sc: Scratch, order: Int32Array, wish: Int32Array, wish_part: Int32Array, near: FloatArray, with_out: bool
) -> tuple[float, int]:
    """One round over ``order``: each unit takes the best move that gains and fits, or an exchange with a unit that wants to come back.

    ``wish``, ``wish_part``: memory of (unit, where it wants to go) between rounds, -1 at first. ``near``: written for each unit of
    ``order``: what its best move would gain, over what it would lose in a part that it has nothing to do with; above 0 if it moved or
    wants to, -1 at the least. Returns (gain, moves).
    """
    total = 0.0
    moves = 0
    n_parts = len(st.size)
    for at in range(len(order)):
        u = order[at]
        a = st.part[u]
        n, base, _ = scan(net, st, sc, u)
        now = sc.token[0]
        blocked = -1
        blocked_gain = 0.0
        done = False
        near[u] = -1.0
        for _ in range(8):
            best = -1
            for i in range(n):
                p = sc.touched[i]
                if p != a and sc.tried[p] != now and st.part_class[p] == net.unit_class[u] and (best < 0 or sc.score[p] > sc.score[best]):
                    best = p
            if best < 0:
                break
            gain = base + sc.score[best]
            if near[u] == -1.0 and base != 0.0:
                near[u] = max(gain / abs(base), -1.0)
            if gain <= 1e-9 * abs(base):
                break
            if fits(net, st, sc, u, best, with_out):
                move(net, st, u, best)
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
            gain = try_swap(net, st, sc, u, v, blocked_gain, with_out, 1e-9 * blocked_gain)
            if gain > 0.0:
                total += gain
                moves += 2
                near[v] = 1.0
                wish[slot] = -1
                continue
        slot = (np.int64(a) * n_parts + blocked) % len(wish)
        wish[slot] = u
        wish_part[slot] = blocked
    return total, moves


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
        _, base, _ = scan(net, st, sc, u)
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
        if st.slot_count[slot_of(st.slot_start, st.slot_len, st.slot_part, net.in_sources[e], p)] == 1:
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
                move(net, st, u, -1)
                out[n] = u
                n += 1
                over[p] = st.size[p] > 0 and is_over(net, st, p)
    return out[:n].copy()


@numba.njit(cache=True, nogil=True)
def take_out(net: Net, st: State, units: Int32Array) -> None:
    """Take units out of their parts."""
    for u in units:
        if st.part[u] >= 0:
            move(net, st, u, -1)


@numba.njit(cache=True, nogil=True)
def put_back(net: Net, st: State, units: Int32Array, part: int) -> None:
    """Undo: units that were taken out of a part are in it again, wherever they are now."""
    take_out(net, st, units)
    for u in units:
        move(net, st, u, part)


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
        n, _, _ = scan(net, st, sc, u)
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
            if fits(net, st, sc, u, best, with_out):
                chosen = best
                break
            sc.tried[best] = sc.token[0]
        if chosen < 0:
            for p in range(n_parts):
                open_to = st.part_class[p] == net.unit_class[u] and sc.tried[p] != sc.token[0]
                if open_to and (chosen < 0 or load[p] < load[chosen]) and fits(net, st, sc, u, p, with_out):
                    chosen = p
        if chosen < 0 and open_new:
            for p in range(n_parts):
                if st.size[p] == 0:
                    if fits(net, st, sc, u, p, with_out):
                        chosen = p
                    break
        if chosen < 0:
            return int(u)
        move(net, st, u, chosen)
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
        n, _, _ = scan(net, st, sc, u)
        now = sc.token[0]
        here = 0.0
        # What the unit itself holds together in its part does not count: its sources with other targets there do.
        for e in range(net.in_start[u], net.in_start[u + 1]):
            s = net.in_sources[e]
            i = slot_of(st.slot_start, st.slot_len, st.slot_part, s, a)
            if st.slot_count[i] > 1 or (net.unit_of[s] != u and st.part[net.unit_of[s]] == a):
                here += net.weight[s]
        for m in range(net.member_start[u], net.member_start[u + 1]):
            s = net.members[m]
            if sc.loops[s] != u and slot_of(st.slot_start, st.slot_len, st.slot_part, s, a) >= 0:
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
            if fits(net, st, sc, u, best, with_out):
                move(net, st, u, best)
                load[a] -= weight[u]
                load[best] += weight[u]
                break
            sc.tried[best] = now


__all__ = ["eject", "eject_order", "insert", "put_back", "restream", "sweep", "take_out"]
