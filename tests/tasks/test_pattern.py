"""The pattern example: its files are those of its script, and it learns what it is shown."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from neurocompile.backends.reference import Simulator
from neurocompile.ir.read import read_network
from neurocompile.ir.signals import Signal, Spikes


@pytest.fixture
def script(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pattern", root / "examples" / "make_pattern.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_files_are_what_the_script_writes(root: Path, tmp_path: Path, script: ModuleType) -> None:
    script.make(tmp_path, 1)
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (root / "examples" / made.name).read_bytes(), made.name
        assert made.stat().st_size < 100_000


def test_the_error_falls_while_the_pattern_repeats(root: Path, tmp_path: Path, script: ModuleType) -> None:
    script.make(tmp_path, 60)
    network = read_network(root / "examples" / "pattern.yaml")
    network = replace(network, rules=(replace(network.rules[0], trace_cutoff_steps=100),))
    spikes = Spikes.load(tmp_path / "pattern_spikes.npz", size=100)
    signal = Signal.load(tmp_path / "pattern_signal.npz", size=1)
    result = Simulator(network).run(60_000, spikes={"in": spikes}, signals={"out": signal})
    loss = (0.5 * (result.outputs["out"] - signal.target) ** 2).reshape(60, 1000).sum(axis=1)
    assert np.mean(loss[-3:]) < 0.2 * np.mean(loss[:3])
