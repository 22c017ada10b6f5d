"""Energy and time of one step: counts of a mapping times the constants of the machine file, each with its confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from neurocompile.ir._types import FloatArray, Int32Array
    from neurocompile.machine import Machine
    from neurocompile.mapping.types import Mapping as CoreMapping
    from neurocompile.pipeline import Compiled

_SURENESS = ("guess", "override", "inferred", "published", "measured")
"""Confidences, the least sure first; an override is the user's word for it."""
_EVENTS, _UPDATES, _BUSY = "synaptic events", "neuron updates", "cores in use"


def step_cost(compiled: Compiled) -> dict[str, Any] | None:
    """Return what a step takes; None where nothing was mapped.

    Keys: ``dt`` (s), ``rates_known`` (else one spike a neuron and step), ``energy`` and ``time``: each ``value`` (J, s; of the terms that
    are known), ``confidence`` (the least sure of the constants used; ``unknown`` without any), ``unknown`` (names of terms that count but
    have no constant) and ``terms``: ``name``, ``count``, ``constant`` (key of the machine file), ``value`` (J, s; None: unknown),
    ``confidence``, ``part_of`` (the term that holds it, where the machine file states power of whole cores instead of energy of events).

    Energy is the sum of its terms. Time is the largest of the busiest core's events, the busiest core's neurons and the busiest link,
    which run beside each other (events and neurons are one term where a target counts the time of its own code, ``core_seconds``), plus
    what every step takes (``cost.step_time``); not less than the software's shortest step.
    """
    mapping, machine, problem = compiled.mapping, compiled.machine, compiled.problem
    if mapping is None or machine is None or problem is None:
        return None
    events = _events(compiled, problem.rates, problem.n_neurons)
    own = compiled.lowered.core_seconds(problem.rates, mapping.partition.part, mapping.partition.n_parts)
    energy, time = _energy(compiled, mapping, machine, *events), _time(mapping, machine, own, *events)
    return {
        "dt": compiled.network.dt,
        "rates_known": problem.rate is not None,
        "energy": _total(energy, sum(_known(t) for t in energy)),
        "time": _total(
            time,
            max(
                max(_known(t) for t in time if t["name"] in _BESIDE) + sum(_known(t) for t in time if t["name"] == _EVERY),
                sum(_known(t) for t in time if t["name"] == _SHORTEST),
            ),
        ),
    }


def _energy(
    compiled: Compiled, mapping: CoreMapping, machine: Machine, static: FloatArray, plastic: FloatArray, changes: FloatArray
) -> list[dict[str, Any]]:
    inside = ~mapping.partition.external
    dt = compiled.network.dt
    cores = int(mapping.placement.width[inside].sum())
    chips = len(np.unique(mapping.placement.chip[inside]))
    busy = machine.has("core.active_power")
    part_of = _BUSY if busy else None
    terms = [_term(machine, _EVENTS, float((static + plastic).sum()), "cost.synop_energy", part_of=part_of)]
    if changes.any():
        terms.append(_term(machine, "changes of plastic synapses", float(changes.sum()), "cost.plastic_synop_energy", part_of=part_of))
    updated, problem = inside[mapping.partition.part], compiled.problem
    if problem is not None and problem.repeats is not None:
        updated = updated & (problem.repeats < 0)  # who repeats spikes only sends
    terms += [
        _term(machine, _UPDATES, float(updated.sum()), "cost.neuron_energy", part_of=part_of),
        _term(machine, "packets x links between chips", float(mapping.traffic["hops_per_step"]), "cost.hop_energy"),  # type: ignore[arg-type]
        _term(machine, "chips in use", float(chips), "chip.idle_power", scale=dt),
    ]
    return [*terms, _term(machine, _BUSY, float(cores), "core.active_power", scale=dt)] if busy else terms


_BESIDE = (
    "synaptic events of the busiest core",
    "neuron updates of the busiest core",
    "packets of the busiest link",
    "events and updates of the busiest core",
)
_EVERY, _SHORTEST = "what every step takes", "shortest step"


def _time(
    mapping: CoreMapping,
    machine: Machine,
    own: tuple[FloatArray, str] | None,
    static: FloatArray,
    plastic: FloatArray,
    changes: FloatArray,
) -> list[dict[str, Any]]:
    part, n_parts = mapping.partition.part, mapping.partition.n_parts
    inside = ~mapping.partition.external
    # A part with helper cores shares its events among them.
    share = np.maximum(mapping.placement.width - 1, 1)
    of_static, of_plastic, of_changes = (
        np.bincount(part, counts, n_parts)[inside] / share[inside] for counts in (static, plastic, changes)
    )
    if own is None:
        n_neurons = float(np.bincount(part, minlength=n_parts)[inside].max(initial=0))
        cores = [_core_events(machine, of_static, of_plastic, of_changes), _term(machine, _BESIDE[1], n_neurons, "cost.neuron_time")]
    else:
        seconds, key = own
        cores = [_own_code(machine, of_static + of_plastic, seconds[inside] / share[inside], key)]
    link = "link.packets_per_second" if machine.has("link.packets_per_second") else "link.spikes_per_second"
    load = mapping.traffic["link_load"]
    assert isinstance(load, dict)
    terms = [
        *cores,
        _term(machine, _BESIDE[2], float(load["max"]), link, per=True),
        _term(machine, _EVERY, 1.0, "cost.step_time"),
    ]
    if machine.has("limits.min_timestep"):
        terms.append(_term(machine, _SHORTEST, 1.0, "limits.min_timestep"))
    return terms


