"""E-prop as a Loihi 3-factor rule with the tag as eligibility trace (docs/loihi2.md derives it).

A plastic connection into a spiking population runs, with x1 the presynaptic trace, y2 = psi, y3 = -(learning signal):

    dt = c u0 x1 y2 - c X x0 y2 - (1 - kappa) u0 t                      tag <- kappa tag + psi (x1 - X x0)
    dd = -k u0 t y3 - 2^m u0 (d - 32) y1          dw = -u0 (d - 32) y1  with the tag of the step before

x1 holds the spike of this very step, which reaches the target only in the next one; ``X x0`` takes it out again, so that x1 - X x0 =
X alpha zbar with zbar the trace at the target. A plastic connection into the readout needs no eligibility, its tag is free:

    dt = -k u0 x1 y3 + k X x0 y3 - 2^m u0 t y1    dw = -u0 t y1

In fixed point a product of factors of sum W bits with a 4-bit mantissa is shifted right by max(0, W + 4 - 15), rounding down: x1 y2 by
3 bits, t y3 by 5. The gains below count these shifts in.

**Low bits.** An 8-bit weight that takes every step's change by stochastic rounding gets noise of p (1 - p) weight units^2 a step for a
change of p: over a run that is the sum of all |changes|, however much of them cancels. So the changes go, negated, to a second state s
in units of 2^-m weight units (the readout's tag, the hidden connection's d around 32), and what makes a whole unit moves on: with
y1 = 2^(5-m) the product -s y1 is q = floor(-s / 2^m) whole weight units, nothing is left to round, and s + 2^m q is the remainder in
-(2^m - 1) .. 0. Weight and state are one number with m more bits, and the noise falls by 2^m. (Negated because a product rounds
down after its sign is applied: only then do both rules see the same q.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import Approximation
from neurocompile.backends.loihi2.arithmetic import ALIGN_SHIFT, DECAY_UNITY, TRACE_MAX, FloatArray, decay_register, mantissa_shift
from neurocompile.backends.loihi2.neurons import Findings
from neurocompile.ir import ALIF, LIF, Adam, EProp, LeakyReadout, Loss, Network, PerInterval, Population, SurrogateKind
from neurocompile.ir.neurons import decay, expand

X1_IMPULSE = 16
"""What a presynaptic spike adds to its 7-bit trace (saturates at 127): 8 spikes at once."""
_TABLE = 256
"""Entries of the surrogate table."""
_REACH = {
    SurrogateKind.PIECEWISE_LINEAR: 1.0,
    SurrogateKind.EXPONENTIAL: 5.6,
    SurrogateKind.FAST_SIGMOID_DERIVATIVE: 15.0,
    SurrogateKind.ARCTAN_DERIVATIVE: 16.0,
}
"""Distance from the threshold, in widths, at which the surrogate falls below half of 1/127 of its height."""
SIGNAL_FRACTION_BITS = 8
"""Fraction bits of the learning signal whose remainder is carried from step to step (templates/.../arithmetic.py)."""
_REFERENCE_MAX = 64.0
"""y3 at the reference learning signal is at most this: twice the reference still fits 7 bits."""
_DOT_SHIFT = 5
"""What the engine shifts a product of two factors of 9 and 7 bits to the right by (t y3, t y2, d y1)."""
READOUT_FRACTION_BITS = 5
"""Most low bits m of a readout's weight in the tag: 2^(5 - m) must be an integer."""
HIDDEN_FRACTION_BITS = 3
"""Most low bits of a hidden weight in d, which has 6 bits on chips (Lava's model: 8)."""
D_CENTRE = 32
"""d is unsigned, so this much means 0."""
ERROR_SHIFT = 8
"""The graded error is the readout's difference from its target shifted right by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A coefficient mantissa * 2^exponent of a learning rule: mantissa -8 .. 7, exponent -7 .. 8."""

    mantissa: int
    exponent: int

    def __str__(self) -> str:
        return f"{self.mantissa}*2^{self.exponent}"

    @property
    def value(self) -> float:
        return self.mantissa * 2.0**self.exponent

    @property
    def negative(self) -> Literal:
        return Literal(mantissa=-self.mantissa, exponent=self.exponent)


