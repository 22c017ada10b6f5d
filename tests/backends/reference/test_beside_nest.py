"""The same network in NEST 3.10 and in the engine: spikes equal, every weight equal."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurocompile.backends.reference import Simulator
from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    LeakyReadout,
    Network,
    Population,
    Projection,
    Regularization,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    Task,
)
from neurocompile.ir.signals import Signal, Spikes

N_IN, N, N_OUT, STEPS = 20, 30, 2, 300
Array = npt.NDArray[np.float64]


def pairs(matrix: Array) -> Explicit:
    pre, post = np.nonzero(np.ones_like(matrix))
    return Explicit(pre=pre, post=post, weight=matrix[pre, post])


def ours(
    model: str, adam: bool, tau: Array, w: dict[str, Array], raster: npt.NDArray[np.bool_], target: Array
) -> tuple[dict[str, Array], int]:
    reset = Reset.TO_VALUE if "psc_delta" in model else Reset.SUBTRACT
    common: dict[str, Any] = {"tau_mem": tau / 1e3, "v_threshold": 0.4, "v_reset": -0.1, "t_ref": 0.002, "reset": reset}
    hidden = ALIF(**common, adapt_beta=0.05, adapt_tau=0.2) if "adapt" in model else LIF(**common)
    rule = EProp(
        surrogate=Surrogate(kind=SurrogateKind.EXPONENTIAL, height=0.5, width=0.5),
        kappa=0.95,
        kappa_reg=0.9,
        regularization=Regularization(strength=0.1, rate=10.0),
        feedback=ExplicitFeedback(connections=pairs(w["out->hidden"])),
        optimizer=Adam(learning_rate=1e-3, each_step=False) if adam else GradientDescent(learning_rate=1e-3),
        trace_cutoff_steps=37,
    )
    network = Network(
        name="beside",
        dt=1e-3,
        populations=(
            Population(name="in", size=N_IN, model=SpikeSource()),
            Population(name="hidden", size=N, model=hidden),
            Population(name="out", size=N_OUT, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=tuple(
            Projection(pre=a, post=b, connect=pairs(w[f"{a}->{b}"]), learning="eprop")
            for a, b in (("in", "hidden"), ("hidden", "hidden"), ("hidden", "out"))
        ),
        rules=(rule,),
        task=Task(readout="out"),
    )
    step, neuron = np.nonzero(raster)
    window = np.arange(STEPS) >= 1
    signal = Signal(target=np.repeat(target[:, None], N_OUT, axis=1), window=window)
    simulator = Simulator(network)
    recording = simulator.run(STEPS, spikes={"in": Spikes(neuron=neuron, step=step)}, signals={"out": signal})
    return {k: v.reshape(w[k].shape) for k, v in simulator.weights().items()}, recording.n_spikes["hidden"]


def nests(
    nest: Any, model: str, adam: bool, tau: Array, w: dict[str, Array], raster: npt.NDArray[np.bool_], target: Array
) -> tuple[dict[str, Array], int]:
    nest.ResetKernel()
    nest.resolution = 1.0
    still = {"C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "I_e": 0.0, "eprop_isi_trace_cutoff": 37.0}
    params = {**still, "t_ref": 2.0, "V_th": 0.4, "c_reg": 0.1, "f_target": 10.0, "kappa": 0.95, "kappa_reg": 0.9}
    params |= {"surrogate_gradient_function": "exponential", "surrogate_gradient_height": 0.5, "surrogate_gradient_width": 0.5}
    params |= {"V_reset": -0.1} if "psc_delta" in model else {}
    params |= {"adapt_beta": 0.05, "adapt_tau": 200.0} if "adapt" in model else {}
    generators, relays = nest.Create("spike_generator", N_IN), nest.Create("parrot_neuron", N_IN)
    hidden, out = nest.Create(model, N, params), nest.Create("eprop_readout", N_OUT, {**still, "tau_m": 20.0})
    for neuron, tau_m in zip(hidden, tau, strict=True):
        neuron.tau_m = tau_m
    for generator, spikes in zip(generators, raster.T, strict=True):
        generator.spike_times = np.flatnonzero(spikes).astype(float)  # the relay repeats time g in update step g
    signal = nest.Create("step_rate_generator", 1, {"amplitude_times": np.arange(1.0, STEPS), "amplitude_values": target[1:]})
    window = nest.Create("step_rate_generator", 1, {"amplitude_times": [1.0], "amplitude_values": [1.0]})
    kind = "adam" if adam else "gradient_descent"
    optimizer = {"type": kind, "batch_size": 1, "eta": 1e-3, "optimize_each_step": False, "Wmin": -100.0, "Wmax": 100.0}
    nest.SetDefaults("eprop_synapse", {"optimizer": optimizer})
    nest.Connect(generators, relays, "one_to_one", {"delay": 1.0})
    ends = {"in->hidden": (relays, hidden), "hidden->hidden": (hidden, hidden), "hidden->out": (hidden, out)}
    for name, (pre, post) in ends.items():
        nest.Connect(pre, post, "all_to_all", {"synapse_model": "eprop_synapse", "weight": w[name].T.copy(), "delay": 1.0})
    back = {"synapse_model": "eprop_learning_signal_connection", "weight": w["out->hidden"].T.copy(), "delay": 1.0}
    nest.Connect(out, hidden, "all_to_all", back)
    for source, port in ((signal, 2), (window, 1)):
        nest.Connect(source, out, "all_to_all", {"synapse_model": "rate_connection_delayed", "receptor_type": port, "delay": 1.0})
    recorder = nest.Create("spike_recorder")
    nest.Connect(hidden, recorder)
    nest.Simulate(float(STEPS))
    weights = {}
    for name, (pre, post) in ends.items():
        found = nest.GetConnections(pre, post, synapse_model="eprop_synapse").get(["source", "target", "weight"])
        weights[name] = np.zeros_like(w[name])
        weights[name][np.array(found["source"]) - min(pre.tolist()), np.array(found["target"]) - min(post.tolist())] = found["weight"]
    return weights, recorder.n_events


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("model", ["eprop_iaf", "eprop_iaf_adapt", "eprop_iaf_psc_delta"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside NEST's own package
def test_weights_equal_nests(model: str, adam: bool) -> None:
    nest = sys.modules.get("nest") or pytest.importorskip("nest")
    rng = np.random.default_rng(len(model) + adam)
    shapes = {"in->hidden": (N_IN, N, 0.1), "hidden->hidden": (N, N, 0.05), "hidden->out": (N, N_OUT, 0.2), "out->hidden": (N_OUT, N, 1.0)}
    w = {name: rng.normal(0.08 if name == "in->hidden" else 0.0, scale, (a, b)) for name, (a, b, scale) in shapes.items()}
    tau, raster, target = rng.uniform(15, 30, N), rng.random((STEPS, N_IN)) < 0.05, rng.normal(0, 1, STEPS)
    raster[0] = False  # a generator cannot spike at time 0
    expected, n_expected = nests(nest, model, adam, tau, w, raster, target)
    got, n_got = ours(model, adam, tau, w, raster, target)
    assert n_got == n_expected > 100
    for name, values in expected.items():
        assert np.abs(values - w[name]).max() > 1e-3, name
        np.testing.assert_allclose(got[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
