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
from neurocompile.backends.loihi2.lowered import Loihi2Network, LoweredFeedback, LoweredPopulation, LoweredProjection
from neurocompile.backends.loihi2.neurons import Findings, Load, lower_population, rounding
from neurocompile.backends.loihi2.options import Options, read_options
from neurocompile.backends.loihi2.problem import make_problem, synapse_memory
from neurocompile.backends.loihi2.repeats import UInt8Array, number_repeats
from neurocompile.ir import EProp, LeakyReadout, Network, Projection, SpikeSource, SymmetricFeedback
from neurocompile.ir.errors import Diagnostic, InputError, UnsupportedError
from neurocompile.ir.realise import Connections, Weights, realise_feedback
from neurocompile.ir.shards import Shards, pieces_of
from neurocompile.machine import Machine

_SMALLEST_SIGNAL = 0.02
"""Learning signal (7-bit units) below which even carried remainders make one step of 32 in more than 1,600 steps."""


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
    numbers = {p.name: index for index, p in enumerate(network.populations)}
    projections = list(network.synaptic_projections)
    rules = _rules(network, projections, found)
    for projection in projections:
        _check_delay(projection, connections[projection.name], found)
    plastic = {p.post for p in projections if p.name in rules}
    loads = {p.name: _load(network, p.name, connections, rules, wanted.weight_room) for p in network.populations}
    populations = [lower_population(p, loads[p.name], network.dt, plastic=p.name in plastic, found=found) for p in network.populations]
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
    plan = _Plan(network, connections, rules, lowered, weights, _error_scale(options), _low_bits(options), approximations, found)
    if rules and not found.errors:
        plan.learn()
    if found.errors:
        refused: list[Diagnostic] = list(found.errors)
        if not options.allow_approximation:
            try:
                accept(approximations, options)
            except UnsupportedError as error:
                refused.extend(error.diagnostics)
        raise UnsupportedError(refused)
    accepted = accept(approximations, options)
    final = tuple(plan.lowered[p.name] for p in network.populations)
    made = tuple(
        LoweredProjection(
            name=p.name,
            pre=numbers[p.pre],
            post=numbers[p.post],
            pre_ids=connections[p.name].pre,
            post_ids=connections[p.name].post,
            delay=connections[p.name].delay,
            weight=np.asarray(connections[p.name].weight, np.float64),
            quantised=weights[p.name],
            part=synapses[p.name].part,
            rule=plan.rules_out.get(p.name),
        )
        for p in projections
    )
    summary = {
        "arithmetic": "Lava fixed_pt: 24-bit state, 12-bit decays, 17-bit thresholds, 8-bit weights",
        "populations": {p.name: rounding(p, lowered[p.name], network.dt) for p in network.populations if p.model.receives},
        "projections": {p.name: synapses[p.name].errors | {"plastic": p.learning is not None} for p in projections},
        "learning": plan.summary,
        **({} if machine is None else {"memory": {p.name: synapse_memory(p, network, machine) for p in made}}),
        "notes": list(found.notes),
    }
    return Loihi2Network(
        network=network,
        connections=connections,
        problem=None if machine is None else make_problem(network, made, machine),
        approximations=accepted,
        summary=summary,
        changes_per_step=dict.fromkeys(rules, 1.0),  # the emitted rules run in every step
        populations=final,
        projections=made,
        feedback=tuple(plan.feedback),
    )


