"""E-prop on Loihi 2: what of a rule can be expressed, and the integers that neurons and readouts need for it (rule strings: forms.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import Approximation
from neurocompile.backends.loihi2.adaptive import Adaptation, adaptation_of
from neurocompile.backends.loihi2.arithmetic import DECAY_UNITY, TRACE_MAX, FloatArray, decay_register, mantissa_shift
from neurocompile.backends.loihi2.forms import Form, Gains, leak_literal
from neurocompile.backends.loihi2.neurons import Findings
from neurocompile.ir import ALIF, LIF, Adam, EProp, LeakyReadout, Loss, Network, PerInterval, Population, SurrogateKind
from neurocompile.ir.neurons import decay, expand

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
_Y_DECAY = float(np.exp(1.0 / 65535.0))
"""What undoes the decay that Lava lets a received y have once (time constant 2^16 - 1 steps), for each y in a product"""
ADAPTATION_SHIFT = 12
"""y1 of the form adaptive is psi times a mantissa, shifted right by this, rounded (templates/.../neuron.py)"""
ERROR_SHIFT = 8
"""The graded error is the readout's difference from its target shifted right by this."""


def check_rule(
    network: Network, rule: EProp, population: Population, allowed: list[Approximation], found: Findings, *, form: Form | None = None
) -> None:
    """Collect what the rule asks for and the target does otherwise, for one population that learns by it in a form (a readout: None)."""
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
    if isinstance(model, ALIF) and form is not None:
        _check_adaptation(where, population, network.dt, allowed, found, form)
    if isinstance(model, LeakyReadout):
        return
    if form is not None and not form.has_tag:
        instead = "no low-pass at all" if form is Form.PRE_TRACE else "the low-pass of the trace alone"
        found.notes.append(f"{where}: form {form.value}: {instead} in the place of the low-pass of psi times trace (kappa {rule.kappa:g})")
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


def _check_adaptation(where: str, population: Population, dt: float, allowed: list[Approximation], found: Findings, form: Form) -> None:
    adaptation = adaptation_of(population, dt)
    assert adaptation is not None
    if form is not Form.ADAPTIVE:
        allowed.append(
            Approximation(
                code="NC316",
                where=where,
                what="the eligibility of an adaptive neuron has a second state a synapse",
                instead="what the tag, or the tag and a second trace, tell of it, or nothing (--set adaptation), whatever measures best; "
                "--eprop-form adaptive holds it, in the place of the weights' low bits",
                effect="cosines with exact e-prop, adaptation included, are in the report",
            )
        )
        return
    forget, exact = leak_literal(adaptation.rho).value, 1.0 - adaptation.rho
    if not 0.9 * exact <= forget <= 1.1 * exact:
        allowed.append(
            Approximation(
                code="NC316",
                where=where,
                what=f"adaptation decays by {exact:.4g} a step",
                instead=f"{forget:.4g} in the eligibility: n/128 a step, n = 1 .. 7, 8 ..",
            )
        )
    elif forget != exact:
        found.notes.append(f"{where}: adaptation decays by {exact:.4g} a step, in the eligibility by {forget:.4g}")


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


def surrogate_shape(kind: SurrogateKind, x: FloatArray) -> FloatArray:
    """Return psi / height at distances ``x`` >= 0 from the threshold, in widths (docs/eprop.md, "Histories")."""
    shape: FloatArray = {
        SurrogateKind.PIECEWISE_LINEAR: np.maximum(0.0, 1.0 - x),
        SurrogateKind.EXPONENTIAL: np.exp(-x),
        SurrogateKind.FAST_SIGMOID_DERIVATIVE: (1.0 + x) ** -2,
        SurrogateKind.ARCTAN_DERIVATIVE: 1.0 / (1.0 + x * x),
    }[kind]
    return shape


def surrogate_table(rule: EProp, scale: float, step: int = 1) -> tuple[npt.NDArray[np.int64], int]:
    """Return (table, shift): psi = table[|v - threshold| >> shift] in units of height / 127, the last entry 0; all
    are multiples of ``step``."""
    surrogate = rule.surrogate
    width = surrogate.width * scale
    shift = max(0, int(np.ceil(np.log2(max(_REACH[surrogate.kind] * width / (_TABLE - 1), 1e-9)))))
    shape = surrogate_shape(surrogate.kind, (np.arange(_TABLE) + 0.5) * 2.0**shift / width)
    table = np.minimum(np.rint(TRACE_MAX * shape / step), TRACE_MAX // step).astype(np.int64) * step
    table[-1] = 0
    return table, shift


def hidden_settings(
    rule: EProp,
    gains: Gains,
    *,
    scale: float,
    alpha: float,
    error_unit: float,
    dt: float,
    step: int = 1,
    adaptation: Adaptation | None = None,
) -> tuple[dict[str, Any], Mapping[str, npt.NDArray[np.generic]]]:
    """Return (scalars, arrays) that a plastic neuron process needs. ``error_unit``: learning signal per unit of a_third_factor_in;
    ``step``: psi is a multiple of it; ``adaptation``: of an alif population."""
    table, shift = surrogate_table(rule, scale, step)
    mantissa, signal_shift = mantissa_shift(gains.signal * error_unit * 2**SIGNAL_FRACTION_BITS)
    form = gains.form
    assert form is not None
    eta = rule.optimizer.learning_rate * real_gain(rule, form, alpha)
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
        "product": not form.has_tag,
        "psi_delay": form.psi_delay,
        "y3_step": form.y3_step,
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
    arrays: dict[str, npt.NDArray[np.generic]] = {"surrogate_table": table}
    if form is Form.ADAPTIVE:
        assert adaptation is not None
        exact = adaptation.beta * rule.surrogate.height * 2.0**gains.beta_exponent / TRACE_MAX  # y1 per unit of psi in 7 bits
        arrays |= {
            "adaptation_mantissa": np.rint(exact * 2.0**ADAPTATION_SHIFT).astype(np.int64),
            "adaptation_gain": adaptation.beta * _Y_DECAY,
        }
    return settings, arrays


def real_gain(rule: EProp, form: Form, alpha: float) -> float:
    """Return the factor between exact e-prop and what the form multiplies with y3, in floating point (impulse 1, psi as it is)."""
    if form is Form.PRE_TRACE:
        return _Y_DECAY / (alpha * (1.0 - rule.kappa))
    return _Y_DECAY / abs(rule.kappa - alpha) if form is Form.TWO_TRACES else _Y_DECAY**2 / alpha


def readout_settings(rule: EProp | None, gains: Gains | None, *, scale: float, alpha: float) -> dict[str, Any]:
    """Return the scalars of a readout that sends errors; ``rule`` None: its own synapses are static."""
    unit = 2.0**ERROR_SHIFT / scale
    mantissa, shift = (0, 0) if gains is None else mantissa_shift(gains.signal * unit * 2**SIGNAL_FRACTION_BITS)
    carry = 0 if gains is None else gains.carry
    gain = 0.0 if rule is None else rule.optimizer.learning_rate * _Y_DECAY / alpha
    return {
        "error_shift": ERROR_SHIFT,
        "signal_mantissa": mantissa,
        "signal_shift": shift,
        "signal_gain": gain,
        "carry": carry,
        "y3_step": Form.PRE_TRACE.y3_step,
    }


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
