"""A stored network is the network: every field of every kind survives, damage is an error, and no path of this machine is stored."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from neurocompile.ir import (
    ALIF,
    LIF,
    RSTDP,
    STDP,
    Adam,
    AllToAll,
    Constant,
    CubaLIF,
    DataSet,
    DistanceDependent,
    EProp,
    Explicit,
    ExplicitFeedback,
    FixedProbability,
    Interval2020,
    LeakyReadout,
    Loss,
    Network,
    Normal,
    PerInterval,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    Reset,
    SpikeSource,
    Task,
    Uniform,
    Values,
)
from neurocompile.ir.errors import InputError
from neurocompile.ir.serialise import pack_network, unpack_network


def rich_network() -> Network:
    """A network that uses every kind of field."""
    feedback = Explicit(pre=np.array([0, 1]), post=np.array([2, 3]), weight=np.array([0.5, -0.5]), source="feedback.npz")
    return Network(
        name="rich",
        dt=1e-3,
        seed=7,
        source="/somewhere/private/rich.yaml",
        files=("/somewhere/private/edges.npz",),
        notes=("a note",),
        populations=(
            Population(name="in", size=5, model=SpikeSource(rate=np.linspace(1, 5, 5)), positions=np.arange(10.0).reshape(5, 2)),
            Population(name="h", size=4, model=ALIF(tau_mem=0.03, v_threshold=1.0, adapt_beta=0.1, adapt_tau=2.0, t_ref=2e-3)),
            Population(name="g", size=4, model=LIF(tau_mem=np.inf, v_threshold=1.0, reset=Reset.TO_VALUE), positions=np.zeros((4, 2))),
            Population(name="c", size=4, model=CubaLIF(tau_mem=0.02, tau_syn=0.005, v_threshold=1.0)),
            Population(name="out", size=2, model=LeakyReadout(tau_mem=0.03)),
        ),
        projections=(
            Projection(pre="in", post="h", connect=AllToAll(), weight=Normal(mean=0.0, std=0.1), learning="e"),
            Projection(pre="in", post="g", connect=DistanceDependent(probability=0.5, scale=1.0), delay=Uniform(low=1, high=4)),
            Projection(pre="h", post="c", connect=FixedProbability(probability=0.5), learning="s"),
            Projection(pre="g", post="c", connect=FixedProbability(probability=0.5), learning="r"),
            Projection(pre="h", post="out", connect=AllToAll(), weight=Values(values=np.arange(8.0)), learning="e"),
            Projection(pre="g", post="out", connect=Explicit(pre=[0, 1], post=[1, 0], weight=[0.1, 0.2], delay=[1, 9])),  # type: ignore[arg-type]
        ),
        rules=(
            EProp(
                name="e",
                regularization=Regularization(strength=1.0, rate=10.0),
                feedback=ExplicitFeedback(connections=feedback),
                optimizer=Adam(),
                update=PerInterval(steps=10),
            ),
            EProp(
                name="intervals",
                update=Interval2020(interval_steps=100, learning_window_steps=7, reset_neurons=False, regular_spike_arrival=False),
            ),
            EProp(name="unused", feedback=RandomFeedback(weight=Constant(value=1.0)), trace_cutoff_steps=100),
            STDP(name="s"),
            RSTDP(name="r", reward="in"),
        ),
        task=Task(
            readout="out", loss=Loss.CROSS_ENTROPY, data=DataSet(kind="nmnist", path="/somewhere/private/data", options={"a": 1, "b": "x"})
        ),
    )


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif dataclasses.is_dataclass(a):
        for f in dataclasses.fields(a):  # type: ignore[arg-type]
            assert_same(getattr(a, f.name), getattr(b, f.name))
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def test_everything_survives_but_the_paths() -> None:
    net = rich_network()
    text, arrays = pack_network(net)
    back = unpack_network(text, arrays, file="network.json")
    assert net.task is not None
    assert net.task.data is not None
    expected = dataclasses.replace(
        net, source="rich.yaml", files=(), task=dataclasses.replace(net.task, data=dataclasses.replace(net.task.data, path=None))
    )
    assert_same(back, expected)
    assert "private" not in text


def test_same_network_same_text() -> None:
    assert pack_network(rich_network())[0] == pack_network(rich_network())[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "neurocompile-network/1"}',
        '{"format": "other", "network": 1}',
        '{"format": "neurocompile-network/1", "network": 3}',
    ],
)
def test_damage_is_an_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        unpack_network(text, {}, file="network.json")
    assert caught.value.diagnostics[0].code == "NC161"


def test_a_missing_array_is_an_error() -> None:
    text, arrays = pack_network(rich_network())
    arrays.popitem()
    with pytest.raises(InputError, match="NC161"):
        unpack_network(text, arrays, file="network.json")


def test_only_known_classes_are_made() -> None:
    text, arrays = pack_network(rich_network())
    tree = json.loads(text)
    tree["network"]["$class"] = "Popen"
    with pytest.raises(InputError, match="NC161"):
        unpack_network(json.dumps(tree), arrays, file="network.json")
