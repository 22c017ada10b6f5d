"""Neuron models -> NEST's node models and their parameters.

NEST's e-prop models compute, relative to E_L, v <- alpha v + P I + input with P = tau_m / C_m (1 - alpha): with C_m = 1, E_L = v_leak and
I_e = bias / P that is our recurrence. In ``eprop_iaf``, ``eprop_iaf_adapt`` and ``eprop_readout`` I_e acts one step after it is set, so the
bias of step 0 is given through the membrane at the start, v_leak + bias / alpha. Without leak P is 0: there the bias of step 0 is given the
same way, and that of later steps as spikes of that weight.
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
_FOREVER = 1e300
"""tau_m (ms) of an infinite time constant: alpha is exactly 1."""


def membrane_time(tau: FloatArray, dt: float, integration: Integration) -> FloatArray:
    """Return tau_m in ms, shape (n,), such that NEST's exp(-dt/tau_m) is the description's decay per step."""
    ratio = dt / tau
    if integration is Integration.EULER:
        with np.errstate(divide="ignore"):
            ratio = -np.log1p(-np.minimum(ratio, 1.0))
    ratio = np.minimum(ratio, _LAST_ALPHA)
    with np.errstate(divide="ignore"):
        exact = dt * 1e3 / ratio
    if integration is Integration.EXACT:
        exact = np.where(ratio == _LAST_ALPHA, exact, tau * 1e3)
    return np.minimum(exact, _FOREVER)


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
    params, pushed, start = _membrane(model, n, dt, lagged=model.reset is Reset.SUBTRACT)
    threshold, leak, lowest = expand(model.v_threshold, n), expand(model.v_leak, n), expand(model.v_min, n)
    subtract = model.reset is Reset.SUBTRACT
    found: list[Approximation] = []
    steps = np.rint(expand(model.t_ref, n) / dt)
    kind = "eprop_iaf" if subtract else "eprop_iaf_psc_delta"
    if isinstance(model, ALIF):
        kind += "_adapt"
        params["adapt_beta"] = _compact(expand(model.adapt_beta, n))
        params["adapt_tau"] = _compact(membrane_time(expand(model.adapt_tau, n), dt, model.integration))
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
    params["V_m"] = _compact(start)
    # Rounding may put a neuron on either side of its threshold: where it could spike, the program keeps step 0 out of NEST's first step.
    bias = expand(model.bias, n)
    margin = 1e-12 * (np.abs(leak) + np.abs(bias) + np.abs(threshold))
    at_once = bool(np.any(leak + bias >= threshold - margin))
    return NestPopulation(name=name, kind=model.kind, model=kind, size=n, params=params, pushed=pushed), errors, found, at_once


def _membrane(
    model: LIF | LeakyReadout, n: int, dt: float, *, lagged: bool
) -> tuple[dict[str, float | str | FloatArray], FloatArray | None, FloatArray]:
    """Return (parameters, bias that comes as spikes, membrane at the start); ``lagged``: I_e acts one step after it is set."""
    bias, leak = expand(model.bias, n), expand(model.v_leak, n)
    tau = membrane_time(expand(model.tau_mem, n), dt, model.integration)
    alpha = np.exp(-(dt * 1e3) / tau)
    leaky = alpha < 1.0
    current = np.divide(bias, tau * (1.0 - alpha), out=np.zeros(n), where=leaky & (bias != 0.0))
    pushed = np.where(leaky, 0.0, bias)
    start = leak + np.where(leaky & (not lagged), 0.0, bias / alpha)
    params: dict[str, float | str | FloatArray] = {
        "C_m": 1.0,
        "E_L": _compact(leak),
        "I_e": _compact(current),
        "tau_m": _compact(tau),
        "V_min": _compact(np.maximum(expand(model.v_min, n), NEST_MIN)),
    }
    return params, pushed if pushed.any() else None, start


def _readout(population: Population, model: LeakyReadout, dt: float) -> tuple[NestPopulation, list[Diagnostic], list[Approximation], bool]:
    n = population.size
    errors = [_no_current(population.name, model.kind, "leaky_readout without tau_syn")] if np.any(np.asarray(model.tau_syn) > 0) else []
    params, pushed, start = _membrane(model, n, dt, lagged=True)
    params["V_m"] = _compact(start)
    lowered = NestPopulation(name=population.name, kind=model.kind, model="eprop_readout", size=n, params=params, pushed=pushed)
    return lowered, errors, [], False


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
