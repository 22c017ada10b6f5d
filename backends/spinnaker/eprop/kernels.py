"""The integer arithmetic of e-prop on a core, compiled: what templates/extension/eprop.h does, bit for bit.

Integers are held in 64 bits here; the scales' bounds keep them in the 32 (states: 16) that the C has, and ``saturate`` is the C's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop.ranges import ACCUMULATOR_BITS, LEVELS, WINDOW
from neurocompile.backends.spinnaker.eprop.scales import POWER_BITS, WHOLE_BITS, Scales
from neurocompile.ir._types import IntArray

Ints = npt.NDArray[np.int64]
A, A_OLD, B, B_OLD, C, D, E, PSI = range(8)
"""Columns of a neuron's state"""
M, INVERSE, AQ, AE, AE_OLD, BE, BE_OLD, EQ, X, Y, Y_REG = range(8, 19)
"""Those of adaptive neurons: m and 1 / m (eps of q = 1), Aq, Ae, Be, Eq; Aq / m, A - Ae Aq / m and B - Be Aq / m, which spikes undo"""
TOTAL_A, TOTAL_B, TOTAL_C, TOTAL_D, TOTAL_E = range(5)
"""Columns of a block's totals"""
TOTAL_M, TOTAL_AQ, TOTAL_AE, TOTAL_BE, TOTAL_EQ = range(5, 10)
"""Those of adaptive neurons"""
_WORD = 2**31 - 1
_WINDOW_BITS = 5
assert 1 << _WINDOW_BITS == WINDOW


class Constants(NamedTuple):
    """Tables and numbers of :class:`~.scales.Scales`, for kernels."""

    alpha: Ints
    alpha_inverse: Ints
    kappa_past: Ints
    kappa_reg_past: Ints
    undo: Ints
    undo_reg: Ints
    alpha_window: Ints
    kappa_window: Ints
    kappa_reg_window: Ints
    kappa: int
    kappa_reg: int
    rest_reg: int
    before: int
    before_reg: int
    psi_to_a: int
    psi_to_b: int
    signal_to_c: int
    signal_to_d: int
    a_to_total: int
    b_to_total: int
    a_to_e: int
    b_to_r: int
    power: int
    power_reg: int
    sum_bits: int
    state_most: int
    signal_max: int
    reg_max: int
    adaptive: bool
    inverse: Ints
    mix: int
    whole_to_mix: int
    rise: int
    decay_bits: int
    decay_least: int
    piece: int
    inverse_bits: int
    aq_to_x: int
    x_to_q: int
    a_to_b: int


_NOT_ADAPTIVE = {"inverse": np.zeros(1, np.int64)} | dict.fromkeys(
    ("mix", "whole_to_mix", "rise", "decay_bits", "decay_least", "piece", "inverse_bits", "aq_to_x", "x_to_q", "a_to_b"), 0
)


def constants(scales: Scales) -> Constants:
    """Return the constants of some scales."""
    values: dict[str, Any] = {**_NOT_ADAPTIVE, "adaptive": scales.adaptive}
    values |= {name: table.astype(np.int64) for name, table in scales.tables().items()}
    values |= scales.constants()
    return Constants(**values)


@numba.njit(cache=True, nogil=True, inline="always")
def rounded(value: int, shift: int) -> int:
    """value 2^-shift, to the nearest, halves up."""
    return (value + ((1 << shift) >> 1)) >> shift


@numba.njit(cache=True, nogil=True, inline="always")
def limited(value: int, most: int) -> int:
    return -most if value < -most else (most if value > most else value)