def _rules(network: Network, projections: list[Projection], found: Findings) -> dict[str, EProp]:
    rules: dict[str, EProp] = {}
    per_post: dict[str, str] = {}
    for projection in projections:
        if projection.learning is None:
            continue
        rule = network.rule(projection.learning)
        if not isinstance(rule, EProp):
            found.error(
                "NC312",
                f"projection '{projection.name}': this target has no {type(rule).__name__} rule",
                "use an eprop rule here, or the target 'spinnaker', which has STDP",
            )
            continue
        if per_post.setdefault(projection.post, rule.name) != rule.name:
            found.error(
                "NC312",
                f"population '{projection.post}' learns by two rules, '{per_post[projection.post]}' and '{rule.name}', but a neuron "
                "sends one learning signal",
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


def _load(network: Network, name: str, connections: Mapping[str, Connections], rules: Mapping[str, EProp], room: float) -> Load:
    total = np.zeros(network.population(name).size)
    largest = 0.0
    for projection in network.synaptic_projections:
        if projection.post == name and len(connections[projection.name].pre):
            synapses, growth = connections[projection.name], room if projection.name in rules else 1.0
            for some in pieces_of(len(synapses)):
                grown = np.abs(synapses.weight[some].astype(np.float64)) * growth
                total += np.bincount(synapses.post[some], grown, total.size)
                largest = max(largest, float(grown.max()))
    return Load(largest=largest, per_neuron=total)


@dataclass(frozen=True, slots=True)
class _Format:
    """How the weights of a projection are stored: arguments of :func:`quantise_weights`."""

    scale: float
    exponent: int
    sign_mode: str
    bits: int = 8


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
    rule: EProp | None,
    wanted: Options,
    approximations: list[Approximation],
    found: Findings,
) -> _Format:
    weight = np.asarray(connections.weight, np.float64)
    largest = max(float(weight.max(initial=0.0)), -float(weight.min(initial=0.0))) * (wanted.weight_room if rule is not None else 1.0)
    exponent = 0
    bits = wanted.weight_bits or 8
    if rule is None and resolution is not None and bits == 8:
        exact = exact_format(weight / (resolution * 2.0**ALIGN_SHIFT))
        if exact is not None:
            return _Format(scale, *exact)
        found.notes.append(
            f"projection '{projection.name}': 8 bits do not hold its weights exactly (with both signs they are even); they are rounded"
        )
    if largest > 0.0:
        needed = np.log2(largest * scale / (WEIGHT_FULL * 2.0**ALIGN_SHIFT))
        exponent = int(np.clip(np.ceil(needed - 1e-9), 0, WEIGHT_EXPONENT_MAX))
    mode = None
    if rule is not None:
        top = WEIGHT_FULL * 2.0 ** (ALIGN_SHIFT + exponent) / scale
        mode = eprop.check_bounds(projection.name, rule, weight, -top, top, approximations, found)
        if bits < 8:
            approximations.append(
                Approximation(
                    code="NC318",
                    where=f"projection '{projection.name}'",
                    what=f"weights of {bits} bits that learn",
                    instead=f"weights that start at {bits} bits and are learnt in 8",
                )
            )
    return _Format(scale, exponent, narrowest_sign_mode(weight) if mode is None else mode, bits)


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


def check_options(options: BuildOptions) -> None:
    """Raise InputError NC201/NC207 for options that do not exist or are out of range."""
    read_options(options.extra)
    _error_scale(options)
    _low_bits(options)


def _error_scale(options: BuildOptions) -> float:
    text = options.extra.get("error_scale", "1.0")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (np.isfinite(value) and value > 0):
        raise InputError.of("NC201", f"error_scale is {text!r}, must be a positive number", help="--set error_scale=1.0 (membrane units)")
    return value


def _low_bits(options: BuildOptions) -> bool:
    text = options.extra.get("low_bits", "d")
    if text not in {"d", "none"}:
        raise InputError.of(
            "NC201", f"low_bits is {text!r}, must be 'd' or 'none'", help="--set low_bits=d (default) or --set low_bits=none"
        )
    return text == "d"


