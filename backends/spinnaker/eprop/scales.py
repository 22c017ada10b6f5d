"""Number formats of fixed-point e-prop, from bounds on what a rule's states can become (docs/spinnaker-eprop.md, "Ranges")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW = 32
"""Steps of a block (W)"""
LEVELS = 3
"""Totals are kept of 1, 2 and 4 blocks"""
LONGEST = WINDOW << (LEVELS - 1)
WORD_BITS = 31
POWER_BITS = 16
"""Fraction bits of decays and of their powers"""
ACCUMULATOR_BITS = 14
"""Fraction bits that a weight has beyond the 16 that are sent; 2 bits are left for what a block has not settled yet"""
SHIFTS = (
    *("psi_to_a", "psi_to_b", "signal_to_c", "signal_to_d", "a_to_total", "b_to_total", "a_to_e", "b_to_r"),
    *("power", "power_reg", "sum_bits"),
)
"""Constants that are shifts to the right"""
_STATE_BITS = {16: 15, 32: 28}
"""Width of e~ and r~ -> bits that they use beside the sign: sums of three products stay within 64"""
_TABLE = npt.NDArray[np.int32]
_FASTEST = 0.76
"""Least alpha kappa: (alpha kappa)^-W is then below 2^13"""
_MOST_FRACTION = 14
"""Fraction bits that no number needs more of: its relative rounding error is then below what 16-bit states have"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What scales follow from.

    alpha : membrane decay a step; kappa, kappa_reg : filters of the eligibility, a step; height : largest psi (1 / membrane unit);
    learning_rate : as in the description; weight_unit : of the 16-bit weight, membrane units; interval : fewest steps between two spikes
    of a source (>= 1); signal, reg : largest |L| and |regularisation term| (membrane units; reg 0: there is none), clipped beyond.

    Raises ValueError for numbers that have no fixed-point form (decays that are too fast, sizes that are not positive).
    """

    alpha: float
    kappa: float
    kappa_reg: float
    height: float
    learning_rate: float
    weight_unit: float
    interval: float
    signal: float
    reg: float = 0.0

    def __post_init__(self) -> None:
        for name in ("alpha", "kappa", "kappa_reg"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name):g}, must lie between 0 and 1")
        fastest = self.alpha * min(self.kappa, self.kappa_reg)
        if fastest < _FASTEST:
            raise ValueError(f"alpha kappa is {fastest:g} a step; blocks of {WINDOW} steps need {_FASTEST} or more")
        for name in ("height", "learning_rate", "weight_unit", "signal"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name):g}, must be above 0")
        if self.interval < 1.0 or self.reg < 0.0:
            raise ValueError("interval must be at least 1 step, reg at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Largest absolute values: z~, e~, r~, and of up to four blocks A, B, and C, D, E in accumulator units."""

    z: float
    e: float
    r: float
    a: float
    b: float
    c: float
    d: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scales:
    """Fraction bits (``q_*``) and tables. A value x is held as round(x 2^q).

    q_sum = q_c + q_e = q_d + q_r = q_total + q_z, so that a weight change is one 64-bit sum, rounded once; q_z + q_a = q_e + q_power and
    q_z + q_b = q_r + q_power_reg, so that a catch-up is too.
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
        return {
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

    def constants(self) -> dict[str, int]:
        """The single numbers beside the tables, by the names that C and the kernels have."""
        rule = self.rule

        def one(value: float, bits: int) -> int:
            return int(_fixed(np.array([value]), bits)[0])

        return {
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


def psi_bits(height: float) -> int:
    """Return the fraction bits of psi: it fits 16 bits."""
    return 15 - max(math.floor(math.log2(height)) + 1, 0)


def _fixed(values: npt.NDArray[np.float64], bits: int) -> _TABLE:
    scaled = np.rint(values * 2.0**bits)
    if np.abs(scaled).max() > 2**WORD_BITS - 1:
        raise ValueError(f"a table of {bits} fraction bits does not fit 32 bits")
    table: _TABLE = scaled.astype(np.int32)
    return table


def bounds(rule: Rule) -> Bounds:
    """Return the largest values that psi <= height, the fewest steps between spikes and clipped signals allow."""
    a, k, kr, n = rule.alpha, rule.kappa, rule.kappa_reg, np.arange(LONGEST + 1)
    zbar, block = 1.0 / (1.0 - a**rule.interval), n[: WINDOW + 1]
    big_a, big_b = _response(rule, k, 1.0), _response(rule, kr, 1.0 - kr)
    e = max(rule.height * zbar / (1.0 - k), float((zbar * big_a[block] * (a * k) ** -block).max()))
    r = max(rule.height * zbar, float((zbar * big_b[block] * (a * kr) ** -block).max()))
    before_a, before_b = rule.height / (a * k), rule.height * (1.0 - kr) / (a * kr)
    unit = rule.weight_unit * 2.0**-ACCUMULATOR_BITS
    signal, reg = rule.learning_rate * rule.signal / unit, rule.learning_rate * rule.reg / unit
    c, d = signal * float((k ** (n[:-1] - 1.0)).sum()), reg * float((kr ** (n[:-1] - 1.0)).sum())
    total = signal * (before_a + float(big_a[:-1].sum())) + reg * (before_b + float(big_b[:-1].sum()))
    return Bounds(
        z=zbar * a**-WINDOW, e=e, r=r, a=max(before_a, float(big_a.max())), b=max(before_b, float(big_b.max())), c=c, d=d, total=total
    )


def _response(rule: Rule, decay: float, gain: float) -> npt.NDArray[np.float64]:
    """Return the largest A (or B) after 0 .. 4 W indices: psi at its height in each."""
    found = np.zeros(LONGEST + 1)
    for i in range(LONGEST):
        found[i + 1] = decay * found[i] + gain * rule.height * rule.alpha**i
    return found


def choose_scales(rule: Rule, *, state_bits: int = 16) -> Scales:
    """Return the finest formats for which no number of the bounds overflows: states of ``state_bits``, all else 32 bits.

    Raises
    ------
    ValueError
        If the bounds leave no format (a learning rate too large for the weight unit).
    """
    if state_bits not in _STATE_BITS:
        raise ValueError("states have 16 or 32 bits")
    limit = bounds(rule)
    q_e, q_r = _room(limit.e, _STATE_BITS[state_bits]), _room(limit.r, _STATE_BITS[state_bits])
    most = _MOST_FRACTION if state_bits == 16 else 20
    q_e, q_r = min(q_e, most), min(q_r, most)
    q_z = min(_room(limit.z, WORD_BITS - 1), most)
    q_a, q_b = min(_room(limit.a, WORD_BITS - 1), most + 2), min(_room(limit.b, WORD_BITS - 1), most + 2)
    q_power, q_power_reg = min(q_z + q_a - q_e, 30), min(q_z + q_b - q_r, 30)
    q_a, q_b = q_power + q_e - q_z, q_power_reg + q_r - q_z
    signal = rule.learning_rate * max(rule.signal, rule.reg) / (rule.weight_unit * 2.0**-ACCUMULATOR_BITS)
    q_signal = min(_room(signal, WORD_BITS - 1), most)
    # q_c, q_d and q_total are one number apart from what their partners have
    q_sum = min(_room(limit.c, WORD_BITS - 1) + q_e, _room(limit.total, WORD_BITS - 1) + q_z, q_signal + POWER_BITS - 1 + q_e)
    if rule.reg > 0.0:
        q_sum = min(q_sum, _room(limit.d, WORD_BITS - 1) + q_r, q_signal + POWER_BITS - 1 + q_r)
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
    return _with_shifts(found)


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
    shifts = {name: numbers[name] for name in SHIFTS}
    shifts["psi_to_b"] -= POWER_BITS  # the smaller of its two uses
    wrong = {name: shift for name, shift in shifts.items() if not 1 <= shift <= 62}
    if wrong:
        name, shift = next(iter(wrong.items()))
        raise ValueError(f"a shift of {shift} bits ({name}) leaves no number format: the learning rate is too far from the weight unit")
    return scales


def silent_scales() -> Scales:
    """Return formats for cores whose synapses do not learn, where something has to stand in their place."""
    return choose_readout_scales(
        Rule(alpha=0.9, kappa=0.9, kappa_reg=0.9, height=1.0, learning_rate=1.0, weight_unit=1.0, interval=1.0, signal=1.0)
    )


def _too_much(signal: float, moved: float, unit: float) -> ValueError:
    moved *= 2.0**-ACCUMULATOR_BITS
    return ValueError(f"a learning signal of {signal:g} moves a weight by {moved:.3g} units of {unit:g}: too much for 32 bits")


def _room(largest: float, bits: int) -> int:
    """Return the fraction bits that a number up to ``largest`` leaves of ``bits``."""
    return bits - max(math.floor(math.log2(largest)) + 1, -16) if largest > 0.0 else bits
