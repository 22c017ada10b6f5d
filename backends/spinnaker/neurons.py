"""Our neuron models as sPyNNaker's, with the arithmetic of the SpiNNaker core in view.

sPyNNaker's LIF (``neuron_model_lif_impl.h``) computes in s16.15, with R = tau_m / cm and E = exp(-dt / tau_m):

    alpha <- I R + v_rest;   v <- alpha - E (alpha - v);   spike when v >= v_thresh, then v <- v_reset for tau_refrac / dt further steps

which is ``v <- E v + (1 - E) v_rest + (1 - E) R I``: the user's LIF with hard reset when (1 - E) R I is the user's input. For delta input
(``input_type_delta.h``) I = sum(w) / dt_ms + i_offset, so R = dt_ms / (1 - E) makes a spike add exactly its weight. For exponential
currents (``IF_curr_exp``) a spike adds w (tau_syn / dt) (1 - exp(-dt / tau_syn)), so R = 1 / (1 - E) and the weight is divided by that
factor.

A core divides by rounding *down* to 2^-15 (``kdivk``), so dt / tau_m of a slow neuron, and with it 1 - E, is off by up to 2^-15 tau_m / dt
(0.3 % at 100 steps), and rounds E down as well (``expk``). tau_m is therefore moved to where E becomes the number nearest to what is
wanted, and cm is made from the E that results: rounding then changes the decay a little, but not what a spike adds.

s16.15 has a resolution of 3e-5 and a range of 65536, so every population gets a power of two S by which all its membrane quantities are
multiplied: the threshold then lies in (8, 16]. Weights are multiplied by S too; recorded membranes are divided by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurocompile.backends.base import Approximation
from neurocompile.backends.spinnaker import accum
from neurocompile.ir import ALIF, LIF, Integration, LeakyReadout, Population, SpikeSource
from neurocompile.ir._types import FloatArray, Param
from neurocompile.ir.errors import Diagnostic
from neurocompile.ir.neurons import Reset, expand

ACCUM_STEP = 1.0 / accum.ONE
"""Resolution of s16.15, the number format of neuron parameters and state (spynnaker.pyNN: DataType.S1615)."""
ACCUM_MAX = 2.0**16 - ACCUM_STEP
UNREACHABLE = 65535.0
"""Threshold of a readout: the largest whole number that s16.15 holds."""
LONGEST_TAU_STEPS = 8192.0
"""1 - exp(-dt/tau) is then 5 units of s16.15; longer time constants would round to no leak and, with it, no input."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """One population as sPyNNaker makes it.

    cell : ``source``, ``IF_curr_delta``, ``IF_curr_delta_ca2_adaptive`` or ``IF_curr_exp``;
    params : PyNN parameters (ms, nF, mV, nA), numbers or arrays (n,); ``v_init`` is the initial membrane;
    voltage_scale : S, a power of two; weight_scale : PyNN weight per user's weight, a number or (n,);
    record : ``spikes`` or ``v``; gain_error : largest relative error of a spike's effect from rounding R and E.
    """

    name: str
    size: int
    cell: str
    params: dict[str, float | FloatArray]
    voltage_scale: float = 1.0
    weight_scale: float | FloatArray = 1.0
    record: str = "spikes"
    gain_error: float = 0.0
    decay_error: float = 0.0


@dataclass(slots=True)
class Findings:
    """What lowering found: deviations that can be accepted, and what cannot be expressed at all."""

    approximations: list[Approximation] = field(default_factory=list)
    errors: list[Diagnostic] = field(default_factory=list)

    def approximate(self, code: str, where: str, what: str, instead: str, effect: str = "") -> None:
        self.approximations.append(Approximation(code=code, where=where, what=what, instead=instead, effect=effect))

    def refuse(self, code: str, message: str, help: str) -> None:
        self.errors.append(Diagnostic(code=code, message=message, help=help))


def quantise(value: FloatArray) -> FloatArray:
    """Return the nearest s16.15 numbers."""
    result: FloatArray = np.rint(value / ACCUM_STEP) * ACCUM_STEP
    return result


def divide(numerator: FloatArray | float, denominator: FloatArray | float) -> FloatArray:
    """Return quotients as a core computes them (``kdivk``): all in s16.15, rounded down."""
    top, bottom = (np.rint(np.asarray(x, np.float64) / ACCUM_STEP).astype(np.int64) for x in (numerator, denominator))
    return accum.decode(accum.divide(top, bottom))


def decay_of(dt_ms: float, tau_ms: FloatArray) -> FloatArray:
    """Return exp(-dt / tau) as a core computes it (``expk`` of ``kdivk``)."""
    quotient = np.rint(divide(dt_ms, tau_ms) / ACCUM_STEP).astype(np.int64)
    return accum.decode(accum.exponential(-quotient))


def nearest_tau(tau_ms: FloatArray, dt_ms: float) -> FloatArray:
    """Return the time constants (ms, s16.15) for which :func:`divide` gives the number nearest to dt / tau, not the next lower one."""
    return _tau_of(np.maximum(np.rint(dt_ms / tau_ms / ACCUM_STEP), 1.0), tau_ms, dt_ms)


def decaying_tau(tau_ms: FloatArray, dt_ms: float) -> FloatArray:
    """Return the time constants (ms, s16.15) for which :func:`decay_of` gives the number nearest to exp(-dt / tau)."""
    near = np.rint(dt_ms / tau_ms / ACCUM_STEP)
    quotients = np.maximum(np.stack([near, near - 1.0, near + 1.0, near - 2.0]), 1.0)
    missed = np.abs(accum.decode(accum.exponential(-quotients.astype(np.int64))) - np.exp(-dt_ms / tau_ms))
    return _tau_of(np.take_along_axis(quotients, missed.argmin(axis=0)[None], axis=0)[0], tau_ms, dt_ms)


def _tau_of(wanted: FloatArray, tau_ms: FloatArray, dt_ms: float) -> FloatArray:
    """Return the time constants (ms, s16.15) nearest to ``tau_ms`` with the quotients dt / tau that are wanted (units of 2^-15)."""
    step = np.rint(dt_ms / ACCUM_STEP)
    moved = np.floor(step * 2**15 / wanted) * ACCUM_STEP
    return np.where(divide(dt_ms, tau_ms) == wanted * ACCUM_STEP, quantise(tau_ms), moved)


def shrink(value: FloatArray) -> float | FloatArray:
    """Return one number where all are equal, else the array."""
    return float(value[0]) if value.size and np.all(value == value[0]) else value


def lower_population(population: Population, dt: float, largest_weight: float, findings: Findings) -> Cell:
    """Return the sPyNNaker form of a population.

    Parameters
    ----------
    dt : float
        s.
    largest_weight : float
        Largest absolute weight that reaches the population, user's units; 0 if none does.
    findings : Findings
        Deviations and refusals are added to it.
    """
    model, n = population.model, population.size
    if isinstance(model, SpikeSource):
        return Cell(name=population.name, size=n, cell="source", params={"rate": shrink(expand(model.rate, n))})
    if not isinstance(model, LIF | LeakyReadout):
        findings.refuse("NC321", f"population '{population.name}': sPyNNaker has no form of a {model.kind}", "use lif, alif or cuba_lif")
        return Cell(name=population.name, size=n, cell="source", params={"rate": 0.0})
    where = f"population '{population.name}'"
    tau = _membrane_tau(model.tau_mem, model.integration, dt, n, where, findings)
    tau_syn = expand(getattr(model, "tau_syn", 0.0), n)
    exponential = bool(np.any(tau_syn > 0))
    if exponential and np.any(tau_syn == 0):
        findings.refuse(
            "NC321", f"{where}: tau_syn is 0 for some neurons and positive for others", "split it into two populations, one for each"
        )
        tau_syn = np.where(tau_syn > 0, tau_syn, dt)
    if exponential:
        tau_syn = _synaptic_tau(tau_syn, model.integration, dt)
    if np.any(expand(model.v_min, n) > -np.inf):
        findings.approximate(
            "NC323",
            where,
            f"v_min = {np.max(expand(model.v_min, n)):g} bounds the membrane from below; sPyNNaker's LIF has no such bound",
            "no lower bound",
            "after strong inhibition the membrane needs longer to recover",
        )
    v_leak = expand(model.v_leak, n)
    threshold, reset, refractory = _spiking(model, dt, n, where, findings)
    scale = _voltage_scale(None if threshold is None else threshold - v_leak, largest_weight, float(np.max(tau)) / dt)
    tau_ms, dt_ms = decaying_tau(tau * 1e3, dt * 1e3), dt * 1e3
    decay = decay_of(dt_ms, tau_ms)
    per_weight = 1.0 if exponential else float(divide(1.0, dt_ms))  # input of a step / weight, and so 1 / (R (1 - E))
    c_m = tau_ms * (1.0 - decay) * per_weight
    params: dict[str, FloatArray] = {
        "tau_m": tau_ms,
        "cm": c_m,
        "v_rest": v_leak * scale,
        "v_reset": (v_leak if reset is None else reset) * scale,
        "v_thresh": np.full(n, UNREACHABLE) if threshold is None else threshold * scale,
        "tau_refrac": refractory * 1e3,
        "i_offset": expand(model.bias, n) * scale * per_weight,
        "v_init": v_leak * scale,
    }
    cell, weight_scale = "IF_curr_delta", np.full(n, scale)
    if exponential:
        cell = "IF_curr_exp"
        _check_slow("tau_syn", tau_syn, dt, where, findings)
        tau_syn_ms = nearest_tau(tau_syn * 1e3, dt_ms)
        params["tau_syn_E"] = params["tau_syn_I"] = tau_syn_ms
        kept = np.exp(-divide(dt_ms, tau_syn_ms))
        # sPyNNaker decays a current after it acted, we decay it before.
        first = expand(getattr(model, "i_init", 0.0), n) * kept * scale
        params["isyn_exc"], params["isyn_inh"] = np.maximum(first, 0.0), np.maximum(-first, 0.0)
        weight_scale = scale / (divide(tau_syn_ms, dt_ms) * (1.0 - kept))
    if isinstance(model, ALIF):
        cell = "IF_curr_delta_ca2_adaptive"
        adapt_tau, beta = expand(model.adapt_tau, n), expand(model.adapt_beta, n)
        _check_slow("adapt_tau", adapt_tau, dt, where, findings)
        # A steady current I shifts the membrane by R I; i_ca2 decays once before it first acts.
        params["tau_ca2"] = decaying_tau(adapt_tau * 1e3, dt_ms)
        params["i_alpha"] = beta * scale * (1.0 - decay) * per_weight * np.exp(divide(dt_ms, params["tau_ca2"]))
        findings.approximate(
            "NC324",
            where,
            "alif raises the threshold with each spike; sPyNNaker has no such model",
            "IFCurrDeltaCa2Adaptive: a current that pulls the membrane down by the same amount in the steady state",
            f"the adaptation sets in with tau_mem ({np.max(tau) * 1e3:g} ms) instead of at once, and is reset with the membrane",
        )
    _check_range(params, where, findings)
    gain = (1.0 - decay) * divide(tau_ms, np.maximum(c_m, ACCUM_STEP)) * per_weight
    return Cell(
        name=population.name,
        size=n,
        cell=cell,
        params={name: shrink(value) for name, value in params.items()},
        voltage_scale=scale,
        weight_scale=shrink(weight_scale),
        record="v" if threshold is None else "spikes",
        gain_error=float(np.max(np.abs(gain - 1.0))),
        decay_error=float(np.max(np.abs(decay - np.exp(-dt / tau)))),
    )


def _membrane_tau(tau_mem: Param, integration: Integration, dt: float, n: int, where: str, findings: Findings) -> FloatArray:
    """Return the time constant (s) whose exponential decay per step is the model's."""
    tau = np.array(expand(tau_mem, n))
    longest = LONGEST_TAU_STEPS * dt
    if integration is Integration.EULER:
        with np.errstate(divide="ignore"):
            inside = np.isfinite(tau) & (tau > dt)
            # exp(-12) rounds to 0 in s16.15: the membrane forgets within a step.
            tau = np.where(inside, -dt / np.log1p(-dt / np.where(inside, tau, 2 * dt)), np.where(tau <= dt, dt / 12.0, tau))
    if np.any(tau > longest):
        shown = "infinite" if np.isinf(np.max(tau)) else f"{np.max(tau) * 1e3:g} ms"
        findings.approximate(
            "NC328",
            where,
            f"tau_mem is {shown}: its decay per step cannot be told from 1 in 16-bit fractions",
            f"tau_mem = {longest * 1e3:g} ms ({LONGEST_TAU_STEPS:g} steps)",
            "the membrane leaks by 1.2e-4 of itself in a step",
        )
        tau = np.minimum(tau, longest)
    return tau


