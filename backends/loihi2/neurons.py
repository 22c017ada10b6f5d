"""Neuron parameters -> integers: one scale a population, so that threshold and weights use the range and nothing overflows unseen.

State coordinates are membrane units minus ``v_leak``: a leak towards any value is then a leak towards 0, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import (
    ALIGN_SHIFT,
    BIAS_EXPONENT_MAX,
    BIAS_MANTISSA_MAX,
    DECAY_UNITY,
    STATE_MAX,
    THRESHOLD_MAX,
    WEIGHT_EXPONENT_MAX,
    WEIGHT_FULL,
    FloatArray,
    decay_register,
)
from neurocompile.backends.loihi2.lowered import LoweredPopulation, Parameters
from neurocompile.ir import ALIF, LIF, CubaLIF, LeakyReadout, Population, Reset, SpikeSource
from neurocompile.ir.errors import Diagnostic
from neurocompile.ir.neurons import decay, expand

_HEADROOM = 4.0
"""Room above the threshold and below rest for the membrane of a spiking neuron (the state saturates beyond)."""
_NEGLIGIBLE = 1e-30
"""Weights and biases below this many membrane units are nothing: no scale is chosen for them."""


@dataclass(kw_only=True)
class Findings:
    """What lowering found: ``errors`` cannot be expressed, ``notes`` are said in the summary."""

    errors: list[Diagnostic] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def error(self, code: str, message: str, help: str) -> None:
        self.errors.append(Diagnostic(code=code, message=message, help=help))


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Weights that arrive at a population.

    largest : largest |weight| to be representable (plastic weights with room to grow), membrane units;
    per_neuron : (n,) sum of |weight| per neuron: the largest input of one step;
    unit : what a weight unit is to be (membrane units), times a power of two; None: any.
    """

    largest: float
    per_neuron: FloatArray
    unit: float | None = None


def choose_scale(population: Population, load: Load, dt: float) -> tuple[float, float]:
    """Return (state units per membrane unit, the largest possible input in state units if that leaves the 24 bits, else 0).

    The largest weight takes the full 8 bits at a weight exponent of 0 .. 7. The exponent is the largest for which the threshold has
    ``_HEADROOM`` and the worst input (every synapse active in one step, or for a readout in every step) stays inside 24 bits; if no
    exponent does, the second condition is given up and said.
    """
    model, n = population.model, population.size
    assert isinstance(model, LIF | LeakyReadout)
    current = decay(model.tau_syn, dt, model.integration, n) if isinstance(model, CubaLIF | LeakyReadout) else np.zeros(n)
    worst = load.per_neuron / np.maximum(1.0 - current, 1.0 / DECAY_UNITY)
    if isinstance(model, LIF):
        level = np.abs(expand(model.v_threshold, n) - expand(model.v_leak, n))
        if model.reset is Reset.TO_VALUE:
            level = np.maximum(level, np.abs(expand(model.v_reset, n) - expand(model.v_leak, n)))
        else:
            level = np.maximum(level, np.abs(expand(model.v_threshold, n)))
        if isinstance(model, ALIF):
            level = level + expand(model.adapt_beta, n)
    else:
        level = np.zeros(n)
    leak = expand(model.v_leak, n)
    pull = (leak - (leak[0] if np.ptp(leak) == 0 else 0.0)) * (1.0 - decay(model.tau_mem, dt, model.integration, n))
    bias = np.abs(expand(model.bias, n) + pull)
    worst = worst + bias
    if isinstance(model, LeakyReadout):  # nothing resets it: input of every step adds up
        worst = worst / np.maximum(1.0 - decay(model.tau_mem, dt, model.integration, n), 1.0 / DECAY_UNITY)
    if population.resolution is not None:
        scale = 1.0 / population.resolution
        return scale, _beyond(scale * float(worst.max()))
    bias_limit = (BIAS_MANTISSA_MAX << BIAS_EXPONENT_MAX) / bias.max() if bias.max() > _NEGLIGIBLE else np.inf
    top, most = float(level.max()), float(worst.max())
    start = float(np.abs(leak - (leak[0] if np.ptp(leak) == 0 else 0.0)).max())  # u and v of the first step
    if isinstance(model, CubaLIF | LeakyReadout):
        start = max(start, float(np.abs(expand(model.i_init, n)).max()))
    start_limit = STATE_MAX / start if start > _NEGLIGIBLE else np.inf
    largest = load.largest
    if largest <= _NEGLIGIBLE:
        reference = max(top, most)
        return min((STATE_MAX / (_HEADROOM * reference)) if reference > _NEGLIGIBLE else 2.0**16, bias_limit, start_limit), 0.0
    limit = min(STATE_MAX / (_HEADROOM * top) if top > _NEGLIGIBLE else np.inf, start_limit)
    full = [WEIGHT_FULL * 2.0 ** (ALIGN_SHIFT + exponent) / largest for exponent in range(WEIGHT_EXPONENT_MAX + 1)]
    limit = min(limit, max(bias_limit, full[0] / 16.0))  # a large bias costs at most 4 bits of the weights
    if load.unit is not None:  # bounds of learnt weights are where 8 bits end
        fitting = [scale for e in range(WEIGHT_EXPONENT_MAX + 1) if (scale := 2.0 ** (ALIGN_SHIFT + e) / load.unit) <= min(limit, full[-1])]
        if fitting:
            inside = [scale for scale in fitting if scale * most <= STATE_MAX]
            scale = max(inside, default=min(fitting))
            return scale, _beyond(scale * most)
    safe = [scale for scale in full if scale <= limit and scale * most <= STATE_MAX]
    if safe:
        return max(safe), 0.0
    if most > 0 and min(limit, STATE_MAX / most) >= full[0] / 2:  # a little less than full weights, but nothing can overflow
        return min(limit, STATE_MAX / most), 0.0
    scale = min(full[0], limit)
    return scale, _beyond(scale * most)


