"""Realised connectivity: statistics of each rule, order, determinism, values."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise

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
    Explicit,
    FixedInDegree,
    FixedOutDegree,
    FixedProbability,
    LogNormal,
    Network,
    Normal,
    OneToOne,
    Population,
    Projection,
    Uniform,
    Values,
)
from neurocompile.ir import realise as module
from neurocompile.ir.counter_rng import philox, stream_key, unit_half_open
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.realise import (
    Connections,
    estimated_synapses,
    expected_synapses,
    iter_chunks,
    realise,
    realise_all,
    realise_targets,
    require_memory,
)

ONE = Constant(value=1.0)
MODEL = LIF(tau_mem=0.02, v_threshold=1.0)


def network(connect, n_pre=50, n_post=40, *, same=False, weight=ONE, delay=ONE, seed=1, pre_at=None, post_at=None):
    populations = [Population(name="a", size=n_pre, model=MODEL, positions=pre_at)]
    if not same:
        populations.append(Population(name="b", size=n_post, model=MODEL, positions=post_at))
    projection = Projection(pre="a", post="a" if same else "b", connect=connect, weight=weight, delay=delay, name="p")
    return Network(name="n", dt=1e-3, seed=seed, populations=tuple(populations), projections=(projection,))


def made(*args, dtype=np.float64, **kwargs) -> Connections:
    net = network(*args, **kwargs)
    return realise(net, net.projections[0], dtype=dtype)


def same_bits(a: Connections, b: Connections) -> None:
    for name in ("pre", "post", "weight", "delay"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y, err_msg=name)


def joined(parts: list[Connections]) -> Connections:
    return Connections(**{k: np.concatenate([getattr(p, k) for p in parts]) for k in ("pre", "post", "weight", "delay")})


def positions(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-3.0, 7.0, (n, d))


RULES = {
    "all_to_all": AllToAll(),
    "all_to_all no autapses": AllToAll(allow_autapses=False),
    "one_to_one": OneToOne(),
    "p=0": FixedProbability(probability=0.0),
    "p=1e-300": FixedProbability(probability=1e-300),
    "p=0.13": FixedProbability(probability=0.13, allow_autapses=False),
    "p=1": FixedProbability(probability=1.0, allow_autapses=False),
    "in": FixedInDegree(degree=7, allow_autapses=False),
    "in all": FixedInDegree(degree=39, allow_autapses=False),
    "in 0": FixedInDegree(degree=0),
    "out": FixedOutDegree(degree=9, allow_autapses=False),
    "out 0": FixedOutDegree(degree=0),
    "distance": DistanceDependent(probability=0.8, scale=1.5, allow_autapses=False),
    "torus": DistanceDependent(probability=0.8, scale=1.0, periodic=(10.0, 10.0), profile="exponential", radius=4.0),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("same", [True, False])
def test_order_ranges_and_parts(rule: str, same: bool) -> None:
    at = positions(40, 2)
    net = network(
        RULES[rule],
        40,
        40,
        same=same,
        weight=Normal(mean=1.0, std=2.0),
        delay=Uniform(low=2, high=9),
        pre_at=at,
        post_at=positions(40, 2, 1),
    )
    projection = net.projections[0]
    whole = realise(net, projection)
    pairs = whole.post.astype(np.int64) * 40 + whole.pre
    assert (np.diff(pairs) > 0).all()  # by target, then by source, no duplicate
    if len(whole):
        assert pairs[0] >= 0
        assert pairs[-1] < 1600
    if same and not getattr(RULES[rule], "allow_autapses", True):
        assert (whole.pre != whole.post).all()
    same_bits(whole, realise(net, projection))
    for cuts in ([0, 40], [0, 1, 2, 17, 17, 40]):
        parts = [realise_targets(net, projection, low, high) for low, high in pairwise(cuts)]
        same_bits(whole, joined(parts))
    for limit in (1, 10, 97, 10**9):
        chunks = list(iter_chunks(net, projection, max_synapses=limit))
        same_bits(whole, joined([c.connections for c in chunks]))
        assert [c.start for c in chunks[1:]] == [c.stop for c in chunks[:-1]]
        for chunk in chunks:
            assert chunk.stop - chunk.start == 1 or len(chunk.connections) <= limit
            assert chunk.indptr is not None
            np.testing.assert_array_equal(np.repeat(np.arange(chunk.start, chunk.stop), np.diff(chunk.indptr)), chunk.connections.post)
        assert [c.first_synapse for c in chunks] == np.cumsum([0] + [len(c.connections) for c in chunks])[:-1].tolist()


@given(
    n_pre=st.integers(1, 30),
    n_post=st.integers(1, 30),
    p=st.floats(0, 1),
    degree=st.integers(0, 30),
    limit=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=60, deadline=None)
def test_parts_agree_for_any_size(n_pre: int, n_post: int, p: float, degree: int, limit: int, seed: int) -> None:
    for connect in (
        FixedProbability(probability=p),
        FixedInDegree(degree=min(degree, n_pre)),
        FixedOutDegree(degree=min(degree, n_post)),
    ):
        net = network(connect, n_pre, n_post, seed=seed, weight=Uniform(low=-1.0, high=1.0))
        projection = net.projections[0]
        whole = realise(net, projection)
        same_bits(whole, joined([c.connections for c in iter_chunks(net, projection, max_synapses=limit)]))
        middle = n_post // 2
        same_bits(whole, joined([realise_targets(net, projection, 0, middle), realise_targets(net, projection, middle, n_post)]))
        assert (np.diff(whole.post.astype(np.int64) * n_pre + whole.pre) > 0).all()
        assert ((whole.pre >= 0) & (whole.pre < n_pre)).all()


def test_deterministic_rules_exactly() -> None:
    dense = made(AllToAll(allow_autapses=False), 4, same=True)
    assert list(zip(dense.pre, dense.post, strict=True)) == [(i, j) for j in range(4) for i in range(4) if i != j]
    one = made(OneToOne(), 5, 5)
    assert one.pre.tolist() == one.post.tolist() == [0, 1, 2, 3, 4]
    given_order = made(Explicit(pre=[3, 0, 3], post=[1, 0, 1], weight=[1.0, 2.0, 3.0], delay=[1, 2, 255]))
    assert given_order.pre.tolist() == [3, 0, 3]
    assert given_order.weight.tolist() == [1.0, 2.0, 3.0]
    assert given_order.delay.tolist() == [1, 2, 255]


def test_fixed_probability_statistics() -> None:
    """Number of synapses (exact binomial test), synapses per source and gap between sources (chi-square)."""
    n_pre, n_post, p = 400, 3000, 0.03
    found = made(FixedProbability(probability=p), n_pre, n_post)
    assert stats.binomtest(len(found), n_pre * n_post, p).pvalue > 1e-3
    per_source = np.bincount(found.pre, minlength=n_pre)
    assert stats.chisquare(per_source, np.full(n_pre, len(found) / n_pre)).pvalue > 1e-3
    in_degree = np.bincount(found.post, minlength=n_post)
    edges = stats.binom.ppf(np.linspace(0.1, 0.9, 9), n_pre, p)
    edges = np.unique(edges)
    observed = np.bincount(np.searchsorted(edges, in_degree, side="left"), minlength=len(edges) + 1)
    chances = np.diff(np.concatenate(([0.0], stats.binom.cdf(edges, n_pre, p), [1.0])))
    assert stats.chisquare(observed, chances * n_post).pvalue > 1e-3


@pytest.mark.parametrize("connect", [FixedInDegree(degree=3), FixedOutDegree(degree=3)])
def test_fixed_degree_subsets_are_equally_likely(connect: FixedInDegree | FixedOutDegree) -> None:
    """All C(6, 3) = 20 subsets, chi-square; degree exact."""
    inward = isinstance(connect, FixedInDegree)
    found = made(connect, *((6, 20_000) if inward else (20_000, 6)))
    fixed, free = (found.post, found.pre) if inward else (found.pre, found.post)
    np.testing.assert_array_equal(np.bincount(fixed), 3)
    masks = np.bincount(fixed, weights=2.0**free).astype(int)
    kinds, counts = np.unique(masks, return_counts=True)
    assert len(kinds) == 20
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("profile", ["gaussian", "exponential"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("period", [None, 10.0, 4.0])
@pytest.mark.parametrize("radius", [None, 0.3, 2.5])
def test_distance_dependent_equals_all_pairs(profile, dimensions, period, radius) -> None:
    """Brute force over all pairs with the pair's own draw: the grid may neither lose nor double a pair."""
    n_pre, n_post = 60, 45
    pre, post = positions(n_pre, dimensions, 3), positions(n_post, dimensions, 4)
    connect = DistanceDependent(
        probability=0.9, scale=0.9, profile=profile, radius=radius, periodic=None if period is None else (period,) * dimensions
    )
    found = made(connect, n_pre, n_post, pre_at=pre, post_at=post, seed=9)
    key, words = stream_key(9, "connectivity", "p"), np.empty(4, np.uint64)
    reach = radius if radius is not None else (4 if profile == "gaussian" else 8) * 0.9
    expected = []
    for j in range(n_post):
        for i in range(n_pre):
            delta = post[j] - pre[i]
            if period is not None:
                delta = (delta + period / 2) % period - period / 2
            d = float(np.linalg.norm(delta))
            philox(key, np.uint64(i // 4), np.uint64(j), words)
            p = 0.9 * (np.exp(-(d**2) / (2 * 0.9**2)) if profile == "gaussian" else np.exp(-d / 0.9))
            if d <= reach and unit_half_open(words[i % 4]) < p:
                expected.append((i, j))
    assert list(zip(found.pre.tolist(), found.post.tolist(), strict=True)) == expected
    assert expected or radius == 0.3  # in three dimensions nothing may be that near


def test_distance_dependent_on_a_grid_includes_the_radius_itself() -> None:
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), -1).reshape(-1, 2)
    found = made(DistanceDependent(probability=1.0, scale=1e9, radius=1.0), 36, same=True, pre_at=grid)
    assert len(found) == 36 + 2 * 2 * 30  # itself and the 4 neighbours, 60 edges both ways


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_torus(length: float) -> None:
    with pytest.raises(InputError, match=r"NC201.*periodic"):
        DistanceDependent(probability=1.0, scale=1.0, periodic=(5.0, length))


