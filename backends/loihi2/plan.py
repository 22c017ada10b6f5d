"""The plan of learning: form and scales of each population's rule, rule strings of each projection, feedback matrices."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from neurocompile.backends.base import Approximation
from neurocompile.backends.loihi2 import forms
from neurocompile.backends.loihi2 import learning as eprop
from neurocompile.backends.loihi2.adaptive import adaptation_of
from neurocompile.backends.loihi2.arithmetic import ALIGN_SHIFT, WEIGHT_FULL, QuantisedWeights, quantise_weights
from neurocompile.backends.loihi2.forms import Form, Scale
from neurocompile.backends.loihi2.halves import other_trace, split_rule
from neurocompile.backends.loihi2.lowered import LoweredFeedback, LoweredPopulation
from neurocompile.backends.loihi2.neurons import Findings
from neurocompile.backends.loihi2.options import Options
from neurocompile.backends.loihi2.rule_strings import hidden_rule, readout_rule
from neurocompile.ir import LIF, EProp, LeakyReadout, Network, SpikeSource, SymmetricFeedback
from neurocompile.ir.errors import InputError
from neurocompile.ir.realise import Connections, realise_feedback

_SMALLEST_SIGNAL = 0.02
"""Learning signal (7-bit units) below which even carried remainders make one step of 32 in more than 1,600 steps."""
_DISTINCT = 1e-3
"""Decays of two traces closer than this give no difference to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Form and scales of one population's rule."""

    form: Form = Form.LAGGED
    scale: Scale = field(default_factory=Scale)


def distinct_decays(network: Network, plastic: Collection[str]) -> bool:
    """Whether two traces can stand for membrane and kappa in all plastic projections (``plastic``: their names) into hidden populations."""
    for projection in network.synaptic_projections:
        model = network.population(projection.post).model
        if projection.name in plastic and projection.learning is not None and isinstance(model, LIF):
            rule = network.rule(projection.learning)
            alpha = eprop.membrane_decay(network.population(projection.post), network.dt, Findings())
            if not isinstance(rule, EProp) or abs(rule.kappa - alpha) < _DISTINCT:
                return False
    return True