def leak_literal(kappa: float) -> Literal:
    """Return the coefficient nearest to 1 - kappa: n 2^-7 .. n with n = 1 .. 7; kappa = 0 gives exactly 1."""
    choices = [Literal(mantissa=m, exponent=e) for e in range(-7, 1) for m in range(1, 8) if m * 2.0**e <= 1.0]
    return min(choices, key=lambda c: (abs(c.value - (1.0 - kappa)), c.mantissa))


def check_rule(network: Network, rule: EProp, population: Population, allowed: list[Approximation], found: Findings) -> None:
    """Collect what the rule asks for and the target does otherwise, for one population that learns by it."""
    where = f"rule '{rule.name}' of '{population.name}'"
    model = population.model

    def approximate(code: str, what: str, instead: str, effect: str = "") -> None:
        allowed.append(Approximation(code=code, where=where, what=what, instead=instead, effect=effect))

    if isinstance(rule.optimizer, Adam):
        approximate("NC313", "the Adam optimizer needs two more states per synapse", "gradient_descent with the same learning rate")
    elif rule.optimizer.each_step:
        found.notes.append(f"{where}: each_step is how Loihi works anyway: the weight changes in every step")
    if isinstance(rule.update, PerInterval):
        approximate(
            "NC317",
            f"per_interval averages gradients over {rule.update.steps} steps",
            "update: per_event, which Loihi applies in every step",
            f"the learning rate acts {rule.update.steps} times more often, each gradient undivided",
        )
    if rule.trace_cutoff_steps is not None:
        approximate("NC316", f"traces end {rule.trace_cutoff_steps} steps after a spike", "traces that decay without end")
    if network.task is not None and network.task.loss is Loss.CROSS_ENTROPY:
        approximate("NC314", "cross_entropy needs a softmax over the readout", "mean_squared_error: the error is y - y*")
    if isinstance(model, ALIF):
        approximate("NC316", "the eligibility of an adaptive neuron has a second state", "the eligibility without adaptation (as of lif)")
    if isinstance(model, LeakyReadout):
        return
    literal = leak_literal(rule.kappa)
    ratio = literal.value / (1.0 - rule.kappa)
    if not 0.9 <= ratio <= 1.1:
        approximate("NC316", f"kappa {rule.kappa:g}", f"kappa {1 - literal.value:g}: the tag decays by n/128 a step, n = 1 .. 7, 8 ..")
    elif ratio != 1.0:
        found.notes.append(f"{where}: kappa {rule.kappa:g} becomes {1 - literal.value:g}")
    if rule.regularization is not None and rule.regularization.strength > 0 and abs(rule.kappa_reg - rule.kappa) > 1e-12:
        found.notes.append(
            f"{where}: regularisation uses the tag (kappa {1 - literal.value:g}) with the gain of kappa_reg {rule.kappa_reg:g}; the firing "
            "rate is filtered with kappa_reg"
        )