def test_coinciding_positions() -> None:
    found = made(DistanceDependent(probability=1.0, scale=1.0), 5, 3, pre_at=np.zeros((5, 2)), post_at=np.zeros((3, 2)))
    assert len(found) == 15


def test_weights_follow_their_distributions() -> None:
    n = 200
    for spec, cdf in (
        (Normal(mean=0.5, std=2.0), stats.norm(0.5, 2.0).cdf),
        (LogNormal(mu=-1.0, sigma=0.5), stats.lognorm(0.5, scale=np.exp(-1.0)).cdf),
        (Uniform(low=-3.0, high=1.0), stats.uniform(-3.0, 4.0).cdf),
    ):
        values = made(AllToAll(), n, n, weight=spec).weight
        assert stats.kstest(values, cdf).pvalue > 1e-3
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / n  # neighbours are independent: 4 standard errors of 1/sqrt(n^2)
    assert (made(AllToAll(), 9, 9, weight=Uniform(low=2.0, high=2.0)).weight == 2.0).all()
    assert (made(AllToAll(), 9, 9, weight=Normal(mean=2.0, std=0.0)).weight == 2.0).all()


def test_lognormal_overflow_is_an_error() -> None:
    with pytest.raises(InputError, match=r"NC203.*mu 800"):
        made(AllToAll(), 2, 2, weight=LogNormal(mu=800.0, sigma=1.0))


