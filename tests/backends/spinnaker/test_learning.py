"""Learning rules in sPyNNaker's terms: what its pairing and its reward rule make of the emitted numbers, beside the reference engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.reference import Simulator
from neurocompile.backends.spinnaker import TARGET
from neurocompile.backends.spinnaker.learning import EPROP_LONGEST_STEPS, Modulation, PlasticRule, table_bytes
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.ir import LIF, RSTDP, STDP, EProp, Explicit, Network, Population, Projection, SpikeSource
from neurocompile.ir.neurons import Reset
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Spikes
from neurocompile.machine import Machine

DT_MS = 1.0
POST = 60
"""Step in which the post neuron fires, forced by a strong source."""


def one_neuron(rule: STDP, lags: np.ndarray, delay: int) -> tuple[Network, dict[str, Spikes]]:
    """Source i sends one spike so that it arrives ``lags[i]`` steps before the post neuron's only spike (after it where negative)."""
    n = len(lags)
    plastic = Explicit(pre=np.arange(n), post=np.zeros(n, int), weight=np.full(n, 0.1), delay=np.full(n, delay))
    kick = Explicit(pre=np.array([0]), post=np.array([0]), weight=np.array([1e3]), delay=np.array([1]))
    network = Network(
        name="pairs",
        dt=DT_MS * 1e-3,
        populations=(
            Population(name="in", size=n, model=SpikeSource()),
            Population(name="kick", size=1, model=SpikeSource()),
            Population(name="post", size=1, model=LIF(tau_mem=1e-3, v_threshold=100.0, reset=Reset.TO_VALUE)),
            Population(name="reward", size=1, model=SpikeSource()),
        ),
        projections=(
            Projection(pre="in", post="post", connect=plastic, learning=rule.name),
            Projection(pre="kick", post="post", connect=kick),
        ),
        rules=(rule,),
    )
    sent = POST - lags - delay
    return network, {
        "in": Spikes(neuron=np.arange(n), step=sent),
        "kick": Spikes(neuron=np.array([0]), step=np.array([POST - 1])),
    }


def lower(network: Network, machine: Machine) -> SpinnakerNetwork:
    return TARGET.lower(network, realise_all(network), machine, BuildOptions(allow_approximation=True, extra={"eprop": "r_stdp"}))


def engine_change(network: Network, spikes: dict[str, Spikes], steps: int) -> np.ndarray:
    simulator = Simulator(network)
    before = simulator.weights()["in->post"]
    run = simulator.run(steps, spikes=spikes)
    assert run.spikes["post"].step.tolist() == [POST]
    simulator.flush()
    return simulator.weights()["in->post"] - before


def spynnaker_pairs(rule: PlasticRule, lags: np.ndarray, delay: int) -> np.ndarray:
    """Change of a weight (PyNN) by one pair with backprop_delay off: the pre spike counts when it is sent, and meets a post spike of its
    own tick as one before it (seen in the machine code, test_machine_code.py)."""
    lag = (lags + delay) * DT_MS
    grow, shrink = rule.a_plus * np.exp(-np.abs(lag) / rule.tau_plus), rule.a_minus * np.exp(-np.abs(lag) / rule.tau_minus)
    change: np.ndarray = np.where(lag > 0, grow, -shrink)
    return change


@settings(max_examples=20, deadline=None)
@given(
    delay=st.integers(1, 20),
    tau_plus=st.floats(0.004, 0.05),
    tau_minus=st.floats(0.004, 0.05),
    a_plus=st.floats(0.005, 0.05),
    a_minus=st.floats(0.005, 0.05),
)
def test_pairs_outside_the_delay_change_a_weight_as_the_engine_does(
    spin5: Machine, delay: int, tau_plus: float, tau_minus: float, a_plus: float, a_minus: float
) -> None:
    rule = STDP(tau_plus=tau_plus, tau_minus=tau_minus, a_plus=a_plus, a_minus=a_minus)
    lags = np.arange(-30, 31)
    network, spikes = one_neuron(rule, lags, delay)
    lowered = lower(network, spin5)
    scale = lowered.cells[2].weight_scale
    got = spynnaker_pairs(lowered.learning.rules[0], lags, delay) / scale
    expected = engine_change(network, spikes, 120)
    outside = (lags > 0) | (lags <= -delay)
    np.testing.assert_allclose(got[outside], expected[outside], rtol=1e-9)
    # What NC340 says of the others: they count as later than they are.
    arrival, between = lags == 0, (lags < 0) & (lags > -delay)
    assert (expected[arrival] == 0).all()
    assert (got[arrival] > 0).all()
    assert (expected[between] < 0).all()
    assert (got[between] > 0).all()


def test_pairing_is_reported_with_the_mean_delay(spin5: Machine) -> None:
    network, _ = one_neuron(STDP(), np.arange(5), 3)
    (note,) = (a for a in lower(network, spin5).approximations if a.code == "NC340")
    assert "delay of 3 steps" in note.instead


