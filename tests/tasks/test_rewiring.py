"""Training, evaluation and simulation of a network whose synapses move: files hold, and give back, where they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.cli import run
from neurocompile.ir import EProp, Network, Rewiring
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import load_npz, save_npz
from neurocompile.ir.realise import realise_all
from neurocompile.pipeline import load_connections
from neurocompile.tasks import evaluate, train
from neurocompile.tasks.train import _Training

FEW: dict[str, Any] = {"limit_train": 30, "limit_test": 20, "baseline": False}
NET = """\
name: moving
dt: 1 ms
seed: 1
populations:
  in: {model: spike_source, size: 20, params: {rate: 60 Hz}}
  hidden: {model: lif, size: 15, params: {tau_mem: 20 ms, v_threshold: 0.5}}
  out: {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: {fixed_probability: 0.3}, weight: {normal: [0.1, 0.2]}, delay: {uniform: [1 ms, 3 ms]}, learning: r}
  - {pre: hidden, post: out, connect: {fixed_probability: 0.5}, weight: {normal: [0, 0.2]}, learning: r}
learning:
  r:
    rule: eprop
    optimizer: {gradient_descent: {learning_rate: 1.0e-4}}
    sign_constraint: true
    rewiring: {every: 30 ms, l1: 1.0e-3, noise: 3.0e-3}
task: {readout: out}
"""


@pytest.fixture
def moving(tiny: Callable[..., Network]) -> Network:
    network = tiny()
    rule = network.rules[0]
    assert isinstance(rule, EProp)
    return replace(network, rules=(replace(rule, sign_constraint=True, rewiring=Rewiring(every_steps=100, l1=1e-4, noise=2e-3)),))


def test_training_resumes_bit_by_bit_and_its_weights_know_their_pairs(moving: Network, tmp_path: Path, monkeypatch: Any) -> None:
    whole = train(moving, out=tmp_path / "whole", epochs=2, **FEW)
    go = _Training.go
    calls = iter(range(10**9))
    monkeypatch.setattr(_Training, "go", lambda self, epochs, every, _, bar: go(self, epochs, every, lambda: next(calls) >= 42, bar))
    assert train(moving, out=tmp_path / "parts", epochs=2, **FEW).interrupted
    monkeypatch.undo()
    rest = train(moving, out=tmp_path / "parts", epochs=2, resume=True, **FEW)
    assert rest.history == whole.history
    files = [tmp_path / part / "weights.npz" for part in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    arrays, described = load_npz(files[0]), realise_all(moving)
    assert np.mean(arrays["pre:in->hidden"] != described["in->hidden"].pre) > 0.2
    # the evaluator of the training had the wiring of its epoch, and so has one that reads the file
    found = evaluate(moving, files[0], limit_test=20, baseline=False)
    assert (found.accuracy, found.loss) == (whole.history[-1].test_accuracy, whole.history[-1].test_loss)
    given = evaluate(moving, connections=load_connections(moving, files[0]), limit_test=20, baseline=False)
    assert given == found
    elsewhere = {key: array for key, array in arrays.items() if not key.startswith(("pre:", "post:"))}
    save_npz(tmp_path / "without.npz", elsewhere)
    assert evaluate(moving, tmp_path / "without.npz", limit_test=20, baseline=False).loss != found.loss


def test_weights_of_another_network_are_refused(moving: Network, tmp_path: Path) -> None:
    arrays = {f"weight:{name}": c.weight for name, c in realise_all(moving).items()}
    m = arrays["weight:in->hidden"].size
    ends = {"pre:in->hidden": np.full(m, 64), "post:in->hidden": np.zeros(m, int)}
    save_npz(tmp_path / "w.npz", arrays | ends)
    for use in (lambda: load_connections(moving, tmp_path / "w.npz"), lambda: evaluate(moving, tmp_path / "w.npz", baseline=False)):
        with pytest.raises(InputError, match=r"NC204.*is 64, population 'in' has 64"):
            use()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.yaml").write_text(NET)
    rng = np.random.default_rng(1)
    save_npz(tmp_path / "signal.npz", {"target": rng.uniform(-1, 1, (400, 2)), "window": np.ones(400, bool)})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def simulated(*arguments: str) -> None:
    assert run(["simulate", "net.yaml", "--signal", "out=signal.npz", *arguments, "-q"]) == 0


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_simulate_saves_and_resumes_the_wiring(folder: Path, algorithm: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--algorithm", algorithm, "--record", "weights:in->hidden", "--record-every", "50")
    simulated("--steps", "400", "--save", "whole.npz", *options)
    simulated("--steps", "170", "--checkpoint", "c.npz", *options)
    simulated("--steps", "400", "--checkpoint", "c.npz", "--resume", "--save", "parts.npz", *options)
    assert Path("whole.npz").read_bytes() == Path("parts.npz").read_bytes()
    capsys.readouterr()
    assert run(["simulate", "net.yaml", "--steps", "400", "--signal", "out=signal.npz", "--format", "json", "-q"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["n_rewired"]["in->hidden"] > 50
    assert set(said["n_stuck"]) == {"in->hidden", "hidden->out"}


def test_simulate_begins_with_saved_synapses(folder: Path) -> None:
    """Pairs and weights of the file, the signs of those at 0 included: saved again without a step of learning, they are the same."""
    simulated("--steps", "300", "--save", "first.npz")
    simulated("--steps", "1", "--save", "second.npz", "--weights", "first.npz", "--no-learn")
    first, second = load_npz("first.npz"), load_npz("second.npz")
    for name in ("in->hidden", "hidden->out"):
        for kind in ("pre", "post", "weight"):
            assert first[f"{kind}:{name}"].tobytes() == second[f"{kind}:{name}"].tobytes()
    zeros = first["weight:in->hidden"] == 0.0
    assert np.signbit(first["weight:in->hidden"][zeros]).any()