def test_delays() -> None:
    found = made(AllToAll(), 200, 200, delay=Uniform(low=3, high=6)).delay
    assert found.dtype == np.uint8
    kinds, counts = np.unique(found, return_counts=True)
    assert kinds.tolist() == [3, 4, 5, 6]  # both ends included
    assert stats.chisquare(counts).pvalue > 1e-3
    clipped = made(AllToAll(), 100, 100, delay=Normal(mean=128.0, std=200.0)).delay
    assert clipped.min() == 1
    assert clipped.max() == 255
    rounded = made(AllToAll(), 100, 100, delay=Normal(mean=10.0, std=0.2)).delay
    assert rounded.min() >= 9
    assert abs(rounded.mean() - 10.0) < 0.1
    assert (made(AllToAll(), 9, 9, delay=Uniform(low=1, high=1)).delay == 1).all()
    assert made(AllToAll(), 50, 50, delay=Uniform(low=1, high=255)).delay.max() <= 255


def test_streams_are_separate() -> None:
    """The weight rule does not change who is connected, and weights and delays are not the same draws."""
    rule = FixedProbability(probability=0.3)
    one, two = made(rule, weight=Normal(mean=0, std=1)), made(rule, weight=Constant(value=1.0), delay=Uniform(low=1, high=200))
    np.testing.assert_array_equal(one.pre, two.pre)
    assert abs(np.corrcoef(one.weight, two.delay)[0, 1]) < 0.15
    assert not np.array_equal(made(rule, seed=2).pre, one.pre)


