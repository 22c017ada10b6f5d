"""From a network to the files of a build: verify, lower, partition, place, route, tabulate, emit. Nothing is written here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from neurocompile.advice import Attempt, advised
from neurocompile.backends.base import Artifacts, BuildOptions, Target, TargetNetwork, load_targets
from neurocompile.backends.reference.engine import learns_kappa
from neurocompile.hints import recorded_rates, with_hints
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import InputError, did_you_mean
from neurocompile.ir.npz import AnyArray, load_npz
from neurocompile.ir.realise import BYTES_PER_SYNAPSE, Connections, realise_all, require_memory
from neurocompile.ir.rewired import moved_synapses, rewired_projections
from neurocompile.ir.shards import IN_TURN, Shards
from neurocompile.machine import Machine, load_machine
from neurocompile.mapping import MapOptions, map_network
from neurocompile.mapping.problem import MappingProblem
from neurocompile.mapping.shortfall import ShortfallError
from neurocompile.mapping.types import Mapping as CoreMapping

log = logging.getLogger("neurocompile")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """What a build can be told.

    target : name of a registered target; machine : name or path of a machine file, None for the target's default;
    overrides : machine quantity -> value (shown as overridden in the report); extra : target options;
    rates : recording (``simulate --save``) whose firing rates weight the traffic; None: those of the description, or all alike;
    partition : one of ``mapping.partition.ALGORITHMS``; routes : one of ``mapping.MODES``; effort : one of ``mapping.EFFORTS``.
    """

    target: str
    machine: str | None = None
    allow_approximation: bool = False
    overrides: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    rates: Path | None = None
    partition: str = "auto"
    routes: str = "auto"
    effort: str = "normal"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compiled:
    """Everything a build knows, before anything is written. ``problem``: what was mapped: the lowered problem with wishes and rates."""

    network: Network
    connections: Mapping[str, Connections]
    target: Target
    machine: Machine | None
    lowered: TargetNetwork
    problem: MappingProblem | None
    mapping: CoreMapping | None
    artifacts: Artifacts
    trained: bool


def find_target(name: str) -> Target:
    """Return the target of that name; InputError NC301 with the known names otherwise."""
    targets = load_targets()
    if name not in targets:
        raise InputError.of("NC301", f"target '{name}' does not exist", help=did_you_mean(name, targets))
    return targets[name]


def replace_weights(
    network: Network, connections: Mapping[str, Connections], weights: Mapping[str, AnyArray], *, file: str
) -> dict[str, Connections]:
    """Return the connections with the weights of ``weight:NAME`` arrays; InputError NC202/NC203/NC207 if they do not match. Synapses of
    rewired projections lie where the file's ``pre:NAME`` and ``post:NAME`` say (errors: ``moved_synapses``)."""
    found = dict(connections)
    rewired = {p.name for p in rewired_projections(network)}
    for key, values in weights.items():
        kind, _, name = key.partition(":")
        if kind != "weight":
            continue
        if name not in found:
            raise InputError.of(
                "NC207", f"holds weights of '{name}', a projection the network does not have", file=file, help=did_you_mean(name, found)
            )
        expected = found[name].weight.shape
        if values.shape != expected:
            raise InputError.of("NC202", f"'{key}' has shape {values.shape}, the projection has {expected[0]} synapses", file=file)
        if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values.astype(np.float64)).all():
            raise InputError.of("NC203", f"'{key}' holds values that are not finite numbers", file=file)
        if name in rewired:
            found[name] = moved_synapses(network, name, found[name], weights, file=file)
        for end in ("pre", "post"):
            given = weights.get(f"{end}:{name}")
            if given is not None and not np.array_equal(given, getattr(found[name], end)):
                raise InputError.of(
                    "NC202",
                    f"'{end}:{name}' differs from the network's synapses: the weights belong to another network or seed",
                    file=file,
                    help="use the description and the seed that the weights were trained with",
                )
        found[name] = replace(found[name], weight=values.astype(np.float64))
    return found


