"""E-prop as Loihi 3-factor rules: the forms, their rule strings and their fixed-point scales (docs/loihi2.md derives them).

With x1 the presynaptic trace, X its impulse, psi the surrogate gradient, L the learning signal, s a weight's low bits:

    lagged      dt = c u0 x1 y2 - c X x0 y2 - (1 - kappa) u0 t      y2 = psi, y3 = -L        tag = eligibility
                dd = -k u0 t y3 - 2^m u0 (d - D) y1                 dw = -u0 (d - D) y1      with the tag of the step before
    aligned     dd = u0 x1 - X x0 - u0 d                            y2 = psi of the step before
                dt = c u0 d y2 - (1 - kappa) u0 t                   dw = k u0 t y3
    pre_trace   dt = -k u0 x1 y3 + k X x0 y3 - 2^m u0 t y1          y3 = -psi L              dw = -u0 t y1
    two_traces  dt = -k u0 x2 y3 + k u0 x1 y3 - 2^m u0 t y1         x2 decays by kappa       dw = -u0 t y1
    adaptive    dt = c u0 x1 y2 - c X x0 y2 - b u0 (d - D) y1 - (1 - kappa) u0 t            y1 = beta psi (alif), nothing of y1 is left for
                dd = c' u0 x1 y2 - c' X x0 y2 - b' u0 (d - D) y1 - (1 - rho) u0 (d - D)     dw = k u0 t y3               low bits
    readout     as pre_trace, y3 = -err

``lagged`` of an alif population may have products more in dt, for what adaptation takes from the eligibility (adaptive.py).

x1 holds the spike of this very step, which reaches the target only in the next one; ``X x0`` takes it out again, so that x1 - X x0 =
X alpha zbar with zbar the trace at the target (two_traces: x2 - x1 = X (kappa - alpha) ebar for a constant psi of 1, nothing to take out).

A learning signal reaches the neuron in the step after its error, that is two steps after the eligibility that it belongs to, while the
tag that it meets is one step old: ``lagged`` pairs it with an eligibility one step too new, which costs little (a tag is slow). ``aligned``
spends d on x1 - X x0 of the step before, and the pairs are right. The forms without eligibility in the tag leave it to the low bits.

In fixed point a product of factors of sum W bits with a 4-bit mantissa is shifted right by max(0, W + 4 - 15), rounding down: x1 y2 by
3 bits, t y3 and d y1 by 5. The gains below count these shifts in.

**Low bits.** An 8-bit weight that takes every step's change by stochastic rounding gets noise of p (1 - p) weight units^2 a step for a
change of p: over a run that is the sum of all |changes|, however much of them cancels. So the changes go, negated, to a second state s
in units of 2^-m weight units (the tag, or the hidden connection's d around D), and what makes a whole unit moves on: with
y1 = 2^(5-m) the product -s y1 is q = floor(-s / 2^m) whole weight units, nothing is left to round, and s + 2^m q is the remainder in
-(2^m - 1) .. 0. Weight and state are one number with m more bits, and the noise falls by 2^m. (Negated because a product rounds
down after its sign is applied: only then do both rules see the same q.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from neurocompile.backends.loihi2.adaptive import Adaptation, Literal, Share, Terms, share_terms
from neurocompile.backends.loihi2.arithmetic import ALIGN_SHIFT, TRACE_MAX
from neurocompile.ir import EProp

X1_IMPULSE = 16
"""What a presynaptic spike adds to its 7-bit trace (saturates at 127): 8 spikes at once."""
TRACE_BITS = 7
_REFERENCE_MAX = 32.0
"""y3 at the reference learning signal is at most this: three times as much still fits, 96 is the largest multiple of 32 in 7 bits."""
_DOT_SHIFT = 5
"""What the engine shifts a product of two factors of 9 and 7 bits to the right by (t y3, d y2, d y1)."""
_TRACE_SHIFT = 3
"""The same of two factors of 7 bits (x1 y3)."""
_TRACE_BITS = 7
_TAG_STEP, _TRACE_STEP = 2**_DOT_SHIFT, 2**_TRACE_SHIFT
_EPS_CENTRE = 128
"""What d is where the second eligibility is 0"""
TAG_FRACTION_BITS = 5
"""Most low bits m of a weight in the tag: 2^(5 - m) must be an integer."""
_TAG_TOP = -4
"""Largest exponent of a change of low bits in the tag: one step changes them by (127 120 >> 3) 2^-4 = 119 units at most; 255 - 31 leave
room for that."""


class Form(str, Enum):
    """How e-prop of a hidden population is expressed; the module's docstring has the formulas."""

    LAGGED = "lagged"
    ALIGNED = "aligned"
    PRE_TRACE = "pre_trace"
    TWO_TRACES = "two_traces"
    ADAPTIVE = "adaptive"

    @property
    def has_tag(self) -> bool:
        """Whether the tag is the eligibility; else neurons send psi L."""
        return self in {Form.LAGGED, Form.ALIGNED, Form.ADAPTIVE}

    @property
    def psi_delay(self) -> int:
        """Steps for which a neuron holds psi back before it goes into y2 or the product psi L: as many as L comes late, or, where the
        trace cannot be held back too, what was best on random networks (docs/loihi2.md)."""
        return {Form.ALIGNED: 1, Form.PRE_TRACE: 1, Form.TWO_TRACES: 2}.get(self, 0)

    @property
    def y3_step(self) -> int:
        """y3 is a multiple of this, so that the engine's shift of its product loses nothing."""
        step: int = _TAG_STEP if self.has_tag else _TRACE_STEP
        return step


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondState:
    """Low bits of hidden weights in d, of the tag forms: ``bits`` of d used, 0 means ``centre``, at most ``fraction_bits`` low bits, and
    the largest exponent of a change: one step then changes d by (255 96 >> 5) 2^top units at most, for which there is room."""

    bits: int
    centre: int
    fraction_bits: int
    top: int