def check_bounds(
    name: str, rule: EProp, weight: FloatArray, low: float, high: float, allowed: list[Approximation], found: Findings
) -> str | None:
    """Compare a projection's weight bounds and signs with the 8-bit range [low, high]; return the sign mode, None: by the weights."""
    wanted_low, wanted_high = rule.weight_bounds
    if wanted_low > low or wanted_high < high:
        allowed.append(
            Approximation(
                code="NC318",
                where=f"projection '{name}'",
                what=f"weight_bounds [{wanted_low:g}, {wanted_high:g}] are narrower than the 8-bit range",
                instead=f"saturation at [{low:.4g}, {high:.4g}]",
            )
        )
    else:
        found.notes.append(f"projection '{name}': weights saturate at [{low:.4g}, {high:.4g}]")
    if not rule.sign_constraint:
        return "MIXED"
    if weight.size and weight.min() < 0 < weight.max():
        allowed.append(
            Approximation(
                code="NC318",
                where=f"projection '{name}'",
                what="sign_constraint with excitatory and inhibitory synapses in one projection",
                instead="weights of either sign; or split the projection by sign, then each part keeps its sign",
            )
        )
        return "MIXED"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """Fixed-point gains of one population's rule.

    tag : tag units per unit of eligibility (membrane units); signal : y3 units per unit of learning signal;
    dw_exponent : exponent of the change at weight exponent 0; dt_exponent : of the eligibility; y3_reference : y3 at the reference
    learning signal; fraction_bits : low bits m that a second state adds to the weights, None: there is no second state.
    """

    tag: float
    signal: float
    dw_exponent: int
    dt_exponent: int
    y3_reference: float
    fraction_bits: int | None

    @property
    def carry(self) -> int:
        """The third y trace: the factor that makes floor(state / 2^m) of the product with the low bits."""
        return 0 if self.fraction_bits is None else 2 ** (_DOT_SHIFT - self.fraction_bits)

    def change(self, weight_exponent: int) -> Literal:
        """Return the coefficient of the change of a projection's weight, or of its low bits."""
        return Literal(mantissa=1, exponent=self.dw_exponent - weight_exponent + (self.fraction_bits or 0))

    @property
    def take(self) -> Literal:
        """Return the coefficient that takes from the low bits what has moved to the weight."""
        return Literal(mantissa=1, exponent=self.fraction_bits or 0)


def hidden_gains(
    rule: EProp, *, scale: float, alpha: float, weight_exponents: Sequence[int], reference: float, low_bits: bool = True
) -> Gains:
    """Choose exponents: the tag uses its 8 bits, and y3 is as large as 7 bits allow at the reference learning signal."""
    leak = leak_literal(rule.kappa).value
    largest = TRACE_MAX * TRACE_MAX / 8.0 / leak
    dt_exponent = int(np.clip(np.floor(np.log2(512.0 / largest)), -7, 4))
    tag = X1_IMPULSE * alpha * (TRACE_MAX / rule.surrogate.height) * 2.0 ** (dt_exponent - 3)
    most = HIDDEN_FRACTION_BITS if low_bits else None
    # One step changes d by at most (255 96 >> 5) 2^top = 23 units; 31 - 7 leave room for them.
    return _signal_gain(rule, scale, tag, _DOT_SHIFT, dt_exponent, weight_exponents, reference, most, top=-5)


def readout_gains(rule: EProp, *, scale: float, alpha: float, weight_exponents: Sequence[int], reference: float) -> Gains:
    """As :func:`hidden_gains` for the readout's own plastic synapses, whose eligibility is the presynaptic trace."""
    # One step changes the tag by at most (127 120 >> 3) 2^top = 119 units; 255 - 31 leave room for them.
    return _signal_gain(rule, scale, X1_IMPULSE * alpha, 3, 0, weight_exponents, reference, READOUT_FRACTION_BITS, top=-4)


def _signal_gain(
    rule: EProp,
    scale: float,
    tag: float,
    hidden_shift: int,
    dt_exponent: int,
    weight_exponents: Sequence[int],
    reference: float,
    most_bits: int | None,
    *,
    top: int,
) -> Gains:
    """Choose the smallest coefficient 2^exponent for which y3 fits at the reference, and as many low bits as it leaves room for.

    A projection with weight exponent w gets the coefficient 2^(exponent - w + m), which the engine wants in -7 .. 8 (7 here, since
    the term of x0 has one more). Low bits m are given up, from ``most_bits`` down to 0, where one step could overflow their state,
    that is above 2^``top``.
    """
    step = rule.optimizer.learning_rate * scale / 2.0**ALIGN_SHIFT  # weight units (exponent 0) per eligibility times learning signal
    highest, lowest = max(weight_exponents), min(weight_exponents)
    exponent = highest - 7 - (most_bits or 0)
    while True:
        bits = 0 if most_bits is None else int(np.clip(top - (exponent - lowest), 0, most_bits))
        signal = step / (tag * 2.0 ** (exponent - hidden_shift))
        fits = exponent - highest + bits >= -7 and signal * reference <= _REFERENCE_MAX
        if fits or exponent - lowest + bits >= 7:
            break
        exponent += 1
    return Gains(
        tag=tag,
        signal=signal,
        dw_exponent=exponent,
        dt_exponent=dt_exponent,
        y3_reference=signal * reference,
        fraction_bits=None if most_bits is None else bits,
    )


