"""The door for others' tests: what ``simulate`` takes, writes and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


def arguments(folder: Path, *more: str | Path) -> list[str | Path]:
    return [
        "simulate", folder / "pattern.yaml", "--steps", "120",
        "--input", f"in={folder / 'spikes.npz'}", "--signal", f"out={folder / 'signal.npz'}", *more,
    ]  # fmt: skip


def test_keys_shapes_and_numbers(pattern: Path, call_json: Any) -> None:
    result = call_json(*arguments(pattern, "--save", pattern / "out.npz"))
    saved = np.load(pattern / "out.npz")
    edges = np.load(pattern / "in_hidden.npz")
    assert set(saved.files) == {
        *(f"{kind}:{name}" for kind in ("weight", "pre", "post") for name in ("in->hidden", "hidden->hidden", "read")),
        *(f"{kind}:{name}" for kind in ("spike_step", "spike_neuron") for name in ("in", "hidden")),
        "output:out",
    }
    np.testing.assert_array_equal(saved["pre:in->hidden"], edges["pre"])  # the file's order is kept
    np.testing.assert_array_equal(saved["post:in->hidden"], edges["post"])
    assert saved["output:out"].shape == (120, 1)
    assert result["n_neurons"] == 36
    assert result["n_synapses"] == result["n_plastic_synapses"] == 300 + len(saved["pre:hidden->hidden"]) + 15
    assert result["n_spikes"] == {name: len(saved[f"spike_step:{name}"]) for name in ("in", "hidden")}
    assert result["n_spikes"]["hidden"] > 5
    degree = {name: np.bincount(saved[f"pre:{name}"], minlength=20) for name in ("in->hidden", "hidden->hidden", "read")}
    step = {name: saved[f"spike_step:{name}"] for name in ("in", "hidden")}
    neuron = {name: saved[f"spike_neuron:{name}"] for name in ("in", "hidden")}
    expected = sum(
        int(degree[projection][neuron[source]][step[source] + 1 < 120].sum())
        for projection, source in (("in->hidden", "in"), ("hidden->hidden", "hidden"), ("read", "hidden"))
    )
    assert result["n_synaptic_events"] == expected  # every spike that arrives within the run, once per synapse
    assert {"wall_s", "compile_s", "peak_rss_mb"} <= set(result)
    assert (saved["weight:in->hidden"] != edges["weight"]).any()


def test_without_learning_nothing_changes_and_weights_are_taken(pattern: Path, call_json: Any) -> None:
    call_json(*arguments(pattern, "--save", pattern / "a.npz", "--no-learn"))
    still, edges = np.load(pattern / "a.npz"), np.load(pattern / "in_hidden.npz")
    np.testing.assert_array_equal(still["weight:in->hidden"], edges["weight"])
    changed = {k: still[k] * 2 for k in still.files if k.startswith("weight:")}
    np.savez(pattern / "w.npz", **changed)
    call_json(*arguments(pattern, "--save", pattern / "b.npz", "--no-learn", "--weights", pattern / "w.npz"))
    doubled = np.load(pattern / "b.npz")
    for key, values in changed.items():
        np.testing.assert_array_equal(doubled[key], values)
    assert len(doubled["spike_step:hidden"]) != len(still["spike_step:hidden"])


def test_flush_applies_what_waits(pattern: Path, call_json: Any) -> None:
    call_json(*arguments(pattern, "--save", pattern / "a.npz"))
    call_json(*arguments(pattern, "--save", pattern / "b.npz", "--flush"))
    a, b = np.load(pattern / "a.npz"), np.load(pattern / "b.npz")
    np.testing.assert_array_equal(a["spike_step:hidden"], b["spike_step:hidden"])
    assert (a["weight:read"] != b["weight:read"]).any()


def test_same_seed_same_numbers_other_seed_others(pattern: Path, call_json: Any) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        call_json(*arguments(pattern, "--save", pattern / f"{name}.npz", "--seed", seed))
    assert (pattern / "a.npz").read_bytes() == (pattern / "b.npz").read_bytes()
    assert (pattern / "a.npz").read_bytes() != (pattern / "c.npz").read_bytes()


def test_more_can_be_recorded(pattern: Path, call_json: Any) -> None:
    call_json(*arguments(pattern, "--save", pattern / "a.npz", "--record", "membrane:hidden", "--record", "learning_signal:hidden"))
    saved = np.load(pattern / "a.npz")
    assert saved["membrane:hidden"].shape == saved["learning_signal:hidden"].shape == (120, 15)


def test_a_build_folder_simulates_like_its_description(pattern: Path, call_json: Any) -> None:
    call_json("build", pattern / "pattern.yaml", "--target", "nest", "-o", pattern / "built")
    call_json(*arguments(pattern, "--save", pattern / "a.npz"))
    call_json(
        "simulate", pattern / "built", "--steps", "120", "--input", f"in={pattern / 'spikes.npz'}",
        "--signal", f"out={pattern / 'signal.npz'}", "--save", pattern / "b.npz",
    )  # fmt: skip
    assert (pattern / "a.npz").read_bytes() == (pattern / "b.npz").read_bytes()


def test_learnt_kappas_are_saved_and_taken_back(pattern: Path, call_json: Any) -> None:
    """out.npz holds kappa:PROJECTION where one is learnt; as --weights, learning goes on from there."""
    text = (pattern / "pattern.yaml").read_text()
    learning = "    kappa_learning: {learning_rate: 0.1, bounds: [0.5, 0.99]}\n"
    (pattern / "pattern.yaml").write_text(text.replace("    kappa_reg:", learning + "    kappa_reg:"))
    call_json(*arguments(pattern, "--save", pattern / "a.npz", "--flush"))
    call_json(*arguments(pattern, "--save", pattern / "b.npz", "--no-learn", "--weights", pattern / "a.npz"))
    a, b = np.load(pattern / "a.npz"), np.load(pattern / "b.npz")
    kappas = [key for key in a.files if key.startswith("kappa:")]
    assert kappas == ["kappa:in->hidden", "kappa:hidden->hidden"]
    for key in kappas:
        assert np.ptp(a[key]) > 0.001
        np.testing.assert_array_equal(a[key], b[key])


def test_a_saved_run_is_a_weights_file(pattern: Path, call_json: Any) -> None:
    """out.npz goes back in as --weights, to the bit, and the network starts from there."""
    call_json(*arguments(pattern, "--save", pattern / "a.npz", "--flush"))
    call_json(*arguments(pattern, "--save", pattern / "b.npz", "--no-learn", "--weights", pattern / "a.npz"))
    a, b = np.load(pattern / "a.npz"), np.load(pattern / "b.npz")
    for key in a.files:
        if key.startswith(("weight:", "pre:", "post:")):
            np.testing.assert_array_equal(a[key], b[key])
    assert (a["output:out"] != b["output:out"]).any()


def test_steps_are_0_to_n_minus_1_and_delays_are_exact(tmp_path: Path, call_json: Any) -> None:
    """A spike at step s reaches a target behind delay d in update step s+d; ten delays at once, some beyond the end."""
    n = 10
    np.savez(
        tmp_path / "edges.npz", pre=np.zeros(n, int), post=np.arange(n)[::-1].copy(), weight=np.full(n, 1.5), delay=np.arange(1, n + 1)
    )
    (tmp_path / "net.yaml").write_text(
        "dt: 1 ms\npopulations:\n  in: {model: spike_source, size: 1}\n"
        f"  out: {{model: lif, size: {n}, params: {{tau_mem: 20 ms, v_threshold: 1}}}}\n"
        "projections:\n  - {pre: in, post: out, connect: {file: edges.npz}}\n"
    )
    np.savez(tmp_path / "s.npz", neuron=np.array([0, 0]), step=np.array([3, 99]))
    found = call_json(
        "simulate", tmp_path / "net.yaml", "--steps", "10", "--input", f"in={tmp_path / 's.npz'}", "--save", tmp_path / "out.npz"
    )
    out = np.load(tmp_path / "out.npz")
    arrived = [(3 + d, n - d) for d in range(1, n + 1) if 3 + d < 10]  # neuron n - d hangs behind delay d
    assert list(zip(out["spike_step:out"].tolist(), out["spike_neuron:out"].tolist(), strict=True)) == arrived
    assert found["n_spikes"] == {"in": 1, "out": len(arrived)}
    assert found["n_synaptic_events"] == n  # counted where the spike is sent to its synapses, in the step after it, whatever the delay


def test_the_window_says_where_errors_count(pattern: Path, call_json: Any) -> None:
    target = np.load(pattern / "signal.npz")["target"]
    signals = {
        "nowhere": {"target": target, "window": np.zeros(120, bool)},
        "everywhere": {"target": target, "window": np.ones(120, bool)},
        "not given": {"target": target},
        "ends early": {"target": target[:60], "window": np.ones(60, bool)},
        "ends early, longer": {"target": target, "window": np.arange(120) < 60},
    }
    weights = {}
    for name, arrays in signals.items():
        np.savez(pattern / "signal.npz", **arrays)
        call_json(*arguments(pattern, "--save", pattern / "o.npz", "--flush"))
        weights[name] = np.load(pattern / "o.npz")["weight:read"]
    call_json(*arguments(pattern, "--save", pattern / "o.npz", "--no-learn"))
    initial = np.load(pattern / "o.npz")["weight:read"]
    np.testing.assert_array_equal(weights["nowhere"], initial)  # the readout's weights have no regularisation
    assert (weights["everywhere"] != initial).any()
    np.testing.assert_array_equal(weights["not given"], weights["everywhere"])
    np.testing.assert_array_equal(weights["ends early"], weights["ends early, longer"])
    assert (weights["ends early"] != weights["everywhere"]).any()


def test_the_answer_has_the_promised_keys_with_sensible_values(pattern: Path, call_json: Any) -> None:
    found = call_json(*arguments(pattern))
    counts = ("n_neurons", "n_synapses", "n_plastic_synapses", "n_synaptic_events")
    assert all(isinstance(found[key], int) and found[key] > 0 for key in counts)
    assert set(found["n_spikes"]) == {"in", "hidden"}
    assert 0.0 < found["wall_s"] < 60.0  # 120 steps of 36 neurons
    assert found["compile_s"] >= 0.0
    assert 50.0 < found["peak_rss_mb"] < 20_000.0  # MB, neither KiB nor bytes: an interpreter with NumPy and numba
    assert (found["command"], found["steps"], found["learning"], found["save"]) == ("simulate", 120, True, None)
    assert call_json(*arguments(pattern, "--no-learn"))["learning"] is False


def test_everything_that_can_be_recorded(pattern: Path, call_json: Any) -> None:
    wanted = [f"{kind}:hidden" for kind in ("membrane", "surrogate", "learning_signal")] + ["traces:in->hidden", "weights:read"]
    call_json(*arguments(pattern, "--save", pattern / "o.npz", "--record-every", "40", *(a for w in wanted for a in ("--record", w))))
    out = np.load(pattern / "o.npz")
    assert {"membrane:hidden", "surrogate:hidden", "learning_signal:hidden", "weights_history:read", "snapshot_step"} <= set(out.files)
    n_snapshots = len(out["snapshot_step"])
    assert n_snapshots >= 3
    assert out["weights_history:read"].shape == (n_snapshots, 15)
    assert all(np.isfinite(out[key]).all() for key in out.files)


# --- NIR files of others, through the command line ---------------------------------------------------------------------------

PAPER_INPUT = [60, 220, 270, 310, 320, 350, 370, 400, 410, 430, 440, 450, 460, 470, 480, 490, 500, 510, 520, 530]
PAPER_INPUT += [670, 680, 690, 700, 710, 720, 730, 740, 750, 760, 770, 780, 840, 850]
PAPER_OUTPUT = [460, 510, 710, 760]
"""Spikes of the NIR paper's LIF experiment, input in the same step (shared/data/networks/README.md)."""


