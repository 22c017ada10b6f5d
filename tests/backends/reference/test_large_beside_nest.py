"""A thousand neurons over a thousand steps in NEST 3.10 and in the engine: the same spikes, and every plastic weight equal.

Two simulators never have the same last bits, and one spike more or less would end the comparison. Ties are not avoided by weights on a
grid, which learning leaves at once, but by measuring: the smallest distance of any membrane to its threshold over the run (the margin,
recovered from the recorded surrogate) has to exceed the largest difference between the two simulators' membranes by orders of magnitude.
Then no decision can differ.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.ir import (
    ALIF,
    LIF,
    AllToAll,
    EProp,
    FixedInDegree,
    GradientDescent,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    Task,
)
from neurocompile.ir.realise import Connections, realise_all, realise_feedback
from neurocompile.ir.signals import Signal, Spikes

N_IN, N, N_OUT, STEPS = 200, 1000, 3, 1000
MODELS = ("eprop_iaf", "eprop_iaf_psc_delta", "eprop_iaf_adapt")
HEIGHT, WIDTH, RATE = 0.5, 0.4, 1e-4
Array = npt.NDArray[np.float64]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # raised inside NEST's own package


@dataclass
class Outcome:
    """Weights by projection in canonical order, hidden spikes (steps, n) and membranes after the step (steps, n)."""

    weights: dict[str, Array]
    spikes: npt.NDArray[np.bool_]
    v: Array


@dataclass
class Case:
    """What both simulators are given. ``tau``: membranes' time constants (ms); ``feedback`` (n_out, n)."""

    model: str
    network: Network
    connections: dict[str, Connections]
    tau: Array
    raster: npt.NDArray[np.bool_]
    target: Array
    feedback: Array


