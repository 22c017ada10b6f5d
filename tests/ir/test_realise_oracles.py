"""Realised connectivity against a second implementation: plain Python over ``numpy.random.Philox``, as docs/connectivity.md words it.

The oracle shares no code with ``ir``: keys come from hashlib, words from NumPy, numbers from the standard library. Statistics have fixed
seeds; their bounds (p > 1e-3) would fail one correct generator in a thousand, and were met at the first run.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurocompile.ir import (
    LIF,
    AllToAll,
    Constant,
    DistanceDependent,
    EProp,
    Explicit,
    FixedInDegree,
    FixedOutDegree,
    FixedProbability,
    LeakyReadout,
    LogNormal,
    Network,
    Normal,
    OneToOne,
    Population,
    Projection,
    RandomFeedback,
    Task,
    Uniform,
    Values,
)
from neurocompile.ir.connectivity import Connect
from neurocompile.ir.realise import Connections, iter_chunks, realise, realise_feedback, realise_targets
from neurocompile.ir.values import ValueSpec

MODEL = LIF(tau_mem=0.02, v_threshold=1.0)
ONE = Constant(value=1.0)
Pairs = list[tuple[int, int]]


def network(
    connect: Connect, n_pre: int, n_post: int, *, seed: int = 1, weight: ValueSpec = ONE, delay: ValueSpec = ONE, **at: Any
) -> Network:
    """Two populations of the given sizes (one, if ``n_post`` is 0) and the projection 'p' between them."""
    populations = [Population(name="a", size=n_pre, model=MODEL, positions=at.get("pre"))]
    if n_post:
        populations.append(Population(name="b", size=n_post, model=MODEL, positions=at.get("post")))
    projection = Projection(pre="a", post=populations[-1].name, connect=connect, weight=weight, delay=delay, name="p")
    return Network(name="n", dt=1e-3, seed=seed, populations=tuple(populations), projections=(projection,))


def made(connect: Connect, n_pre: int, n_post: int, **options: Any) -> Connections:
    net = network(connect, n_pre, n_post, **options)
    return realise(net, net.projections[0])


# --- the oracle ------------------------------------------------------------------------------------------------------------
def key(seed: int, purpose: str, *names: str) -> np.ndarray:
    content = (1).to_bytes(4, "little") + seed.to_bytes(8, "little")
    for text in (purpose, *names):
        content += len(text.encode()).to_bytes(4, "little") + text.encode()
    return np.frombuffer(hashlib.blake2b(content, digest_size=16, person=b"neurocompile").digest(), "<u8").astype(np.uint64)


def words(stream: np.ndarray, row: int) -> Iterator[int]:
    """Draws of a row: numpy raises its counter before it draws, so the block before the first one is 2^256 - 1 blocks on."""
    first = row * 2**64 - 1
    counter = np.array([(first >> (64 * i)) % 2**64 for i in range(4)], np.uint64)
    generator = np.random.Philox(counter=counter, key=stream)
    while True:
        yield int(generator.random_raw())


def floyd(draws: Iterator[int], n: int, degree: int) -> list[int]:
    chosen: set[int] = set()
    for top in range(n - degree, n):
        number = next(draws) * (top + 1) >> 64
        chosen.add(top if number in chosen else number)
    return sorted(chosen)


def skipped(sources: list[int], own: int | None) -> list[int]:
    """Numbers of candidates -> of neurons, where neuron ``own`` is no candidate."""
    return [s + 1 if own is not None and s >= own else s for s in sources]


def slow_probability(seed: int, n_pre: int, n_post: int, p: float, no_self: bool) -> Pairs:
    found = []
    for j in range(n_post):
        draws, at, candidates = words(key(seed, "connectivity", "p"), j), -1, n_pre - no_self
        while True:
            u = ((next(draws) >> 11) + 1) / 2**53
            gap = math.floor(math.log(u) * (1.0 / math.log1p(-p)))
            if at + 1 + gap >= candidates:
                break
            at += 1 + gap
            found.append((skipped([at], j if no_self else None)[0], j))
    return found


def slow_indegree(seed: int, n_pre: int, n_post: int, degree: int, no_self: bool) -> Pairs:
    found = []
    for j in range(n_post):
        chosen = floyd(words(key(seed, "connectivity", "p"), j), n_pre - no_self, degree)
        found += [(i, j) for i in skipped(chosen, j if no_self else None)]
    return found


def slow_outdegree(seed: int, n_pre: int, n_post: int, degree: int, no_self: bool) -> Pairs:
    found = []
    for i in range(n_pre):
        chosen = floyd(words(key(seed, "connectivity", "p"), i), n_post - no_self, degree)
        found += [(i, j) for j in skipped(chosen, i if no_self else None)]
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def pairs(found: Connections) -> Pairs:
    return list(zip(found.pre.tolist(), found.post.tolist(), strict=True))


SIZES = st.integers(1, 12)
SEEDS = st.integers(0, 2**63 - 1)


@given(n_pre=SIZES, n_post=SIZES, p=st.floats(0.01, 0.99), same=st.booleans(), autapses=st.booleans(), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_fixed_probability(n_pre: int, n_post: int, p: float, same: bool, autapses: bool, seed: int) -> None:
    found = made(FixedProbability(probability=p, allow_autapses=autapses), n_pre, 0 if same else n_post, seed=seed)
    assert pairs(found) == slow_probability(seed, n_pre, n_pre if same else n_post, p, same and not autapses)


@given(n_pre=SIZES, n_post=SIZES, share=st.floats(0, 1), same=st.booleans(), autapses=st.booleans(), seed=SEEDS, inward=st.booleans())
@settings(max_examples=40, deadline=None)
def test_fixed_degrees(n_pre: int, n_post: int, share: float, same: bool, autapses: bool, seed: int, inward: bool) -> None:
    n_post, no_self = n_pre if same else n_post, same and not autapses
    degree = round(share * ((n_pre if inward else n_post) - no_self))
    rule, slow = (FixedInDegree, slow_indegree) if inward else (FixedOutDegree, slow_outdegree)
    found = made(rule(degree=degree, allow_autapses=autapses), n_pre, 0 if same else n_post, seed=seed)
    assert pairs(found) == slow(seed, n_pre, n_post, degree, no_self)


def test_words_of_row_zero_begin_at_block_zero() -> None:
    """The oracle itself: Random123's known answer for counter 0 and key 0."""
    assert next(words(np.zeros(2, np.uint64), 0)) == 0x16554D9ECA36314C


