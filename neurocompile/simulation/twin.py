"""A simulation in a target's integers: lower the network, run the target's twin, and say what was recorded by the keys of out.npz."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from neurocompile.backends.base import BuildOptions, HasTwin, TargetNetwork, TwinRun, load_targets
from neurocompile.ir import Network
from neurocompile.ir.errors import InputError, UnsupportedError
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import BYTES_PER_SYNAPSE, Connections, realise_all, require_memory
from neurocompile.ir.signals import Spikes

_TWIN_BYTES = 48.0
"""Of the twin for each synapse, beside what lowering takes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinSimulation:
    """A finished run: the network in the target's terms, what came out, and the seconds that lowering and running took."""

    lowered: TargetNetwork
    run: TwinRun
    n_steps: int
    lower_s: float
    run_s: float

    @property
    def n_synapses(self) -> dict[str, int]:
        """Synapses of each projection."""
        return {name: len(synapses.pre) for name, synapses in self.lowered.connections.items()}

    @property
    def n_synaptic_events(self) -> int:
        """Spikes that arrived within the run, once per synapse."""
        total = 0
        for projection in self.lowered.network.synaptic_projections:
            spikes, synapses = self.run.spikes[projection.pre], self.lowered.connections[projection.name]
            size = self.lowered.network.population(projection.pre).size
            for delay in np.unique(synapses.delay):
                degree = np.bincount(synapses.pre[synapses.delay == delay], minlength=size)
                total += int(degree[spikes.neuron[spikes.step + int(delay) < self.n_steps]].sum())
        return total

    def arrays(self) -> Iterator[tuple[str, AnyArray]]:
        """Yield the arrays of out.npz, the keys of ``simulate --save``."""
        for name, synapses in self.lowered.connections.items():
            yield f"weight:{name}", self.run.weights[name]
            yield f"pre:{name}", synapses.pre
            yield f"post:{name}", synapses.post
        for name, spikes in self.run.spikes.items():
            yield f"spike_step:{name}", spikes.step
            yield f"spike_neuron:{name}", spikes.neuron
        for name, values in self.run.outputs.items():
            yield f"output:{name}", values


def find_twin(name: str) -> HasTwin:
    """Return the target of that name, which computes in its own integers here; InputError NC345 for all others."""
    targets = load_targets()
    target = targets.get(name)
    if isinstance(target, HasTwin):
        return target
    able = ", ".join(sorted(n for n, t in targets.items() if isinstance(t, HasTwin)))
    what = "there is no such target" if target is None else "this target does not compute its integers here"
    raise InputError.of("NC345", f"--numerics {name}: {what}", help=f"there are: {able}; without --numerics the reference engine runs")


def require_static(network: Network, target: str) -> None:
    """Raise UnsupportedError NC345 if a projection learns."""
    plastic = [p.name for p in network.synaptic_projections if p.learning is not None]
    if plastic:
        raise UnsupportedError.of(
            "NC345",
            f"projection '{plastic[0]}' learns, and the twin of target '{target}' does not learn yet",
            help="--no-learn keeps all weights as they are; without --numerics the reference engine learns",
        )


def simulate_twin(
    network: Network, connections: Mapping[str, Connections] | None, target: HasTwin, spikes: Mapping[str, Spikes], *, n_steps: int
) -> TwinSimulation:
    """Run a network in a target's integers; all weights stay as they are.

    Parameters
    ----------
    connections
        None: they follow from the description.

    Raises
    ------
    UnsupportedError
        NC3xx: the target cannot express the network.
    DoesNotFitError
        NC230: its synapses need more memory than there is.
    """
    beside = target.bytes_per_synapse - BYTES_PER_SYNAPSE + _TWIN_BYTES
    require_memory(network, network.synaptic_projections, beside=beside, doing="simulating in integers", realised=connections is not None)
    began = time.perf_counter()
    if connections is None:
        connections = realise_all(network)
    # what is approximated is learning, and nothing learns
    lowered = target.lower(network, connections, None, BuildOptions(allow_approximation=True))
    ready = time.perf_counter()
    run = target.simulate(lowered, spikes, steps=n_steps)
    done = time.perf_counter()
    return TwinSimulation(lowered=lowered, run=run, n_steps=n_steps, lower_s=ready - began, run_s=done - ready)


__all__ = ["TwinSimulation", "find_twin", "require_static", "simulate_twin"]