@pytest.mark.parametrize("dt", ["1e-4", "0.1 ms", "100us"])
def test_the_lif_of_the_nir_paper_spikes_as_published_one_step_later(
    shared: Path, tmp_path: Path, call: Any, call_json: Any, dt: str
) -> None:
    net = shared / "data" / "networks" / "nir" / "lif_norse.nir"
    np.savez(tmp_path / "s.npz", neuron=np.zeros(len(PAPER_INPUT), int), step=np.array(PAPER_INPUT))
    options = ("--dt", dt, "--steps", "1000", "--input", f"input={tmp_path / 's.npz'}", "--save", tmp_path / "o.npz")
    call_json("simulate", net, *options)
    assert np.load(tmp_path / "o.npz")["spike_step:_1"].tolist() == [s + 1 for s in PAPER_OUTPUT]
    code, out, err = call("simulate", net, *options)
    assert code == 0
    assert "delay 1" in err  # the importer says what it decided, on stderr
    assert "delay 1" not in out
    assert call("simulate", net, *options, "-q")[2] == ""


def test_braille_of_the_nir_paper_imports_and_runs(shared: Path, tmp_path: Path, call_json: Any) -> None:
    """12-38-7 recurrent CubaLIF with 2,166 weights; the README of the files has the sizes."""
    net = shared / "data" / "networks" / "nir" / "braille_noDelay_bias_zero.nir"
    step, neuron = np.nonzero(np.random.default_rng(3).random((256, 12)) < 0.2)
    np.savez(tmp_path / "s.npz", neuron=neuron, step=step)
    found = call_json("simulate", net, "--dt", "1e-4", "--steps", "256", "--input", f"input={tmp_path / 's.npz'}")
    assert (found["n_neurons"], found["n_synapses"], found["n_plastic_synapses"]) == (12 + 38 + 7, 2166, 0)
    assert found["n_spikes"]["input"] == len(step)
    assert 0 < found["n_spikes"]["lif1.lif"] < 256 * 38
    # every input neuron has 38 targets, a hidden one 38 + 7; spikes of the last step arrive after the end
    assert found["n_synaptic_events"] <= 38 * len(step) + 45 * found["n_spikes"]["lif1.lif"]
    assert found["n_synaptic_events"] >= 38 * int((step < 255).sum())


