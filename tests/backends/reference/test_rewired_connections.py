"""Connections of a rewired network: given to another simulator, and refused where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.reference import Simulator
from neurocompile.ir import Explicit, Projection
from neurocompile.ir.errors import InputError
from neurocompile.ir.realise import Connections, realise
from tests.backends.reference.rewired_networks import BIG, RULE, as_spikes, assert_same, errors_to, fired, make, wiring


def with_ends(connections: Connections, **changes: Any) -> Connections:
    fields = {name: getattr(connections, name) for name in ("pre", "post", "weight", "delay")}
    return Connections(**{name: np.array(values) for name, values in (fields | changes).items()})


def test_connections_can_be_set() -> None:
    """What an evaluator does: it gets the wiring and the weights of another simulator."""
    network, on = make(RULE, sizes=BIG), as_spikes(fired(5, 300, 0.08, 20))
    for algorithm in ("loop", "anchored"):
        trained, other = Simulator(network, algorithm=algorithm), Simulator(network, algorithm=algorithm)
        trained.run(300, spikes=on, signals=errors_to(5, 300))
        other.set_connections(wiring(trained))
        for name, connections in wiring(trained).items():
            assert_same(other.connections(name), connections)
        other.run(300, spikes=as_spikes(fired(6, 300, 0.2, 20)), learn=False)
        assert all(not traces.any() for name in other.rewired for traces in other._engine.traces(name).values())
        for name, connections in wiring(trained).items():
            assert_same(other.connections(name), connections)


BAD: Mapping[str, tuple[dict[str, Any], str]] = {
    "neuron": ({"pre": [0, 99]}, "NC204.*pre index 99"),
    "number": ({"pre": [0], "post": [0], "weight": [0.1], "delay": np.ones(1, np.uint8)}, "NC235.*1 synapses, expected 2"),
    "delay": ({"delay": np.array([1, 2], np.uint8)}, "NC235.*same delays"),
    "finite": ({"weight": [0.1, np.nan]}, "NC203.*value 1"),
    "bounds": ({"weight": [0.1, 1000.0]}, "NC236"),
}


@pytest.mark.parametrize("what", BAD)
def test_connections_that_do_not_fit_change_nothing(what: str) -> None:
    connect = Explicit(pre=np.array([0, 1]), post=np.array([2, 3]), weight=np.array([0.1, 0.2]))
    simulator = Simulator(make(RULE, projections=(Projection(pre="in", post="hidden", connect=connect, learning="eprop"),)))
    present = simulator.connections("in->hidden")
    change, message = BAD[what]
    changes = {name: np.asarray(v, np.int32 if name in {"pre", "post"} else None) for name, v in change.items()}
    with pytest.raises(InputError, match=message):
        simulator.set_connections({"in->hidden": with_ends(present, **changes)})
    assert_same(simulator.connections("in->hidden"), present)


def test_connections_of_unknown_and_fixed_projections() -> None:
    fixed = Simulator(make(replace(RULE, rewiring=None)))
    found = fixed.connections("in->hidden")
    assert_same(found, realise(fixed.network, fixed.network.projection("in->hidden")))
    with pytest.raises(InputError, match=r"NC235.*'in->hidden'"):
        fixed.set_connections({"in->hidden": found})
    for simulator in (fixed, Simulator(make(RULE))):
        with pytest.raises(InputError, match=r"NC207.*'no'"):
            simulator.connections("no")
        with pytest.raises(InputError, match=r"NC207.*'no'"):
            simulator.set_connections({"no": found})
