"""A network as a user means it: populations, projections, learning rules and a task; floats, SI units, no hardware."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from neurocompile.ir._types import FloatArray, frozen_array
from neurocompile.ir.connectivity import (
    MAX_DELAY_STEPS,
    Connect,
    DistanceDependent,
    Explicit,
    FixedInDegree,
    FixedOutDegree,
    OneToOne,
)
from neurocompile.ir.errors import Diagnostic, InputError, did_you_mean
from neurocompile.ir.feedback import ExplicitFeedback, ProjectionFeedback
from neurocompile.ir.hints import MappingHints, verify_hints
from neurocompile.ir.learning import RSTDP, EProp, Interval2020, LearningRule
from neurocompile.ir.neurons import ALIF, LIF, CubaLIF, LeakyReadout, NeuronModel, SpikeSource
from neurocompile.ir.task import ActorCritic, Task
from neurocompile.ir.values import Constant, Uniform, Values, ValueSpec
from neurocompile.ir.verify_intervals import verify_intervals
from neurocompile.ir.verify_learning import verify_learning

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_. ]{0,99}")
_POPULATION_NAME = re.compile(rf"{_NAME.pattern}|[0-9]{{1,9}}")
_PROJECTION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. >-]{0,219}")
_NETWORK_NAME = re.compile(r"\w[\w. -]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Population:
    """A group of neurons of one model.

    Attributes
    ----------
    name : str
        Letters, digits, ``_``, ``.`` and spaces; starts with a letter or ``_``, or is a number (layers of other formats).
    size : int
        Number of neurons n, >= 1.
    model : NeuronModel
        Per-neuron parameters have shape (n,).
    positions : float64 array, shape (n, 1 | 2 | 3), optional
        For ``distance_dependent`` connectivity.
    resolution : float, optional
        Of a population that is given in integers of fixed point: membrane units of one step of its state, > 0. Targets that compute
        in such integers take exactly these; all others compute with the numbers as they are.
    """

    name: str
    size: int
    model: NeuronModel
    positions: FloatArray | None = None
    resolution: float | None = None

    def __post_init__(self) -> None:
        found: list[Diagnostic] = []
        if not _POPULATION_NAME.fullmatch(self.name):
            found.append(
                Diagnostic(
                    code="NC208",
                    message=f"population name {self.name!r} is not allowed",
                    help="use letters, digits, '_', '.' and spaces, starting with a letter or '_', or a number",
                    field=("name",),
                )
            )
        if self.resolution is not None and not (np.isfinite(self.resolution) and self.resolution > 0.0):
            message = f"population '{self.name}': resolution is {self.resolution:g}, must be > 0"
            found.append(Diagnostic(code="NC201", message=message, field=("resolution",)))
        if self.size < 1:
            found.append(
                Diagnostic(code="NC205", message=f"population '{self.name}' has size {self.size}, needs at least 1", field=("size",))
            )
        else:
            for parameter, length in self.model.array_lengths().items():
                if length != self.size:
                    found.append(
                        Diagnostic(
                            code="NC202",
                            message=f"population '{self.name}' has {self.size} neurons, but {parameter} has {length} values",
                            field=("params", parameter),
                        )
                    )
            if self.positions is not None:
                positions = frozen_array(self.positions, np.float64)
                if positions.ndim != 2 or positions.shape[0] != self.size or not 1 <= positions.shape[1] <= 3:
                    found.append(
                        Diagnostic(
                            code="NC202",
                            message=f"population '{self.name}': positions have shape {positions.shape}, expected ({self.size}, 1..3)",
                            field=("positions",),
                        )
                    )
                elif not np.isfinite(positions).all():
                    found.append(
                        Diagnostic(code="NC203", message=f"population '{self.name}': positions are not finite", field=("positions",))
                    )
                object.__setattr__(self, "positions", positions)
        if found:
            raise InputError(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projection:
    """Synapses from one population to another.

    Attributes
    ----------
    pre, post : str
        Names of populations.
    connect : Connect
    weight : ValueSpec
        Membrane units; unused where ``connect`` brings its own weights.
    delay : ValueSpec
        Steps, 1 .. 255; unused where ``connect`` brings its own delays.
    learning : str, optional
        Name of a learning rule; None: static.
    name : str
        ``pre->post`` unless given; names are unique.
    """

    pre: str
    post: str
    connect: Connect
    weight: ValueSpec = Constant(value=1.0)
    delay: ValueSpec = Constant(value=1.0)
    learning: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"{self.pre}->{self.post}")
        if not _PROJECTION_NAME.fullmatch(self.name):
            raise InputError.of(
                "NC208",
                f"projection name {self.name!r} is not allowed",
                help="use letters, digits, '_', '.', '->' and spaces, starting with a letter, a digit or '_'",
                field=("name",),
            )
        low, high = _delay_range(self.delay)
        if low < 1 or high > MAX_DELAY_STEPS or low != int(low) or high != int(high):
            raise InputError.of(
                "NC209",
                f"projection '{self.name}': delay of {low:g} to {high:g} steps, must be whole steps in 1 .. {MAX_DELAY_STEPS}",
                help="split a longer path with a relay population, or choose a larger dt",
                field=("delay",),
            )


def _delay_range(delay: ValueSpec) -> tuple[float, float]:
    if isinstance(delay, Constant):
        return delay.value, delay.value
    if isinstance(delay, Uniform):
        return delay.low, delay.high
    if isinstance(delay, Values):
        return (float(delay.values.min()), float(delay.values.max())) if delay.values.size else (1.0, 1.0)
    return 1.0, 1.0  # normal and lognormal delays are rounded and clipped to 1 .. 255 when realised


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """A whole network, verified on construction (all findings in one :class:`InputError`).

    Attributes
    ----------
    name : str
        Letters (of any alphabet), digits, ``_``, ``.``, ``-`` and spaces, starting with a letter, digit or ``_``: folders are named
        after it.
    dt : float
        Step, s, > 0.
    seed : int
        Of everything random that the description leaves open, 0 .. 2^63-1.
    populations, projections, rules : tuples
        In the order of the description; populations' neurons are numbered through in this order (``offsets``).
    task : Task, optional
    mapping : MappingHints, optional
        What the user tells the mapper.
    source : str
        File it came from, for messages.
    notes : tuple of str
        What the reader decided for the user and says (for example "undelayed NIR edges became delay 1").
    files : tuple of str
        Paths of the other files that the description names (for the digests of a build).
    """

    name: str
    dt: float
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...] = ()
    rules: tuple[LearningRule, ...] = ()
    task: Task | None = None
    mapping: MappingHints | None = None
    seed: int = 1
    source: str = "python"
    notes: tuple[str, ...] = field(default=())
    files: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        found = list(_verify(self))
        if found:
            raise InputError(found)

    def population(self, name: str) -> Population:
        """Return the population of that name (KeyError if there is none)."""
        return {p.name: p for p in self.populations}[name]

    def projection(self, name: str) -> Projection:
        """Return the projection of that name (KeyError if there is none)."""
        return {p.name: p for p in self.projections}[name]

    def rule(self, name: str) -> LearningRule:
        """Return the learning rule of that name (KeyError if there is none)."""
        return {r.name: r for r in self.rules}[name]

    @property
    def offsets(self) -> dict[str, int]:
        """Number of the first neuron of each population when all neurons are numbered through."""
        starts = np.cumsum([0] + [p.size for p in self.populations])
        return {p.name: int(start) for p, start in zip(self.populations, starts, strict=False)}

    @property
    def n_neurons(self) -> int:
        """Number of neurons, spike sources and readouts included."""
        return sum(p.size for p in self.populations)

    @property
    def spike_sources(self) -> tuple[Population, ...]:
        return tuple(p for p in self.populations if isinstance(p.model, SpikeSource))

    @property
    def readouts(self) -> tuple[Population, ...]:
        return tuple(p for p in self.populations if isinstance(p.model, LeakyReadout))

    @property
    def actor_critic(self) -> ActorCritic | None:
        """The task's loss, if the network learns from reward."""
        loss = None if self.task is None else self.task.loss
        return loss if isinstance(loss, ActorCritic) else None

    @property
    def feedback_readouts(self) -> tuple[Population, ...]:
        """Readouts whose errors reach hidden neurons, in the order of the rows of B: the task's, then the critic."""
        if self.task is None:
            return ()
        critic = () if self.actor_critic is None else (self.population(self.actor_critic.critic),)
        return (self.population(self.task.readout), *critic)

    @property
    def interval_2020(self) -> Interval2020 | None:
        """The update intervals that the network runs in if it learns by the original formulation of e-prop."""
        used = {p.learning for p in self.projections}  # the verifier asks while some may be no rule's name
        rules = (r for r in self.rules if r.name in used and isinstance(r, EProp))
        return next((r.update for r in rules if isinstance(r.update, Interval2020)), None)

    @property
    def feedback_projections(self) -> frozenset[str]:
        """Names of the projections that only serve as feedback weights of a rule and carry no spikes."""
        rules = (r.feedback for r in self.rules if isinstance(r, EProp))
        return frozenset(f.projection for f in rules if isinstance(f, ProjectionFeedback))

    @property
    def synaptic_projections(self) -> tuple[Projection, ...]:
        """Projections that carry spikes, in order."""
        return tuple(p for p in self.projections if p.name not in self.feedback_projections)

    def with_seed(self, seed: int) -> Network:
        """Return the same network with another seed."""
        return replace(self, seed=seed)