@pytest.mark.parametrize("spec", [Normal(mean=-0.5, std=2.0), LogNormal(mu=0.3, sigma=0.7), Uniform(low=-3.0, high=5.0)], ids=repr)
def test_weights_are_the_draws_of_their_target(spec: Normal | LogNormal | Uniform) -> None:
    """One draw a synapse; rtol: ndtri and the standard library's inverse differ by a few 1e-13 in the tails."""
    found = made(FixedProbability(probability=0.4), 12, 9, weight=spec, seed=77)
    standard = statistics.NormalDist()
    expected = []
    for j in range(9):
        draws = words(key(77, "weight", "p"), j)
        for _ in range(int((found.post == j).sum())):
            u = ((next(draws) >> 12) + 0.5) / 2**52
            if isinstance(spec, Uniform):
                expected.append(spec.low + (spec.high - spec.low) * u)
            elif isinstance(spec, Normal):
                expected.append(spec.mean + spec.std * standard.inv_cdf(u))
            else:
                expected.append(math.exp(spec.mu + spec.sigma * standard.inv_cdf(u)))
    np.testing.assert_allclose(found.weight, expected, rtol=1e-11)


def test_delays_and_feedback_are_draws_of_streams_of_their_own() -> None:
    found = made(AllToAll(), 7, 5, delay=Uniform(low=3, high=12), seed=5)
    draws = {j: words(key(5, "delay", "p"), j) for j in range(5)}
    expected = [3 + math.floor(10 * ((next(draws[int(j)]) >> 12) + 0.5) / 2**52) for j in found.post]
    assert found.delay.tolist() == expected
    rule = EProp(name="rule", feedback=RandomFeedback(weight=Uniform(low=0.0, high=1.0)))
    populations = (Population(name="a", size=6, model=MODEL), Population(name="out", size=3, model=LeakyReadout(tau_mem=0.02)))
    net = Network(name="n", dt=1e-3, seed=5, populations=populations, rules=(rule,), task=Task(readout="out"))
    feedback = realise_feedback(net, rule, "a")
    assert feedback is not None
    for j in range(6):
        column = words(key(5, "feedback", "rule", "a"), j)
        assert feedback[:, j].tolist() == [((next(column) >> 12) + 0.5) / 2**52 for _ in range(3)]


