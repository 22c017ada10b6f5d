"""Number formats of fixed-point e-prop, from the bounds of :mod:`~.ranges` (docs/spinnaker-eprop.md, "Formats")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop.ranges import (
    ACCUMULATOR_BITS,
    LEVELS,
    LONGEST,
    WINDOW,
    Adaptation,
    Bounds,
    Rule,
    bounds,
    psi_bits,
)

WORD_BITS = 31
POWER_BITS = 16
"""Fraction bits of decays and of their powers"""
SHIFTS = (
    *("psi_to_a", "psi_to_b", "signal_to_c", "signal_to_d", "a_to_total", "b_to_total", "a_to_e", "b_to_r"),
    *("power", "power_reg", "sum_bits"),
)
"""Constants that are shifts to the right"""
ADAPTIVE_SHIFTS = ("mix", "whole_to_mix", "rise", "piece", "aq_to_x", "x_to_q", "a_to_b")
"""Those of adaptive neurons"""
WHOLE_BITS = 30
"""Fraction bits of m within a block, and of 1 / (rho - beta psi)"""
PIECES = 128
"""The table of 1 / (rho - beta psi) is linear within each of as many pieces, at most"""
_STATE_BITS = {16: 15, 32: 28}
"""Width of e~ and r~ -> bits that they use beside the sign: sums of three products stay within 64"""
_TABLE = npt.NDArray[np.int32]
_LEAST_ELIGIBILITY = 1000.0
"""Units that the largest eligibility must have where adaptation takes bits from it"""
_LEAST_DECAY = 20
_MOST_FRACTION = 14
"""Fraction bits that no number needs more of: its relative rounding error is then below what 16-bit states have"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scales:
    """Fraction bits (``q_*``) and tables. A value x is held as round(x 2^q).

    q_sum = q_c + q_e = q_d + q_r = q_total + q_z, so that a weight change is one 64-bit sum, rounded once; q_z + q_a = q_e + q_power and
    q_z + q_b = q_r + q_power_reg, so that a catch-up is too. Adaptive: q_q + q_mix = q_z + q_a, which Ae and m of a block have; Aq has q_a,
    Be q_z + q_b - q_q, Eq q_sum - q_q.
    signal_max, reg_max : limits of the integers L and R, in which one unit stands for ``signal_unit``; state_bits : of e~ and r~.
    """

    rule: Rule
    bounds: Bounds
    state_bits: int
    q_z: int
    q_e: int
    q_r: int
    q_a: int
    q_b: int
    q_c: int
    q_d: int
    q_total: int
    q_signal: int
    q_psi: int
    q_undo: int
    q_undo_reg: int
    q_power: int
    q_power_reg: int
    signal_max: int
    reg_max: int
    q_q: int = 0
    q_mix: int = 0
    q_x: int = 0
    q_inverse: int = 0
    q_decay: int = 0

    @property
    def adaptive(self) -> bool:
        """Whether synapses have a state for adaptation."""
        return self.rule.adaptation is not None

    @property
    def q_sum(self) -> int:
        """Fraction bits of a weight change before it is rounded."""
        return self.q_c + self.q_e

    @property
    def signal_unit(self) -> float:
        """Learning signal of one unit of the integer L (and regularisation term of one of R)."""
        unit = self.rule.weight_unit * 2.0**-ACCUMULATOR_BITS
        return float(unit * 2.0**-self.q_signal / self.rule.learning_rate)

    def tables(self) -> dict[str, _TABLE]:
        """The tables that fold, event and catch-up read, name -> int32 array."""
        rule, n = self.rule, np.arange(WINDOW + 1)
        forward, blocks = n - 1.0, float(WINDOW) * 2.0 ** np.arange(LEVELS)
        found = {
            "alpha": _fixed(rule.alpha**n, POWER_BITS),
            "alpha_inverse": _fixed(rule.alpha**-n, self.q_z),
            "kappa_past": _fixed(rule.kappa**forward, POWER_BITS),
            "kappa_reg_past": _fixed(rule.kappa_reg**forward, POWER_BITS),
            "undo": _fixed((rule.alpha * rule.kappa) ** -n, self.q_undo),
            "undo_reg": _fixed((rule.alpha * rule.kappa_reg) ** -n, self.q_undo_reg),
            "alpha_window": _fixed(rule.alpha**blocks, 30),
            "kappa_window": _fixed(rule.kappa**blocks, self.q_power),
            "kappa_reg_window": _fixed(rule.kappa_reg**blocks, self.q_power_reg),
        }
        if self.adaptive:
            least, piece = self._pieces()
            at = (least + (np.arange(PIECES + 1) << piece)) * 2.0**-self.q_decay
            found["inverse"] = _fixed(1.0 / at, WHOLE_BITS)
        return found

    def _pieces(self) -> tuple[int, int]:
        """Return where the table of inverses begins, and the bits of a piece, in units of q_decay."""
        assert self.rule.adaptation is not None
        least = math.floor(self.rule.adaptation.least * 2.0**self.q_decay) - 4
        span = math.ceil(self.rule.adaptation.decay * 2.0**self.q_decay) - least
        return least, max(span.bit_length() - (PIECES.bit_length() - 1), 1)

    def constants(self) -> dict[str, int]:
        """The single numbers beside the tables, by the names that C and the kernels have."""
        rule = self.rule

        def one(value: float, bits: int) -> int:
            return int(_fixed(np.array([value]), bits)[0])

        found = {
            "kappa": one(rule.kappa, POWER_BITS),
            "kappa_reg": one(rule.kappa_reg, POWER_BITS),
            "rest_reg": one(1.0 - rule.kappa_reg, POWER_BITS),
            "before": one(1.0 / (rule.alpha * rule.kappa), POWER_BITS),
            "before_reg": one((1.0 - rule.kappa_reg) / (rule.alpha * rule.kappa_reg), POWER_BITS),
            "psi_to_a": self.q_psi + POWER_BITS - self.q_a,
            "psi_to_b": self.q_psi + 2 * POWER_BITS - self.q_b,
            "signal_to_c": self.q_signal + POWER_BITS - self.q_c,
            "signal_to_d": self.q_signal + POWER_BITS - self.q_d,
            "a_to_total": self.q_signal + self.q_a - self.q_total,
            "b_to_total": self.q_signal + self.q_b - self.q_total,
            "a_to_e": self.q_a + self.q_undo - self.q_e,
            "b_to_r": self.q_b + self.q_undo_reg - self.q_r,
            "power": self.q_power,
            "power_reg": self.q_power_reg,
            "sum_bits": self.q_sum,
            "state_most": 2 ** _STATE_BITS[self.state_bits] - 1,
            "signal_max": self.signal_max,
            "reg_max": self.reg_max,
        }
        return found | self._adaptive_constants() if self.adaptive else found

    def _adaptive_constants(self) -> dict[str, int]:
        assert self.rule.adaptation is not None
        least, piece = self._pieces()
        return {
            "mix": self.q_mix,
            "whole_to_mix": WHOLE_BITS - self.q_mix,
            "rise": self.q_psi - round(math.log2(self.rule.adaptation.unit)) - self.q_decay,
            "decay_bits": self.q_decay,
            "decay_least": least,
            "piece": piece,
            "inverse_bits": self.q_inverse,
            "aq_to_x": self.q_a + self.q_inverse - self.q_x,
            "x_to_q": self.q_z + self.q_x - self.q_q,
            "a_to_b": POWER_BITS + self.q_a - self.q_b,
        }


