"""Networks in NEST's terms: parameters against NEST's own formulas, and everything that it cannot express."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.nest import TARGET, lowering
from neurocompile.backends.nest.lowered import NestNetwork, NestPopulation
from neurocompile.backends.nest.neurons import membrane_time
from neurocompile.ir import (
    ALIF,
    LIF,
    STDP,
    Adam,
    CubaLIF,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    Integration,
    LeakyReadout,
    Loss,
    Network,
    PerInterval,
    Projection,
    Regularization,
    Reset,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.errors import InputError, UnsupportedError
from neurocompile.ir.neurons import decay
from neurocompile.ir.realise import realise_all, realise_feedback
from tests.backends.nest.conftest import HIDDEN, RANDOM, RULE, edges, lowered, make_network

HARD: dict[str, Any] = {"tau_mem": 0.02, "v_threshold": 0.5, "reset": Reset.TO_VALUE, "v_reset": -0.1}
ADAPTS: dict[str, Any] = {"adapt_beta": 0.1, "adapt_tau": 0.2}


def hidden_of(network: NestNetwork) -> NestPopulation:
    return network.populations[1]


def refused(network: Network, *, allow: bool = False) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as caught:
        lowered(network, allow=allow)
    return caught.value


# --- models and parameters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (HIDDEN, "eprop_iaf"),
        (LIF(**HARD), "eprop_iaf_psc_delta"),
        (ALIF(tau_mem=0.02, v_threshold=0.5, **ADAPTS), "eprop_iaf_adapt"),
        (ALIF(**HARD, **ADAPTS), "eprop_iaf_psc_delta_adapt"),
    ],
)
def test_models(model: LIF, expected: str) -> None:
    network = lowered(make_network(model))
    assert [p.model for p in network.populations] == ["parrot_neuron", expected, "eprop_readout"]
    assert network.summary["nodes"]["hidden"] == {"model": expected, "size": 10}
    assert network.approximations == ()


def test_parameters_in_nests_units() -> None:
    model = ALIF(tau_mem=0.03, v_threshold=0.6, v_leak=0.1, v_min=-2.0, t_ref=0.003, adapt_beta=0.2, adapt_tau=0.5)
    rule = EProp(
        surrogate=Surrogate(kind=SurrogateKind.ARCTAN_DERIVATIVE, height=0.4, width=0.7),
        kappa=0.9,
        kappa_reg=0.8,
        regularization=Regularization(strength=2.0, rate=15.0),
        feedback=RANDOM,
        trace_cutoff_steps=40,
    )
    params = hidden_of(lowered(make_network(model, rule, dt=5e-4))).params
    expected: dict[str, Any] = {
        **{"C_m": 1.0, "E_L": 0.1, "I_e": 0.0, "V_m": 0.1, "V_th": 0.6, "V_min": -2.0, "t_ref": 3.0, "tau_m": 30.0},
        **{"adapt_beta": 0.2, "adapt_tau": 500.0, "kappa": 0.9, "kappa_reg": 0.8, "c_reg": 2.0, "f_target": 15.0},
        **{"surrogate_gradient_function": "arctan_derivative", "surrogate_gradient_height": 0.4, "surrogate_gradient_width": 0.7},
        **{"eprop_isi_trace_cutoff": 20.0, "flush_event_send_interval": 500.0},  # ms: 40 and 1000 steps of 0.5 ms
    }
    assert params == expected


@given(
    dt=st.floats(1e-6, 1.0),
    # below dt/600 the decay counts as 0; above 1e12 dt, 1 - alpha keeps no digits in NEST nor in the engine
    ratio=st.floats(1 / 500, 1e12),
    integration=st.sampled_from(Integration),
)
def test_nests_decay_is_the_descriptions(dt: float, ratio: float, integration: Integration) -> None:
    tau = np.array([ratio * dt])
    alpha = np.exp(-(dt * 1e3) / membrane_time(tau, dt, integration))
    # exp(-x) of an x that is rounded twice differs by 2 x eps relative, x <= 500; Euler: a zero becomes exp(-600)
    np.testing.assert_allclose(alpha, decay(tau, dt, integration, 1), rtol=1000 * 2.3e-16, atol=1e-250)


@pytest.mark.parametrize("integration", Integration)
def test_no_leak_is_exact(integration: Integration) -> None:
    assert np.exp(-1.0 / membrane_time(np.array([np.inf]), 1e-3, integration)) == 1.0


@pytest.mark.parametrize("reset", Reset)
@pytest.mark.parametrize("integration", Integration)
def test_bias_and_start_by_nests_recurrence(reset: Reset, integration: Integration) -> None:
    """v <- alpha v + tau_m (1 - alpha) i, relative to E_L, i one step late in eprop_iaf: leak + bias in step 0, then the engine's."""
    rng = np.random.default_rng(2)
    n, dt = 10, 1e-3
    tau = rng.uniform(0.002, 0.05, n)
    tau[:2] = np.inf, 1e25
    bias, leak = rng.uniform(-0.1, 0.1, n), rng.uniform(-60.0, 60.0, n)
    model = LIF(tau_mem=tau, bias=bias, v_leak=leak, v_threshold=100.0, v_reset=-99.0, reset=reset, integration=integration)
    population = hidden_of(lowered(make_network(model)))
    p = {key: np.broadcast_to(np.asarray(population.params[key]), (n,)) for key in ("tau_m", "I_e", "V_m", "E_L")}
    assert population.pushed is not None
    assert np.array_equal(population.pushed, np.where(np.arange(n) < 2, bias, 0.0))
    alpha, a = np.exp(-dt * 1e3 / p["tau_m"]), decay(tau, dt, integration, n)
    current = np.zeros(n) if reset is Reset.SUBTRACT else p["I_e"]
    v, expected = p["V_m"] - p["E_L"], np.array(leak)
    for step in range(20):
        arriving = population.pushed if step > 0 else 0.0
        v = alpha * v + p["tau_m"] * (1.0 - alpha) * current + arriving
        if step == 0 and reset is Reset.TO_VALUE:
            v[:2] = p["V_m"][:2] - leak[:2]  # nothing else than the start moves them in step 0
        current = p["I_e"]
        expected = a * expected + (1.0 - a) * leak + bias
        # tens of eps of the leak, whose absolute value both sides round in every step
        np.testing.assert_allclose(v + p["E_L"], expected, rtol=0, atol=60 * 2e-15 * (step + 1))


