"""Lowering: description -> :class:`Loihi2Network`, with every rounding and every deviation in the summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from neurocompile.backends.base import Approximation, BuildOptions, accept, refuse_engine_only
from neurocompile.backends.loihi2 import learning as eprop
from neurocompile.backends.loihi2.arithmetic import (
    ALIGN_SHIFT,
    DELAY_MAX_STEPS,
    WEIGHT_EXPONENT_MAX,
    WEIGHT_FULL,
    QuantisedWeights,
    exact_format,
    narrowest_sign_mode,
    quantise_weights,
)
from neurocompile.backends.loihi2.lowered import Loihi2Network, LoweredProjection
from neurocompile.backends.loihi2.neurons import Findings, Load, lower_population, rounding
from neurocompile.backends.loihi2.options import Options, read_options
from neurocompile.backends.loihi2.pairing import Paired, Smaller, fit_pairs, lower_pairs
from neurocompile.backends.loihi2.plan import Choice, Plan
from neurocompile.backends.loihi2.problem import make_problem, synapse_memory
from neurocompile.backends.loihi2.repeats import UInt8Array, number_repeats
from neurocompile.backends.loihi2.stdp import COARSEST, sign_mode_of, unit_of
from neurocompile.backends.loihi2.tune import tune
from neurocompile.ir import RSTDP, STDP, EProp, Network, Projection
from neurocompile.ir.errors import Diagnostic, UnsupportedError
from neurocompile.ir.learning import LearningRule
from neurocompile.ir.realise import Connections, Weights
from neurocompile.ir.shards import Shards, pieces_of
from neurocompile.machine import Machine


def lower_network(
    network: Network, connections: Mapping[str, Connections], machine: Machine | None, options: BuildOptions
) -> Loihi2Network:
    """Express a network in Loihi 2's terms.

    Raises
    ------
    UnsupportedError
        NC344: only the engine learns by it; NC310 .. NC312 for what cannot be expressed, NC313 .. NC319 for approximations that are not
        accepted, all in one.
    """
    refuse_engine_only(network, "loihi2")
    wanted = read_options(options.extra)
    found = Findings()
    approximations: list[Approximation] = []
    projections = list(network.synaptic_projections)
    rules = _rules(network, projections, found)
    for projection in projections:
        _check_delay(projection, connections[projection.name], found)
    by_eprop = {name: rule for name, rule in rules.items() if isinstance(rule, EProp)}
    by_pairs = {name: rule for name, rule in rules.items() if isinstance(rule, STDP)}
    sending = {p.post for p in projections if isinstance(rules.get(p.name), EProp | RSTDP)}
    loads = {p.name: _load(network, p.name, connections, rules, wanted.weight_room) for p in network.populations}
    populations = [lower_population(p, loads[p.name], network.dt, plastic=p.name in sending, found=found) for p in network.populations]
    lowered = {p.name: p for p in populations}
    formats = {
        p.name: _format(
            p,
            connections[p.name],
            lowered[p.post].scale,
            network.population(p.post).resolution,
            rules.get(p.name),
            wanted,
            approximations,
            found,
        )
        for p in projections
    }
    synapses = _lower_synapses(connections, formats, options.shards)
    weights = {name: of.quantised for name, of in synapses.items()}
    found.notes += [f"projection '{name}': {q.clipped} weights clipped to 8 bits" for name, q in weights.items() if q.clipped]

    paired = lower_pairs(network, by_pairs, lowered, weights, wanted, approximations, found)

    def pair_anew(smaller: Smaller) -> Paired | None:
        if wanted.trace_step * smaller[0] > COARSEST:
            return None
        more: list[Approximation] = []
        found_anew = lower_pairs(network, by_pairs, lowered, weights, wanted, more, Findings(), smaller=smaller)
        return found_anew if {a.code for a in more} <= {a.code for a in approximations} else None

    def plan(choices: Mapping[str, Choice]) -> Plan:
        own = Findings(notes=list(found.notes), errors=list(found.errors))
        made = Plan(network, connections, by_eprop, paired.lowered, weights, wanted, choices, list(approximations), own)
        if by_eprop and not found.errors:
            made.learn()
        return made

    def express(choices: Mapping[str, Choice]) -> Loihi2Network:
        return _express(network, connections, synapses, plan(choices), paired)

    first = plan({})
    if first.found.errors:
        refused: list[Diagnostic] = list(first.found.errors)
        if not options.allow_approximation:
            try:
                accept(first.approximations, options)
            except UnsupportedError as error:
                refused.extend(error.diagnostics)
        raise UnsupportedError(refused)
    accept(first.approximations, options)
    made = _express(network, connections, synapses, first, paired)
    if by_eprop and options.learning:
        made = tune(made, express, network, wanted)
    if by_pairs and options.learning:
        made = fit_pairs(made, by_pairs, pair_anew, wanted.tune_steps)
    if machine is None:
        return made
    memory = {p.name: synapse_memory(p, network, machine) for p in made.projections}
    return replace(made, problem=make_problem(network, made.projections, machine), summary={**made.summary, "memory": memory})


def _express(
    network: Network, connections: Mapping[str, Connections], synapses: Mapping[str, _Synapses], plan: Plan, paired: Paired
) -> Loihi2Network:
    """Return a planned network, without a mapping problem."""
    numbers = {p.name: index for index, p in enumerate(network.populations)}
    rules = plan.rules_out | paired.rules_out
    in_each_step = [name for name, rule in rules.items() if any("u0" in (rule[f"{target}_fixed"] or "") for target in ("dw", "dd", "dt"))]
    summary = {
        "arithmetic": "Lava fixed_pt: 24-bit state, 12-bit decays, 17-bit thresholds, 8-bit weights",
        "populations": {p.name: rounding(p, plan.lowered[p.name], network.dt) for p in network.populations if p.model.receives},
        "projections": {p.name: synapses[p.name].errors | {"plastic": p.learning is not None} for p in network.synaptic_projections},
        "learning": plan.summary | paired.summary,
        "notes": list(plan.found.notes),
    }
    return Loihi2Network(
        network=network,
        connections=connections,
        problem=None,
        approximations=tuple(plan.approximations),
        summary=summary,
        changes_per_step=dict.fromkeys(in_each_step, 1.0),
        populations=tuple(plan.lowered[p.name] for p in network.populations),
        projections=tuple(
            LoweredProjection(
                name=p.name,
                pre=numbers[p.pre],
                post=numbers[p.post],
                pre_ids=connections[p.name].pre,
                post_ids=connections[p.name].post,
                delay=connections[p.name].delay,
                weight=np.asarray(connections[p.name].weight, np.float64),
                quantised=synapses[p.name].quantised,
                part=synapses[p.name].part,
                rule=rules.get(p.name),
            )
            for p in network.synaptic_projections
        ),
        feedback=tuple(plan.feedback),
        rewards=tuple(paired.rewards),
    )


def _rules(network: Network, projections: list[Projection], found: Findings) -> dict[str, LearningRule]:
    rules: dict[str, LearningRule] = {}
    per_post: dict[str, str] = {}
    for projection in projections:
        if projection.learning is None:
            continue
        rule = network.rule(projection.learning)
        if per_post.setdefault(projection.post, rule.name) != rule.name:
            found.error(
                "NC312",
                f"population '{projection.post}' learns by two rules, '{per_post[projection.post]}' and '{rule.name}', but a neuron "
                "sends one learning signal and its weights have one scale",
                "use one rule for all plastic projections into a population",
            )
        rules[projection.name] = rule
    return rules


def _check_delay(projection: Projection, connections: Connections, found: Findings) -> None:
    if projection.learning is not None and connections.delay.size and int(connections.delay.max()) > 1:
        bad = int(np.argmax(connections.delay))
        found.error(
            "NC311",
            f"projection '{projection.name}' learns and its synapse {bad} has a delay of {int(connections.delay[bad])} steps; a learning "
            "connection of Lava delivers in the next step (lava issue 752)",
            "use a delay of one step, or leave out 'learning'",
        )
    if connections.delay.size and int(connections.delay.max()) > DELAY_MAX_STEPS:
        bad = int(np.argmax(connections.delay))
        found.error(
            "NC311",
            f"projection '{projection.name}': synapse {bad} has a delay of {int(connections.delay[bad])} steps, the target ends at "
            f"{DELAY_MAX_STEPS}",
            "split the path with a relay population, or choose a larger dt",
        )


def _load(network: Network, name: str, connections: Mapping[str, Connections], rules: Mapping[str, LearningRule], room: float) -> Load:
    total = np.zeros(network.population(name).size)
    largest, unit = 0.0, None
    for projection in network.synaptic_projections:
        if projection.post == name and len(connections[projection.name].pre):
            synapses, rule = connections[projection.name], rules.get(projection.name)
            growth = room if isinstance(rule, EProp) else 1.0
            bound = max(-rule.weight_bounds[0], rule.weight_bounds[1]) if isinstance(rule, STDP) else 0.0
            if isinstance(rule, STDP) and bound > 0:
                unit = unit_of(rule, sign_mode_of(rule))
            for some in pieces_of(len(synapses)):
                grown = np.maximum(np.abs(synapses.weight[some].astype(np.float64)) * growth, bound)
                total += np.bincount(synapses.post[some], grown, total.size)
                largest = max(largest, float(grown.max()))
    return Load(largest=largest, per_neuron=total, unit=unit)


@dataclass(frozen=True, slots=True)
class _Format:
    """How the weights of a projection are stored: arguments of :func:`quantise_weights`."""

    scale: float
    exponent: int
    sign_mode: str
    bits: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Synapses:
    """Synapses of a projection in the target's terms: weights, number within their pair of neurons, and what rounding cost."""

    quantised: QuantisedWeights
    part: UInt8Array
    errors: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """The weights of some of them; sums of squares of the weights and of their errors."""

    quantised: QuantisedWeights
    max_error: float
    error_squares: float
    weight_squares: float
    rounded_to_zero: int


