"""From training to a build through the command line: what one verb writes, the next one takes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.build_folder import read_build

FEW = ("--limit-train", "12", "--limit-test", "6", "--no-baseline")
NET = """\
name: two words
dt: 1 ms
seed: 4
populations:
  in: {model: spike_source, size: 64}
  hidden: {model: lif, size: 12, params: {tau_mem: 20 ms, v_threshold: 0.6}}
  out: {model: leaky_readout, size: 10, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: {fixed_indegree: 20}, weight: {normal: [0.1, 0.1]}, delay: 1 ms, learning: rule}
  - {pre: hidden, post: out, connect: all_to_all, weight: {normal: [0, 0.1]}, delay: 1 ms, learning: rule}
learning:
  rule: {rule: eprop, kappa: 0.9, feedback: {random: {normal: [0, 1]}}, optimizer: {gradient_descent: {learning_rate: 1e-4}}}
task: {readout: out, sample: 30 ms, learning_window: 15 ms, epochs: 2, data: {digits: {}}}
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    return tmp_path / "net.yaml"


def test_train_evaluate_build_simulate(net: Path, call_json: Any) -> None:
    trained = call_json("train", net, "--out", "run", *FEW)
    assert (trained["epochs"], trained["n_train"], trained["n_test"], trained["interrupted"]) == (2, 12, 6, False)
    assert trained["baseline_accuracy"] is None
    rows = list(csv.DictReader(Path("run/learning_curve.csv").read_text().splitlines()))
    assert [float(r["test_accuracy"]) for r in rows] == [h["test_accuracy"] for h in trained["history"]]
    measured = call_json("evaluate", net, "--weights", "run/weights.npz", *FEW)
    assert (measured["accuracy"], measured["loss"]) == (trained["test_accuracy"], trained["history"][-1]["test_loss"])
    untrained = call_json("evaluate", net, *FEW)
    assert untrained["loss"] != measured["loss"]
    report = call_json("build", net, "--target", "nest", "--weights", "run/weights.npz", "-o", "built")["report"]
    assert report["trained_weights"] is True
    weights = np.load("run/weights.npz")
    for name, c in read_build(Path("built")).connections.items():
        np.testing.assert_array_equal(c.weight, weights[f"weight:{name}"])
    call_json("simulate", "built", "--steps", "3", "--no-learn", "--save", "out.npz")
    np.testing.assert_array_equal(np.load("out.npz")["weight:hidden->out"], weights["weight:hidden->out"])
    assert call_json("evaluate", "built", *FEW)["loss"] == measured["loss"]


def test_folders_of_trainings_are_kept_and_continued(net: Path, call: Any, call_json: Any) -> None:
    first = call_json("train", net, "--epochs", "1", *FEW)
    assert first["out"] == "runs/two_words"
    before = Path("runs/two_words/weights.npz").read_bytes()
    code, out, err = call("train", net, *FEW, "--format", "json")
    assert code == 3
    assert json.loads(out)["errors"][0]["code"] == "NC713"
    assert "--resume" in err
    assert Path("runs/two_words/weights.npz").read_bytes() == before
    resumed = call_json("train", net, "--resume", *FEW)
    assert resumed["history"][:1] == first["history"]
    assert resumed["epochs"] == 2
    assert call_json("train", net, "--out", "whole", *FEW)["history"] == resumed["history"]
    assert Path("whole/weights.npz").read_bytes() == Path("runs/two_words/weights.npz").read_bytes()
    code, _, err = call("train", net, "--resume", "--seed", "5", *FEW)
    assert code == 3
    assert "NC711" in err
    assert call_json("train", net, "--overwrite", "--epochs", "1", *FEW)["history"] == first["history"]


def test_where_nobody_looks_there_is_no_progress(net: Path, call: Any) -> None:
    code, out, err = call("train", net, "--out", "run", "--epochs", "1", *FEW)
    assert (code, err) == (0, "")  # stderr is no terminal here
    assert "held-out accuracy" in out
    assert "1 of 1 epochs done, results in run" in out


def test_starting_weights_are_taken(net: Path, call_json: Any) -> None:
    call_json("simulate", net, "--steps", "1", "--save", "start.npz", "--no-learn")
    start = np.load("start.npz")
    np.savez("w.npz", **{"weight:hidden->out": np.zeros_like(start["weight:hidden->out"])})
    a = call_json("train", net, "--out", "a", "--epochs", "1", "--weights", "w.npz", *FEW)
    b = call_json("train", net, "--out", "b", "--epochs", "1", *FEW)
    assert a["history"] != b["history"]
    learned = np.load("a/weights.npz")["weight:hidden->out"]
    assert 0.0 < np.abs(learned).max() < np.abs(start["weight:hidden->out"]).max()  # from 0, in a few samples


