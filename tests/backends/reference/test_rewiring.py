"""Rewiring (DEEP R): beside its definition, between the engines, and its invariants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare

from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.backends.reference.kernels.rewiring import draw_pairs
from neurocompile.ir import (
    ALIF,
    LIF,
    ActorCritic,
    AllToAll,
    Constant,
    EProp,
    Explicit,
    FixedProbability,
    GradientDescent,
    KappaLearning,
    LeakyReadout,
    Network,
    Normal,
    PerEvent,
    PerInterval,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    Rewiring,
    SpikeSource,
    Surrogate,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.counter_rng import stream_key
from neurocompile.ir.errors import InputError
from neurocompile.ir.realise import Connections, realise
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.reference.dense_rewiring import allowed_pairs, dense, move

N_IN, N_HIDDEN, N_OUT = 5, 6, 2
NEURON = LIF(tau_mem=0.02, v_threshold=0.5)
RULE = EProp(
    surrogate=Surrogate(height=0.8, width=0.6),
    regularization=Regularization(strength=0.05, rate=10.0),
    feedback=SymmetricFeedback(),
    optimizer=GradientDescent(learning_rate=1e-4),
    sign_constraint=True,
    rewiring=Rewiring(every_steps=50, l1=1e-3, noise=4e-3),
)
ENDS = (("in", "hidden", 0.3), ("hidden", "hidden", 0.25), ("hidden", "out", 0.3))
SIZES = {"in": N_IN, "hidden": N_HIDDEN, "out": N_OUT}


def lists(seed: int, density: float, longest: int) -> tuple[Projection, ...]:
    """Sparse lists in random order with both signs, some weights 0, and delays of their own."""
    rng = np.random.default_rng(seed)
    found = []
    for pre, post, std in ENDS:
        chosen = rng.permutation(SIZES[pre] * SIZES[post])[: max(1, int(density * SIZES[pre] * SIZES[post]))]
        weight = rng.normal(0.1, std, len(chosen)) * (rng.random(len(chosen)) < 0.9)
        ends = (chosen // SIZES[post]).astype(np.int32), (chosen % SIZES[post]).astype(np.int32)
        delay = rng.integers(1, longest + 1, len(chosen))
        found.append(
            Projection(pre=pre, post=post, connect=Explicit(pre=ends[0], post=ends[1], weight=weight, delay=delay), learning="eprop")
        )
    return tuple(found)


def drawn(density: float) -> tuple[Projection, ...]:
    connect = {post: FixedProbability(probability=density, allow_autapses=False) for _, post, _ in ENDS}
    return tuple(
        Projection(pre=pre, post=post, connect=connect[post], weight=Normal(mean=0.1, std=std), learning="eprop") for pre, post, std in ENDS
    )


def make(
    rule: EProp, hidden: LIF = NEURON, *, projections: tuple[Projection, ...] | None = None, seed: int = 1, sizes: Mapping[str, int] = SIZES
) -> Network:
    models = {"in": SpikeSource(), "hidden": hidden, "out": LeakyReadout(tau_mem=0.02)}
    return Network(
        name="rewired",
        dt=1e-3,
        seed=seed,
        populations=tuple(Population(name=name, size=sizes[name], model=model) for name, model in models.items()),
        projections=drawn(0.4) if projections is None else projections,
        rules=(rule,),
        task=Task(readout="out"),
    )


def fired(seed: int, steps: int, share: float = 0.1, n: int = N_IN) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(seed).random((steps, n)) < share


def as_spikes(on: npt.NDArray[np.bool_]) -> dict[str, Spikes]:
    step, neuron = np.nonzero(on)
    return {"in": Spikes(neuron=neuron.astype(np.int32), step=step)}


def errors_to(seed: int, steps: int, first: int = 0) -> dict[str, Signal]:
    rng = np.random.default_rng(seed)
    target, window = rng.uniform(-1, 1, (5000, N_OUT)), rng.random(5000) < 0.8
    return {"out": Signal(target=target[first : first + steps], window=window[first : first + steps])}


def assert_same(left: Connections, right: Connections, tolerance: float = 0.0, message: str = "") -> None:
    np.testing.assert_array_equal(left.pre, right.pre, err_msg=message)
    np.testing.assert_array_equal(left.post, right.post, err_msg=message)
    np.testing.assert_array_equal(left.delay, right.delay, err_msg=message)
    np.testing.assert_allclose(left.weight, right.weight, rtol=0, atol=tolerance, err_msg=message)


def wiring(simulator: Simulator) -> dict[str, Connections]:
    return {name: simulator.connections(name) for name in simulator.rewired}


rewirings = st.builds(
    Rewiring, every_steps=st.integers(7, 60), l1=st.floats(1e-5, 5e-3), noise=st.one_of(st.just(0.0), st.floats(1e-4, 2e-2))
)
rules = st.builds(
    EProp,
    surrogate=st.builds(Surrogate, height=st.floats(0.1, 1.0), width=st.floats(0.3, 2.0)),
    kappa=st.floats(0.5, 0.98),
    kappa_reg=st.floats(0.5, 0.98),
    regularization=st.one_of(st.none(), st.builds(Regularization, strength=st.floats(0.0, 1.0), rate=st.floats(0.0, 60.0))),
    feedback=st.sampled_from([SymmetricFeedback(), RandomFeedback(weight=Normal(mean=0.0, std=1.0))]),
    optimizer=st.builds(GradientDescent, learning_rate=st.floats(1e-5, 1e-3)),
    update=st.one_of(st.just(PerEvent()), st.builds(PerInterval, steps=st.integers(2, 30))),
    weight_bounds=st.sampled_from([(-100.0, 100.0), (-0.6, 0.5)]),
    sign_constraint=st.just(True),
    rewiring=rewirings,
)
hiddens = st.one_of(
    st.builds(LIF, tau_mem=st.just(0.02), v_threshold=st.floats(0.3, 0.7), t_ref=st.sampled_from([0.0, 0.002])),
    st.builds(LIF, tau_mem=st.just(np.linspace(0.008, 0.03, N_HIDDEN)), v_threshold=st.just(0.5)),
    st.builds(
        ALIF, tau_mem=st.just(0.02), v_threshold=st.just(0.5), adapt_beta=st.floats(0.0, 0.2), adapt_tau=st.sampled_from([0.02, 0.2])
    ),
)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    rule=rules,
    hidden=hiddens,
    density=st.sampled_from([0.2, 0.5, 0.9]),
    longest=st.sampled_from([1, 4]),
    flush=st.booleans(),
    cut=st.integers(1, 149),
)
def test_engines_equal_the_definition(seed: int, rule: EProp, hidden: LIF, density: float, longest: int, flush: bool, cut: int) -> None:
    """Sums are taken in another order, so agreement is to rounding; who moves, and where to, is exact."""
    steps = 150
    projections = tuple(
        replace(p, connect=replace(p.connect, weight=np.clip(p.connect.weight, *rule.weight_bounds)))  # type: ignore[type-var,arg-type]
        for p in lists(seed, density, longest)
    )
    network, on, signals = make(rule, hidden, projections=projections, seed=seed), fired(seed, steps), errors_to(seed, steps)
    expected, outputs, spikes = dense(network, on, signals["out"], flush=flush)
    for algorithm in ("loop", "anchored"):
        simulator = Simulator(network, algorithm=algorithm, history_steps=16)
        first = simulator.run(cut, spikes=as_spikes(on), signals=errors_to(seed, cut))
        second = simulator.run(steps - cut, spikes=as_spikes(on), signals=errors_to(seed, steps - cut, cut))
        if flush:
            simulator.flush()
        np.testing.assert_allclose(np.concatenate([first.outputs["out"], second.outputs["out"]]), outputs, rtol=1e-9, atol=1e-10)
        found = np.zeros_like(spikes)
        for part in (first, second):
            found[part.spikes["hidden"].step, part.spikes["hidden"].neuron] = True
        np.testing.assert_array_equal(found, spikes, err_msg=algorithm)
        for name, slots in expected.items():
            want = Connections(
                pre=slots.pre.astype(np.int32), post=slots.post.astype(np.int32), weight=slots.w, delay=slots.delay.astype(np.uint8)
            )
            assert_same(simulator.connections(name), want, 1e-10, f"{algorithm} {name}")
            assert (simulator.n_rewired[name], simulator.n_stuck[name]) == (slots.moved, slots.stuck)


def test_the_definition_sees_moves() -> None:
    """The comparison is not empty: synapses of every projection move more than once, and another draw is seen."""
    network, steps = make(RULE, projections=lists(3, 0.4, 3)), 200
    expected, _, spikes = dense(network, fired(1, steps), errors_to(1, steps)["out"], flush=False)
    assert spikes.sum() > 20
    assert sum(slots.moved for slots in expected.values()) > 20
    assert all(slots.moved for slots in expected.values())
    other = Simulator(replace(network, seed=2))
    other.run(steps, spikes=as_spikes(fired(1, steps)), signals=errors_to(1, steps))
    assert any((other.connections(name).pre != slots.pre).any() for name, slots in expected.items())


BIG = {"in": 20, "hidden": 40, "out": N_OUT}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two filters": {"kappa_reg": 0.9},
    "intervals": {"update": PerInterval(steps=20)},
    "broadcast": {"feedback": RandomFeedback(weight=Normal(mean=0.0, std=1.0))},
}


def program(simulator: Simulator, n_in: int) -> list[dict[str, Connections]]:
    """Parts, pauses, a flush and a reset of the dynamics; return the wiring after each."""
    found = []
    on = as_spikes(fired(5, 700, 0.08, n_in))
    for n, learn, after in (
        (130, True, ""),
        (95, False, ""),
        (3, True, "flush"),
        (217, True, "reset"),
        (60, True, "flush"),
        (150, True, ""),
    ):
        simulator.run(n, spikes=on, signals=errors_to(5, n, simulator.step), learn=learn)
        if after == "flush":
            simulator.flush()
        if after == "reset":
            simulator.reset_dynamics()
        found.append(wiring(simulator))
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("adaptive", [False, True])
def test_loop_and_anchored_agree_over_several_rewirings(variant: str, adaptive: bool) -> None:
    hidden = ALIF(tau_mem=0.02, v_threshold=0.5, adapt_beta=0.1, adapt_tau=0.1) if adaptive else NEURON
    network = make(replace(RULE, **VARIANTS[variant], optimizer=GradientDescent(learning_rate=1e-5)), hidden, sizes=BIG)
    loop, anchored = (Simulator(network, algorithm=a, history_steps=32) for a in ("loop", "anchored"))
    start = loop.weights()
    for left, right in zip(program(loop, 20), program(anchored, 20), strict=True):
        for name, connections in left.items():
            assert_same(connections, right[name], 1e-9 * np.abs(connections.weight - start[name]).max(), name)
    assert loop.n_rewired == anchored.n_rewired
    assert sum(loop.n_rewired.values()) > 300


def test_loop_and_anchored_agree_while_learning_from_reward() -> None:
    """The filtered gradient moves with its synapse, and begins at 0."""
    critic = Population(name="critic", size=1, model=LeakyReadout(tau_mem=0.02))
    network = make(replace(RULE, optimizer=GradientDescent(learning_rate=1e-5)), sizes=BIG)
    half, weight = FixedProbability(probability=0.5), Normal(mean=0.0, std=0.1)
    heard = Projection(pre="hidden", post="critic", connect=half, weight=weight, learning="eprop")
    network = replace(
        network,
        populations=(*network.populations, critic),
        projections=(*network.projections, heard),
        task=Task(readout="out", loss=ActorCritic(critic="critic", discount=0.9)),
    )
    loop, anchored = (Simulator(network, algorithm=a, history_steps=32) for a in ("loop", "anchored"))
    start = loop.weights()
    for left, right in zip(program(loop, 20), program(anchored, 20), strict=True):
        for name, connections in left.items():
            assert_same(connections, right[name], 1e-9 * np.abs(connections.weight - start[name]).max(), name)
    assert all(loop.n_rewired.values())
    assert loop.n_rewired == anchored.n_rewired


def test_kappas_that_are_learnt_begin_anew_with_the_synapse() -> None:
    network = make(replace(RULE, kappa_learning=KappaLearning(learning_rate=0.1)), sizes=BIG)
    simulator = Simulator(network)
    simulator.run(150, spikes=as_spikes(fired(5, 300, 0.2, 20)), signals=errors_to(5, 150))
    before, kappa = simulator.connections("in->hidden"), simulator.kappa("in->hidden")
    assert (kappa != 0.97).sum() > 20
    simulator._rewire(150, {50})
    after = simulator.connections("in->hidden")
    moved = (before.pre != after.pre) | (before.post != after.post)
    assert (kappa[moved] != 0.97).any()
    np.testing.assert_array_equal(simulator.kappa("in->hidden"), np.where(moved, 0.97, kappa))


@pytest.mark.parametrize("threads", [1, 2])
def test_ranges_and_threads_give_the_same_bits(threads: int) -> None:
    network = make(RULE, sizes=BIG)
    one = Simulator(network, algorithm="anchored")
    expected = program(one, 20)
    for ranges in (2, 3, 11):
        other = Simulator(network, algorithm="anchored", threads=threads, ranges=ranges)
        for want, got in zip(expected, program(other, 20), strict=True):
            for name, connections in want.items():
                assert_same(got[name], connections)
        assert other.n_rewired == one.n_rewired
        assert other.n_synaptic_events == one.n_synaptic_events


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_tables_are_those_of_a_fresh_layout(algorithm: str) -> None:
    """A simulator built from the moved connections has the same tables, so that its sums go in the same order."""
    fixed = Projection(name="fixed", pre="hidden", post="out", connect=AllToAll(), weight=Constant(value=0.1))
    network = make(RULE, projections=(fixed, *lists(4, 0.4, 3)))
    simulator = Simulator(network, algorithm=algorithm)
    simulator.run(320, spikes=as_spikes(fired(2, 320)), signals=errors_to(2, 320))
    assert min(simulator.n_rewired.values()) > 0
    moved = {p.name: simulator.connections(p.name) for p in network.projections}
    fresh = Simulator(network, moved, algorithm=algorithm)
    old, new = simulator.state(), fresh.state()
    names = [n for n in new if n in {"tag", "target", "pointer", "place", "sign", "synapse", "eprop_weight"} or n.startswith("symmetric_")]
    assert len(names) >= 8
    for name in names:
        if name == "synapse":
            np.testing.assert_array_equal(new[name][:, 0], old[name][:, 0])
        else:
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
@pytest.mark.parametrize("ranges", [1, 3])
def test_a_saved_state_goes_on_bit_for_bit(algorithm: str, ranges: int) -> None:
    """Also in a simulator that has never moved a synapse, and in one that has gone elsewhere."""
    network, options = make(RULE, sizes=BIG), {"ranges": ranges} if algorithm == "anchored" else {}
    on = as_spikes(fired(5, 400, 0.08, 20))
    first = Simulator(network, algorithm=algorithm, **options)  # type: ignore[arg-type]
    first.run(170, spikes=on, signals=errors_to(5, 170))
    state = first.state()
    wanted = first.run(230, spikes=on, signals=errors_to(5, 230, 170))
    assert sum(first.n_rewired.values()) > 50
    elsewhere = Simulator(network, algorithm=algorithm, **options)  # type: ignore[arg-type]
    elsewhere.run(260, spikes=as_spikes(fired(9, 400, 0.2, 20)), signals=errors_to(9, 260))
    for other in (Simulator(network, algorithm=algorithm, **options), elsewhere):  # type: ignore[arg-type]
        other.restore(state)
        got = other.run(230, spikes=on, signals=errors_to(5, 230, 170))
        np.testing.assert_array_equal(got.outputs["out"], wanted.outputs["out"])
        for name, connections in wiring(first).items():
            assert_same(other.connections(name), connections)
        assert other.n_rewired == first.n_rewired


def test_the_wiring_is_part_of_the_state_of_rewired_networks_only() -> None:
    for algorithm in ("loop", "anchored"):
        fixed = Simulator(make(replace(RULE, rewiring=None)), algorithm=algorithm)
        assert not {"tag", "since", "pointer", "target"} & fixed.state().keys()
        assert fixed.n_rewired == {}
        assert fixed.rewired == ()
        with pytest.raises(InputError, match="NC235"):
            Simulator(make(RULE), algorithm=algorithm).restore(fixed.state())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), density=st.floats(0.05, 1.0), zero=st.floats(0.0, 1.0), algorithm=st.sampled_from(["loop", "anchored"]))
def test_what_a_rewiring_keeps(seed: int, density: float, zero: float, algorithm: str) -> None:
    """The number of synapses, delays, signs, one synapse a pair, no autapses; survivors bit for bit."""
    network = make(RULE, projections=drawn(density), seed=seed)
    simulator = Simulator(network, algorithm=algorithm)
    simulator.run(40, spikes=as_spikes(fired(seed, 40, 0.3)), signals=errors_to(1, 40))
    rng = np.random.default_rng(seed)
    simulator.set_weights({n: np.where(rng.random(len(w)) < zero, 0.0, w) for n, w in simulator.weights().items()})
    before, traces = wiring(simulator), {n: simulator._engine.traces(n) for n in simulator.rewired}
    simulator._rewire(50, {50})
    for name, old in before.items():
        new, gone = simulator.connections(name), old.weight == 0.0
        stuck = simulator.n_stuck[name]
        moved = (new.pre != old.pre) | (new.post != old.post)
        assert moved.sum() == simulator.n_rewired[name] == gone.sum() - stuck
        assert not (moved & ~gone).any()
        np.testing.assert_array_equal(new.delay, old.delay)
        np.testing.assert_array_equal(np.signbit(new.weight), np.signbit(old.weight))
        np.testing.assert_array_equal(new.weight, old.weight)
        assert len(set(zip(new.pre.tolist(), new.post.tolist(), strict=True))) == len(new)
        assert set(zip(new.pre.tolist(), new.post.tolist(), strict=True)) <= set(allowed_pairs(network, network.projection(name)))
        after = simulator._engine.traces(name)
        for kind, values in traces[name].items():
            np.testing.assert_array_equal(after[kind][~moved], values[~moved])
            np.testing.assert_array_equal(after[kind][moved], 0.0)


def test_full_projections_stay() -> None:
    network = make(RULE, projections=tuple(replace(p, connect=AllToAll(), weight=Constant(value=0.0)) for p in drawn(0.5)))
    for algorithm in ("loop", "anchored"):
        simulator = Simulator(network, algorithm=algorithm)
        before = wiring(simulator)
        simulator._rewire(50, {50})
        for name, connections in before.items():
            assert simulator.n_rewired[name] == 0
            assert simulator.n_stuck[name] == len(connections)
            assert_same(simulator.connections(name), connections)


def pairs_drawn(n_pre: int, n_post: int, taken: list[int], draws: int, *, autapses: bool = True) -> npt.NDArray[np.int64]:
    """Move the first of some synapses again and again from the same start; return how often each pair was drawn."""
    key, counts = stream_key(1, "rewiring", "test"), np.zeros(n_pre * n_post, np.int64)
    start = np.array(taken, np.int64)
    for number in range(1, draws + 1):
        pre, post = (start // n_post).astype(np.int32), (start % n_post).astype(np.int32)
        assert draw_pairs(key[0], key[1], number, np.zeros(1, np.int64), pre, post, n_pre, n_post, autapses).all()
        counts[pre[0] * n_post + post[0]] += 1
    return counts


@pytest.mark.parametrize("autapses", [True, False])
def test_new_pairs_are_uniform(autapses: bool) -> None:
    """Chi-square over all free pairs; a correct generator fails for one seed in a thousand, and the seed is fixed."""
    taken = [3, 17, 40, 41, 99]
    counts = pairs_drawn(10, 10, taken, 19_000, autapses=autapses)
    free = [p for p in range(100) if p not in taken and (autapses or p // 10 != p % 10)]
    assert counts.sum() == counts[free].sum()
    assert chisquare(counts[free]).pvalue > 1e-3


def test_pairs_are_uniform_where_few_are_free() -> None:
    """Three of 4,900 pairs are free: half of the draws find none of them in 1,024 tries and count the free pairs through."""
    free = [5, 2000, 4899]
    counts = pairs_drawn(70, 70, [p for p in range(4900) if p not in free], 600)
    assert counts.sum() == counts[free].sum() == 600
    assert chisquare(counts[free]).pvalue > 1e-3


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 7), density=st.floats(0.1, 1.0), kept=st.booleans())
def test_draws_equal_another_implementation(seed: int, n: int, density: float, kept: bool) -> None:
    """Also where no pair, or the last one, is free, and with parallel synapses in a list."""
    rng = np.random.default_rng(seed)
    m = max(1, int(density * n * n))
    chosen = rng.permutation(n * n)[:m] if kept else rng.integers(0, n * n, m)
    pre, post = (chosen // n).astype(np.int32), (chosen % n).astype(np.int32)
    projection = Projection(name="p", pre="hidden", post="hidden", connect=Explicit(pre=pre, post=post), learning="eprop")
    network = make(RULE, projections=(projection,), sizes=SIZES | {"hidden": n}, seed=seed)
    slots = np.flatnonzero(rng.random(m) < 0.6)
    pairs = list(zip(pre.tolist(), post.tolist(), strict=True))
    stuck = move(network, projection, 3, pairs, slots.tolist())
    key, autapses = stream_key(seed, "rewiring", "p"), bool((pre == post).any())
    moved = draw_pairs(key[0], key[1], 3, slots, pre, post, n, n, autapses)
    assert pairs == list(zip(pre.tolist(), post.tolist(), strict=True))
    assert stuck == len(slots) - moved.sum()


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_statistics_of_the_walk(algorithm: str) -> None:
    """4,000 synapses of one source without gradient: after n silent steps the weight has moved by -l1 n on average, and its variance is
    noise^2 n, within the interval that a correct sample leaves once in 1e4 (chi-square; mean: four standard errors)."""
    m, l1, noise = 4000, 2e-4, 3e-3
    rule = replace(RULE, rewiring=Rewiring(every_steps=10**6, l1=l1, noise=noise), optimizer=GradientDescent(learning_rate=0.0))
    only = Projection(pre="in", post="hidden", connect=AllToAll(), weight=Constant(value=0.3), learning="eprop")
    network = make(rule, replace(NEURON, v_threshold=100.0), projections=(only,), sizes={"in": 1, "hidden": m, "out": N_OUT})
    simulator = Simulator(network, algorithm=algorithm)
    intervals = (1, 4, 64, 400)
    arrivals = np.cumsum(intervals)
    spikes = {"in": Spikes(neuron=np.zeros(4, np.int32), step=arrivals - 1)}
    weights = [simulator.weights()[only.name]]
    for n, stamp in zip(intervals, arrivals.tolist(), strict=True):
        simulator.run(stamp + 1 - simulator.step, spikes=spikes)
        weights.append(simulator.weights()[only.name])
        change = weights[-1] - weights[-2]
        low, high = chi2.ppf([5e-5, 1 - 5e-5], m - 1)
        assert low < (m - 1) * change.var(ddof=1) / (noise**2 * n) < high
        assert abs(change.mean() + l1 * n) < 4 * noise * np.sqrt(n / m)
    steps = np.diff(np.array(weights), axis=0)
    correlation = np.corrcoef(steps)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(m)  # steps of a synapse are independent


def test_the_walk_does_not_depend_on_order_or_place() -> None:
    """Two projections between the same populations have draws of their own, and so have parallel synapses."""
    pair = {"pre": np.zeros(2, np.int32), "post": np.zeros(2, np.int32), "weight": np.full(2, 0.3)}
    both = tuple(Projection(name=n, pre="in", post="hidden", connect=Explicit(**pair), learning="eprop") for n in ("a", "b"))
    for projections in (both, both[::-1]):
        simulator = Simulator(make(RULE, projections=projections))
        simulator.run(20, spikes={"in": Spikes(neuron=np.zeros(1, np.int32), step=np.array([10]))})
        weights = simulator.weights()
        found = [float(w) for name in ("a", "b") for w in weights[name]]
        assert len(set(found)) == 4
        assert found == pytest.approx(found)
        if projections is both:
            first = found
    assert found == first


def lone(weight: float, rewiring: Rewiring) -> Network:
    connect = Explicit(pre=np.zeros(1, np.int32), post=np.zeros(1, np.int32), weight=np.array([weight]))
    projection = Projection(pre="in", post="hidden", connect=connect, learning="eprop")
    return make(replace(RULE, rewiring=rewiring), projections=(projection,))


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
@pytest.mark.parametrize(("weight", "sign"), [(0.0, 1.0), (-0.0, -1.0), (0.2, 1.0), (-0.2, -1.0)])
def test_signs_of_weights_that_begin_or_end_at_0(algorithm: str, weight: float, sign: float) -> None:
    """An initial 0 is positive, -0.0 negative; both move at the first rewiring. A pull that ends at 0 keeps the sign of its weight."""
    simulator = Simulator(lone(weight, Rewiring(every_steps=30, l1=0.1)), algorithm=algorithm)
    every = {"in": Spikes(neuron=np.tile(np.arange(N_IN, dtype=np.int32), 14), step=np.repeat(np.arange(0, 28, 2), N_IN))}
    simulator.run(30, spikes=every)
    connections = simulator.connections("in->hidden")
    assert connections.weight[0] == 0.0
    assert np.copysign(1.0, connections.weight[0]) == sign
    assert (connections.pre[0], connections.post[0]) == (0, 0)
    simulator.run(1)
    assert simulator.n_rewired == {"in->hidden": 1}
    again = Simulator(simulator.network, {"in->hidden": simulator.connections("in->hidden")}, algorithm=algorithm)
    assert np.copysign(1.0, again.weights()["in->hidden"][0]) == sign


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_pauses_and_empty_runs_do_not_rewire(algorithm: str) -> None:
    """The rewiring of learning step 30 waits until that step is learned in, and happens once."""
    simulator = Simulator(lone(0.0, Rewiring(every_steps=30, l1=1e-3)), algorithm=algorithm)
    simulator.run(30)
    simulator.run(50, learn=False)
    simulator.run(0)
    assert simulator.n_rewired == {"in->hidden": 0}
    simulator.run(1)
    assert simulator.n_rewired == {"in->hidden": 1}
    simulator.run(29)
    simulator.run(100, learn=False)
    assert simulator.n_rewired == {"in->hidden": 1}
    simulator.run(31)
    assert simulator.n_rewired == {"in->hidden": 3}


def test_snapshots_across_a_rewiring() -> None:
    """Rows hold weights and traces by number of the synapse, whatever pair it joins; a row after step t has the wiring of step t."""
    network, on = make(RULE, sizes=BIG), as_spikes(fired(5, 200, 0.2, 20))
    options = RecordOptions(weights=("in->hidden",), traces=("in->hidden",), every=7)
    whole, plain = Simulator(network), Simulator(network)
    recorded = whole.run(200, spikes=on, signals=errors_to(5, 200), record=options)
    assert list(recorded.snapshot_steps) == list(range(6, 200, 7))
    for row, step in enumerate(recorded.snapshot_steps):
        plain.run(int(step) + 1 - plain.step, spikes=on, signals=errors_to(5, 7, plain.step))
        np.testing.assert_array_equal(recorded.weights["in->hidden"][row], plain.weight("in->hidden"))
        np.testing.assert_array_equal(recorded.traces["in->hidden"]["zbar"][row], plain._engine.traces("in->hidden")["zbar"])
    assert whole.n_rewired["in->hidden"] > 20


def test_traces_agree_after_moves() -> None:
    network, on = make(RULE, sizes=BIG), as_spikes(fired(5, 151, 0.2, 20))
    loop, anchored = (Simulator(network, algorithm=a) for a in ("loop", "anchored"))
    for simulator in (loop, anchored):
        simulator.run(151, spikes=on, signals=errors_to(5, 151))
    for name in loop.rewired:
        left, right = loop._engine.traces(name), anchored._engine.traces(name)
        np.testing.assert_allclose(right["zbar"], left["zbar"], rtol=1e-8, atol=1e-9)
        if name != "hidden->out":
            np.testing.assert_allclose(right["ebar"], left["ebar"], rtol=1e-8, atol=1e-9)


def test_only_rules_with_rewiring_move() -> None:
    """A second rule without rewiring beside the first: its synapses stay, keep their weights' order and have no bytes of their own."""
    projections = list(drawn(0.4))
    projections[1] = replace(projections[1], learning="fixed")
    network = replace(make(RULE, sizes=BIG), projections=tuple(projections), rules=(RULE, replace(RULE, name="fixed", rewiring=None)))
    results = []
    for algorithm, ranges in (("loop", None), ("anchored", 1), ("anchored", 5)):
        simulator = Simulator(network, algorithm=algorithm, ranges=ranges)
        simulator.run(300, spikes=as_spikes(fired(5, 300, 0.08, 20)), signals=errors_to(5, 300))
        assert simulator.rewired == ("in->hidden", "hidden->out")
        assert min(simulator.n_rewired.values()) > 0
        fixed = simulator.connections("hidden->hidden")
        described = realise(network, network.projection("hidden->hidden"))
        np.testing.assert_array_equal(fixed.pre, described.pre)
        assert (fixed.weight != described.weight).mean() > 0.2
        results.append({p.name: simulator.connections(p.name) for p in network.projections})
    for name, connections in results[1].items():
        assert_same(results[0][name], connections, 1e-10, name)
        assert_same(results[2][name], connections, 0.0, name)