class _Plan:
    """Learning of the whole network: gains per population, rule strings per projection, feedback matrices."""

    def __init__(
        self,
        network: Network,
        connections: Mapping[str, Connections],
        rules: Mapping[str, EProp],
        lowered: dict[str, LoweredPopulation],
        weights: Mapping[str, QuantisedWeights],
        error_scale: float,
        low_bits: bool,
        approximations: list[Approximation],
        found: Findings,
    ) -> None:
        self.network, self.connections, self.rules, self.lowered, self.weights = network, connections, rules, lowered, weights
        self.error_scale, self.low_bits = error_scale, low_bits
        self.approximations, self.found = approximations, found
        self.rules_out: dict[str, dict[str, Any]] = {}
        self.feedback: list[LoweredFeedback] = []
        self.summary: dict[str, Any] = {}

    def learn(self) -> None:
        """Fill ``rules_out``, ``feedback``, ``summary`` and the learning settings of ``lowered``."""
        task = self.network.task
        assert task is not None  # the description's verifier demands a task for e-prop
        by_post: dict[str, list[str]] = {}
        for projection in self.network.synaptic_projections:
            if projection.name in self.rules:
                by_post.setdefault(projection.post, []).append(projection.name)
        readout = task.readout
        self._readout(readout, by_post.pop(readout, []))
        for post, names in by_post.items():
            self._hidden(post, names, readout)
        self.found.notes.append("e-prop weights change in every step of the tag's decay, not at presynaptic spikes; see docs/loihi2.md")

    def _readout(self, name: str, projections: list[str]) -> None:
        population, lowered = self.network.population(name), self.lowered[name]
        alpha = eprop.membrane_decay(population, self.network.dt, self.found)
        rule, gains = None, None
        if projections:
            rule = self.rules[projections[0]]
            eprop.check_rule(self.network, rule, population, self.approximations, self.found)
            exponents = [self.weights[p].exponent for p in projections]
            gains = eprop.readout_gains(rule, scale=lowered.scale, alpha=alpha, weight_exponents=exponents, reference=self.error_scale)
            for projection in projections:
                self.rules_out[projection] = eprop.readout_rule(gains, weight_exponent=self.weights[projection].exponent, alpha=alpha)
            self._report(name, rule, gains)
        settings = eprop.readout_settings(rule, gains, scale=lowered.scale, alpha=alpha)
        self.lowered[name] = _with_learning(lowered, settings, {})

    def _hidden(self, name: str, projections: list[str], readout: str) -> None:
        population, lowered = self.network.population(name), self.lowered[name]
        assert not isinstance(population.model, LeakyReadout | SpikeSource)
        rule = self.rules[projections[0]]
        eprop.check_rule(self.network, rule, population, self.approximations, self.found)
        alpha = eprop.membrane_decay(population, self.network.dt, self.found)
        real = self._feedback_weights(rule, name, readout)
        largest = float(np.abs(real).max())
        unit = largest / WEIGHT_FULL if largest > 0 else 1.0
        quantised = quantise_weights(real, 2.0**ALIGN_SHIFT / unit, 0, sign_mode="MIXED")
        numbers = {p.name: index for index, p in enumerate(self.network.populations)}
        self.feedback.append(LoweredFeedback(readout=numbers[readout], post=numbers[name], real=real, quantised=quantised))
        norms = np.sqrt((real**2).sum(axis=1))
        reference = self.error_scale * float(np.median(norms[norms > 0])) if norms.any() else self.error_scale
        gains = eprop.hidden_gains(
            rule,
            scale=lowered.scale,
            alpha=alpha,
            weight_exponents=[self.weights[p].exponent for p in projections],
            reference=reference,
            low_bits=self.low_bits,
        )
        if gains.fraction_bits is not None:
            self.found.notes.append(
                f"population '{name}': low bits of its plastic weights are in the engine's variable d, which Lava's models do not use as "
                "a delay but a chip may; --set low_bits=none leaves d alone"
            )
        for projection in projections:
            self.rules_out[projection] = eprop.hidden_rule(rule, gains, weight_exponent=self.weights[projection].exponent, alpha=alpha)
        error_unit = quantised.unit * 2.0**eprop.ERROR_SHIFT / self.lowered[readout].scale
        settings, arrays = eprop.hidden_settings(rule, gains, scale=lowered.scale, alpha=alpha, error_unit=error_unit, dt=self.network.dt)
        self.lowered[name] = _with_learning(lowered, settings, arrays)
        self._report(name, rule, gains)

    def _feedback_weights(self, rule: EProp, name: str, readout: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        n_post, n_readout = self.network.population(name).size, self.network.population(readout).size
        if isinstance(rule.feedback, SymmetricFeedback):
            self.approximations.append(
                Approximation(
                    code="NC315",
                    where=f"rule '{rule.name}' of '{name}'",
                    what="symmetric feedback follows the readout weights as they change",
                    instead="feedback fixed at the initial readout weights (or feedback: {random: ...}, which needs no approximation)",
                )
            )
            real = np.zeros((n_post, n_readout))
            for projection in self.network.synaptic_projections:
                if projection.pre == name and projection.post == readout:
                    synapses = self.connections[projection.name]
                    np.add.at(real, (synapses.pre, synapses.post), np.asarray(synapses.weight, np.float64))
            return real
        given = realise_feedback(self.network, rule, name)
        assert given is not None  # None means symmetric
        return np.ascontiguousarray(np.asarray(given, np.float64).T)

    def _report(self, name: str, rule: EProp, gains: eprop.Gains) -> None:
        self.summary[name] = {
            "rule": rule.name,
            "kappa": 1.0 - eprop.leak_literal(rule.kappa).value,
            "fraction_bits": gains.fraction_bits or 0,
            "tag_units_per_eligibility": gains.tag,
            "y3_at_reference_error": gains.y3_reference,
            "reference_error": self.error_scale,
        }
        if gains.y3_reference > 127:
            self.found.notes.append(f"population '{name}': learning signals saturate above {127 / gains.y3_reference:.3g} of the reference")
        if gains.y3_reference < _SMALLEST_SIGNAL:
            eta = rule.optimizer.learning_rate
            least = eta * _SMALLEST_SIGNAL / gains.y3_reference if gains.y3_reference > 0 else np.inf
            self.approximations.append(
                Approximation(
                    code="NC319",
                    where=f"population '{name}'",
                    what=f"at the learning rate {eta:g} an error of {self.error_scale:g} gives a learning signal of "
                    f"{gains.y3_reference:.3g} units of 7 bits, too few to add up",
                    instead=f"a learning rate of {least:.3g} or more, or a larger --set error_scale",
                    effect="most errors change no weight",
                )
            )


def _with_learning(lowered: LoweredPopulation, settings: Mapping[str, Any], arrays: Mapping[str, Any]) -> LoweredPopulation:
    return replace(lowered, learning=dict(settings), learning_arrays=dict(arrays))