def safe_network_name(text: str) -> str:
    """Return a name that :class:`Network` allows, made from any text (a file's stem): what may not stand becomes ``_``."""
    name = re.sub(r"[^\w. -]", "_", text)[:99]
    return name if _NETWORK_NAME.fullmatch(name) else f"_{name}"


def _duplicates(kind: str, names: list[str]) -> Iterator[Diagnostic]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Diagnostic(
                code="NC206",
                message=f"{kind} name '{name}' is used twice",
                help="give one of them another 'name'",
                field=(kind + "s", index),
            )
        seen.add(name)


def _verify(network: Network) -> Iterator[Diagnostic]:
    if not (np.isfinite(network.dt) and network.dt > 0):
        yield Diagnostic(code="NC201", message=f"dt is {network.dt:g} s, must be > 0", field=("dt",))
        return
    if not _NETWORK_NAME.fullmatch(network.name):
        yield Diagnostic(
            code="NC208",
            message=f"network name {network.name[:120]!r} is not allowed",
            help="use letters, digits, '_', '.', '-' and spaces, starting with a letter, a digit or '_'; at most 100 characters",
            field=("name",),
        )
    if not 0 <= network.seed < 2**63:
        yield Diagnostic(code="NC201", message=f"seed is {network.seed}, must lie in 0 .. 2^63-1", field=("seed",))
    if not network.populations:
        yield Diagnostic(code="NC205", message="the network has no population", field=("populations",))
    populations = {p.name: p for p in network.populations}
    rules = {r.name: r for r in network.rules}
    yield from _duplicates("population", [p.name for p in network.populations])
    yield from _duplicates("projection", [p.name for p in network.projections])
    yield from _duplicates("rule", [r.name for r in network.rules])
    feedback = network.feedback_projections
    for index, projection in enumerate(network.projections):
        known = True
        for end in ("pre", "post"):
            name = getattr(projection, end)
            if name not in populations:
                known = False
                yield Diagnostic(
                    code="NC207",
                    message=f"projection '{projection.name}': population '{name}' does not exist",
                    help=did_you_mean(name, populations),
                    field=("projections", index, end),
                )
        if projection.learning is not None and projection.learning not in rules:
            known = False
            yield Diagnostic(
                code="NC207",
                message=f"projection '{projection.name}': learning rule '{projection.learning}' does not exist",
                help=did_you_mean(projection.learning, rules),
                field=("projections", index, "learning"),
            )
        if known:
            rule = rules[projection.learning] if projection.learning is not None else None
            yield from _verify_projection(
                network, index, projection, populations[projection.pre], populations[projection.post], rule, projection.name in feedback
            )
    yield from _verify_rules(network, populations)
    yield from _verify_task(network, populations)
    yield from verify_hints(network, populations)
    yield from verify_intervals(network)
    if all(p.pre in populations and p.post in populations for p in network.projections):
        yield from verify_learning(network, populations)