SECOND_STATES: Mapping[str, SecondState | None] = {
    "d": SecondState(bits=8, centre=128, fraction_bits=5, top=-3),
    "d6": SecondState(bits=6, centre=32, fraction_bits=3, top=-5),
    "none": None,
}
"""``--set low_bits``: all of Lava's d, the 6 bits of a delay, or none"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Choices of one population's rule beyond what worst cases allow, from measured ranges.

    tag_bits : projection -> by how many bits its tag is larger; top_bits : by how many the largest exponent of a change is;
    reference : y3 at the reference learning signal; share : what adaptation takes, of ``lagged`` and alif; d_bits : projection -> by how
    many bits the eligibility in d is larger, of ``adaptive``.
    """

    tag_bits: Mapping[str, int] = field(default_factory=dict)
    share: Share | None = None
    d_bits: Mapping[str, int] = field(default_factory=dict)
    top_bits: int = 0
    reference: float = _REFERENCE_MAX


def leak_literal(kappa: float) -> Literal:
    """Return the coefficient nearest to 1 - kappa: n 2^-7 .. n with n = 1 .. 7; kappa = 0 gives exactly 1."""
    choices = [Literal(mantissa=m, exponent=e) for e in range(-7, 1) for m in range(1, 8) if m * 2.0**e <= 1.0]
    return min(choices, key=lambda c: (abs(c.value - (1.0 - kappa)), c.mantissa))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """Fixed-point gains of one population's rule.

    form : of its rule; None of a readout;
    tag : units of what y3 is multiplied with per unit of eligibility (membrane units), before a projection's own tag bits;
    signal : y3 units per unit of learning signal; dw_exponent : exponent of the change at weight exponent 0; dt_exponent : of the
    eligibility; y3_reference : y3 at the reference learning signal;
    fraction_bits : low bits m that a second state adds to the weights, None: there is no second state; impulse : of the x traces;
    dd_exponent, beta_exponent : of ``adaptive``: exponent of eps, before a projection's own bits; y1 = 2^beta_exponent beta psi.
    """

    form: Form | None
    tag: float
    signal: float
    dw_exponent: int
    dt_exponent: int
    y3_reference: float
    fraction_bits: int | None
    impulse: int = X1_IMPULSE
    dd_exponent: int = 0
    beta_exponent: int = 0

    @property
    def carry(self) -> int:
        """The third y trace: the factor that makes floor(state / 2^m) of the product with the low bits."""
        return 0 if self.fraction_bits is None else 2 ** (_DOT_SHIFT - self.fraction_bits)

    def change(self, weight_exponent: int, tag_bits: int = 0) -> Literal:
        """Return the coefficient of the change of a projection's weight, or of its low bits."""
        return Literal(mantissa=1, exponent=self.dw_exponent - weight_exponent - tag_bits + (self.fraction_bits or 0))

    @property
    def take(self) -> Literal:
        """Return the coefficient that takes from the low bits what has moved to the weight."""
        return Literal(mantissa=1, exponent=self.fraction_bits or 0)