def test_the_cnn_of_the_nir_paper_imports_and_runs(shared: Path, tmp_path: Path, call_json: Any) -> None:
    """8,970 neurons behind 2 x 34 x 34 inputs, about a million synapses; one synapse of the first layer by hand."""
    net = shared / "data" / "networks" / "nir" / "cnn_sinabs.nir"
    rng = np.random.default_rng(4)
    step, neuron = np.nonzero(rng.random((40, 2312)) < 0.05)
    np.savez(tmp_path / "s.npz", neuron=neuron, step=step)
    found = call_json(
        "simulate", net, "--dt", "1 ms", "--steps", "40", "--input", f"input={tmp_path / 's.npz'}", "--save", tmp_path / "o.npz"
    )
    assert found["n_neurons"] == 8970 + 2312
    assert 0.9e6 < found["n_synapses"] < 1.2e6
    assert found["n_spikes"]["_1"] > 100
    import nir

    graph, out = nir.read(net), np.load(tmp_path / "o.npz")
    kernel, r = graph.nodes["0"].weight, graph.nodes["1"].r.ravel()
    pre, post, weight = (out[f"{k}:input->_1"] for k in ("pre", "post", "weight"))
    assert len(weight) > 1e5
    stride, padding = (int(np.ravel(getattr(graph.nodes["0"], k))[0]) for k in ("stride", "padding"))
    side = int(np.sqrt(4096 // kernel.shape[0]))
    for i in rng.integers(len(weight), size=200):
        channel, y, x = np.unravel_index(post[i], (kernel.shape[0], side, side))
        c, v, u = np.unravel_index(pre[i], (2, 34, 34))
        assert weight[i] == pytest.approx(kernel[channel, c, v - y * stride + padding, u - x * stride + padding] * r[post[i]], rel=1e-6)


def test_a_nir_file_that_its_package_refuses_ends_in_a_clear_message(shared: Path, call: Any) -> None:
    net = shared / "data" / "networks" / "nir" / "braille_noDelay_bias_zero_subgraph.nir"
    code, out, err = call("check", net, "--dt", "1e-4")
    assert (code, out) == (3, "")
    assert err.startswith(f"error[NC140]: {net}: the nir package refuses it: ")
    assert "'lif' which does not exist" in err
    assert "help: export it again" in err


REWARD = """\
name: paid
dt: 1 ms
seed: 4
populations:
  in: {model: spike_source, size: 20, params: {rate: 50 Hz}}
  out: {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
  critic: {model: leaky_readout, size: 1, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: out, connect: all_to_all, weight: {normal: [0, 0.1]}, delay: 1 ms, learning: eprop}
  - {pre: in, post: critic, connect: all_to_all, weight: 0, delay: 1 ms, learning: eprop}
learning:
  eprop: {rule: eprop, optimizer: {gradient_descent: {learning_rate: 1e-3}}}
task: {readout: out, loss: {actor_critic: {critic: critic, reward_delay: 7}}}
"""


def test_actions_and_rewards_are_saved_and_survive_an_interruption(tmp_path: Path, call: Any, call_json: Any) -> None:
    """Rewards of actions come seven steps later, those of the file at once; the mean is that of what was saved; a resumed run has the
    same bytes; and another reward is another run (NC711)."""
    (tmp_path / "net.yaml").write_text(REWARD)
    rng = np.random.default_rng(1)
    arrays = {"target": rng.normal(size=(200, 2)), "window": rng.random(200) < 0.5, "reward": rng.normal(size=200)}
    np.savez(tmp_path / "signal.npz", **arrays)
    how = [tmp_path / "net.yaml", "--signal", f"out={tmp_path / 'signal.npz'}"]
    answer = call_json("simulate", *how, "--steps", "200", "--save", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as saved:
        action, reward, td_error = saved["action"], saved["reward"], saved["td_error"]
        outputs = saved["output:critic"][:, 0]
    np.testing.assert_array_equal(action >= 0, arrays["window"])
    paid = np.where(action >= 0, arrays["target"][np.arange(200), action], 0.0)
    np.testing.assert_allclose(reward, arrays["reward"] + np.concatenate([np.zeros(7), paid[:-7]]), rtol=1e-14)
    np.testing.assert_allclose(td_error[1:], reward[:-1] + 0.99 * outputs[1:] - outputs[:-1], rtol=0, atol=1e-13)
    assert answer["mean_reward"] == pytest.approx(reward.mean(), rel=1e-12)
    check = ["--checkpoint", tmp_path / "state"]
    call_json("simulate", *how, "--steps", "90", *check)
    again = call_json("simulate", *how, "--steps", "200", *check, "--resume", "--save", tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "out.npz").read_bytes()
    assert again["mean_reward"] == pytest.approx(reward.mean(), rel=1e-12)
    np.savez(tmp_path / "signal.npz", **arrays | {"reward": arrays["reward"] + 1.0})
    code, _, err = call("simulate", *how, "--steps", "300", *check, "--resume")
    assert code == 3
    assert "NC711" in err
    assert "the signal of 'out'" in err
