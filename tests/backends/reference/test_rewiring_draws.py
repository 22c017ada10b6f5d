"""What rewiring draws: pairs are uniform, the walk has its mean and variance, signs and pauses decide who moves and when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare

from neurocompile.backends.reference import Simulator
from neurocompile.backends.reference.kernels.rewiring import draw_pairs
from neurocompile.ir import AllToAll, Constant, Explicit, GradientDescent, Network, Projection, Rewiring
from neurocompile.ir.counter_rng import stream_key
from neurocompile.ir.signals import Spikes
from tests.backends.reference.dense_rewiring import move
from tests.backends.reference.rewired_networks import N_IN, N_OUT, NEURON, RULE, SIZES, make


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