def load_connections(network: Network, weights: Path | None = None, *, shards: Shards = IN_TURN) -> dict[str, Connections]:
    """Realise all projections; with a weights file (``weight:NAME`` arrays) its weights replace the described ones."""
    connections = realise_all(network, shards=shards)
    if weights is None:
        return connections
    arrays = load_npz(weights)
    if not any(key.startswith("weight:") for key in arrays):
        raise InputError.of("NC107", "has no array 'weight:PROJECTION'", file=str(weights), help="use the weights.npz of a training run")
    return replace_weights(network, connections, arrays, file=str(weights))


def load_kappas(network: Network, weights: Path | None) -> dict[str, FloatArray]:
    """Return what a weights file holds of the kappas that a network learns (``kappa:NAME`` arrays), by projection; others are left out."""
    learnt = learns_kappa(network)
    if weights is None or not learnt:
        return {}
    found: dict[str, FloatArray] = {}
    for key, values in load_npz(weights).items():
        kind, _, name = key.partition(":")
        if kind == "kappa" and name in learnt:
            if not np.issubdtype(values.dtype, np.number):
                raise InputError.of("NC203", f"'{key}' holds values that are not numbers", file=str(weights))
            found[name] = values.astype(np.float64)
    return found


def compile_network(
    network: Network,
    options: CompileOptions,
    *,
    connections: Mapping[str, Connections] | None = None,
    progress: Progress | None = None,
    shards: Shards = IN_TURN,
) -> Compiled:
    """Run all stages.

    Parameters
    ----------
    connections
        Realised synapses, for example with trained weights; None: as described.
    progress
        Called with the name of each stage as it begins.
    shards
        Runs the independent pieces of realising, lowering and emitting; the result does not depend on it.

    Raises
    ------
    InputError, UnsupportedError, DoesNotFitError, MismatchError
        Among them NC230: the compiler itself needs more memory than there is.
    """
    say = progress or (lambda _stage: None)
    target = find_target(options.target)
    machine = _machine(target, options)
    trained = connections is not None
    require_memory(
        network,
        network.synaptic_projections,
        beside=target.bytes_per_synapse - BYTES_PER_SYNAPSE,
        doing=f"compiling for {target.name}",
        realised=trained,
    )
    if connections is None:
        say("realise")
        connections = realise_all(network, shards=shards)
    build_options = BuildOptions(allow_approximation=options.allow_approximation, extra=options.extra, shards=shards)
    say("lower")
    lowered = target.lower(network, connections, machine, build_options)
    mapping: CoreMapping | None = None
    problem = lowered.problem
    if problem is not None and machine is not None:
        rates = None if options.rates is None else recorded_rates(network, options.rates)
        say("map")
        problem = with_hints(problem, network, machine, rates)
        how = MapOptions(seed=network.seed, partition=options.partition, routes=options.routes, effort=options.effort)
        try:
            mapping = map_network(problem, machine, how, progress=progress)
        except ShortfallError as error:
            say("look for what would fit")

            def lower_again(synapses: Mapping[str, Connections], other: Machine) -> MappingProblem | None:
                found = target.lower(network, synapses, other, build_options).problem
                return None if found is None else with_hints(found, network, other, rates)

            attempt = Attempt(
                network=network,
                connections=connections,
                trained=trained,
                machine=machine,
                overrides=options.overrides,
                problem=problem,
                lower=lower_again,
                options=how,
            )
            raise advised(error, attempt) from None
    say("emit")
    artifacts = target.emit(lowered, mapping, build_options)
    for path in artifacts:
        if not path.startswith("program/") or ".." in Path(path).parts:
            raise ValueError(f"target '{target.name}' emitted '{path}', which lies outside program/")
    return Compiled(
        network=network,
        connections=connections,
        target=target,
        machine=machine,
        lowered=lowered,
        problem=problem,
        mapping=mapping,
        artifacts=artifacts,
        trained=trained,
    )


def _machine(target: Target, options: CompileOptions) -> Machine | None:
    if target.default_machine is None:
        if options.machine is not None:
            raise InputError.of("NC302", f"target '{target.name}' has no machine files", help="leave out --machine")
        return None
    machine = load_machine(options.machine or target.default_machine, overrides=options.overrides)
    if machine.family not in target.machine_families:
        raise InputError.of(
            "NC302",
            f"machine '{machine.name}' is of the family '{machine.family}', target '{target.name}' builds for "
            f"{', '.join(target.machine_families)}",
            help="neurocompile targets lists the machines of every target",
        )
    return machine
