"""Each benchmark as a user runs it, at tiny size."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from neurocompile.backends.reference.simulator import max_threads


def result(root: Path, name: str, *words: str) -> Any:
    command = [sys.executable, str(root / "benchmarks" / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_eprop_side_by_side(root: Path, tmp_path: Path) -> None:
    """All contestants on 60 neurons: the same spikes, the same weights, every figure that docs/benchmarks.md names, and a picture."""
    png = tmp_path / "plot.png"
    found = result(root, "eprop.py", "--sizes", "60x20", "--only", "size", "--no-profile", "--png", str(png))
    assert png.read_bytes().startswith(b"\x89PNG")
    (item,) = found["points"]
    contestants = item["contestants"]
    with_nest = importlib.util.find_spec("nest") is not None
    nests = {"nest", "nest_cutoff"}
    assert set(contestants) == {"anchored", "anchored_float32", "loop", "dense"} | nests
    for name, mine in contestants.items():
        if name in nests and not with_nest:
            assert "not installed" in mine["skipped"]
            continue
        assert mine["wall_per_simulated_s"]["min"] <= mine["wall_per_simulated_s"]["median"]
        assert len(mine["wall_per_simulated_s"]["all"]) == item["point"]["repetitions"]
        assert mine["ns_per_event"]["min"] > 0.0
        assert mine["peak_mib"] > mine["base_mib"] > 0.0
        if name not in ("nest_cutoff", "anchored_float32"):
            assert mine["same_spikes"], name
    assert 2.0 < contestants["anchored"]["hidden_rate_hz"] < 10.0
    assert 24 <= contestants["anchored"]["bytes_per_synapse"] < 50 < contestants["loop"]["bytes_per_synapse"]
    differences = item["differences"]
    assert differences.pop("reference") == ("nest" if with_nest else "loop")
    assert {"anchored", "dense"} <= set(differences)
    for name, by_projection in differences.items():
        for projection, d in by_projection.items():
            assert d["compared"] > 0
            if name != "anchored_float32":
                # readout weights of order 0.1 change by some 1e-6 here: rounding of the weight alone is 1e-11 of the change
                assert d["largest_over_largest_change"] < 1e-9, (name, projection)
    if with_nest:
        assert item["times_faster_than_nest"]["anchored"]["min"] > 1.0
        assert contestants["nest"]["bytes_per_synapse"] is None  # 4,800 synapses do not show in a process's memory
    assert found["load_average"]["start"]
    assert found["machine"]["cores"] >= 1


@pytest.mark.slow
def test_profile_times_what_runs(script: Callable[[str], ModuleType]) -> None:
    """Phases add up to the run (clocks excepted), the timed loop is gone afterwards, and events are told apart from silence."""
    from neurocompile.backends.reference.kernels import anchored_loop

    before = anchored_loop.run
    setup = script("eprop_setup")
    point = setup.Point(size=300, indegree=50, input_weight=0.031, warm_up=50, steps=100, repetitions=3)
    profile = script("eprop_profile")
    found = profile.phases(point)
    assert anchored_loop.run is before
    assert {"deliver", "update neurons", "absorb"} <= set(found["phases"])
    assert 0.5 < found["share_timed"] <= 1.0
    assert sum(p["share"] for p in found["phases"].values()) == pytest.approx(1.0)
    assert found["bytes"]["synapse"] == 24
    assert found["events_per_step"] > 50.0
    by_rate = profile.by_rate([10.0, 20.0], size=200, indegree=100)
    slow, fast = by_rate["points"]
    assert 100.0 < slow["events_per_step"] < fast["events_per_step"]
    assert by_rate["silent_deliver_ns_per_neuron_step"] > 0.0
    assert min(slow["ns_per_event"], fast["ns_per_event"]) > 0.0
    costs = [slow["ns_per_event"], fast["ns_per_event"]]
    assert by_rate["largest_over_smallest"] == pytest.approx(max(costs) / min(costs))


@pytest.mark.skipif(max_threads() < 2, reason="one core")
def test_threads(script: Callable[[str], ModuleType]) -> None:
    """Every turn is the same work, and ratios are those of turns."""
    threads, setup = script("threads"), script("eprop_setup")
    point = setup.Point(size=300, indegree=20, input_weight=0.031, warm_up=50, steps=60)
    contestant = setup.Replay(point, threads=2)
    ends = []
    for _ in range(2):
        contestant.rewind()
        assert contestant.turn().n_spikes["hidden"] > 0
        ends.append(contestant.simulator.state())
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0])
    assert any((ends[0][name] != contestant.state[name]).any() for name in ends[0])
    found = threads.measure(point, 3)
    wall, speed_up, apart = (found[name] for name in ("wall_s", "speed_up", "apart"))
    assert speed_up["of_minima"] == wall["one"]["min"] / wall["two"]["min"]
    assert apart["of_minima"] == 2.0 * wall["one"]["min"] / wall["apart"]["min"]
    assert found["share"] in [a / b for a, b in zip(speed_up["all"], apart["all"], strict=True)]


@pytest.mark.slow
def test_scale(root: Path) -> None:
    found = result(root, "scale.py", "--neurons", "500", "--indegree", "20", "--seconds", "0.1", "--warm-up", "0.1", "--threads", "1")
    assert found["plastic_synapses"] == 500 * 21
    assert 1.0 < found["hidden_rate_hz"] < 15.0
    # every hidden spike reaches 20 hidden neurons and one readout on average
    assert found["plastic_events_about"] == pytest.approx(21 * found["spikes"], rel=0.4)
    assert found["wall_per_simulated_s"] == pytest.approx(found["wall_s"] / 0.1)
    assert found["peak_mib"] >= found["built_mib"] > 0.0


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("eprop", ["--sizes", "many"], "'many' is not a size"),
        ("eprop", ["--sizes", "5"], "at least 20"),
        ("eprop", ["--threads", "1000"], "this machine has 1 .."),
        ("eprop", ["--only", "colour"], "no sweep colour"),
        ("scale", ["--neurons", "10", "--indegree", "10"], "must lie in 1 .. 9"),
        ("scale", ["--seconds", "0"], "--seconds"),
    ],
)
def test_usage(script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str], name: str, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        script(name).main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_loihi2_learning_connections(root: Path) -> None:
    """40 neurons, Lava's learning connections beside ours: the same bits of the weights, no zero of ours grows, Lava's dense ones do."""
    pytest.importorskip("lava")
    found = result(root, "loihi2_learning.py", "--sizes", "40", "--rules", "two_products", "--turns", "1", "--seconds", "0.05")
    assert [(p["size"], p["precision"]) for p in found["points"]] == [(40, "floating_pt"), (40, "fixed_pt")]
    for point in found["points"]:
        assert point["skipped"] == {}
        assert set(point["contestants"]) == {"plastic", "learning_dense", "learning_sparse"}
        for name, row in point["contestants"].items():
            assert row["steps_per_s"] >= row["median_steps_per_s"] > 0
            assert row["moved"] > 10
            assert name == "plastic" or row["same_weights"]
        assert point["contestants"]["learning_dense"]["zeros_that_grew"] > 10