# --- parts -----------------------------------------------------------------------------------------------------------------
def joined(parts: list[Connections]) -> dict[str, bytes]:
    return {name: b"".join(getattr(p, name).tobytes() for p in parts) for name in ("pre", "post", "weight", "delay")}


@st.composite
def any_projection(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Network:
    """A projection of any rule with any weights and delays."""
    n_pre, n_post, seed = draw(SIZES), draw(SIZES), draw(SEEDS)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rules: dict[str, Connect] = {
        "all": AllToAll(),
        "one": OneToOne(),
        "p": FixedProbability(probability=draw(st.floats(0, 1))),
        "in": FixedInDegree(degree=draw(st.integers(0, n_pre))),
        "out": FixedOutDegree(degree=draw(st.integers(0, n_post))),
        "near": DistanceDependent(probability=0.9, scale=1.0, profile="exponential", periodic=draw(st.sampled_from([None, (4.0, 5.0)]))),
        "list": Explicit(pre=rng.integers(0, n_pre, 20), post=rng.integers(0, n_post, 20)),
    }
    rule = draw(st.sampled_from(sorted(rules)))
    n_post = n_pre if rule == "one" else n_post
    at = {"pre": rng.uniform(-3, 3, (n_pre, 2)), "post": rng.uniform(-3, 3, (n_post, 2))}
    weight = draw(st.sampled_from([ONE, Normal(mean=0.0, std=1.0), LogNormal(mu=0.0, sigma=1.0), Uniform(low=-1.0, high=1.0)]))
    delay = draw(st.sampled_from([ONE, Uniform(low=1, high=255), Normal(mean=3.0, std=4.0), LogNormal(mu=1.0, sigma=2.0)]))
    net = network(rules[rule], n_pre, n_post, seed=seed, weight=weight, delay=delay, **at)
    if draw(st.booleans()):  # an array: one weight a synapse
        n = len(realise(net, net.projections[0]))
        net = network(rules[rule], n_pre, n_post, seed=seed, weight=Values(values=np.arange(n) / 7), delay=delay, **at)
    return net


@given(net=any_projection(), limit=st.integers(1, 200), narrow=st.booleans())
@settings(max_examples=60, deadline=None)
def test_chunks_of_any_size_join_to_the_whole(net: Network, limit: int, narrow: bool) -> None:
    dtype = np.float32 if narrow else np.float64
    projection = net.projections[0]
    chunks = list(iter_chunks(net, projection, max_synapses=limit, dtype=dtype))
    whole = realise(net, projection, dtype=dtype)
    assert joined([c.connections for c in chunks]) == joined([whole])
    np.testing.assert_array_equal(whole.weight, realise(net, projection).weight.astype(dtype))  # float32: the float64 ones, rounded
    assert whole.weight.dtype == dtype
    assert (whole.delay >= 1).all()


@given(net=any_projection(), cuts=st.lists(st.integers(0, 12), max_size=5))
@settings(max_examples=40, deadline=None)
def test_any_ranges_of_targets_join_to_the_whole(net: Network, cuts: list[int]) -> None:
    projection, n_post = net.projections[0], net.population(net.projections[0].post).size
    edges = [0, *sorted(min(c, n_post) for c in cuts), n_post]
    parts = [realise_targets(net, projection, low, high) for low, high in pairwise(edges)]
    whole = realise(net, projection)
    if isinstance(projection.connect, Explicit):  # a list keeps its own order: parts are selections
        chosen = [np.flatnonzero((whole.post >= low) & (whole.post < high)) for low, high in pairwise(edges)]
        whole = Connections(**{n: np.concatenate([getattr(whole, n)[c] for c in chosen]) for n in ("pre", "post", "weight", "delay")})
    assert joined(parts) == joined([whole])


@given(net=any_projection())
@settings(max_examples=30, deadline=None)
def test_csr_of_both_ends_holds_each_synapse_once(net: Network) -> None:
    projection = net.projections[0]
    whole = realise(net, projection)
    for end, other in (("pre", "post"), ("post", "pre")):
        n = net.population(getattr(projection, end)).size
        csr = getattr(whole, f"csr_by_{end}")(n)
        assert sorted(csr.synapse.tolist()) == list(range(len(whole)))
        owner = np.repeat(np.arange(n), np.diff(csr.indptr))
        np.testing.assert_array_equal(getattr(whole, end)[csr.synapse], owner)
        np.testing.assert_array_equal(getattr(whole, other)[csr.synapse], csr.indices)
        same = owner[1:] == owner[:-1]
        assert (np.diff(csr.synapse)[same] > 0).all()  # canonical order within a neuron


CHUNKED: dict[str, Connect] = {
    "all_to_all": AllToAll(),
    "fixed_probability": FixedProbability(probability=0.5),
    "fixed_indegree": FixedInDegree(degree=500),
    "fixed_outdegree": FixedOutDegree(degree=500),
    "distance_dependent": DistanceDependent(probability=1.0, scale=1.0, radius=2.0),
}


@pytest.mark.parametrize("rule", CHUNKED)
def test_chunks_need_the_memory_of_a_chunk(rule: str) -> None:
    """1000 x 1000 with normal weights: the whole is half a million synapses or more (8 MB for the result alone), a chunk 20,000.

    A synapse costs at most about 60 bytes on the way (draws, their inverse, result, sources), so 20,000 need 1.2 MB. 2.5 MB leave room
    for the positions' cells; the whole must need five times as much as the chunks do.
    """
    at = np.random.default_rng(0).uniform(0, 2.0, (1000, 1))
    net = network(CHUNKED[rule], 1000, 1000, weight=Normal(mean=0.0, std=1.0), pre=at, post=at)
    projection = net.projections[0]
    realise_targets(net, projection, 0, 1)  # compile before measuring
    peaks = []
    for run in (
        lambda: sum(len(c.connections) for c in iter_chunks(net, projection, max_synapses=20_000)),
        lambda: len(realise(net, projection)),
    ):
        tracemalloc.start()
        n = run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert n >= 490_000
    assert peaks[0] < 2.5e6
    assert peaks[1] > 5 * peaks[0]


# --- statistics ------------------------------------------------------------------------------------------------------------
def fits(counts: np.ndarray, distribution: Any) -> float:
    """p-value of a chi-square test of integer counts against a discrete distribution, in ten classes of about equal chance."""
    edges = np.unique(distribution.ppf(np.linspace(0.1, 0.9, 9)))
    observed = np.bincount(np.searchsorted(edges, counts, side="left"), minlength=len(edges) + 1)
    chances = np.diff(np.concatenate(([0.0], distribution.cdf(edges), [1.0])))
    return float(stats.chisquare(observed, chances * len(counts)).pvalue)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_degree_distributions(seed: int) -> None:
    """fixed_probability: both degrees binomial; fixed in-degree: out-degrees binomial, and the other way round (n = 2000)."""
    n_pre, n_post = 2000, 1500
    p = made(FixedProbability(probability=0.02), n_pre, n_post, seed=seed)
    assert fits(np.bincount(p.pre, minlength=n_pre), stats.binom(n_post, 0.02)) > 1e-3
    assert fits(np.bincount(p.post, minlength=n_post), stats.binom(n_pre, 0.02)) > 1e-3
    inward = made(FixedInDegree(degree=40), n_pre, n_post, seed=seed)
    assert set(np.bincount(inward.post, minlength=n_post)) == {40}
    assert fits(np.bincount(inward.pre, minlength=n_pre), stats.binom(n_post, 40 / n_pre)) > 1e-3
    outward = made(FixedOutDegree(degree=30), n_pre, n_post, seed=seed)
    assert set(np.bincount(outward.pre, minlength=n_pre)) == {30}
    assert fits(np.bincount(outward.post, minlength=n_post), stats.binom(n_pre, 30 / n_post)) > 1e-3


@pytest.mark.parametrize("no_autapses_rule", [FixedProbability, FixedInDegree, FixedOutDegree])
def test_without_autapses_all_other_partners_are_equally_likely(no_autapses_rule: Any) -> None:
    """The shift around the own number must not favour anybody: 6 neurons, 1500 seeds, each off-diagonal pair as often as any other."""
    option = {"probability": 0.4} if no_autapses_rule is FixedProbability else {"degree": 2}
    counts = np.zeros((6, 6))
    for seed in range(1500):
        found = made(no_autapses_rule(**option, allow_autapses=False), 6, 0, seed=seed)
        np.add.at(counts, (found.pre, found.post), 1)
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(6, dtype=bool)]
    # every pair has the chance 0.4: 30 counts with mean 600 and standard deviation 19; 4.5 of them is one in 5000 for the largest of 30
    assert np.abs(others - 600).max() < 4.5 * math.sqrt(1500 * 0.4 * 0.6)