def with_ends(connections: Connections, **changes: Any) -> Connections:
    fields = {name: getattr(connections, name) for name in ("pre", "post", "weight", "delay")}
    return Connections(**{name: np.array(values) for name, values in (fields | changes).items()})


def test_connections_can_be_set() -> None:
    """What an evaluator does: it gets the wiring and the weights of another simulator."""
    network, on = make(RULE, sizes=BIG), as_spikes(fired(5, 300, 0.08, 20))
    for algorithm in ("loop", "anchored"):
        trained, other = Simulator(network, algorithm=algorithm), Simulator(network, algorithm=algorithm)
        trained.run(300, spikes=on, signals=errors_to(5, 300))
        other.set_connections(wiring(trained))
        for name, connections in wiring(trained).items():
            assert_same(other.connections(name), connections)
        other.run(300, spikes=as_spikes(fired(6, 300, 0.2, 20)), learn=False)
        assert all(not traces.any() for name in other.rewired for traces in other._engine.traces(name).values())
        for name, connections in wiring(trained).items():
            assert_same(other.connections(name), connections)


BAD: Mapping[str, tuple[dict[str, Any], str]] = {
    "neuron": ({"pre": [0, 99]}, "NC204.*pre index 99"),
    "number": ({"pre": [0], "post": [0], "weight": [0.1], "delay": np.ones(1, np.uint8)}, "NC235.*1 synapses, expected 2"),
    "delay": ({"delay": np.array([1, 2], np.uint8)}, "NC235.*same delays"),
    "finite": ({"weight": [0.1, np.nan]}, "NC203.*value 1"),
    "bounds": ({"weight": [0.1, 1000.0]}, "NC236"),
}


