"""A network in sPyNNaker's terms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import TargetNetwork
from neurocompile.backends.spinnaker.eprop.cycles import cycles_per_second
from neurocompile.backends.spinnaker.eprop.late import Copies
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

    def core_seconds(self, spikes: FloatArray) -> tuple[FloatArray, str] | None:
        """See :meth:`neurocompile.backends.base.TargetNetwork.core_seconds`: cycles are known of e-prop cores."""
        if self.eprop is None or self.problem is None:
            return None
        dt, offsets = self.network.dt, self.network.offsets
        rates = {p.name: spikes[offsets[p.name] : offsets[p.name] + p.size] / dt for p in self.network.populations}
        seconds = np.zeros(self.problem.n_neurons)
        for name, cycles in cycles_per_second(self.eprop, self.connections, rates, dt, self.machine).items():
            seconds[offsets[name] : offsets[name] + len(cycles)] = cycles * dt / self.machine.value("core.clock")
        return seconds, "core.eprop_spike_cycles"