@pytest.mark.parametrize(
    ("spec", "mean", "std"),
    [
        (Normal(mean=0.02, std=0.5), 0.02, 0.5),
        (Uniform(low=-1.0, high=3.0), 1.0, 4 / math.sqrt(12)),
        (LogNormal(mu=-1.0, sigma=0.5), math.exp(-1 + 0.125), math.exp(-1 + 0.125) * math.sqrt(math.exp(0.25) - 1)),
    ],
    ids=repr,
)
def test_moments_of_weights(spec: ValueSpec, mean: float, std: float) -> None:
    """250,000 draws: the mean within 4 standard errors; the variance within 2 % (its relative error is at most 0.6 % here)."""
    values = made(AllToAll(), 500, 500, weight=spec, seed=3).weight
    assert abs(values.mean() - mean) < 4 * std / 500
    assert values.std() == pytest.approx(std, rel=0.02)


def test_clipped_delays_hold_the_mass_of_the_tails() -> None:
    """Normal(100, 120): what lies below 1.5 becomes 1, above 254.5 becomes 255; shares within 4 standard errors of 160,000 draws."""
    delay = made(AllToAll(), 400, 400, delay=Normal(mean=100.0, std=120.0)).delay
    law = stats.norm(100.0, 120.0)
    for value, share in ((1, law.cdf(1.5)), (255, law.sf(254.5)), (100, law.cdf(100.5) - law.cdf(99.5))):
        assert abs((delay == value).mean() - share) < 4 * math.sqrt(share * (1 - share)) / 400
    assert delay.min() == 1
    assert delay.max() == 255
    lognormal = made(AllToAll(), 100, 100, delay=LogNormal(mu=5.0, sigma=2.0)).delay
    assert {1, 255} <= set(lognormal.tolist())


