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

import numpy as np

from neurocompile.backends.loihi2.adaptive import Adaptation, Share
from neurocompile.backends.loihi2.arithmetic import ALIGN_SHIFT, TRACE_MAX
from neurocompile.backends.loihi2.literals import Literal
from neurocompile.ir import EProp

X1_IMPULSE = 16
"""What a presynaptic spike adds to its 7-bit trace (saturates at 127): 8 spikes at once."""
TRACE_BITS = 7
_REFERENCE_MAX = 32.0
"""y3 at the reference learning signal is at most this: three times as much still fits, 96 is the largest multiple of 32 in 7 bits."""
DOT_SHIFT = 5
"""What the engine shifts a product of two factors of 9 and 7 bits to the right by (t y3, d y2, d y1)."""
TRACE_SHIFT = 3
"""The same of two factors of 7 bits (x1 y3)."""
_TAG_STEP, _TRACE_STEP = 2**DOT_SHIFT, 2**TRACE_SHIFT
EPS_CENTRE = 128
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
        return 0 if self.fraction_bits is None else 2 ** (DOT_SHIFT - self.fraction_bits)

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
        return _signal_gain(rule, form, scale, tag, TRACE_SHIFT, 0, levels, reference, TAG_FRACTION_BITS, _TAG_TOP, choice, impulse)
    dt_exponent = _eligibility_exponent(rule.kappa, 512.0, impulse)
    tag = impulse * alpha * height * 2.0 ** (dt_exponent - TRACE_SHIFT)
    levels = [exponent + choice.tag_bits.get(name, 0) for name, exponent in weight_exponents.items()]
    most, top = (second.fraction_bits, second.top) if second is not None and form is Form.LAGGED else (None, 0)
    gains = _signal_gain(rule, form, scale, tag, DOT_SHIFT, dt_exponent, levels, reference, most, top + choice.top_bits, choice, impulse)
    if form is Form.ADAPTIVE:
        assert adaptation is not None
        largest = float(adaptation.beta.max()) * rule.surrogate.height
        beta = int(np.clip(np.floor(np.log2(TRACE_MAX / max(largest, 1e-9))), DOT_SHIFT - 8, DOT_SHIFT + 7))
        gains = replace(gains, dd_exponent=_eligibility_exponent(adaptation.rho, 2.0 * EPS_CENTRE, impulse), beta_exponent=beta)
    return gains


def _eligibility_exponent(decay: float, room: float, impulse: int) -> int:
    """Return the exponent of psi zbar for which its low-pass stays in a state of this size, were every trace and psi at its end."""
    largest = TRACE_MAX * TRACE_MAX / 8.0 * impulse / X1_IMPULSE / leak_literal(decay).value
    return int(np.clip(np.floor(np.log2(room / largest)), least_exponent(impulse), 4))


def readout_gains(
    rule: EProp, *, scale: float, alpha: float, weight_exponents: Sequence[int], reference: float, impulse: int = X1_IMPULSE
) -> Gains:
    """As :func:`hidden_gains` for the readout's own plastic synapses, whose eligibility is the presynaptic trace."""
    tag = impulse * alpha
    return _signal_gain(rule, None, scale, tag, TRACE_SHIFT, 0, weight_exponents, reference, TAG_FRACTION_BITS, _TAG_TOP, Scale(), impulse)


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
        fits = exponent - highest + bits >= least_exponent(impulse) and signal * reference <= choice.reference
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


def least_exponent(impulse: int) -> int:
    """Return the smallest exponent of a product of x1 for which that of x0 is legal (rules.py)."""
    return -7 + max(0, TRACE_SHIFT - int(np.log2(impulse)))
