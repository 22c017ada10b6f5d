"""What the twin asks of the cores of one population: the seam at which a population can be computed in another way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packets:
    """The multicast packets of one tick.

    spiked : population -> its neurons that spike in this tick, ascending, for all populations; payload : population -> payloads of its
    neurons (one packet a neuron), for populations that send such packets in this tick.
    """

    spiked: Mapping[str, IntArray]
    payload: Mapping[str, IntArray] = field(default_factory=dict)


class Cores(Protocol):
    """The cores of one population: its neurons, its ring buffers and the rows of all synapses onto it.

    A tick is one :meth:`step` of every population, in which a neuron sees what was stored for this tick, then one :meth:`receive` of every
    population with all packets of the tick. A packet of tick t behind a delay d is stored for tick t + d.
    """

    @property
    def payload(self) -> IntArray | None:
        """What goes out as payloads after a :meth:`step`, (n,), of populations that send any, else None."""

    @property
    def membrane(self) -> FloatArray:
        """Membranes after the last :meth:`step`, description's units, (n,)."""

    def begin(self, n_steps: int, signal: Signal | None, *, learn: bool) -> None:
        """Prepare for ``n_steps`` ticks. signal : what a readout is compared with, row 0 in the first of them; learn : whether weights may
        change."""

    def step(self, tick: int) -> IntArray:
        """Update the neurons; return those that spike, ascending. tick : counted from 0 since the last :meth:`reset`."""

    def receive(self, tick: int, packets: Packets) -> None:
        """Take the packets of a tick: store inputs for later ticks, change weights."""

    def reset(self) -> None:
        """Put neurons, traces, eligibility and stored input at rest, for tick 0; weights stay."""

    def weights(self) -> Mapping[str, FloatArray]:
        """Projection -> weights as the cores hold them, in the description's units and order, for every projection into the population."""

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """Set the weights of projections that learn, rounded to what the cores hold; other projections are passed over."""

    def changing(self) -> Mapping[str, AnyArray]:
        """Name -> all arrays that change from tick to tick; they can be filled in place."""

    def check(self, state: Mapping[str, AnyArray]) -> None:
        """Raise ValueError for arrays, by the names of :meth:`changing` and of its shapes, that these cores cannot be in."""


__all__ = ["Cores", "Packets"]
