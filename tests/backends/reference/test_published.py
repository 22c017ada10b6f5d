"""The engine beside NEST's published numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.ir import LIF, EProp, Explicit, LeakyReadout, Network, Population, Projection, SpikeSource, Surrogate, SurrogateKind, Task
from neurocompile.ir.signals import Spikes


@pytest.mark.parametrize("index", range(4))
def test_regression_losses(index: int, regression: Callable[[int], Any]) -> None:
    case = regression(index)
    recording = Simulator(case.network).run(case.n_steps, spikes=case.spikes, signals=case.signals)
    y, target = recording.outputs["out"][2:502, 0], case.signals["out"].target[2:502, 0]
    losses = 0.5 * ((y - target) ** 2).reshape(5, 100).sum(axis=1)
    np.testing.assert_allclose(losses, case.loss, rtol=1e-8)