@pytest.mark.parametrize("what", BAD)
def test_connections_that_do_not_fit_change_nothing(what: str) -> None:
    connect = Explicit(pre=np.array([0, 1]), post=np.array([2, 3]), weight=np.array([0.1, 0.2]))
    simulator = Simulator(make(RULE, projections=(Projection(pre="in", post="hidden", connect=connect, learning="eprop"),)))
    present = simulator.connections("in->hidden")
    change, message = BAD[what]
    changes = {name: np.asarray(v, np.int32 if name in {"pre", "post"} else None) for name, v in change.items()}
    with pytest.raises(InputError, match=message):
        simulator.set_connections({"in->hidden": with_ends(present, **changes)})
    assert_same(simulator.connections("in->hidden"), present)


def test_connections_of_unknown_and_fixed_projections() -> None:
    fixed = Simulator(make(replace(RULE, rewiring=None)))
    found = fixed.connections("in->hidden")
    assert_same(found, realise(fixed.network, fixed.network.projection("in->hidden")))
    with pytest.raises(InputError, match=r"NC235.*'in->hidden'"):
        fixed.set_connections({"in->hidden": found})
    for simulator in (fixed, Simulator(make(RULE))):
        with pytest.raises(InputError, match=r"NC207.*'no'"):
            simulator.connections("no")
        with pytest.raises(InputError, match=r"NC207.*'no'"):
            simulator.set_connections({"no": found})


