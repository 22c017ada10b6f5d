"""A way to call the command line, and a small network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.cli import run

PATTERN = """\
name: pattern
dt: 1 ms
seed: 1
populations:
  in:     {model: spike_source, size: 20}
  hidden: {model: lif, size: 15, params: {tau_mem: 30 ms, v_threshold: 0.03, reset: subtract, t_ref: 0 ms}}
  out:    {model: leaky_readout, size: 1, params: {tau_mem: 30 ms}}
projections:
  - {pre: in, post: hidden, connect: {file: in_hidden.npz}, delay: 1 ms, learning: eprop}
  - {pre: hidden, post: hidden, connect: {fixed_probability: 0.3}, weight: {normal: [0, 0.005]}, delay: 1 ms, learning: eprop}
  - {name: read, pre: hidden, post: out, connect: all_to_all, weight: {normal: [0, 0.1]}, delay: 1 ms, learning: eprop}
learning:
  eprop:
    rule: eprop
    surrogate: {piecewise_linear: {height: 10, width: 0.03}}
    kappa: 0.97
    kappa_reg: 0.97
    regularization: {strength: 3.0, rate: 10 Hz}
    feedback: {random: {normal: [0, 1]}}
    optimizer: {gradient_descent: {learning_rate: 1e-5}}
    update: per_event
    weight_bounds: [-100, 100]
task: {readout: out, loss: mean_squared_error}
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line; returns (exit code, stdout, stderr)."""

    def go(*arguments: str | Path) -> tuple[int, str, str]:
        code = run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


@pytest.fixture
def call_json(call: Call) -> Callable[..., dict[str, Any]]:
    """Run a command with --format json that must succeed; returns the parsed result."""

    def go(*arguments: str | Path) -> dict[str, Any]:
        code, out, err = call(*arguments, "--format", "json")
        assert code == 0, err
        parsed = json.loads(out)
        assert parsed["format_version"] == "1.0"
        return parsed

    return go


@pytest.fixture
def pattern(tmp_path: Path) -> Path:
    """A folder with pattern.yaml, its edge file, spikes and a signal of 120 steps."""
    rng = np.random.default_rng(1)
    pre, post = (a.ravel() for a in np.meshgrid(np.arange(20), np.arange(15)))
    order = rng.permutation(pre.size)
    np.savez(tmp_path / "in_hidden.npz", pre=pre[order], post=post[order], weight=rng.normal(0.01, 0.01, pre.size))
    step, neuron = np.nonzero(rng.random((120, 20)) < 0.1)
    np.savez(tmp_path / "spikes.npz", neuron=neuron, step=step)
    np.savez(tmp_path / "signal.npz", target=np.sin(np.arange(120) / 10.0)[:, None], window=np.arange(120) >= 20)
    (tmp_path / "pattern.yaml").write_text(PATTERN)
    return tmp_path
