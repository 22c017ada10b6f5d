"""Learnt kappa beside its definition (all pairs in every step, no event, no history), and its derivatives beside finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import Simulator
from neurocompile.backends.reference.kernels.tables import COLLECTED, INFLUENCE, KAPPA, PENDING, SCALE, SENSITIVITY, SITE_SCALE
from neurocompile.ir import (
    EProp,
    Explicit,
    GradientDescent,
    KappaLearning,
    KappaPer,
    LeakyReadout,
    Loss,
    Network,
    PerEvent,
    PerInterval,
    Regularization,
    Surrogate,
    SurrogateKind,
)
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.reference.adjoint import (
    Problem,
    Route,
    Weights,
    forward,
    make_network,
    make_problem,
    make_rule,
    psi_of,
    smooth_spike,
    tangent,
)
from tests.backends.reference.test_eprop_oracle import Plastic, Setup, dense, hiddens, random_setup

Array = npt.NDArray[np.float64]
HIDDEN = ("in->hidden", "hidden->hidden")


# The engine and the definition


def descend(learnt: KappaLearning, kappa: Array, slope: Array, scale: Array) -> tuple[Array, Array]:
    """A step of log(1 - kappa) where there is a slope, by the share that it has of the running maximum, which fades by 1 % an event."""
    size = np.abs(slope)
    moves = size > 0
    scale = np.where(moves, np.maximum(size, 0.99 * scale + 0.01 * size), scale)
    theta = np.log1p(-kappa) + learnt.learning_rate * np.divide(slope, scale, out=np.zeros_like(slope), where=moves)
    return np.where(moves, np.clip(-np.expm1(theta), *learnt.bounds), kappa), scale


@dataclass
class Neurons:
    """Kappas that hidden neurons own, over all their projections: what the arrivals of step t ask for holds from entry t-1 on."""

    learnt: KappaLearning
    value: Array
    slope: Array = field(init=False)
    scale: Array = field(init=False)
    known: int = -1

    def __post_init__(self) -> None:
        self.slope, self.scale = np.zeros_like(self.value), np.zeros_like(self.value)

    def settle(self) -> None:
        self.value, self.scale = descend(self.learnt, self.value, self.slope, self.scale)
        self.slope = np.zeros_like(self.value)

    def at(self, entry: int) -> Array:
        if entry > self.known:
            self.settle()
            self.known = entry
        return self.value


class Learnt(Plastic):
    """All pairs of a projection, with kappa, s = d ebar / d kappa, h = dg / d kappa and q = dw / d kappa for each."""

    def __init__(self, *args: Any, neurons: Neurons, made: list[Learnt]) -> None:
        super().__init__(*args)
        assert self.rule.kappa_learning is not None
        self.learnt, self.neurons = self.rule.kappa_learning, neurons
        self.kappa = np.full(self.w.shape, self.rule.kappa)
        self.s, self.h, self.h_collected, self.q, self.scale = (np.zeros(self.w.shape) for _ in range(5))
        made.append(self)

    def read(self, h: int, arrived: npt.NDArray[np.bool_], psi: Array, signal: Array, reg: Array) -> None:
        if self.readout:
            super().read(h, arrived, psi, signal, reg)
            return
        if self.learnt.per is KappaPer.NEURON:
            self.kappa = np.broadcast_to(self.neurons.at(h), self.w.shape)
        self.zbar = self.alpha * self.zbar + arrived[:, None]
        e = psi * (self.zbar - self.beta * self.eps)
        self.eps = self.rho * self.eps + e
        self.s = self.kappa * self.s + self.ebar
        self.ebar = self.kappa * self.ebar + e
        self.ereg = self.rule.kappa_reg * self.ereg + (1 - self.rule.kappa_reg) * e
        self.g += np.where(self.mask, signal * self.ebar + reg * self.ereg, 0.0)
        self.h += np.where(self.mask, signal * self.s, 0.0)

    def arrive(self, sources: npt.NDArray[np.bool_], stamp: int) -> None:
        again = (sources & (self.last >= 0))[:, None] & self.mask
        total, steps = self.total + self.g, self.n.copy()
        self.h_collected[again] += self.h[again]
        self.h[again] = 0.0
        super().arrive(sources, stamp)
        if self.readout:
            return
        batch = self.rule.update.steps if isinstance(self.rule.update, PerInterval) else 1
        stepped = again & (self.n != steps)
        slope = np.where(stepped, total / batch * self.q, 0.0)
        if self.learnt.per is KappaPer.NEURON:
            self.neurons.slope += slope.sum(axis=0)
        else:
            self.kappa, self.scale = descend(self.learnt, self.kappa, slope, self.scale)
        low, high = (np.full(self.w.shape, bound) for bound in self.rule.weight_bounds)
        if self.rule.sign_constraint:
            low, high = np.where(self.start > 0, np.maximum(low, 0), low), np.where(self.start < 0, np.minimum(high, 0), high)
        free = (self.w > low) & (self.w < high)
        self.q = np.where(stepped, np.where(free, -self.rule.optimizer.learning_rate * self.h_collected / batch, 0.0), self.q)
        self.h_collected[stepped] = 0.0


def expected(setup: Setup, *, flush: bool) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return weights and kappas by the definition, both (pre, post)."""
    rule, made = setup.network.rules[0], list[Learnt]()
    assert isinstance(rule, EProp)
    assert rule.kappa_learning is not None
    neurons = Neurons(rule.kappa_learning, np.full(setup.network.population("hidden").size, rule.kappa))
    weights, _, _ = dense(setup, flush, make=partial(Learnt, neurons=neurons, made=made))
    neurons.settle()
    if rule.kappa_learning.per is KappaPer.NEURON:
        return weights, {name: np.broadcast_to(neurons.value, pairs.w.shape) for name, pairs in zip(HIDDEN, made, strict=False)}
    return weights, {name: pairs.kappa for name, pairs in zip(HIDDEN, made, strict=False)}