def _verify_projection(
    network: Network, index: int, projection: Projection, pre: Population, post: Population, rule: LearningRule | None, is_feedback: bool
) -> Iterator[Diagnostic]:
    place = ("projections", index)
    name, connect = projection.name, projection.connect
    if not is_feedback:
        if not pre.model.spikes:
            yield Diagnostic(
                code="NC211", message=f"projection '{name}': '{pre.name}' is a {pre.model.kind} and sends no spikes", field=(*place, "pre")
            )
        if not post.model.receives:
            yield Diagnostic(
                code="NC211",
                message=f"projection '{name}': '{post.name}' is a {post.model.kind} and receives nothing",
                field=(*place, "post"),
            )
    if isinstance(connect, OneToOne) and pre.size != post.size:
        yield Diagnostic(
            code="NC202",
            message=f"projection '{name}': one_to_one needs equal sizes, '{pre.name}' has {pre.size}, '{post.name}' has {post.size}",
            field=(*place, "connect"),
        )
    itself = pre.name == post.name
    limits = {FixedInDegree: pre.size, FixedOutDegree: post.size}
    if isinstance(connect, FixedInDegree | FixedOutDegree):
        limit = limits[type(connect)] - (1 if itself and not connect.allow_autapses else 0)
        if connect.degree > limit:
            yield Diagnostic(
                code="NC201",
                message=f"projection '{name}': degree {connect.degree} exceeds the {limit} different partners there are",
                field=(*place, "connect"),
            )
    if isinstance(connect, DistanceDependent):
        dimensions = {None if p.positions is None else p.positions.shape[1] for p in (pre, post)}
        if None in dimensions:
            yield Diagnostic(
                code="NC202",
                message=f"projection '{name}': distance_dependent needs positions in '{pre.name}' and '{post.name}'",
                help="add `positions: {grid: [rows, columns]}` or `positions: {file: ...}` to the population",
                field=(*place, "connect"),
            )
        elif len(dimensions) > 1 or (connect.periodic is not None and len(connect.periodic) not in dimensions):
            yield Diagnostic(
                code="NC202",
                message=f"projection '{name}': positions (and 'periodic') differ in their dimensions",
                field=(*place, "connect"),
            )
    if isinstance(connect, Explicit):
        for end, population in (("pre", pre), ("post", post)):
            ids = getattr(connect, end)
            if ids.size and ids.max() >= population.size:
                bad = int(np.argmax(ids >= population.size))
                yield Diagnostic(
                    code="NC204",
                    message=f"projection '{name}': {connect.source}: {end}[{bad}] is {ids[bad]}, "
                    f"but '{population.name}' has {population.size} neurons",
                    help=f"indices count from 0 to {population.size - 1}",
                    field=(*place, "connect"),
                )
    if rule is not None and not is_feedback:
        yield from _verify_plastic(network, place, projection, post, rule)


