"""Neurons, delays, chunks, checkpoints, recorders and errors of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.ir import (
    ALIF,
    LIF,
    CubaLIF,
    EProp,
    Explicit,
    GradientDescent,
    Integration,
    LeakyReadout,
    Network,
    Population,
    Projection,
    RandomFeedback,
    Reset,
    SpikeSource,
    Surrogate,
    Task,
)
from neurocompile.ir.errors import InputError
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.ir.values import Normal

STEPS = 80


def static_network(model: LIF, *, seed: int = 0) -> Network:
    """in -> a (delays 1 .. 255) -> a, and two projections a -> out."""
    rng = np.random.default_rng(seed)

    def some(n_pre: int, n_post: int, low: int, high: int, mean: float) -> Explicit:
        m = n_pre * n_post  # repeated pairs are synapses of their own
        return Explicit(
            pre=rng.integers(0, n_pre, m),
            post=rng.integers(0, n_post, m),
            weight=rng.normal(mean, 0.4, m),
            delay=rng.integers(low, high + 1, m),
        )

    return Network(
        name="static",
        dt=1e-3,
        populations=(
            Population(name="in", size=6, model=SpikeSource()),
            Population(name="out", size=2, model=LeakyReadout(tau_mem=0.02, tau_syn=0.005, v_leak=0.3, bias=0.01)),
            Population(name="a", size=4, model=model),
        ),
        projections=(
            Projection(pre="in", post="a", connect=some(6, 4, 1, 60, 0.4)),
            Projection(pre="a", post="a", connect=some(4, 4, 1, 255, 0.1)),
            Projection(pre="a", post="out", connect=some(4, 2, 1, 3, 0.2)),
            Projection(name="second", pre="a", post="out", connect=some(4, 2, 1, 7, 0.2)),
        ),
    )


def brute_force(net: Network, given: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of 'a' and outputs, one neuron and one synapse at a time, from the formulas of ir/neurons.py."""
    model, out = net.population("a").model, net.population("out").model
    assert isinstance(model, LIF)
    assert isinstance(out, LeakyReadout)

    def factor(tau: Any, n: int) -> np.ndarray:
        tau = np.broadcast_to(np.asarray(tau, float), n)
        return np.exp(-net.dt / tau) if model.integration is Integration.EXACT else 1 - net.dt / tau

    arriving = {"a": np.zeros((steps + 300, 4)), "out": np.zeros((steps + 300, 2))}
    a, s = factor(model.tau_mem, 4), factor(model.tau_syn, 4) if isinstance(model, CubaLIF) else np.zeros(4)
    theta = np.broadcast_to(model.v_threshold, 4)
    v, i, r, b, z = np.full(4, model.v_leak), np.full(4, getattr(model, "i_init", 0.0)), np.zeros(4, int), np.zeros(4), np.zeros(4, bool)
    y, c = np.full(2, out.v_leak), np.zeros(2)
    raster, outputs = np.zeros((steps, 4), bool), np.zeros((steps, 2))
    for t in range(steps):
        for n in range(4):
            i[n] = s[n] * i[n] + arriving["a"][t, n]
            clamped = model.reset is Reset.TO_VALUE and r[n] > 0
            if r[n] > 0:
                r[n] -= 1
            if not clamped:
                v[n] = max(a[n] * v[n] + (1 - a[n]) * model.v_leak + model.bias + i[n], model.v_min)
            level = theta[n]
            if isinstance(model, ALIF):
                b[n] = np.exp(-net.dt / model.adapt_tau) * b[n] + z[n]
                level = level + model.adapt_beta * b[n]
            z[n] = r[n] == 0 and v[n] >= level
            if z[n]:
                r[n] = round(model.t_ref / net.dt)
                v[n] = v[n] - (theta[n] - model.v_leak) if model.reset is Reset.SUBTRACT else model.v_reset
        c = np.exp(-net.dt / out.tau_syn) * c + arriving["out"][t]
        decay = np.exp(-net.dt / out.tau_mem)
        y = decay * y + (1 - decay) * out.v_leak + out.bias + c
        raster[t], outputs[t] = z, y
        for p in net.projections:
            e = p.connect
            assert isinstance(e, Explicit)
            assert e.weight is not None
            assert e.delay is not None
            fired = given[t] if p.pre == "in" else z
            for pre, post, w, d in zip(e.pre, e.post, e.weight, e.delay, strict=True):
                if fired[pre]:
                    arriving[p.post][t + d, post] += w
    return raster, outputs