def _beyond(state: float) -> float:
    return state if state > STATE_MAX else 0.0


def lower_population(population: Population, load: Load, dt: float, *, plastic: bool, found: Findings) -> LoweredPopulation:
    """Return a population's integers; findings go to ``found``."""
    model, n, name = population.model, population.size, population.name
    if isinstance(model, SpikeSource):
        rate = expand(model.rate, n)
        return LoweredPopulation(name=name, size=n, process="SpikeInput", rate=rate if rate.any() else None)
    assert isinstance(model, LIF | LeakyReadout)
    scale, beyond = choose_scale(population, load, dt)
    if beyond:
        when = "every" if isinstance(model, CubaLIF | LeakyReadout) else "one"  # a current or a readout adds up
        found.notes.append(
            f"population '{name}': if all its synapses were active in {when} step, its input would leave 24 bits "
            f"({beyond:.3g} of {STATE_MAX})"
        )
    leak = expand(model.v_leak, n)
    offset = float(leak[0]) if leak.min() == leak.max() else 0.0  # heterogeneous rest: the leak becomes a bias
    membrane = decay(model.tau_mem, dt, model.integration, n)
    current = decay(model.tau_syn, dt, model.integration, n) if isinstance(model, CubaLIF | LeakyReadout) else np.zeros(n)
    dv = decay_register(membrane)
    du = decay_register(current)
    pull = (leak - offset) * (1.0 - membrane)
    bias_real = expand(model.bias, n) + pull
    exponent, mantissa = _bias(bias_real * scale, name, found)
    v_min = expand(model.v_min, n) - offset
    start = leak - offset
    current_start = expand(model.i_init, n) if isinstance(model, CubaLIF | LeakyReadout) else np.zeros(n)
    values: dict[str, Any] = {
        "du": du,
        "dv": dv,
        "bias": mantissa << exponent,
        "v_min": np.where(np.isfinite(v_min), np.maximum(np.rint(np.maximum(v_min, -1e30) * scale), -STATE_MAX), -STATE_MAX),
        "u": np.rint(current_start * scale),
        "v": np.rint(start * scale),
    }
    real: dict[str, Any] = {
        "du": current,
        "dv": membrane,
        "bias": bias_real,
        "v_min": v_min,
        "u": current_start,
        "v": start,
    }
    if isinstance(model, LeakyReadout):
        return _population(population, "Readout", scale, offset, values, real)
    process = "Neuron"
    threshold = expand(model.v_threshold, n) - offset
    vth = np.ceil(np.round(threshold * scale / 2**ALIGN_SHIFT, 9)).astype(np.int64) - 1  # v > vth<<6 instead of v >= threshold
    if vth.min() < 0 or vth.max() > THRESHOLD_MAX:
        bad = int(np.argmax((vth < 0) | (vth > THRESHOLD_MAX)))
        found.error(
            "NC310",
            f"population '{name}': neuron {bad} has its threshold {threshold[bad] + offset:g} at or too near its rest {leak[bad]:g}: "
            f"the 17-bit threshold would be {vth[bad]}",
            "raise v_threshold above v_leak; add a bias to make a neuron fire by itself",
        )
    refractory = _refractory_steps(model, dt, n)
    reset = expand(model.v_reset, n) - offset
    values |= {
        "vth": np.clip(vth, 0, THRESHOLD_MAX),
        "subtract": int(model.reset is Reset.SUBTRACT),
        "v_subtract": np.rint(expand(model.v_threshold, n) * scale),
        "v_reset": np.rint(reset * scale),
        "t_ref": refractory,
        "adapt_beta": 0,
        "adapt_decay": DECAY_UNITY,
    }
    real |= {
        "vth": threshold,
        "subtract": int(model.reset is Reset.SUBTRACT),
        "v_subtract": expand(model.v_threshold, n),
        "v_reset": reset,
        "t_ref": refractory,
        "adapt_beta": 0.0,
        "adapt_decay": 0.0,
    }
    if isinstance(model, ALIF):
        rho = decay(model.adapt_tau, dt, model.integration, n)
        values |= {"adapt_beta": np.rint(expand(model.adapt_beta, n) * scale), "adapt_decay": decay_register(rho)}
        real |= {"adapt_beta": expand(model.adapt_beta, n), "adapt_decay": rho}
    uniform = all(np.ptp(np.asarray(values[key], np.float64)) == 0 for key in ("du", "dv", "vth"))
    library = (
        not plastic
        and not isinstance(model, ALIF)
        and model.reset is Reset.TO_VALUE
        and not np.rint(reset * scale).any()
        and not refractory.any()
        and not np.isfinite(v_min).any()
        and uniform
        and int(du.flat[0]) >= 1
    )
    if library:  # Lava's own process: du has an offset of 1
        process = "LIF"
        values = {
            "du": int(du[0]) - 1,
            "dv": min(int(dv[0]), DECAY_UNITY - (population.resolution is None)),  # netx gives Lava a decay of 4096, beyond 12 bits
            "vth": int(vth[0]),
            "bias_mant": mantissa,
            "bias_exp": exponent,
            "u": values["u"],
            "v": values["v"],
        }
        real = {
            "du": 1.0 - current[0],
            "dv": 1.0 - membrane[0],
            "vth": np.nextafter(threshold[0], -np.inf),
            "bias": bias_real,
            "u": current_start,
            "v": start,
        }
    return _population(population, process, scale, offset, values, real)


