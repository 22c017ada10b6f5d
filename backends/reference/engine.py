"""What a way of computing (an engine) gives to :class:`Simulator`: the loop over histories, the anchored form, and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.rewiring import Moves
from neurocompile.ir import Adam, EProp, LeakyReadout, Network
from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections

MIN_WINDOW = 12
"""Steps between two anchors below which the loop is faster."""


class Engine(Protocol):
    """The state of a network and the kernels that change it. Weights and traces of a projection are in canonical order."""

    site_of: dict[tuple[str, str], int]
    """(population, e-prop rule) -> first learning site"""
    eprop_names: tuple[str, ...]
    """projections that learn by e-prop"""

    @property
    def clock(self) -> IntArray:
        """Step, learning step, ...: slots of ``tables``."""

    @property
    def n_synapses(self) -> dict[str, int]:
        """Synapses of every synaptic projection."""

    def run(self, inputs: t.Inputs, probes: t.Probes, n_steps: int, learn: bool) -> tuple[Int32Array, IntArray]:
        """Advance; return the neurons that spiked and how many in each step."""

    def weight(self, name: str) -> FloatArray:
        """Return a copy of the weights of a projection."""

    def set_weight(self, name: str, values: FloatArray) -> None:
        """Replace the weights of a projection; they are checked."""

    def traces(self, name: str) -> dict[str, FloatArray]:
        """Return zbar and ebar of a projection's synapses at the last complete entry."""

    def flush(self) -> None:
        """Apply pending gradients."""

    def arrays(self) -> dict[str, AnyArray]:
        """Return everything that changes, by name (not copied)."""

    def reset_dynamics(self) -> None:
        """Bring back the start, but for weights, optimizers and step counters."""

    def bytes_per_plastic_synapse(self) -> float:
        """Return the memory of e-prop synapses: state and connectivity, over their number; 0 without any."""


class RewirableEngine(Engine, Protocol):
    """An engine whose synapses can move."""

    rewirings: IntArray
    """(P, 2): of each rewired projection, in the network's order, how often a synapse has moved, and how often no pair was free"""

    def synapses(self, name: str) -> Connections:
        """Return the synapses of a rewired projection as they are now."""

    def move(self, moves: Mapping[str, Moves]) -> None:
        """Let synapses of rewired projections join other pairs: weight 0, no traces, no pending gradient, nothing seen yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which engine runs a network, and why not the other: ``algorithm`` "anchored", "loop" or "interval", ``reason`` for people."""

    algorithm: str
    reason: str


def why_loop(network: Network) -> str | None:
    """Return what in a network the anchored engine cannot compute, None if nothing."""
    for projection in network.synaptic_projections:
        if projection.learning is None:
            continue
        rule = network.rule(projection.learning)
        if not isinstance(rule, EProp):
            return f"projection '{projection.name}' learns by STDP"
        if isinstance(rule.optimizer, Adam):
            return f"rule '{rule.name}': Adam replays idle steps, which is not linear in the gradient"
        if rule.optimizer.each_step:
            return f"rule '{rule.name}': weights are clipped at every step"
        if rule.trace_cutoff_steps is not None:
            return f"rule '{rule.name}': a trace cutoff breaks the linear recurrences"
        if projection.name in learns_kappa(network):
            return f"rule '{rule.name}': with a learnt kappa, synapses of a neuron share no coefficients"
    return None


def learns_kappa(network: Network) -> tuple[str, ...]:
    """Return the projections whose kappa is learnt: those onto hidden neurons, by a rule with ``kappa_learning``."""
    found = []
    for projection in network.synaptic_projections:
        rule = None if projection.learning is None else network.rule(projection.learning)
        hidden = not isinstance(network.population(projection.post).model, LeakyReadout)
        if isinstance(rule, EProp) and rule.kappa_learning is not None and hidden:
            found.append(projection.name)
    return tuple(found)