def advance(simulator: Simulator, setup: Setup, start: int, stop: int, *, learn: bool = True) -> None:
    step, neuron = np.nonzero(setup.spikes)
    signal = Signal(target=setup.signal.target[start:stop], window=setup.signal.window[start:stop])
    simulator.run(stop - start, spikes={"in": Spikes(neuron=neuron, step=step)}, signals={"out": signal}, learn=learn)


def engine(setup: Setup, *, cuts: tuple[int, ...] = (), history_steps: int = 8, flush: bool = False) -> Simulator:
    simulator = Simulator(setup.network, history_steps=history_steps)
    assert simulator.algorithm == "loop"
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), len(setup.spikes)]):
        advance(simulator, setup, start, stop)
    if flush:
        simulator.flush()
    return simulator


def ends(network: Network, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    connect = network.projection(name).connect
    assert isinstance(connect, Explicit)
    return connect.pre, connect.post


def assert_same_state(a: Simulator, b: Simulator) -> None:
    one, other = a.state(), b.state()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


learnings = st.builds(
    KappaLearning,
    learning_rate=st.floats(1e-3, 0.3),
    per=st.sampled_from(KappaPer),
    bounds=st.sampled_from([(0.0, 0.995), (0.4, 0.9)]),
)
rules = st.builds(
    EProp,
    surrogate=st.builds(Surrogate, kind=st.sampled_from(SurrogateKind), height=st.floats(0.1, 2.0), width=st.floats(0.2, 2.0)),
    kappa=st.floats(0.4, 0.9),
    kappa_reg=st.floats(0.0, 0.98),
    regularization=st.one_of(st.none(), st.builds(Regularization, strength=st.floats(0.0, 3.0), rate=st.floats(0.0, 60.0))),
    optimizer=st.builds(GradientDescent, learning_rate=st.floats(1e-4, 3e-2)),
    update=st.one_of(st.just(PerEvent()), st.builds(PerInterval, steps=st.integers(1, 30))),
    weight_bounds=st.sampled_from([(-100.0, 100.0), (-0.6, 0.7)]),
    sign_constraint=st.booleans(),
    kappa_learning=learnings,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    rule=rules,
    hidden=hiddens,
    loss=st.sampled_from([Loss.MEAN_SQUARED_ERROR, Loss.CROSS_ENTROPY]),
    explicit=st.booleans(),
    flush=st.booleans(),
    history=st.sampled_from([8, 16, 256]),
    cut=st.integers(1, 69),
    delays=st.one_of(st.just((1, 1, 1)), st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))),
)
def test_engine_equals_definition(
    seed: int,
    rule: EProp,
    hidden: dict[str, Any],
    loss: Loss,
    explicit: bool,
    flush: bool,
    history: int,
    cut: int,
    delays: tuple[int, int, int],
) -> None:
    """Weights and kappas to 1e-9; sums are taken in another order."""
    setup = random_setup(seed, rule, hidden, loss, explicit, delays=delays)
    weights, kappas = expected(setup, flush=flush)
    simulator = engine(setup, cuts=(cut,), history_steps=history, flush=flush)
    assert sorted(simulator.kappas()) == sorted(HIDDEN)
    for name, values in weights.items():
        np.testing.assert_allclose(simulator.weight(name), values[ends(setup.network, name)], rtol=1e-9, atol=1e-10, err_msg=name)
    for name, values in kappas.items():
        np.testing.assert_allclose(simulator.kappa(name), values[ends(setup.network, name)], rtol=1e-9, atol=1e-10, err_msg=name)