def test_float32_is_the_rounded_float64() -> None:
    rule, weight = FixedInDegree(degree=5), Normal(mean=0.0, std=1.0)
    wide, narrow = made(rule, weight=weight), made(rule, weight=weight, dtype=np.float32)
    assert narrow.weight.dtype == np.float32
    np.testing.assert_array_equal(wide.weight.astype(np.float32), narrow.weight)
    assert wide.pre.dtype == wide.post.dtype == np.int32
    assert not wide.weight.flags.writeable


def test_values_in_canonical_order() -> None:
    net = network(FixedProbability(probability=0.2), weight=Normal(mean=0, std=1))
    n = len(realise(net, net.projections[0]))
    values = np.arange(float(n))
    net = network(FixedProbability(probability=0.2), weight=Values(values=values), delay=Values(values=values % 255 + 1))
    projection = net.projections[0]
    np.testing.assert_array_equal(realise(net, projection).weight, values)
    parts = [realise_targets(net, projection, a, b) for a, b in ((0, 13), (13, 40))]
    same_bits(realise(net, projection), joined(parts))
    same_bits(realise(net, projection), joined([c.connections for c in iter_chunks(net, projection, max_synapses=31)]))
    wrong = network(FixedProbability(probability=0.2), weight=Values(values=values[:-1]))
    calls = (
        lambda p: realise(wrong, p),
        lambda p: realise_targets(wrong, p, 0, 3),
        lambda p: list(iter_chunks(wrong, p)),
    )
    for call in calls:
        with pytest.raises(InputError, match=f"NC202.*{n - 1} values for {n} synapses"):
            call(wrong.projections[0])


def test_explicit_with_distributions_in_parts() -> None:
    rng = np.random.default_rng(0)
    connect = Explicit(pre=rng.integers(0, 50, 90), post=rng.integers(0, 40, 90))
    net = network(connect, weight=Normal(mean=0, std=1), delay=Uniform(low=1, high=20))
    projection = net.projections[0]
    whole = realise(net, projection)
    np.testing.assert_array_equal(whole.pre, connect.pre)
    chunks = list(iter_chunks(net, projection, max_synapses=17))
    assert len(chunks) == 6
    same_bits(whole, joined([c.connections for c in chunks]))
    part, chosen = realise_targets(net, projection, 5, 20), (whole.post >= 5) & (whole.post < 20)
    np.testing.assert_array_equal(part.weight, whole.weight[chosen])
    np.testing.assert_array_equal(part.delay, whole.delay[chosen])
    same_bits(whole, realise_targets(net, projection, 0, 40))


def test_csr_both_ways() -> None:
    found = made(FixedProbability(probability=0.2), weight=Normal(mean=0, std=1))
    by_pre, by_post = found.csr_by_pre(50), found.csr_by_post(40)
    for csr, key, value, n in ((by_pre, found.pre, found.post, 50), (by_post, found.post, found.pre, 40)):
        assert csr.indptr.dtype == csr.synapse.dtype == np.int64
        assert csr.indices.dtype == np.int32
        assert len(csr.indptr) == n + 1
        for i in range(n):
            ids = csr.synapse[csr.indptr[i] : csr.indptr[i + 1]]
            np.testing.assert_array_equal(ids, np.flatnonzero(key == i))
            np.testing.assert_array_equal(csr.indices[csr.indptr[i] : csr.indptr[i + 1]], value[ids])
    np.testing.assert_array_equal(by_post.synapse, np.arange(len(found)))