def test_one_number_where_all_neurons_agree() -> None:
    params = hidden_of(lowered(make_network(LIF(tau_mem=np.full(10, 0.02), v_threshold=np.linspace(0.4, 0.8, 10))))).params
    assert params["tau_m"] == 20.0
    assert np.array_equal(params["V_th"], np.linspace(0.4, 0.8, 10))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (LIF(tau_mem=0.02, v_threshold=0.6, bias=0.59), False),
        (LIF(tau_mem=0.02, v_threshold=0.6, bias=np.r_[np.zeros(9), 0.6]), True),
        (LIF(tau_mem=0.02, v_threshold=0.7, v_leak=0.1, bias=0.6), True),  # 0.1 + 0.6 < 0.7 in doubles, but NEST rounds otherwise
        (LIF(**HARD, v_leak=0.5), True),
    ],
)
def test_spikes_in_step_0_are_foreseen(model: LIF, expected: bool) -> None:
    assert lowered(make_network(model)).spikes_at_once is expected


def test_optimizers() -> None:
    rules = (
        EProp(feedback=RANDOM, optimizer=GradientDescent(learning_rate=0.1, each_step=True), weight_bounds=(-3.0, 4.0)),
        EProp(name="b", feedback=RANDOM, optimizer=Adam(learning_rate=0.2, beta_1=0.5, each_step=False), update=PerInterval(steps=7)),
    )
    network = lowered(make_network(HIDDEN, *rules, learning={"read": "b"}))
    first, second = (rule.optimizer for rule in network.rules)
    common = {"type": "gradient_descent", "batch_size": 1, "eta": 0.1, "optimize_each_step": True, "Wmin": -3.0, "Wmax": 4.0}
    assert first == common
    other = {"type": "adam", "batch_size": 7, "eta": 0.2, "optimize_each_step": False, "Wmin": -100.0, "Wmax": 100.0}
    assert second == {**other, "beta_1": 0.5, "beta_2": 0.999, "epsilon": 1e-7}
    assert network.rule_of == {"in->hidden": 0, "rec": 0, "read": 1}


def test_who_flushes() -> None:
    """NEST's flush moves weights of each_step rules before they are transmitted: their sources send none."""
    late = EProp(name="late", feedback=RANDOM, optimizer=GradientDescent(each_step=True))
    network = lowered(make_network(HIDDEN, RULE, late, learning={"read": "late"}))
    flushes = {p.name: p.params.get("flush_event_send_interval") for p in network.populations}
    assert flushes == {"in": 1000.0, "hidden": None, "out": None}


def test_feedback_matrices() -> None:
    network = make_network()
    (item,) = lowered(network).feedback
    matrix = realise_feedback(network, RULE, "hidden")
    assert matrix is not None
    assert (item.pre_population, item.post_population, item.weight.size) == (2, 1, 20)
    assert np.array_equal(matrix[item.pre, item.post], item.weight)