def _fixed(values: npt.NDArray[np.float64], bits: int) -> _TABLE:
    scaled = np.rint(values * 2.0**bits)
    if np.abs(scaled).max() > 2**WORD_BITS - 1:
        raise ValueError(f"a table of {bits} fraction bits does not fit 32 bits")
    table: _TABLE = scaled.astype(np.int32)
    return table


def choose_scales(rule: Rule, *, state_bits: int = 16) -> Scales:
    """Return the finest formats for which no number of the bounds overflows: states of ``state_bits``, all else 32 bits.

    Raises
    ------
    ValueError
        If the bounds leave no format (a learning rate too large for the weight unit; adaptation that 16 bits cannot undo).
    """
    if state_bits not in _STATE_BITS:
        raise ValueError("states have 16 or 32 bits")
    limit = bounds(rule)
    q_e, q_r = _room(limit.e, _STATE_BITS[state_bits]), _room(limit.r, _STATE_BITS[state_bits])
    most = _MOST_FRACTION if state_bits == 16 else 20
    q_e, q_r = min(q_e, most), min(q_r, most)
    if rule.adaptation is not None:
        _check_eligibility(rule, limit, q_e, state_bits)
    q_z = min(_room(limit.z, WORD_BITS - 1), most)
    q_a, q_b = min(_room(limit.a, WORD_BITS - 1), most + 2), min(_room(limit.b, WORD_BITS - 1), most + 2)
    q_q, most_power = min(_room(limit.q, _STATE_BITS[state_bits]), most), 30
    if rule.adaptation is not None:
        most_power = min(30, 29 + q_q - max(q_e, q_r))  # so that Ae and Be, which are below 1, and m have at most 29
    q_power, q_power_reg = min(q_z + q_a - q_e, most_power), min(q_z + q_b - q_r, most_power)
    q_a, q_b = q_power + q_e - q_z, q_power_reg + q_r - q_z
    signal = rule.learning_rate * max(rule.signal, rule.reg) / (rule.weight_unit * 2.0**-ACCUMULATOR_BITS)
    q_signal = min(_room(signal, WORD_BITS - 1), most)
    # q_c, q_d and q_total are one number apart from what their partners have
    q_sum = min(_room(limit.c, WORD_BITS - 1) + q_e, _room(limit.total, WORD_BITS - 1) + q_z, q_signal + POWER_BITS - 1 + q_e)
    if rule.reg > 0.0:
        q_sum = min(q_sum, _room(limit.d, WORD_BITS - 1) + q_r, q_signal + POWER_BITS - 1 + q_r)
    if rule.adaptation is not None:
        q_sum = min(q_sum, _room(limit.total_q, WORD_BITS - 1) + q_q)
    q_sum = min(q_sum, q_signal + q_a + q_z - 1, q_signal + q_b + q_z - 1)  # every shift is of a bit at least
    if q_sum < 1 or q_signal < 0:
        raise _too_much(rule.signal, signal, rule.weight_unit)
    undo, undo_reg = (rule.alpha * rule.kappa) ** -WINDOW, (rule.alpha * rule.kappa_reg) ** -WINDOW
    unit = rule.weight_unit * 2.0**-ACCUMULATOR_BITS * 2.0**-q_signal / rule.learning_rate
    found = Scales(
        rule=rule,
        bounds=limit,
        state_bits=state_bits,
        q_z=q_z,
        q_e=q_e,
        q_r=q_r,
        q_a=q_a,
        q_b=q_b,
        q_c=q_sum - q_e,
        q_d=q_sum - q_r,
        q_total=q_sum - q_z,
        q_signal=q_signal,
        q_psi=psi_bits(rule.height),
        q_undo=min(_room(undo, WORD_BITS), 16),
        q_undo_reg=min(_room(undo_reg, WORD_BITS), 16),
        q_power=q_power,
        q_power_reg=q_power_reg,
        signal_max=math.floor(rule.signal / unit),
        reg_max=math.floor(rule.reg / unit),
    )
    return _with_shifts(found if rule.adaptation is None else _adaptive(found, rule.adaptation, q_q))


