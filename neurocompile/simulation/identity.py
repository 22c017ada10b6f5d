"""What the state and the recordings of a simulation depend on: a checkpoint goes on only where all of it is the same."""

from __future__ import annotations

from collections.abc import Mapping

from neurocompile.ir import Network
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections
from neurocompile.simulation.run import Plan
from neurocompile.tasks.checkpoint import arrays_digest, connections_digest, network_digest


def identity_of(network: Network, given: Mapping[str, Connections] | None, plan: Plan, options: Mapping[str, str]) -> dict[str, str]:
    """Return it in words and digests. given : synapses that do not follow from the description; options : name -> value."""
    found = {"the description": network_digest(network.with_seed(0)), "the seed": str(network.seed), **options}
    if given is not None:
        found["the weights"] = connections_digest(given)
    for name, spikes in plan.spikes.items():
        found[f"the input of '{name}'"] = arrays_digest({"neuron": spikes.neuron, "step": spikes.step})
    for name, signal in plan.signals.items():
        reward: dict[str, AnyArray] = {} if signal.reward is None else {"reward": signal.reward}
        found[f"the signal of '{name}'"] = arrays_digest({"target": signal.target, "window": signal.window} | reward)
    return found