def _synaptic_tau(tau_syn: FloatArray, integration: Integration, dt: float) -> FloatArray:
    """Return the synaptic time constant (s) whose exponential decay per step is the model's."""
    if integration is Integration.EXACT:
        return tau_syn
    inside = tau_syn > dt
    result: FloatArray = np.where(inside, -dt / np.log1p(-dt / np.where(inside, tau_syn, 2 * dt)), dt / 12.0)
    return result


def _shown(values: FloatArray) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:g}" if low == high else f"{low:g} .. {high:g}"


def _spiking(
    model: LIF | LeakyReadout, dt: float, n: int, where: str, findings: Findings
) -> tuple[FloatArray | None, FloatArray | None, FloatArray]:
    """Return threshold, reset value (user's units; None for a readout) and PyNN's refractory time (s)."""
    if isinstance(model, LeakyReadout):
        return None, None, np.zeros(n)
    threshold = expand(model.v_threshold, n)
    # Steps without a spike after a spike: t_ref / dt where the reset is to a value, one less where it subtracts (ir/neurons.py).
    silent_steps = np.rint(expand(model.t_ref, n) / dt)
    reset = expand(model.v_reset, n)
    if model.reset is Reset.SUBTRACT:
        silent_steps = np.maximum(silent_steps - 1.0, 0.0)
        reset = expand(model.v_leak, n)
        lost = ", and input during the refractory time is lost" if np.any(silent_steps > 0) else ""
        findings.approximate(
            "NC322",
            where,
            "reset by subtraction; sPyNNaker's LIF only resets to a value",
            f"reset to v_leak ({_shown(reset)}), where a subtraction from exactly the threshold ends",
            f"what the membrane exceeds the threshold by is lost at each spike, at most one step's input{lost}",
        )
    # sPyNNaker is silent for ceil(tau_refrac / dt) steps; half a step less keeps rounding out of ceil.
    refractory = np.where(silent_steps > 0, (silent_steps - 0.5) * dt, 0.0)
    if np.any(reset >= threshold):
        bad = int(np.argmax(reset >= threshold))
        findings.refuse(
            "NC321",
            f"{where}: neuron {bad} resets to {reset[bad]:g}, which is not below its threshold {threshold[bad]:g}: it would never stop",
            "lower v_reset, or use a positive threshold with reset: subtract",
        )
    return threshold, reset, refractory


