"""Learning from reward: the engine beside the definition, between its algorithms, and what it takes and refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import Recording, RecordOptions, Simulator
from neurocompile.backends.reference.simulator import max_threads
from neurocompile.ir import (
    ALIF,
    LIF,
    ActorCritic,
    Adam,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    Normal,
    PerEvent,
    PerInterval,
    RandomFeedback,
    Regularization,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.errors import InputError
from neurocompile.ir.realise import realise_feedback
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.reference.dense_reward import N_ACTIONS, STEPS, Array, Bools, Setup, dense, make_setup
from tests.backends.reference.reward_networks import ADAPTIVE, HIDDEN, LAYERS, LOSS, RULE, drive, large
from tests.backends.reference.test_eprop_oracle import hiddens

ALWAYS = np.ones(STEPS, bool)


def run(setup: Setup, learn: Bools, *, cut: int = 0, flush: bool = False, **options: Any) -> tuple[Simulator, list[Recording]]:
    """Run the engine, cut where ``learn`` changes and at ``cut``."""
    simulator = Simulator(setup.network, **options)
    step, neuron = np.nonzero(setup.spikes)
    cuts = sorted({0, cut, STEPS, *(np.flatnonzero(np.diff(learn)) + 1).tolist()})
    found = [
        simulator.run(
            stop - start,
            spikes={"in": Spikes(neuron=neuron.astype(np.int32), step=step)},
            signals={"out": setup.signal.part(start, stop)},
            learn=bool(learn[start]),
        )
        for start, stop in itertools.pairwise(cuts)
    ]
    if flush:
        simulator.flush()
    return simulator, found


def matrices(setup: Setup, simulator: Simulator) -> dict[str, Array]:
    found = {}
    for name, start in setup.weights.items():
        connect = setup.network.projection(name).connect
        assert isinstance(connect, Explicit)
        found[name] = start.copy()
        found[name][connect.pre, connect.post] = simulator.weight(name)
    return found


def joined(recordings: list[Recording], what: str) -> Any:
    return np.concatenate([getattr(r, what) for r in recordings])


def compare(setup: Setup, *, learn: Bools = ALWAYS, **how: Any) -> float:
    """Both algorithms (where the anchored one can run the rule) beside the definition; return the largest change of a weight.

    Sums are taken in another order: 1e-9 of what changed leaves three digits to the windows' 1e4 and to Adam's division by sqrt(v)."""
    history = how.pop("history_steps", 8)
    changed = 0.0
    for algorithm in dict.fromkeys(("loop", Simulator(setup.network).algorithm)):
        simulator, recordings = run(setup, learn, algorithm=algorithm, history_steps=history, **how)
        actions = joined(recordings, "actions")
        np.testing.assert_array_equal(actions >= 0, setup.signal.window)
        expected = dense(setup, actions, learn, flush=how.get("flush", False))
        np.testing.assert_allclose(np.concatenate([r.outputs["out"] for r in recordings]), expected.outputs, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(joined(recordings, "rewards"), expected.rewards, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(joined(recordings, "td_errors"), expected.td_errors, rtol=1e-9, atol=1e-10)
        for name, got in matrices(setup, simulator).items():
            change = np.abs(expected.weights[name] - setup.weights[name]).max()
            scale = max(change, 1e-3 * np.abs(setup.weights[name]).max())  # a change is rounded to the digits of the weight
            np.testing.assert_allclose(got, expected.weights[name], rtol=0, atol=1e-9 * scale, err_msg=f"{algorithm} {name}")
            changed = max(changed, change)
    return changed


optimizers = st.one_of(
    st.builds(GradientDescent, learning_rate=st.floats(1e-5, 1e-3), each_step=st.sampled_from([False, False, True])),
    st.builds(Adam, learning_rate=st.floats(1e-5, 1e-3), each_step=st.booleans(), epsilon=st.just(1e-2)),
)
rules = st.builds(
    EProp,
    surrogate=st.builds(Surrogate, kind=st.sampled_from(SurrogateKind), height=st.floats(0.1, 1.0), width=st.floats(0.2, 2.0)),
    kappa=st.sampled_from([0.0, 0.5, 0.9, 0.97]),
    kappa_reg=st.sampled_from([0.5, 0.9, 0.97]),
    regularization=st.one_of(st.none(), st.builds(Regularization, strength=st.floats(0.0, 0.5), rate=st.floats(0.0, 60.0))),
    optimizer=optimizers,
    update=st.one_of(st.just(PerEvent()), st.builds(PerInterval, steps=st.integers(1, 30))),
    weight_bounds=st.sampled_from([(-100.0, 100.0), (-0.6, 0.7)]),
    sign_constraint=st.booleans(),
    trace_cutoff_steps=st.one_of(st.none(), st.none(), st.integers(2, 25)),
)
losses = st.builds(
    ActorCritic,
    critic=st.just("critic"),
    discount=st.sampled_from([0.0, 0.3, 0.6, 0.9, 0.99, 0.9995]),
    critic_weight=st.sampled_from([0.0, 0.5, 2.0]),
    reward_delay_steps=st.sampled_from([0, 1, 7, 200]),
)
FEEDBACKS = ("random", "symmetric", "explicit", "projection")


@pytest.mark.slow
@settings(max_examples=70, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    rule=rules,
    hidden=hiddens,
    loss=losses,
    feedback=st.sampled_from(FEEDBACKS),
    flush=st.booleans(),
    history=st.sampled_from([8, 32, 256]),
    cut=st.integers(1, STEPS - 1),
    pause=st.tuples(st.integers(0, STEPS), st.integers(0, 30)),
    delays=st.one_of(st.just((1, 1, 1, 1)), st.tuples(*[st.integers(1, 9)] * 4)),
)
def test_engine_equals_definition(
    seed: int,
    rule: EProp,
    hidden: dict[str, Any],
    loss: ActorCritic,
    feedback: str,
    flush: bool,
    history: int,
    cut: int,
    pause: tuple[int, int],
    delays: tuple[int, int, int, int],
) -> None:
    setup = make_setup(seed, rule, hidden, loss, feedback, delays)
    learn = np.ones(STEPS, bool)
    learn[pause[0] : sum(pause)] = False
    compare(setup, learn=learn, flush=flush, cut=cut, history_steps=history)


@pytest.mark.parametrize("hidden", [HIDDEN, ADAPTIVE])
@pytest.mark.parametrize("feedback", FEEDBACKS)
@pytest.mark.parametrize("window", [3, 20])
def test_anchored_form_equals_definition(hidden: dict[str, Any], feedback: str, window: int) -> None:
    """The anchored form by name, with anchors from 3 steps on, and it learns in every projection."""
    for rule in (RULE, replace(RULE, kappa_reg=0.8), replace(RULE, update=PerInterval(steps=7))):
        setup = make_setup(4, rule, hidden, LOSS, feedback)
        assert Simulator(setup.network).algorithm == "anchored"
        simulator, recordings = run(setup, ALWAYS, algorithm="anchored", window_steps=window, flush=True)
        expected = dense(setup, joined(recordings, "actions"), ALWAYS, flush=True)
        for name, got in matrices(setup, simulator).items():
            change = np.abs(expected.weights[name] - setup.weights[name]).max()
            assert change > 1e-6, name
            np.testing.assert_allclose(got, expected.weights[name], rtol=0, atol=max(1e-9 * change, 1e-13), err_msg=name)


def test_the_definition_notices_a_difference() -> None:
    """The comparison is not empty: another discount, critic weight or reward delay is seen in every projection that it acts on."""
    setup = make_setup(4, RULE, HIDDEN, LOSS, "random")
    simulator, recordings = run(setup, ALWAYS)
    assert sum(r.n_spikes["hidden"] for r in recordings) > 50
    got = matrices(setup, simulator)
    for change in ({"discount": 0.91}, {"critic_weight": 0.6}, {"reward_delay_steps": 4}):
        task = Task(readout="out", loss=replace(LOSS, **change))
        other = dense(replace(setup, network=replace(setup.network, task=task)), joined(recordings, "actions"), ALWAYS)
        for name, weights in got.items():
            if name != "hidden->out" or "critic_weight" not in change:
                assert np.abs(other.weights[name] - weights).max() > 1e-8, (change, name)


def test_long_run_with_silence() -> None:
    """Both algorithms over many anchors and a silence after which traces are given up: 1e-9 of the largest change."""
    layers = (LIF(tau_mem=0.02, v_threshold=0.4), ALIF(tau_mem=0.02, v_threshold=0.3, adapt_beta=0.1, adapt_tau=0.2))
    network = large(RULE, *layers, size=12)
    steps = 3000
    rng = np.random.default_rng(1)
    on = rng.random((steps, 6)) < 0.05
    on[300:2700] = False
    step, neuron = np.nonzero(on)
    signal = Signal(target=rng.normal(size=(steps, N_ACTIONS)), window=rng.random(steps) < 0.7, reward=rng.normal(size=steps) * 0.1)
    runs = {}
    for algorithm in ("loop", "anchored"):
        simulator = Simulator(network, algorithm=algorithm)
        before = simulator.weights()
        signals = {"out": signal, "other": Signal(target=np.ones((steps, 2)), window=np.ones(steps, bool))}
        simulator.run(steps, spikes={"in": Spikes(neuron=neuron.astype(np.int32), step=step)}, signals=signals)
        runs[algorithm] = simulator.weights()
    for name, weights in runs["loop"].items():
        change = np.abs(weights - before[name]).max()
        assert change > 1e-6
        assert np.abs(runs["anchored"][name] - weights).max() < 1e-9 * change, name


def test_a_readout_with_a_target_of_its_own_is_not_modulated() -> None:
    """Its synapses learn as in the same network whose spikes are the same and that knows no reward (static but for them)."""
    network = large(RULE, *LAYERS)
    frozen = [replace(p, learning="eprop" if p.post == "other" else None) for p in network.projections]
    plain = replace(network, projections=tuple(frozen), task=Task(readout="other"))
    reward = replace(network, projections=tuple(frozen))
    found = []
    for net in (plain, reward):
        simulator = Simulator(net)
        given = drive(400)
        simulator.run(400, spikes=given["spikes"], signals=given["signals"] if net is reward else {"other": given["signals"]["other"]})
        found.append(simulator.weights())
    np.testing.assert_array_equal(found[0]["h1->other"], found[1]["h1->other"])
    assert np.abs(found[0]["h1->other"] - Simulator(plain).weight("h1->other")).max() > 1e-6


@pytest.mark.parametrize("threads", [1, 2])
def test_ranges_and_threads_give_the_same_bits(threads: int) -> None:
    if threads > max_threads():
        pytest.skip("one core")
    network = large(RULE, *LAYERS)
    one = Simulator(network, algorithm="anchored")
    expected = one.run(400, **drive(400))
    for ranges in (2, 5):
        other = Simulator(network, algorithm="anchored", threads=threads, ranges=ranges)
        got = other.run(400, **drive(400))
        np.testing.assert_array_equal(got.td_errors, expected.td_errors)
        np.testing.assert_array_equal(got.actions, expected.actions)
        for name, values in one.weights().items():
            np.testing.assert_array_equal(other.weight(name), values, err_msg=name)


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_a_saved_state_goes_on_bit_for_bit(algorithm: str) -> None:
    """Rewards under way, V and reward of the last step, filters: the second half from a saved state is that of the whole run."""
    network = large(RULE, *LAYERS, loss=replace(LOSS, reward_delay_steps=40))
    whole = Simulator(network, algorithm=algorithm)
    expected = whole.run(400, **drive(400))
    first = Simulator(network, algorithm=algorithm)
    first.run(171, **drive(171))
    second = Simulator(network, algorithm=algorithm)
    second.restore(first.state())
    rest = second.run(229, **drive(229, 171))
    assert expected.rewards is not None
    assert expected.actions is not None
    assert expected.td_errors is not None
    np.testing.assert_array_equal(rest.rewards, expected.rewards[171:])
    np.testing.assert_array_equal(rest.actions, expected.actions[171:])
    np.testing.assert_array_equal(rest.td_errors, expected.td_errors[171:])
    for name, values in whole.weights().items():
        np.testing.assert_array_equal(second.weight(name), values, err_msg=name)


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_reset_dynamics_forgets_what_is_under_way(algorithm: str) -> None:
    """After a reset a simulator with changed weights equals a new one that begins with them (but for the actions' numbers, which follow
    the absolute step: with one action in the window's stead there is nothing to draw)."""
    network = large(RULE, *LAYERS, loss=replace(LOSS, reward_delay_steps=40))
    used = Simulator(network, algorithm=algorithm)
    used.run(200, **drive(200))
    used.reset_dynamics()
    fresh = Simulator(network, algorithm=algorithm)
    fresh.set_weights(used.weights())
    given = drive(200)
    quiet = Signal(target=np.zeros((200, N_ACTIONS)), window=np.zeros(200, bool), reward=given["signals"]["out"].reward)
    outcome = []
    for simulator in (used, fresh):
        moved = Spikes(neuron=given["spikes"]["in"].neuron, step=given["spikes"]["in"].step + simulator.step)
        outcome.append(simulator.run(200, spikes={"in": moved}, signals={"out": quiet}))
    np.testing.assert_array_equal(outcome[0].rewards, outcome[1].rewards)
    np.testing.assert_array_equal(outcome[0].td_errors, outcome[1].td_errors)
    for name, values in fresh.weights().items():
        np.testing.assert_allclose(used.weight(name), values, rtol=0, atol=1e-13, err_msg=name)  # another anchor, other roundings
    if algorithm == "loop":
        np.testing.assert_array_equal(outcome[0].outputs["critic"], outcome[1].outputs["critic"])


def test_without_learning_the_policy_acts_and_nothing_changes() -> None:
    network = large(RULE, *LAYERS)
    simulator = Simulator(network)
    before = simulator.weights()
    result = simulator.run(300, **drive(300), learn=False)
    window = drive(300)["signals"]["out"].window
    assert result.actions is not None
    assert result.rewards is not None
    np.testing.assert_array_equal(result.actions >= 0, window)
    assert np.count_nonzero(result.rewards) > 150
    for name, values in simulator.weights().items():
        np.testing.assert_array_equal(values, before[name])


def test_single_precision() -> None:
    """Traces and filtered gradients of 24 bits: the change of the weights is right to 1e-3 of the largest, and is not that of float64."""
    network = large(RULE, *LAYERS)
    network = replace(network, rules=(replace(network.rules[0], optimizer=GradientDescent(learning_rate=1e-5)),))
    double, single = Simulator(network), Simulator(network, precision="float32")
    before = double.weights()
    for simulator in (double, single):
        simulator.run(200, **drive(200))
    for name, weights in double.weights().items():
        change = np.abs(weights - before[name]).max()
        assert 0.0 < np.abs(single.weight(name) - weights).max() < 1e-3 * change + 1e-7, name  # 1e-7: half a step of a weight of 1


def test_the_feedback_has_a_row_for_the_critic() -> None:
    rule = replace(RULE, feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)))
    network = make_setup(1, rule, HIDDEN, LOSS, "random").network
    supervised = replace(network, task=Task(readout="out"))
    drawn, plain = realise_feedback(network, rule, "hidden"), realise_feedback(supervised, rule, "hidden")
    assert drawn is not None
    assert plain is not None
    assert drawn.shape == (N_ACTIONS + 1, 5)
    np.testing.assert_array_equal(drawn[:-1], plain)  # counter-based numbers: the others stay
    assert (drawn[-1] != 0).all()
    back = make_setup(1, rule, HIDDEN, LOSS, "projection").network
    assert isinstance(back.rules[0], EProp)
    found = realise_feedback(back, back.rules[0], "hidden")
    assert found is not None
    assert (found[-1] == 0).all()
    assert (found[:-1] != 0).all()


