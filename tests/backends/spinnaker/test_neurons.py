"""The sPyNNaker form of each neuron model computes what ours does: its published update, in float, beside ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurocompile.backends.spinnaker.neurons import ACCUM_STEP, Cell, Findings, lower_population, quantise
from neurocompile.ir import ALIF, LIF, CubaLIF, Integration, LeakyReadout, Population
from neurocompile.ir.neurons import Reset, decay

DT = 1e-3


def lowered(model: Any, dt: float = DT, largest: float = 0.1) -> tuple[Cell, Findings]:
    findings = Findings()
    return lower_population(Population(name="p", size=1, model=model), dt, largest, findings), findings


def run_spynnaker(cell: Cell, weights: np.ndarray, dt: float, *, rounded: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """sPyNNaker's update (neuron_model_lif_impl.h, input_type_delta.h, synapse_types_exponential_impl.h), R and E in s16.15."""
    p = {name: float(np.ravel(value)[0]) for name, value in cell.params.items()}
    dt_ms = dt * 1e3
    number = (lambda x: float(quantise(np.asarray(x)))) if rounded else float
    e, r = number(np.exp(-dt_ms / p["tau_m"])), number(p["tau_m"] / p["cm"])
    scale = float(np.ravel(cell.weight_scale)[0])
    v, timer, t_ref = p["v_init"], 0, int(np.ceil(p["tau_refrac"] / dt_ms))
    current = p.get("isyn_exc", 0.0) - p.get("isyn_inh", 0.0)
    trace, spikes = [], []
    for weight in weights * scale:
        if cell.cell == "IF_curr_exp":
            tau = p["tau_syn_E"]
            current += weight * tau / dt_ms * (1 - np.exp(-dt_ms / tau))
            inp = current
            current *= np.exp(-dt_ms / tau)
        else:
            inp = weight / dt_ms
        if timer <= 0:
            alpha = (inp + p["i_offset"]) * r + p["v_rest"]
            v = alpha - e * (alpha - v)
        else:
            timer -= 1
        fires = v >= p["v_thresh"]
        if fires:
            v, timer = p["v_reset"], t_ref
        trace.append(v / cell.voltage_scale)
        spikes.append(fires)
    return np.asarray(trace), np.asarray(spikes)


