"""What sPyNNaker would load for an emitted program, beside the integers that the twin makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neurocompile.backends.base import Check
from neurocompile.backends.spinnaker import accum
from neurocompile.backends.spinnaker.eprop.late import copies_of
from neurocompile.backends.spinnaker.eprop.ranges import ACCUMULATOR_BITS
from neurocompile.backends.spinnaker.eprop.rows import SWEEP
from neurocompile.backends.spinnaker.learning import Modulation, PlasticRule
from neurocompile.backends.spinnaker.twin.events import Table
from neurocompile.backends.spinnaker.twin.plastic import Rule, rule_numbers
from neurocompile.backends.spinnaker.twin.population import step_ms
from neurocompile.backends.spinnaker.twin.rows import words
from neurocompile.ir._types import IntArray
from neurocompile.ir.npz import AnyArray

_STEPS = ("timestep", "time_step", "timestep_ms", "time_step_ms")
"""What sPyNNaker's structures call the time step"""
_LOG_SLOTS, _SHIFTS = 4, 7
"""Words of the region for ring buffers: log2 of the delay slots, the shifts"""
Document = Mapping[str, Any]


def check_numbers(
    document: Document, arrays: Mapping[str, AnyArray], results: Mapping[str, AnyArray], mapping: Mapping[str, AnyArray]
) -> list[Check]:
    """Compare the integers of every population of neurons: parameters and states, weights onto it, ring buffers, its rule.

    document, arrays : network.json, network.npz; results, mapping : of ``run.py --virtual``.
    """
    checks = []
    for index, entry in enumerate(document["populations"]):
        if entry["cell"] != "source":
            wrong, counted = [], 0
            for what, expected, got in _numbers(index, entry, document, arrays, results, mapping):
                counted += np.size(expected)
                if got is None or np.shape(got) != np.shape(expected) or not np.array_equal(got, expected):
                    wrong.append(what)
            said = f"{counted} integers " + (f"other than the twin's: {', '.join(wrong)}" if wrong else "as in the twin")
            checks.append(Check(name=f"numbers of {entry['name']}", ok=not wrong, detail=said))
    return checks


def _values(spec: Any, arrays: Mapping[str, AnyArray]) -> AnyArray:
    return np.asarray(arrays[spec["array"]] if isinstance(spec, dict) else spec, np.float64)


def _numbers(
    index: int,
    entry: Document,
    document: Document,
    arrays: Mapping[str, AnyArray],
    results: Mapping[str, AnyArray],
    mapping: Mapping[str, AnyArray],
) -> Iterator[tuple[str, AnyArray, AnyArray | None]]:
    """Yield (what, the twin's integers, sPyNNaker's)."""
    if entry["cell"] == "eprop":
        yield from _eprop_numbers(index, entry, document, arrays, results, mapping)
        return
    dt_ms = step_ms(document["dt_ms"] / 1e3)
    wanted = {"v" if name == "v_init" else name: accum.encode(_values(spec, arrays)) for name, spec in entry["params"].items()}
    present = {key.split(":", 2)[2] for key in mapping if key.startswith(f"word:{index}:")}
    for name in sorted(present | set(wanted)):
        expected = accum.encode(dt_ms) if name in _STEPS else wanted.get(name, np.array(int(name == "n_steps_per_timestep")))
        yield name, np.broadcast_to(expected, (entry["size"],)), mapping.get(f"word:{index}:{name}")
    resolution = np.asarray(entry["weight_resolution"], np.float64)
    ring = mapping.get(f"region:{index}:SynapseParams", np.zeros(0, np.uint32))
    yield "shifts of weights", 15 + np.rint(np.log2(resolution)).astype(np.int64), ring[_SHIFTS : _SHIFTS + len(resolution)]
    longest, rule = 0, None
    scale = np.broadcast_to(_values(entry["weight_scale"], arrays), (entry["size"],))
    for projection in document["projections"]:
        if projection["post"] == entry["name"]:
            key = projection["key"]
            weight, post = arrays[f"weight:{key}"].astype(np.float64), arrays[f"post:{key}"]
            unit, own = np.where(weight < 0, resolution[1], resolution[0]), scale[post]
            got = results.get(f"weight:{projection['name']}")
            # Exact: sPyNNaker divides words by a power of two, run.py by the scale.
            loaded = None if got is None else np.where(np.isnan(got), -1.0, np.rint(np.abs(got * own) / unit))
            yield f"weights of {projection['name']}", words(weight, own, unit), loaded
            longest = max(longest, int(arrays[f"delay:{key}"].max(initial=0)))
            rule = projection["rule"].get("excitatory", rule)
    if rule is not None:
        gate = next((m for m in document["modulations"] if m["post"] == entry["name"]), None)
        made = rule_numbers(
            PlasticRule(post=entry["name"], **document["rules"][rule]), None if gate is None else Modulation(**gate), dt_ms
        )  # fmt: skip
        yield "rule", _rule_words(made, len(resolution)), mapping.get(f"region:{index}:synapseDynamicsParams")
        slots = 2 ** int(ring[_LOG_SLOTS]) if len(ring) > _LOG_SLOTS else 0
        yield "delay slots", np.array(True), np.array(slots > longest)


