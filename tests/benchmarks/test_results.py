"""A long benchmark loses nothing: results are on disk after every point, failures are part of them, and a second run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Script = Callable[[str], ModuleType]
SIZES = ["--sizes", "100,200,300", "--only", "size", "--no-nest", "--no-profile"]


def item(point: Any, entrants: list[Any]) -> dict[str, Any]:
    """Return what a measurement looks like, without measuring."""
    wall = {"min": point.size / 1000, "median": point.size / 1000, "all": [point.size / 1000] * 3}
    contestants = {e.label: {"wall_per_simulated_s": wall, "ns_per_event": {"min": 5.0}} for e in entrants}
    return {"point": {**vars_of(point), "input_weight": 0.03}, "contestants": contestants}


def vars_of(point: Any) -> dict[str, Any]:
    return {name: getattr(point, name) for name in point.__dataclass_fields__}


def test_what_is_measured_survives_and_is_not_measured_again(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point 200 fails, Ctrl-C comes in point 300; the resumed run measures these two, a third one nothing."""
    eprop, out, png = script("eprop"), tmp_path / "r.json", tmp_path / "p.png"
    measured: list[int] = []

    def measure(bad: tuple[int, ...], point: Any, entrants: list[Any], _folder: Path) -> dict[str, Any]:
        measured.append(point.size)
        if point.size in bad:
            raise KeyboardInterrupt if point.size == 300 else MemoryError("too large")
        return item(point, entrants)

    words = [*SIZES, "--out", str(out)]
    monkeypatch.setattr(eprop, "measure", lambda *x: measure((200, 300), *x))
    with pytest.raises(KeyboardInterrupt):
        eprop.main([*words, "--png", str(png)])
    found = json.loads(out.read_text())
    assert [p["point"]["size"] for p in found["points"]] == [100, 200]
    assert "too large" in found["points"][1]["failed"]
    assert png.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(eprop, "measure", lambda *x: measure((200,), *x))
    assert eprop.main([*words, "--resume"]) == 1
    monkeypatch.setattr(eprop, "measure", lambda *x: measure((), *x))
    assert eprop.main([*words, "--resume"]) == 0
    assert eprop.main([*words, "--resume"]) == 0
    assert measured == [100, 200, 300, 200, 300, 200]
    found = json.loads(out.read_text())
    assert sorted(p["point"]["size"] for p in found["points"]) == [100, 200, 300]
    assert not any("failed" in p for p in found["points"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.png", "r.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 7}, "measured with another threads"),
        ({"machine": {}, "preset": "full"}, "another preset, machine"),
        ({"points": 3}, "is no result"),
    ],
)
def test_results_of_another_run_are_not_resumed(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    eprop, out = script("eprop"), tmp_path / "r.json"
    monkeypatch.setattr(eprop, "measure", lambda point, entrants, _: item(point, entrants))
    words = [*SIZES, "--out", str(out)]
    assert eprop.main(words) == 0
    out.write_text(json.dumps(json.loads(out.read_text()) | change))
    before = out.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        eprop.main([*words, "--resume"])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert out.read_bytes() == before


def test_a_contestant_that_dies_is_recorded(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is built, in a repetition, or at the end: the others' figures are there, and the exit status would be 1."""
    eprop, setup, results = script("eprop"), script("eprop_setup"), script("eprop_results")

    class Worker:
        def __init__(self, _point: Any, contestant: str, **_more: Any) -> None:
            self.contestant, self.asked, self.built = contestant, 0, {"base_mib": 1.0, "peak_mib": 2.0}
            if contestant == "dense":
                raise RuntimeError("dense ended with status -9")

        def ask(self, do: str, file: str = "", **_more: Any) -> dict[str, Any]:
            self.asked += 1
            if (self.contestant, self.asked) == ("loop", 3) or (self.contestant, do) == ("anchored_float32", "finish"):
                raise RuntimeError(f"{self.contestant} ended with status -9")
            if do == "finish":
                Path(file).write_bytes(b"")
                eprop.np.savez(file)
                return {"peak_mib": 3.0}
            return {"wall_s": 1.0, "cpu_s": 1.0, "spikes": 10, "events": 100}

        def __enter__(self) -> Worker:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(eprop, "Worker", Worker)
    point = setup.Point(size=50, input_weight=0.03, steps=10)
    entrants = [eprop.Entrant(contestant=c) for c in ("anchored", "anchored_float32", "loop", "dense")]
    found = {label: result for label, (result, _) in eprop._race(point, entrants, tmp_path).items()}
    assert {label for label, r in found.items() if "status -9" in r.get("failed", "")} == {"anchored_float32", "loop", "dense"}
    assert found["anchored"]["wall_per_simulated_s"]["all"] == [100.0] * 3
    document = {"points": [{"point": vars_of(point), "contestants": found}]}
    assert len(results.failures(document)) == 3


def test_a_profile_that_dies_is_recorded_and_the_next_go_on(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eprop, setup = script("eprop"), script("eprop_setup")
    (tmp_path / "eprop_profile.py").write_text(
        "import json, os, sys\n"
        "for p in json.loads(sys.argv[sys.argv.index('--points') + 1]):\n"
        "    if p['size'] == 200:\n"
        "        print('{\"poi', end='', flush=True)\n"
        "        os._exit(3)\n"
        "    print(json.dumps({'point': p}), flush=True)\n"
    )
    monkeypatch.setattr(eprop, "__file__", str(tmp_path / "eprop.py"))
    points = [setup.Point(size=n) for n in (100, 200, 300)]
    found = list(eprop.profiles(points, 1))
    assert [p["point"]["size"] for p in found] == [100, 200, 300]
    assert [p.get("failed") for p in found] == [None, "the profile ended with status 3", None]


def test_a_worker_that_is_gone_says_so(script: Script) -> None:
    """The real one: killed between two questions, it is an error of that contestant."""
    worker, setup = script("eprop_worker"), script("eprop_setup")
    with worker.Worker(setup.Point(size=30, indegree=5, input_weight=0.03, warm_up=1, steps=1, repetitions=1), "dense") as mine:
        mine._process.kill()
        mine._process.wait()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="dense ended with status -9"):
                mine.ask(do="run", steps=1)


def test_a_picture_from_results_alone(script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two pixels for each of 900; incomplete results do, others are refused without a traceback."""
    plot, setup, eprop = script("eprop_plot"), script("eprop_setup"), script("eprop")
    entrants = [eprop.Entrant(contestant=c) for c in ("anchored", "nest")]
    points = [{"sweeps": ["size", "rate"], **item(setup.Point(size=n, rate=n / 100), entrants)} for n in (100, 1000)]
    failed = {"sweeps": ["size"], "point": points[0]["point"], "contestants": {}, "failed": "x"}
    phases = {"deliver": {"ns_per_event": 3.0}}
    profile = [{"point": points[0]["point"], "phases": phases, "distance": {"ns_at_bandwidth": 2.0}}, {"failed": "x"}]
    file, png = tmp_path / "r.json", tmp_path / "plot.png"
    for more in ({}, {"profile": profile}):
        file.write_text(json.dumps({"threads": 1, "machine": {"cpu": "a cpu"}, "points": [*points, failed], **more}))
        assert plot.main([str(file), str(png)]) == 0
        assert int.from_bytes(png.read_bytes()[16:20], "big") == 1800
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plot.png", "r.json"]
    file.write_text("{}")
    with pytest.raises(SystemExit):
        plot.main([str(file), str(png)])
    assert "cannot be drawn" in capsys.readouterr().err


def test_the_exponent_is_that_of_the_costs(script: Script) -> None:
    """20 ns a neuron and step and 9 ns an event: linear by size; by rate neurons take their share; a cost that grows as n^1.5 shows."""
    scale = script("scale")

    def point(neurons: int, rate: float, power: float = 1.0) -> dict[str, Any]:
        events = int(neurons * 100 * rate)
        wall = (20.0 * neurons * 1000 + 9.0 * events) * 1e-9 * (neurons / 10_000) ** (power - 1.0)
        return {"neurons": neurons, "simulated_s": 1.0, "wall_s": wall, "wall_per_simulated_s": wall, "plastic_events_about": events}

    by_size = [point(n, 5.0) for n in (10_000, 100_000, 1_000_000)]
    by_rate = [point(10_000, rate) for rate in (1.0, 5.0, 20.0)]
    assert scale.exponent(by_size) == pytest.approx(1.0, abs=1e-9)
    assert 0.0 < scale.exponent(by_rate) < 0.6
    assert scale.exponent([point(n, 5.0, 1.5) for n in (10_000, 100_000)]) == pytest.approx(1.5, abs=1e-9)
    assert scale.exponent(by_size[:1]) is None
    fit = scale.costs(by_size + by_rate)
    assert (fit["ns_per_neuron_step"], fit["ns_per_event"]) == pytest.approx((20.0, 9.0))
    assert fit["largest_relative_residual"] < 1e-9
    assert scale.costs([]) == {}


@pytest.mark.slow
def test_a_sweep_of_processes(script: Script, tmp_path: Path) -> None:
    """Two sizes and a rate are two processes: one point belongs to both."""
    out = tmp_path / "sweep.json"
    options = ["--indegree", "20", "--rate", "5", "--rates", "5", "--seconds", "0.1", "--warm-up", "0.05", "--threads", "1"]
    assert script("scale").main(["--sweep", "--sizes", "300,600", *options, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(p["neurons"], p["wanted_rate_hz"]) for p in found["points"]] == [(300, 5.0), (600, 5.0)]
    assert found["failed"] == []
    assert isinstance(found["exponent_by_size"], float)
    assert found["fit"]
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.json"]


def test_a_sweep_lists_what_fails(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scale, out = script("scale"), tmp_path / "sweep.json"

    class Done:
        returncode = 4

    monkeypatch.setattr(scale.subprocess, "run", lambda *_words, **_more: Done())
    assert scale.main(["--sweep", "--sizes", "300", "--rates", "5", "--indegree", "20", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    assert (found["points"], found["failed"]) == ([], [{"neurons": 300, "wanted_rate_hz": 5.0, "exit_status": 4}])
    assert found["exponent_by_size"] is None
