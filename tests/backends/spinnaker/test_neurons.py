"""The sPyNNaker form of each neuron model computes what the reference engine does: a core's arithmetic, in integers, beside the engine."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.backends.spinnaker.neurons import (
    ACCUM_STEP,
    LONGEST_TAU_STEPS,
    Cell,
    Findings,
    decay_of,
    decaying_tau,
    divide,
    lower_population,
    nearest_tau,
)
from neurocompile.ir import ALIF, LIF, CubaLIF, Explicit, Integration, LeakyReadout, Network, Population, Projection, SpikeSource
from neurocompile.ir.neurons import NeuronModel, Reset
from neurocompile.ir.signals import Spikes
from tests.backends.spinnaker.core_model import ONE, Core

DT = 1e-3


def lowered(model: Any, dt: float = DT, largest: float = 0.1, size: int = 1) -> tuple[Cell, Findings]:
    findings = Findings()
    return lower_population(Population(name="p", size=size, model=model), dt, largest, findings), findings


def run_core(cell: Cell, weights: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    core = Core(cell, dt)
    trace, spikes = [], []
    for weight in weights * float(np.ravel(cell.weight_scale)[0]):
        spikes.append(core.update((round(max(weight, 0.0) * ONE), round(max(-weight, 0.0) * ONE))))
        trace.append(core.v / ONE / cell.voltage_scale)
    return np.asarray(trace), np.asarray(spikes)


def run_engine(model: Any, weights: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """The reference engine on one neuron: source k spikes once, so that weights[k] arrives in step k (weights[0] must be 0)."""
    n = len(weights)
    assert weights[0] == 0.0
    ids = np.arange(n)
    network = Network(
        name="one",
        dt=dt,
        populations=(Population(name="s", size=n, model=SpikeSource()), Population(name="p", size=1, model=model)),
        projections=(Projection(pre="s", post="p", connect=Explicit(pre=ids, post=0 * ids, weight=weights, delay=0 * ids + 1)),),
    )
    fires = isinstance(model, LIF)
    record = RecordOptions(membrane={"p": None}) if fires else None
    run = Simulator(network).run(n, spikes={"s": Spikes(neuron=ids[1:], step=ids[1:] - 1)}, record=record)
    spikes = np.zeros(n, np.bool_)
    if fires:
        spikes[run.spikes["p"].step] = True
    return (run.membrane if fires else run.outputs)["p"][:, 0], spikes


HARD = {"v_threshold": 0.5, "v_reset": -0.05, "reset": Reset.TO_VALUE}
MODELS = {
    "lif": LIF(tau_mem=0.02, v_leak=0.02, bias=0.003, t_ref=0.003, **HARD),
    "no refractory time": LIF(tau_mem=0.015, **HARD),
    "slow": LIF(tau_mem=0.3, **HARD),
    "euler": LIF(tau_mem=0.02, integration=Integration.EULER, **HARD),
    "cuba": CubaLIF(tau_mem=0.02, tau_syn=0.005, i_init=0.04, t_ref=0.002, **HARD),
    "cuba euler": CubaLIF(tau_mem=0.02, tau_syn=0.007, i_init=-0.04, integration=Integration.EULER, **HARD),
    "readout": LeakyReadout(tau_mem=0.03, v_leak=0.1, bias=-0.001),
    "current readout": LeakyReadout(tau_mem=0.03, tau_syn=0.01, i_init=-0.02),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dt", [1e-3, 5e-4, 1e-4])
def test_same_membrane_and_spikes(name: str, dt: float) -> None:
    model: Any = MODELS[name]
    weights = np.concatenate(([0.0], np.random.default_rng(3).normal(0.02, 0.1, 200)))
    cell, findings = lowered(model, dt)
    assert not findings.approximations
    assert not findings.errors
    v, spikes = run_engine(model, weights, dt)
    got_v, got_spikes = run_core(cell, weights, dt)
    np.testing.assert_array_equal(got_spikes, spikes)
    assert spikes.any() == isinstance(model, LIF)
    # Errors of a step add up over the membrane's memory, tau / dt steps (at most the 201 of the run): the rounded decay times the membrane,
    # four roundings of 2^-15 (two products of the membrane, input, bias), times 5 for the memory of a synaptic current; and the gain.
    memory = min(float(np.max(model.tau_mem)) / dt, len(weights)) * (5.0 if getattr(model, "tau_syn", 0.0) else 1.0)
    span = float(np.abs(v).max()) + 0.5
    bound = memory * (cell.decay_error * span + 4 * ACCUM_STEP / cell.voltage_scale) + 2 * cell.gain_error * span
    assert bound < 0.06 * span
    np.testing.assert_allclose(got_v, v, atol=bound)


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("t_ref", [0.0, 1.0, 2.0, 3.4, 5.0])
@pytest.mark.parametrize("dt", [1e-3, 1e-4])
def test_refractory_time_is_the_engines(reset: Reset, t_ref: float, dt: float) -> None:
    """Driven far above the threshold in every step, both fire as often as they can."""
    model = LIF(tau_mem=20 * dt, v_threshold=0.5, bias=2.0, t_ref=t_ref * dt, reset=reset)
    quiet = np.zeros(40)
    cell, _ = lowered(model, dt)
    _, spikes = run_engine(model, quiet, dt)
    _, got = run_core(cell, quiet, dt)
    assert spikes.sum() >= 6
    np.testing.assert_array_equal(got, spikes)


accum = st.integers(1, 2**31 - 1)


@given(accum, accum)
def test_division_rounds_down(a: int, b: int) -> None:
    exact = Fraction(a, b) * ONE
    assert float(divide(a * ACCUM_STEP, b * ACCUM_STEP)) == math.floor(exact) * ACCUM_STEP


@settings(max_examples=300)
@given(st.floats(0.2, LONGEST_TAU_STEPS), st.sampled_from([0.1, 0.25, 1.0, 2.0]))
@example(100.0, 1.0)  # 327.68 units: 327 without the correction
def test_quotient_of_a_time_constant_is_the_nearest(steps: float, dt_ms: float) -> None:
    tau = nearest_tau(np.asarray([steps * dt_ms]), dt_ms)
    assert tau[0] == round(tau[0] * ONE) / ONE
    quotient = float(divide(dt_ms, tau)[0])
    # Half a unit of the quotient; tau itself has 2^-15 ms, which for short ones is more than a unit of the quotient.
    assert abs(quotient - 1.0 / steps) <= 0.5001 * ACCUM_STEP + ACCUM_STEP / (steps**2 * dt_ms)


@settings(max_examples=300)
@given(st.floats(1.0, LONGEST_TAU_STEPS), st.sampled_from([0.1, 0.25, 1.0, 2.0]))
@example(3000.0, 0.1)  # 11 units below 1: one of them is 9 % of the leak
def test_decay_of_a_time_constant_is_the_nearest(steps: float, dt_ms: float) -> None:
    tau = decaying_tau(np.asarray([steps * dt_ms]), dt_ms)
    # Half a unit; tau itself has 2^-15 ms, which for short ones is more than a unit of the quotient.
    assert abs(float(decay_of(dt_ms, tau)[0]) - math.exp(-1.0 / steps)) <= 0.52 * ACCUM_STEP + ACCUM_STEP / (steps**2 * dt_ms)


@pytest.mark.parametrize("tau", [0.0021, 0.005, 0.02, 0.1, 0.5, 1.0, 8.0])
@pytest.mark.parametrize("dt", [1e-3, 1e-4])
def test_a_spike_adds_its_weight_at_any_time_constant(tau: float, dt: float) -> None:
    """One spike of 0.4 on a resting core. Without a cm that is made from the core's own decay it would miss up to 2^-15 tau / dt of it."""
    cell, findings = lowered(LIF(tau_mem=tau, **HARD), dt, largest=0.4)
    if findings.approximations:
        assert tau > LONGEST_TAU_STEPS * dt
    trace, _ = run_core(cell, np.asarray([0.4]), dt)
    # gain_error, and half a unit in each of the two products: R I is amplified by nothing, but 1 - E divides the second's error by nothing.
    assert trace[0] == pytest.approx(0.4, abs=0.4 * cell.gain_error + 2 * ACCUM_STEP / cell.voltage_scale)
    # R is a multiple of 2^-15 near tau / dt >= 2, cm near dt: half a unit of cm (dt 0.1 ms: 3277 units) is 1.6e-4.
    assert cell.gain_error < 2e-4


