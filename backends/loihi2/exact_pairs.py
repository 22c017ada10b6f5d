"""What STDP in float64 makes of the twin's own spikes: the measure of what the chip's arithmetic does to pairs of spikes.

The recurrences of docs/eprop.md ("STDP"), one step at a time on dense rows of spikes. Spikes are the twin's, so the difference to its
weight change is the arithmetic of learning alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.lowered import Loihi2Network, LoweredProjection
from neurocompile.backends.loihi2.stimulus import cosine, random_inputs
from neurocompile.backends.loihi2.tune import measured_steps
from neurocompile.backends.loihi2.twin import Twin
from neurocompile.ir import RSTDP, STDP
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.signals import Spikes

BoolArray = npt.NDArray[np.bool_]
_TRACE_END, _TAG_END = 127, 255


def exact_pairs(
    rule: STDP, *, dt: float, pre: IntArray, post: IntArray, weight: FloatArray, arrivals: BoolArray, fired: BoolArray, rewards: IntArray
) -> FloatArray:
    """Return the weights after the last step.

    Parameters
    ----------
    pre, post, weight
        Of the synapses, at the start.
    arrivals, fired
        (n_steps, n): sources whose spikes arrive in a step, targets that spike in it.
    rewards
        (n_steps,): reward spikes that arrive.
    """
    low, high = rule.weight_bounds
    weight, c, d = weight.astype(np.float64), np.zeros(len(pre)), 0.0
    x, y = np.zeros(arrivals.shape[1]), np.zeros(fired.shape[1])
    for arrived, spiked, reward in zip(arrivals, fired, rewards, strict=True):
        x, y = x * np.exp(-dt / rule.tau_plus), y * np.exp(-dt / rule.tau_minus)
        for active, size, up in ((arrived[pre], -rule.a_minus * y[post], False), (spiked[post], rule.a_plus * x[pre], True)):
            which = np.flatnonzero(active)
            distance = (high - weight[which] if up else weight[which] - low) if rule.multiplicative else high
            if isinstance(rule, RSTDP):
                c[which] += size[which] * distance
            else:
                weight[which] = np.clip(weight[which] + size[which] * distance, low, high)
        x, y = x + arrived, y + spiked
        if isinstance(rule, RSTDP):
            d += rule.reward_weight * float(reward)
            speed = 1.0 / rule.tau_c + 1.0 / rule.tau_d
            weight = np.clip(weight - c * d * np.expm1(-dt * speed) / speed, low, high)
            c, d = c * np.exp(-dt / rule.tau_c), d * float(np.exp(-dt / rule.tau_d))
    return weight


def rows_of(spikes: Spikes, n: int, steps: int, *, later: int = 0) -> BoolArray:
    """Return (steps, n): which neurons spike in each step, ``later`` steps later."""
    rows = np.zeros((steps, n), np.bool_)
    inside = spikes.step + later < steps
    rows[spikes.step[inside] + later, spikes.neuron[inside]] = True
    return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredPairs:
    """network : with what was measured in its report; cosine : mean over projections; saturated : whether traces, and tags that are
    eligibility, reached their end."""

    network: Loihi2Network
    cosine: float = 1.0
    saturated: tuple[bool, bool] = (False, False)
    notes: tuple[str, ...] = ()


def measured_pairs(made: Loihi2Network, rules: Mapping[str, STDP], tune_steps: int | None) -> MeasuredPairs:
    """Run a network on random spikes and put into the report's row of each STDP projection (``rules``: by name) the cosine and relative
    error of the weight change, low bits counted, and the largest trace and tag. What reaches its end becomes a note."""
    learning = [p for p in made.projections if p.name in rules and p.rule is not None]
    steps = measured_steps(sum(len(p.pre_ids) for p in learning), tune_steps)
    if steps == 0 or not learning:
        return MeasuredPairs(network=made)
    twin = Twin(*describe(made), learning=True)
    numbers = {p.name: i for i, p in enumerate(made.projections)}
    inputs = random_inputs(made.network, steps=steps)
    largest = {p.name: [0, 0] for p in learning}
    spikes: dict[str, list[Spikes]] = {p.name: [] for p in made.network.populations}
    for _ in range(steps):
        for name, found in twin.run(1, inputs).spikes.items():
            spikes[name].append(found)
        for name, seen in largest.items():
            plastic = twin.plastic[numbers[name]]
            seen[0] = max(seen[0], int(plastic.x[0].max(initial=0)), int(plastic.y[1].max(initial=0)))
            seen[1] = max(seen[1], int(np.abs(plastic.tags()[0]).max(initial=0)))
    whole = {
        name: Spikes(neuron=np.concatenate([s.neuron for s in parts]), step=np.concatenate([s.step for s in parts]))
        for name, parts in spikes.items()
        if parts
    }
    summary = {name: dict(row) for name, row in made.summary["learning"].items()}
    notes, cosines, saturated = [], [], [False, False]
    for p in learning:
        trace, tag = largest[p.name]
        row = summary[made.network.populations[p.post].name]
        measured = _compare(made, p, rules[p.name], twin, whole, steps) | {"largest_trace": trace, "largest_tag": tag}
        row["pairs"] = {**row["pairs"], p.name: {**row["pairs"][p.name], "measured": measured}}
        ends = [name for name, value, end in (("traces", trace, _TRACE_END), ("tags", tag, _TAG_END)) if value >= end]
        saturated[0] |= trace >= _TRACE_END
        saturated[1] |= tag >= _TAG_END and isinstance(rules[p.name], RSTDP)
        cosines += [measured["cosine"]] if measured["cosine"] is not None else []
        if ends:
            notes.append(f"projection '{p.name}': {' and '.join(ends)} reached their end in {steps} steps of random spikes")
    return MeasuredPairs(
        network=replace(made, summary={**made.summary, "learning": summary}),
        cosine=float(np.mean(cosines)) if cosines else 1.0,
        saturated=(saturated[0], saturated[1]),
        notes=tuple(notes),
    )


def _compare(made: Loihi2Network, p: LoweredProjection, rule: STDP, twin: Twin, spikes: Mapping[str, Spikes], steps: int) -> dict[str, Any]:
    network = made.network
    source, target = network.populations[p.pre], network.populations[p.post]
    plastic = twin.plastic[made.projections.index(p)]
    assert p.rule is not None
    start = p.quantised.values.astype(np.float64)
    change = plastic.weights() - start
    bits = made.summary["learning"][target.name]["pairs"][p.name]["fraction_bits"]
    if bits:
        change = change - (plastic.tags()[0] - p.rule["tag_start"]) * 2.0 ** (p.quantised.coarse - bits)
    after = steps + 1  # spikes of the last step arrive in one more, and the program has counted them
    rewards = np.zeros(after, np.int64)
    if isinstance(rule, RSTDP):
        rewards = rows_of(spikes[rule.reward], network.population(rule.reward).size, after, later=1).sum(axis=1)
    exact = exact_pairs(
        rule,
        dt=network.dt,
        pre=p.pre_ids.astype(np.int64),
        post=p.post_ids.astype(np.int64),
        weight=start * p.quantised.unit,
        arrivals=rows_of(spikes[source.name], source.size, after, later=1),
        fired=rows_of(spikes[target.name], target.size, after),
        rewards=rewards,
    )
    wanted = exact - start * p.quantised.unit
    size = float(np.linalg.norm(wanted))
    if size == 0.0:
        return {"cosine": None, "relative_error": None}
    made_change = change * p.quantised.unit
    return {"cosine": cosine(made_change, wanted), "relative_error": float(np.linalg.norm(made_change - wanted)) / size}


__all__ = ["MeasuredPairs", "exact_pairs", "measured_pairs", "rows_of"]