def _check_eligibility(rule: Rule, limit: Bounds, q_e: int, state_bits: int) -> None:
    """Raise ValueError where what adaptation does within a block takes too many bits from the eligibility."""
    assert rule.adaptation is not None
    largest = rule.height / ((1.0 - rule.alpha**rule.interval) * (1.0 - rule.kappa))
    if largest * 2.0**q_e < _LEAST_ELIGIBILITY:
        raise ValueError(
            f"adapt_beta psi of up to {rule.adaptation.share:.3g} makes up to {limit.e:.3g} of an eligibility of {largest:.3g} "
            f"within a block, which leaves that {largest * 2.0**q_e:.3g} units in states of {state_bits} bits; use --set state_bits=32, "
            "or a smaller adapt_beta or height of the surrogate"
        )


def _adaptive(found: Scales, adaptation: Adaptation, q_q: int) -> Scales:
    """Return the formats with those of the second eligibility state. Raises ValueError where beta psi has too few bits."""
    limit = found.bounds
    q_product = found.q_psi - round(math.log2(adaptation.unit))
    q_decay = min(q_product - 1, 31)
    if q_decay < _LEAST_DECAY:
        raise ValueError(f"adapt_beta psi has {q_product} fraction bits, {_LEAST_DECAY + 1} are needed: thresholds are too far from rest")
    q_inverse = min(_room(limit.inverse, WORD_BITS - 1), 29)
    return replace(
        found,
        q_q=q_q,
        q_mix=found.q_power + found.q_e - q_q,
        q_x=min(_room(limit.x, WORD_BITS - 1), found.q_a + q_inverse - 1),
        q_inverse=q_inverse,
        q_decay=q_decay,
    )