@pytest.mark.parametrize("v_leak", [0.0, -0.02])
def test_subtract_resets_to_rest_and_says_so(v_leak: float) -> None:
    """v - (v_threshold - v_leak) is v_leak where v just reaches the threshold."""
    cell, findings = lowered(LIF(tau_mem=0.02, v_threshold=0.03, v_leak=v_leak, v_reset=-1.0))
    assert [a.code for a in findings.approximations] == ["NC322"]
    assert f"v_leak ({v_leak:g})" in findings.approximations[0].instead
    assert cell.params["v_reset"] == v_leak * cell.voltage_scale
    assert "refractory" not in findings.approximations[0].effect
    _, findings = lowered(LIF(tau_mem=0.02, v_threshold=0.03, t_ref=0.005))
    assert "input during the refractory time is lost" in findings.approximations[0].effect


def test_alif_reaches_the_same_steady_shift() -> None:
    model = ALIF(tau_mem=0.02, v_threshold=0.5, adapt_beta=0.1, adapt_tau=0.2, reset=Reset.TO_VALUE)
    cell, findings = lowered(model)
    assert [a.code for a in findings.approximations] == ["NC324"]
    assert cell.cell == "IF_curr_delta_ca2_adaptive"
    core = Core(cell, DT)
    core.ca = core.p["i_alpha"] * 2**10  # 1024 spikes at once: their decay alone is looked at
    seen = []
    for _ in range(3):
        core.update((0, 0))
        seen.append(core.ca * core.r / ONE / ONE / cell.voltage_scale / 2**10)
    # The threshold rises by beta in the step after the spike and decays with adapt_tau; R I is how far the current pulls the membrane down.
    # i_alpha is 0.08 in s16.15, 2600 units: half a unit is 2e-4 of it; the decay of a step may miss 2^-16, and twice of that in two steps.
    assert seen == pytest.approx([0.1 * np.exp(-k * DT / 0.2) for k in range(3)], rel=5e-4)