@numba.njit(cache=True, nogil=True)
def _compose(k: Constants, level: int, first: Ints, second: Ints, both: Ints) -> None:
    """Set ``both`` to the totals of two stretches of 2^level blocks, one after the other."""
    alpha, kappa, kappa_reg = k.alpha_window[level], k.kappa_window[level], k.kappa_reg_window[level]
    both[TOTAL_A] = rounded(first[TOTAL_A] * kappa, k.power) + rounded(second[TOTAL_A] * alpha, 30)
    both[TOTAL_C] = first[TOTAL_C] + rounded(second[TOTAL_C] * kappa, k.power)
    both[TOTAL_E] = first[TOTAL_E] + rounded(first[TOTAL_A] * second[TOTAL_C], k.power) + rounded(second[TOTAL_E] * alpha, 30)
    if k.reg_max:
        both[TOTAL_B] = rounded(first[TOTAL_B] * kappa_reg, k.power_reg) + rounded(second[TOTAL_B] * alpha, 30)
        both[TOTAL_D] = first[TOTAL_D] + rounded(second[TOTAL_D] * kappa_reg, k.power_reg)
        both[TOTAL_E] += rounded(first[TOTAL_B] * second[TOTAL_D], k.power_reg)
    if k.adaptive:
        _compose_adaptive(k, level, first, second, both)


@numba.njit(cache=True, nogil=True)
def _compose_adaptive(k: Constants, level: int, first: Ints, second: Ints, both: Ints) -> None:
    """Add what goes through eps to the totals of two stretches."""
    aq, m, lost = first[TOTAL_AQ], first[TOTAL_M], first[TOTAL_AE]
    both[TOTAL_M] = rounded(m * second[TOTAL_M], k.mix)
    both[TOTAL_AQ] = rounded(aq * second[TOTAL_M], k.mix) + rounded(second[TOTAL_AQ] * k.alpha_window[level], 30)
    both[TOTAL_A] += rounded(aq * second[TOTAL_AE], k.mix)
    both[TOTAL_E] += rounded(aq * second[TOTAL_EQ], k.mix)
    both[TOTAL_AE] = rounded(lost * k.kappa_window[level], k.power) + rounded(m * second[TOTAL_AE], k.mix)
    both[TOTAL_EQ] = first[TOTAL_EQ] + rounded(lost * second[TOTAL_C], k.power) + rounded(m * second[TOTAL_EQ], k.mix)
    if k.reg_max:
        less = first[TOTAL_BE]
        both[TOTAL_B] += rounded(aq * second[TOTAL_BE], k.mix)
        both[TOTAL_BE] = rounded(less * k.kappa_reg_window[level], k.power_reg) + rounded(m * second[TOTAL_BE], k.mix)
        both[TOTAL_EQ] += rounded(less * second[TOTAL_D], k.power_reg)


@numba.njit(cache=True, nogil=True, inline="always")
def place(level: int, block: int, blocks: int) -> int:
    """Return where the totals of the 2^level blocks that begin with ``block`` stand in a ring for ``blocks`` of them."""
    return 2 * blocks - (2 * blocks >> level) + (block >> level) % (blocks >> level)


