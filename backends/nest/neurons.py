"""Neuron models -> NEST's node models and their parameters.

NEST's e-prop models compute, relative to E_L, v <- alpha v + P I + input with P = tau_m / C_m (1 - alpha): with C_m = 1, E_L = v_leak and
I_e = bias / P that is our recurrence. In ``eprop_iaf``, ``eprop_iaf_adapt`` and ``eprop_readout`` I_e acts one step after it is set, so the
bias of step 0 is given through the membrane at the start, v_leak + bias / alpha.
"""

from __future__ import annotations

import numpy as np

from neurocompile.backends.base import Approximation
from neurocompile.backends.nest.lowered import NestPopulation
from neurocompile.ir import ALIF, LIF, CubaLIF, Integration, LeakyReadout, Population, Reset, SpikeSource
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import Diagnostic
from neurocompile.ir.neurons import expand

NEST_MIN = -1.7976931348623157e308
"""NEST's default of V_min: no bound."""
_LAST_ALPHA = 600.0
"""dt/tau beyond which a decay counts as 0 (exp(-600) = 1e-261): alpha stays a normal number, so that bias / alpha is finite."""
_NO_LEAK = 1.6e-16
"""dt/tau of an infinite time constant with a bias: alpha is the largest double below 1, so that P = tau (1 - alpha) is not 0."""
_FOREVER = 1e300
"""tau_m (ms) of an infinite time constant without bias: alpha is exactly 1."""


def membrane_time(tau: FloatArray, dt: float, integration: Integration, bias: FloatArray) -> FloatArray:
    """Return tau_m in ms, shape (n,), such that NEST's exp(-dt/tau_m) is the description's decay per step."""
    ratio = dt / tau
    if integration is Integration.EULER:
        with np.errstate(divide="ignore"):
            ratio = -np.log1p(-np.minimum(ratio, 1.0))
    ratio = np.minimum(ratio, _LAST_ALPHA)
    still = np.where(bias != 0.0, dt * 1e3 / _NO_LEAK, _FOREVER)
    with np.errstate(divide="ignore"):
        exact = dt * 1e3 / ratio
    if integration is Integration.EXACT:
        exact = np.where(ratio == _LAST_ALPHA, exact, tau * 1e3)
    return np.where(ratio == 0.0, still, exact)


def _compact(values: FloatArray) -> float | FloatArray:
    """One number where all are the same."""
    return float(values[0]) if np.all(values == values[0]) else values


def lower_population(population: Population, dt: float) -> tuple[NestPopulation, list[Diagnostic], list[Approximation], bool]:
    """Return (nodes, errors, approximations, whether a constant input alone makes a neuron spike in step 0)."""
    model, n, name = population.model, population.size, population.name
    if isinstance(model, SpikeSource):
        probability = np.minimum(expand(model.rate, n) * dt, 1.0)
        source = NestPopulation(
            name=name, kind=model.kind, model="parrot_neuron", size=n, params={}, probability=probability if probability.any() else None
        )
        return source, [], [], False
    if isinstance(model, LeakyReadout):
        return _readout(population, model, dt)
    if not isinstance(model, LIF):
        raise TypeError(model.kind)
    errors: list[Diagnostic] = []
    if isinstance(model, CubaLIF):
        errors.append(_no_current(name, model.kind, "lif"))
    params, alpha, bias = _membrane(model, n, dt)
    threshold, leak, lowest = expand(model.v_threshold, n), expand(model.v_leak, n), expand(model.v_min, n)
    subtract = model.reset is Reset.SUBTRACT
    found: list[Approximation] = []
    steps = np.rint(expand(model.t_ref, n) / dt)
    kind = "eprop_iaf" if subtract else "eprop_iaf_psc_delta"
    if isinstance(model, ALIF):
        kind += "_adapt"
        params["adapt_beta"] = _compact(expand(model.adapt_beta, n))
        params["adapt_tau"] = _compact(membrane_time(expand(model.adapt_tau, n), dt, model.integration, np.zeros(n)))
        if not subtract and np.any(steps > 0) and np.any(expand(model.adapt_beta, n) > 0):
            found.append(
                Approximation(
                    code="NC330",
                    where=f"population '{name}'",
                    what=f"an alif that resets to a value and has a refractory time ({steps.max():g} steps)",
                    instead="the same neuron without refractory time",
                    effect="NEST 3.10 loses every adaptation increment of a refractory neuron: its threshold would never rise",
                )
            )
            steps = np.zeros(n)
    if not subtract:
        reset = expand(model.v_reset, n)
        params["V_reset"] = _compact(reset)
        errors += _ordered(name, "v_reset", reset, "v_threshold", threshold)
        errors += _ordered(name, "v_min", lowest, "v_reset", reset, equal=True)
    errors += _ordered(name, "v_min", lowest, "v_threshold", threshold)
    params["V_th"] = _compact(threshold)
    params["t_ref"] = _compact(steps * (dt * 1e3))
    lag = bias / alpha if subtract else np.zeros(n)
    params["V_m"] = _compact(leak + lag)
    # Rounding may put a neuron on either side of its threshold: where it could spike, the program keeps step 0 out of NEST's first step.
    margin = 1e-12 * (np.abs(leak) + np.abs(bias) + np.abs(threshold))
    at_once = bool(np.any(leak + bias >= threshold - margin))
    return NestPopulation(name=name, kind=model.kind, model=kind, size=n, params=params), errors, found, at_once