RULE = EProp(kappa=0.8, optimizer=GradientDescent(learning_rate=0.01), regularization=Regularization(strength=1.0, rate=10.0))
PER = {per.value: replace(RULE, kappa_learning=KappaLearning(learning_rate=0.05, per=per)) for per in KappaPer}


def usual(rule: EProp, *, steps: int = 120) -> Setup:
    return random_setup(11, rule, {"v_threshold": 0.5}, Loss.MEAN_SQUARED_ERROR, True, steps=steps)


@pytest.mark.parametrize("per", PER)
def test_the_oracle_sees_kappas_move(per: str) -> None:
    """The comparison is not empty: kappas move apart in it, and weights with them."""
    setup = usual(PER[per])
    weights, kappas = expected(setup, flush=False)
    assert np.ptp(kappas["in->hidden"][setup.masks["in->hidden"]]) > 0.01
    fixed, _, _ = dense(replace(setup, network=replace(setup.network, rules=(replace(setup.network.rules[0], kappa_learning=None),))))
    assert np.abs(weights["in->hidden"] - fixed["in->hidden"]).max() > 1e-5


@pytest.mark.parametrize("update", [PerEvent(), PerInterval(steps=20)], ids=["per event", "per interval"])
@pytest.mark.parametrize("per", PER)
def test_rings_parts_and_checkpoints_keep_the_bits(per: str, update: PerEvent | PerInterval) -> None:
    setup = usual(replace(PER[per], update=update))
    setup.spikes[20:90, 0] = False  # a silent source: its synapses are advanced all the time in a ring of 8 steps
    whole = engine(setup, history_steps=256)
    short = engine(setup, history_steps=8, cuts=(1, 50, 51))
    for name, values in whole.kappas().items():
        np.testing.assert_array_equal(short.kappa(name), values)
    for name, values in whole.weights().items():
        np.testing.assert_array_equal(short.weight(name), values)
    first, second = Simulator(setup.network, history_steps=8), Simulator(setup.network, history_steps=8)
    advance(first, setup, 0, 61)
    second.restore(first.state())
    advance(second, setup, 61, 120)
    assert_same_state(second, short)


