"""The door for others' tests: what ``simulate`` takes, writes and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


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