@pytest.mark.parametrize("reward_weight", [0.01, 1.0, 5.0, -20.0, 125.0])
def test_reward_changes_a_weight_as_the_engine_does(spin5: Machine, reward_weight: float) -> None:
    """One causal pair, one reward: both integrate c d to its end, in closed form; the reward's 16-bit rounding is taken out by a_plus."""
    rule = RSTDP(reward="reward", reward_weight=reward_weight, a_plus=0.002, tau_c=0.05, tau_d=0.01, weight_bounds=(0.0, 1.0))
    lags = np.array([1, 5, 12])
    network, spikes = one_neuron(rule, lags, 1)
    step = POST + 7
    expected = engine_change(network, spikes | {"reward": Spikes(neuron=np.array([0]), step=np.array([step]))}, 500)
    lowered = lower(network, spin5)
    (m,), (pair,) = lowered.learning.modulations, lowered.learning.rules
    c = spynnaker_pairs(pair, lags, 1) * np.exp(-(step + 1 - POST) * DT_MS / m.tau_c)  # the engine's reward acts a step later
    sign = {"reward": 1.0, "punishment": -1.0}[m.receptor]
    got = sign * c * m.weight / (1.0 / m.tau_c + 1.0 / m.tau_d) / lowered.cells[2].weight_scale
    assert (m.weight * 2048) == round(m.weight * 2048)
    assert 0.0 < m.weight <= 1.0
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_bounds_of_reward_modulated_weights_and_eligibility(spin5: Machine) -> None:
    """sPyNNaker's dependence bounds the eligibility (which starts at 0), Neuromodulation bounds the weight."""
    network, _ = one_neuron(RSTDP(reward="reward", weight_bounds=(0.05, 0.2)), np.array([1]), 1)
    lowered = lower(network, spin5)
    (m,), (pair,) = lowered.learning.modulations, lowered.learning.rules
    scale = lowered.cells[2].weight_scale
    assert (m.w_min, m.w_max) == pytest.approx((0.05 * scale, 0.2 * scale))
    assert (pair.w_min, pair.w_max) == pytest.approx((0.0, 0.2 * scale))


@pytest.mark.parametrize(("rule", "warned"), [(RSTDP(reward="reward"), True), (RSTDP(reward="reward", a_minus=0.0), False)])
def test_unsigned_eligibility_is_reported(spin5: Machine, rule: RSTDP, warned: bool) -> None:
    network, _ = one_neuron(rule, np.array([1]), 1)
    assert ("NC341" in {a.code for a in lower(network, spin5).approximations}) == warned


@pytest.mark.parametrize("rule", [STDP(), RSTDP(reward="reward"), EProp()])
def test_population_with_negative_weights_alone_learns_nothing(spin5: Machine, rule: Any) -> None:
    """No STDP projection would be left, and sPyNNaker refuses a reward without one."""
    network, _ = one_neuron(rule if not isinstance(rule, EProp) else STDP(), np.arange(3), 1)
    connections = realise_all(network)
    object.__setattr__(connections["in->post"], "weight", np.full(3, -0.1))
    if isinstance(rule, EProp):
        object.__setattr__(network, "rules", (rule,))
        object.__setattr__(network.projections[0], "learning", rule.name)
    lowered = TARGET.lower(network, connections, spin5, BuildOptions(allow_approximation=True, extra={"eprop": "r_stdp"}))
    assert not lowered.learning.rules
    assert not lowered.learning.plastic
    assert not lowered.learning.modulations
    assert {a.code for a in lowered.approximations} == ({"NC325"} if isinstance(rule, EProp) else {"NC326"})


def test_tables_are_as_long_as_spynnakers() -> None:
    """Beside get_exp_lut_array itself, loaded alone: its package takes seconds to import."""
    package = importlib.util.find_spec("spynnaker")
    assert package is not None
    assert package.origin is not None
    spec = importlib.util.spec_from_file_location(
        "stdp_common", Path(package.origin).parent / "pyNN/models/neuron/plasticity/stdp/common.py"
    )
    assert spec is not None
    assert spec.loader is not None
    stdp = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stdp)
    rng = np.random.default_rng(1)
    for tau_plus, tau_minus, tau_c, tau_d in rng.uniform(1.0, 1000.0, (50, 4)):
        rule = PlasticRule(
            post="p", tau_plus=tau_plus, tau_minus=tau_minus, a_plus=1.0, a_minus=1.0, w_min=0.0, w_max=1.0, multiplicative=False
        )
        reward = Modulation(pre="r", post="p", receptor="reward", weight=1.0, tau_c=tau_c, tau_d=tau_d, w_min=0.0, w_max=1.0)
        plain = sum(4 * len(stdp.get_exp_lut_array(0.5, tau)) for tau in (tau_plus, tau_minus))
        assert table_bytes(rule, None, 0.5) == plain
        gated = sum(4 * len(stdp.get_exp_lut_array(0.5, tau, shift)) for tau, shift in ((tau_c, 4), (tau_d, 2)))
        assert table_bytes(rule, reward, 0.5) == plain + gated


def test_tables_leave_fewer_neurons_a_core(spin5: Machine) -> None:
    """Neurons times their own bytes, and the tables once, never exceed what a core has free."""
    limits = []
    for tau in (0.005, 0.1, 0.4):
        network, _ = one_neuron(STDP(tau_plus=tau, tau_minus=tau), np.arange(3), 1)
        lowered = lower(network, spin5)
        assert lowered.problem is not None
        memory = next(r for r in lowered.problem.resources if r.name.startswith("local memory"))
        n = int(memory.limit / memory.per_neuron[4])
        assert n * (64 + 94) + table_bytes(lowered.learning.rules[0], None, DT_MS) <= memory.limit
        limits.append(n)
    assert limits == sorted(limits, reverse=True)
    assert len(set(limits)) == 3


def test_stand_in_for_eprop_has_tables_that_fit(spin5: Machine) -> None:
    network, _ = one_neuron(STDP(name="eprop"), np.arange(3), 1)
    object.__setattr__(network, "rules", (EProp(),))
    object.__setattr__(network.population("post").model, "tau_mem", 30.0)
    (rule,) = lower(network, spin5).learning.rules
    assert rule.tau_plus == EPROP_LONGEST_STEPS * DT_MS
    assert rule.a_plus == pytest.approx(0.01 * rule.w_max)
