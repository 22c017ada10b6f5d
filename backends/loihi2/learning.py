"""E-prop as a Loihi 3-factor rule with the tag as eligibility trace (docs/loihi2.md derives it).

A plastic connection into a spiking population runs, with x1 the presynaptic trace, y2 = psi, y3 = -(learning signal):

    dt = c u0 x1 y2 - c X x0 y2 - (1 - kappa) u0 t        tag <- kappa tag + psi (x1 - X x0)
    dw = k u0 t y3                                        with the tag of the step before

x1 holds the spike of this very step, which reaches the target only in the next one; ``X x0`` takes it out again, so that x1 - X x0 =
X alpha zbar with zbar the trace at the target. A plastic connection into the readout needs no tag: dw = k u0 x1 y3 - k X x0 y3.

In fixed point a product of factors of sum W bits with a 4-bit mantissa is shifted right by max(0, W + 4 - 15): x1 y2 by 3 bits,
t y3 by 5. The gains below count these shifts in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import Approximation
from neurocompile.backends.loihi2.arithmetic import DECAY_UNITY, TRACE_MAX, FloatArray, decay_register, mantissa_shift
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
    dw_exponent : exponent of the dw product at weight exponent 0; dt_exponent; y3_reference : y3 at the reference learning signal.
    """

    tag: float
    signal: float
    dw_exponent: int
    dt_exponent: int
    y3_reference: float


def hidden_gains(rule: EProp, *, scale: float, alpha: float, highest_exponent: int, reference: float) -> Gains:
    """Choose exponents: the tag uses its 8 bits, and y3 is as large as 7 bits allow at the reference learning signal."""
    leak = leak_literal(rule.kappa).value
    largest = TRACE_MAX * TRACE_MAX / 8.0 / leak
    dt_exponent = int(np.clip(np.floor(np.log2(512.0 / largest)), -7, 4))
    tag = X1_IMPULSE * alpha * (TRACE_MAX / rule.surrogate.height) * 2.0 ** (dt_exponent - 3)
    step = rule.optimizer.learning_rate * scale / 64.0  # weight units (exponent 0) per unit of eligibility times learning signal
    return _signal_gain(tag, step, 5, dt_exponent, highest_exponent, reference)


def readout_gains(rule: EProp, *, scale: float, alpha: float, highest_exponent: int, reference: float) -> Gains:
    """As :func:`hidden_gains` for the readout's own plastic synapses, whose eligibility is the presynaptic trace."""
    step = rule.optimizer.learning_rate * scale / 64.0
    return _signal_gain(X1_IMPULSE * alpha, step, 3, 0, highest_exponent, reference)


def _signal_gain(tag: float, step: float, hidden_shift: int, dt_exponent: int, highest_exponent: int, reference: float) -> Gains:
    finest = -7 + highest_exponent
    signal = step / (tag * 2.0 ** (finest - hidden_shift))
    exponent = finest
    while signal * reference > _REFERENCE_MAX and exponent < 8:
        exponent += 1
        signal /= 2.0
    return Gains(tag=tag, signal=signal, dw_exponent=exponent, dt_exponent=dt_exponent, y3_reference=signal * reference)


def hidden_rule(rule: EProp, gains: Gains, *, weight_exponent: int, alpha: float) -> dict[str, Any]:
    """Return the rule strings of a plastic connection into a spiking population (fixed point and floating point)."""
    leak = leak_literal(rule.kappa)
    dw = Literal(mantissa=1, exponent=gains.dw_exponent - weight_exponent)
    grow = Literal(mantissa=1, exponent=gains.dt_exponent)
    undo = Literal(mantissa=1, exponent=gains.dt_exponent - 3 + int(np.log2(X1_IMPULSE)))
    return {
        "dt_fixed": f"{grow}*u0*x1*y2 - {undo}*x0*y2 - {leak}*u0*t",
        "dw_fixed": f"{dw}*u0*t*y3",
        "dt_real": f"u0*x1*y2 - x0*y2 - {leak}*u0*t",
        "dw_real": "u0*t*y3",
        **_trace(alpha),
    }


def readout_rule(gains: Gains, *, weight_exponent: int, alpha: float) -> dict[str, Any]:
    """Return the rule strings of a plastic connection into the readout."""
    exponent = gains.dw_exponent - weight_exponent
    grow = Literal(mantissa=1, exponent=exponent)
    undo = Literal(mantissa=1, exponent=exponent - 3 + int(np.log2(X1_IMPULSE)))
    return {
        "dt_fixed": None,
        "dw_fixed": f"{grow}*u0*x1*y3 - {undo}*x0*y3",
        "dt_real": None,
        "dw_real": "u0*x1*y3 - x0*y3",
        **_trace(alpha),
    }


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
    gain = 0.0 if rule is None else rule.optimizer.learning_rate / alpha
    return {"error_shift": ERROR_SHIFT, "signal_mantissa": mantissa, "signal_shift": shift, "signal_gain": gain}


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