MODELS: dict[str, LIF] = {
    "subtract": LIF(tau_mem=0.01, v_threshold=np.array([0.5, 0.7, 0.9, 1.1]), v_leak=0.1, bias=0.02, t_ref=0.002, v_min=-0.4),
    "to_value": LIF(tau_mem=np.array([0.01, 0.02, 0.03, np.inf]), v_threshold=0.6, v_reset=-0.2, t_ref=0.003, reset=Reset.TO_VALUE),
    "alif": ALIF(tau_mem=0.02, v_threshold=0.4, adapt_beta=0.2, adapt_tau=0.05),
    "alif_to_value": ALIF(tau_mem=0.02, v_threshold=0.4, adapt_beta=0.2, adapt_tau=0.05, t_ref=0.004, reset=Reset.TO_VALUE),
    "cuba": CubaLIF(tau_mem=0.02, tau_syn=np.array([0.002, 0.004, 0.006, 0.008]), v_threshold=0.7, v_leak=-0.1, i_init=0.3),
    "cuba_to_value": CubaLIF(tau_mem=0.02, tau_syn=0.004, v_threshold=0.7, v_reset=0.1, t_ref=0.002, reset=Reset.TO_VALUE),
    "euler": CubaLIF(
        tau_mem=0.02, tau_syn=0.004, v_threshold=0.7, v_leak=0.2, v_reset=0.0, reset=Reset.TO_VALUE, integration=Integration.EULER
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_neurons_and_delays(name: str) -> None:
    network = static_network(MODELS[name], seed=len(name))
    steps = 320  # longer than the longest delay, so that the ring comes round
    given = np.random.default_rng(5).random((steps, 6)) < 0.15
    step, neuron = np.nonzero(given)
    recording = Simulator(network).run(steps, spikes={"in": Spikes(neuron=neuron, step=step)}, record=RecordOptions(membrane={"a": [1, 3]}))
    raster, outputs = brute_force(network, given, steps)
    mine = recording.spikes["a"]
    assert 20 < raster.sum() < steps * 4
    np.testing.assert_array_equal(np.stack([mine.step, mine.neuron]), np.nonzero(raster))
    np.testing.assert_allclose(recording.outputs["out"], outputs, rtol=1e-11, atol=1e-12)
    assert recording.membrane["a"].shape == (steps, 2)
    assert recording.n_spikes == {"in": given.sum(), "a": raster.sum()}


def learning_network(**rule: Any) -> Network:
    """Poisson in -> h1 -> h2 -> out, both hidden layers recurrent in parts, all plastic; h1 reaches the readout only through h2."""
    rng = np.random.default_rng(2)

    def dense(n: int, m: int, scale: float) -> Explicit:
        pre, post = np.nonzero(np.ones((n, m)))
        return Explicit(pre=pre, post=post, weight=rng.normal(0.15, scale, n * m))

    return Network(
        name="learning",
        dt=1e-3,
        seed=7,
        populations=(
            Population(name="in", size=5, model=SpikeSource(rate=100.0)),
            Population(name="h1", size=6, model=LIF(tau_mem=0.02, v_threshold=0.5)),
            Population(name="h2", size=4, model=ALIF(tau_mem=0.02, v_threshold=0.5, adapt_beta=0.05, adapt_tau=0.2)),
            Population(name="out", size=2, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=(
            Projection(pre="in", post="h1", connect=dense(5, 6, 0.3), learning="eprop"),
            Projection(pre="h1", post="h2", connect=dense(6, 4, 0.3), learning="eprop"),
            Projection(pre="h2", post="h2", connect=dense(4, 4, 0.1)),
            Projection(pre="h2", post="out", connect=dense(4, 2, 0.2), learning="eprop"),
        ),
        rules=(EProp(**{"surrogate": Surrogate(height=1.0), "optimizer": GradientDescent(learning_rate=0.01), **rule}),),
        task=Task(readout="out"),
    )


def signal(steps: int, first: int = 0) -> dict[str, Signal]:
    t = np.arange(first, first + steps)
    return {"out": Signal(target=np.stack([np.sin(t / 9), np.cos(t / 7)], axis=1), window=t % 10 < 7)}


def test_symmetric_feedback_reaches_only_what_reads_out() -> None:
    simulator = Simulator(learning_network())
    before = simulator.weights()
    recording = simulator.run(STEPS, signals=signal(STEPS), record=RecordOptions(learning_signal={"h1": None, "h2": None, "out": None}))
    after = simulator.weights()
    assert not recording.learning_signal["h1"].any()
    assert np.abs(recording.learning_signal["h2"]).max() > 0
    np.testing.assert_array_equal(before["in->h1"], after["in->h1"])
    assert np.abs(before["h1->h2"] - after["h1->h2"]).max() > 1e-5
    np.testing.assert_array_equal(before["h2->h2"], after["h2->h2"])
    # L of step t is what the error of step t-1 brought to entry t-2, through the weights of that moment (here: almost the initial ones)
    w = before["h2->out"].reshape(4, 2)
    expected = recording.learning_signal["out"][2] @ w.T
    np.testing.assert_allclose(recording.learning_signal["h2"][3], expected, rtol=0.05)


def test_random_feedback_reaches_every_hidden_layer() -> None:
    simulator = Simulator(learning_network(feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0))))
    before = simulator.weights()
    simulator.run(STEPS, signals=signal(STEPS))
    for name in ("in->h1", "h1->h2", "h2->out"):
        assert np.abs(simulator.weights()[name] - before[name]).max() > 1e-6


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], err_msg=name)


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_chunks_equal_one_run(algorithm: str) -> None:
    whole, parts = Simulator(learning_network(), algorithm=algorithm), Simulator(learning_network(), algorithm=algorithm)
    one = whole.run(STEPS, signals=signal(STEPS))
    first = 0
    outputs = []
    for n in (1, 2, 30, 0, 47):
        recording = parts.run(n, signals=signal(n, first))
        outputs.append(recording.outputs["out"])
        first += n
    np.testing.assert_array_equal(np.concatenate(outputs), one.outputs["out"])
    same(whole.state(), parts.state())


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_restored_simulator_goes_on_bit_for_bit(algorithm: str) -> None:
    first = Simulator(learning_network(), algorithm=algorithm)
    first.run(33, signals=signal(33))
    saved = first.state()
    expected = first.run(STEPS, signals=signal(STEPS, 33))
    weight = "eprop_weight" if algorithm == "loop" else "synapse"
    assert not np.array_equal(saved[weight], first.state()[weight])
    second = Simulator(learning_network(), algorithm=algorithm)
    second.restore(saved)
    assert second.step == 33
    got = second.run(STEPS, signals=signal(STEPS, 33))
    np.testing.assert_array_equal(got.outputs["out"], expected.outputs["out"])
    same(first.state(), second.state())
    with pytest.raises(InputError, match="NC235"):
        second.restore({**saved, "v": saved["v"][:-1]})
    with pytest.raises(InputError, match="is missing"):
        second.restore({k: v for k, v in saved.items() if k != weight})


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_runs_without_learning_leave_learning_alone(algorithm: str) -> None:
    """A pause does not exist for the learning part: the same state, bit for bit, but for what the neurons did."""
    simulator = Simulator(learning_network(), algorithm=algorithm)
    simulator.run(33, signals=signal(33))
    saved = simulator.state()
    recording = simulator.run(50, signals=signal(50), learn=False)
    assert recording.n_spikes["h1"] > 10
    after = simulator.state()
    loop = ("eprop_weight", "zbar", "ebar", "gradient", "last_spike", "position", "history", "rate", "optimized")
    for name in loop if algorithm == "loop" else ("synapse", "row", "trace", "rate", "reg", "zbar", "last", "alive", "done"):
        np.testing.assert_array_equal(saved[name], after[name])
    simulator.run(20, signals=signal(20))
    weight = "eprop_weight" if algorithm == "loop" else "synapse"
    assert not np.array_equal(simulator.state()[weight], saved[weight])


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_reset_dynamics(algorithm: str) -> None:
    """After a reset the network does what a fresh one with these weights does; the step counter goes on."""
    one = Simulator(learning_network(), algorithm=algorithm)
    one.run(40, signals=signal(40))
    one.reset_dynamics()
    assert one.step == 40
    fresh = Simulator(learning_network(), algorithm=algorithm)
    fresh.set_weights(one.weights())
    spikes = Spikes(neuron=np.array([0, 3, 1, 2]), step=np.array([2, 3, 3, 9]))
    later = Spikes(neuron=spikes.neuron, step=spikes.step + 40)
    got = one.run(STEPS, spikes={"in": later}, signals=signal(STEPS))
    expected = fresh.run(STEPS, spikes={"in": spikes}, signals=signal(STEPS))
    np.testing.assert_array_equal(got.outputs["out"], expected.outputs["out"])
    same(one.weights(), fresh.weights())


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_flush_applies_what_is_pending(algorithm: str) -> None:
    """A flush equals the weights after one more spike of every source."""
    setup: Callable[[], Simulator] = lambda: Simulator(learning_network(), algorithm=algorithm)  # noqa: E731
    given = {"in": Spikes(neuron=np.repeat(np.arange(5), 3), step=np.tile([1, 12, 20], 5))}
    last = {"in": Spikes(neuron=np.concatenate([given["in"].neuron, np.arange(5)]), step=np.concatenate([given["in"].step, [39] * 5]))}
    flushed, spiked = setup(), setup()
    flushed.run(40, spikes=given, signals=signal(40))
    before = flushed.weights()["h2->out"]
    flushed.flush()
    assert not np.array_equal(before, flushed.weights()["h2->out"])
    spiked.run(41, spikes=last, signals=signal(41))
    np.testing.assert_array_equal(flushed.weights()["in->h1"], spiked.weights()["in->h1"])


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_recorders(algorithm: str) -> None:
    network = learning_network()
    simulator = Simulator(network, algorithm=algorithm)
    options = RecordOptions(
        membrane={"h1": None}, adaptation={"h2": [0]}, surrogate={"h2": [2, 1]}, weights=("h1->h2",), traces=("h1->h2",), every=4
    )
    recording = simulator.run(42, signals=signal(42), record=options)
    assert recording.membrane["h1"].shape == (42, 6)
    assert recording.adaptation["h2"].max() > 0
    assert recording.surrogate["h2"].shape == (42, 2)
    assert 0 < recording.surrogate["h2"].max() <= 1
    np.testing.assert_array_equal(recording.snapshot_steps, np.arange(3, 42, 4))
    assert recording.weights["h1->h2"].shape == recording.traces["h1->h2"]["ebar"].shape == (10, 24)
    again = Simulator(network, algorithm=algorithm)
    for row in range(10):
        again.run(4, signals=signal(4, 4 * row))
        np.testing.assert_array_equal(again.weights()["h1->h2"], recording.weights["h1->h2"][row])
    # zbar by its definition: index 38 is the last complete entry after step 39; spikes of step s arrive with stamp s + 1
    spikes, connect = recording.spikes["h1"], network.projection("h1->h2").connect
    assert isinstance(connect, Explicit)
    alpha = np.exp(-1e-3 / 0.02)
    stamps = [spikes.step[(spikes.neuron == n) & (spikes.step + 1 <= 38)] + 1 for n in range(6)]
    expected = np.array([np.sum(alpha ** (38 - s)) for s in stamps])[connect.pre]
    np.testing.assert_allclose(recording.traces["h1->h2"]["zbar"][-1], expected, rtol=1e-12)