def hidden_gains(
    rule: EProp,
    form: Form,
    *,
    scale: float,
    alpha: float,
    weight_exponents: Mapping[str, int],
    reference: float,
    second: SecondState | None,
    choice: Scale,
    impulse: int = X1_IMPULSE,
    adaptation: Adaptation | None = None,
) -> Gains:
    """Choose exponents: the tag uses its 8 bits, and y3 is as large as 7 bits allow at the reference learning signal.

    weight_exponents : of the plastic projections into the population, by name; adaptation : what ``adaptive`` needs.
    """
    height = TRACE_MAX / rule.surrogate.height
    if not form.has_tag:
        levels = list(weight_exponents.values())
        low_pass = (1.0 - rule.kappa) * alpha if form is Form.PRE_TRACE else abs(rule.kappa - alpha)
        tag = impulse * low_pass * height / (TRACE_MAX + 1)
        return _signal_gain(rule, form, scale, tag, _TRACE_SHIFT, 0, levels, reference, TAG_FRACTION_BITS, _TAG_TOP, choice, impulse)
    dt_exponent = _eligibility_exponent(rule.kappa, 512.0, impulse)
    tag = impulse * alpha * height * 2.0 ** (dt_exponent - _TRACE_SHIFT)
    levels = [exponent + choice.tag_bits.get(name, 0) for name, exponent in weight_exponents.items()]
    most, top = (second.fraction_bits, second.top) if second is not None and form is Form.LAGGED else (None, 0)
    gains = _signal_gain(rule, form, scale, tag, _DOT_SHIFT, dt_exponent, levels, reference, most, top + choice.top_bits, choice, impulse)
    if form is Form.ADAPTIVE:
        assert adaptation is not None
        largest = float(adaptation.beta.max()) * rule.surrogate.height
        beta = int(np.clip(np.floor(np.log2(TRACE_MAX / max(largest, 1e-9))), _DOT_SHIFT - 8, _DOT_SHIFT + 7))
        gains = replace(gains, dd_exponent=_eligibility_exponent(adaptation.rho, 2.0 * _EPS_CENTRE, impulse), beta_exponent=beta)
    return gains


def _eligibility_exponent(decay: float, room: float, impulse: int) -> int:
    """Return the exponent of psi zbar for which its low-pass stays in a state of this size, were every trace and psi at its end."""
    largest = TRACE_MAX * TRACE_MAX / 8.0 * impulse / X1_IMPULSE / leak_literal(decay).value
    return int(np.clip(np.floor(np.log2(room / largest)), _least(impulse), 4))


def readout_gains(
    rule: EProp, *, scale: float, alpha: float, weight_exponents: Sequence[int], reference: float, impulse: int = X1_IMPULSE
) -> Gains:
    """As :func:`hidden_gains` for the readout's own plastic synapses, whose eligibility is the presynaptic trace."""
    tag = impulse * alpha
    return _signal_gain(rule, None, scale, tag, _TRACE_SHIFT, 0, weight_exponents, reference, TAG_FRACTION_BITS, _TAG_TOP, Scale(), impulse)


def _signal_gain(
    rule: EProp,
    form: Form | None,
    scale: float,
    tag: float,
    hidden_shift: int,
    dt_exponent: int,
    levels: Sequence[int],
    reference: float,
    most_bits: int | None,
    top: int,
    choice: Scale,
    impulse: int,
) -> Gains:
    """Choose the smallest coefficient 2^exponent for which y3 fits at the reference, and as many low bits as it leaves room for.

    A projection at level l (weight exponent and tag bits) gets the coefficient 2^(exponent - l + m), which the engine wants in -7 .. 8 (7
    here, since the term of x0 has one more). Low bits m are given up, from ``most_bits`` down to 0, where one step could overflow their
    state, that is above 2^``top``.
    """
    step = rule.optimizer.learning_rate * scale / 2.0**ALIGN_SHIFT  # weight units (exponent 0) per eligibility times learning signal
    highest, lowest = max(levels), min(levels)
    exponent = highest - 7 - (most_bits or 0)
    while True:
        bits = 0 if most_bits is None else int(np.clip(top - (exponent - lowest), 0, most_bits))
        signal = step / (tag * 2.0 ** (exponent - hidden_shift))
        fits = exponent - highest + bits >= _least(impulse) and signal * reference <= choice.reference
        if fits or exponent - lowest + bits >= 7:
            break
        exponent += 1
    return Gains(
        form=form,
        tag=tag,
        signal=signal,
        dw_exponent=exponent,
        dt_exponent=dt_exponent,
        y3_reference=signal * reference,
        fraction_bits=None if most_bits is None else bits,
        impulse=impulse,
    )


