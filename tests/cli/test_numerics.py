"""``simulate --numerics loihi2``: the door in integers, for netx files, YAML and NIR; inputs by name or number."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.loihi2 import TARGET
from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.twin import run_twin
from neurocompile.cli import INTERRUPTED
from neurocompile.ir.npz import npz_bytes
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.simulation.twin import TwinSimulator

STEPS = 80
LAYERS = [
    {"type": "dense", "shape": [6], "weight": 2 * np.random.default_rng(0).integers(-20, 60, (6, 5))},
    {"type": "dense", "shape": [4], "weight": 2 * np.random.default_rng(1).integers(-20, 60, (4, 6)), "delay": [0, 3, 1, 62]},
]
YAML = """\
dt: 1 ms
populations:
  first:  {model: spike_source, size: 5}
  second: {model: spike_source, size: 3, params: {rate: 200 Hz}}
  cells:  {model: lif, size: 8, params: {tau_mem: 10 ms, v_threshold: 0.5, t_ref: 2 ms}}
  out:    {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
projections:
  - {pre: first, post: cells, connect: all_to_all, weight: {normal: [0.2, 0.1]}}
  - {pre: second, post: cells, connect: all_to_all, weight: {normal: [0.1, 0.1]}, delay: 3 ms}
  - {pre: cells, post: out, connect: all_to_all, weight: {normal: [0, 0.3]}}
"""


@pytest.fixture
def spikes(tmp_path: Path) -> Path:
    step, neuron = np.nonzero(np.random.default_rng(2).random((STEPS, 5)) < 0.3)
    np.savez(tmp_path / "spikes.npz", neuron=neuron, step=step)
    return tmp_path / "spikes.npz"


@pytest.fixture
def net(tmp_path: Path, write_netx: Callable[..., Path]) -> Path:
    return write_netx(tmp_path / "two.net", LAYERS)


def twin(net: Path, spikes: Path, source: str, **options: Any) -> tuple[Loihi2Network, Any]:
    network = read_network(net, **options)
    lowered = TARGET.lower(network, realise_all(network), None, BuildOptions())
    assert isinstance(lowered, Loihi2Network)
    size = network.population(source).size
    return lowered, run_twin(*describe(lowered), {source: Spikes.load(spikes, size=size)}, steps=STEPS)


@pytest.mark.parametrize("name", ["0", "input"])
def test_layers_of_a_netx_file_have_their_numbers(name: str, net: Path, spikes: Path, call_json: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    result = call_json("simulate", net, "--numerics", "loihi2", "--input", f"{name}={spikes}", "--steps", STEPS, "--save", out)
    _, expected = twin(net, spikes, "input")
    with np.load(out) as saved:
        kinds = {f"{kind}:{projection}" for kind in ("weight", "pre", "post") for projection in ("input->0", "0->1")}
        assert set(saved.files) == kinds | {f"{kind}:{p}" for kind in ("spike_step", "spike_neuron") for p in ("input", "0", "1")}
        for population in ("input", "0", "1"):
            np.testing.assert_array_equal(saved[f"spike_step:{population}"], expected.spikes[population].step)
            np.testing.assert_array_equal(saved[f"spike_neuron:{population}"], expected.spikes[population].neuron)
        assert result["n_spikes"] == {p: len(saved[f"spike_step:{p}"]) for p in ("input", "0", "1")}
        assert min(result["n_spikes"].values()) > 10
        dense = np.zeros((4, 6))
        dense[saved["post:0->1"], saved["pre:0->1"]] = saved["weight:0->1"]
        np.testing.assert_array_equal(dense, LAYERS[1]["weight"])
        arrive = saved["spike_step:input"] + 1 < STEPS
        events = 6 * int(arrive.sum()) - int((np.asarray(LAYERS[0]["weight"])[:, saved["spike_neuron:input"][arrive]] == 0).sum())
        for post, delay in enumerate(LAYERS[1]["delay"]):
            arrive = saved["spike_step:0"] + 1 + delay < STEPS
            events += int((np.asarray(LAYERS[1]["weight"])[post, saved["spike_neuron:0"][arrive]] != 0).sum())
    assert result["n_synaptic_events"] == events
    assert (result["numerics"], result["learning"], result["n_synapses"]) == (
        "loihi2",
        False,
        54 - sum((w["weight"] == 0).sum() for w in LAYERS),
    )


def test_without_numerics_the_same_file_runs_in_floats(net: Path, spikes: Path, call_json: Any) -> None:
    """No rounding of the state, so spikes differ in places; but by far not in most."""
    floats = call_json("simulate", net, "--input", f"0={spikes}", "--steps", STEPS)
    integers = call_json("simulate", net, "--numerics", "loihi2", "--input", f"0={spikes}", "--steps", STEPS)
    assert "numerics" not in floats
    assert floats["n_spikes"]["0"] == pytest.approx(integers["n_spikes"]["0"], rel=0.1)


def test_yaml_sources_by_number_poisson_and_readouts(spikes: Path, call_json: Any, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(YAML)
    out = tmp_path / "out.npz"
    call = ("simulate", tmp_path / "net.yaml", "--numerics", "loihi2", "--steps", STEPS, "--save", out)
    result = call_json(*call, "--input", f"0={spikes}")
    lowered, expected = twin(tmp_path / "net.yaml", spikes, "first")
    readout = next(p for p in lowered.populations if p.name == "out")
    with np.load(out) as saved:
        np.testing.assert_array_equal(saved["output:out"], expected.output["out"] / readout.scale)
        np.testing.assert_array_equal(saved["spike_neuron:cells"], expected.spikes["cells"].neuron)
        drawn = np.random.default_rng([1, 1]).random((STEPS, 3)) < 0.2  # what program/run.py draws: seed 1, population 1
        np.testing.assert_array_equal(saved["spike_step:second"], np.nonzero(drawn)[0])
        np.testing.assert_array_equal(saved["spike_neuron:second"], np.nonzero(drawn)[1])
    assert result["n_spikes"]["cells"] > 10
    np.savez(tmp_path / "none.npz", neuron=np.zeros(0, int), step=np.zeros(0, int))
    assert call_json(*call, "--input", f"1={tmp_path / 'none.npz'}")["n_spikes"]["second"] == 0  # given spikes replace the rate


def test_nir(spikes: Path, call_json: Any, tmp_path: Path) -> None:
    lif = nir.LIF(tau=np.full(5, 0.01), r=np.full(5, 20.0), v_leak=np.zeros(5), v_threshold=np.ones(5))
    ends = {"in": nir.Input(input_type={"input": np.array([5])}), "out": nir.Output(output_type={"output": np.array([5])})}
    nir.write(tmp_path / "net.nir", nir.NIRGraph(nodes={**ends, "n7": lif}, edges=[("in", "n7"), ("n7", "out")], type_check=False))
    call = ("simulate", tmp_path / "net.nir", "--dt", "1e-3", "--numerics", "loihi2", "--steps", STEPS, "--input", f"0={spikes}")
    assert call_json(*call)["n_spikes"]["n7"] == len(np.load(spikes)["step"]) - int((np.load(spikes)["step"] == STEPS - 1).sum())


def test_without_learning_all_weights_stay(pattern: Path, call: Any, call_json: Any) -> None:
    arguments = ("simulate", pattern / "pattern.yaml", "--steps", "120", "--input", f"in={pattern / 'spikes.npz'}", "--numerics", "loihi2")
    result = call_json(*arguments, "--no-learn", "--save", pattern / "out.npz")
    assert result["learning"] is False
    assert result["n_spikes"]["hidden"] > 0
    doubled = {k: 2 * v for k, v in np.load(pattern / "out.npz").items() if k.startswith("weight:")}
    np.savez(pattern / "w.npz", **doubled)
    assert call_json(*arguments, "--no-learn", "--weights", pattern / "w.npz")["n_spikes"]["hidden"] > result["n_spikes"]["hidden"]


@pytest.mark.parametrize("target", ["nest", "nothing"])
def test_targets_without_integers_here(target: str, net: Path, call: Any) -> None:
    code, _, err = call("simulate", net, "--numerics", target, "--steps", "5")
    assert code == 3
    assert f"NC345]: --numerics {target}: " in err
    assert "there are: loihi2, spinnaker" in err


@pytest.mark.parametrize("option", [
    ("--flush",), ("--record", "membrane:0"), ("--record-every", "2"), ("--algorithm", "loop"), ("--precision", "float32"),
    ("--threads", "2"),
])  # fmt: skip
def test_options_of_the_reference_engine_are_refused(option: tuple[str, ...], net: Path, call: Any) -> None:
    code, _, err = call("simulate", net, "--numerics", "loihi2", "--steps", "5", *option)
    assert code == 3
    assert f"NC160]: {option[0]} has no effect together with --numerics" in err


@pytest.mark.parametrize("name", ["1", "00000000000", "²", "-1", "two"])
def test_a_number_beyond_the_sources_is_no_name(name: str, net: Path, spikes: Path, call: Any) -> None:
    code, _, err = call("simulate", net, "--numerics", "loihi2", "--steps", "5", "--input", f"{name}={spikes}")
    assert code == 3
    assert f"there is no '{name}'" in err


def test_a_source_given_by_name_and_number_is_given_twice(net: Path, spikes: Path, call: Any) -> None:
    code, _, err = call("simulate", net, "--steps", "5", "--input", f"0={spikes}", "--input", f"input={spikes}")
    assert code == 3
    assert "NC206" in err


def test_spikes_of_a_neuron_that_is_not_there(net: Path, call: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "far.npz", neuron=[5], step=[0])
    code, _, err = call("simulate", net, "--numerics", "loihi2", "--steps", "5", "--input", f"0={tmp_path / 'far.npz'}")
    assert code == 3
    assert "NC204" in err


@pytest.mark.parametrize("name", ["tiny", "mnist", "oxford"])
def test_shared_files_build(name: str, shared: Path, call: Any, tmp_path: Path) -> None:
    code, _, err = call("build", shared / f"data/networks/lava_dl/{name}.net", "--target", "loihi2", "-o", tmp_path / "built")
    assert code == 0, err
    report = json.loads((tmp_path / "built/report.json").read_text())
    assert report["approximations"] == []
    result = call("simulate", tmp_path / "built", "--numerics", "loihi2", "--steps", "5", "-q")
    assert result[0] == 0, result[2]


def test_outputs_beyond_the_memory_end_at_once(spikes: Path, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocompile.simulation.memory.available_memory", lambda: 1e8)
    (tmp_path / "net.yaml").write_text(YAML)
    command = ("simulate", tmp_path / "net.yaml", "--numerics", "loihi2", "--steps", 10**7, "--input", f"0={spikes}")
    code, _, err = call(*command, "--save", tmp_path / "out.npz")
    assert code == 4
    assert "NC410" in err
    assert "Poisson spikes of 10,000,000 steps" in err
    assert "outputs of 10,000,000 steps" in err


def test_learning_is_the_programs(pattern: Path, call: Any, call_json: Any) -> None:
    """The same spikes, outputs and weights as the twin gives for the whole run at once, and others than without learning."""
    text = (pattern / "pattern.yaml").read_text()
    (pattern / "pattern.yaml").write_text(text.replace("gradient_descent", "adam"))
    arguments = (
        "simulate", pattern / "pattern.yaml", "--steps", "120", "--input", f"in={pattern / 'spikes.npz'}", "--numerics", "loihi2",
        "--signal", f"out={pattern / 'signal.npz'}", "--save", pattern / "out.npz",
    )  # fmt: skip
    code, out, _ = call(*arguments, "--format", "json")
    assert (code, {e["code"] for e in json.loads(out)["errors"]}) == (3, {"NC313"})  # adam: only approximately
    result = call_json(*arguments, "--allow-approximation")
    assert (result["learning"], [a["code"] for a in result["approximations"]]) == (True, ["NC313"] * 2)
    network = read_network(pattern / "pattern.yaml")
    lowered = TARGET.lower(network, realise_all(network), None, BuildOptions(allow_approximation=True))
    assert isinstance(lowered, Loihi2Network)
    spec, arrays = describe(lowered)
    inputs = {"in": Spikes.load(pattern / "spikes.npz", size=20)}
    signals = {"out": Signal.load(pattern / "signal.npz", size=1)}
    expected = run_twin(spec, arrays, inputs, steps=120, signals=signals, learn=True)
    with np.load(pattern / "out.npz") as saved:
        for projection in lowered.projections:
            name = projection.name
            np.testing.assert_array_equal(saved[f"weight:{name}"], expected.weights[name] * projection.quantised.unit)
        assert (expected.weights["in->hidden"] != lowered.projections[0].quantised.values).any()
        np.testing.assert_array_equal(saved["spike_step:hidden"], expected.spikes["hidden"].step)
    coarse = call_json(*arguments, "--allow-approximation", "--set", "low_bits=none")
    assert coarse["n_spikes"]["in"] == result["n_spikes"]["in"]
    assert call(*arguments, "--set", "low_bits=many")[0] == 3


def test_target_options_need_numerics(pattern: Path, call: Any) -> None:
    for options in (("--allow-approximation",), ("--set", "low_bits=none")):
        code, _, err = call("simulate", pattern / "pattern.yaml", "--steps", "5", *options)
        assert code == 3
        assert f"NC160]: {options[0]} has no effect without --numerics" in err


def test_a_checkpoint_of_other_numerics_is_refused(pattern: Path, call: Any, call_json: Any) -> None:
    """float64, integers, and integers with another option are three simulations."""
    arguments = ["simulate", pattern / "pattern.yaml", "--steps", "60", "--input", f"in={pattern / 'spikes.npz'}"]
    integers = ["--numerics", "loihi2", "--set", "tune=0"]
    for name, how in (("float", []), ("integers", integers)):
        call_json(*arguments, *how, "--checkpoint", pattern / name)
    for name, how, said in (
        ("float", integers, "--numerics and --set (not given then)"),
        ("integers", [], "--numerics and --set (not given now)"),
        ("integers", [*integers, "--set", "trace_bits=5"], 'trace_bits", "5"'),
        ("integers", [*integers, "--no-learn"], "--no-learn (off then, on now)"),
    ):
        before = (pattern / name).read_bytes()
        code, _, err = call(*arguments, *how, "--checkpoint", pattern / name, "--resume")
        assert code == 3
        assert "NC711" in err
        assert said in err.replace("\n", " "), err
        assert (pattern / name).read_bytes() == before


def test_ctrl_c_in_integers_writes_a_checkpoint(pattern: Path, call: Any, call_json: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resumed run has the numbers and the bytes of one that nothing has ended."""
    out, whole = pattern / "out.npz", pattern / "whole.npz"
    files = ["--input", f"in={pattern / 'spikes.npz'}", "--signal", f"out={pattern / 'signal.npz'}"]
    arguments = ["simulate", pattern / "pattern.yaml", "--steps", "400", *files, "--numerics", "loihi2", "--set", "tune=0"]
    alone = call_json(*arguments, "--save", whole)
    real = TwinSimulator.run

    def interrupted(self: TwinSimulator, n_steps: int, **options: Any) -> Any:
        if self.step > 30:
            signal.raise_signal(signal.SIGINT)
        return real(self, n_steps, **options)

    monkeypatch.setattr(TwinSimulator, "run", interrupted)
    code, text, _ = call(*arguments, "--save", out, "--checkpoint", pattern / "ck", "--format", "json")
    monkeypatch.undo()
    answer = json.loads(text)
    assert (code, answer["interrupted"], answer["save"]) == (INTERRUPTED, True, None)
    assert 30 < answer["steps_done"] < 400
    assert not out.exists()
    resumed = call_json(*arguments, "--save", out, "--checkpoint", pattern / "ck", "--resume")
    assert out.read_bytes() == whole.read_bytes()
    assert {k: resumed[k] for k in ("n_spikes", "n_synaptic_events", "steps_done")} == {
        k: alone[k] for k in ("n_spikes", "n_synaptic_events", "steps_done")
    }
    assert resumed["steps_done"] == 400


def test_a_damaged_checkpoint_of_integers_is_refused(pattern: Path, call: Any, call_json: Any) -> None:
    """Also one whose arrays are all there, of a program with other delays."""
    arguments = [
        "simulate",
        pattern / "pattern.yaml",
        "--steps",
        "40",
        "--numerics",
        "loihi2",
        "--no-learn",
        "--checkpoint",
        pattern / "ck",
    ]
    call_json(*arguments)
    content = dict(np.load(pattern / "ck"))
    for damaged in (
        {k: v for k, v in content.items() if k != "state:events"},
        content | {"state:arriving": np.zeros(7, np.int64)},
        content | {"state:cells:1:state": np.zeros(3, np.int64)},
    ):
        (pattern / "ck").write_bytes(npz_bytes(damaged))
        code, _, err = call(*arguments, "--resume")
        assert (code, "NC712" in err) == (3, True)