@pytest.mark.parametrize("per", PER)
def test_a_pause_changes_nothing(per: str) -> None:
    setup = usual(PER[per])
    simulator = Simulator(setup.network)
    advance(simulator, setup, 0, 60)
    before = simulator.kappas()
    simulator.run(30, learn=False)
    for name, values in before.items():
        np.testing.assert_array_equal(simulator.kappa(name), values)


@pytest.mark.parametrize("update", [PerEvent(), PerInterval(steps=1000)], ids=["per event", "per interval"])
@pytest.mark.parametrize("per", PER)
def test_reset_keeps_what_is_learnt_and_drops_what_is_pending(per: str, update: PerEvent | PerInterval) -> None:
    """kappa, q and what waits with a gradient for the end of an interval are kept as weights are; s and pending h go with the traces."""
    setup = usual(replace(PER[per], update=update))
    simulator = engine(setup)
    state, kappas = simulator.state(), simulator.kappas()
    simulator.reset_dynamics()
    after = simulator.state()
    for name, values in kappas.items():
        np.testing.assert_array_equal(simulator.kappa(name), values)
    kept, gone = [KAPPA, COLLECTED, INFLUENCE, SCALE], [SENSITIVITY, PENDING]
    np.testing.assert_array_equal(after["kappa"][:, kept], state["kappa"][:, kept])
    assert np.any(state["kappa"][:, COLLECTED if isinstance(update, PerInterval) else INFLUENCE])
    assert np.any(state["kappa"][:, gone])
    assert not np.any(after["kappa"][:, gone])
    assert np.all(np.isfinite(simulator.run(50, signals={"out": setup.signal}).outputs["out"]))


def test_kappas_can_be_set_back() -> None:
    """What was learnt, put into a fresh simulator: another rule's start with the same result as with that kappa in the description."""
    setup = usual(PER["neuron"])
    simulator = engine(setup)
    learnt, fresh = simulator.kappas(), Simulator(setup.network)
    fresh.set_kappas(learnt)
    for name, values in learnt.items():
        np.testing.assert_array_equal(fresh.kappa(name), values)
    for per, rule in PER.items():
        of_description = engine(usual(replace(rule, kappa=0.6)))
        setup = usual(rule)
        given = Simulator(setup.network, history_steps=8)
        given.set_kappas({name: np.full_like(k, 0.6) for name, k in given.kappas().items()})
        advance(given, setup, 0, 120)
        for name in setup.masks:
            np.testing.assert_array_equal(given.weight(name), of_description.weight(name), err_msg=per)


def test_a_weight_that_is_set_does_not_depend_on_kappa() -> None:
    simulator = engine(usual(PER["synapse"]))
    before = simulator.state()["kappa"][:, INFLUENCE]
    weights = simulator.weight("in->hidden")
    weights[::2] += 0.01
    simulator.set_weights({"in->hidden": weights})
    after = simulator.state()["kappa"][:, INFLUENCE]
    changed = after != before
    assert 0 < changed.sum() <= len(weights[::2])
    assert not after[changed].any()


@pytest.mark.parametrize(
    ("kappas", "code", "text"),
    [
        ({"hidden->out": 1}, "NC207", "projection 'hidden->out' has no learnt kappa"),
        ({"in->hiden": 1}, "NC207", "projection 'in->hiden' does not exist"),
        ({"in->hidden": 1}, "NC202", "the projection has"),
        ({"in->hidden": 0.999}, "NC236", "kappa 0 is 0.999, outside the bounds [0, 0.995]"),
        ({"in->hidden": np.nan}, "NC236", "kappa 0 is nan"),
        ({"in->hidden": "different"}, "NC236", "their neuron owns one for all"),
    ],
)
def test_kappas_that_do_not_fit_are_refused_and_leave_no_trace(kappas: dict[str, Any], code: str, text: str) -> None:
    simulator = Simulator(usual(PER["neuron"]).network)
    size = simulator.kappa("in->hidden").size

    def values(given: Any) -> Array:
        if given == "different":
            return np.linspace(0.5, 0.6, size)
        return np.zeros(1) if given == 1 else np.full(size, given)

    with pytest.raises(InputError) as caught:
        simulator.set_kappas({name: values(given) for name, given in kappas.items()})
    assert caught.value.diagnostics[0].code == code
    assert text in caught.value.diagnostics[0].message
    assert {k for array in simulator.kappas().values() for k in array.tolist()} == {0.8}