def test_realise_all_and_expected_number() -> None:
    net = network(FixedInDegree(degree=4))
    assert set(realise_all(net)) == {"p"}
    assert expected_synapses(net, net.projections[0]) == len(realise_all(net)["p"]) == 160
    for connect, n in (
        (AllToAll(allow_autapses=False), 12),
        (FixedProbability(probability=0.5), 8),
        (FixedOutDegree(degree=2), 8),
        (OneToOne(), 4),
    ):
        net = network(connect, 4, same=True)
        assert expected_synapses(net, net.projections[0]) == n


def test_too_many_synapses_is_an_error_before_any_work() -> None:
    net = network(AllToAll(), 10**7, 10**7)
    with pytest.raises(DoesNotFitError, match=r"NC230.*1e\+14 synapses; .* needs 3352761\.3 GiB of memory") as error:  # 36e14 bytes
        realise(net, net.projections[0])
    assert error.value.diagnostics[0].help
    assert len(realise_targets(net, net.projections[0], 0, 0)) == 0


def test_out_of_memory_on_the_way_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "_realise_range", fail)
    net = network(AllToAll())
    with pytest.raises(DoesNotFitError, match="NC230"):
        realise(net, net.projections[0])


def test_all_projections_together_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two would fit alone: 1,600 synapses take 36 bytes while they are drawn, and 17 when they are there."""
    net = network(AllToAll(), 40, 40)
    both = (net.projections[0], Projection(pre="a", post="b", connect=AllToAll(), name="q"))
    net = Network(name="n", dt=1e-3, populations=net.populations, projections=both)
    most = 1600 * (17 + 17 + 19)
    monkeypatch.setattr(module, "available_memory", lambda: float(most))
    assert len(realise_all(net)) == 2
    require_memory(net, both, beside=18.0, doing="more", realised=True)
    monkeypatch.setattr(module, "available_memory", lambda: most - 1.0)
    assert len(realise(net, both[0])) == 1600
    for refused in (
        lambda: realise_all(net),
        lambda: require_memory(net, both, beside=30.0, doing="more", realised=True),
        lambda: require_memory(net, both, beside=10.0, doing="more"),
    ):
        with pytest.raises(DoesNotFitError, match=r"network 'n': 3\.2e\+03 synapses \(most in projection 'p': 1\.6e\+03\)"):
            refused()


@pytest.mark.parametrize("profile", ["gaussian", "exponential"])
@pytest.mark.parametrize("same", [True, False])
def test_estimated_synapses_of_distances(profile: str, same: bool) -> None:
    """Exact where every target is drawn; else within 5 standard errors of a sample of 1,024 targets (in-degrees vary little on a torus)."""
    at, period = np.random.default_rng(3).uniform(0.0, 1.0, (6000, 2)), (1.0, 1.0)
    rule = DistanceDependent(probability=0.6, scale=0.02, profile=profile, periodic=period, allow_autapses=False)
    few = network(rule, 200, 150, same=same, pre_at=at[:200], post_at=None if same else at[-150:])
    assert estimated_synapses(few, few.projections[0]) == len(realise(few, few.projections[0]))
    net = network(rule, 6000, 5000, same=same, pre_at=at, post_at=None if same else at[:5000])
    found = realise(net, net.projections[0])
    in_degree = np.bincount(found.post)
    assert estimated_synapses(net, net.projections[0]) == pytest.approx(len(found), abs=5 * in_degree.std() / 32 * len(in_degree))
    assert len(found) > 20_000


def test_too_many_synapses_of_distances_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(DistanceDependent(probability=1.0, scale=100.0), 400, 300, pre_at=positions(400, 2), post_at=positions(300, 2, 1))
    monkeypatch.setattr(module, "available_memory", lambda: 36.0 * 110_000)
    monkeypatch.setattr(module, "_realise_range", lambda *_: pytest.fail("it began"))
    with pytest.raises(DoesNotFitError, match=r"NC230.*1\.2e\+05 synapses"):
        realise(net, net.projections[0])


MEASURE = """
import sys
import numpy as np
from neurocompile.ir import *
from neurocompile.ir.realise import realise

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

