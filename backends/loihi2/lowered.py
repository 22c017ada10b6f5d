"""The network in Loihi 2's terms: integers per population and projection, and what learning becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import TargetNetwork
from neurocompile.backends.loihi2.arithmetic import QuantisedWeights

Parameters = Mapping[str, npt.NDArray[np.generic]]
"""name -> scalar (shape ()) or per-neuron (n,) array"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoweredPopulation:
    """One population.

    process : SpikeInput | LIF (Lava's own) | Neuron | Readout (both emitted);
    scale : state units per membrane unit (fixed point); offset : v_leak, which the state is relative to (membrane units);
    fixed, real : parameters for the two precisions; rate : Poisson rate, Hz, of a source;
    learning : scalar settings of e-prop or of reward, learning_arrays : its tables, for populations that send third factors.
    """

    name: str
    size: int
    process: str
    scale: float = 1.0
    offset: float = 0.0
    fixed: Parameters = field(default_factory=dict)
    real: Parameters = field(default_factory=dict)
    rate: npt.NDArray[np.float64] | None = None
    learning: Mapping[str, Any] | None = None
    learning_arrays: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoweredProjection:
    """One projection. ``part``: the how-manieth synapse between the same two neurons (a matrix holds one a pair)."""

    name: str
    pre: int
    post: int
    pre_ids: npt.NDArray[np.int32]
    post_ids: npt.NDArray[np.int32]
    delay: npt.NDArray[np.uint8]
    weight: npt.NDArray[np.float64]
    quantised: QuantisedWeights
    part: npt.NDArray[np.uint8]
    rule: Mapping[str, Any] | None = None

    @property
    def eprop(self) -> bool:
        """Whether it learns by e-prop; else it is static, or pairs of spikes change it."""
        return self.rule is not None and not self.rule.get("post_spikes", False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoweredFeedback:
    """Feedback weights from a readout to a plastic population: ``real`` (n_post, n_readout), ``values`` = rint(real / unit)."""

    readout: int
    post: int
    real: npt.NDArray[np.float64]
    quantised: QuantisedWeights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loihi2Network(TargetNetwork):
    """A lowered network: populations and projections in the order of the description."""

    populations: tuple[LoweredPopulation, ...]
    projections: tuple[LoweredProjection, ...]
    feedback: tuple[LoweredFeedback, ...] = ()
    rewards: tuple[tuple[int, int], ...] = ()
    """(population whose spikes are reward, population that learns from it)"""
