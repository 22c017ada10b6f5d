"""A simulation in a target's integers: lower the network, run the target's twin, learning included, and say what was recorded by the
keys of out.npz."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neurocompile.backends.base import BuildOptions, HasTwin, TargetNetwork, TwinRun, load_targets
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import BYTES_PER_SYNAPSE, Connections, realise_all, require_memory
from neurocompile.ir.signals import Signal, Spikes

_TWIN_BYTES = 48.0
"""Of the twin for each synapse, beside what lowering takes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinResult:
    """A stretch of steps of :class:`TwinSimulator`, the part of ``Simulator``'s results that tasks use.

    spikes, outputs : see :class:`neurocompile.backends.base.TwinRun`; n_spikes : population -> spikes in the stretch, sources included;
    n_synaptic_events : spikes that arrived in the stretch, once per synapse; actions : None, no target learns from reward.
    """

    spikes: Mapping[str, Spikes]
    outputs: Mapping[str, FloatArray]
    n_spikes: dict[str, int]
    n_synaptic_events: int
    actions: None = None


class TwinSimulator:
    """A network in a target's integers, with the doors of :class:`neurocompile.backends.reference.Simulator` that tasks use.

    Parameters
    ----------
    connections
        None: they follow from the description.
    options
        Of the lowering. Without learning every approximation is accepted: what is approximated is learning.
    learning
        False: all weights stay as they are, and plastic projections are static ones.

    Raises
    ------
    UnsupportedError
        NC3xx: the target cannot express the network, or only approximately and ``options`` do not allow it.
    DoesNotFitError
        NC230: its synapses need more memory than there is.
    """

    def __init__(
        self,
        network: Network,
        connections: Mapping[str, Connections] | None,
        target: HasTwin,
        *,
        options: BuildOptions | None = None,
        learning: bool = True,
    ) -> None:
        beside = target.bytes_per_synapse - BYTES_PER_SYNAPSE + _TWIN_BYTES
        projections = network.synaptic_projections
        require_memory(network, projections, beside=beside, doing="simulating in integers", realised=connections is not None)
        if connections is None:
            connections = realise_all(network)
        plastic = any(p.learning is not None for p in projections)
        self.network, self.target, self.learning = network, target.name, learning and plastic
        given = options or BuildOptions()
        if not learning:
            given = BuildOptions(allow_approximation=True, extra=given.extra, shards=given.shards, learning=False)
        self.lowered: TargetNetwork = target.lower(network, connections, None, given)
        self._target = target
        self._twin = target.twin(self.lowered, learning=self.learning)
        self._reach = {p.name: _reach(network, p.pre, connections[p.name]) for p in projections}
        longest = max((int(delays.max(initial=0)) for delays, _ in self._reach.values()), default=0)
        self._arriving = np.zeros(longest, np.int64)

    def again(self) -> TwinSimulator:
        """Return another simulation of the same program, at its first step."""
        other = copy.copy(self)
        other._twin = self._target.twin(self.lowered, learning=self.learning)
        other._arriving = np.zeros_like(self._arriving)
        return other

    @property
    def step(self) -> int:
        """Steps done."""
        return self._twin.step

    def run(
        self,
        n_steps: int,
        *,
        spikes: Mapping[str, Spikes] | None = None,
        signals: Mapping[str, Signal] | None = None,
        learn: bool = True,
    ) -> TwinResult:
        """Run some steps: steps of spikes are counted from the first of all, row t of a signal is of this run's t-th step."""
        begin = self.step
        run = self._twin.run(n_steps, spikes=spikes or {}, signals=signals or {}, learn=learn)
        return TwinResult(
            spikes=run.spikes,
            outputs=run.outputs,
            n_spikes={name: len(s.step) for name, s in run.spikes.items()},
            n_synaptic_events=self._arrivals(run, begin, n_steps),
        )

    def _arrivals(self, run: TwinRun, begin: int, n_steps: int) -> int:
        """Return how many deliveries fall into the stretch, and keep how many are still on their way at its end."""
        events = np.zeros(n_steps + len(self._arriving), np.int64)
        events[: len(self._arriving)] += self._arriving
        for projection in self.network.synaptic_projections:
            delays, degrees = self._reach[projection.name]
            sent = run.spikes[projection.pre]
            for delay, degree in zip(delays, degrees, strict=True):
                events += np.bincount(sent.step - begin + delay, degree[sent.neuron], len(events)).astype(np.int64)
        self._arriving = events[n_steps:]
        return int(events[:n_steps].sum())

    def flush(self) -> None:
        """Do nothing: a target that changes weights in each step has no gradients that wait."""

    def reset_dynamics(self) -> None:
        """Put neurons, traces and eligibility at rest; weights stay."""
        self._twin.reset()
        self._arriving = np.zeros_like(self._arriving)

    def weights(self) -> dict[str, FloatArray]:
        """Projection -> weights as the target holds them, in the description's units."""
        return self._twin.weights()

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """Set the weights of projections that learn, rounded to what the target holds."""
        self._twin.set_weights(weights)

    def state(self) -> dict[str, AnyArray]:
        """Return a copy of everything that changes: plain arrays, fit for an .npz file."""
        return {**self._twin.state(), "arriving": self._arriving.copy()}

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go back to a :meth:`state`; the simulator then goes on bit for bit as the saved one did.

        Raises
        ------
        InputError
            NC235: the state is of another program.
        """
        own = dict(state)
        arriving = own.pop("arriving", np.zeros(0))
        try:
            if arriving.shape != self._arriving.shape:
                raise ValueError("what arrives later has another length")
            self._twin.restore(own)
        except ValueError as error:
            raise InputError.of(
                "NC235", f"saved state: {error}", help="restore it into the network and the options that it was saved from"
            ) from None
        self._arriving = arriving.astype(np.int64)


def _reach(network: Network, pre: str, synapses: Connections) -> tuple[IntArray, list[IntArray]]:
    """Return the delays of a projection, and for each how many synapses of that delay each source neuron has."""
    size = network.population(pre).size
    delays = np.unique(synapses.delay).astype(np.int64)
    return delays, [np.bincount(synapses.pre[synapses.delay == d], minlength=size).astype(np.int64) for d in delays]


def find_twin(name: str) -> HasTwin:
    """Return the target of that name, which computes in its own integers here; InputError NC345 for all others."""
    targets = load_targets()
    target = targets.get(name)
    if isinstance(target, HasTwin):
        return target
    able = ", ".join(sorted(n for n, t in targets.items() if isinstance(t, HasTwin)))
    what = "there is no such target" if target is None else "this target does not compute its integers here"
    raise InputError.of("NC345", f"--numerics {name}: {what}", help=f"there are: {able}; without --numerics the reference engine runs")


__all__ = ["TwinResult", "TwinSimulator", "find_twin"]