class Plan:
    """Learning of the whole network; ``choices``: population -> form and scales, where they are not the defaults.

    After :meth:`learn`: lowered : populations with their learning settings; rules_out : projection -> rule strings; feedback; summary.
    """

    def __init__(
        self,
        network: Network,
        connections: Mapping[str, Connections],
        rules: Mapping[str, EProp],
        lowered: Mapping[str, LoweredPopulation],
        weights: Mapping[str, QuantisedWeights],
        options: Options,
        choices: Mapping[str, Choice],
        approximations: list[Approximation],
        found: Findings,
    ) -> None:
        self.network, self.connections, self.rules, self.lowered, self.weights = network, connections, rules, dict(lowered), weights
        self.options, self.choices, self.error_scale = options, choices, options.error_scale
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
            exponents = [self.weights[p].level for p in projections]
            gains = forms.readout_gains(
                rule, scale=lowered.scale, alpha=alpha, weight_exponents=exponents, reference=self.error_scale, impulse=self.options.impulse
            )
            for projection in projections:
                made = readout_rule(
                    gains, weight_exponent=self.weights[projection].level, alpha=alpha, coarse=self.weights[projection].coarse
                )
                self.rules_out[projection] = split_rule(made, None, gains.carry) if self.options.split else made
            self._report(name, rule, gains, {})
        settings = eprop.readout_settings(rule, gains, scale=lowered.scale, alpha=alpha)
        self.lowered[name] = self._with_learning(lowered, settings, {}, None)

    def _hidden(self, name: str, projections: list[str], readout: str) -> None:
        population, lowered = self.network.population(name), self.lowered[name]
        assert not isinstance(population.model, LeakyReadout | SpikeSource)
        rule = self.rules[projections[0]]
        adaptation = adaptation_of(population, self.network.dt)
        choice = self.choices.get(name, Choice(form=self.options.form or Form.LAGGED))
        if choice.form is Form.ADAPTIVE and adaptation is None:
            choice = replace(choice, form=Form.LAGGED)  # it has nothing to hold
        if choice.form is Form.ADAPTIVE and self.options.split:
            raise InputError.of(
                "NC201",
                f"population '{name}': eprop_form adaptive needs all three third factors, third_factors=split leaves it two",
                help="--set third_factors=signed, or --set eprop_form=lagged",
            )
        eprop.check_rule(self.network, rule, population, self.approximations, self.found, form=choice.form)
        alpha = eprop.membrane_decay(population, self.network.dt, self.found)
        real = self._feedback_weights(rule, name, readout)
        largest = float(np.abs(real).max())
        unit = largest / WEIGHT_FULL if largest > 0 else 1.0
        quantised = quantise_weights(real, 2.0**ALIGN_SHIFT / unit, 0, sign_mode="MIXED")
        numbers = {p.name: index for index, p in enumerate(self.network.populations)}
        self.feedback.append(LoweredFeedback(readout=numbers[readout], post=numbers[name], real=real, quantised=quantised))
        norms = np.sqrt((real**2).sum(axis=1))
        reference = self.error_scale * float(np.median(norms[norms > 0])) if norms.any() else self.error_scale
        if choice.form is Form.TWO_TRACES and abs(rule.kappa - alpha) < _DISTINCT:
            raise InputError.of(
                "NC201",
                f"population '{name}': eprop_form two_traces needs two decays, kappa and the membrane's are {rule.kappa:g} and {alpha:g}",
                help="--set eprop_form=lagged",
            )
        second = self.options.second
        fine = not choice.form.has_tag or (choice.form is Form.LAGGED and second is not None)
        if not fine:
            self._refuse_coarse(projections)
        levels = {p: self.weights[p].level if fine else self.weights[p].exponent for p in projections}
        gains = forms.hidden_gains(
            rule,
            choice.form,
            scale=lowered.scale,
            alpha=alpha,
            weight_exponents=levels,
            reference=reference,
            second=second,
            choice=choice.scale,
            impulse=self.options.impulse,
            adaptation=adaptation,
        )
        held = {Form.ALIGNED: "presynaptic traces of the step before", Form.ADAPTIVE: "eligibilities of adaptation"}.get(choice.form, "")
        if choice.form is Form.LAGGED and gains.fraction_bits is not None:
            held = "low bits of its plastic weights"
        if held:
            self.found.notes.append(
                f"population '{name}': {held} are in the engine's variable d, which Lava's models do not use as "
                "a delay but a chip may; --set low_bits=none (with eprop_form=lagged) leaves d alone"
            )
        for projection in projections:
            made = hidden_rule(
                rule,
                gains,
                weight_exponent=levels[projection],
                alpha=alpha,
                second=second,
                coarse=self.weights[projection].coarse if fine else 0,
                tag_bits=choice.scale.tag_bits.get(projection, 0),
                adaptation=adaptation,
                share=choice.scale.share,
                d_bits=choice.scale.d_bits.get(projection, 0),
            )
            self.rules_out[projection] = split_rule(made, choice.form, gains.carry) if self.options.split else made
        error_unit = quantised.unit * 2.0**eprop.ERROR_SHIFT / self.lowered[readout].scale
        settings, arrays = eprop.hidden_settings(
            rule,
            gains,
            scale=lowered.scale,
            alpha=alpha,
            error_unit=error_unit,
            dt=self.network.dt,
            step=self.options.trace_step,
            adaptation=adaptation,
        )
        self.lowered[name] = self._with_learning(lowered, settings, arrays, choice.form)
        self._report(name, rule, gains, choice.scale.tag_bits)
        if adaptation is not None:
            share = choice.scale.share
            kind = "exact" if choice.form is Form.ADAPTIVE else "none" if share is None else share.kind
            self.summary[name]["adaptation"] = {"kind": kind} | ({} if share is None else asdict(share))

    def _with_learning(
        self, lowered: LoweredPopulation, settings: Mapping[str, Any], arrays: Mapping[str, Any], form: Form | None
    ) -> LoweredPopulation:
        split = other_trace(form) if self.options.split else 0
        return replace(lowered, learning={**settings, "split": split}, learning_arrays=dict(arrays))

    def _refuse_coarse(self, projections: list[str]) -> None:
        bits = self.options.weight_bits
        self.approximations += [
            Approximation(
                code="NC318",
                where=f"projection '{name}'",
                what=f"weights of {bits} bits that learn without low bits",
                instead=f"weights that start at {bits} bits and move by single units of 8; or --set low_bits=d",
            )
            for name in projections
            if self.weights[name].coarse
        ]

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

    def _report(self, name: str, rule: EProp, gains: forms.Gains, tag_bits: Mapping[str, int]) -> None:
        self.summary[name] = {
            "rule": rule.name,
            "form": "readout" if gains.form is None else gains.form.value,
            "kappa": 1.0 - forms.leak_literal(rule.kappa).value if gains.form is not None and gains.form.has_tag else rule.kappa,
            "fraction_bits": gains.fraction_bits or 0,
            "tag_units_per_eligibility": gains.tag,
            "tag_bits": dict(tag_bits),
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
