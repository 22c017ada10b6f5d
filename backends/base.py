"""What a target is: it lowers a network, emits a program, validates it, and nothing else. Third parties register theirs as an entry
point in the group ``neurocompile.targets``, exactly as ours do."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from neurocompile.ir import ActorCritic, AdaptiveFeedback, ChainFeedback, EProp, Interval2020, Network
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import Diagnostic, SdkMissingError, UnsupportedError
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections
from neurocompile.ir.shards import IN_TURN, Shards
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.machine import Machine
from neurocompile.mapping.problem import MappingProblem
from neurocompile.mapping.types import Mapping

Artifacts = dict[str, bytes]
"""Relative path inside the build folder -> content. Nothing is written by a backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approximation:
    """One deviation of the target from the description.

    code : str
        Error code (NC3xx) under which it is refused without ``--allow-approximation``.
    what, instead : str
        What the description says and what the target does instead; ``effect``: what that changes, with numbers where known.
    """

    code: str
    where: str
    what: str
    instead: str
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Options of a build that backends see. ``extra``: target-specific ``--set key=value`` pairs; ``shards``: runs independent pieces
    of work, on which the result must not depend; ``learning``: False if weights will not be learnt, so that nothing needs to be measured
    for it."""

    allow_approximation: bool = False
    extra: MappingABC[str, str] = field(default_factory=dict)
    shards: Shards = IN_TURN
    learning: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetNetwork:
    """A network in a target's terms; each backend adds its own fields in a subclass.

    network : the description; connections : projection name -> realised synapses (weights may come from training);
    problem : what the mapper sees, None for targets without cores (NEST);
    approximations : accepted deviations, for the report; summary : numbers for the report (JSON-ready);
    changes_per_step : projection -> how often a step changes each of its plastic synapses, for the cost of a step; those that are not named
    change at their events.
    """

    network: Network
    connections: MappingABC[str, Connections]
    problem: MappingProblem | None
    approximations: tuple[Approximation, ...] = ()
    summary: MappingABC[str, Any] = field(default_factory=dict)
    changes_per_step: MappingABC[str, float] = field(default_factory=dict)

    def core_seconds(
        self,
        spikes: FloatArray,  # noqa: ARG002 - of targets that count their own code
        part: npt.NDArray[np.integer[Any]],  # noqa: ARG002
        n_parts: int,  # noqa: ARG002
    ) -> tuple[FloatArray, str] | None:
        """Return the seconds of a step of each part's core, (n_parts,): updates, synapses' events and what sources take for themselves, and
        the key of the machine file's constant that stands for the others; None where the machine file states time of events and neurons.

        spikes, part : spikes of each neuron in a step, and its part, (neurons,), those that the target added included.
        """
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison of ``validate``: name, whether it holds, and the numbers compared (one line); ``pair``: the same count of our mapping
    and of the toolchain's, where there are two."""

    name: str
    ok: bool
    detail: str
    pair: tuple[str, str] | None = None


@runtime_checkable
class Target(Protocol):
    """A hardware or simulator target."""

    name: str
    title: str
    extra: str
    """pip extra that brings the SDK, '' if none"""
    default_machine: str | None
    machine_families: tuple[str, ...]
    bytes_per_synapse: float
    """memory that a build takes at its peak for each synapse, realised synapses (17) included: measured, the slope between two sizes"""

    def lower(
        self, network: Network, connections: MappingABC[str, Connections], machine: Machine | None, options: BuildOptions
    ) -> TargetNetwork:
        """Express the network in the target's terms. Raises UnsupportedError (NC3xx) with all findings."""

    def emit(self, lowered: TargetNetwork, mapping: Mapping | None, options: BuildOptions) -> Artifacts:
        """Return the files of ``program/`` (paths start with ``program/``)."""

    def validate(self, build: Path, network: Network, connections: MappingABC[str, Connections], *, steps: int) -> list[Check]:
        """Run the emitted program in the public emulator and compare it with the twin or the reference engine."""

    def sdk_versions(self) -> dict[str, str | None]:
        """Distribution name -> installed version or None."""

    def capabilities(self) -> dict[str, str]:
        """What the target supports, row by row, for ``targets NAME`` (feature -> yes / no / how)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinRun:
    """What a target's program does in a stretch of steps, in the description's units.

    spikes : population -> Spikes, sources included, steps counted from the program's first; outputs : readout -> float64 (n_steps, n),
    membrane.
    """

    spikes: MappingABC[str, Spikes]
    outputs: MappingABC[str, FloatArray]


class Twin(Protocol):
    """A program of a target that runs here, in the target's own integers."""

    @property
    def step(self) -> int:
        """Steps done."""

    def run(self, n_steps: int, *, spikes: MappingABC[str, Spikes], signals: MappingABC[str, Signal], learn: bool = True) -> TwinRun:
        """Run some steps. Sources without spikes are silent, or Poisson if they have a rate; row t of a signal is of this run's t-th
        step; without ``learn`` all weights stay."""

    def reset(self) -> None:
        """Put neurons, traces and eligibility at rest; weights stay, steps are counted on."""

    def weights(self) -> dict[str, FloatArray]:
        """Projection -> weights as the target holds them, float64 (m,), in the description's units and order."""

    def set_weights(self, weights: MappingABC[str, FloatArray]) -> None:
        """Set the weights of projections that learn, rounded to what the target holds; what :meth:`weights` of the same program returned
        is taken unchanged. Other projections are passed over."""

    def state(self) -> dict[str, AnyArray]:
        """Return all that changes, by name."""

    def restore(self, state: MappingABC[str, AnyArray]) -> None:
        """Go on bit-identically from :meth:`state` of the same program; ValueError if it is of another."""