def _eprop_numbers(
    index: int,
    entry: Document,
    document: Document,
    arrays: Mapping[str, AnyArray],
    results: Mapping[str, AnyArray],
    mapping: Mapping[str, AnyArray],
) -> Iterator[tuple[str, AnyArray, AnyArray | None]]:
    """Yield the same for cores that learn by e-prop: the words of every core's neurons, the rule, weights with their fraction bits."""
    own, slots = entry["eprop"], np.arange(entry["size"]) if entry["slot"] is None else arrays[entry["slot"]["array"]]
    fixed = arrays[own["words"]["array"]].astype(np.int64)
    cell, feedback = arrays[own["cell"]["array"]], arrays[own["feedback"]["array"]]
    each = np.zeros((entry["n_slots"], len(feedback) + (0 if own["uniform"] else len(cell))), np.int64)
    if own["uniform"]:
        fixed = np.append(fixed, cell[:, 0])
    else:
        each[:, : len(cell)] = cell[:, 0]  # neurons that only fill up a slice
        each[slots, : len(cell)] = cell.T
    if len(feedback):
        each[slots, each.shape[1] - len(feedback) :] = feedback.T
    per_core = int(entry["neurons_per_core"] or entry["n_slots"])
    for first in range(0, entry["n_slots"], per_core):
        mine = each[first : first + per_core]
        got = mapping.get(f"neurons:{index}:{first}")
        yield f"neurons from {first}", np.concatenate([fixed, mine.ravel()]) % 2**32, got
    held = mapping.get(f"region:{index}:synapseDynamicsParams", np.zeros(0, np.uint32))
    plastic = [p for p in document["projections"] if p["post"] == entry["name"] and p["rule"]]
    if plastic:
        rule = np.append(arrays[own["rule"]["array"]], [own["low"], own["high"]]).astype(np.int64) % 2**32
        yield "rule", rule, held[: len(rule)]
    yield from _sent(index, entry, document, arrays, mapping, held.astype(np.int64))
    scale = np.broadcast_to(_values(entry["weight_scale"], arrays), (entry["size"],))
    unit = float(entry["weight_resolution"][0])
    for projection in (p for p in document["projections"] if p["post"] == entry["name"]):
        key = projection["key"]
        fraction = 2.0**ACCUMULATOR_BITS if projection["rule"] else 1.0
        factor = scale[arrays[f"post:{key}"]] / unit * fraction
        loaded = results.get(f"weight:{projection['name']}")
        weights = np.rint(arrays[f"weight:{key}"].astype(np.float64) * factor)
        yield f"weights of {projection['name']}", weights, None if loaded is None else np.rint(loaded * factor)


