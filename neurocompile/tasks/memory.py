"""What a training or an evaluation will need, before anything is allocated."""

from __future__ import annotations

from neurocompile.backends.reference.simulator import choose
from neurocompile.ir import Network
from neurocompile.ir.realise import BYTES_PER_SYNAPSE, estimated_synapses
from neurocompile.simulation.memory import Need, check_fits, network_needs

ENGINES = 4.0
"""Engines' worth of memory that a training takes: two simulators, the second one's state at rest, and a copy while a checkpoint is written
(measured: 4.0 for the anchored form, 3.2 for the loop, whose histories fill up later)."""


def check_memory(network: Network, *, training: bool, realised: bool) -> None:
    """Raise DoesNotFitError NC410 if a training (or evaluation) needs more memory than there is (parameters: :func:`task_needs`)."""
    check_fits(f"{'training' if training else 'evaluating'} '{network.name}'", task_needs(network, training=training, realised=realised))


def task_needs(network: Network, *, training: bool, realised: bool) -> list[Need]:
    """Return what a training or an evaluation needs.

    Parameters
    ----------
    realised
        The synapses are in memory already.
    """
    algorithm = choose(network, "auto", "float64", 1).algorithm
    synapses = BYTES_PER_SYNAPSE * sum(estimated_synapses(network, p) for p in network.synaptic_projections)
    kept = training or realised
    engine = sum(need.n_bytes for need in network_needs(network, algorithm=algorithm, precision="float64", ranges=1, given=kept))
    times = ENGINES if training else 1.0
    engine -= synapses if kept else 0.0
    needs = [Need(what=f"{times:g} times the engine's state", n_bytes=times * engine)]
    if training and not realised:
        needs.append(Need(what="synapses as described", n_bytes=synapses))
    return needs
