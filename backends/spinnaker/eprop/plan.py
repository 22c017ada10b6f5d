"""A network that learns by e-prop -> the integers of its cores: formats, scales, rows, feedback."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurocompile.backends.spinnaker.eprop.cells import RATE_BITS, Cells
from neurocompile.backends.spinnaker.eprop.formats import (
    DECAY_BITS,
    ERROR_MOST,
    ONE,
    WORD,
    Factor,
    Ints,
    Neurons,
    adapting,
    lower_neurons,
    membrane_scale,
)
from neurocompile.backends.spinnaker.eprop.ranges import ACCUMULATOR_BITS, Adaptation, Rule
from neurocompile.backends.spinnaker.eprop.rows import Rows, make_rows
from neurocompile.backends.spinnaker.eprop.scales import Scales, choose_readout_scales, choose_scales
from neurocompile.backends.spinnaker.neurons import Findings
from neurocompile.ir import LIF, Adam, EProp, LeakyReadout, Loss, Network, PerInterval, Population, Projection, SpikeSource
from neurocompile.ir._types import FloatArray, Int32Array
from neurocompile.ir.feedback import SymmetricFeedback
from neurocompile.ir.neurons import Reset, decay, expand
from neurocompile.ir.realise import Connections, realise_feedback

WEIGHT_MOST = 32767
"""A weight is sent as 16 bits, its sign by the receptor; its accumulator keeps it signed"""
MOST_SHIFT = 15
"""Largest shift of a ring buffer's 16 bits to an input in s16.15, 32 bits"""
SIGMAS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpropOptions:
    """error_limit : errors beyond are clipped, membrane units; state_bits : 16 or 32 of an eligibility, None: 32 for neurons that adapt, 16
    for others; rates : Hz, assumed for the ring buffers, neurons and sources; growth : how many times their largest at the start weights
    that learn may become, which sets their unit."""

    error_limit: float = 4.0
    state_bits: int | None = None
    rate: float = 30.0
    source_rate: float = 250.0
    growth: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedPopulation:
    """scale : S, s16.15 units per membrane unit / 2^15; shift : ring buffer to membrane; scales : None if nothing learns here; feedback
    (n_readout, n) : integers, None if nothing is heard; error : membrane (readout) -> packet's error; learn : packet's error -> the
    readout's learning signal; target_unit : integer of a target of 1."""

    name: str
    size: int
    neurons: Neurons
    cells: Cells
    scale: float
    shift: int
    scales: Scales | None
    feedback: Ints | None
    error: Factor
    learn: Factor
    target_unit: float

    @property
    def weight_unit(self) -> float:
        """Membrane units of a unit of a 16-bit weight."""
        return 2.0**self.shift / (self.scale * ONE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedProjection:
    """weight (m,) : accumulator units if it learns, else 16-bit integers; both in the rows' order."""

    name: str
    pre: str
    post: str
    learns: bool
    rows: Rows
    weight: Int32Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpropPlan:
    """populations : all that are no sources, by name; projections; readout, softmax : of the task."""

    populations: Mapping[str, PlannedPopulation]
    projections: tuple[PlannedProjection, ...]
    readout: str | None
    softmax: bool
    summary: Mapping[str, Any]

    @property
    def learns(self) -> bool:
        """Whether any weight changes."""
        return any(p.learns for p in self.projections)

    def target_range(self, name: str) -> tuple[int, int]:
        """Return the least and largest integer of a readout's targets: probabilities with softmax, else what 32 bits hold."""
        return (0, ERROR_MOST) if self.softmax and name == self.readout else (-WORD, WORD)


def plan_eprop(
    network: Network, connections: Mapping[str, Connections], options: EpropOptions, findings: Findings, *, learning: bool
) -> EpropPlan:
    """Return the integers of a network that learns by e-prop; what cannot be expressed goes to ``findings``.

    learning : False: no weight will change.
    """
    return _Planner(network, connections, options, findings, learning).plan()


class _Planner:
    def __init__(
        self, network: Network, connections: Mapping[str, Connections], options: EpropOptions, findings: Findings, learning: bool
    ) -> None:
        self.network, self.connections, self.options, self.findings, self.learning = network, connections, options, findings, learning
        task = network.task
        self.readout = task.readout if task is not None else None
        self.softmax = task is not None and task.loss is Loss.CROSS_ENTROPY
        self.summary: dict[str, Any] = {}

    def plan(self) -> EpropPlan:
        populations, projections = {}, []
        for population in self.network.populations:
            if not isinstance(population.model, SpikeSource):
                try:
                    planned = self._population(population)
                except ValueError as error:
                    self.findings.refuse(
                        "NC328",
                        f"population '{population.name}': {error}",
                        "change the parameters of the neurons or of the rule",
                    )
                    continue
                populations[population.name] = planned
        for projection in self.network.synaptic_projections:
            if projection.post in populations:
                projections.append(self._projection(projection, populations[projection.post]))
        return EpropPlan(
            populations=populations,
            projections=tuple(projections),
            readout=self.readout,
            softmax=self.softmax,
            summary=self.summary,
        )

    def _population(self, population: Population) -> PlannedPopulation:
        model, n, dt = population.model, population.size, self.network.dt
        assert isinstance(model, LIF | LeakyReadout)
        into = [p for p in self.network.synaptic_projections if p.post == population.name]
        rule = self._rule(population, into)
        largest = max((float(np.abs(self.connections[p.name].weight).max(initial=0.0)) for p in into), default=0.0)
        scale = membrane_scale(model, n, largest)
        neurons = lower_neurons(model, n, dt, scale, None if isinstance(model, LeakyReadout) or rule is None else rule.surrogate)
        shift = self._shift(population, into, scale, rule is not None)
        unit = 2.0**shift / (scale * ONE)
        scales, feedback = None, None
        error, learn, cells_signal, target_unit = Factor(0, 1), Factor(0, 1), Factor(0, 1), scale * ONE
        error_unit = self._error_unit(population.name if isinstance(model, LeakyReadout) else self.readout)
        if isinstance(model, LeakyReadout):
            if self.softmax and population.name == self.readout:
                error, target_unit = Factor.of(2.0**16 / np.log(2.0) / (scale * ONE)), float(ERROR_MOST)
            else:
                error = Factor.of(1.0 / (scale * ONE) / error_unit)
        if rule is not None and self.learning:
            alpha = self._alpha(population)
            learned = self._learned(rule, population, alpha, unit, into, error_unit)
            if isinstance(model, LeakyReadout):
                scales = choose_readout_scales(learned)
                learn = Factor.of(error_unit / scales.signal_unit)
            else:
                neurons, adaptation = adapting(neurons, scale, rule.surrogate.height)
                matrix = self._feedback(rule, population)
                bits = _matrix_unit(matrix)
                feedback = np.rint(matrix / bits).astype(np.int64)
                largest_signal = float(np.abs(matrix).sum(axis=0).max(initial=0.0)) * ERROR_MOST * error_unit
                learned = replace(learned, signal=largest_signal if largest_signal > 0.0 else max(learned.reg, learned.weight_unit))
                scales = self._scales(learned, adaptation, rule, population)
                cells_signal = Factor.of(bits * error_unit / scales.signal_unit)
            self.summary[population.name] = _row(rule, scales, unit)
        return PlannedPopulation(
            name=population.name,
            size=n,
            neurons=neurons,
            cells=self._cells(neurons, shift, rule, scales, cells_signal),
            scale=scale,
            shift=shift,
            scales=scales,
            feedback=feedback,
            error=error,
            learn=learn,
            target_unit=target_unit,
        )

    def _rule(self, population: Population, into: list[Projection]) -> EProp | None:
        names = sorted({str(p.learning) for p in into if p.learning is not None})
        if not self.learning:  # what is not used is not refused
            return next((rule for rule in map(self.network.rule, names) if isinstance(rule, EProp)), None)
        if len(names) > 1:
            self.findings.refuse(
                "NC327",
                f"population '{population.name}': its inputs learn by {len(names)} rules ({', '.join(names)}); on SpiNNaker all plastic "
                "inputs of a population obey one rule",
                "use one rule, or split the population",
            )
        if not names:
            return None
        rule = self.network.rule(names[0])
        if not isinstance(rule, EProp):
            self.findings.refuse(
                "NC327",
                f"population '{population.name}': its inputs learn by '{names[0]}', others of the network by e-prop; a program has either",
                "use e-prop for all, or split the network",
            )
            return None
        self._check(rule, population)
        return rule

    def _check(self, rule: EProp, population: Population) -> None:
        where = f"rule '{rule.name}' of '{population.name}'"
        if isinstance(rule.optimizer, Adam):
            self.findings.approximate(
                "NC325", where, "the Adam optimizer needs two more states a synapse", "gradient_descent with the same learning rate"
            )
        if isinstance(rule.update, PerInterval):
            self.findings.approximate(
                "NC325",
                where,
                f"per_interval averages gradients over {rule.update.steps} steps",
                "update: per_event",
                f"the learning rate acts {rule.update.steps} times more often, each gradient undivided",
            )
        if rule.trace_cutoff_steps is not None:
            self.findings.approximate(
                "NC325", where, f"traces end {rule.trace_cutoff_steps} steps after a spike", "traces that decay without end"
            )
        if isinstance(rule.feedback, SymmetricFeedback) and not isinstance(population.model, LeakyReadout):
            self.findings.approximate(
                "NC325",
                where,
                "symmetric feedback follows the readout weights as they change",
                "feedback fixed at the initial readout weights (or feedback: {random: ...}, which needs no approximation)",
            )

    def _scales(self, learned: Rule, adaptation: Adaptation | None, rule: EProp, population: Population) -> Scales:
        """Return the formats of hidden neurons; where they leave no room for the second eligibility state, those without it."""
        bits = self.options.state_bits
        plain = choose_scales(learned, state_bits=bits or 16)
        if adaptation is None:
            return plain
        try:
            return choose_scales(replace(learned, adaptation=adaptation), state_bits=bits or 32)
        except ValueError as error:
            self.findings.approximate(
                "NC325",
                f"rule '{rule.name}' of '{population.name}'",
                f"the eligibility of adaptive neurons does not fit the cores' numbers: {error}",
                "the eligibility without adaptation; the neurons themselves adapt as described",
                "the gradient takes no account of what a spike does to later thresholds",
            )
            return plain

    def _alpha(self, population: Population) -> float:
        model = population.model
        assert isinstance(model, LIF | LeakyReadout)
        values = np.unique(decay(model.tau_mem, self.network.dt, model.integration, population.size))
        if len(values) > 1:
            self.findings.refuse(
                "NC327",
                f"population '{population.name}': tau_mem has {len(values)} values; the neurons of a core share the tables of one decay",
                "split it into populations of one tau_mem each",
            )
        return float(values[0])

    def _error_unit(self, readout: str | None) -> float:
        """Membrane units (of the task's readout with softmax: probability) of a unit of a readout's error."""
        return (1.0 if self.softmax and readout == self.readout else self.options.error_limit) / ERROR_MOST

    def _learned(self, rule: EProp, population: Population, alpha: float, unit: float, into: list[Projection], error_unit: float) -> Rule:
        regularised = rule.regularization is not None and rule.regularization.strength > 0.0 and isinstance(population.model, LIF)
        reg = 0.0
        if regularised:
            assert rule.regularization is not None
            rate = rule.regularization.rate * self.network.dt
            most = 1.0 / _least_interval(population, self.network.dt)
            reg = rule.regularization.strength * max(most - rate, rate) / (self.network.dt * 1e3)
        return Rule(
            alpha=alpha,
            kappa=rule.kappa if isinstance(population.model, LIF) else alpha,
            kappa_reg=rule.kappa_reg if regularised else rule.kappa if isinstance(population.model, LIF) else alpha,
            height=rule.surrogate.height,
            learning_rate=rule.optimizer.learning_rate,
            weight_unit=unit,
            interval=min((_least_interval(self.network.population(p.pre), self.network.dt) for p in into if p.learning), default=1.0),
            signal=ERROR_MOST * error_unit,
            reg=reg,
        )

    def _feedback(self, rule: EProp, population: Population) -> FloatArray:
        """Return B, (n_readout, n)."""
        if self.readout is None:
            return np.zeros((0, population.size))
        given = realise_feedback(self.network, rule, population.name)
        if given is not None:
            return np.asarray(given, np.float64)
        found = np.zeros((self.network.population(self.readout).size, population.size))
        for p in self.network.synaptic_projections:
            if p.pre == population.name and p.post == self.readout:
                synapses = self.connections[p.name]
                np.add.at(found, (synapses.post, synapses.pre), np.asarray(synapses.weight, np.float64))
        return found

    def _shift(self, population: Population, into: list[Projection], scale: float, grows: bool) -> int:
        """Plan for the summed weight of a step, mean + 5 sigma of independent spikes, and for each weight in 16 bits.

        Raises ValueError where 32 bits do not hold that sum in s16.15.
        """
        n, growth = population.size, self.options.growth if grows else 1.0
        mean, variance, total, top = np.zeros((2, n)), np.zeros((2, n)), np.zeros((2, n)), 0.0
        for p in into:
            synapses, source = self.connections[p.name], self.network.population(p.pre)
            rates = np.full(source.size, self.options.rate)
            if isinstance(source.model, SpikeSource):
                own = expand(source.model.rate, source.size)
                rates = np.where(own > 0.0, own, self.options.source_rate)
            chance = np.minimum(rates * self.network.dt, 1.0)[synapses.pre]
            with np.errstate(over="ignore"):
                weight = np.asarray(synapses.weight, np.float64) * growth
            top = max(top, float(np.abs(weight).max(initial=0.0)))
            for receptor, mask in enumerate((weight >= 0, weight < 0)):
                w, at = np.abs(weight[mask]), synapses.post[mask]
                mean[receptor] += np.bincount(at, chance[mask] * w, n)
                with np.errstate(over="ignore"):
                    variance[receptor] += np.bincount(at, chance[mask] * (1.0 - chance[mask]) * w * w, n)
                    total[receptor] += np.bincount(at, w, n)
        expected = float(np.maximum(np.minimum(mean + SIGMAS * np.sqrt(variance), total).max(initial=0.0), top))
        if grows and top == 0.0:  # nothing to go by: weights may become what makes a neuron spike, or the unit of a readout
            expected = top = _distance(population)
        needed = scale * ONE * max(expected / (2 * WEIGHT_MOST), top / WEIGHT_MOST)
        if not needed <= 2.0**MOST_SHIFT:
            raise ValueError(
                f"the input of a step may come to {expected:g} (weights up to {top:g}"
                f"{f', {growth:g} times those at the start' if grows else ''}), on the machine s16.15 ends at {2.0**16 / scale:g}: bring "
                "weights and threshold closer together"
            )
        return max(math.ceil(math.log2(needed)), 0) if needed > 0.0 else 0

    def _cells(self, neurons: Neurons, shift: int, rule: EProp | None, scales: Scales | None, signal: Factor) -> Cells:
        hold, rate_target, rate_decay = Factor(0, 1), 0, 0
        if rule is not None and scales is not None and scales.rule.reg > 0.0:
            assert rule.regularization is not None
            # f is held as spikes a step; reg = c_reg (f / dt - f_target), dt in ms
            strength = rule.regularization.strength / (self.network.dt * 1e3)
            hold = Factor.of(strength * 2.0**-RATE_BITS / scales.signal_unit)
            rate_target = round(rule.regularization.rate * self.network.dt * 2.0**RATE_BITS)
            rate_decay = round(rule.kappa_reg * 2.0**DECAY_BITS)
        return Cells(
            decay=neurons.decay,
            current_decay=neurons.current_decay,
            adapt_decay=neurons.adapt_decay,
            bias=neurons.bias,
            v_min=neurons.v_min,
            threshold=neurons.threshold,
            v_reset=neurons.v_reset,
            adapt_step=neurons.adapt_step,
            leak=neurons.leak,
            refractory=neurons.refractory,
            table=neurons.table,
            subtract=neurons.subtract,
            reach=neurons.reach,
            position=neurons.position.mantissa,
            position_shift=neurons.position.shift,
            input_shift=shift,
            rate_decay=rate_decay,
            rate_step=round(2.0**RATE_BITS - rate_decay * 2.0 ** (RATE_BITS - DECAY_BITS)) if rate_decay else 0,
            rate_target=rate_target,
            hold=hold.mantissa,
            hold_shift=hold.shift,
            signal=signal.mantissa,
            signal_shift=signal.shift,
        )

    def _projection(self, projection: Projection, post: PlannedPopulation) -> PlannedProjection:
        synapses = self.connections[projection.name]
        unit, learns = post.weight_unit, self.learning and projection.learning is not None and post.scales is not None
        real = synapses.weight / np.float64(unit)
        rule = self.network.rule(projection.learning) if projection.learning is not None else None
        keep_signs = learns and isinstance(rule, EProp) and rule.sign_constraint
        low, high = -WEIGHT_MOST, WEIGHT_MOST
        if learns and isinstance(rule, EProp):
            low, high = (int(np.clip(np.rint(b / unit), -WEIGHT_MOST, WEIGHT_MOST)) for b in rule.weight_bounds)
        if learns:
            real *= 2.0**ACCUMULATOR_BITS
        np.rint(real, out=real)
        if not learns:
            np.clip(real, -WEIGHT_MOST, WEIGHT_MOST, out=real)
        weight = real.astype(np.int32)
        del real
        rows = make_rows(
            synapses.pre,
            synapses.post,
            synapses.delay,
            weight,
            self.network.population(projection.pre).size,
            low << ACCUMULATOR_BITS,
            high << ACCUMULATOR_BITS,
            keep_signs=keep_signs,
        )
        return PlannedProjection(
            name=projection.name, pre=projection.pre, post=projection.post, learns=learns, rows=rows, weight=weight[rows.order]
        )


def _distance(population: Population) -> float:
    """Return how far the threshold is from rest, the largest of a population's; 1 for readouts."""
    model, n = population.model, population.size
    if not isinstance(model, LIF):
        return 1.0
    return float(np.abs(expand(model.v_threshold, n) - expand(model.v_leak, n)).max()) or 1.0


def _least_interval(population: Population, dt: float) -> float:
    """Return the fewest steps between two spikes of a neuron."""
    model = population.model
    if not isinstance(model, LIF):
        return 1.0
    silent = float(np.rint(expand(model.t_ref, population.size) / dt).min())
    return max(silent, 1.0) if model.reset is Reset.SUBTRACT else silent + 1.0


def _matrix_unit(matrix: FloatArray) -> float:
    """Return the unit of feedback weights: 16 bits each, and the sum of a neuron's, times an error of 16 bits, in 32."""
    top = max(float(np.abs(matrix).max(initial=0.0)) / WEIGHT_MOST, float(np.abs(matrix).sum(axis=0).max(initial=0.0)) / 64000.0)
    return top if top > 0.0 else 1.0


def _row(rule: EProp, scales: Scales, unit: float) -> dict[str, Any]:
    return {
        "rule": rule.name,
        "weight_unit": unit,
        "state_bits": scales.state_bits,
        "fraction_bits": {
            name: int(getattr(scales, f"q_{name}")) for name in ("z", "e", "r", *(["q"] if scales.adaptive else []), "a", "c", "total")
        },
        "largest_signal": scales.rule.signal,
        "largest_regularisation": scales.rule.reg,
    }