def _population(
    population: Population, process: str, scale: float, offset: float, fixed: dict[str, Any], real: dict[str, Any]
) -> LoweredPopulation:
    return LoweredPopulation(
        name=population.name,
        size=population.size,
        process=process,
        scale=scale,
        offset=offset,
        fixed={key: _compact(value, np.int64) for key, value in fixed.items()},
        real={key: _compact(value, np.float64) for key, value in real.items()},
    )


def _compact(value: Any, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """Return a parameter as a scalar array if all neurons share it (start values stay per neuron only if they differ)."""
    array = np.asarray(value, dtype)
    return array.reshape(-1)[0].reshape(()) if array.size and (array == array.flat[0]).all() else array


def _bias(exact: FloatArray, name: str, found: Findings) -> tuple[int, npt.NDArray[np.int64]]:
    most = float(np.abs(exact).max())
    exponent = 0 if most <= BIAS_MANTISSA_MAX else int(np.ceil(np.log2(most / BIAS_MANTISSA_MAX)))
    if exponent > BIAS_EXPONENT_MAX:
        found.error(
            "NC310",
            f"population '{name}': bias is {most:.6g} state units, the 13-bit mantissa with a 3-bit exponent ends at "
            f"{BIAS_MANTISSA_MAX << BIAS_EXPONENT_MAX}",
            "lower the bias, or give it as input spikes from a spike_source",
        )
        exponent = BIAS_EXPONENT_MAX
    limit = BIAS_MANTISSA_MAX
    return exponent, np.clip(np.rint(exact / 2.0**exponent), -limit, limit).astype(np.int64)


def _refractory_steps(model: LIF, dt: float, n: int) -> npt.NDArray[np.int64]:
    steps: npt.NDArray[np.int64] = np.rint(expand(model.t_ref, n) / dt).astype(np.int64)
    return steps


def rounding(population: Population, lowered: LoweredPopulation, dt: float) -> dict[str, Any]:
    """Return what rounding does to a population's parameters, for the summary."""
    model, n = population.model, population.size
    if not isinstance(model, LIF | LeakyReadout):
        return {}
    membrane = decay(model.tau_mem, dt, model.integration, n)
    kept = 1.0 - decay_register(membrane) / DECAY_UNITY
    row: dict[str, Any] = {
        "process": lowered.process,
        "state_units_per_membrane_unit": lowered.scale,
        "decay_max_abs_error": float(np.abs(kept - membrane).max()),
    }
    if isinstance(model, LIF):
        threshold = expand(model.v_threshold, n) - lowered.offset
        kept_threshold = (np.asarray(lowered.fixed["vth"], np.float64) + 1) * 2**ALIGN_SHIFT / lowered.scale
        row["threshold_max_rel_error"] = float(np.abs(kept_threshold - threshold).max() / np.abs(threshold).max())
        row["threshold_register"] = int(np.asarray(lowered.fixed["vth"], np.int64).max())
    return row


__all__ = ["Findings", "Load", "Parameters", "choose_scale", "lower_population", "rounding"]
