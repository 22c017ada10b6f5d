"""A network in sPyNNaker's terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import TargetNetwork
from neurocompile.backends.spinnaker.eprop.cycles import cycles_per_second
from neurocompile.backends.spinnaker.eprop.late import Copies
from neurocompile.backends.spinnaker.eprop.load import shared_cycles
from neurocompile.backends.spinnaker.eprop.numbering import senders
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan
from neurocompile.backends.spinnaker.learning import Learning
from neurocompile.backends.spinnaker.neurons import Cell
from neurocompile.ir._types import FloatArray
from neurocompile.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class RingBuffer:
    """Number formats of a population's input, one value a receptor (excitatory, inhibitory).

    expected : largest summed weight of a step that is planned for (PyNN weights, ``max_expected_summed_weight``);
    resolution : smallest weight difference, PyNN weights.
    """

    expected: tuple[float, float]
    resolution: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpinnakerNetwork(TargetNetwork):
    """``cells``: populations in order, the network's first, then added reward sources. ``buffers``: by population name (neurons only).
    ``split``: (n_populations,) synapse cores of each neuron core, 0 where neurons and synapses share a core.
    ``machine_version``: sPyNNaker's board version; ``n_boards``; ``mapping_only``: why it cannot run, '' if it can.
    ``eprop``: the integers of cores that learn by e-prop; then all populations but sources run on those. ``copies``: sources that repeat
    the spikes of others later; they come last in ``cells``."""

    cells: tuple[Cell, ...]
    buffers: dict[str, RingBuffer]
    learning: Learning
    split: npt.NDArray[np.int32]
    machine_version: int
    n_boards: int
    mapping_only: str
    steps: int
    machine: Machine
    eprop: EpropPlan | None = None
    copies: tuple[Copies, ...] = ()

    def core_seconds(self, spikes: FloatArray, part: npt.NDArray[np.integer[Any]], n_parts: int) -> tuple[FloatArray, str] | None:
        """See :meth:`neurocompile.backends.base.TargetNetwork.core_seconds`: cycles are known of e-prop cores."""
        if self.eprop is None or self.problem is None:
            return None
        dt, offsets = self.network.dt, self.network.offsets
        rate = np.asarray(spikes, np.float64) / dt
        heard, first = senders(self.network, self.connections, self.eprop, self.copies)
        cycles = shared_cycles(self.eprop, heard, part, n_parts, first, rate, dt, self.machine)
        rates = {p.name: rate[offsets[p.name] : offsets[p.name] + p.size] for p in self.network.populations}
        for name, taken in cycles_per_second(self.eprop, self.connections, rates, dt, self.machine).items():
            cycles += np.bincount(part[first[name]], taken, n_parts)
        return cycles * dt / self.machine.value("core.clock"), "core.eprop_spike_cycles"
