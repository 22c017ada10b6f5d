"""The mapping benchmark: as a user runs it, at tiny size; what it counts itself; results that survive."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Script = Callable[[str], ModuleType]
QUICK = ["--preset", "quick", "--networks", "uniform", "--order", "natural"]


@pytest.mark.slow
def test_quick_networks(script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal cores and a machine's limits; the planted communities are found, and nothing is worse than sequential fill."""
    mapping, out = script("mapping"), tmp_path / "r.json"
    words = ["--preset", "quick", "--networks", "modular,conv_synapses", "--order", "shuffled", "--machine", "none,spin5"]
    assert mapping.main([*words, "--rates", "lognormal", "--out", str(out)]) == 0
    found = {(p["network"], p["machine"]): p for p in json.loads(out.read_text())["runs"]}
    assert set(found) == {("modular", "none"), ("modular", "spin5"), ("conv_synapses", "none")}
    for p in found.values():
        assert 1 <= p["lower_bound"] <= p["cores"]
        assert p["cpu_s"] > 0.0
        assert p["peak_mib"] > 50.0
        assert p["of_sequential"] is None or p["of_sequential"] <= 1.0
    assert found["modular", "none"]["of_planted"] <= 1.01  # communities of 20 with a fifth of their synapses outside: one may be left
    assert found["conv_synapses", "none"]["fullest_over_share"] <= 1.05 + 0.01
    capsys.readouterr()
    assert mapping.main(["--markdown", str(out)]) == 0
    table = capsys.readouterr().out
    assert f"| modular (8) | shuffled | lognormal | auto ({found['modular', 'none']['winner']}) | 1 |" in table
    assert "| modular | spin5 | shuffled | auto (" in table


def test_packets_are_counted_as_by_hand(script: Script) -> None:
    """A plain loop over a random network is the oracle; core -1 is outside and never at home."""
    mapping, networks = script("mapping"), script("mapping_networks")
    reference, _ = networks.shuffled(networks.uniform(n=50, degree=7))
    rng = np.random.default_rng(2)
    core, rate = rng.integers(0, 6, 50).astype(np.int32), rng.random(50)
    targets = [reference.indices[reference.indptr[s] : reference.indptr[s + 1]] for s in range(50)]
    remote = [len({int(core[t]) for t in targets[s]} - {int(core[s])}) for s in range(50)]
    assert mapping.packets(reference, core, rate) == (sum(remote), pytest.approx(float(np.dot(remote, rate))))
    core[0] = -1
    no_targets_outside = [np.setdiff1d(t, [0]) for t in targets]
    indptr = np.concatenate([[0], np.cumsum([len(t) for t in no_targets_outside])])
    outside = replace(reference, indptr=indptr, indices=np.concatenate(no_targets_outside))
    assert mapping.packets(outside, core, rate)[0] == sum(
        len({int(core[t]) for t in no_targets_outside[s]} - {int(core[s])}) for s in range(50)
    )


def test_shuffling_keeps_network_and_planted_answer(script: Script) -> None:
    networks = script("mapping_networks")
    reference = networks.modular(communities=4, size=10, degree=5)
    shuffled, new = networks.shuffled(reference)

    def pairs(of: Any) -> set[tuple[int, int]]:
        return set(zip(np.repeat(np.arange(40), np.diff(of.indptr)).tolist(), of.indices.tolist(), strict=True))

    assert {(int(new[a]), int(new[b])) for a, b in pairs(reference)} == pairs(shuffled)
    assert (shuffled.planted[new] == reference.planted).all()


def test_a_core_that_is_too_full_or_a_wrong_count_is_an_error(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command writes is not believed."""
    mapping = script("mapping")
    run = mapping.Run(network="uniform", order="natural", rates="equal", machine="none", algorithm="auto", seed=1)
    given = mapping.prepare(mapping.PRESETS["quick"]["uniform"], "natural", "equal")
    n = given.reference.n_neurons
    partition = {"algorithm": "x", "sequential_weighted_km1": None, "sequential_cores": None, "bound_by": "neurons"}
    for core, more in ((np.zeros(n, np.int32), 0), (np.arange(n, dtype=np.int32) % 4, 1)):
        km1, weighted = mapping.packets(given.reference, core, given.rate)
        said = {
            "km1": km1 + more,
            "rate_weighted_km1": weighted,
            "cores_used": int(core.max()) + 1,
            "lower_bound": 4,
            "partition": partition,
        }
        said |= {"wall_s": 1.0, "cpu_s": 1.0, "peak_rss_mb": 1.0, "notes": []}

        def command(*_words: Any, core: Any = core, said: Any = said, **_more: Any) -> Any:
            np.savez(tmp_path / "map.npz", core=core)
            return mapping.subprocess.CompletedProcess([], 0, json.dumps(said), "")

        monkeypatch.setattr(mapping.subprocess, "run", command)
        with pytest.raises(RuntimeError, match="on one of 1 cores; 4 of 75 were asked for" if not more else "its file holds"):
            mapping.measure(run, given, tmp_path)


def test_failures_are_recorded_and_measured_again(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping, out = script("mapping"), tmp_path / "r.json"
    measured: list[int] = []

    def measure(run: Any, _given: Any, _folder: Path, bad: int) -> dict[str, Any]:
        measured.append(run.seed)
        if run.seed == bad:
            raise RuntimeError("map ended with 4")
        return {"km1": run.seed}

    words = [*QUICK, "--seeds", "1,2,3", "--out", str(out)]
    monkeypatch.setattr(mapping, "measure", lambda *x: measure(*x, bad=2))
    assert mapping.main(words) == 1
    assert [p.get("failed") for p in json.loads(out.read_text())["runs"]] == [None, "map ended with 4", None]
    monkeypatch.setattr(mapping, "measure", lambda *x: measure(*x, bad=0))
    assert mapping.main([*words, "--resume"]) == 0
    assert mapping.main([*words, "--resume"]) == 0
    assert measured == [1, 2, 3, 2]
    assert sorted(p["km1"] for p in json.loads(out.read_text())["runs"]) == [1, 2, 3]
    out.write_text(json.dumps(json.loads(out.read_text()) | {"preset": "full"}))
    with pytest.raises(SystemExit) as stopped:
        mapping.main([*words, "--resume"])
    assert stopped.value.code == 2


def test_a_network_whose_file_is_missing_is_skipped(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = script("mapping")
    monkeypatch.setattr(script("mapping_networks"), "SHARED", tmp_path)
    assert mapping.main(["--networks", "larva,cnn"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["runs"] == []
    assert found["skipped"] == {
        "larva": "drosophila_larva_edges.csv is not in ../shared/data/connectomes",
        "cnn": "cnn_sinabs.nir is not in ../shared/data/networks/nir",
    }
    assert "larva is skipped" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--networks", "moon"], "no moon; there are"),
        (["--networks", "spatial_1m"], "preset full has no spatial_1m"),
        (["--order", "random"], "no random; there are shuffled, natural"),
        (["--resume"], "--resume needs --out"),
    ],
)
def test_usage(script: Script, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        script("mapping").main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
