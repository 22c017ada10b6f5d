"""The emitted program, run as a user runs it, beside ``neurocompile simulate`` on the same input: one run a case, many looks at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    Integration,
    LeakyReadout,
    Network,
    PerInterval,
    Population,
    Projection,
    ProjectionFeedback,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
)
from tests.backends.nest.conftest import (
    HIDDEN,
    RANDOM,
    RULE,
    Arrays,
    Done,
    call,
    edges,
    engine,
    given,
    make_network,
    random_signal,
    random_spikes,
    with_weights,
    write_program,
)

RTOL = 1e-9
"""Of weights, relative to the largest of the projection, and of outputs: both sides compute in doubles, some 1e5 operations of 1e-16 each,
in different orders. Learning rates are low enough that weights do not run away, which would multiply rounding errors."""
N = 10
rng = np.random.default_rng(21)
PER_NEURON: dict[str, Any] = {
    "tau_mem": rng.uniform(0.01, 0.04, N),
    "v_threshold": rng.uniform(0.4, 0.8, N),
    "v_leak": rng.uniform(-0.2, 0.2, N),
    "v_min": rng.uniform(-2.0, -1.0, N),
    "bias": rng.uniform(-0.01, 0.02, N),
    "t_ref": rng.integers(0, 4, N) * 1e-3,
}
ADAPTS: dict[str, Any] = {"adapt_beta": rng.uniform(0.0, 0.2, N), "adapt_tau": rng.uniform(0.01, 1.0, N)}
READOUT = LeakyReadout(tau_mem=np.array([0.02, np.inf]), bias=np.array([0.1, -0.25]), v_leak=0.5, v_min=-3.0)


def slow(pre: str, post: str, n_pre: int, n_post: int, seed: int, *, max_delay: int = 255) -> Projection:
    """A static projection with delays."""
    connect = edges(np.random.default_rng(seed), n_pre, n_post, 0.2, max_delay=max_delay)
    return Projection(name=f"slow {pre} {post}", pre=pre, post=post, connect=connect)


@dataclass(frozen=True)
class Case:
    """A network, how long and on what it runs. ``first``: step of the first input spike; ``rows`` of the signals, all where None."""

    network: Network
    steps: int = 200
    rate: float = 0.06
    first: int = 0
    rows: int | None = None
    options: tuple[str, ...] = ()
    sources: Mapping[str, float] = field(default_factory=dict)


def per_neuron() -> Case:
    """Every parameter per neuron, biased readouts, static projections with delays, spikes from step 0 on, a signal that ends early."""
    more = (slow("in", "hidden", 12, N, 1), slow("hidden", "hidden", N, N, 2, max_delay=30), slow("hidden", "out", N, 2, 3))
    return Case(make_network(LIF(**PER_NEURON), replace(RULE, trace_cutoff_steps=25), readout=READOUT, more=more), steps=300, rows=250)


def clamped() -> Case:
    model = LIF(**{**PER_NEURON, "v_min": -0.9}, reset=Reset.TO_VALUE, v_reset=rng.uniform(-0.8, -0.1, N))
    return Case(make_network(model, replace(RULE, surrogate=Surrogate(kind=SurrogateKind.EXPONENTIAL, height=0.5, width=0.4))))


def adaptive() -> Case:
    """alif, Adam in each step; no spike in step 0, from which NEST would count otherwise."""
    optimizer = Adam(learning_rate=1e-3, each_step=True)
    return Case(make_network(ALIF(**PER_NEURON, **ADAPTS), replace(RULE, optimizer=optimizer)), first=1)


def adaptive_clamped() -> Case:
    model = ALIF(tau_mem=0.02, v_threshold=0.5, reset=Reset.TO_VALUE, v_reset=-0.1, v_min=rng.uniform(-0.5, -0.1, N), **ADAPTS)
    surrogate = Surrogate(kind=SurrogateKind.FAST_SIGMOID_DERIVATIVE, height=0.5, width=0.4)
    return Case(make_network(model, replace(RULE, surrogate=surrogate, kappa=0.8, kappa_reg=0.9, trace_cutoff_steps=1)))


def intervals() -> Case:
    """Updates every 20 steps, by Adam; weights that keep their signs, some of which end at 0."""
    optimizer = Adam(learning_rate=0.03, each_step=False)
    return Case(make_network(HIDDEN, replace(RULE, optimizer=optimizer, update=PerInterval(steps=20), sign_constraint=True)), first=1)


def bounds() -> Case:
    """Bounds that exclude 1, the default weight of NEST's synapses."""
    rule = replace(RULE, optimizer=GradientDescent(learning_rate=0.02), weight_bounds=(-0.75, 0.5))
    return Case(with_weights(make_network(HIDDEN, rule), lambda w: np.clip(w, -0.75, 0.5)))


