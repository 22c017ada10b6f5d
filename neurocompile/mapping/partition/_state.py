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
    """What :func:`~neurocompile.mapping.partition._moves.scan` finds out about one unit."""

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
            take(net, st, u, p)


@numba.njit(cache=True, nogil=True)
def take(net: Net, st: State, u: int, p: int) -> None:
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
def give(net: Net, st: State, u: int, p: int) -> None:
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
def slot_of(slot_start: Int64Array, slot_len: Int32Array, slot_part: Int32Array, s: int, p: int) -> int:
    """Place of part p in the list of net s, -1 if it is not there."""
    first = slot_start[s]
    for i in range(first, first + slot_len[s]):
        if slot_part[i] == p:
            return i
    return -1


@numba.njit(cache=True, nogil=True)
def is_over(net: Net, st: State, p: int) -> bool:
    """Whether part p passes a limit."""
    for r in range(len(net.limits)):
        if st.own[p, r] + net.axon_in[r] * st.n_in[p] + net.axon_out[r] * st.n_out[p] > net.limits[r]:
            return True
    over = False
    for k in range(len(net.set_limits)):
        over |= st.n_labels[p, k] > net.set_limits[k]
    return over


@numba.njit(cache=True, nogil=True)
def over_parts(net: Net, st: State) -> BoolArray:
    """Which parts pass a limit."""
    over = np.zeros(len(st.size), np.bool_)
    for p in range(len(st.size)):
        over[p] = st.size[p] > 0 and is_over(net, st, p)
    return over


@numba.njit(cache=True, nogil=True)
def weighted_km1(net: Net, st: State) -> float:
    """Packets between parts per step: weight x parts with a target, the source's own part left out."""
    total = 0.0
    for s in range(len(net.unit_of)):
        remote = st.slot_len[s]
        home = st.part[net.unit_of[s]]
        if home >= 0 and slot_of(st.slot_start, st.slot_len, st.slot_part, s, home) >= 0:
            remote -= 1
        total += net.weight[s] * remote
    return total


__all__ = ["Scratch", "State", "give", "is_over", "new_scratch", "new_state", "over_parts", "recount", "slot_of", "take", "weighted_km1"]
