"""Projections that learn by STDP: formats of their weights, their rules, what their targets send, and what of it is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from neurocompile.backends.base import Approximation
from neurocompile.backends.loihi2 import stdp
from neurocompile.backends.loihi2.arithmetic import QuantisedWeights
from neurocompile.backends.loihi2.lowered import LoweredPopulation
from neurocompile.backends.loihi2.neurons import Findings
from neurocompile.backends.loihi2.options import Options
from neurocompile.ir import RSTDP, STDP, Network

_TOLERATED = 0.1
"""Relative error of an amplitude or a time constant above which it is an approximation to accept"""
_OFF = 2.5
"""Weight units by which the end of the 8 bits may lie beside a bound (mixed weights end at -256 and 254)"""


@dataclass(kw_only=True)
class Paired:
    """rules_out : projection -> rule, as :class:`neurocompile.backends.loihi2.plan.Plan` has; lowered : populations, with what they send;
    rewards : (reward population, learning population), numbers; summary : population -> row of the report."""

    rules_out: dict[str, dict[str, Any]] = field(default_factory=dict)
    lowered: dict[str, LoweredPopulation] = field(default_factory=dict)
    rewards: list[tuple[int, int]] = field(default_factory=list)
    summary: dict[str, dict[str, Any]] = field(default_factory=dict)


def lower_pairs(
    network: Network,
    rules: Mapping[str, STDP],
    lowered: Mapping[str, LoweredPopulation],
    weights: Mapping[str, QuantisedWeights],
    options: Options,
    approximations: list[Approximation],
    found: Findings,
) -> Paired:
    """Express STDP projections (``rules``: by name) on top of lowered populations and weights; deviations go to ``approximations``."""
    paired = Paired(lowered=dict(lowered))
    numbers = {p.name: index for index, p in enumerate(network.populations)}
    use_tags = options.low_bits != "none"
    for projection in network.synaptic_projections:
        name, post = projection.name, projection.post
        if name not in rules:
            continue
        rule, quantised = rules[name], weights[name]
        _check_bounds(name, rule, quantised, approximations, found)
        made = stdp.make_rule(rule, quantised, dt=network.dt, step=options.trace_step, use_tags=use_tags)
        if made is None:
            found.notes.append(f"projection '{name}': rule '{rule.name}' changes nothing (amplitudes are multiples of the upper bound)")
            continue
        row = paired.summary.setdefault(post, {"rule": rule.name, "form": "r_stdp" if isinstance(rule, RSTDP) else "stdp", "pairs": {}})
        row["pairs"][name] = made.report
        paired.rules_out[name] = made.rule
        _check_sizes(name, rule, made, quantised, approximations)
        if made.learning is not None and isinstance(rule, RSTDP):
            if paired.lowered[post].learning is None:
                paired.rewards.append((numbers[rule.reward], numbers[post]))
            paired.lowered[post] = replace(paired.lowered[post], learning=made.learning)
        _note(name, made, use_tags, found)
    return paired


def _note(name: str, made: stdp.PairRule, use_tags: bool, found: Findings) -> None:
    if use_tags and made.rule["d_bits"]:
        found.notes.append(
            f"projection '{name}': presynaptic traces of the step before are in the engine's variable d, which Lava's models do not use as "
            "a delay but a chip may; --set low_bits=none leaves d and the tag alone"
        )
    elif not use_tags:
        found.notes.append(f"projection '{name}': a spike that arrives in the step in which its target fires counts as before it")
    room = made.report["spikes_at_once"]
    found.notes.append(f"projection '{name}': traces of pairs saturate at {room:.3g} spikes at once")


def _check_bounds(name: str, rule: STDP, quantised: QuantisedWeights, approximations: list[Approximation], found: Findings) -> None:
    low, high = (end * quantised.unit for end in (quantised.low, quantised.high))
    wanted_low, wanted_high = rule.weight_bounds
    if max(abs(low - wanted_low), abs(high - wanted_high)) > _OFF * quantised.unit * 2**quantised.coarse:
        approximations.append(
            Approximation(
                code="NC318",
                where=f"projection '{name}'",
                what=f"weight_bounds [{wanted_low:g}, {wanted_high:g}] are not the ends of 8 bits",
                instead=f"saturation at [{low:.4g}, {high:.4g}]",
            )
        )
    else:
        found.notes.append(f"projection '{name}': weights saturate at [{low:.4g}, {high:.4g}]")


def _check_sizes(name: str, rule: STDP, made: stdp.PairRule, quantised: QuantisedWeights, approximations: list[Approximation]) -> None:
    report = made.report
    for field_name in ("a_plus", "a_minus"):
        error = report[f"{field_name}_relative_error"]
        if abs(error) > _TOLERATED:
            approximations.append(
                Approximation(
                    code="NC319",
                    where=f"projection '{name}'",
                    what=f"{field_name} {getattr(rule, field_name):g}",
                    instead=f"{getattr(rule, field_name) * (1 + error):.3g}, the nearest that the engine's literals and a 7-bit trace make",
                )
            )
    if isinstance(rule, RSTDP):
        error = report["tau_d_relative_error"]
        if abs(error) > _TOLERATED:
            approximations.append(
                Approximation(
                    code="NC316",
                    where=f"projection '{name}'",
                    what=f"tau_d {rule.tau_d:g} s",
                    instead=f"{rule.tau_d * (1 + error):.3g} s, the nearest 12-bit decay; the reward's sum is kept",
                )
            )
    if quantised.coarse and (isinstance(rule, RSTDP) or not report["fraction_bits"]):
        approximations.append(
            Approximation(
                code="NC318",
                where=f"projection '{name}'",
                what=f"weights of {8 - quantised.coarse} bits and a sign that learn without low bits",
                instead="weights that start on that grid and move by single units of 8 bits",
            )
        )


__all__ = ["Paired", "lower_pairs"]