def _sent(
    index: int, entry: Document, document: Document, arrays: Mapping[str, AnyArray], mapping: Mapping[str, AnyArray], held: IntArray
) -> Iterator[tuple[str, AnyArray, AnyArray | None]]:
    """Yield the keys under which a core's spikes are sent, and those that its sweep passes, from the keys that were allocated.

    held : words of the synapses' region, whose last parts they are.
    """
    placements = np.asarray(mapping["placements"], np.int64)
    keys = np.concatenate([mapping["keys"], mapping["held"]], axis=1).astype(np.int64)
    head = len(arrays[entry["eprop"]["rule"]["array"]]) + 12
    n_targets, n_keys, n_sends = (int(held[head + back]) if len(held) >= head else 0 for back in (-9, -3, -1))
    own = keys[placements[keys[:, 0], 0] == index]
    waits = np.unique(own[:, 3])
    of_wait = [own[own[:, 3] == wait] for wait in waits]
    added = [
        np.unique(k[np.argsort(k[:, 0]), 1] - of_wait[0][np.argsort(of_wait[0][:, 0]), 1]) if len(k) == len(of_wait[0]) else np.arange(2)
        for k in of_wait
    ]
    yield "a key for each delay of all cores", np.ones(len(waits), np.int64), np.array([len(a) for a in added], np.int64)
    sends = np.array([(wait, a[0] % 2**32) for wait, a in zip(waits, added, strict=True)], np.int64).ravel()
    yield "how spikes are sent", sends, held[len(held) - 2 * n_sends :]
    begin = head + n_targets * entry["n_slots"]
    first, found = held[begin : begin + SWEEP + 1], held[begin + SWEEP + 1 : begin + SWEEP + 1 + n_keys]
    ticks = np.repeat(np.arange(SWEEP), np.diff(first)) if len(first) == SWEEP + 1 else np.zeros(0, np.int64)
    wanted = _swept(entry, document, arrays, placements, keys)
    yield "keys of the sweep", wanted[:, 1], found
    yield "ticks of the sweep", wanted[:, 0], ticks


def _swept(entry: Document, document: Document, arrays: Mapping[str, AnyArray], placements: IntArray, keys: IntArray) -> IntArray:
    """Return (tick, key) of all keys of plastic synapses onto a population, sorted: the tick is the source's number, whatever the delay."""
    number = {p["name"]: i for i, p in enumerate(document["populations"])}
    copies = {c.name: c for c in copies_of(document, arrays)}
    found: set[tuple[int, int]] = set()
    for sent, pre in ((s, p["pre"]) for p in document["projections"] if p["post"] == entry["name"] and p["rule"] for s in p["sent"]):
        by, copied = document["populations"][number[sent["by"]]], copies.get(sent["by"])
        place = np.arange(by["size"]) if by["slot"] is None else np.asarray(arrays[by["slot"]["array"]], np.int64)
        mine = np.arange(by["size"]) if copied is None else np.flatnonzero(copied.wait == sent["delay"] - 1)
        due = (mine if copied is None else copied.neuron[mine]) % SWEEP
        wait = sent["delay"] - 1 if sent["by"] == pre else 0
        for row, key, _mask, wait_of_key, colours in keys[placements[keys[:, 0], 0] == number[sent["by"]]].tolist():
            low, high = placements[row, 2:4]
            here = (place[mine] >= low) & (place[mine] <= high) & (wait_of_key == wait)
            found |= set(zip(due[here].tolist(), (key + (place[mine][here] - low << colours)).tolist(), strict=True))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _table_words(table: Table) -> IntArray:
    halves = np.concatenate([[len(table.values), table.shift], table.values]).astype(np.uint16)
    return halves.view(np.uint32).astype(np.int64)


def _rule_words(rule: Rule, receptors: int) -> IntArray:
    """Return a rule as the words of its region: no delay of post spikes, both tables, bounds and amplitudes of each receptor, the gate."""
    parts: list[Any] = [[0], _table_words(rule.tau_plus), _table_words(rule.tau_minus)]
    parts += [[rule.least, rule.most, rule.plus, rule.minus]] * receptors
    if rule.gate:
        parts += [[rule.gate, rule.ceiling, rule.floor], _table_words(rule.tau_c), _table_words(rule.tau_d)]
    words_: IntArray = np.concatenate(parts).astype(np.int64) % 2**32
    return words_