def _format(
    projection: Projection,
    connections: Connections,
    scale: float,
    resolution: float | None,
    rule: LearningRule | None,
    wanted: Options,
    approximations: list[Approximation],
    found: Findings,
) -> _Format:
    weight = np.asarray(connections.weight, np.float64)
    if isinstance(rule, STDP):
        mode = sign_mode_of(rule)
        steps = unit_of(rule, mode) * scale / 2.0**ALIGN_SHIFT  # 2^exponent, where the scale is made for the bounds
        return _Format(scale, int(np.clip(np.ceil(np.log2(max(steps, 1e-9)) - 1e-9), 0, WEIGHT_EXPONENT_MAX)), mode, wanted.weight_bits)
    largest = max(float(weight.max(initial=0.0)), -float(weight.min(initial=0.0))) * (wanted.weight_room if rule is not None else 1.0)
    exponent = 0
    bits = wanted.weight_bits
    if rule is None and resolution is not None and bits in {None, 8}:
        exact = exact_format(weight / (resolution * 2.0**ALIGN_SHIFT))
        if exact is not None:
            return _Format(scale, *exact)
        found.notes.append(
            f"projection '{projection.name}': 8 bits do not hold its weights exactly (with both signs they are even); they are rounded"
        )
    if largest > 0.0:
        needed = np.log2(largest * scale / (WEIGHT_FULL * 2.0**ALIGN_SHIFT))
        exponent = int(np.clip(np.ceil(needed - 1e-9), 0, WEIGHT_EXPONENT_MAX))
    sign = None
    if rule is not None:
        top = WEIGHT_FULL * 2.0 ** (ALIGN_SHIFT + exponent) / scale
        sign = eprop.check_bounds(projection.name, rule, weight, -top, top, approximations, found)
    return _Format(scale, exponent, narrowest_sign_mode(weight) if sign is None else sign, bits)