def _membrane(model: LIF | LeakyReadout, n: int, dt: float) -> tuple[dict[str, float | str | FloatArray], FloatArray, FloatArray]:
    bias = expand(model.bias, n)
    tau = membrane_time(expand(model.tau_mem, n), dt, model.integration, bias)
    alpha = np.exp(-(dt * 1e3) / tau)
    gain = tau * (1.0 - alpha)
    current = np.divide(bias, gain, out=np.zeros(n), where=bias != 0.0)
    params: dict[str, float | str | FloatArray] = {
        "C_m": 1.0,
        "E_L": _compact(expand(model.v_leak, n)),
        "I_e": _compact(current),
        "tau_m": _compact(tau),
        "V_min": _compact(np.maximum(expand(model.v_min, n), NEST_MIN)),
    }
    return params, alpha, bias


def _readout(population: Population, model: LeakyReadout, dt: float) -> tuple[NestPopulation, list[Diagnostic], list[Approximation], bool]:
    n = population.size
    errors = [_no_current(population.name, model.kind, "leaky_readout without tau_syn")] if np.any(np.asarray(model.tau_syn) > 0) else []
    params, alpha, bias = _membrane(model, n, dt)
    params["V_m"] = _compact(expand(model.v_leak, n) + bias / alpha)
    return NestPopulation(name=population.name, kind=model.kind, model="eprop_readout", size=n, params=params), errors, [], False


def _no_current(name: str, kind: str, instead: str) -> Diagnostic:
    return Diagnostic(
        code="NC331",
        message=f"population '{name}': {kind} with a synaptic current; in NEST's iaf_psc_exp the current of a spike reaches the membrane "
        "one step later, and its e-prop models have none",
        help=f"nearest thing that works: {instead}",
    )


def _ordered(name: str, lower: str, low: FloatArray, upper: str, high: FloatArray, *, equal: bool = False) -> list[Diagnostic]:
    """NEST's order of the membrane's limits; ``equal``: both may be the same."""
    bad = np.flatnonzero(low > high if equal else low >= high)
    if not bad.size:
        return []
    i = int(bad[0])
    return [
        Diagnostic(
            code="NC332",
            message=f"population '{name}': {lower} of neuron {i} is {low[i]:g}, its {upper} {high[i]:g}; NEST needs {lower} "
            + ("at or below" if equal else "below")
            + f" {upper}",
            help=f"set {lower} {'at or below' if equal else 'below'} {upper}",
        )
    ]
