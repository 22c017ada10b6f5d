"""One move or exchange of units: what it gains in rate-weighted km1, whether all limits hold, and doing it. Compiled."""

from __future__ import annotations

import numba

from neurocompile.mapping.partition._state import Scratch, State, give, is_over, slot_of, take
from neurocompile.mapping.partition.units import Net
from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array


@numba.njit(cache=True, nogil=True)
def _touch(p: int, now: int, n: int, stamp: Int64Array, score: FloatArray, shared: Int32Array, touched: Int32Array) -> int:
    """Begin to count for part p if this scan has not met it yet; parts met so far."""
    if stamp[p] != now:
        stamp[p] = now
        score[p] = 0.0
        shared[p] = 0
        touched[n] = p
        return n + 1
    return n


@numba.njit(cache=True, nogil=True)
def scan(net: Net, st: State, sc: Scratch, u: int) -> tuple[int, float, int]:
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
                n = _touch(home, now, n, stamp, score, shared, touched)
                score[home] += w
        first = slot_start[s]
        for i in range(first, first + slot_len[s]):
            p = slot_part[i]
            n = _touch(p, now, n, stamp, score, shared, touched)
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
                n = _touch(p, now, n, stamp, score, shared, touched)
                score[p] += w
    return n, base, freed


@numba.njit(cache=True, nogil=True)
def fits(net: Net, st: State, sc: Scratch, u: int, b: int, with_out: bool) -> bool:
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
        if st.slot_start[s] + st.slot_len[s] == st.slot_start[s + 1] and slot_of(st.slot_start, st.slot_len, st.slot_part, s, b) < 0:
            i = slot_of(st.slot_start, st.slot_len, st.slot_part, s, a) if a >= 0 else -1
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
        if slot_of(st.slot_start, st.slot_len, st.slot_part, s, b) < 0:
            change += 1
        if a >= 0 and st.slot_count[slot_of(st.slot_start, st.slot_len, st.slot_part, s, a)] == 1:
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
def move(net: Net, st: State, u: int, b: int) -> None:
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
            i = slot_of(st.slot_start, st.slot_len, st.slot_part, s, a)
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
            i = slot_of(st.slot_start, st.slot_len, st.slot_part, s, b)
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
        give(net, st, u, a)
    if b >= 0:
        take(net, st, u, b)


@numba.njit(cache=True, nogil=True)
def try_swap(net: Net, st: State, sc: Scratch, u: int, v: int, gain_u: float, with_out: bool, least: float) -> float:
    """Exchange u and v if that gains more than ``least`` and keeps all limits; the gain, or 0.0 and nothing changed."""
    a, b = st.part[u], st.part[v]
    for e in range(net.in_start[u], net.in_start[u + 1]):
        s = net.in_sources[e]
        full = st.slot_start[s] + st.slot_len[s] == st.slot_start[s + 1] and slot_of(st.slot_start, st.slot_len, st.slot_part, s, b) < 0
        if full and st.slot_count[slot_of(st.slot_start, st.slot_len, st.slot_part, s, a)] > 1:
            return 0.0
    move(net, st, u, b)
    _, base, _ = scan(net, st, sc, v)
    gain = gain_u + base + (sc.score[a] if sc.stamp[a] == sc.token[0] else 0.0)
    if gain > least and fits(net, st, sc, v, a, with_out):
        move(net, st, v, a)
        # An exchange may give b or a third part more than it had: all that can have grown is looked at again.
        bad = is_over(net, st, b) or is_over(net, st, a)
        if with_out and not bad:
            bad = _homes_over(net, st, u) or _homes_over(net, st, v)
        if not bad:
            return gain
        move(net, st, v, b)
    move(net, st, u, a)
    return 0.0


@numba.njit(cache=True, nogil=True)
def _homes_over(net: Net, st: State, u: int) -> bool:
    for e in range(net.in_start[u], net.in_start[u + 1]):
        home = st.part[net.unit_of[net.in_sources[e]]]
        if home >= 0 and is_over(net, st, home):
            return True
    return False


__all__ = ["fits", "move", "scan", "try_swap"]