def test_the_anchored_form_is_refused_where_kappa_is_learnt() -> None:
    network = usual(PER["synapse"]).network
    assert "with a learnt kappa" in Simulator(network).reason
    with pytest.raises(InputError, match="learnt kappa") as caught:
        Simulator(network, algorithm="anchored")
    assert caught.value.diagnostics[0].code == "NC251"


def test_only_readouts_learn() -> None:
    """Readout synapses have no kappa: such a network learns nothing more, and the anchored form takes it."""
    network = usual(PER["synapse"]).network
    onto_readout = replace(network, projections=tuple(p if p.post == "out" else replace(p, learning=None) for p in network.projections))
    simulator = Simulator(onto_readout)
    assert simulator.algorithm == "anchored"
    assert simulator.kappas() == {}


def test_without_learning_there_is_no_column() -> None:
    plain, per_neuron = (Simulator(usual(rule).network, algorithm="loop").live_state() for rule in (RULE, PER["neuron"]))
    assert plain["kappa"].size == plain["site_kappa"].size == 0
    assert plain["history"].shape[2] == 3
    assert per_neuron["history"].shape[2] == 4


# The derivatives


def once(p: Problem, kappa: float, **change: Any) -> EProp:
    """Return a rule under which no weight changes before the flush at the end of a run over the problem's steps."""
    rule = replace(make_rule(p, kappa=kappa, learning_rate=None), **change)
    return replace(rule, kappa_learning=rule.kappa_learning or KappaLearning(learning_rate=0.0))


def present(simulator: Simulator, p: Problem, first: int = 0) -> None:
    step, neuron = np.nonzero(p.spikes)
    spikes = Spikes(neuron=neuron, step=step + first)
    simulator.run(len(p.spikes), spikes={"in": spikes}, signals={"out": Signal(target=p.target, window=p.window)})


def central(function: Callable[[float], Array], x: float, eps: float = 3e-4) -> Array:
    """Derivative by central differences of fourth order: they leave eps^4/30, 3e-16, of the fifth derivative (for traces of 30
    steps some 1e6 times the first), and rounding of 1e-12."""
    one, two = function(x + eps) - function(x - eps), function(x + 2 * eps) - function(x - 2 * eps)
    found: Array = (8 * one - two) / (12 * eps)
    return found


CASES: dict[str, dict[str, Any]] = {
    "lif": {},
    "alif": {"beta": 0.06},
    "recurrent, delays": {"recurrent": 0.3, "delays": {"in": 6, "rec": 4}},
    "cross-entropy, regularised": {"loss": Loss.CROSS_ENTROPY, "strength": 0.5},
    "hard reset, refractory": {"hard": True, "t_ref": 3},
}


@pytest.mark.parametrize("case", CASES)
def test_h_is_the_derivative_of_the_gradient(case: str) -> None:
    """Weights stand still, so spikes and learning signals are given; g is a polynomial in kappa. h, which waits with g for the end of
    an interval longer than the run, against differences of g between runs."""
    p = make_problem(4, **CASES[case])

    def waiting(kappa: float) -> dict[str, AnyArray]:
        simulator = Simulator(make_network(p, once(p, kappa, update=PerInterval(steps=10_000))))
        present(simulator, p)
        simulator.flush()
        return simulator.state()

    h = waiting(0.9)["kappa"][:, COLLECTED]
    found = central(lambda kappa: waiting(kappa)["collected"], 0.9)
    assert np.count_nonzero(h) > 50
    np.testing.assert_allclose(h, found, rtol=1e-8, atol=1e-9 * np.abs(h).max())