def _voltage_scale(distance: FloatArray | None, largest_weight: float, r_steps: float) -> float:
    """Return S: threshold minus rest in (8, 16], or for readouts the largest weight in (4, 8]; R I of four such weights stays in range."""
    reference = float(np.max(np.abs(distance))) / 2.0 if distance is not None else largest_weight
    reference = reference if reference > 0 else largest_weight if largest_weight > 0 else 1.0
    exponent = np.floor(np.log2(8.0 / reference))
    if largest_weight > 0:
        with np.errstate(divide="ignore", over="ignore"):
            exponent = min(exponent, np.floor(np.log2(2.0**14 / (max(r_steps, 1.0) * largest_weight))))
    return float(2.0 ** np.clip(exponent, -14, 20))


def _check_slow(name: str, tau: FloatArray, dt: float, where: str, findings: Findings) -> None:
    longest = LONGEST_TAU_STEPS * dt
    if np.any(tau > longest):
        findings.refuse(
            "NC328",
            f"{where}: {name} is {np.max(tau) * 1e3:g} ms; the longest that the machine tells apart is {longest * 1e3:g} ms "
            f"({LONGEST_TAU_STEPS:g} steps)",
            "use a shorter time constant or a larger dt",
        )


def _check_range(params: dict[str, FloatArray], where: str, findings: Findings) -> None:
    for name, value in params.items():
        worst = value[int(np.argmax(np.abs(value)))]
        if abs(worst) > ACCUM_MAX:
            findings.refuse(
                "NC328",
                f"{where}: {name} becomes {worst:g} on the machine, s16.15 ends at {ACCUM_MAX:g}",
                "bring weights, bias and threshold of the population closer together",
            )
        elif name in ("tau_m", "cm", "tau_syn_E", "tau_ca2") and np.min(value) < ACCUM_STEP:
            findings.refuse(
                "NC328",
                f"{where}: {name} becomes {np.min(value):g} on the machine, s16.15 resolves {ACCUM_STEP:g}",
                "use a longer time constant or a smaller dt",
            )


def summary_row(cell: Cell) -> dict[str, Any]:
    """Return what the report shows of a population."""
    return {
        "cell": cell.cell,
        "voltage_scale": cell.voltage_scale,
        "gain_error": cell.gain_error,
        "decay_error": cell.decay_error,
    }
