"""Where the learning signals of hidden neurons come from: the weights B with which errors reach them."""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.errors import InputError
from neurocompile.ir.values import ValueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SymmetricFeedback:
    """B_jk = the current weight of the readout synapse j -> k (0 where there is none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomFeedback:
    """B_jk drawn once for every pair of readout neuron k and hidden neuron j (e-prop's "random" / broadcast alignment)."""

    weight: ValueSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExplicitFeedback:
    """B_jk from a list: pre = readout neuron k (with actor_critic the critic comes behind the last), post = hidden neuron j, weight
    required."""

    connections: Explicit

    def __post_init__(self) -> None:
        if self.connections.weight is None:
            raise InputError.of("NC202", f"{self.connections.source}: feedback needs 'weight'", field=("feedback",))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionFeedback:
    """B_jk = the initial weights of a projection from the readout to the hidden population (which carries nothing else). With
    actor_critic it is the policy that the hidden neurons hear: the critic's B is 0."""

    projection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveFeedback:
    """B_jk for every readout synapse j -> k: drawn from ``weight``, then changed like the forward weight, decay included.

    This is Kolen and Pollack's way of aligning both (Akrout et al. 2019, arXiv:1904.05391): their difference decays with the
    ``weight_decay`` of the rule by which the readout learns, which must be > 0.
    """

    weight: ValueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFeedback:
    """Learning signals go back layer by layer, L_j = sum over outgoing synapses j -> k of B_jk h_k L_k, h_k the
    surrogate gradient of k filtered by its membrane (docs/eprop.md, "Feedback through the chain").

    A population whose neurons reach the readout hears the errors themselves; one further away hears the populations that are one
    projection nearer to the readout.

    Attributes
    ----------
    weights : SymmetricFeedback, RandomFeedback or AdaptiveFeedback
        B_jk = the current weight of the synapse; a fixed weight drawn for every synapse; or the adaptive one.
    """

    weights: SymmetricFeedback | RandomFeedback | AdaptiveFeedback = SymmetricFeedback()


Feedback = SymmetricFeedback | RandomFeedback | ExplicitFeedback | ProjectionFeedback | AdaptiveFeedback | ChainFeedback