@pytest.mark.parametrize("case", CASES)
def test_q_is_the_derivative_of_the_weight(case: str) -> None:
    """The weights after one change, of runs with other kappas; bounds so close that some weights end at them, where q is 0."""
    p = make_problem(5, **CASES[case])

    def after(kappa: float) -> Simulator:
        rule = once(p, kappa, optimizer=GradientDescent(learning_rate=0.2), weight_bounds=(-0.8, 0.4))
        weights = {name: np.clip(w, -0.8, 0.4) for name, w in p.weights.items()}
        simulator = Simulator(make_network(replace(p, weights=weights), rule))
        present(simulator, p)
        simulator.flush()
        return simulator

    simulator = after(0.9)
    state = simulator.state()
    found = central(lambda kappa: after(kappa).state()["eprop_weight"], 0.9)
    q = state["kappa"][:, INFLUENCE]
    at_bound = np.isin(state["eprop_weight"], (-0.8, 0.4))
    assert np.count_nonzero(q) > 50
    assert not q[at_bound].any()
    assert at_bound.any()
    np.testing.assert_allclose(q[~at_bound], found[~at_bound], rtol=1e-8, atol=1e-9 * np.abs(q).max())


def kinds(p: Problem, network: Network, values: dict[str, Array]) -> Weights:
    """Return values of projections as (pre, post) matrices by kind, 0 where there is no synapse (one hidden population)."""
    found = {name: np.zeros_like(w) for name, w in p.weights.items()}
    for projection in network.synaptic_projections:
        if projection.name in values:
            kind = "in" if projection.pre == "in" else "out" if projection.post == "out" else "rec"
            found[kind][ends(network, projection.name)] = values[projection.name]
    return found


@pytest.mark.parametrize("per", KappaPer)
def test_the_hypergradient_is_that_of_the_loss(per: KappaPer) -> None:
    """dE/dkappa of the steps after a change of the weights, by the surrogate: e-prop's g is the exact (surrogate) gradient in a single
    layer whose kappa is the readout's decay (``test_gradient.py``). dw/dkappa comes from differences of engine runs over the steps before
    the change, dE/dw along it from dual numbers through the network (``tangent``), dE/dkappa of the engine from kappa's step and its scale.
    ``reset_dynamics`` between: spikes that travelled with the old weights would count in the new weights' g."""
    first, second = (make_problem(seed, steps=steps) for seed, steps in ((7, 120), (8, 119)))
    second = replace(first, spikes=second.spikes, target=second.target, window=second.window)
    exact, speed = float(np.exp(-1 / first.tau_out[0])), 1e-3

    def begin(kappa: float) -> Simulator:
        learnt = KappaLearning(learning_rate=speed, per=per, bounds=(0.0, 0.999))
        rule = once(first, kappa, optimizer=GradientDescent(learning_rate=0.02), kappa_learning=learnt)
        simulator = Simulator(make_network(first, rule))
        present(simulator, first)
        simulator.flush()
        simulator.reset_dynamics()
        return simulator

    simulator = begin(exact)
    network = simulator.network
    name = network.synaptic_projections[0].name
    assert np.all(simulator.kappa(name) == exact)  # q was 0 before the first change
    second = replace(second, weights=kinds(second, network, simulator.weights()))
    slope = central(lambda kappa: begin(kappa).weight(name), exact)
    present(simulator, second, first=simulator.step)
    simulator.flush()  # index 2 (N-1): the end of the second interval of N-1 steps, over which gradients are a mean
    state, (pre, post) = simulator.state(), ends(network, name)
    steps = (np.log1p(-simulator.kappa(name)) - np.log1p(-exact)) / speed  # the sign of the first slope, whose size is the scale
    sizes = state["site_kappa"][post, SITE_SCALE] if per is KappaPer.NEURON else state["kappa"][: len(pre), SCALE]
    np.testing.assert_allclose(np.abs(steps[sizes > 0]), 1.0, rtol=1e-9)
    got = steps * sizes * (len(first.spikes) - 1)
    if per is KappaPer.NEURON:
        groups = [post == j for j in range(len(first.tau))]
    else:
        groups = [np.arange(len(pre)) == i for i in range(0, len(pre), 7)]
    route = Route(reset="linear", recurrent=False)
    for mine in groups:
        direction = kinds(second, network, {name: np.where(mine, slope, 0.0)})
        derivative = tangent(second, direction, route=route)
        np.testing.assert_allclose(got[mine], derivative, rtol=1e-6, atol=1e-7 * np.abs(got).max())
    assert np.count_nonzero(got) > 30