def choose_readout_scales(rule: Rule) -> Scales:
    """Return the formats of a readout's rule, whose synapses have no eligibility: g is the sum of L zbar, so E is all that a neuron keeps.

    Raises ValueError as :func:`choose_scales` does.
    """
    zbar = 1.0 / (1.0 - rule.alpha**rule.interval)
    signal = rule.learning_rate * rule.signal / (rule.weight_unit * 2.0**-ACCUMULATOR_BITS)
    total = signal * float((rule.alpha ** np.arange(LONGEST)).sum())
    limit = Bounds(z=zbar * rule.alpha**-WINDOW, e=0.0, r=0.0, a=1.0, b=0.0, c=0.0, d=0.0, total=total)
    q_z = min(_room(limit.z, WORD_BITS - 1), _MOST_FRACTION)
    q_signal = min(_room(signal, WORD_BITS - 1), _MOST_FRACTION)
    q_total = min(_room(total, WORD_BITS - 1), q_signal + POWER_BITS - 1)
    if q_total + q_z < 1 or q_signal < 0:
        raise _too_much(rule.signal, signal, rule.weight_unit)
    unit = rule.weight_unit * 2.0**-ACCUMULATOR_BITS * 2.0**-q_signal / rule.learning_rate
    found = Scales(
        rule=rule, bounds=limit, state_bits=16, q_z=q_z, q_e=q_z, q_r=q_z, q_a=POWER_BITS, q_b=POWER_BITS, q_c=q_total, q_d=q_total,
        q_total=q_total, q_signal=q_signal, q_psi=15, q_undo=12, q_undo_reg=12, q_power=POWER_BITS, q_power_reg=POWER_BITS,
        signal_max=math.floor(rule.signal / unit), reg_max=0,
    )  # fmt: skip
    return _with_shifts(found)


def _with_shifts(scales: Scales) -> Scales:
    """Return the scales if all shifts are of 1 to 62 bits, as rounding to the nearest needs; ValueError otherwise."""
    numbers = scales.constants()
    shifts = {name: numbers[name] for name in (*SHIFTS, *(ADAPTIVE_SHIFTS if scales.adaptive else ()))}
    shifts["psi_to_b"] -= POWER_BITS  # the smaller of its two uses
    wrong = {name: shift for name, shift in shifts.items() if not 1 <= shift <= 62}
    if wrong:
        name, shift = next(iter(wrong.items()))
        raise ValueError(
            f"a shift of {shift} bits ({name}) leaves no number format: the learning rate is too far from the weight unit (--set growth=)"
        )
    return scales


def silent_scales() -> Scales:
    """Return formats for cores whose synapses do not learn, where something has to stand in their place."""
    return choose_readout_scales(
        Rule(alpha=0.9, kappa=0.9, kappa_reg=0.9, height=1.0, learning_rate=1.0, weight_unit=1.0, interval=1.0, signal=1.0)
    )


def _too_much(signal: float, moved: float, unit: float) -> ValueError:
    moved *= 2.0**-ACCUMULATOR_BITS
    return ValueError(
        f"a learning signal of {signal:g} moves a weight by {moved:.3g} units of {unit:g}: too much for 32 bits (a smaller learning rate, "
        "or coarser weights: --set growth=)"
    )


def _room(largest: float, bits: int) -> int:
    """Return the fraction bits that a number up to ``largest`` leaves of ``bits``."""
    return bits - max(math.floor(math.log2(largest)) + 1, -16) if largest > 0.0 else bits