def _lower_synapses(connections: Mapping[str, Connections], formats: Mapping[str, _Format], shards: Shards) -> dict[str, _Synapses]:
    """Round weights, a piece at a time, and number repeated synapses."""
    cut = {name: pieces_of(len(connections[name])) for name in formats}
    pieces = shards.map(_lower_piece, ((connections[name].weight[part], formats[name]) for name, parts in cut.items() for part in parts))
    return {name: _joined(connections[name], list(islice(pieces, len(parts)))) for name, parts in cut.items()}


def _lower_piece(weight: Weights, how: _Format) -> _Piece:
    exact = np.asarray(weight, np.float64)
    quantised = quantise_weights(exact, how.scale, how.exponent, sign_mode=how.sign_mode, bits=how.bits)
    error = quantised.values * quantised.unit - exact
    return _Piece(
        quantised=quantised,
        max_error=float(np.abs(error).max(initial=0.0)),
        error_squares=float((error**2).sum()),
        weight_squares=float((exact**2).sum()),
        rounded_to_zero=int(((quantised.values == 0) & (exact != 0)).sum()),
    )


def _joined(synapses: Connections, pieces: list[_Piece]) -> _Synapses:
    first, n = pieces[0].quantised, len(synapses)
    clipped = sum(p.quantised.clipped for p in pieces)
    size = float(np.sqrt(sum(p.weight_squares for p in pieces) / n)) if n else 0.0
    rms = float(np.sqrt(sum(p.error_squares for p in pieces) / n)) if n else 0.0
    return _Synapses(
        quantised=replace(first, values=np.concatenate([p.quantised.values for p in pieces]), clipped=clipped),
        part=number_repeats(synapses.pre, synapses.post),
        errors={
            "weight_exponent": first.exponent,
            "sign_mode": first.sign_mode,
            "membrane_units_per_weight_unit": first.unit,
            "max_abs_error": max(p.max_error for p in pieces),
            "rms_relative_error": rms / size if size > 0 else 0.0,
            "rounded_to_zero": sum(p.rounded_to_zero for p in pieces),
            "clipped": clipped,
        },
    )