def two_of_each() -> Case:
    """Two hidden populations, two readouts, a Poisson source, rules by projection, feedback from a file and from a projection."""
    r = np.random.default_rng(3)
    file = ExplicitFeedback(connections=edges(r, 2, 8, 1.0))
    other = EProp(name="b", feedback=ProjectionFeedback(projection="back"), optimizer=GradientDescent(learning_rate=1e-3), kappa=0.9)
    rules = (replace(RULE, name="a", feedback=file), other, replace(RULE, name="c", feedback=file, weight_bounds=(-2.0, 2.0)))
    network = Network(
        name="two",
        dt=1e-3,
        seed=4,
        populations=(
            Population(name="out 2", size=3, model=LeakyReadout(tau_mem=0.01)),
            Population(name="h1", size=8, model=HIDDEN),
            Population(name="in", size=12, model=SpikeSource()),
            Population(name="h2", size=6, model=ALIF(tau_mem=0.03, v_threshold=0.5, adapt_beta=0.1, adapt_tau=0.1)),
            Population(name="noise", size=5, model=SpikeSource(rate=80.0)),
            Population(name="out", size=2, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=(
            Projection(pre="in", post="h1", connect=edges(r, 12, 8, 0.5), learning="a"),
            Projection(pre="h1", post="h1", connect=edges(r, 8, 8, 0.3), learning="c"),
            Projection(pre="h1", post="h2", connect=edges(r, 8, 6, 0.5), learning="b"),
            Projection(pre="noise", post="h2", connect=edges(r, 5, 6, 0.4), learning="b"),
            Projection(pre="h2", post="h1", connect=edges(r, 6, 8, 0.2, max_delay=5)),
            Projection(pre="h2", post="out", connect=edges(r, 6, 2, 0.3), learning="a"),
            Projection(pre="h1", post="out 2", connect=edges(r, 8, 3, 0.3), learning="b"),
            Projection(name="back", pre="out", post="h2", connect=edges(r, 2, 6, 1.0)),
        ),
        rules=rules,
        task=Task(readout="out"),
    )
    return Case(network, first=1)


def repeated_pairs() -> Case:
    """Many synapses from one neuron to another: within a projection, over two of a rule, and beside static ones."""
    pre, post = np.tile(np.arange(12), 20), np.repeat(np.arange(10), 24)
    order = np.random.default_rng(5).permutation(240)
    weight = np.random.default_rng(6).normal(0.1, 0.1, 240)
    many = Explicit(pre=pre[order], post=post[order], weight=weight)
    more = (
        Projection(name="many", pre="in", post="hidden", connect=many, learning="eprop"),
        Projection(name="still", pre="in", post="hidden", connect=replace(many, weight=weight / 10)),
    )
    return Case(make_network(more=more))


def decimal_steps() -> Case:
    """Steps of 0.1 ms, which is no double: times must still fall on NEST's grid."""
    model = LIF(tau_mem=0.003, v_threshold=0.6, t_ref=0.0003)
    network = make_network(model, replace(RULE, trace_cutoff_steps=7), dt=1e-4)
    return Case(network, steps=1001)


def no_leak() -> Case:
    """Integrators with a bias and dyadic weights meet their threshold exactly: one rounding error would move a spike."""
    model = LIF(tau_mem=np.inf, v_threshold=1.0, bias=np.arange(N) / 16, v_leak=0.25, integration=Integration.EULER)
    network = make_network(model, replace(RULE, optimizer=GradientDescent(learning_rate=0.0)), readout=READOUT)
    return Case(with_weights(network, lambda w: np.round(w * 8) / 8))


def at_once() -> Case:
    """A constant input that makes neurons spike in step 0, one readout neuron."""
    model = LIF(tau_mem=0.02, v_threshold=0.6, bias=np.linspace(0.0, 0.7, N), t_ref=0.002)
    return Case(make_network(model, sizes=(12, N, 1), readout=LeakyReadout(tau_mem=0.02)))


def single() -> Case:
    """One neuron in every population."""
    network = make_network(LIF(tau_mem=0.02, v_threshold=0.3), sizes=(1, 1, 1))
    connect = Explicit(pre=np.zeros(1, np.int32), post=np.zeros(1, np.int32), weight=np.array([0.4]))
    return Case(replace(network, projections=tuple(replace(p, connect=connect) for p in network.projections)), rate=0.4)


def flushed() -> Case:
    """Sources that are silent for longer than the flush interval, beside static synapses with delays."""
    more = (slow("in", "hidden", 12, N, 1), slow("hidden", "out", N, 2, 2))
    return Case(make_network(HIDDEN, replace(RULE, trace_cutoff_steps=40), more=more), steps=3000, rate=0.0006)


def each_step_unflushed() -> Case:
    """Weights that each_step works ahead would show before they are transmitted if sources flushed."""
    optimizer = GradientDescent(learning_rate=1e-3, each_step=True)
    return Case(make_network(HIDDEN, replace(RULE, optimizer=optimizer)), steps=2600, rate=0.0008)


def symmetric_static() -> Case:
    return Case(make_network(HIDDEN, replace(RULE, feedback=SymmetricFeedback()), learning={"read": None}))


CASES: dict[str, Callable[[], Case]] = {
    "lif": lambda: Case(make_network(), rate=0.1),
    "lif, two threads": lambda: replace(per_neuron(), options=("--threads", "2")),
    "lif without learning": lambda: replace(per_neuron(), options=("--no-learn",)),
    "lif per neuron": per_neuron,
    "lif to_value": clamped,
    "alif, adam": adaptive,
    "alif to_value": adaptive_clamped,
    "adam, intervals, signs": intervals,
    "bounds": bounds,
    "two of each": two_of_each,
    "repeated pairs": repeated_pairs,
    "0.1 ms": decimal_steps,
    "no leak": no_leak,
    "at once": at_once,
    "single": single,
    "flushed": flushed,
    "each_step": each_step_unflushed,
    "symmetric": symmetric_static,
}
STILL = {"lif without learning", "no leak"}


@dataclass
class Beside:
    name: str
    case: Case
    done: Done
    expected: Arrays
    start: Arrays


@pytest.fixture(scope="module", params=CASES)
def beside(request: pytest.FixtureRequest, needs_nest: None, tmp_path_factory: pytest.TempPathFactory) -> Beside:
    """Run a case in a temporary folder and in the engine."""
    case = CASES[request.param]()
    network, steps = case.network, case.steps
    folder = write_program(network, tmp_path_factory.mktemp("run"))
    spikes = {
        p.name: random_spikes(p.size, steps, case.rate, first=case.first)
        for p in network.spike_sources
        if not np.any(np.asarray(getattr(p.model, "rate", 0.0)))
    }
    signals = {p.name: random_signal(p.size, steps, rows=case.rows) for p in network.readouts}
    done = call(folder, "--steps", str(steps), *given(folder, spikes, signals), *case.options)
    assert done.status == 0, done.stderr
    learn = "--no-learn" not in case.options
    start = engine(network, 1, {}, {}, learn=False)
    return Beside(request.param, case, done, engine(network, steps, spikes, signals, learn=learn), start)


def test_keys_and_types(beside: Beside) -> None:
    results = beside.done.results
    assert set(results) == set(beside.expected)
    for key, value in beside.expected.items():
        assert (results[key].dtype, results[key].shape) == (value.dtype, value.shape), key


def test_spikes_are_identical(beside: Beside) -> None:
    spikes = [key for key in beside.expected if key.startswith("spike_")]
    assert spikes
    for key in spikes:
        assert np.array_equal(beside.done.results[key], beside.expected[key]), key


def test_weights_are_the_engines(beside: Beside) -> None:
    weights = [key for key in beside.expected if key.startswith("weight:")]
    changed = 0.0
    for key in weights:
        got, expected = beside.done.results[key], beside.expected[key]
        np.testing.assert_allclose(got, expected, rtol=0, atol=RTOL * np.abs(expected).max(initial=0.0), err_msg=key)
        changed = max(changed, float(np.abs(expected - beside.start[key]).max(initial=0.0)))
        for end in ("pre:", "post:"):
            assert np.array_equal(beside.done.results[key.replace("weight:", end)], beside.expected[key.replace("weight:", end)])
    assert (changed == 0.0) if beside.name in STILL else (changed > 1e-4)


def test_outputs_are_the_engines(beside: Beside) -> None:
    for population in beside.case.network.readouts:
        got, expected = beside.done.results[f"output:{population.name}"], beside.expected[f"output:{population.name}"]
        assert np.abs(expected).max() > 0.0
        np.testing.assert_allclose(got, expected, rtol=0, atol=RTOL * np.abs(expected).max())


def test_summary_counts(beside: Beside) -> None:
    network, summary = beside.case.network, beside.done.summary
    counts = {p.name: beside.expected[f"spike_step:{p.name}"].size for p in network.populations if p.model.spikes}
    assert summary["n_spikes"] == counts
    assert min(counts.values()) >= 4
    assert summary["n_neurons"] == network.n_neurons
    assert summary["n_synapses"] == sum(beside.expected[f"weight:{p.name}"].size for p in network.synaptic_projections)
    assert summary["steps"] == beside.case.steps
    assert summary["out"] == "results.npz"
    early = any(np.any(beside.expected[key] == 0) for key in beside.expected if key.startswith("spike_step:"))
    assert summary["offset_steps"] == int(early)
    assert "warning" not in summary


def test_cases_cover_what_they_claim() -> None:
    """The features whose failure a case would show are in it."""
    expected = {name: CASES[name]() for name in CASES}
    networks = {name: case.network for name, case in expected.items()}
    assert {type(r.feedback) for n in networks.values() for r in n.rules if isinstance(r, EProp)} == {
        type(RANDOM), ExplicitFeedback, ProjectionFeedback, SymmetricFeedback,
    }  # fmt: skip
    delays = [p.connect.delay for p in networks["flushed"].projections if isinstance(p.connect, Explicit) and p.connect.delay is not None]
    assert max(int(d.max()) for d in delays) > 200
    weights = engine(networks["adam, intervals, signs"], 1, {}, {})
    assert any((w < 0).any() and (w > 0).any() for key, w in weights.items() if key.startswith("weight:"))