def test_lower_bound_is_an_approximation() -> None:
    _, findings = lowered(LIF(tau_mem=0.02, v_min=-1.0, **HARD))
    assert [a.code for a in findings.approximations] == ["NC323"]


def test_endless_time_constant_is_shortened() -> None:
    cell, findings = lowered(LeakyReadout(tau_mem=np.inf))
    assert [a.code for a in findings.approximations] == ["NC328"]
    assert ONE - Core(cell, DT).e == 4 == ONE / LONGEST_TAU_STEPS  # the leak is still there, and as said


def test_reset_above_threshold_is_refused() -> None:
    _, findings = lowered(LIF(tau_mem=0.02, v_threshold=0.1, v_reset=0.2, reset=Reset.TO_VALUE))
    assert [d.code for d in findings.errors] == ["NC321"]


def test_number_beyond_fixed_point_is_refused() -> None:
    _, findings = lowered(LIF(tau_mem=0.02, v_threshold=0.01, v_leak=0.0, v_reset=-1e4, reset=Reset.TO_VALUE))
    assert [d.code for d in findings.errors] == ["NC328"]
    assert "v_reset" in findings.errors[0].message


def test_mixed_synaptic_currents_are_refused() -> None:
    _, findings = lowered(LeakyReadout(tau_mem=0.02, tau_syn=np.asarray([0.0, 0.01])), size=2)
    assert [d.code for d in findings.errors] == ["NC321"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (CubaLIF(tau_mem=0.02, tau_syn=9.0, **HARD), "tau_syn"),
        (ALIF(tau_mem=0.02, adapt_beta=0.1, adapt_tau=9.0, **HARD), "adapt_tau"),
        (LIF(tau_mem=1e-9, **HARD), "tau_m"),
        (LIF(tau_mem=0.02, v_threshold=1e-3, bias=-50.0, reset=Reset.TO_VALUE, v_reset=-1.0), "i_offset"),
        (LIF(tau_mem=0.02, t_ref=70.0, **HARD), "tau_refrac"),
    ],
)
def test_numbers_that_a_core_cannot_hold_are_refused(model: Any, name: str) -> None:
    _, findings = lowered(model)
    assert {d.code for d in findings.errors} == {"NC328"}
    assert any(name in d.message and d.help for d in findings.errors)


def test_unknown_model_is_refused() -> None:
    class Resonator(NeuronModel):
        kind = "resonator"

    _, findings = lowered(Resonator())
    assert [d.code for d in findings.errors] == ["NC321"]
    assert "resonator" in findings.errors[0].message


def test_per_neuron_parameters_stay_arrays() -> None:
    cell, _ = lowered(LIF(tau_mem=np.asarray([0.01, 0.02, 0.03]), **HARD), size=3)
    # each moved by at most one and a half units of 1 / tau: half of the quotient's, one of the exponential's, which is rounded down
    np.testing.assert_allclose(cell.params["tau_m"], [10.0, 20.0, 30.0], rtol=1.5 * 30.0 * ACCUM_STEP)
    assert cell.params["v_rest"] == 0.0


@given(st.floats(1e-6, 1e3), st.floats(0.0, 1.0))
def test_voltage_scale_brings_the_threshold_near_ten(threshold: float, largest: float) -> None:
    """A power of two; the threshold lies in (8, 16] unless a weight in R I would leave the range."""
    cell, findings = lowered(LIF(tau_mem=0.02, v_threshold=threshold, reset=Reset.TO_VALUE), largest=largest * threshold)
    assert not findings.errors
    assert math.log2(cell.voltage_scale).is_integer()
    assert 8.0 < float(np.max(cell.params["v_thresh"])) <= 16.0 or abs(math.log2(cell.voltage_scale)) in (14, 20)