def hidden_rule(
    rule: EProp,
    gains: Gains,
    *,
    weight_exponent: int,
    alpha: float,
    second: SecondState | None,
    tag_bits: int = 0,
    coarse: int = 0,
    adaptation: Adaptation | None = None,
    share: Share | None = None,
    d_bits: int = 0,
) -> dict[str, Any]:
    """Return the rule strings of a plastic connection into a spiking population (fixed point and floating point).

    weight_exponent : of the unit in which weights move, 2^coarse of the weight's own; adaptation : of an alif population; share, d_bits :
    see :class:`Scale`.
    """
    assert gains.form is not None
    if gains.form is Form.PRE_TRACE:
        return readout_rule(gains, weight_exponent=weight_exponent, alpha=alpha, coarse=coarse)
    leak = leak_literal(rule.kappa)
    change = gains.change(weight_exponent, tag_bits)
    if gains.form is Form.TWO_TRACES:
        fast, slow = ("x1", "x2") if rule.kappa >= alpha else ("x2", "x1")
        return {
            "dt_fixed": f"{change.negative}*u0*{slow}*y3 + {change}*u0*{fast}*y3 - {gains.take}*u0*t*y1",
            "dd_fixed": None,
            "dw_fixed": f"{_move(coarse)}*u0*t*y1",
            "dt_real": None,
            "dd_real": None,
            "dw_real": f"u0*{slow}*y3 - u0*{fast}*y3",
            **_start(tag=-_half(gains), tag_is_weight=True),
            **_trace(alpha, gains),
            "x2_impulse_fixed": gains.impulse,
            "x2_impulse_real": 1,
            "x2_tau": _tau(rule.kappa),
        }
    grow = Literal(mantissa=1, exponent=gains.dt_exponent + tag_bits)
    if gains.form is Form.ALIGNED:
        later = Literal(mantissa=1, exponent=grow.exponent + _DOT_SHIFT - _TRACE_SHIFT)  # d y2 is shifted by two bits more than x1 y2
        whole = Literal(mantissa=1, exponent=int(np.log2(gains.impulse)))
        return {
            "dt_fixed": f"{later}*u0*d*y2 - {leak}*u0*t",
            "dd_fixed": f"u0*x1 - {whole}*x0 - u0*d",
            "dw_fixed": f"{change}*u0*t*y3",
            "dt_real": f"u0*d*y2 - {leak}*u0*t",
            "dd_real": "u0*x1 - x0 - u0*d",
            "dw_real": "u0*t*y3",
            **_start(d_bits=_TRACE_BITS),
            **_trace(alpha, gains),
        }
    if gains.form is Form.ADAPTIVE:
        assert adaptation is not None
        return _adaptive_rule(gains, adaptation, leak, change, grow, gains.dd_exponent + d_bits, alpha)
    terms = Terms()
    if share is not None and adaptation is not None:
        beta, drive = float(adaptation.beta.mean()), gains.impulse * grow.value
        terms = share_terms(share, beta, height=rule.surrogate.height, drive=drive, alpha=alpha, tag_shift=_DOT_SHIFT)
    fine = gains.fraction_bits is not None and second is not None
    low = "" if second is None else f"(d-{second.centre})*y1"
    return {
        "dt_fixed": f"{grow}*u0*x1*y2 - {_undo(grow, gains)}*x0*y2 - {leak}*u0*t{terms.fixed}",
        "dd_fixed": f"{change.negative}*u0*t*y3 - {gains.take}*u0*{low}" if fine else None,
        "dw_fixed": f"{_move(coarse)}*u0*{low}" if fine else f"{change}*u0*t*y3",
        "dt_real": f"u0*x1*y2 - x0*y2 - {leak}*u0*t{terms.real}",
        "dd_real": None,
        "dw_real": "u0*t*y3",
        **(_start(second=second.centre - _half(gains), d_bits=second.bits, d_is_weight=True) if fine and second is not None else _start()),
        **_trace(alpha, gains),
        **_second_trace(terms),
    }