def make_network(model: str, tau: Array) -> Network:
    reset = Reset.TO_VALUE if "psc_delta" in model else Reset.SUBTRACT
    common: dict[str, Any] = {"tau_mem": tau / 1e3, "v_threshold": 0.5, "v_reset": -0.1, "t_ref": 0.002, "reset": reset}
    hidden = ALIF(**common, adapt_beta=0.0174, adapt_tau=2.0) if "adapt" in model else LIF(**common)
    rule = EProp(
        surrogate=Surrogate(kind=SurrogateKind.EXPONENTIAL, height=HEIGHT, width=WIDTH),
        kappa=0.95,
        kappa_reg=0.97,
        regularization=Regularization(strength=0.5, rate=10.0),
        feedback=RandomFeedback(weight=Normal(mean=0.0, std=0.3)),
        optimizer=GradientDescent(learning_rate=RATE),
    )
    return Network(
        name="large",
        dt=1e-3,
        seed=5,
        populations=(
            Population(name="in", size=N_IN, model=SpikeSource()),
            Population(name="hidden", size=N, model=hidden),
            Population(name="out", size=N_OUT, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=(
            Projection(pre="in", post="hidden", connect=FixedInDegree(degree=40), weight=Normal(mean=0.04, std=0.08), learning="eprop"),
            Projection(pre="hidden", post="hidden", connect=FixedInDegree(degree=50), weight=Normal(mean=0.0, std=0.05), learning="eprop"),
            Projection(pre="hidden", post="out", connect=AllToAll(), weight=Normal(mean=0.0, std=0.02), learning="eprop"),
        ),
        rules=(rule,),
        task=Task(readout="out"),
    )


def run_nest(nest: Any, case: Case) -> Outcome:
    """Run the case in NEST: realised connections and feedback go in as lists."""
    nest.ResetKernel()
    nest.resolution = 1.0
    still: dict[str, Any] = {"C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "I_e": 0.0}
    params = {**still, "t_ref": 2.0, "V_th": 0.5, "c_reg": 0.5, "f_target": 10.0, "kappa": 0.95, "kappa_reg": 0.97}
    params |= {"surrogate_gradient_function": "exponential", "surrogate_gradient_height": HEIGHT, "surrogate_gradient_width": WIDTH}
    params |= {"V_reset": -0.1} if "psc_delta" in case.model else {}
    params |= {"adapt_beta": 0.0174, "adapt_tau": 2000.0} if "adapt" in case.model else {}
    generators, relays = nest.Create("spike_generator", N_IN), nest.Create("parrot_neuron", N_IN)
    hidden, out = nest.Create(case.model, N, params), nest.Create("eprop_readout", N_OUT, {**still, "tau_m": 20.0})
    hidden.tau_m = case.tau.tolist()
    for generator, spikes in zip(generators, case.raster.T, strict=True):
        generator.spike_times = np.flatnonzero(spikes).astype(float)  # the relay repeats time g in update step g
    signals = nest.Create("step_rate_generator", N_OUT)
    for signal, target in zip(signals, case.target.T, strict=True):
        signal.set({"amplitude_times": np.arange(1.0, STEPS), "amplitude_values": target[1:]})
    window = nest.Create("step_rate_generator", 1, {"amplitude_times": [1.0], "amplitude_values": [1.0]})
    optimizer = {"type": "gradient_descent", "batch_size": 1, "eta": RATE, "optimize_each_step": False, "Wmin": -100.0, "Wmax": 100.0}
    nest.SetDefaults("eprop_synapse", {"optimizer": optimizer})
    nest.Connect(generators, relays, "one_to_one", {"delay": 1.0})
    nodes = {"in": relays, "hidden": hidden, "out": out}
    ids = {name: np.array(nodes[name].tolist()) for name in nodes}
    for projection in case.network.synaptic_projections:
        c = case.connections[projection.name]
        synapses = {"synapse_model": "eprop_synapse", "weight": c.weight, "delay": np.ones(len(c.pre))}
        nest.Connect(ids[projection.pre][c.pre], ids[projection.post][c.post], "one_to_one", synapses)
    back = {"synapse_model": "eprop_learning_signal_connection", "weight": case.feedback.T.copy(), "delay": 1.0}
    nest.Connect(out, hidden, "all_to_all", back)
    for source, port, rule in ((signals, 2, "one_to_one"), (window, 1, "all_to_all")):
        nest.Connect(source, out, rule, {"synapse_model": "rate_connection_delayed", "receptor_type": port, "delay": 1.0})
    recorder, meter = nest.Create("spike_recorder"), nest.Create("multimeter", {"record_from": ["V_m"], "interval": 1.0})
    nest.Connect(hidden, recorder)
    nest.Connect(meter, hidden)
    nest.Simulate(float(STEPS))
    weights = {}
    for projection in case.network.synaptic_projections:
        c = case.connections[projection.name]
        found = nest.GetConnections(nodes[projection.pre], nodes[projection.post], synapse_model="eprop_synapse")
        values = found.get(["source", "target", "weight"])
        theirs = np.lexsort([np.array(values["target"]), np.array(values["source"])])
        weights[projection.name] = np.empty(len(c.pre))
        weights[projection.name][np.lexsort([c.post, c.pre])] = np.array(values["weight"])[theirs]
    nest.Simulate(1.0)  # the meter hands over the values of a step in the next one
    spikes, v = np.zeros((STEPS + 1, N), bool), np.full((STEPS + 1, N), np.nan)
    events = recorder.events
    spikes[events["times"].astype(int) - 1, events["senders"] - ids["hidden"][0]] = True
    events = meter.events
    v[events["times"].astype(int) - 1, events["senders"] - ids["hidden"][0]] = events["V_m"]
    return Outcome(weights, spikes[:STEPS], v[:STEPS])


def run_engine(case: Case, algorithm: str) -> tuple[Outcome, float]:
    """Run the case in the engine; also return the margin: psi is exponential, so |v - threshold| = -w log(psi/h); refractory neurons, which
    decide nothing, have psi = 0."""
    simulator = Simulator(case.network, case.connections, algorithm=algorithm)
    assert simulator.algorithm == algorithm
    step, neuron = np.nonzero(case.raster)
    signal = Signal(target=case.target, window=np.arange(STEPS) >= 1)
    record = RecordOptions(membrane={"hidden": None}, surrogate={"hidden": None})
    recording = simulator.run(STEPS, spikes={"in": Spikes(neuron=neuron, step=step)}, signals={"out": signal}, record=record)
    spikes = np.zeros((STEPS, N), bool)
    spikes[recording.spikes["hidden"].step, recording.spikes["hidden"].neuron] = True
    margin = -WIDTH * float(np.log(recording.surrogate["hidden"].max() / HEIGHT))
    return Outcome(simulator.weights(), spikes, recording.membrane["hidden"]), margin


def make_case(model: str) -> Case:
    rng = np.random.default_rng(MODELS.index(model) + 1)
    tau = rng.uniform(15, 30, N)
    network = make_network(model, tau)
    rule = network.rules[0]
    assert isinstance(rule, EProp)
    feedback = realise_feedback(network, rule, "hidden")
    assert feedback is not None
    raster = rng.random((STEPS, N_IN)) < 0.01
    raster[0] = False  # a generator cannot spike at time 0
    time = np.arange(STEPS)[:, None]
    target = np.sin(2 * np.pi * (time / np.array([200.0, 330.0, 500.0]) + rng.random(N_OUT)))
    return Case(model, network, realise_all(network), tau, raster, target, feedback)


@dataclass
class Pair:
    case: Case
    nest: Outcome


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> Pair:
    """A case with NEST's outcome, which both algorithms are compared with."""
    nest = sys.modules.get("nest") or pytest.importorskip("nest")
    case = make_case(request.param)
    return Pair(case, run_nest(nest, case))


def distances(got: Outcome, expected: Outcome, case: Case) -> dict[str, float]:
    """Return the largest difference of any weight, by projection, over the largest change that learning made there."""
    result = {}
    for name, weights in expected.weights.items():
        change = np.abs(weights - case.connections[name].weight)
        assert np.mean(change > 0) > 0.9, name  # synapses whose source was silent stay
        result[name] = float(np.abs(got.weights[name] - weights).max() / change.max())
    return result


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_a_thousand_neurons_equal_nests(pair: Pair, algorithm: str) -> None:
    """Asked: 1e-9 of the largest weight change; seen: 4e-15 (loop), 1.5e-12 (anchored). Every weight relative to itself: 1e-11 and 9e-9
    seen, at weights that learning left within 1e-5 of zero. Margins are 3e-6 and more, membranes differ by 4e-15 and 1.4e-12."""
    case, expected = pair.case, pair.nest
    got, margin = run_engine(case, algorithm)
    np.testing.assert_array_equal(got.spikes, expected.spikes)
    assert 5 * N < got.spikes.sum() < 50 * N
    drift = np.abs(got.v - expected.v).max()
    assert margin > 1e-9
    assert drift < 1e-3 * margin
    assert max(distances(got, expected, case).values()) < {"loop": 1e-13, "anchored": 1e-10}[algorithm]
    for name, weights in expected.weights.items():
        np.testing.assert_allclose(got.weights[name], weights, rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_comparison_sees_small_differences(pair: Pair) -> None:
    """Learning decides which spikes there are, and kappa off by 1e-7 shows in the weights even where all spikes agree."""
    case = pair.case
    still = Simulator(case.network, case.connections)
    step, neuron = np.nonzero(case.raster)
    recording = still.run(STEPS, spikes={"in": Spikes(neuron=neuron, step=step)}, learn=False)
    fired = np.zeros((STEPS, N), bool)
    fired[recording.spikes["hidden"].step, recording.spikes["hidden"].neuron] = True
    assert np.mean(fired[pair.nest.spikes]) < 0.9
    rule = case.network.rules[0]
    assert isinstance(rule, EProp)
    other = replace(case, network=replace(case.network, rules=(replace(rule, kappa=rule.kappa + 1e-7),)))
    got, _ = run_engine(other, "anchored")
    assert distances(got, pair.nest, case)["hidden->hidden"] > 1e-8