def test_poisson_source() -> None:
    """Rate within five standard deviations; a function of the absolute step; silent where spikes are given."""
    network = Network(
        name="p",
        dt=1e-3,
        seed=3,
        populations=(
            Population(name="p", size=1000, model=SpikeSource(rate=50.0)),
            Population(name="q", size=1000, model=SpikeSource(rate=np.linspace(0, 100, 1000))),
        ),
    )
    spikes = Simulator(network).run(200).spikes
    assert abs(len(spikes["p"].step) - 10000) < 5 * np.sqrt(10000 * 0.95)
    assert not (spikes["q"].neuron == 0).any()
    assert np.corrcoef(np.bincount(spikes["p"].neuron, minlength=1000), np.arange(1000))[0, 1] < 0.15
    late = Simulator(network)
    late.run(100)
    part = late.run(100).spikes["p"]
    np.testing.assert_array_equal(part.neuron, spikes["p"].neuron[spikes["p"].step >= 100])
    assert Simulator(network).run(50, spikes={"p": Spikes(neuron=np.array([4]), step=np.array([7]))}).n_spikes["p"] == 1
    other = Simulator(network.with_seed(4)).run(200).spikes["p"]
    assert not np.array_equal(other.neuron, spikes["p"].neuron)


def test_set_weights() -> None:
    simulator = Simulator(learning_network())
    new = simulator.weights()
    new["h1->h2"] *= 0.5
    simulator.set_weights({"h1->h2": new["h1->h2"]})
    same(simulator.weights(), new)
    new["h1->h2"][:] = 0.0
    assert simulator.weights()["h1->h2"].any()  # a copy


