"""The dense form that the engine is measured against computes the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.reference import Simulator
from neurocompile.ir import EProp, GradientDescent, Network, Reset
from neurocompile.ir.realise import Connections, realise_all, realise_feedback

STEPS = 400


def described(setup: ModuleType, indegree: int, learning_rate: float, bounds: tuple[float, float]) -> tuple[Any, Network]:
    point = setup.Point(size=60, indegree=indegree, rate=10.0, input_weight=0.033, warm_up=0, steps=STEPS, repetitions=1)
    network = setup.network(point)
    rule = replace(network.rules[0], optimizer=GradientDescent(learning_rate=learning_rate), weight_bounds=bounds)
    return point, replace(network, rules=(rule,))


def form_of(script: Callable[[str], ModuleType], network: Network, connections: dict[str, Connections]) -> Any:
    rule = network.rules[0]
    assert isinstance(rule, EProp)
    return script("eprop_dense").DenseForm(network, connections, realise_feedback(network, rule, "hidden"))


@pytest.mark.parametrize("algorithm", ["anchored", "loop"])
@pytest.mark.parametrize(("indegree", "bounds"), [(20, (-100.0, 100.0)), (59, (-0.3, 0.05))])
def test_dense_form_equals_the_engine(
    script: Callable[[str], ModuleType], algorithm: str, indegree: int, bounds: tuple[float, float]
) -> None:
    """Sparse and all to all, with bounds that bite and without: the same spikes, and weights to rounding (sums go in another order)."""
    setup = script("eprop_setup")
    point, network = described(setup, indegree, 2e-7, bounds)
    connections = {name: replace(c, weight=np.clip(c.weight, *bounds)) for name, c in realise_all(network).items()}
    spikes, signal = setup.input_spikes(point), setup.signal(0, STEPS)
    simulator = Simulator(network, connections, algorithm=algorithm)
    recording = simulator.run(STEPS, spikes={"in": spikes}, signals={"out": signal})
    form = form_of(script, network, connections)
    form.run([spikes.neuron[spikes.step == t].astype(np.int64) for t in range(STEPS)], setup.targets(), signal.window)
    assert form.n_spikes == recording.n_spikes["hidden"] > 100
    for name, values in simulator.weights().items():
        change = np.abs(values - connections[name].weight).max()
        assert change > 1e-6, name
        np.testing.assert_allclose(form.weights(name), values, rtol=1e-9, atol=1e-9 * change, err_msg=name)


def test_dense_form_refuses_what_it_does_not_compute(script: Callable[[str], ModuleType]) -> None:
    setup = script("eprop_setup")
    _, network = described(setup, 20, 1e-8, (-100.0, 100.0))
    hidden = network.population("hidden")
    hard = replace(hidden, model=replace(hidden.model, reset=Reset.TO_VALUE))
    for other in (
        replace(network, populations=tuple(hard if p.name == "hidden" else p for p in network.populations)),
        replace(network, rules=(replace(network.rules[0], kappa_reg=0.9),)),
        replace(network, rules=(replace(network.rules[0], regularization=None),)),
    ):
        with pytest.raises(ValueError, match="dense form"):
            form_of(script, other, realise_all(other))