def _core_events(machine: Machine, static: FloatArray, plastic: FloatArray, changes: FloatArray) -> dict[str, Any]:
    """The term of the core whose events take longest: a plastic event takes its own time instead of a static one's where the machine file
    states how many a core gets through, and time of its own in addition where it states the time of a change."""
    rate, plastic_rate = machine.quantities.get("core.synaptic_events_per_second"), machine.quantities.get("core.plastic_events_per_second")
    each, change = machine.quantities.get("cost.synop_time"), machine.quantities.get("cost.plastic_synop_time")
    if each is not None:
        key, used = "cost.synop_time", [each, *([change] if change is not None and changes.any() else [])]
        seconds = (static + plastic) * each.value + changes * (change.value if change is not None else 0.0)
    elif rate is not None:
        key, used = "core.synaptic_events_per_second", [rate, *([plastic_rate] if plastic_rate is not None and plastic.any() else [])]
        seconds = static / rate.value + plastic / (rate if plastic_rate is None else plastic_rate).value
    else:
        return _term(machine, _BESIDE[0], float((static + plastic).max(initial=0.0)), "cost.synop_time")
    busiest = int(np.argmax(seconds)) if len(seconds) else None
    return {
        "name": _BESIDE[0],
        "count": 0.0 if busiest is None else float((static + plastic)[busiest]),
        "constant": key,
        "value": 0.0 if busiest is None else float(seconds[busiest]),
        "confidence": _weakest([q.confidence for q in used]),
        "part_of": None,
    }


def _own_code(machine: Machine, events: FloatArray, seconds: FloatArray, key: str) -> dict[str, Any]:
    """The term of the core that takes longest where the target counts the time of its own code; count: events."""
    busiest = int(np.argmax(seconds)) if len(seconds) else None
    return {
        "name": _BESIDE[3],
        "count": 0.0 if busiest is None else float(events[busiest]),
        "constant": key,
        "value": 0.0 if busiest is None else float(seconds[busiest]),
        "confidence": machine.quantity(key).confidence,
        "part_of": None,
    }


def _term(
    machine: Machine, name: str, count: float, key: str, *, scale: float = 1.0, per: bool = False, part_of: str | None = None
) -> dict[str, Any]:
    """count x constant x scale (``per``: count / constant)."""
    quantity = machine.quantities.get(key)
    value = None if quantity is None else count / quantity.value if per else count * quantity.value * scale
    return {
        "name": name,
        "count": count,
        "constant": key,
        "value": value,
        "confidence": "unknown" if quantity is None else quantity.confidence,
        "part_of": part_of if quantity is None else None,
    }


def _known(term: dict[str, Any]) -> float:
    return float(term["value"] or 0.0)


def _total(terms: list[dict[str, Any]], value: float) -> dict[str, Any]:
    unknown = [t["name"] for t in terms if t["value"] is None and t["part_of"] is None and t["count"]]
    return {
        "value": value,
        "confidence": _weakest([t["confidence"] for t in terms if t["value"]]),
        "unknown": unknown,
        "terms": terms,
    }


def _weakest(confidences: list[str]) -> str:
    return min(confidences, key=_SURENESS.index, default="unknown")


def _events(compiled: Compiled, rates: FloatArray, n_neurons: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Synaptic events of each neuron per step, over static and over plastic synapses, and changes of its plastic synapses; neurons that
    the target added have none."""
    network = compiled.network
    static, plastic, changes = np.zeros(n_neurons), np.zeros(n_neurons), np.zeros(n_neurons)
    for projection in network.synaptic_projections:
        synapses, pre, post = compiled.connections[projection.name], network.offsets[projection.pre], network.offsets[projection.post]
        learns = projection.learning is not None
        _add((plastic if learns else static)[post:], synapses.post, synapses.pre, rates[pre:])
        if learns:
            size, each = network.population(projection.post).size, compiled.lowered.changes_per_step.get(projection.name)
            if each is None:
                _add(changes[post:], synapses.post, synapses.pre, rates[pre:])
            else:
                changes[post : post + size] += each * np.bincount(synapses.post, minlength=size)
    return static, plastic, changes


@numba.njit(cache=True, nogil=True)
def _add(events: FloatArray, post: Int32Array, pre: Int32Array, rates: npt.NDArray[np.float64]) -> None:
    for i in range(len(post)):
        events[post[i]] += rates[pre[i]]


__all__ = ["step_cost"]