def one_spike(neuron: int = 0, step: int = 1) -> Spikes:
    return Spikes(neuron=np.array([neuron]), step=np.array([step]))


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("NC207", lambda s: s.run(5, spikes={"h1": one_spike()})),
        ("NC207", lambda s: s.run(5, signals={"nowhere": signal(5)["out"]})),
        ("NC204", lambda s: s.run(5, spikes={"in": one_spike(neuron=9)})),
        ("NC237", lambda s: s.run(5, spikes={"in": Spikes(neuron=np.array([2, 2]), step=np.array([3, 3]))})),
        ("NC238", lambda s: s.run(-1)),
        ("NC202", lambda s: s.run(5, signals={"out": Signal(target=np.zeros((5, 3)), window=np.ones(5, bool))})),
        ("NC239", lambda s: s.run(5, record=RecordOptions(traces=("h2->h2",)))),
        ("NC239", lambda s: s.run(5, record=RecordOptions(weights=("h2->h2",), every=0))),
        ("NC239", lambda s: s.run(5, record=RecordOptions(surrogate={"in": None}))),
        ("NC207", lambda s: s.run(5, record=RecordOptions(membrane={"h3": None}))),
        ("NC204", lambda s: s.run(5, record=RecordOptions(membrane={"h1": [6]}))),
        ("NC207", lambda s: s.set_weights({"h1": np.zeros(3)})),
        ("NC202", lambda s: s.set_weights({"h1->h2": np.zeros(3)})),
        ("NC203", lambda s: s.set_weights({"h1->h2": np.full(24, np.nan)})),
        ("NC236", lambda s: s.set_weights({"h1->h2": np.full(24, 101.0)})),
    ],
)
def test_bad_input(code: str, action: Callable[[Simulator], object]) -> None:
    simulator = Simulator(learning_network())
    before = simulator.state()
    with pytest.raises(InputError) as caught:
        action(simulator)
    assert [d.code for d in caught.value.diagnostics] == [code]
    same(before, simulator.state())


def test_bad_connections() -> None:
    network = learning_network()
    ok = {p.name: _connections(p) for p in network.projections}
    Simulator(network, ok)
    cases = {
        "NC235": {k: v for k, v in ok.items() if k != "in->h1"},
        "NC204": {**ok, "in->h1": replace(ok["in->h1"], pre=ok["in->h1"].pre + 4)},
        "NC209": {**ok, "in->h1": replace(ok["in->h1"], delay=np.zeros(30, np.uint8))},
        "NC236": {**ok, "in->h1": replace(ok["in->h1"], weight=np.full(30, 101.0))},
    }
    for code, connections in cases.items():
        with pytest.raises(InputError, match=code):
            Simulator(network, connections)
    with pytest.raises(InputError, match="NC202"):
        Simulator(network, ok, feedback={("eprop", "h1"): np.zeros((6, 2))})


def _connections(projection: Projection) -> Connections:
    connect = projection.connect
    assert isinstance(connect, Explicit)
    assert connect.weight is not None
    return Connections(pre=connect.pre, post=connect.post, weight=connect.weight, delay=np.ones(len(connect.pre), np.uint8))
