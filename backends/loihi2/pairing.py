"""Projections that learn by STDP: formats of their weights, their rules, what their targets send, and what of it is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from neurocompile.backends.base import Approximation
from neurocompile.backends.loihi2 import stdp
from neurocompile.backends.loihi2.arithmetic import QuantisedWeights
from neurocompile.backends.loihi2.exact_pairs import measured_pairs
from neurocompile.backends.loihi2.lowered import Loihi2Network, LoweredPopulation
from neurocompile.backends.loihi2.neurons import Findings
from neurocompile.backends.loihi2.options import Options
from neurocompile.ir import RSTDP, STDP, Network

_TOLERATED = 0.1
"""Relative error of an amplitude or a time constant above which it is an approximation to accept"""
_HALVINGS = 3
_OFF = 2.5
"""Weight units by which the end of the 8 bits may lie beside a bound (mixed weights end at -256 and 254)"""

Smaller = tuple[int, int]
"""What is smaller than usual, and by how much: impulses, tags"""


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
    *,
    smaller: Smaller = (1, 1),
) -> Paired:
    """Express STDP projections (``rules``: by name) on top of lowered populations and weights; deviations go to ``approximations``.

    smaller : what impulses of traces, and tags that are eligibility, are divided by, so that more spikes fit.
    """
    paired = Paired(lowered=dict(lowered))
    numbers = {p.name: index for index, p in enumerate(network.populations)}
    use_tags = options.low_bits != "none"
    for projection in network.synaptic_projections:
        name, post = projection.name, projection.post
        if name not in rules:
            continue
        rule, quantised = rules[name], weights[name]
        _check_bounds(name, rule, quantised, approximations, found)
        made = stdp.make_rule(rule, quantised, dt=network.dt, step=options.trace_step * smaller[0], tag=smaller[1], use_tags=use_tags)
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


def fit_pairs(
    made: Loihi2Network, rules: Mapping[str, STDP], express: Callable[[Smaller], Paired | None], steps: int | None
) -> Loihi2Network:
    """Return the network with ``measured`` in the report's row of each STDP projection, and with smaller impulses or tags where
    these reached their end in the run that measures and smaller ones do better.

    express : what they are divided by -> rules; None where they would need approximations that the first did not.
    """
    best, chosen = measured_pairs(made, rules, steps), [1, 1]
    for kind in (0, 1):
        for _ in range(_HALVINGS):
            tried = [by * (2 if which == kind else 1) for which, by in enumerate(chosen)]
            paired = express((tried[0], tried[1])) if best.saturated[kind] else None
            if paired is None:
                break
            other = measured_pairs(_exchanged(made, paired), rules, steps)
            if other.cosine <= best.cosine:
                break
            best, chosen = other, tried
    notes = [*best.network.summary["notes"], *best.notes]
    return replace(best.network, summary={**best.network.summary, "notes": notes})


def _exchanged(made: Loihi2Network, paired: Paired) -> Loihi2Network:
    """Return the network with other rules of pairs, and with what neurons send for them."""
    return replace(
        made,
        projections=tuple(replace(p, rule=paired.rules_out.get(p.name, p.rule)) for p in made.projections),
        populations=tuple(
            replace(p, learning=paired.lowered[p.name].learning) if p.name in paired.summary else p for p in made.populations
        ),
        summary={**made.summary, "learning": {**made.summary["learning"], **paired.summary}},
    )


def _note(name: str, made: stdp.PairRule, use_tags: bool, found: Findings) -> None:
    if use_tags and made.rule["d_bits"]:
        found.notes.append(
            f"projection '{name}': presynaptic traces of the step before are in the engine's variable d, which Lava's models do not use as "
            "a delay but a chip may; --set low_bits=none leaves d and the tag alone"
        )
    elif not use_tags:
        found.notes.append(f"projection '{name}': a spike that arrives in the step in which its target fires counts as before it")


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

    def approximate(code: str, what: str, instead: str) -> None:
        approximations.append(Approximation(code=code, where=f"projection '{name}'", what=what, instead=instead))

    for amplitude in ("a_plus", "a_minus"):
        error, wanted = report[f"{amplitude}_relative_error"], getattr(rule, amplitude)
        if abs(error) > _TOLERATED:
            nearest = f"{wanted * (1 + error):.3g}, the nearest that the engine's literals and a 7-bit trace make"
            approximate("NC319", f"{amplitude} {wanted:g}", nearest)
    if isinstance(rule, RSTDP) and abs(report["tau_d_relative_error"]) > _TOLERATED:
        nearest = f"{rule.tau_d * (1 + report['tau_d_relative_error']):.3g} s, the nearest 12-bit decay; the reward's sum is kept"
        approximate("NC316", f"tau_d {rule.tau_d:g} s", nearest)
    if quantised.coarse and (isinstance(rule, RSTDP) or not report["fraction_bits"]):
        bits = f"weights of {8 - quantised.coarse} bits and a sign that learn without low bits"
        approximate("NC318", bits, "weights that start on that grid and move by single units of 8 bits")


__all__ = ["Paired", "fit_pairs", "lower_pairs"]