def hidden_rule(rule: EProp, gains: Gains, *, weight_exponent: int, alpha: float) -> dict[str, Any]:
    """Return the rule strings of a plastic connection into a spiking population (fixed point and floating point)."""
    leak = leak_literal(rule.kappa)
    change = gains.change(weight_exponent)
    grow = Literal(mantissa=1, exponent=gains.dt_exponent)
    low = f"(d-{D_CENTRE})*y1"
    fixed = gains.fraction_bits is not None
    return {
        "dt_fixed": f"{grow}*u0*x1*y2 - {_undo(grow)}*x0*y2 - {leak}*u0*t",
        "dd_fixed": f"{change.negative}*u0*t*y3 - {gains.take}*u0*{low}" if fixed else None,
        "dw_fixed": f"-1*u0*{low}" if fixed else f"{change}*u0*t*y3",
        "dt_real": f"u0*x1*y2 - x0*y2 - {leak}*u0*t",
        "dw_real": "u0*t*y3",
        "tag_start": 0,
        "tag_is_weight": False,
        "d_start": D_CENTRE - _half(gains),
        **_trace(alpha),
    }


def readout_rule(gains: Gains, *, weight_exponent: int, alpha: float) -> dict[str, Any]:
    """Return the rule strings of a plastic connection into the readout."""
    grow = gains.change(weight_exponent)
    return {
        "dt_fixed": f"{grow.negative}*u0*x1*y3 + {_undo(grow)}*x0*y3 - {gains.take}*u0*t*y1",
        "dd_fixed": None,
        "dw_fixed": "-1*u0*t*y1",
        "dt_real": None,
        "dw_real": "u0*x1*y3 - x0*y3",
        "tag_start": -_half(gains),
        "tag_is_weight": True,
        "d_start": 0,
        **_trace(alpha),
    }


def _undo(grow: Literal) -> Literal:
    """Return the coefficient of x0 that takes X1_IMPULSE x0 out of x1 (the product of x1 is shifted by 3, that of x0 is not)."""
    return Literal(mantissa=1, exponent=grow.exponent - 3 + int(np.log2(X1_IMPULSE)))


def _half(gains: Gains) -> int:
    """Return half a weight unit in low bits: rounding down from there is rounding to the nearest."""
    return 2 ** (gains.fraction_bits - 1) if gains.fraction_bits else 0


def _trace(alpha: float) -> dict[str, Any]:
    tau = 65535.0 if alpha >= 1.0 else min(-1.0 / np.log(max(alpha, 1e-6)), 65535.0)
    return {"x1_impulse_fixed": X1_IMPULSE, "x1_impulse_real": 1, "x1_tau": float(tau)}


def surrogate_table(rule: EProp, scale: float) -> tuple[npt.NDArray[np.int64], int]:
    """Return (table, shift): psi = table[|v - threshold| >> shift] in units of height / 127, the last entry 0."""
    surrogate = rule.surrogate
    width = surrogate.width * scale
    shift = max(0, int(np.ceil(np.log2(max(_REACH[surrogate.kind] * width / (_TABLE - 1), 1e-9)))))
    x = (np.arange(_TABLE) + 0.5) * 2.0**shift / width
    shape = {
        SurrogateKind.PIECEWISE_LINEAR: np.maximum(0.0, 1.0 - x),
        SurrogateKind.EXPONENTIAL: np.exp(-x),
        SurrogateKind.FAST_SIGMOID_DERIVATIVE: (1.0 + x) ** -2,
        SurrogateKind.ARCTAN_DERIVATIVE: 1.0 / (1.0 + x * x),
    }[surrogate.kind]
    table = np.rint(TRACE_MAX * shape).astype(np.int64)
    table[-1] = 0
    return table, shift


