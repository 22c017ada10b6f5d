"""The anchored form beside the loop over histories: the same sums, taken in another order, so equal but for rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.backends.reference.engine_anchored import AnchoredEngine
from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    AllToAll,
    EProp,
    FixedInDegree,
    FixedProbability,
    GradientDescent,
    LeakyReadout,
    Loss,
    Network,
    Normal,
    PerEvent,
    PerInterval,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.errors import InputError
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Signal, Spikes

N_IN, N_OUT = 6, 2


def make_network(
    rule: EProp, *hidden: LIF, seed: int = 1, sizes: tuple[int, ...] = (8, 7), loss: Loss = Loss.MEAN_SQUARED_ERROR
) -> Network:
    """in -> h0 (recurrent) -> h1 (recurrent) ... -> out, a static shortcut from in to the last layer, everything else plastic."""
    names = [f"h{i}" for i in range(len(hidden))]
    layers = [Population(name=n, size=s, model=m) for n, s, m in zip(names, sizes, hidden, strict=False)]
    chain = ["in", *names]
    projections = [
        Projection(pre=a, post=b, connect=FixedProbability(probability=0.7), weight=Normal(mean=0.25, std=0.3), learning=rule.name)
        for a, b in zip(chain, names, strict=False)
    ]
    projections += [
        Projection(pre=n, post=n, connect=FixedProbability(probability=0.5), weight=Normal(mean=0.0, std=0.2), learning=rule.name)
        for n in names
    ]
    projections += [Projection(pre=n, post="out", connect=AllToAll(), weight=Normal(mean=0.0, std=0.3), learning=rule.name) for n in names]
    projections.append(Projection(name="fixed", pre="in", post=names[-1], connect=AllToAll(), weight=Normal(mean=0.1, std=0.1)))
    return Network(
        name="anchored",
        dt=1e-3,
        seed=seed,
        populations=(
            Population(name="in", size=N_IN, model=SpikeSource()),
            *layers,
            Population(name="out", size=N_OUT, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=tuple(projections),
        rules=(rule,),
        task=Task(readout="out", loss=loss),
    )


def bursts(seed: int, steps: int, rate: float, silent: tuple[int, int] = (0, 0)) -> Spikes:
    """Poisson spikes with bursts of one spike a step, and none at all in ``silent``."""
    rng = np.random.default_rng(seed)
    on = rng.random((steps, N_IN)) < rate
    start = rng.integers(0, max(steps - 20, 1))
    on[start : start + 12, 0] = True
    on[silent[0] : silent[1]] = False
    step, neuron = np.nonzero(on)
    return Spikes(neuron=neuron.astype(np.int32), step=step)


def errors_to(seed: int, steps: int, first: int = 0, share: float = 0.8) -> Signal:
    rng = np.random.default_rng(seed)
    target, window = rng.uniform(-1, 1, (5000, N_OUT)), rng.random(5000) < share
    return Signal(target=target[first : first + steps], window=window[first : first + steps])


@dataclass
class Pair:
    loop: Simulator
    anchored: Simulator
    before: dict[str, npt.NDArray[np.float64]]

    def distance(self) -> float:
        """Return the largest difference of a weight, over the largest change of a weight of its projection (at least 1e-6)."""
        left, right = self.loop.weights(), self.anchored.weights()
        found = [np.abs(left[n] - right[n]).max() / max(np.abs(left[n] - self.before[n]).max(), 1e-6) for n in left if len(left[n])]
        return float(max(found))


def run_both(network: Network, steps: int, spikes: Spikes, *, flush: bool = False, signal_seed: int = 5, **options: Any) -> Pair:
    simulators = Simulator(network, algorithm="loop"), Simulator(network, algorithm="anchored", **options)
    before = simulators[0].weights()
    fired = []
    for simulator in simulators:
        recording = simulator.run(steps, spikes={"in": spikes}, signals={"out": errors_to(signal_seed, steps)})
        fired.append(np.concatenate([s.step * 1000 + s.neuron for s in recording.spikes.values()]))
        if flush:
            simulator.flush()
    np.testing.assert_array_equal(fired[0], fired[1])
    return Pair(*simulators, before)


decays = st.one_of(st.sampled_from([0.5, 0.9, 0.97, 0.99, 0.999]), st.floats(0.48, 0.9995))
rules = st.builds(
    EProp,
    surrogate=st.builds(Surrogate, kind=st.sampled_from(SurrogateKind), height=st.floats(0.1, 2.0), width=st.floats(0.2, 2.0)),
    kappa=decays,
    kappa_reg=decays,
    regularization=st.one_of(st.none(), st.builds(Regularization, strength=st.floats(0.0, 2.0), rate=st.floats(0.0, 60.0))),
    feedback=st.sampled_from([SymmetricFeedback(), RandomFeedback(weight=Normal(mean=0.0, std=1.0))]),
    optimizer=st.builds(GradientDescent, learning_rate=st.floats(1e-8, 1e-6)),
    update=st.one_of(st.just(PerEvent()), st.builds(PerInterval, steps=st.integers(1, 40))),
    weight_bounds=st.just((-100.0, 100.0)),
    sign_constraint=st.booleans(),
)
taus = st.sampled_from([0.0015, 0.01, 0.03, 0.3])


@st.composite
def neurons(draw: st.DrawFn, size: int) -> LIF:
    common: dict[str, Any] = {
        "tau_mem": draw(st.one_of(taus, st.just(np.linspace(0.004, 0.05, size)))),
        "v_threshold": draw(st.floats(0.3, 0.8)),
        "t_ref": draw(st.sampled_from([0.0, 0.002, 0.005])),
        "reset": draw(st.sampled_from(Reset)),
        "bias": draw(st.sampled_from([0.0, 0.02])),
    }
    if draw(st.booleans()):
        return ALIF(**common, adapt_beta=draw(st.floats(0.0, 0.3)), adapt_tau=draw(st.sampled_from([0.02, 0.2, 2.0])))
    return LIF(**common)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    rule=rules,
    hidden=st.tuples(neurons(8), neurons(7)),
    loss=st.sampled_from(Loss),
    rate=st.sampled_from([0.005, 0.05, 0.3]),
    flush=st.booleans(),
    window=st.sampled_from([None, None, 3, 20]),
)
def test_anchored_equals_loop(
    seed: int, rule: EProp, hidden: tuple[LIF, LIF], loss: Loss, rate: float, flush: bool, window: int | None
) -> None:
    """1e-9 of the largest change. The powers of 1/kappa and 1/alpha reach 1e4 at most, which leaves 1e-12 of float64. Learning rates are
    small, since a network that learns fast multiplies any difference; fast learning and clipping are compared over fewer steps in
    ``test_eprop_oracle.py``."""
    network = make_network(rule, *hidden, seed=seed, loss=loss)
    pair = run_both(network, 400, bursts(seed, 400, rate, (150, 260)), flush=flush, window_steps=window)
    assert pair.distance() < 1e-9


RULE = EProp(
    surrogate=Surrogate(height=0.8, width=0.6),
    regularization=Regularization(strength=0.05, rate=10.0),
    feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
    optimizer=GradientDescent(learning_rate=1e-6),
)
NEURON = LIF(tau_mem=0.02, v_threshold=0.5)


def test_silence_longer_than_many_windows() -> None:
    """A spike, 4,000 steps of nothing but errors, and the next spike collects all of it; also where the traces were given up in between."""
    steps = 4100
    for rule in (RULE, replace(RULE, kappa=0.999), replace(RULE, kappa_reg=0.9)):
        network = make_network(rule, replace(NEURON, bias=0.02), NEURON)
        spikes = bursts(3, steps, 0.05, (60, 4060))
        pair = run_both(network, steps, spikes)
        assert pair.distance() < 1e-9
        clock = pair.anchored.state()["clock"]
        assert clock[5] > 3000  # the anchor has moved on


def test_window_follows_from_the_decays() -> None:
    """At the window that the engine chooses for the fastest decay the error stays below 1e-9; four times that length loses digits."""
    for kappa, tau in ((0.97, 0.03), (0.6, 0.01), (0.999, 0.0015)):
        network = make_network(replace(RULE, kappa=kappa, kappa_reg=kappa), replace(NEURON, tau_mem=tau, bias=0.01))
        spikes = bursts(1, 1500, 0.05)
        pair = run_both(network, 1500, spikes)
        chosen = int(pair.anchored.state()["clock"][8])
        smallest = min(kappa, float(np.exp(-1e-3 / tau)), float(np.exp(-1e-3 / 0.02)))
        assert smallest**-chosen <= 1e4 < smallest ** -(chosen + 1)
        assert pair.distance() < 1e-9
        far = Simulator(network, algorithm="anchored", window_steps=4 * chosen)
        far.run(1500, spikes={"in": spikes}, signals={"out": errors_to(5, 1500)})
        worse = max(np.abs(far.weights()[n] - w).max() for n, w in pair.loop.weights().items())
        better = max(np.abs(pair.anchored.weights()[n] - w).max() for n, w in pair.loop.weights().items())
        assert worse > 100 * better


def test_adaptation_that_changes_sign() -> None:
    """beta psi > rho makes the response of epsilon negative, beta psi near rho makes it vanish: new anchors come sooner."""
    rule = replace(RULE, surrogate=Surrogate(height=1.5, width=2.0))
    for beta in (0.3, 0.7, 0.95, 1.6):
        network = make_network(rule, ALIF(tau_mem=0.02, v_threshold=0.5, adapt_beta=beta, adapt_tau=0.05), sizes=(8,))
        pair = run_both(network, 600, bursts(2, 600, 0.1))
        assert pair.distance() < 1e-9
        assert pair.anchored.state()["clock"][5] >= 600 - 100


def test_learning_stands_still_and_goes_on() -> None:
    network = make_network(RULE, NEURON, ALIF(tau_mem=0.02, v_threshold=0.5, adapt_beta=0.1, adapt_tau=0.2))
    spikes = bursts(4, 500, 0.08)
    weights = []
    for algorithm in ("loop", "anchored"):
        simulator = Simulator(network, algorithm=algorithm)
        for n, learn in ((150, True), (90, False), (120, True), (3, False), (100, True)):
            simulator.run(n, spikes={"in": spikes}, signals={"out": errors_to(5, n, simulator.step)}, learn=learn)
        weights.append(simulator.weights())
    for name, values in weights[0].items():
        np.testing.assert_allclose(weights[1][name], values, rtol=0, atol=1e-11, err_msg=name)


def test_recorded_signals_and_traces() -> None:
    network = make_network(RULE, NEURON, ALIF(tau_mem=np.linspace(0.01, 0.03, 7), v_threshold=0.5, adapt_beta=0.1, adapt_tau=0.2))
    options = RecordOptions(
        learning_signal={"h0": None, "out": [1]},
        surrogate={"h1": None},
        traces=("in->h0", "h1->h1", "h0->out"),
        weights=("in->h0",),
        every=7,
    )
    spikes = {"in": bursts(6, 300, 0.08)}
    first, second = (
        Simulator(network, algorithm=a).run(300, spikes=spikes, signals={"out": errors_to(5, 300)}, record=options)
        for a in ("loop", "anchored")
    )
    for name in ("h0", "out"):
        np.testing.assert_allclose(second.learning_signal[name], first.learning_signal[name], rtol=1e-9, atol=1e-12)
        assert np.abs(first.learning_signal[name]).max() > 0.1
    np.testing.assert_allclose(second.surrogate["h1"], first.surrogate["h1"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(second.weights["in->h0"], first.weights["in->h0"], rtol=0, atol=1e-11)
    for name, traces in first.traces.items():
        for kind, values in traces.items():
            if kind == "zbar" or name != "h0->out":  # a readout's gradient has no ebar
                np.testing.assert_allclose(second.traces[name][kind], values, rtol=1e-8, atol=1e-9, err_msg=f"{name} {kind}")
                assert np.abs(values).max() > 0.1


@pytest.mark.parametrize("threads", [1, 2])
def test_ranges_and_threads_give_the_same_bits(threads: int) -> None:
    network = make_network(RULE, NEURON, ALIF(tau_mem=0.02, v_threshold=0.5, adapt_beta=0.9, adapt_tau=0.05), sizes=(40, 31))
    spikes, signal = {"in": bursts(7, 400, 0.08)}, {"out": errors_to(5, 400)}
    one = Simulator(network, algorithm="anchored", threads=1, ranges=1)
    expected = one.run(400, spikes=spikes, signals=signal)
    assert expected.n_spikes["h1"] > 50
    for ranges in (2, 3, 11):
        other = Simulator(network, algorithm="anchored", threads=threads, ranges=ranges)
        got = other.run(400, spikes=spikes, signals=signal)
        for name, values in one.weights().items():
            np.testing.assert_array_equal(other.weights()[name], values, err_msg=f"{ranges} ranges, {name}")
        np.testing.assert_array_equal(got.outputs["out"], expected.outputs["out"])
        for name, fired in expected.spikes.items():
            np.testing.assert_array_equal(got.spikes[name].neuron, fired.neuron)
        assert got.n_synaptic_events == expected.n_synaptic_events


def test_a_state_is_restored_by_its_own_ranges_alone() -> None:
    """Arrays of other ranges may have the same shapes, and other synapses in each row."""
    network = make_network(RULE, NEURON, NEURON, sizes=(40, 31))
    saved = Simulator(network, algorithm="anchored", ranges=2)
    saved.run(100, spikes={"in": bursts(7, 100, 0.08)}, signals={"out": errors_to(5, 100)})
    state = saved.state()
    Simulator(network, algorithm="anchored", ranges=2).restore(state)
    moved = state | {"range": state["range"] + np.array([0, 1, 0])}
    for ranges, saved_by, said in ((1, state, "by 2 ranges of neurons, this simulator has 1"), (2, moved, "2 others")):
        with pytest.raises(InputError, match=f"NC235.*{said}"):
            Simulator(network, algorithm="anchored", ranges=ranges).restore(saved_by)


def test_synapses_made_in_place_are_the_described_ones() -> None:
    """Without connections every block is realised where it is placed: the same synapses, weights and results."""
    network = make_network(RULE, NEURON, NEURON, sizes=(50, 60))
    given = realise_all(network)
    made = Simulator(network, algorithm="anchored", ranges=3)
    told = Simulator(network, given, algorithm="anchored", ranges=2)
    for name, connections in given.items():
        np.testing.assert_array_equal(made.weights()[name], connections.weight)
        np.testing.assert_array_equal(told.weight(name), connections.weight)
    for simulator in (made, told):
        simulator.run(200, spikes={"in": bursts(8, 200, 0.1)}, signals={"out": errors_to(5, 200)})
    for name, values in told.weights().items():
        np.testing.assert_array_equal(made.weights()[name], values)


def test_single_precision_error() -> None:
    """Synapses in float32 (weight and traces; sums in float64): the change of the weights is right to 1e-3 of the largest change while the
    spike trains agree. Its rounding step is 6e-8 of a weight, so much smaller updates are lost."""
    network = make_network(replace(RULE, optimizer=GradientDescent(learning_rate=1e-4)), NEURON, NEURON)
    pair = run_both(network, 500, bursts(9, 500, 0.05), precision="float32")
    assert 1e-12 < pair.distance() < 1e-3


def test_memory_of_a_synapse() -> None:
    """Everything a plastic synapse costs, row pointers and per-source state included, at 150 synapses a neuron."""

    def network(rule: EProp, model: LIF) -> Network:
        return Network(
            name="memory",
            dt=1e-3,
            populations=(
                Population(name="in", size=100, model=SpikeSource()),
                Population(name="h", size=1000, model=model),
                Population(name="out", size=2, model=LeakyReadout(tau_mem=0.02)),
            ),
            projections=(
                Projection(pre="in", post="h", connect=FixedInDegree(degree=50), learning=rule.name),
                Projection(pre="h", post="h", connect=FixedInDegree(degree=100), learning=rule.name),
                Projection(pre="h", post="out", connect=AllToAll(), learning=rule.name),
            ),
            rules=(rule,),
            task=Task(readout="out"),
        )

    two_filters = replace(RULE, kappa_reg=0.9)
    alif = ALIF(tau_mem=0.02, v_threshold=0.5, adapt_beta=0.02, adapt_tau=1.0)
    for rule, model, precision, limit in (
        (RULE, NEURON, "float64", 29.0),
        (two_filters, NEURON, "float64", 37.0),
        (RULE, alif, "float64", 37.0),
        (RULE, NEURON, "float32", 17.0),
        (two_filters, alif, "float32", 25.0),
    ):
        simulator = Simulator(network(rule, model), algorithm="anchored", precision=precision)
        assert simulator.bytes_per_plastic_synapse() < limit
        state = simulator.state()
        simulator.run(300)
        assert {k: v.nbytes for k, v in simulator.state().items()} == {k: v.nbytes for k, v in state.items()}  # nothing grows


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"optimizer": Adam()}, "Adam"),
        ({"optimizer": GradientDescent(each_step=True)}, "every step"),
        ({"trace_cutoff_steps": 50}, "cutoff"),
        ({"kappa": 0.0}, "fastest decay"),
        ({"kappa": 0.01}, "fastest decay"),
    ],
)
def test_the_loop_takes_what_is_not_linear(change: dict[str, Any], reason: str) -> None:
    network = make_network(replace(RULE, **change), NEURON)
    simulator = Simulator(network)
    assert simulator.algorithm == "loop"
    assert reason in simulator.reason
    with pytest.raises(InputError, match="NC251.*" + reason):
        Simulator(network, algorithm="anchored")
    with pytest.raises(InputError, match="NC251"):
        Simulator(network, precision="float32")


def test_the_anchored_form_is_the_default() -> None:
    simulator = Simulator(make_network(RULE, NEURON))
    assert simulator.algorithm == "anchored"
    assert isinstance(simulator._engine, AnchoredEngine)
    assert Simulator(make_network(RULE, NEURON), algorithm="loop").algorithm == "loop"
    for wrong in ({"algorithm": "fast"}, {"precision": "float16"}, {"threads": 0}, {"threads": 10_000}):
        with pytest.raises(InputError, match="NC251"):
            Simulator(make_network(RULE, NEURON), **wrong)  # type: ignore[arg-type]
