"""``simulate --numerics spinnaker``: the door in integers, learning, checkpoints, options."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.reference import Simulator
from neurocompile.backends.spinnaker import TARGET
from neurocompile.cli import INTERRUPTED
from neurocompile.ir.npz import npz_bytes
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Spikes
from neurocompile.simulation.twin import TwinSimulator

STEPS = 300
NET = """\
dt: 1 ms
seed: 3
populations:
  first:  {model: spike_source, size: 8}
  noise:  {model: spike_source, size: 5, params: {rate: 60 Hz}}
  rew:    {model: spike_source, size: 1, params: {rate: 20 Hz}}
  cells:  {model: lif, size: 6, params: {tau_mem: 10 ms, v_threshold: 0.5, reset: to_value, t_ref: 2 ms}}
  out:    {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
projections:
  - {pre: first, post: cells, connect: all_to_all, weight: {uniform: [0.05, 0.2]}, delay: 3 ms, learning: RULE}
  - {pre: noise, post: cells, connect: all_to_all, weight: {normal: [0.1, 0.1]}, delay: 2 ms}
  - {pre: cells, post: out, connect: all_to_all, weight: {normal: [0, 0.3]}}
learning:
  stdp:  {rule: stdp, a_plus: 0.05, a_minus: 0.05, weight_bounds: [0, 0.4]}
  gated: {rule: r_stdp, a_plus: 0.05, a_minus: 0.02, weight_bounds: [0, 0.4], reward: rew, reward_weight: 40, tau_c: 200 ms, tau_d: 50 ms}
"""


def arguments(folder: Path, rule: str) -> list[Any]:
    (folder / "net.yaml").write_text(NET.replace("RULE", rule))
    step, neuron = np.nonzero(np.random.default_rng(2).random((STEPS, 8)) < 0.1)
    np.savez(folder / "spikes.npz", neuron=neuron, step=step)
    given = ["--input", f"first={folder / 'spikes.npz'}", "--allow-approximation"]
    return ["simulate", folder / "net.yaml", "--numerics", "spinnaker", "--steps", STEPS, *given]


@pytest.mark.parametrize("rule", ["stdp", "gated"])
def test_the_run_is_the_twins(rule: str, tmp_path: Path, call_json: Any) -> None:
    """Spikes, outputs and weights are those of the twin itself; a source with a rate has the spikes of the reference engine."""
    call = arguments(tmp_path, rule)
    result = call_json(*call, "--save", tmp_path / "out.npz")
    network = read_network(tmp_path / "net.yaml")
    connections = realise_all(network)
    given = {"first": Spikes.load(tmp_path / "spikes.npz", size=8)}
    twin = TARGET.twin(TARGET.lower(network, connections, None, BuildOptions(allow_approximation=True)), learning=True)
    expected = twin.run(STEPS, spikes=given, signals={})
    engine = Simulator(network).run(STEPS, spikes=given)
    learnt = "first->cells"
    with np.load(tmp_path / "out.npz") as saved:
        for name in ("first", "noise", "cells"):
            np.testing.assert_array_equal(saved[f"spike_step:{name}"], expected.spikes[name].step)
            np.testing.assert_array_equal(saved[f"spike_neuron:{name}"], expected.spikes[name].neuron)
        np.testing.assert_array_equal(saved["spike_step:noise"], engine.spikes["noise"].step)
        np.testing.assert_array_equal(saved["output:out"], expected.outputs["out"])
        for name, weights in twin.weights().items():
            np.testing.assert_array_equal(saved[f"weight:{name}"], weights)
        moved = np.abs(saved[f"weight:{learnt}"] - connections[learnt].weight)
    assert moved.mean() > 0.01
    assert (result["numerics"], result["learning"], {a["code"] for a in result["approximations"]} >= {"NC340"}) == ("spinnaker", True, True)
    assert result["n_spikes"]["cells"] > 50
    fixed = call_json(*call, "--no-learn", "--save", tmp_path / "fixed.npz")
    assert fixed["learning"] is False
    with np.load(tmp_path / "fixed.npz") as saved:
        units = twin.lowered.buffers["cells"].resolution[0] / twin.lowered.cells[3].weight_scale  # type: ignore[attr-defined]
        np.testing.assert_allclose(saved[f"weight:{learnt}"], connections[learnt].weight, atol=units / 2)


@pytest.mark.parametrize("rule", ["stdp", "gated"])
def test_a_resumed_run_has_the_same_bytes(rule: str, tmp_path: Path, call: Any, call_json: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments_ = arguments(tmp_path, rule)
    alone = call_json(*arguments_, "--save", tmp_path / "whole.npz")
    real = TwinSimulator.run

    def interrupted(self: TwinSimulator, n_steps: int, **options: Any) -> Any:
        if self.step > 100:
            signal.raise_signal(signal.SIGINT)
        return real(self, n_steps, **options)

    monkeypatch.setattr(TwinSimulator, "run", interrupted)
    kept = ["--save", tmp_path / "out.npz", "--checkpoint", tmp_path / "ck", "--checkpoint-every", 40]
    code, text, _ = call(*arguments_, *kept, "--format", "json")
    monkeypatch.undo()
    assert (code, json.loads(text)["interrupted"]) == (INTERRUPTED, True)
    assert 100 < json.loads(text)["steps_done"] < STEPS
    resumed = call_json(*arguments_, *kept, "--resume")
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert (resumed["n_spikes"], resumed["steps_done"]) == (alone["n_spikes"], STEPS)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cells:events last", np.full(6, 99, np.int64)),
        ("cells:neurons", np.full((5, 6), 2**40, np.int64)),
        ("cells:ring", np.zeros((3, 7), np.uint16)),
        ("cells:last tick first->cells", np.zeros(8, np.int32)),
        ("clock", np.array([3, 9], np.int64)),
    ],
)
def test_damaged_checkpoints_are_refused(name: str, values: Any, tmp_path: Path, call: Any, call_json: Any) -> None:
    kept = [*arguments(tmp_path, "stdp"), "--checkpoint", tmp_path / "ck"]
    call_json(*kept)
    content = dict(np.load(tmp_path / "ck"))
    key = next(k for k in content if k.endswith(name))
    (tmp_path / "ck").write_bytes(npz_bytes(content | {key: values}))
    code, _, err = call(*kept, "--resume")
    assert (code, "NC712" in err) == (3, True), err


def test_options_of_the_target(tmp_path: Path, call: Any, call_json: Any) -> None:
    call_ = arguments(tmp_path, "stdp")
    for wrong in ("rat=5", "rate=-1", "source_rate=many"):
        code, _, err = call(*call_, "--set", wrong)
        assert (code, "NC320" in err) == (3, True), err
    usual, coarse = (call_json(*call_, "--set", f"source_rate={rate}", "--save", tmp_path / "o.npz") for rate in ("250", "20000"))
    assert usual["n_spikes"]["first"] == coarse["n_spikes"]["first"]
    assert usual["n_spikes"]["cells"] != coarse["n_spikes"]["cells"] or usual != coarse


def test_approximations_need_to_be_allowed(tmp_path: Path, call: Any) -> None:
    code, _, err = call(*[a for a in arguments(tmp_path, "gated") if a != "--allow-approximation"])
    assert code == 3
    assert "NC340" in err
    assert "--allow-approximation" in err