def _adaptive_rule(
    gains: Gains, adaptation: Adaptation, leak: Literal, change: Literal, grow: Literal, dd_exponent: int, alpha: float
) -> dict[str, Any]:
    """Return the rule of ``adaptive``: the tag is ebar, d is eps around its centre, y1 = 2^k beta psi."""
    again = _DOT_SHIFT - gains.beta_exponent  # exponent with which eps takes beta psi of itself
    dd_exponent = int(np.clip(dd_exponent, grow.exponent + again - 8, grow.exponent + again + 7))
    dd_exponent = max(dd_exponent, _least(gains.impulse))
    eps, held = Literal(mantissa=1, exponent=dd_exponent), f"(d-{_EPS_CENTRE})"
    take, forget = Literal(mantissa=1, exponent=again + grow.exponent - dd_exponent), leak_literal(adaptation.rho)
    lose = Literal(mantissa=1, exponent=again)
    return {
        "dt_fixed": f"{grow}*u0*x1*y2 - {_undo(grow, gains)}*x0*y2 - {leak}*u0*t - {take}*u0*{held}*y1",
        "dd_fixed": f"{eps}*u0*x1*y2 - {_undo(eps, gains)}*x0*y2 - {forget}*u0*{held} - {lose}*u0*{held}*y1",
        "dw_fixed": f"{change}*u0*t*y3",
        "dt_real": f"u0*x1*y2 - x0*y2 - {leak}*u0*t - u0*d*y1",
        "dd_real": f"u0*x1*y2 - x0*y2 - {forget}*u0*d - u0*d*y1",
        "dw_real": "u0*t*y3",
        **_start(second=_EPS_CENTRE, d_bits=8),
        **_trace(alpha, gains),
    }


def _second_trace(terms: Terms) -> dict[str, Any]:
    if terms.impulse is None:
        return {}
    return {"x2_impulse_fixed": terms.impulse, "x2_impulse_real": terms.impulse_real, "x2_tau": _tau(terms.decay)}


def readout_rule(gains: Gains, *, weight_exponent: int, alpha: float, coarse: int = 0) -> dict[str, Any]:
    """Return the rule strings of a plastic connection into the readout, or of the form ``pre_trace``."""
    grow = gains.change(weight_exponent)
    return {
        "dt_fixed": f"{grow.negative}*u0*x1*y3 + {_undo(grow, gains)}*x0*y3 - {gains.take}*u0*t*y1",
        "dd_fixed": None,
        "dw_fixed": f"{_move(coarse)}*u0*t*y1",
        "dt_real": None,
        "dd_real": None,
        "dw_real": "u0*x1*y3 - x0*y3",
        **_start(tag=-_half(gains), tag_is_weight=True),
        **_trace(alpha, gains),
    }


def _least(impulse: int) -> int:
    """Return the smallest exponent of a product of x1 for which that of x0 is legal (:func:`_undo`)."""
    return -7 + max(0, _TRACE_SHIFT - int(np.log2(impulse)))


def _move(coarse: int) -> str:
    """Return the coefficient with which whole units of low bits move to the weight."""
    return str(Literal(mantissa=-1, exponent=coarse)) if coarse else "-1"


def _undo(grow: Literal, gains: Gains) -> Literal:
    """Return the coefficient of x0 that takes impulse x0 out of x1 (the product of x1 is shifted by 3, that of x0 is not)."""
    return Literal(mantissa=1, exponent=grow.exponent - _TRACE_SHIFT + int(np.log2(gains.impulse)))


def _half(gains: Gains) -> int:
    """Return half a weight unit in low bits: rounding down from there is rounding to the nearest."""
    return 2 ** (gains.fraction_bits - 1) if gains.fraction_bits else 0


def _start(*, tag: int = 0, tag_is_weight: bool = False, second: int = 0, d_bits: int = 0, d_is_weight: bool = False) -> dict[str, Any]:
    return {"tag_start": tag, "tag_is_weight": tag_is_weight, "d_start": second, "d_bits": d_bits, "d_is_weight": d_is_weight}


def _tau(factor: float) -> float:
    return 65535.0 if factor >= 1.0 else float(min(-1.0 / np.log(max(factor, 1e-6)), 65535.0))


def _trace(alpha: float, gains: Gains) -> dict[str, Any]:
    return {"x1_impulse_fixed": gains.impulse, "x1_impulse_real": 1, "x1_tau": _tau(alpha)}