def run_ours(model: Any, weights: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """The recurrences of ir/neurons.py with reset to a value."""
    a = float(decay(model.tau_mem, dt, model.integration, 1)[0])
    tau_syn = getattr(model, "tau_syn", 0.0)
    s = float(decay(tau_syn, dt, model.integration, 1)[0]) if tau_syn else 0.0
    v, i, hold = model.v_leak, getattr(model, "i_init", 0.0), 0
    interval = max(1, round(getattr(model, "t_ref", 0.0) / dt))
    trace, spikes = [], []
    for weight in weights:
        i = s * i + weight
        if hold > 0:
            hold -= 1
        else:
            v = a * v + (1 - a) * model.v_leak + model.bias + (i if tau_syn else weight)
        fires = isinstance(model, LIF) and v >= model.v_threshold and hold == 0
        if fires:
            v, hold = model.v_reset, interval - 1
        trace.append(v)
        spikes.append(fires)
    return np.asarray(trace), np.asarray(spikes)


HARD = {"v_threshold": 0.5, "v_reset": -0.05, "reset": Reset.TO_VALUE}
MODELS = {
    "lif": LIF(tau_mem=0.02, v_leak=0.02, bias=0.003, t_ref=0.003, **HARD),
    "no refractory time": LIF(tau_mem=0.015, **HARD),
    "euler": LIF(tau_mem=0.02, integration=Integration.EULER, **HARD),
    "cuba": CubaLIF(tau_mem=0.02, tau_syn=0.005, i_init=0.04, t_ref=0.002, **HARD),
    "readout": LeakyReadout(tau_mem=0.03, v_leak=0.1, bias=-0.001),
    "current readout": LeakyReadout(tau_mem=0.03, tau_syn=0.01, i_init=-0.02),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dt", [1e-3, 5e-4, 1e-4])
def test_same_membrane_and_spikes(name: str, dt: float) -> None:
    model = MODELS[name]
    weights = np.random.default_rng(3).normal(0.02, 0.1, 200)
    cell, findings = lowered(model, dt)
    assert not findings.approximations
    assert not findings.errors
    v, spikes = run_ours(model, weights, dt)
    got_v, got_spikes = run_spynnaker(cell, weights, dt)
    np.testing.assert_array_equal(got_spikes, spikes)
    assert spikes.any() == isinstance(model, LIF)
    # E rounded to 2^-16 changes the membrane by at most that, relatively, in each step of its memory (tau / dt steps).
    steps = float(np.max(model.tau_mem)) / dt
    bound = (steps * ACCUM_STEP + cell.gain_error) * (np.abs(v).max() + 0.5)
    np.testing.assert_allclose(got_v, v, atol=bound)


def test_rounding_of_the_decay_does_not_change_a_spikes_weight() -> None:
    """cm is made from the rounded decay: without that a spike would lose (1 - E) error, 1.5e-5 * tau / dt."""
    for tau in (0.005, 0.02, 0.1, 1.0):
        cell, _ = lowered(LIF(tau_mem=tau, **HARD))
        assert cell.gain_error < 5e-5 * max(tau / 0.1, 1.0)


def test_subtract_resets_to_zero_and_says_so() -> None:
    cell, findings = lowered(LIF(tau_mem=0.02, v_threshold=0.03, v_reset=-1.0))
    assert [a.code for a in findings.approximations] == ["NC322"]
    assert cell.params["v_reset"] == 0.0


def test_alif_reaches_the_same_steady_shift() -> None:
    model = ALIF(tau_mem=0.02, v_threshold=0.5, adapt_beta=0.1, adapt_tau=0.2, reset=Reset.TO_VALUE)
    cell, findings = lowered(model)
    assert [a.code for a in findings.approximations] == ["NC324"]
    assert cell.cell == "IF_curr_delta_ca2_adaptive"
    p = {name: float(np.ravel(value)[0]) for name, value in cell.params.items()}
    # One spike raises our threshold by beta in the next step; the current decays once before it acts and shifts the membrane by R I.
    shift = p["i_alpha"] * np.exp(-1.0 / p["tau_ca2"]) * p["tau_m"] / p["cm"] / cell.voltage_scale
    assert shift == pytest.approx(0.1, rel=1e-3)


def test_lower_bound_is_an_approximation() -> None:
    _, findings = lowered(LIF(tau_mem=0.02, v_min=-1.0, **HARD))
    assert [a.code for a in findings.approximations] == ["NC323"]


def test_endless_time_constant_is_shortened() -> None:
    cell, findings = lowered(LeakyReadout(tau_mem=np.inf))
    assert [a.code for a in findings.approximations] == ["NC328"]
    assert cell.params["tau_m"] == 8192.0


def test_reset_above_threshold_is_refused() -> None:
    _, findings = lowered(LIF(tau_mem=0.02, v_threshold=0.1, v_reset=0.2, reset=Reset.TO_VALUE))
    assert [d.code for d in findings.errors] == ["NC321"]


def test_number_beyond_fixed_point_is_refused() -> None:
    _, findings = lowered(LIF(tau_mem=0.02, v_threshold=0.01, v_leak=0.0, v_reset=-1e4, reset=Reset.TO_VALUE))
    assert [d.code for d in findings.errors] == ["NC328"]
    assert "v_reset" in findings.errors[0].message


def test_mixed_synaptic_currents_are_refused() -> None:
    findings = Findings()
    model = LeakyReadout(tau_mem=0.02, tau_syn=np.asarray([0.0, 0.01]))
    lower_population(Population(name="p", size=2, model=model), DT, 0.1, findings)
    assert [d.code for d in findings.errors] == ["NC321"]


def test_per_neuron_parameters_stay_arrays() -> None:
    findings = Findings()
    cell = lower_population(Population(name="p", size=3, model=LIF(tau_mem=np.asarray([0.01, 0.02, 0.03]), **HARD)), DT, 0.1, findings)
    np.testing.assert_allclose(cell.params["tau_m"], [10.0, 20.0, 30.0])
    assert cell.params["v_rest"] == 0.0