def _verify_plastic(
    network: Network, place: tuple[str | int, ...], projection: Projection, post: Population, rule: LearningRule
) -> Iterator[Diagnostic]:
    name = projection.name
    if isinstance(rule, EProp):
        if (
            not isinstance(post.model, LIF | ALIF | LeakyReadout)
            or isinstance(post.model, CubaLIF)
            or getattr(post.model, "tau_syn", 0.0) != 0.0
        ):
            yield Diagnostic(
                code="NC210",
                message=f"projection '{name}': e-prop has no eligibility trace for a {post.model.kind} target with a synaptic current"
                if isinstance(post.model, CubaLIF | LeakyReadout)
                else f"projection '{name}': e-prop does not apply to a {post.model.kind} target",
                help="use lif, alif, or a leaky_readout without tau_syn",
                field=(*place, "learning"),
            )
        if network.task is None:
            yield Diagnostic(
                code="NC210",
                message=f"projection '{name}': e-prop needs a task that names the readout",
                help="add `task: {readout: NAME, loss: mean_squared_error}`",
                field=(*place, "learning"),
            )
    elif not isinstance(post.model, LIF):
        yield Diagnostic(
            code="NC210",
            message=f"projection '{name}': STDP needs a target that spikes, not a {post.model.kind}",
            field=(*place, "learning"),
        )


