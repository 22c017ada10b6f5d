"""The engine beside NEST's published numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.ir import (
    LIF,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    Interval2020,
    LeakyReadout,
    Network,
    Population,
    Projection,
    Regularization,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    Task,
)
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.reference.conftest import N_IN, N_OUT, N_REC, draw_regression, edges


@pytest.mark.parametrize("index", range(4))
def test_regression_losses(index: int, regression: Callable[[int], Any]) -> None:
    case = regression(index)
    recording = Simulator(case.network).run(case.n_steps, spikes=case.spikes, signals=case.signals)
    y, target = recording.outputs["out"][2:502, 0], case.signals["out"].target[2:502, 0]
    losses = 0.5 * ((y - target) ** 2).reshape(5, 100).sum(axis=1)
    np.testing.assert_allclose(losses, case.loss, rtol=1e-8)


def test_regression_losses_of_update_intervals(shared: Path) -> None:
    """The original formulation beside NEST's and TensorFlow's losses; NEST's tolerance is 1e-8, TensorFlow's 1e-7 (single precision)."""
    data = json.loads((shared / "reference" / "nest_losses" / "bsshslm_regression_losses.json").read_text())
    config, steps, n_iter = data["config"], data["config"]["sequence_steps"], data["config"]["n_iter"]
    hidden, out = config["rec"], config["out"]
    w_in, w_rec, w_out, b, noise, target = draw_regression(steps)
    noise[0] = False
    pre, post = np.nonzero(~np.eye(N_REC, dtype=bool))
    rule = EProp(
        surrogate=Surrogate(height=hidden["surrogate_gradient_height"], width=hidden["surrogate_gradient_width"]),
        kappa=np.exp(-1.0 / config["synapse"]["tau_m_readout"]),
        regularization=Regularization(strength=hidden["c_reg"], rate=hidden["f_target"]),
        feedback=ExplicitFeedback(connections=edges(b.T)),
        optimizer=GradientDescent(learning_rate=config["optimizer"]["eta"]),
        update=Interval2020(interval_steps=int(config["eprop_update_interval"]), regular_spike_arrival=hidden["regular_spike_arrival"]),
    )
    network = Network(
        name="intervals",
        dt=1e-3,
        populations=(
            Population(name="in", size=N_IN, model=SpikeSource()),
            Population(name="hidden", size=N_REC, model=LIF(tau_mem=hidden["tau_m"] / 1e3, v_threshold=hidden["V_th"])),
            Population(name="out", size=N_OUT, model=LeakyReadout(tau_mem=out["tau_m"] / 1e3)),
        ),
        projections=(
            Projection(pre="in", post="hidden", connect=edges(w_in.T), learning="eprop"),
            Projection(pre="hidden", post="hidden", connect=Explicit(pre=pre, post=post, weight=w_rec.T[pre, post]), learning="eprop"),
            Projection(pre="hidden", post="out", connect=edges(w_out.T), learning="eprop"),
        ),
        rules=(rule,),
        task=Task(readout="out"),
    )
    step, neuron = np.nonzero(np.tile(noise, (n_iter, 1)))  # generator time 1000 iteration + step + 1, one step behind ours
    rows = np.concatenate([np.zeros(2), np.tile(target, n_iter)])[:, None]  # sources begin two steps before readouts
    signal = Signal(target=rows, window=np.ones(len(rows), bool))
    recording = Simulator(network).run(len(rows), spikes={"in": Spikes(neuron=neuron, step=step)}, signals={"out": signal})
    error = recording.outputs["out"][2:] - rows[2:]
    losses = 0.5 * (error**2).reshape(n_iter, steps).sum(axis=1)
    np.testing.assert_allclose(losses, data["loss_nest"], rtol=data["rtol_nest"])
    np.testing.assert_allclose(losses, data["loss_tensorflow"], rtol=data["rtol_tf"])


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
