"""The original formulation of e-prop (update intervals) beside its definition, and what a run promises."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import Recording, RecordOptions, Simulator, engine_interval
from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    Interval2020,
    LeakyReadout,
    Loss,
    Network,
    Population,
    Projection,
    Regularization,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.reference.conftest import explicit_connections
from tests.backends.reference.dense_interval import Array, Bools, Result, dense

STEPS = 70
PLASTIC = (("in", "hidden"), ("hidden", "hidden"), ("hidden", "out"), ("hidden", "deep"), ("deep", "out"))
SIZES = {"in": 4, "hidden": 5, "deep": 3, "out": 2}


def make(seed: int, rule: EProp, hidden: dict[str, Any], loss: Loss, explicit: bool) -> tuple[Network, Bools, Signal]:
    """Two hidden layers, recurrence, a static delayed projection; every projection has its synapses in a random order."""
    rng = np.random.default_rng(seed)
    assert isinstance(rule.update, Interval2020)
    scale = 1.0 if rule.update.regular_spike_arrival else 15.0
    projections = []
    for pre, post in PLASTIC:
        i, j = np.nonzero(rng.random((SIZES[pre], SIZES[post])) < 0.7)
        order = rng.permutation(len(i))
        weight = np.clip(scale * rng.normal(0.25 if pre == "in" else 0.1, 0.4, len(i)), *rule.weight_bounds)
        learning = "deep" if post == "deep" else "eprop"
        projections.append(Projection(pre=pre, post=post, connect=Explicit(pre=i[order], post=j[order], weight=weight), learning=learning))
    delayed = Explicit(
        pre=np.arange(4), post=np.array([0, 1, 2, 0]), weight=scale * rng.normal(0.2, 0.2, 4), delay=np.array([1, 2, 5, 3], np.uint8)
    )
    projections.append(Projection(name="static", pre="in", post="deep", connect=delayed))
    rules = []
    for name, population in (("eprop", "hidden"), ("deep", "deep")):
        k, j = np.nonzero(np.ones((SIZES["out"], SIZES[population])))
        file = ExplicitFeedback(connections=Explicit(pre=k, post=j, weight=rng.normal(0, 1, len(k))))
        rules.append(replace(rule, name=name, feedback=file if explicit else SymmetricFeedback()))
    rules[1] = replace(rules[1], kappa=0.5)
    model = {**hidden, "tau_mem": rng.uniform(0.005, 0.03, 5)}
    populations = (
        Population(name="in", size=4, model=SpikeSource()),
        Population(name="hidden", size=5, model=ALIF(**model) if "adapt_beta" in model else LIF(**model)),
        Population(name="deep", size=3, model=LIF(tau_mem=0.02, v_threshold=0.3)),
        Population(name="out", size=2, model=LeakyReadout(tau_mem=np.array([0.02, 0.01]), bias=0.01, v_leak=0.05)),
    )
    network = Network(
        name="oracle",
        dt=1e-3,
        populations=populations,
        projections=tuple(projections),
        rules=tuple(rules),
        task=Task(readout="out", loss=loss),
    )
    raster = rng.random((STEPS, 4)) < rng.uniform(0.02, 0.4)
    return network, raster, Signal(target=rng.uniform(0, 1, (STEPS, 2)), window=rng.random(STEPS) < 0.9)


def run(
    simulator: Simulator,
    raster: Bools,
    signal: Signal,
    start: int,
    stop: int,
    *,
    learn: bool = True,
    record: RecordOptions | None = None,
) -> Recording:
    step, neuron = np.nonzero(raster)
    part = Signal(target=signal.target[start:stop], window=signal.window[start:stop])
    return simulator.run(stop - start, spikes={"in": Spikes(neuron=neuron, step=step)}, signals={"out": part}, learn=learn, record=record)


def compare(network: Network, raster: Bools, signal: Signal, cuts: list[int], pause: tuple[int, int], flush: bool) -> Result:
    """Run engine and definition and compare all that they show. Sums are taken in another order, so agreement is to rounding."""
    learn = np.ones(STEPS, bool)
    learn[slice(*pause)] = False
    expected = dense(network, raster, signal.target, signal.window, learn=learn, flush=flush)
    simulator = Simulator(network)
    parts = []
    for start, stop in itertools.pairwise(sorted({0, *cuts, *pause, STEPS})):
        everything = RecordOptions(
            surrogate={"hidden": None, "deep": [2, 0]},
            learning_signal={"hidden": None, "deep": None, "out": None},
            traces=tuple(expected.zbar),
            every=stop - start,
        )
        parts.append(run(simulator, raster, signal, start, stop, learn=bool(learn[start]), record=everything))
    if flush:
        simulator.flush()
    for name in ("hidden", "deep"):
        spiked = np.zeros((STEPS, SIZES[name]), bool)
        for part in parts:
            spiked[part.spikes[name].step, part.spikes[name].neuron] = True
        np.testing.assert_array_equal(spiked, expected.spikes[name], err_msg=name)
        close(np.concatenate([part.learning_signal[name] for part in parts]), expected.signal[name], name)
    close(np.concatenate([part.surrogate["hidden"] for part in parts]), expected.psi["hidden"], "psi")
    close(np.concatenate([part.surrogate["deep"] for part in parts]), expected.psi["deep"][:, [2, 0]], "psi")
    close(np.concatenate([part.outputs["out"] for part in parts]), expected.output, "output")
    for name, weights in expected.weights.items():
        close(simulator.weight(name), weights, name)
        close(parts[-1].traces[name]["zbar"][-1], expected.zbar[name], f"zbar of {name}")
        close(parts[-1].traces[name]["ebar"][-1], expected.ebar[name], f"ebar of {name}")
    return expected


def close(got: Array, expected: Array, name: str) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10, err_msg=name)


optimizers = st.one_of(
    st.builds(GradientDescent, learning_rate=st.floats(1e-4, 1e-2)),
    st.builds(Adam, learning_rate=st.floats(1e-4, 3e-3), epsilon=st.just(1e-3)),  # sqrt(v) loses digits where v is near 0
)
updates = st.integers(2, 30).flatmap(
    lambda steps: st.builds(
        Interval2020,
        interval_steps=st.just(steps),
        learning_window_steps=st.one_of(st.none(), st.integers(1, steps)),
        reset_neurons=st.booleans(),
        average_gradient=st.booleans(),
        regular_spike_arrival=st.booleans(),
        batch_size=st.integers(1, 3),
    )
)
rules = st.builds(
    EProp,
    surrogate=st.builds(Surrogate, kind=st.sampled_from(SurrogateKind), height=st.floats(0.1, 2.0), width=st.floats(0.2, 2.0)),
    kappa=st.sampled_from([0.0, 0.3, 0.9, 0.99]),
    regularization=st.one_of(st.none(), st.builds(Regularization, strength=st.floats(0.0, 30.0), rate=st.floats(0.0, 60.0))),
    optimizer=optimizers,
    update=updates,
    weight_bounds=st.sampled_from([(-100.0, 100.0), (-0.6, 0.7)]),
    sign_constraint=st.booleans(),
)
hiddens = st.fixed_dictionaries(
    {
        "v_threshold": st.floats(0.3, 0.8),
        "v_leak": st.sampled_from([0.0, 0.1]),
        "bias": st.sampled_from([0.0, 0.02]),
        "v_min": st.sampled_from([-np.inf, -0.3]),
        "t_ref": st.sampled_from([0.0, 0.001, 0.003]),
    },
    optional={"adapt_beta": st.floats(0.0, 0.2), "adapt_tau": st.floats(0.01, 1.0)},
).filter(lambda d: ("adapt_beta" in d) == ("adapt_tau" in d))


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    rule=rules,
    hidden=hiddens,
    loss=st.sampled_from(Loss),
    explicit=st.booleans(),
    cuts=st.lists(st.integers(1, STEPS - 1), max_size=3),
    pause=st.one_of(st.just((0, 0)), st.tuples(st.integers(0, 60), st.integers(0, STEPS))),
    flush=st.booleans(),
)
def test_engine_equals_definition(
    seed: int, rule: EProp, hidden: dict[str, Any], loss: Loss, explicit: bool, cuts: list[int], pause: tuple[int, int], flush: bool
) -> None:
    network, raster, signal = make(seed, rule, hidden, loss, explicit)
    compare(network, raster, signal, cuts, (min(pause), max(pause)), flush)


RULE = EProp(
    surrogate=Surrogate(height=1.0, width=1.0),
    kappa=0.9,
    regularization=Regularization(strength=1.0, rate=10.0),
    optimizer=GradientDescent(learning_rate=1e-3),
    update=Interval2020(interval_steps=15),
)
ADAPTIVE = {"v_threshold": 0.4, "adapt_beta": 0.05, "adapt_tau": 0.2}


def case(rule: EProp = RULE) -> tuple[Network, Bools, Signal]:
    return make(4, rule, ADAPTIVE, Loss.MEAN_SQUARED_ERROR, True)


def change(**changes: Any) -> EProp:
    assert isinstance(RULE.update, Interval2020)
    return replace(RULE, update=replace(RULE.update, **changes))


@pytest.mark.parametrize(
    "other",
    [
        replace(RULE, kappa=0.901),
        replace(RULE, regularization=Regularization(strength=1.01, rate=10.0)),
        change(interval_steps=16),
        change(learning_window_steps=14),
        change(reset_neurons=False),
        change(average_gradient=True),
        change(regular_spike_arrival=False),
        change(batch_size=2),
    ],
    ids=["kappa", "regularization", "interval", "window", "reset", "average", "arrival", "batch"],
)
def test_definition_notices_every_setting(other: EProp) -> None:
    """The comparison is not empty: the network learns, and each setting changes the weights by far more than the tolerance."""
    network, raster, signal = case()
    expected = dense(network, raster, signal.target, signal.window)
    assert expected.spikes["hidden"].sum() > 20
    assert expected.spikes["deep"].sum() > 20
    changed = replace(network, rules=tuple(replace(other, name=r.name, feedback=r.feedback) for r in network.rules))  # type: ignore[union-attr]
    simulator = Simulator(changed)
    run(simulator, raster, signal, 0, STEPS)
    for name, weights in expected.weights.items():
        initial = network.projection(name).connect.weight  # type: ignore[union-attr]
        assert np.abs(weights - initial).max() > 1e-4, name
    assert np.abs(simulator.weight("hidden->hidden") - expected.weights["hidden->hidden"]).max() > 1e-7


@pytest.mark.parametrize("optimizer", [GradientDescent(learning_rate=1e-3), Adam(learning_rate=1e-3)], ids=["descent", "adam"])
def test_parts_and_restored_states_keep_every_bit(optimizer: GradientDescent | Adam) -> None:
    network, raster, signal = case(replace(change(batch_size=2), optimizer=optimizer))
    whole = Simulator(network)
    long = run(whole, raster, signal, 0, STEPS)
    one_by_one, again = Simulator(network), Simulator(network)
    outputs = []
    for t in range(STEPS):
        if t == 17:  # the sixteenth step of the hidden neurons' first interval and its gradients are under way
            saved = one_by_one.state()
            again.restore(saved)
        outputs.append(run(one_by_one, raster, signal, t, t + 1).outputs["out"])
    rest = run(again, raster, signal, 17, STEPS)
    np.testing.assert_array_equal(np.concatenate(outputs), long.outputs["out"])
    np.testing.assert_array_equal(rest.outputs["out"], long.outputs["out"][17:])
    for name, array in whole.state().items():
        if name != "pending":  # what stands behind the spikes of the last step is left over
            np.testing.assert_array_equal(one_by_one.state()[name], array, err_msg=name)
            np.testing.assert_array_equal(again.state()[name], array, err_msg=name)


def test_a_pause_of_learning_changes_no_weight() -> None:
    network, raster, signal = case()
    simulator = Simulator(network)
    run(simulator, raster, signal, 0, 32)
    before = simulator.weights()
    paused = run(simulator, raster, signal, 32, 50, learn=False)
    assert sum(paused.n_spikes.values()) > 20
    for name, weights in simulator.weights().items():
        np.testing.assert_array_equal(weights, before[name])
    run(simulator, raster, signal, 50, STEPS)
    assert any(np.any(weights != before[name]) for name, weights in simulator.weights().items())


def test_reset_dynamics_forgets_all_but_weights_and_optimizers() -> None:
    network, raster, signal = case(replace(RULE, optimizer=Adam(learning_rate=1e-3)))
    simulator = Simulator(network)
    run(simulator, raster, signal, 0, 40)
    before = simulator.state()
    simulator.reset_dynamics()
    after = simulator.state()
    fresh = Simulator(network).state()
    kept = {"static_weight", "eprop_weight", "collected", "first_moment", "second_moment", "updated"}
    for name in after:
        if name != "clock":
            np.testing.assert_array_equal(after[name], before[name] if name in kept else fresh[name], err_msg=name)
    assert np.any(before["gradient"] != 0.0)
    assert simulator.step == 40


def test_memory_is_that_of_one_interval() -> None:
    network, raster, signal = case()
    simulator = Simulator(network)

    def size() -> int:
        return sum(array.nbytes for array in simulator.live_state().values())

    before = size()
    run(simulator, raster, signal, 0, STEPS)
    assert size() == before
    assert simulator.bytes_per_plastic_synapse() < 60


def test_poisson_sources_repeat_themselves_as_given_spikes() -> None:
    network, _, signal = case()
    source = replace(network.populations[0], model=SpikeSource(rate=80.0))
    network = replace(network, populations=(source, *network.populations[1:]))
    drawn, given = Simulator(network), Simulator(network)
    first = drawn.run(STEPS, signals={"out": signal})
    assert first.n_spikes["in"] > 10
    second = given.run(STEPS, spikes={"in": first.spikes["in"]}, signals={"out": signal})
    np.testing.assert_array_equal(first.outputs["out"], second.outputs["out"])
    for name, weights in drawn.weights().items():
        np.testing.assert_array_equal(given.weight(name), weights)


@pytest.mark.parametrize(
    "asked", [{"algorithm": "loop"}, {"algorithm": "anchored"}, {"precision": "float32"}, {"threads": 2}], ids=lambda x: next(iter(x))
)
def test_it_has_one_algorithm(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocompile.backends.reference.simulator.max_threads", lambda: 2)
    with pytest.raises(InputError, match="original formulation") as caught:
        Simulator(case()[0], **asked)
    assert [d.code for d in caught.value.diagnostics] == ["NC251"]
    assert Simulator(case()[0]).algorithm == "interval"


def test_given_synapses_with_longer_delays_are_refused() -> None:
    network = case()[0]
    connections = explicit_connections(network)
    longer = connections["in->hidden"]
    connections["in->hidden"] = Connections(pre=longer.pre, post=longer.post, weight=longer.weight, delay=longer.delay + np.uint8(1))
    with pytest.raises(InputError, match="delays of up to 2 steps") as caught:
        Simulator(network, connections)
    assert caught.value.diagnostics[0].code == "NC209"


def test_histories_that_do_not_fit_are_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 sites, 15 steps of 16 bytes each, and 14 sources of 15 bits."""
    network = case()[0]
    needed = 10 * 15 * 16 + 14 * 15 / 8
    monkeypatch.setattr(engine_interval, "available_memory", lambda: needed - 1)
    with pytest.raises(DoesNotFitError, match="interval of 15 steps") as caught:
        Simulator(network)
    assert caught.value.diagnostics[0].code == "NC410"
    monkeypatch.setattr(engine_interval, "available_memory", lambda: needed)
    Simulator(network)