def test_memory_of_a_rewired_synapse() -> None:
    """28 bytes as without rewiring, 8 for z~, 12 for number and step; nothing grows while synapses move."""
    big = Projection(
        pre="in", post="hidden", connect=FixedProbability(probability=0.5), weight=Normal(mean=0.0, std=0.01), learning="eprop"
    )
    network = make(RULE, projections=(big,), sizes={"in": 300, "hidden": 500, "out": N_OUT})
    simulator = Simulator(network)
    assert 47.9 < simulator.bytes_per_plastic_synapse() < 49.0
    sizes = {name: array.nbytes for name, array in simulator.state().items()}
    simulator.run(200, spikes=as_spikes(fired(1, 200, 0.05, 300)))
    assert simulator.n_rewired["in->hidden"] > 1000
    assert {name: array.nbytes for name, array in simulator.state().items()} == sizes


def test_single_precision_moves_the_same_way() -> None:
    """Weights in float32: with a walk that is far above their rounding step, nearly all synapses move where those of float64 do."""
    network, on = make(replace(RULE, optimizer=GradientDescent(learning_rate=1e-7)), sizes=BIG), as_spikes(fired(5, 300, 0.08, 20))
    double, single = (Simulator(network, precision=precision) for precision in ("float64", "float32"))
    for simulator in (double, single):
        simulator.run(300, spikes=on, signals=errors_to(5, 300))
    left, right = double.connections("in->hidden"), single.connections("in->hidden")
    assert double.n_rewired["in->hidden"] > 50
    assert ((left.pre == right.pre) & (left.post == right.post)).mean() > 0.95
