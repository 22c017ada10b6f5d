"""In what a task is computed: float64 in the reference engine, or a target's integers in its twin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from neurocompile.backends.base import Approximation, BuildOptions, HasTwin
from neurocompile.backends.reference import Simulator
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray, Int32Array
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.simulation.twin import TwinSimulator


class Outcome(Protocol):
    """What tasks read of a run: outputs by readout, (n_steps, n); spikes by population; deliveries over synapses; a policy's actions."""

    @property
    def outputs(self) -> Mapping[str, FloatArray]: ...
    @property
    def n_spikes(self) -> Mapping[str, int]: ...
    @property
    def n_synaptic_events(self) -> int: ...
    @property
    def actions(self) -> Int32Array | None: ...


class Runner(Protocol):
    """What tasks ask of a simulation, whatever it computes in (see :class:`neurocompile.backends.reference.Simulator`)."""

    @property
    def step(self) -> int: ...
    def run(
        self,
        n_steps: int,
        *,
        spikes: Mapping[str, Spikes] | None = None,
        signals: Mapping[str, Signal] | None = None,
        learn: bool = True,
    ) -> Outcome: ...
    def flush(self) -> None: ...
    def reset_dynamics(self) -> None: ...
    def weights(self) -> dict[str, FloatArray]: ...
    def set_weights(self, weights: Mapping[str, FloatArray]) -> None: ...
    def state(self) -> dict[str, AnyArray]: ...
    def restore(self, state: Mapping[str, AnyArray]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """A target's integers. options : of its lowering."""

    target: HasTwin
    options: BuildOptions

    @property
    def identity(self) -> str:
        """What they are, in words that change when they do."""
        return json.dumps([self.target.name, sorted(self.options.extra.items())])


def make_runner(network: Network, connections: Mapping[str, Connections] | None, numerics: Numerics | None, *, learning: bool) -> Runner:
    """Return a simulation of a network; ``learning``: whether its weights may change in a target's integers (the engine's always may)."""
    if numerics is None:
        return Simulator(network, connections)
    return TwinSimulator(network, connections, numerics.target, options=numerics.options, learning=learning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowering:
    """What lowering said of a network: the target, accepted deviations (of learning), what was rounded."""

    target: str
    approximations: tuple[Approximation, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return keys of a JSON result."""
        return {"numerics": self.target, "approximations": [asdict(a) for a in self.approximations], "notes": list(self.notes)}


def lowering_of(runner: Runner) -> Lowering | None:
    """Return what lowering said of the network of a simulation in integers, None for the reference engine."""
    if not isinstance(runner, TwinSimulator):
        return None
    return Lowering(
        target=runner.target,
        approximations=runner.lowered.approximations if runner.learning else (),
        notes=tuple(str(note) for note in runner.lowered.summary.get("notes", ())),
    )
