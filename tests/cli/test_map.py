"""``map``: graphs and descriptions to cores and chips, beside counts by hand; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Int = npt.NDArray[np.int64]


def km1(core: Int, pre: Int, post: Int, rate: npt.NDArray[np.float64] | None = None) -> float:
    """(source, other core with a target of it) pairs, weighted with the source's rate."""
    pairs = {(int(a), int(core[b])) for a, b in zip(pre, post, strict=True) if core[a] != core[b]}
    return float(sum(1.0 if rate is None else rate[a] for a, _ in pairs))


def communities(n: int, size: int, seed: int = 0) -> tuple[Int, Int, Int]:
    """Shuffled groups that are all connected within, and a ring of one edge from each to the next; the group of each neuron."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.repeat(np.arange(n), size))
    pre, post = np.nonzero((member[:, None] == member[None, :]) & ~np.eye(n * size, dtype=bool))
    first = np.array([np.flatnonzero(member == g)[0] for g in range(n)])
    return np.append(pre, first), np.append(post, np.roll(first, -1)), member


@pytest.mark.parametrize("algorithm", ["auto", "graph", "hypergraph", "refined"])
def test_planted_communities_are_found(tmp_path: Path, call_json: Any, algorithm: str) -> None:
    pre, post, member = communities(6, 10)
    rate = np.random.default_rng(1).random(60)
    np.savez(tmp_path / "graph.npz", pre=pre, post=post, rate=rate, n=np.array(60))
    out = tmp_path / "map.npz"
    result = call_json("map", tmp_path / "graph.npz", "--cores", 6, "--partition", algorithm, "-o", out)
    core = np.load(out)["core"]
    assert core.dtype == np.int32
    assert np.bincount(core, minlength=6).max() <= 10
    assert result["cores_used"] == 6
    assert result["lower_bound"] == 6
    assert result["km1"] == km1(core, pre, post)
    assert result["rate_weighted_km1"] == pytest.approx(km1(core, pre, post, rate), rel=1e-12)
    if algorithm != "refined":  # moves alone need not leave a bad start
        assert len({(int(g), int(c)) for g, c in zip(member, core, strict=True)}) == 6
        assert result["km1"] == 6


def test_same_seed_same_bytes(tmp_path: Path, call_json: Any) -> None:
    rng = np.random.default_rng(3)
    np.savez(tmp_path / "graph.npz", pre=rng.integers(0, 300, 4000), post=rng.integers(0, 300, 4000))
    for name in ("a", "b"):
        call_json("map", tmp_path / "graph.npz", "--cores", 7, "--seed", 5, "-o", tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(("slack", "balance"), [(0.0, "neurons"), (0.05, "neurons"), (0.3, "synapses")])
def test_slack_bounds_every_core(tmp_path: Path, call_json: Any, slack: float, balance: str) -> None:
    """No core holds more than (1 + slack) times its share, or one neuron, or an even split rounded up."""
    rng = np.random.default_rng(4)
    pre, post = rng.integers(0, 203, 3000), (203 * rng.random(3000) ** 2).astype(np.int64)
    np.savez(tmp_path / "graph.npz", pre=pre, post=post, n=203)
    call_json("map", tmp_path / "graph.npz", "--cores", 8, "--slack", slack, "--balance", balance, "-o", tmp_path / "m.npz")
    core = np.load(tmp_path / "m.npz")["core"]
    cost = np.ones(203) if balance == "neurons" else np.bincount(post, minlength=203).astype(float)
    used = np.bincount(core, cost, 8)
    share = cost.sum() / 8
    assert len(used) == 8
    assert used.max() <= max(np.floor((1 + slack) * share), np.ceil(share), cost.max())


def test_a_description_on_a_machine_keeps_its_limits(tmp_path: Path, call_json: Any, root: Path) -> None:
    out = tmp_path / "m.npz"
    result = call_json("map", root / "examples" / "digits.yaml", "-m", "oheo-gulch", "-o", out)
    arrays = np.load(out)
    assert result["machine"] == "oheo-gulch"
    assert arrays["core"].shape == arrays["chip"].shape == (result["n_neurons"],)
    assert (arrays["core"][:64] == -1).all()  # spike sources
    assert arrays["core"][64:].min() == 0
    assert arrays["core"].max() == result["cores_used"] - 1
    assert result["cores_used"] >= result["lower_bound"] >= 1


def test_cores_and_chips(tmp_path: Path, call_json: Any, root: Path) -> None:
    """Onto 10 equal cores of a machine: every core lies on one chip."""
    out = tmp_path / "m.npz"
    result = call_json("map", root / "examples" / "digits.yaml", "--cores", 10, "-m", "kapoho-point", "-o", out)
    arrays = np.load(out)
    assert result["cores_used"] <= 10
    inside = arrays["core"] >= 0
    assert len({(int(a), int(b)) for a, b in zip(arrays["core"][inside], arrays["chip"][inside], strict=True)}) == result["cores_used"]


@pytest.mark.parametrize(
    ("arrays", "options", "code"),
    [
        ({"pre": [0, 1]}, ["--cores", 2], "NC107"),
        ({"pre": [0, 1], "post": [1]}, ["--cores", 2], "NC202"),
        ({"pre": [0.5], "post": [1.0]}, ["--cores", 2], "NC202"),
        ({"pre": [-1], "post": [1]}, ["--cores", 2], "NC204"),
        ({"pre": [0], "post": [5], "n": [5]}, ["--cores", 2], "NC204"),
        ({"pre": [0], "post": [1], "rate": [1.0]}, ["--cores", 2], "NC202"),
        ({"pre": [0], "post": [1], "rate": 1.0}, ["--cores", 2], "NC202"),
        ({"pre": [0], "post": [1], "rate": [1.0, np.nan]}, ["--cores", 2], "NC203"),
        ({"pre": [0], "post": [1], "rate": [1.0, np.inf]}, ["--cores", 2], "NC203"),
        ({"pre": [0], "post": [1], "rate": [1.0, -2.0]}, ["--cores", 2], "NC203"),
        ({"pre": [0], "post": [1]}, ["-m", "kapoho-point"], "NC160"),
        ({"pre": [0], "post": [1]}, [], "NC160"),
        ({"pre": [0], "post": [1]}, ["--cores", 2, "--rates", "r.npz"], "NC160"),
    ],
)
def test_what_is_refused(tmp_path: Path, call: Any, arrays: dict[str, Any], options: list[Any], code: str) -> None:
    np.savez(tmp_path / "graph.npz", **{k: np.array(v) for k, v in arrays.items()})
    out = tmp_path / "m.npz"
    exit_code, text, _ = call("map", tmp_path / "graph.npz", *options, "-o", out, "--format", "json")
    found = json.loads(text)["errors"][0]
    assert (exit_code, found["code"]) == (3, code)
    assert found["help"]
    assert not out.exists()