@numba.njit(cache=True, nogil=True)
def _finish(k: Constants, last: int, row: Ints, ring: Ints) -> None:
    """Keep the totals of block ``last``, and of the longer stretches that end with it."""
    blocks = _blocks(ring)
    block = ring[place(0, last, blocks)]
    block[TOTAL_A], block[TOTAL_B] = row[A], row[B]
    block[TOTAL_C], block[TOTAL_D], block[TOTAL_E] = row[C], row[D], row[E]
    if k.adaptive:
        block[TOTAL_M] = rounded(row[M], k.whole_to_mix)
        block[TOTAL_AQ], block[TOTAL_AE], block[TOTAL_BE], block[TOTAL_EQ] = row[AQ], row[AE], row[BE], row[EQ]
    for level in range(1, LEVELS):
        span = 1 << level
        if (last + 1) & (span - 1):
            return
        begin = last + 1 - span
        first, second = ring[place(level - 1, begin, blocks)], ring[place(level - 1, begin + span // 2, blocks)]
        _compose(k, level - 1, first, second, ring[place(level, begin, blocks)])


@numba.njit(cache=True, nogil=True, inline="always")
def _blocks(ring: Ints) -> int:
    """Blocks that a neuron's ring is for: M + M/2 + M/4 rows."""
    return len(ring) * 4 // 7


@numba.njit(cache=True, nogil=True)
def fold(
    k: Constants,
    tick: int,
    psi: IntArray,
    signal: IntArray,
    reg: IntArray,
    adapt_decay: Ints,
    adapt_step: Ints,
    neuron: Ints,
    ring: Ints,
) -> None:
    """Let step ``tick`` enter the coefficients of all neurons of a core, after their update.

    psi (n,) : of this step; signal, reg (n,) : L and R of step ``tick`` - 2, clipped here; adapt_decay, adapt_step (n,) : rho (31 fraction
    bits) and beta (membrane); neuron (n, 8; adaptive: 19); ring (n, 7 M / 4, 5; adaptive: 10) : totals of the last M blocks, and of each
    two and four of them.
    """
    i = tick & (WINDOW - 1)
    for j in range(len(psi)):
        row = neuron[j]
        if i == 0:
            if tick:
                _finish(k, (tick >> _WINDOW_BITS) - 1, row, ring[j])
            row[A] = row[B] = row[C] = row[D] = row[E] = 0
            row[A_OLD] = -rounded(row[PSI] * k.before, k.psi_to_a)
            row[B_OLD] = -rounded(row[PSI] * k.before_reg, k.psi_to_b - POWER_BITS)
            if k.adaptive:
                _begin(k, adapt_decay[j], adapt_step[j], row)
        late, hold = limited(signal[j], k.signal_max), limited(reg[j], k.reg_max)
        row[C] += rounded(late * k.kappa_past[i], k.signal_to_c)
        row[E] += rounded(late * row[A_OLD], k.a_to_total)
        if k.reg_max:
            row[D] += rounded(hold * k.kappa_reg_past[i], k.signal_to_d)
            row[E] += rounded(hold * row[B_OLD], k.b_to_total)
        if k.adaptive:
            row[EQ] += rounded(late * row[AE_OLD], k.a_to_total)
            if k.reg_max:
                row[EQ] += rounded(hold * row[BE_OLD], k.b_to_total)
        enters = psi[j] * k.alpha[i]
        a, b = row[A], row[B]
        row[A_OLD], row[B_OLD], row[PSI] = a, b, psi[j]
        row[A] = rounded(a * k.kappa, POWER_BITS) + rounded(enters, k.psi_to_a)
        if k.reg_max:
            row[B] = rounded(b * k.kappa_reg, POWER_BITS) + rounded(enters * k.rest_reg, k.psi_to_b)
        if k.adaptive:
            _fold_adaptive(k, rounded(enters, k.psi_to_a), adapt_decay[j], adapt_step[j], row)


@numba.njit(cache=True, nogil=True, inline="always")
def inverse(k: Constants, rest: int) -> int:
    """Return 1 / rest, 30 fraction bits; rest : rho - beta psi, decay_bits; linear between the table's corners."""
    place = rest - k.decay_least
    at = place >> k.piece
    below: int = k.inverse[at]
    return below + rounded((k.inverse[at + 1] - below) * (place & ((1 << k.piece) - 1)), k.piece)


@numba.njit(cache=True, nogil=True)
def _begin(k: Constants, adapt_decay: int, adapt_step: int, row: Ints) -> None:
    """Begin a block: what eps has to do with the step before it, whose psi is in ``row``."""
    share, rho = rounded(row[PSI] * adapt_step, k.rise), adapt_decay >> (31 - k.decay_bits)
    upside = inverse(k, rho - share)
    ahead, lost = rounded(rho * upside, k.decay_bits), rounded(share * upside, k.decay_bits)
    row[A_OLD] = rounded(row[A_OLD] * ahead, WHOLE_BITS)
    row[AE_OLD] = rounded(lost * k.kappa_past[0], WHOLE_BITS + POWER_BITS - k.mix)
    row[M], row[INVERSE] = 1 << WHOLE_BITS, 1 << k.inverse_bits
    row[AQ] = row[AE] = row[BE] = row[EQ] = 0
    if k.reg_max:
        row[B_OLD] = rounded(row[B_OLD] * ahead, WHOLE_BITS)
        lost = rounded(lost * k.kappa_reg_past[0], POWER_BITS)
        row[BE_OLD] = rounded(lost * k.rest_reg, k.whole_to_mix + k.a_to_b)


@numba.njit(cache=True, nogil=True)
def _fold_adaptive(k: Constants, enters: int, adapt_decay: int, adapt_step: int, row: Ints) -> None:
    """Let psi of a step enter the coefficients of eps, and eps those of the eligibilities. enters : psi a^i as A has it."""
    share, rho = rounded(row[PSI] * adapt_step, k.rise), adapt_decay >> (31 - k.decay_bits)
    rest = rho - share
    less, more = rounded(share * row[AQ], k.decay_bits), rounded(share * row[M], k.decay_bits + k.whole_to_mix)
    row[AE_OLD] = row[AE]
    row[A] -= less
    row[AE] = rounded(row[AE] * k.kappa, POWER_BITS) - more
    row[AQ] = rounded(rest * row[AQ], k.decay_bits) + enters
    row[M] = rounded(rest * row[M], k.decay_bits)
    row[INVERSE] = rounded(row[INVERSE] * inverse(k, rest), WHOLE_BITS)
    row[X] = rounded(row[AQ] * row[INVERSE], k.aq_to_x)
    row[Y] = row[A] - rounded(row[X] * row[AE], k.x_to_q)
    if k.reg_max:
        row[BE_OLD] = row[BE]
        row[B] -= rounded(less * k.rest_reg, k.a_to_b)
        row[BE] = rounded(row[BE] * k.kappa_reg, POWER_BITS) - rounded(more * k.rest_reg, k.a_to_b)
        row[Y_REG] = row[B] - rounded(row[X] * row[BE], k.x_to_q)


@numba.njit(cache=True, nogil=True)
def fold_readout(k: Constants, tick: int, error: IntArray, neuron: Ints, ring: Ints) -> None:
    """Let the errors of step ``tick``, (n,), in units of the rule's learning signal, enter the coefficients of readouts: their synapses'
    change is the sum of error times zbar, which E alone carries."""
    i = tick & (WINDOW - 1)
    for j in range(len(error)):
        row = neuron[j]
        if i == 0:
            if tick:
                _finish(k, (tick >> _WINDOW_BITS) - 1, row, ring[j])
            row[E] = 0
        row[E] += rounded(limited(error[j], k.signal_max) * k.alpha[i], k.a_to_total)


@numba.njit(cache=True, nogil=True)
def touch(
    k: Constants,
    tick: int,
    spike: bool,
    head: Ints,
    target: IntArray,
    acc: Ints,
    e: Ints,
    r: Ints,
    q: Ints,
    low: int,
    high: int,
    neuron: Ints,
    ring: Ints,
    sent: Ints,
) -> int:
    """Bring a row up to step ``tick``; with ``spike`` its source has spiked in that step. Return how many states saturated.

    sent (m,) : with a spike, the 16-bit weights that it brings.

    head (2,) : z~ and the block that it and the row's states are anchored at; target, acc, e, r, q (m,) : the row's synapses, r and
    q where the rule has them; low, high : bounds of a weight, accumulator units.
    """
    block, saturated = tick >> _WINDOW_BITS, 0
    z, past = head[0], head[1]
    while past < block:
        level = LEVELS - 1
        while past & ((1 << level) - 1) or past + (1 << level) > block:
            level -= 1
        at = place(level, past, _blocks(ring[0]))
        faded = rounded(z * k.alpha_window[level], 30)
        for s in range(len(target)):
            total = ring[target[s], at]
            change = e[s] * total[TOTAL_C] + z * total[TOTAL_E]
            grown, grown_reg = e[s] * k.kappa_window[level] + z * total[TOTAL_A], 0
            if k.reg_max:
                change += r[s] * total[TOTAL_D]
                grown_reg = r[s] * k.kappa_reg_window[level] + z * total[TOTAL_B]
            if k.adaptive:
                change += q[s] * total[TOTAL_EQ]
                grown += q[s] * total[TOTAL_AE]
                grown_reg += q[s] * total[TOTAL_BE]
                later = rounded(q[s] * total[TOTAL_M] + z * total[TOTAL_AQ], k.mix)
                q[s] = limited(later, k.state_most)
                saturated += q[s] != later
            if k.reg_max:
                later = rounded(grown_reg, k.power_reg)
                r[s] = limited(later, k.state_most)
                saturated += r[s] != later
            acc[s] = limited(acc[s] - rounded(change, k.sum_bits), _WORD)
            later = rounded(grown, k.power)
            e[s] = limited(later, k.state_most)
            saturated += e[s] != later
        z, past = faded, past + (1 << level)
    if spike:
        n = (tick & (WINDOW - 1)) + 1
        more, undo, undo_reg = limited(z + k.alpha_inverse[n], _WORD), k.undo[n], k.undo_reg[n]
        saturated += more != z + k.alpha_inverse[n]
        for s in range(len(target)):
            own = neuron[target[s]]
            change = e[s] * own[C] + z * own[E]
            if k.reg_max:
                change += r[s] * own[D]
            if k.adaptive:
                change += q[s] * own[EQ]
            weight = acc[s] - rounded(change, k.sum_bits)
            weight = low if weight < low else (high if weight > high else weight)
            sent[s] = rounded(weight, ACCUMULATOR_BITS)
            later = e[s] - rounded(own[Y if k.adaptive else A] * undo, k.a_to_e)
            e[s] = limited(later, k.state_most)
            saturated += e[s] != later
            change = e[s] * own[C] + more * own[E]
            if k.reg_max:
                later = r[s] - rounded(own[Y_REG if k.adaptive else B] * undo_reg, k.b_to_r)
                r[s] = limited(later, k.state_most)
                saturated += r[s] != later
                change += r[s] * own[D]
            if k.adaptive:
                later = q[s] - rounded(own[X] * k.alpha_inverse[n], k.x_to_q)
                q[s] = limited(later, k.state_most)
                saturated += q[s] != later
                change += q[s] * own[EQ]
            acc[s] = limited(weight + rounded(change, k.sum_bits), _WORD)
        z = more
    head[0], head[1] = z, block
    return saturated


@numba.njit(cache=True, nogil=True)
def settled(
    k: Constants,
    head: Ints,
    target: IntArray,
    acc: Ints,
    e: Ints,
    r: Ints,
    q: Ints,
    low: int,
    high: int,
    neuron: Ints,
    out: Ints,
) -> None:
    """Set ``out`` (m,) to a row's weights as they would be sent now, accumulator units; the row must be anchored at the current block."""
    for s in range(len(target)):
        own = neuron[target[s]]
        change = e[s] * own[C] + head[0] * own[E]
        if k.reg_max:
            change += r[s] * own[D]
        if k.adaptive:
            change += q[s] * own[EQ]
        weight = acc[s] - rounded(change, k.sum_bits)
        out[s] = low if weight < low else (high if weight > high else weight)


def fresh(n: int, ring_blocks: int, *, adaptive: bool) -> tuple[Ints, Ints]:
    """Return (neuron, ring) of ``n`` neurons at rest."""
    if ring_blocks % 4:
        raise ValueError("a ring is for a multiple of 4 blocks")
    return np.zeros((n, 19 if adaptive else 8), np.int64), np.zeros((n, ring_blocks * 7 // 4, 10 if adaptive else 5), np.int64)