def eprop_terms(p: Problem, weights: Weights, kappa: complex) -> tuple[npt.NDArray[Any], Array]:
    """Return e-prop's g and h of the input weights in the smooth network, by the definition; g carries the derivative by kappa if kappa
    is complex. Each input has one entry a step, as a spike that the neuron hears."""
    run = forward(p, weights, spike=smooth_spike)
    psi = psi_of(p.surrogate, run.distance.real)
    error = (run.y.real - p.target) * p.window[:, None]
    a = np.exp(-1 / p.tau)
    zbar, ebar, s = np.zeros(p.weights["in"].shape), np.zeros(p.weights["in"].shape, complex), np.zeros(p.weights["in"].shape)
    g, h = np.zeros(zbar.shape, complex), np.zeros(zbar.shape)
    for t in range(len(p.spikes) - 1):
        zbar = a * zbar + (p.spikes[t - 1][:, None] if t else 0.0)
        e = psi[t] * zbar
        s = kappa.real * s + ebar.real
        ebar = kappa * ebar + e
        signal = error[t + 1] @ weights["out"].T
        g += signal * ebar
        h += signal * s
    return g, h


def test_the_hypergradient_is_that_of_a_smooth_loss() -> None:
    """No surrogate: spikes are the surrogate's antiderivative, and the reset subtracts nothing (threshold at rest), so that g is the true
    gradient. Then -eta h g is the true derivative of the later loss by the earlier kappa."""
    surrogate = Surrogate(kind=SurrogateKind.FAST_SIGMOID_DERIVATIVE, height=0.8, width=0.4)
    p = make_problem(12, threshold=0.0, surrogate=surrogate)
    later = replace(p, spikes=make_problem(13).spikes, target=make_problem(13).target)
    kappa, eta, eps = float(np.exp(-1 / p.tau_out[0])), 0.02, 1e-30
    g_first, h_first = eprop_terms(p, p.weights, kappa + 1j * eps)
    np.testing.assert_allclose(h_first, g_first.imag / eps, rtol=1e-10, atol=1e-12 * np.abs(h_first).max())

    def changed(kappa: float) -> Weights:
        g, _ = eprop_terms(p, p.weights, complex(kappa))
        return {**p.weights, "in": p.weights["in"] - eta * np.where(p.masks["in"], g.real, 0.0)}

    def later_energy(kappa: float) -> Array:
        return np.array(forward(later, changed(kappa), spike=smooth_spike).energy.real)

    g_later, _ = eprop_terms(later, changed(kappa), complex(kappa))
    predicted = float(np.sum(np.where(p.masks["in"], -eta * h_first * g_later.real, 0.0)))
    assert abs(predicted) > 1e-3
    np.testing.assert_allclose(central(later_energy, kappa), predicted, rtol=1e-7)


def test_readouts_have_no_kappa() -> None:
    network = usual(PER["synapse"]).network
    assert isinstance(network.population("out").model, LeakyReadout)
    with pytest.raises(InputError, match="has no learnt kappa"):
        Simulator(network).kappa("hidden->out")