def test_integers_through_the_command_line(net: Path, call: Any, call_json: Any) -> None:
    """train, evaluate and sweep with --numerics: what one verb writes the next one takes, the figures are the same by each way."""
    integers = ("--numerics", "loihi2")
    trained = call_json("train", net, "--out", "run", *integers, *FEW)
    assert (trained["numerics"], trained["epochs"], trained["approximations"]) == ("loihi2", 2, [])
    measured = call_json("evaluate", net, "--weights", "run/weights.npz", *integers, "--set", "weight_room=1.5", *FEW)
    assert measured["n_test"] == measured["float64"]["n_test"] == 6
    assert measured["float64"] == {
        k: v for k, v in call_json("evaluate", net, "--weights", "run/weights.npz", *FEW).items() if k in measured["float64"]
    }
    arguments = ("sweep", net, *integers, "--weights", "run/weights.npz", "--limit-test", "6", "-o", "s", "--vary", "weight_room=1.5,2")
    swept = call_json(*arguments)
    assert [p["choice"] for p in swept["points"]] == [{"weight_room": "1.5"}, {"weight_room": "2"}]
    assert (swept["points"][0]["accuracy"], swept["points"][0]["loss"]) == (measured["accuracy"], measured["loss"])
    assert swept["float64"]["loss"] == measured["float64"]["loss"]
    code, out, _ = call(*arguments)
    assert code == 0
    assert "2 of 2 points done, 2 of them before; results in s" in out
    stored = json.loads(Path("s/sweep.json").read_text())
    assert stored["points"] == swept["points"]
    code, out, err = call("evaluate", net, "--weights", "run/weights.npz", *integers, *FEW)
    assert code == 0
    assert "of 6 decisions differ" in out
    assert "note: projection 'in->hidden': weights saturate" in err


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("train net.yaml -o r --numerics nest", "NC345", "--numerics nest: this target does not compute its integers here"),
        ("evaluate net.yaml --numerics loihi3", "NC345", "there is no such target"),
        ("train net.yaml -o r --set low_bits=d", "NC160", "--set has no effect without --numerics"),
        ("evaluate net.yaml --allow-approximation", "NC160", "--allow-approximation has no effect without --numerics"),
        (
            "train net.yaml -o r --numerics loihi2 --set weight_bits=4 --set low_bits=none --set eprop_form=lagged",
            "NC318",
            "weights of 4 bits that learn without low bits",
        ),
        ("evaluate net.yaml --numerics loihi2 --set weight_bits=9", "NC201", "weight_bits is '9', must be a whole number from 1 to 8"),
        ("evaluate net.yaml --numerics loihi2 --set weight_bit=3", "NC207", "target 'loihi2' has no option 'weight_bit'"),
        ("sweep net.yaml -o s --vary weight_bits=2", "NC160", "needs --numerics"),
        ("sweep net.yaml -o s --numerics loihi2", "NC160", "a sweep needs --vary"),
        ("sweep net.yaml -o s --numerics loihi2 --vary weight_bits", "NC160", "'weight_bits' is not of the form NAME=V1,V2,..."),
        ("sweep net.yaml -o s --numerics loihi2 --vary weight_bits=", "NC160", "not of the form"),
        ("sweep net.yaml -o s --numerics loihi2 --vary weight_bits=8..2", "NC160", "'8..2' is empty or too long"),
        ("sweep net.yaml -o s --numerics loihi2 --vary a=1..99 --vary b=1..999", "NC160", "more than 10000 combinations"),
        ("sweep net.yaml -o s --numerics loihi2 --vary weight_bits=4 --vary weight_bits=5", "NC206", "names 'weight_bits' twice"),
        ("sweep net.yaml -o s --numerics loihi2 --vary weight_bits=8,9", "NC201", "weight_bits is '9'"),
        ("sweep net.yaml -o s --numerics loihi2 --vary nothing=1,2", "NC207", "has no option 'nothing'"),
        ("sweep net.yaml -o s --numerics loihi2 --vary kappa=1", "NC160", "--vary kappa: '1' must be a number from 0 to 1"),
        ("sweep net.yaml -o s --numerics loihi2 --vary seed=1.5", "NC160", "must be a whole number"),
        ("sweep net.yaml -o net.yaml --numerics loihi2 --vary weight_bits=8", "NC701", "cannot be made"),
    ],
)
def test_what_integers_cannot_do(net: Path, call: Any, command: str, code: str, says: str) -> None:
    exit_code, out, err = call(*command.split(), "--format", "json")
    assert exit_code == 3
    found = json.loads(out)["errors"]
    assert {e["code"] for e in found} == {code}
    assert says in found[0]["message"]
    assert says in err
    assert not Path("r").exists()
    assert not list(Path().glob("s/points/*"))
