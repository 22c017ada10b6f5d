"""What a run of the reference engine can record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.signals import Spikes

Neurons = npt.ArrayLike | None
"""Indices within the population; None: all of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordOptions:
    """What to record beside spikes and readout outputs.

    Attributes
    ----------
    membrane, adaptation : mapping population -> neuron indices or None (all)
        v after the reset of the step; adaptation b (alif).
    surrogate, learning_signal : mapping population -> neuron indices or None (all)
        psi of the step; L, which is what the history entry of two steps earlier holds (NEST's recordable): the error of a step completes
        the entry of the step before. Of a readout: its error. Only populations that learn by e-prop have them.
    weights, traces : tuple of projection names
        Weights as the next spike would find them; e-prop traces zbar and ebar brought up to the last complete history entry.
    every : int
        Steps between two snapshots of weights and traces, >= 1.
    """

    membrane: Mapping[str, Neurons] = field(default_factory=dict)
    adaptation: Mapping[str, Neurons] = field(default_factory=dict)
    surrogate: Mapping[str, Neurons] = field(default_factory=dict)
    learning_signal: Mapping[str, Neurons] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    every: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """Result of one run of n_steps steps.

    Attributes
    ----------
    first_step : int
        Absolute step of row 0.
    spikes : dict population -> Spikes
        Absolute steps; every population that can spike.
    outputs : dict readout -> float64 (n_steps, n)
        The readouts' membranes.
    n_spikes : dict population -> int
    n_synaptic_events : int
        Deliveries: one for each spike and synapse.
    membrane, adaptation, surrogate, learning_signal : dict population -> float64 (n_steps, n_recorded)
    weights : dict projection -> float64 (n_snapshots, m)
        Snapshot i is taken after step first_step + (i+1) every - 1.
    traces : dict projection -> dict of "zbar", "ebar" -> float64 (n_snapshots, m)
    snapshot_steps : int64 (n_snapshots,)
        The step after which each snapshot was taken.
    actions : int32 (n_steps,)
        What the policy did, -1 where it did nothing (outside the window). None, as are the next two, without ``actor_critic``.
    rewards : float64 (n_steps,)
        What arrived in each step.
    td_errors : float64 (n_steps,)
        Row t: the temporal-difference error of step t-1, which is known in step t.
    wall_s : float
        Time of the stepping loop alone.
    """

    first_step: int
    spikes: dict[str, Spikes]
    outputs: dict[str, FloatArray]
    n_spikes: dict[str, int]
    n_synaptic_events: int
    membrane: dict[str, FloatArray]
    adaptation: dict[str, FloatArray]
    surrogate: dict[str, FloatArray]
    learning_signal: dict[str, FloatArray]
    weights: dict[str, FloatArray]
    traces: dict[str, dict[str, FloatArray]]
    snapshot_steps: IntArray
    actions: Int32Array | None
    rewards: FloatArray | None
    td_errors: FloatArray | None
    wall_s: float


EMPTY = np.empty((1, 0))
