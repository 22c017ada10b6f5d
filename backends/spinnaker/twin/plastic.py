"""Plastic rows: weights that change when their source spikes, by what has happened at the target since its last spike.

Spike pairs with additive or multiplicative dependence (``synapse_dynamics_stdp_mad``), alone or gated by rewards
(``synapse_dynamics_stdp_izhikevich_neuromodulation``): the order of operations and every rounding as in the machine code of the wheel's
binaries (docs/spinnaker.md, "The twin").
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker import accum
from neurocompile.backends.spinnaker.accum import multiply, wrap
from neurocompile.backends.spinnaker.learning import Modulation, PlasticRule
from neurocompile.backends.spinnaker.twin.events import Arrays, Table, Traces, before, decay, decay_table, decayed, half_word
from neurocompile.backends.spinnaker.twin.rows import Rows, Words
from neurocompile.ir._types import Int32Array, IntArray
from neurocompile.ir.npz import AnyArray

TAU_C_SHIFT, TAU_D_SHIFT = 4, 2
"""Ticks of a table's entry, as powers of two."""


class Rule(NamedTuple):
    """A rule's numbers, s16.15. least, most, plus, minus : bounds and amplitudes of the spike pairs (of the eligibility, where rewards
    gate); gate : -1 / (1 / tau_c + 1 / tau_d) in ms, 0 without rewards; floor, ceiling : bounds of gated weights."""

    multiplicative: bool
    least: int
    most: int
    plus: int
    minus: int
    tau_plus: Table
    tau_minus: Table
    gate: int
    floor: int
    ceiling: int
    tau_c: Table
    tau_d: Table


def rule_numbers(rule: PlasticRule, modulation: Modulation | None, dt_ms: float) -> Rule:
    """Return the numbers that sPyNNaker writes for a rule and what gates it."""
    nothing = Table(0, np.zeros(0, np.int64))
    pairs = Rule(
        multiplicative=rule.multiplicative,
        least=int(accum.encode(rule.w_min)),
        most=int(accum.encode(rule.w_max)),
        plus=int(accum.encode(rule.a_plus)),
        minus=int(accum.encode(rule.a_minus)),
        tau_plus=decay_table(dt_ms, rule.tau_plus),
        tau_minus=decay_table(dt_ms, rule.tau_minus),
        gate=0,
        floor=0,
        ceiling=0,
        tau_c=nothing,
        tau_d=nothing,
    )
    if modulation is None:
        return pairs
    return pairs._replace(
        gate=int(accum.encode(1 / -((1.0 / modulation.tau_c) + (1.0 / modulation.tau_d)))),
        floor=int(accum.encode(modulation.w_min)),
        ceiling=int(accum.encode(modulation.w_max)),
        tau_c=decay_table(dt_ms, modulation.tau_c, TAU_C_SHIFT),
        tau_d=decay_table(dt_ms, modulation.tau_d, TAU_D_SHIFT),
    )


@numba.njit(cache=True, nogil=True)
def _depress(rule: Rule, weight: int, trace: int) -> int:
    if rule.multiplicative:
        return wrap(weight - multiply(multiply(wrap(weight - rule.least), rule.minus), trace << 4))
    return max(wrap(weight - multiply(rule.minus, trace << 4)), rule.least)


@numba.njit(cache=True, nogil=True)
def _potentiate(rule: Rule, weight: int, trace: int) -> int:
    if rule.multiplicative:
        return wrap(weight + multiply(multiply(wrap(rule.most - weight), rule.plus), trace << 4))
    return min(wrap(weight + multiply(rule.plus, trace << 4)), rule.most)


@numba.njit(cache=True, nogil=True)
def _by_pairs(rule: Rule, held: Arrays, i: int, weight: int, tick: int, last_tick: int, last_trace: int) -> int:
    """Return a weight (s16.15) after what happened at target i since the source's last spike, and after this spike."""
    e = before(held, i, last_tick)
    for later in range(e + 1, held.last[i] + 1):
        gone = held.time[i, later] - last_tick
        if gone > 0:
            weight = _potentiate(rule, weight, decayed(last_trace, rule.tau_plus, gone))
    last = held.last[i]
    if last > 0:
        weight = _depress(rule, weight, decayed(held.post[i, last], rule.tau_minus, tick - held.time[i, last]))
    return weight


