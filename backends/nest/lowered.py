"""A network in NEST's terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurocompile.backends.base import TargetNetwork
from neurocompile.ir._types import FloatArray, Int32Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestPopulation:
    """Nodes of one NEST model.

    Attributes
    ----------
    name, kind : str
        Of the description.
    model : str
        NEST's node model (``parrot_neuron`` for sources).
    size : int
    params : dict
        NEST parameter -> number, text, or float64 array of shape (size,); ms, ms^-1 and membrane units (C_m = 1).
    probability : float64 array, shape (size,), optional
        Of a Poisson source: of a spike in a step.
    pushed : float64 array, shape (size,), optional
        Bias of neurons without leak, which comes as a spike of that weight in every step.
    """

    name: str
    kind: str
    model: str
    size: int
    params: dict[str, float | str | FloatArray]
    probability: FloatArray | None = None
    pushed: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestFeedback:
    """Learning-signal connections from a readout (index of its population) to a hidden population; weights float64 (m,)."""

    pre_population: int
    post_population: int
    pre: Int32Array
    post: Int32Array
    weight: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestRule:
    """What belongs to the synapses of an e-prop rule: NEST's optimizer settings, and whether weights keep their initial sign."""

    optimizer: dict[str, Any]
    keep_sign: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestNetwork(TargetNetwork):
    """What the emitted program builds.

    Attributes
    ----------
    populations : in the order of the description
    rules : one for each e-prop rule that is used
    rule_of : projection name -> index in ``rules``; missing: static
    feedback : learning-signal connections
    spikes_at_once : bool
        A neuron's constant input alone makes it spike in step 0.
    """

    populations: tuple[NestPopulation, ...]
    rules: tuple[NestRule, ...]
    rule_of: dict[str, int]
    feedback: tuple[NestFeedback, ...]
    spikes_at_once: bool
