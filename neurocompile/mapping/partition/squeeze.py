"""Fewer parts by annealing with soft limits: parts are dissolved; what passes a limit has a price, for each part its own.

Where axons bind, parts can be fewer only if axons become fewer, and axons become fewer only if units may pass through parts that are
full: moves that keep every limit all the time are stuck long before. Heat bath as in ``anneal.py``, over axons in place of packets. The
price of a part rises while it passes a limit and falls while it does not (a subgradient step on the multiplier of its limits): a price
that is high everywhere makes units flee to where they cost more axons, until every part is full of them. So where units can go anywhere
prices rise slowly, their mean stays low until the end, and only the last rounds, when nearly all parts keep their limits, make them
hard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from neurocompile.mapping import _random
from neurocompile.mapping._random import gumbel, uniform
from neurocompile.mapping.partition import greedy
from neurocompile.mapping.partition._moves import move
from neurocompile.mapping.partition._state import Scratch, State, new_scratch, new_state, over_parts
from neurocompile.mapping.partition.improve import WISHES, compress, repair
from neurocompile.mapping.partition.structure import is_structured
from neurocompile.mapping.partition.units import Net, Units
from neurocompile.mapping.problem import FloatArray, Int32Array

_COLD = 0.2  # last temperature, in axons
_WORK = 100_000_000  # pins to look at in all rounds together
_LAST = 10  # more at the last temperature
_FAILURES = 3  # after which it ends
_AIM, _MOST_AIM = 0.5, 0.01  # share of the spare room, and of a limit, by which limits are undercut
_EVERY = 64  # units after which the prices of axons-out are looked at again


@dataclass(frozen=True, slots=True)
class _Schedule:
    """How prices and temperature go.

    hot : first temperature, in axons; rise, fall : of a price after a round in which its part passed a limit, or did not; mean, dear :
    highest mean and highest price of a full part over a limit, in mean axons-in of a part (the least is 1); harder : by which all three
    grow after each of the last rounds; most_rounds : before those.
    """

    hot: float
    rise: float
    fall: float
    mean: float
    dear: float
    harder: float
    most_rounds: int


_SOFT = _Schedule(hot=1.0, rise=1.1, fall=0.95, mean=3.0, dear=8.0, harder=1.3, most_rounds=80)
"""Without structure units can go anywhere: a low price is enough, a high one fills all parts to the brim (uniform: 163 cores, else 164)."""
_HARD = _Schedule(hot=2.0, rise=1.3, fall=0.9, mean=16.0, dear=16.0, harder=1.0, most_rounds=50)
"""Remnants of communities have few places to go, and leave only while it is hot, for a high price (modular: 344; soft: over 346)."""
_FEWEST_ROUNDS = 30  # fewer if no part passes a limit


def squeeze(units: Units, part: Int32Array, *, wanted: int, share: FloatArray, seed: int = 1) -> Int32Array:
    """Return a partition with fewer parts, down to ``wanted``, that keeps every limit, or ``part``; ``share``: of a part, by unit.

    First as many are tried as would hold what is used now, then half-way between the most that failed and the fewest that were found. What
    it begins with is ``part``, or greedy growth if that has fewer parts, whatever limits of axons-out it passes.
    """
    found, fewest = part, int(part.max(initial=-1)) + 1
    grown = greedy.assign(units, seed=seed)
    start = grown if int(grown.max(initial=-1)) + 1 < fewest else part
    how = _HARD if is_structured(units, seed=seed) else _SOFT
    target = least = max(wanted, math.ceil(_full(units.net, start)))
    too_few, failures = least - 1, 0
    while fewest > max(least, too_few + 1) and failures < _FAILURES:
        target = min(target, fewest - 1)
        made = _into(units, start, target, share, seed + failures, how)
        if made is None:
            failures, too_few = failures + 1, target
        else:
            found, start, fewest = made, made, int(made.max(initial=-1)) + 1
            least = max(wanted, math.ceil(_full(units.net, found)))
        target = least if made is not None and least > too_few else (too_few + fewest) // 2
    return found


def _full(net: Net, part: Int32Array) -> float:
    """Parts that would hold what is used of every limit."""
    used = _used(net, new_state(net, part, int(part.max(initial=-1)) + 1, -1)).sum(axis=0)
    return float((used / np.where(net.limits > 0, net.limits, np.inf)).max(initial=0.0))


def _into(units: Units, part: Int32Array, n_parts: int, share: FloatArray, seed: int, how: _Schedule = _SOFT) -> Int32Array | None:
    """``part`` in ``n_parts`` parts, the emptiest ones shared out; None if limits are passed in the end."""
    net, inside = units.net, units.order
    n_now = int(part.max(initial=-1)) + 1
    load = np.bincount(part[inside], share[inside], n_now)
    keep = np.zeros(n_now, bool)
    keep[np.argsort(-load, kind="stable")[:n_parts]] = True
    if len(np.unique(net.unit_class[inside])) > len(np.unique(net.unit_class[inside[keep[part[inside]]]])):
        return None
    found = compress(np.where((part >= 0) & keep[part], part, -1).astype(np.int32))
    rng, random = np.random.default_rng([seed, 4]), np.array([seed], np.uint64)
    scratch = new_scratch(net, n_parts)
    slope = np.zeros(n_parts)
    wish, wish_part = np.full(WISHES, -1, np.int32), np.full(WISHES, -1, np.int32)
    state = new_state(net, found, n_parts, -1)
    worth = max(float(state.n_in.mean()), 1.0)
    price = np.full(n_parts, worth)
    rounds = int(np.clip(_WORK // max(len(net.out_units), 1), _FEWEST_ROUNDS, how.most_rounds))
    for i in range(rounds + _LAST):
        order = rng.permutation(inside)
        order = order[np.argsort(rng.permutation(n_parts)[found[order]], kind="stable")]
        temperature = how.hot * (_COLD / how.hot) ** min(1.0, i / (rounds - 1))
        _relax(net, state, scratch, order, _below_limits(net, state), price, temperature, slope, wish, wish_part, random)
        found = state.part
        if (found[inside] < 0).any():
            return None
        state = new_state(net, found, n_parts, -1)
        over = over_parts(net, state)
        if not over.any():
            return compress(found)
        if i >= rounds:
            worth *= how.harder
        price = price * np.where(over, how.rise, how.fall)
        price = np.clip(price * min(1.0, how.mean * worth / price.mean()), worth, how.dear * worth)
    fixed = repair(units, found, share=share, most=n_parts)
    return None if fixed is None else compress(fixed)


def _used(net: Net, state: State) -> FloatArray:
    """What each part uses of each limit, (parts, limits)."""
    used: FloatArray = state.own + state.n_in[:, None] * net.axon_in + state.n_out[:, None] * net.axon_out
    return used


def _below_limits(net: Net, state: State) -> FloatArray:
    """What is aimed at: below each limit by half of the room left in the mean, at most a hundredth, for it is passed a little."""
    spare = 1.0 - _used(net, state).mean(axis=0) / np.where(net.limits > 0, net.limits, np.inf)
    aim: FloatArray = net.limits * (1.0 - np.clip(_AIM * spare, 0.0, _MOST_AIM))
    return aim


@numba.njit(cache=True, nogil=True)
def _beyond(net: Net, st: State, limits: FloatArray, p: int, u: int, sign: float, n_in: int, n_out: int) -> float:
    """By how much part p passes its limits with (``sign`` 1) or without (-1) unit u, in full parts, summed over the limits."""
    found = 0.0
    for r in range(len(limits)):
        if limits[r] > 0.0:
            used = st.own[p, r] + sign * net.cost[u, r] + net.axon_in[r] * n_in + net.axon_out[r] * n_out
            found += max(0.0, used / limits[r] - 1.0)
    return found


@numba.njit(cache=True, nogil=True)
def _price_out(net: Net, st: State, limits: FloatArray, price: FloatArray, slope: FloatArray) -> None:
    """What one more axon-out costs each part: nothing while it is within its limits."""
    for p in range(len(slope)):
        slope[p] = 0.0
        for r in range(len(limits)):
            if net.axon_out[r] > 0.0 and st.own[p, r] + net.axon_in[r] * st.n_in[p] + net.axon_out[r] * st.n_out[p] >= limits[r]:
                slope[p] += price[p] * net.axon_out[r] / max(limits[r], 1e-300)


@numba.njit(cache=True, nogil=True)
def _labels_fit(net: Net, st: State, u: int, p: int) -> bool:
    """Whether part p may have unit u as far as classes and labels go."""
    if st.size[p] > 0 and st.part_class[p] != net.unit_class[u]:
        return False
    for k in range(len(net.set_limits)):
        extra = 0
        for e in range(net.label_start[u], net.label_start[u + 1]):
            extra += net.label_set[net.labels[e]] == k and st.label_count[p, net.labels[e]] == 0
        if extra > 0 and st.n_labels[p, k] + extra > net.set_limits[k]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _weigh(net: Net, st: State, sc: Scratch, u: int, slope: FloatArray) -> tuple[int, float, int]:
    """(number of touched parts, base, sources that leave with the unit): a move to part p makes axons fewer by base + score[p]; untouched
    parts: base. Axons of parts that have too many axons-out count more."""
    part, slot_start, slot_part, slot_count, slot_len = st.part, st.slot_start, st.slot_part, st.slot_count, st.slot_len
    score, shared, stamp, touched = sc.score, sc.shared, sc.stamp, sc.touched
    sc.token[0] += 1
    now = sc.token[0]
    a = part[u]
    n = 0
    base = 0.0
    freed = 0
    for e in range(net.in_start[u], net.in_start[u + 1]):
        s = net.in_sources[e]
        home = part[net.unit_of[s]]
        w = 1.0 + (slope[home] if home >= 0 else 0.0)
        base -= w
        for i in range(slot_start[s], slot_start[s] + slot_len[s]):
            p = slot_part[i]
            if p == a:
                if slot_count[i] == 1:
                    freed += 1
                    base += w
                continue
            if stamp[p] != now:
                stamp[p] = now
                score[p] = 0.0
                shared[p] = 0
                touched[n] = p
                n += 1
            score[p] += w
            shared[p] += 1
    return n, base, freed


@numba.njit(cache=True, nogil=True)
def _swap(
    net: Net, st: State, sc: Scratch, limits: FloatArray, price: FloatArray, slope: FloatArray, u: int, v: int, gain: float, least: float
) -> bool:
    """Exchange u and v if that, limits and the ``gain`` of moving u included, gains more than ``least``."""
    a, b = st.part[u], st.part[v]
    for p in (a, b):
        gain += price[p] * _beyond(net, st, limits, p, u, 0.0, st.n_in[p], st.n_out[p])
    move(net, st, u, b)
    _, base, _ = _weigh(net, st, sc, v, slope)
    gain += base + (sc.score[a] if sc.stamp[a] == sc.token[0] else 0.0)
    move(net, st, v, a)
    for p in (a, b):
        gain -= price[p] * _beyond(net, st, limits, p, u, 0.0, st.n_in[p], st.n_out[p])
    if gain > least:
        return True
    move(net, st, v, b)
    move(net, st, u, a)
    return False


@numba.njit(cache=True, nogil=True)
def _relax(
    net: Net,
    st: State,
    sc: Scratch,
    order: Int32Array,
    limits: FloatArray,
    price: FloatArray,
    temperature: float,
    slope: FloatArray,
    wish: Int32Array,
    wish_part: Int32Array,
    random: _random.State,
) -> None:
    """One round: each unit draws a part, the likelier the fewer axons there are then, and the less limits are passed. Where only limits
    keep it from leaving, it may change places with a unit that wants to come the other way.

    ``wish``, ``wish_part``: memory of (unit, where it wants to go) between rounds, -1 at first.
    """
    part, score, shared, stamp, touched = st.part, sc.score, sc.shared, sc.stamp, sc.touched
    n_parts = len(st.size)
    for at in range(len(order)):
        if at % _EVERY == 0:
            _price_out(net, st, limits, price, slope)
        u = order[at]
        a = part[u]
        n, base, freed = _weigh(net, st, sc, u, slope)
        degree = net.in_start[u + 1] - net.in_start[u]
        p = np.int32(min(uniform(random) * n_parts, n_parts - 1.0))
        if p != a and stamp[p] != sc.token[0]:
            stamp[p] = sc.token[0]
            score[p] = 0.0
            shared[p] = 0
            touched[n] = p
            n += 1
        sent = 0
        for m in range(net.member_start[u], net.member_start[u + 1]):
            sent += st.slot_len[net.members[m]]
        best, wanted = a, a
        best_value = wanted_value = -np.inf
        eased = 0.0
        if a >= 0:
            best_value = wanted_value = temperature * gumbel(random)
            before, after = _beyond(net, st, limits, a, u, 0.0, st.n_in[a], st.n_out[a]), 0.0
            if before > 0.0:
                after = _beyond(net, st, limits, a, u, -1.0, st.n_in[a] - freed, st.n_out[a] - sent)
            eased = price[a] * (before - after)
        for i in range(n):
            p = touched[i]
            gain = base + score[p]
            if a >= 0 and gain + eased < -8.0 * temperature:
                continue
            if not _labels_fit(net, st, u, p):
                continue
            beyond = _beyond(net, st, limits, p, u, 1.0, st.n_in[p] + degree - shared[p], st.n_out[p] + sent)
            if beyond > 0.0:
                beyond -= _beyond(net, st, limits, p, u, 0.0, st.n_in[p], st.n_out[p])
            value = gain + temperature * gumbel(random)
            if value > wanted_value:
                wanted, wanted_value = p, value
            if value + eased - price[p] * beyond > best_value:
                best, best_value = p, value + eased - price[p] * beyond
        if best != a:
            move(net, st, u, best)
        elif wanted != a:
            slot = (np.int64(wanted) * n_parts + a) % len(wish)
            v = wish[slot]
            if v >= 0 and part[v] == wanted and wish_part[slot] == a and _labels_fit(net, st, v, a):
                wish[slot] = -1
                least = temperature * np.log(uniform(random) + 1e-17)
                if _swap(net, st, sc, limits, price, slope, u, v, base + score[wanted], least):
                    continue
            slot = (np.int64(a) * n_parts + wanted) % len(wish)
            wish[slot] = u
            wish_part[slot] = wanted


__all__ = ["squeeze"]
