"""Rewiring (DEEP R): beside its definition, between the engines, and its invariants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.ir import (
    ALIF,
    LIF,
    ActorCritic,
    AllToAll,
    Constant,
    EProp,
    FixedProbability,
    GradientDescent,
    KappaLearning,
    LeakyReadout,
    Normal,
    PerEvent,
    PerInterval,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    Rewiring,
    Surrogate,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.errors import InputError
from neurocompile.ir.realise import Connections, realise
from tests.backends.reference.dense_rewiring import allowed_pairs, dense
from tests.backends.reference.rewired_networks import (
    BIG,
    N_HIDDEN,
    N_OUT,
    NEURON,
    RULE,
    as_spikes,
    assert_same,
    drawn,
    errors_to,
    fired,
    lists,
    make,
    wiring,
)

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