def test_what_the_loop_takes_and_why() -> None:
    for loss, algorithm in ((replace(LOSS, discount=0.0), "loop"), (replace(LOSS, discount=0.4), "loop"), (LOSS, "anchored")):
        simulator = Simulator(make_setup(1, replace(RULE), HIDDEN | {}, loss, "random").network)
        assert simulator.algorithm == algorithm
        if algorithm == "loop":
            assert f"fastest decay of a trace, {loss.discount:g} a step" in simulator.reason


def test_recorded_errors() -> None:
    """NEST's recordable of a readout is its error: of the policy 0 outside the window, of the critic minus its weight in every step."""
    network = large(RULE, *LAYERS)
    options = RecordOptions(learning_signal={"out": None, "critic": None, "h0": [0]})
    result = Simulator(network).run(100, **drive(100), record=options)
    window = drive(100)["signals"]["out"].window
    errors = result.learning_signal["out"]
    y = result.outputs["out"]
    assert result.actions is not None
    expected = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True) - np.eye(N_ACTIONS)[result.actions]
    np.testing.assert_allclose(errors, np.where(window[:, None], expected, 0.0), rtol=0, atol=1e-14)
    assert (result.learning_signal["critic"] == -0.5).all()


def test_networks_without_reward_record_none() -> None:
    network = replace(large(RULE, *LAYERS), task=Task(readout="out"))
    network = replace(network, rules=(replace(network.rules[0], feedback=SymmetricFeedback()),))
    result = Simulator(network).run(5)
    assert (result.actions, result.rewards, result.td_errors) == (None, None, None)


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (
            lambda n: {"critic": Signal(target=np.zeros((n, 1)), window=np.ones(n, bool))},
            ["critic 'critic'", "rewards to the policy 'out'"],
        ),
        (lambda n: {"other": Signal(target=np.zeros((n, 2)), window=np.ones(n, bool), reward=np.ones(n))}, ["no policy", "actor_critic"]),
    ],
)
def test_signals_for_the_wrong_readout(signals: Callable[[int], dict[str, Signal]], words: list[str]) -> None:
    with pytest.raises(InputError, match="NC207") as caught:
        Simulator(large(RULE, *LAYERS)).run(5, signals=signals(5))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("reward", "code"), [(np.zeros(4), "NC202"), (np.zeros((5, 1)), "NC202"), (np.full(5, np.nan), "NC203"), (np.array(["1"] * 5), "NC202")]
)
def test_rewards_that_are_none(reward: Any, code: str) -> None:
    with pytest.raises(InputError, match=code):
        Signal(target=np.zeros((5, 2)), window=np.ones(5, bool), reward=reward)


def test_explicit_feedback_reaches_the_critic_and_no_further() -> None:
    network = make_setup(1, RULE, HIDDEN, LOSS, "explicit").network
    beyond = ExplicitFeedback(connections=Explicit(pre=[N_ACTIONS + 1], post=[0], weight=[1.0]))
    with pytest.raises(InputError, match=r"NC204.*'out' has 3 neurons \(then follows the critic\)"):
        replace(network, rules=(replace(network.rules[0], feedback=beyond),))