def net(n):
    at = np.random.default_rng(1).random((n, 2))
    populations = tuple(Population(name=x, size=n, model=LIF(tau_mem=0.02, v_threshold=1.0), positions=at) for x in "ab")
    rule = {"p": FixedProbability(probability=0.5), "in": FixedInDegree(degree=n // 2), "out": FixedOutDegree(degree=n // 2),
            "distance": DistanceDependent(probability=0.5, scale=1e3)}[sys.argv[1]]
    projection = Projection(pre="a", post="b", connect=rule, weight=Normal(mean=0.0, std=1.0), delay=Normal(mean=5.0, std=2.0))
    return Network(name="n", dt=1e-3, populations=populations, projections=(projection,))

small, large = net(50), net(2500)
realise(small, small.projections[0])
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
n = len(realise(large, large.projections[0]))
print((status("VmHWM") - before) / n)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("rule", ["p", "in", "out", "distance"])
def test_memory_at_the_peak_is_what_is_asked_for(rule: str) -> None:
    """36 bytes a synapse, measured in a process of its own; 10 % for what the allocator keeps and for the synapses' rows."""
    done = subprocess.run([sys.executable, "-c", MEASURE, rule], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(36.0, rel=0.1)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (0, 41)])
def test_bad_parts(start: int, stop: int) -> None:
    net = network(AllToAll())
    with pytest.raises(InputError, match="NC231"):
        realise_targets(net, net.projections[0], start, stop)
    with pytest.raises(InputError, match="NC231"):
        list(iter_chunks(net, net.projections[0], max_synapses=0))


GOLDEN = {
    "fixed_probability": "e5207a3df6a1ebfd",
    "fixed_indegree": "76d5fd21dc72fa5f",
    "fixed_outdegree": "287c44fb8d9fb80a",
    "distance_dependent": "fdd1978caf0da156",
}


def digests() -> dict[str, str]:
    """Digest of a small realisation of each random rule: who is connected, delays, weights to 12 digits (libm may differ in the last)."""
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), -1).reshape(-1, 2)
    rules = {
        "fixed_probability": FixedProbability(probability=0.1),
        "fixed_indegree": FixedInDegree(degree=5),
        "fixed_outdegree": FixedOutDegree(degree=5),
        "distance_dependent": DistanceDependent(probability=0.7, scale=1.3),
    }
    result = {}
    for name, connect in rules.items():
        found = made(connect, 64, same=True, weight=Normal(mean=0, std=1), delay=Uniform(low=1, high=30), pre_at=grid, seed=2026)
        content = found.pre.tobytes() + found.post.tobytes() + found.delay.tobytes() + " ".join(f"{w:.12e}" for w in found.weight).encode()
        result[name] = hashlib.sha256(content).hexdigest()[:16]
    return result


def test_golden_streams() -> None:
    """A change of these changes every seeded network of every user: raise STREAM_VERSION and say so in the changelog."""
    assert digests() == GOLDEN


def test_another_process_builds_the_same() -> None:
    code = (
        "from neurocompile.ir import *; from neurocompile.ir.realise import realise\n"
        "m = LIF(tau_mem=0.02, v_threshold=1.0)\n"
        "n = Network(name='n', dt=1e-3, seed=7, populations=(Population(name='a', size=30, model=m),), projections=(Projection(pre='a', "
        "post='a', name='p', connect=FixedProbability(probability=0.2), weight=Normal(mean=0, std=1)),))\n"
        "c = realise(n, n.projections[0]); print(c.pre.tobytes().hex(), c.weight.tobytes().hex())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout.split()
    here = made(FixedProbability(probability=0.2), 30, same=True, weight=Normal(mean=0, std=1), seed=7)
    assert out == [here.pre.tobytes().hex(), here.weight.tobytes().hex()]
