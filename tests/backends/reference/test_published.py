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


@pytest.mark.parametrize("kind", list(SurrogateKind))
def test_surrogate_gradients(kind: SurrogateKind, shared: Path) -> None:
    """Generator times 1, 2, 3, 5, 9, 11 ms reach the neuron one parrot step and one delay later; samples of update steps 14 .. 18."""
    data = json.loads((shared / "reference" / "nest_losses" / "eprop_surrogate_gradients.json").read_text())
    single = Explicit(pre=np.array([0]), post=np.array([0]), weight=np.array([0.3]))
    network = Network(
        name="surrogate",
        dt=1e-3,
        populations=(
            Population(name="in", size=1, model=SpikeSource()),
            Population(name="hidden", size=1, model=LIF(tau_mem=0.01, v_threshold=0.6, t_ref=0.003)),
            Population(name="out", size=1, model=LeakyReadout(tau_mem=0.01)),
        ),
        projections=(Projection(pre="in", post="hidden", connect=single, learning="eprop"),),
        rules=(EProp(surrogate=Surrogate(kind=kind, height=0.5, width=0.5882352941176471)),),
        task=Task(readout="out"),
    )
    spikes = {"in": Spikes(neuron=np.zeros(6, np.int32), step=np.array([1, 2, 3, 5, 9, 11]))}
    recording = Simulator(network).run(20, spikes=spikes, record=RecordOptions(surrogate={"hidden": None}))
    np.testing.assert_allclose(recording.surrogate["hidden"][14:19, 0], data["cases"][kind.value], rtol=1e-8)