def hidden_settings(
    rule: EProp, gains: Gains, *, scale: float, alpha: float, error_unit: float, dt: float
) -> tuple[dict[str, Any], Mapping[str, npt.NDArray[np.generic]]]:
    """Return (scalars, arrays) that a plastic neuron process needs. ``error_unit``: learning signal per unit of a_third_factor_in."""
    table, shift = surrogate_table(rule, scale)
    mantissa, signal_shift = mantissa_shift(gains.signal * error_unit * 2**SIGNAL_FRACTION_BITS)
    eta = rule.optimizer.learning_rate / alpha
    regularization = rule.regularization
    on = regularization is not None and regularization.strength > 0
    dt_ms = dt * 1e3
    settings: dict[str, Any] = {
        "surrogate": [rule.surrogate.kind.value, rule.surrogate.height, rule.surrogate.width],
        "surrogate_shift": shift,
        "signal_mantissa": mantissa,
        "signal_shift": signal_shift,
        "signal_gain": eta,
        "carry": gains.carry,
        "regularized": on,
        "dt_ms": dt_ms,
    }
    if on and regularization is not None:
        # As NEST: strength times (rate - target) with rates in spikes/ms, times ebar_reg, which sums to the eligibility itself
        # ((1 - kappa_reg) / (1 - kappa_reg)). The tag sums to 1 / (1 - kappa) of it, so its share here is 1 - kappa.
        weight = regularization.strength * leak_literal(rule.kappa).value
        unit = 1.0 / (dt_ms * 2**20)
        rate_mantissa, rate_shift = mantissa_shift(gains.signal * weight * unit * 2**SIGNAL_FRACTION_BITS)
        settings |= {
            "rate_kappa": rule.kappa_reg,
            "rate_decay": int(decay_register(np.array([rule.kappa_reg]))[0]),
            "rate_step": int(np.rint((1.0 - rule.kappa_reg) * 2**20)),
            "rate_target": int(np.rint(regularization.rate * 1e-3 / unit)),
            "rate_target_real": regularization.rate * 1e-3,
            "rate_mantissa": rate_mantissa,
            "rate_shift": rate_shift,
            "rate_gain": eta * weight,
        }
    return settings, {"surrogate_table": table}


def readout_settings(rule: EProp | None, gains: Gains | None, *, scale: float, alpha: float) -> dict[str, Any]:
    """Return the scalars of a readout that sends errors; ``rule`` None: its own synapses are static."""
    unit = 2.0**ERROR_SHIFT / scale
    mantissa, shift = (0, 0) if gains is None else mantissa_shift(gains.signal * unit * 2**SIGNAL_FRACTION_BITS)
    carry = 0 if gains is None else gains.carry
    gain = 0.0 if rule is None else rule.optimizer.learning_rate / alpha
    return {"error_shift": ERROR_SHIFT, "signal_mantissa": mantissa, "signal_shift": shift, "signal_gain": gain, "carry": carry}


def membrane_decay(population: Population, dt: float, found: Findings) -> float:
    """Return the decay per step that filters presynaptic spikes; a plastic connection has one trace constant, so the mean if several."""
    model = population.model
    assert isinstance(model, LIF | LeakyReadout)
    values = decay(model.tau_mem, dt, model.integration, population.size)
    if np.ptp(values) > 0:
        tau = expand(model.tau_mem, population.size)
        found.notes.append(
            f"population '{population.name}': tau_mem from {tau.min():g} to {tau.max():g} s, eligibility traces use the mean decay"
        )
    return float(max(values.mean(), 1.0 / DECAY_UNITY))