# --- distance --------------------------------------------------------------------------------------------------------------
@given(
    dimensions=st.integers(1, 3),
    size=st.floats(0.5, 20.0),
    reach=st.floats(0.05, 15.0),
    period=st.none() | st.floats(0.5, 20.0),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_all_pairs_within_the_radius_and_no_other(dimensions: int, size: float, reach: float, period: float | None, seed: int) -> None:
    """Probability 1 and a huge scale leave the radius alone to decide; distances to the nearest of all 27 (9, 3) images, by brute force."""
    rng = np.random.default_rng(seed)
    pre, post = rng.uniform(-size, size, (15, dimensions)), rng.uniform(-size, size, (11, dimensions))
    torus = None if period is None else tuple(period * (1 + 0.3 * d) for d in range(dimensions))
    found = made(DistanceDependent(probability=1.0, scale=1e150, radius=reach, periodic=torus), 15, 11, pre=pre, post=post)
    delta = post[:, None, :] - pre[None, :, :]
    if torus is not None:
        delta = delta % torus
        delta = np.minimum(delta, torus - delta)
    distance = np.sqrt((delta**2).sum(axis=-1))
    sure = np.abs(distance - reach) > 1e-9 * (1 + size)  # at the very radius rounding decides
    got = np.zeros((11, 15), bool)
    got[found.post, found.pre] = True
    np.testing.assert_array_equal(got[sure], (distance <= reach)[sure])


@pytest.mark.parametrize("profile", ["gaussian", "exponential"])
def test_probability_falls_as_the_profile_says(profile: Any) -> None:
    """Sources on a line, 20,000 targets at 0: the share connected to the source at distance d is p(d), exact binomial test each."""
    distance = np.array([0.0, 0.5, 1.0, 1.5, 2.5, 3.9])
    connect = DistanceDependent(probability=0.8, scale=1.0, profile=profile)
    found = made(connect, 6, 20_000, pre=distance[:, None], post=np.zeros((20_000, 1)), seed=12)
    for source, d in enumerate(distance):
        chance = 0.8 * math.exp(-d * d / 2 if profile == "gaussian" else -d)
        assert stats.binomtest(int((found.pre == source).sum()), 20_000, chance).pvalue > 1e-3, (source, d)


def test_an_infinite_radius_reaches_everything() -> None:
    at = np.random.default_rng(1).normal(size=(20, 3)) * 1e6
    connect = DistanceDependent(probability=1.0, scale=1e150, radius=math.inf)
    assert len(made(connect, 20, 20, pre=at, post=at)) == 400
