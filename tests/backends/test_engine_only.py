"""Every target refuses what only the reference engine can learn by, and says what comes nearest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from neurocompile.backends.base import BuildOptions, load_targets
from neurocompile.ir import (
    LIF,
    ActorCritic,
    AdaptiveFeedback,
    ChainFeedback,
    Constant,
    EProp,
    Interval2020,
    KappaLearning,
    LeakyReadout,
    Network,
    Population,
    Projection,
    Rewiring,
    SpikeSource,
    Task,
)
from neurocompile.ir.connectivity import AllToAll
from neurocompile.ir.errors import UnsupportedError
from neurocompile.ir.realise import realise_all
from neurocompile.machine import load_machine

NETWORK = Network(
    name="n",
    dt=1e-3,
    populations=(
        Population(name="in", size=4, model=SpikeSource()),
        Population(name="hidden", size=3, model=LIF(tau_mem=0.02, v_threshold=0.5)),
        Population(name="out", size=2, model=LeakyReadout(tau_mem=0.02)),
    ),
    projections=(
        Projection(pre="in", post="hidden", connect=AllToAll(), learning="rule"),
        Projection(pre="hidden", post="out", connect=AllToAll(), learning="rule"),
    ),
    rules=(EProp(name="rule", update=Interval2020(interval_steps=20)),),
    task=Task(readout="out"),
)


@pytest.mark.parametrize("name", ["loihi2", "nest", "spinnaker"])
@pytest.mark.parametrize("allow", [False, True])
def test_every_target_refuses_it(name: str, allow: bool) -> None:
    target = load_targets()[name]
    machine = None if target.default_machine is None else load_machine(target.default_machine)
    with pytest.raises(UnsupportedError, match=f"target '{name}' has no e-prop with update intervals") as caught:
        target.lower(NETWORK, realise_all(NETWORK), machine, BuildOptions(allow_approximation=allow))
    (found,) = caught.value.diagnostics
    assert found.code == "NC344"
    assert found.help is not None
    assert "per_event" in found.help


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "chain": ({"feedback": ChainFeedback()}, "feedback through the chain"),
    "adaptive": ({"feedback": AdaptiveFeedback(weight=Constant(value=1.0)), "weight_decay": 1e-5}, "adaptive feedback"),
    "weight decay": ({"weight_decay": 1e-5}, "weight_decay"),
    "learnt kappa": ({"kappa_learning": KappaLearning(learning_rate=0.1)}, "learnt kappa"),
    "rewiring": ({"rewiring": Rewiring(every_steps=100, l1=1e-6), "sign_constraint": True}, "rewiring"),
    "reward": ({}, "learning from reward"),
}


@pytest.mark.parametrize("name", ["loihi2", "nest", "spinnaker"])
@pytest.mark.parametrize("option", OPTIONS)
def test_every_target_refuses_what_only_the_engine_has(name: str, option: str) -> None:
    change, what = OPTIONS[option]
    network = replace(NETWORK, rules=(EProp(name="rule", **change),))
    if option == "reward":
        critic = Population(name="critic", size=1, model=LeakyReadout(tau_mem=0.02))
        network = replace(network, populations=(*network.populations, critic), task=Task(readout="out", loss=ActorCritic(critic="critic")))
    target = load_targets()[name]
    machine = None if target.default_machine is None else load_machine(target.default_machine)
    with pytest.raises(UnsupportedError) as caught:
        target.lower(network, realise_all(network), machine, BuildOptions(allow_approximation=True))
    assert {d.code for d in caught.value.diagnostics} == {"NC344"}
    assert any(what in d.message for d in caught.value.diagnostics)
    assert all("nearest thing that works" in (d.help or "") for d in caught.value.diagnostics)


@pytest.mark.parametrize("name", ["loihi2", "nest", "spinnaker"])
def test_a_static_network_of_such_a_task_can_be_built(name: str) -> None:
    """What has been learnt from reward deploys: without plastic projections nothing is refused."""
    critic = Population(name="critic", size=1, model=LeakyReadout(tau_mem=0.02))
    network = replace(
        NETWORK,
        populations=(*NETWORK.populations, critic),
        projections=tuple(replace(p, learning=None) for p in NETWORK.projections),
        rules=(),
        task=Task(readout="out", loss=ActorCritic(critic="critic")),
    )
    target = load_targets()[name]
    machine = None if target.default_machine is None else load_machine(target.default_machine)
    assert target.lower(network, realise_all(network), machine, BuildOptions(allow_approximation=True)) is not None