def test_symmetric_feedback_is_exact_where_the_readout_stays() -> None:
    network = lowered(make_network(HIDDEN, replace(RULE, feedback=SymmetricFeedback()), learning={"read": None}))
    (item,) = network.feedback
    synapses = network.connections["read"]
    matrix = np.zeros((10, 2))
    for pre, post, weight in zip(synapses.pre, synapses.post, synapses.weight, strict=True):
        matrix[pre, post] += weight
    assert np.array_equal(matrix[item.post, item.pre], item.weight)
    assert network.approximations == ()


# --- what NEST cannot express ----------------------------------------------------------------------------------------------


def cross_entropy() -> Network:
    return make_network(task=Task(readout="out", loss=Loss.CROSS_ENTROPY))


def symmetric() -> Network:
    return make_network(HIDDEN, replace(RULE, feedback=SymmetricFeedback()))


def slow_clock() -> Network:
    return make_network(LIF(tau_mem=0.02, v_threshold=0.6, bias=0.7), replace(RULE, optimizer=Adam()))


def intervals_too() -> Network:
    return make_network(LIF(tau_mem=0.02, v_threshold=0.6, bias=0.7), replace(RULE, update=PerInterval(steps=5)))


@pytest.mark.parametrize(
    ("build", "code", "says", "instead"),
    [
        (lambda: make_network(ALIF(**HARD, **ADAPTS, t_ref=0.002)), "NC330", "'hidden': an alif that resets", "without refractory"),
        (cross_entropy, "NC333", "task of readout 'out': loss cross_entropy", "mean_squared_error"),
        (symmetric, "NC333", "rule 'eprop', population 'hidden': symmetric feedback", "initial readout weights"),
        (slow_clock, "NC333", "rule 'eprop': adam or update intervals", "one step ahead"),
        (intervals_too, "NC333", "rule 'eprop': adam or update intervals", "one step ahead"),
    ],
)
def test_approximations(build: Callable[[], Network], code: str, says: str, instead: str) -> None:
    error = refused(build())
    (finding,) = error.diagnostics
    assert finding.code == code
    assert says in finding.message
    assert instead in (finding.help or "")
    assert "--allow-approximation" in (finding.help or "")
    (accepted,) = lowered(build(), allow=True).approximations
    assert (accepted.code, instead in accepted.instead, bool(accepted.effect)) == (code, True, True)


def test_an_accepted_alif_has_no_refractory_time() -> None:
    network = make_network(ALIF(**HARD, **ADAPTS, t_ref=0.002))
    assert hidden_of(lowered(network, allow=True)).params["t_ref"] == 0.0
    steady = make_network(ALIF(**HARD, adapt_beta=0.0, adapt_tau=0.2, t_ref=0.002))  # nothing to lose: exact as it stands
    assert hidden_of(lowered(steady)).params["t_ref"] == 2.0


def cuba() -> Network:
    return make_network(CubaLIF(tau_mem=0.02, v_threshold=0.5, tau_syn=0.005, i_init=0.3), learning={"in": None, "rec": None})


def slow_readout() -> Network:
    return make_network(readout=LeakyReadout(tau_mem=0.02, tau_syn=0.005, i_init=1.0), learning={"read": None})


def stdp() -> Network:
    return make_network(rules=(RULE, STDP()), learning={"in": "stdp"})


def two_rules(**difference: Any) -> Network:
    return make_network(HIDDEN, RULE, replace(RULE, name="b", **difference), learning={"rec": "b"})


def repeated(times: int, *, sign: bool = False) -> Network:
    pre = np.zeros(2 * times, np.int32)
    weight = np.r_[np.full(times, 0.01), np.full(times, -0.01)]
    same = Projection(name="same", pre="in", post="hidden", connect=Explicit(pre=pre, post=pre, weight=weight), learning="eprop")
    return make_network(HIDDEN, replace(RULE, sign_constraint=sign), learning={"in": None}, more=(same,))


def delayed() -> Network:
    """A readout whose plastic synapses take three steps."""
    network = make_network()
    read = network.projection("read")
    slow = replace(read, connect=replace(read.connect, delay=np.full(len(read.connect.pre), 3)))  # type: ignore[arg-type, union-attr]
    return replace(network, projections=(*(p for p in network.projections if p.name != "read"), slow))