@numba.njit(cache=True, nogil=True)
def _gated(rule: Rule, eligibility: int, reward: int, ticks: int) -> int:
    """Return what a reward trace does to a weight in some ticks: the integral of both decays, in the release's order of products."""
    kept = half_word(((decay(rule.tau_c, ticks) * decay(rule.tau_d, ticks)) >> 11) - 2048)
    return multiply(multiply(multiply(eligibility, rule.gate), reward << 4), kept << 4)


@numba.njit(cache=True, nogil=True)
def _by_rewards(
    rule: Rule, held: Arrays, i: int, weight: int, eligibility: int, tick: int, last_tick: int, last_trace: int
) -> tuple[int, int]:
    """Return weight and eligibility (s16.15) after what happened at target i since the source's last spike, and after this spike."""
    e = before(held, i, last_tick)
    reward = half_word(decayed(held.reward[i, e], rule.tau_d, last_tick - held.time[i, e])) if e > 0 else 0
    now = last_tick
    for later in range(e + 1, held.last[i] + 1):
        then = held.time[i, later]
        if reward != 0:
            weight = wrap(weight + _gated(rule, eligibility, reward, then - now))
        eligibility = multiply(eligibility, decay(rule.tau_c, then - now) << 4)
        if not held.gated[i, later] and then > last_tick:
            eligibility = _potentiate(rule, eligibility, decayed(last_trace, rule.tau_plus, then - last_tick))
        reward = held.reward[i, later]
        now = then
    last = held.last[i]
    if last > 0:
        if reward != 0:
            weight = wrap(weight + _gated(rule, eligibility, reward, tick - now))
        eligibility = multiply(eligibility, decay(rule.tau_c, tick - now) << 4)
        eligibility = _depress(rule, eligibility, decayed(held.post[i, last], rule.tau_minus, tick - held.time[i, last]))
    return min(max(weight, rule.floor), rule.ceiling), eligibility


@numba.njit(cache=True, nogil=True)
def _receive(
    tick: int,
    spiked: IntArray,
    first: IntArray,
    place: Int32Array,
    delay: npt.NDArray[np.uint8],
    weight: Words,
    eligibility: Words,
    last_tick: IntArray,
    last_trace: Traces,
    shift: IntArray,
    rule: Rule,
    held: Arrays,
    ring: Words,
) -> None:
    """Change the rows of some sources that spike, and store what they send."""
    slots, n = ring.shape[0], len(held.last)
    for source in spiked:
        then, trace = int(last_tick[source]), int(last_trace[source])
        last_tick[source] = tick
        last_trace[source] = half_word(decayed(trace, rule.tau_plus, tick - then) + 2048)
        for k in range(first[source], first[source + 1]):
            receptor, i = place[k] // n, place[k] % n
            value = wrap(int(weight[k]) << shift[receptor])
            if rule.gate == 0:
                value = _by_pairs(rule, held, i, value, tick, then, trace)
            else:
                tagged = wrap(int(eligibility[k]) << shift[receptor])
                value, tagged = _by_rewards(rule, held, i, value, tagged, tick, then, trace)
                eligibility[k] = (tagged >> shift[receptor]) & 0xFFFF
            weight[k] = (value >> shift[receptor]) & 0xFFFF
            slot = (tick + delay[k]) % slots
            ring[slot, place[k]] = min(np.int64(ring[slot, place[k]]) + weight[k], 65535)


class PlasticRows:
    """What learns of one projection: its rows, and of each source the tick and the trace of its last spike."""

    def __init__(self, rows: Rows, rule: Rule, shift: IntArray) -> None:
        self.rows, self._rule, self._shift = rows, rule, shift
        n_pre = len(rows.first) - 1
        self._eligibility: Words = np.zeros(len(rows) if rule.gate else 0, np.uint16)
        self._tick, self._trace = np.zeros(n_pre, np.int64), np.zeros(n_pre, np.int16)

    def receive(self, tick: int, spiked: IntArray, held: Arrays, ring: Words) -> None:
        """Learn from the spikes of some sources, and store what they send."""
        r, past = self.rows, (self._eligibility, self._tick, self._trace)
        _receive(tick, spiked, r.first, r.place, r.delay, r.weight, *past, self._shift, self._rule, held, ring)

    def reset(self) -> None:
        """Forget all spikes and what is eligible; weights stay."""
        for values in (self._eligibility, self._tick, self._trace):
            values[:] = 0

    def changing(self) -> dict[str, AnyArray]:
        """All arrays that change, by name."""
        return {"weight": self.rows.weight, "eligibility": self._eligibility, "last tick": self._tick, "last trace": self._trace}