@runtime_checkable
class HasTwin(Target, Protocol):
    """A target that can also compute here, in its own integers, what its program computes (``simulate --numerics``)."""

    def twin(self, lowered: TargetNetwork, *, learning: bool) -> Twin:
        """Return the program of a lowered network at its first step; without ``learning`` its plastic projections are static ones."""

    def check_options(self, extra: MappingABC[str, str]) -> None:
        """Raise InputError NC201/NC207 for options (``--set``) that the target does not have or that have another form."""


def sdk_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def require_sdk(target: str, extra: str, distribution: str) -> None:
    """Raise SdkMissingError NC501 unless the distribution is installed."""
    if sdk_version(distribution) is None:
        raise SdkMissingError.of(
            "NC501", f"target '{target}' needs {distribution}, which is not installed", help=f"pip install 'neurocompile[{extra}]'"
        )


def accept(approximations: list[Approximation], options: BuildOptions) -> tuple[Approximation, ...]:
    """Return the approximations if they are allowed; else raise UnsupportedError with one diagnostic each."""
    if approximations and not options.allow_approximation:
        raise UnsupportedError(
            Diagnostic(
                code=a.code,
                message=f"{a.where}: {a.what}",
                help=f"nearest thing that works: {a.instead} (accept it with --allow-approximation)",
            )
            for a in approximations
        )
    return tuple(approximations)


def refuse_engine_only(network: Network, target: str, *, frozen: bool = False, freeze: str = "") -> None:
    """Raise UnsupportedError NC344 for everything that only the reference engine can learn by: update intervals, learning from reward,
    feedback through the chain, adaptive feedback, weight decay, learnt kappa, rewiring. Static networks pass.

    frozen : nothing will learn, so only what also changes the neurons is refused: update intervals; freeze : the option that does so.
    """
    used = {p.learning for p in network.synaptic_projections}
    rules = [r for r in network.rules if r.name in used and isinstance(r, EProp)]
    intervals = any(isinstance(r.update, Interval2020) for r in rules)
    found = [(f"rule '{rule.name}'", *why) for rule in rules if not frozen or intervals for why in _engine_only(rule)]
    if rules and not frozen and network.task is not None and isinstance(network.task.loss, ActorCritic):
        found.append(("task", "learning from reward (loss: actor_critic)", "loss: mean_squared_error with targets"))
    if found:
        raise UnsupportedError(
            Diagnostic(
                code="NC344",
                message=f"{where}: target '{target}' has no e-prop with {what}",
                help=f"nearest thing that works: {instead}; or train here (`neurocompile train`, `simulate`) and build the network with "
                f"the weights it has learnt{f' ({freeze})' if freeze and not intervals else ''}",
            )
            for where, what, instead in found
        )


def _engine_only(rule: EProp) -> Iterator[tuple[str, str]]:
    """Yield (what, what works instead) of a rule's options that no target of ours has."""
    if isinstance(rule.update, Interval2020):
        what = "update intervals (interval_2020), which also reset the neurons"
        yield what, "update: per_event, or per_interval of the same length"
    if isinstance(rule.feedback, ChainFeedback):
        yield "feedback through the chain of hidden populations", "feedback: {random: SPEC}, which reaches every population"
    if isinstance(rule.feedback, AdaptiveFeedback):
        yield "adaptive feedback", "feedback: symmetric or {random: SPEC}"
    if rule.weight_decay != 0.0:
        yield "weight_decay", "weight_decay: 0"
    if rule.kappa_learning is not None:
        yield "a learnt kappa (kappa_learning)", "a fixed kappa"
    if rule.rewiring is not None:
        yield "rewiring", "a fixed connectivity"


def load_targets() -> dict[str, Target]:
    """Return all registered targets by name (entry points ``neurocompile.targets``)."""
    found: dict[str, Target] = {}
    for entry in sorted(importlib.metadata.entry_points(group="neurocompile.targets"), key=lambda e: e.name):
        found[entry.name] = entry.load()
    return found