@pytest.mark.parametrize(
    ("build", "code", "says"),
    [
        (cuba, "NC331", "population 'hidden': cuba_lif with a synaptic current"),
        (slow_readout, "NC331", "population 'out': leaky_readout with a synaptic current"),
        (lambda: make_network(LIF(**{**HARD, "v_reset": 0.5})), "NC332", "v_reset of neuron 0 is 0.5, its v_threshold 0.5"),
        (lambda: make_network(LIF(**HARD, v_min=-0.05)), "NC332", "v_min of neuron 0 is -0.05, its v_reset -0.1"),
        (
            lambda: make_network(LIF(tau_mem=0.02, v_threshold=0.5, v_min=np.r_[np.zeros(6), 0.7, np.zeros(3)])),
            "NC332",
            "v_min of neuron 6 is 0.7, its v_threshold 0.5",
        ),
        (stdp, "NC334", "projection 'in->hidden' learns by STDP"),
        (lambda: two_rules(kappa=0.5), "NC335", "'eprop' and 'b', which differ in kappa;"),
        (lambda: two_rules(trace_cutoff_steps=9), "NC335", "differ in trace_cutoff_steps"),
        (two_rules, "NC335", "differ in feedback"),  # random weights are drawn for each rule
        (lambda: make_network(HIDDEN, replace(RULE, weight_bounds=(-0.5, 0.5))), "NC336", "outside the rule's weight_bounds [-0.5, 0.5]"),
        (lambda: make_network(dt=1e-3 / 3), "NC337", "dt is 0.333333 ms"),
        (lambda: make_network(dt=4e-7), "NC337", "dt is 0.0004 ms"),
        (delayed, "NC342", "projection 'read' learns by e-prop and its synapse 0 has a delay of 3 steps"),
        (lambda: repeated(201), "NC338", "402 plastic synapses lead from one neuron to another"),
    ],
)
def test_refusals(build: Callable[[], Network], code: str, says: str) -> None:
    for allow in (False, True):
        error = refused(build(), allow=allow)
        found = [d for d in error.diagnostics if d.code == code]
        assert any(says in d.message for d in found), [d.message for d in error.diagnostics]
        assert all(d.help for d in found)


def test_unknown_option() -> None:
    network = make_network()
    with pytest.raises(InputError, match=r"NC339.*no option 'threads'"):
        TARGET.lower(network, realise_all(network), None, BuildOptions(extra={"threads": "4"}))


def test_all_findings_in_one_error() -> None:
    readout = LeakyReadout(tau_mem=0.02, tau_syn=0.005)
    task = Task(readout="out", loss=Loss.CROSS_ENTROPY)
    network = make_network(LIF(**{**HARD, "v_reset": 0.5}), readout=readout, learning={"read": None}, dt=1e-3 / 3, task=task)
    assert {d.code for d in refused(network).diagnostics} == {"NC331", "NC332", "NC333", "NC337"}
    assert {d.code for d in refused(network, allow=True).diagnostics} >= {"NC331", "NC332", "NC337"}


def agreeing() -> Network:
    """Two rules into one population with the same feedback file and optimizers of their own."""
    rule = replace(RULE, feedback=ExplicitFeedback(connections=edges(np.random.default_rng(1), 2, 10, 1.0)))
    return make_network(HIDDEN, rule, replace(rule, name="b", optimizer=Adam()), learning={"rec": "b"})


def test_rules_may_share_a_population_where_they_agree() -> None:
    assert lowered(agreeing()).rule_of == {"in->hidden": 0, "rec": 1, "read": 0}


def test_current_without_time_constant_is_none() -> None:
    """A readout without tau_syn forgets i_init before step 0 (its decay is 0), so that nothing is lost."""
    network = lowered(make_network(readout=LeakyReadout(tau_mem=0.02, i_init=1.0)))
    assert network.populations[2].params["V_m"] == 0.0


@pytest.mark.parametrize(("sign", "fits"), [(False, 200), (True, 200)])
def test_room_for_repeated_synapses(sign: bool, fits: int) -> None:
    """Each side of a sign constraint has its copies; without, both halves share them: 2 x 200 either way. The other pairs need no more."""
    assert lowered(repeated(fits, sign=sign)).summary["n_plastic_synapses"] > 2 * fits
    assert refused(repeated(fits + 1, sign=sign)).diagnostics[0].code == "NC338"


def test_room_is_shared_by_all_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "MAX_MODELS", 1)
    (finding,) = refused(agreeing()).diagnostics
    assert "needs 2 copies, NEST has room for 1" in finding.message


def test_capabilities_name_every_model() -> None:
    rows = TARGET.capabilities()
    assert {"spike_source", "lif", "alif", "cuba_lif", "leaky_readout"} <= set(rows)
    assert all(isinstance(value, str) and value for value in rows.values())


def test_foreign_lowering_is_refused() -> None:
    other: Any = object()
    with pytest.raises(TypeError, match="NestNetwork"):
        TARGET.emit(other, None, BuildOptions())