def _verify_rules(network: Network, populations: dict[str, Population]) -> Iterator[Diagnostic]:
    for rule in network.rules:
        place = ("rules", rule.name)
        if not _NAME.fullmatch(rule.name):
            yield Diagnostic(
                code="NC208",
                message=f"rule name {rule.name[:120]!r} is not allowed",
                help="use letters, digits, '_', '.' and spaces, starting with a letter or '_'",
                field=place,
            )
        if isinstance(rule, RSTDP) and rule.reward in populations and not populations[rule.reward].model.spikes:
            yield Diagnostic(
                code="NC210",
                message=f"rule '{rule.name}': reward population '{rule.reward}' is a {populations[rule.reward].model.kind}, "
                "which sends no spikes",
                help="name a population that spikes: its spikes are the reward",
                field=(*place, "reward"),
            )
        if isinstance(rule, RSTDP) and rule.reward not in populations:
            yield Diagnostic(
                code="NC207",
                message=f"rule '{rule.name}': reward population '{rule.reward}' does not exist",
                help=did_you_mean(rule.reward, populations),
                field=(*place, "reward"),
            )
        if not isinstance(rule, EProp) or network.task is None or network.task.readout not in populations:
            continue
        readout = populations[network.task.readout]
        learning = {p.post for p in network.projections if p.learning == rule.name and p.post in populations}
        hidden = {name for name in learning if not isinstance(populations[name].model, LeakyReadout)}
        if isinstance(rule.feedback, ProjectionFeedback):
            match = [p for p in network.projections if p.name == rule.feedback.projection]
            if not match:
                yield Diagnostic(
                    code="NC207",
                    message=f"rule '{rule.name}': feedback projection '{rule.feedback.projection}' does not exist",
                    help=did_you_mean(rule.feedback.projection, [p.name for p in network.projections]),
                    field=(*place, "feedback"),
                )
            elif match[0].pre != readout.name or match[0].post not in hidden:
                yield Diagnostic(
                    code="NC210",
                    message=f"rule '{rule.name}': feedback projection '{match[0].name}' must lead from the readout '{readout.name}' to a "
                    "population that learns by this rule",
                    field=(*place, "feedback"),
                )
        if isinstance(rule.feedback, ExplicitFeedback):
            if len(hidden) > 1:
                yield Diagnostic(
                    code="NC210",
                    message=f"rule '{rule.name}': a feedback file serves one population, but {len(hidden)} learn by this rule "
                    f"({', '.join(sorted(hidden))})",
                    help="define one rule per population",
                    field=(*place, "feedback"),
                )
            critic = network.actor_critic is not None
            rows = (readout.size + critic, f"'{readout.name}' has {readout.size} neurons" + " (then follows the critic)" * critic)
            ends = [("pre", *rows)]
            ends += [("post", populations[h].size, f"'{h}' has {populations[h].size} neurons") for h in sorted(hidden)[:1]]
            for end, size, what in ends:
                ids = getattr(rule.feedback.connections, end)
                if ids.size and ids.max() >= size:
                    bad = int(np.argmax(ids >= size))
                    yield Diagnostic(
                        code="NC204",
                        message=f"rule '{rule.name}': {rule.feedback.connections.source}: {end}[{bad}] is {ids[bad]}, but {what}",
                        field=(*place, "feedback"),
                    )


def _verify_task(network: Network, populations: dict[str, Population]) -> Iterator[Diagnostic]:
    task = network.task
    if task is None:
        return
    if task.readout not in populations:
        yield Diagnostic(
            code="NC207",
            message=f"task: readout '{task.readout}' does not exist",
            help=did_you_mean(task.readout, populations),
            field=("task", "readout"),
        )
    elif not isinstance(populations[task.readout].model, LeakyReadout):
        yield Diagnostic(
            code="NC210",
            message=f"task: readout '{task.readout}' is a {populations[task.readout].model.kind}, must be a leaky_readout",
            field=("task", "readout"),
        )
    if task.input is not None:
        if task.input not in populations:
            yield Diagnostic(
                code="NC207",
                message=f"task: input '{task.input}' does not exist",
                help=did_you_mean(task.input, populations),
                field=("task", "input"),
            )
        elif not isinstance(populations[task.input].model, SpikeSource):
            yield Diagnostic(code="NC210", message=f"task: input '{task.input}' must be a spike_source", field=("task", "input"))


__all__ = ["Network", "Population", "Projection", "safe_network_name"]
