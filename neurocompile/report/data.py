"""The report as data: JSON-ready, the same for report.json, the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.ir.learning import RSTDP, STDP, EProp
from neurocompile.report.cost import step_cost

if TYPE_CHECKING:
    from neurocompile.ir.realise import Connections
    from neurocompile.machine import Machine
    from neurocompile.mapping.types import Mapping as CoreMapping
    from neurocompile.pipeline import Compiled

RULE_NAMES = {EProp: "eprop", STDP: "stdp", RSTDP: "r_stdp"}

NEVER_A_BOTTLENECK = frozenset({"label", "chip"})
"""Units of usage rows that say how a core or machine is divided, not how full it is: a core that runs one population has one label of
one, a board of one chip has one chip of one."""

_ROUNDING: Mapping[str, tuple[str, ...]] = {
    "step": ("membrane_units_per_weight_unit", "resolution"),
    "max_abs_error": ("max_abs_error", "max_error"),
    "rms_relative_error": ("rms_relative_error", "relative_rms_error"),
    "rounded_to_zero": ("rounded_to_zero",),
    "clipped": ("clipped",),
}
"""Column of the report -> the keys under which targets give it in their summary (``projections`` or ``weight_rounding``)."""


def build_report(compiled: Compiled, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of a compiled network.

    Keys: ``name``, ``target``, ``machine`` (None without cores), ``network`` (counts, populations, projections), ``usage`` (one row a
    resource: used by the worst core, available, unit, confidence), ``bottleneck`` (the fullest of them), ``placement`` (one row a
    population), ``chips``, ``routing``, ``partition`` (cores and traffic beside the lower bound and sequential fill), ``cost`` (of a step),
    ``approximations``, ``notes``, ``details`` (the target's), ``provenance`` (as in the manifest).
    """
    network, machine, mapping = compiled.network, compiled.machine, compiled.mapping
    plastic = {p.name: p.learning for p in network.synaptic_projections if p.learning is not None}
    sizes = {name: len(c.pre) for name, c in compiled.connections.items()}
    details = _plain(compiled.lowered.summary)
    report: dict[str, Any] = {
        "format_version": "1.0",
        "name": network.name,
        "target": compiled.target.name,
        "title": compiled.target.title,
        "trained_weights": compiled.trained,
        "network": {
            "dt": network.dt,
            "seed": network.seed,
            "n_neurons": network.n_neurons,
            "n_synapses": sum(sizes.values()),
            "n_plastic_synapses": sum(sizes[name] for name in plastic),
            "populations": [{"name": p.name, "model": p.model.kind, "size": p.size} for p in network.populations],
            "projections": [
                {"name": p.name, "pre": p.pre, "post": p.post, "n_synapses": sizes[p.name], "learning": p.learning}
                | _synapses(compiled.connections[p.name])
                | {"rounding": _rounding(details, p.name)}
                for p in network.synaptic_projections
            ],
            "rules": {r.name: RULE_NAMES[type(r)] for r in network.rules},
        },
        "machine": None if machine is None else _machine(machine),
        "usage": [],
        "bottleneck": None,
        "placement": [],
        "chips": [],
        "partition": None,
        "cost": None,
        "approximations": [asdict(a) for a in compiled.lowered.approximations],
        "notes": list(network.notes),
        "details": details,
        "provenance": _plain(provenance),
    }
    if mapping is not None and machine is not None:
        report["usage"] = [_plain(row) for row in mapping.usage]
        report["bottleneck"] = bottleneck(report["usage"])
        report["placement"] = _placement(compiled, mapping)
        report["chips"] = _chips(compiled, mapping, machine)
        routes = mapping.routes
        report["routing"] = {
            "routes": len(routes),
            "exact": routes.exact,
            "hops": int(np.diff(routes.tree_start)[routes.tree].sum()),
            "table_entries": int(sum(len(t.key) for t in mapping.tables.tables.values())),
            "table_entries_before_minimisation": int(sum(mapping.tables.unminimised_entries.values())),
            "axons": len(mapping.tables.axons),
            **_plain(mapping.traffic),
        }
        report["partition"] = None if mapping.partition.quality is None else _plain(asdict(mapping.partition.quality))
        report["cost"] = _plain(step_cost(compiled))
    return report


def bottleneck(usage: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the row that is fullest in relation to its limit, with ``fill`` (0 .. 1); the first of equals; None if no row has a limit."""
    rows = [{**r, "fill": r["used"] / r["available"]} for r in usage if r["available"] and r["unit"] not in NEVER_A_BOTTLENECK]
    return max(rows, key=lambda r: float(r["fill"]), default=None)


def _synapses(c: Connections) -> dict[str, Any]:
    """Range of the weights and delays of a projection (None without synapses)."""
    if not len(c.pre):
        return {"weight_range": None, "delay_steps": None}
    return {
        "weight_range": [float(c.weight.min()), float(c.weight.max())],
        "delay_steps": [int(c.delay.min()), int(c.delay.max())],
    }


def _rounding(details: Mapping[str, Any], projection: str) -> dict[str, Any] | None:
    """What the target's number format does to the weights of a projection; None where it keeps them or does not say."""
    for section in ("projections", "weight_rounding"):
        row = (details.get(section) or {}).get(projection)
        if isinstance(row, dict):
            values = {column: next((row[k] for k in keys if k in row), None) for column, keys in _ROUNDING.items()}
            return values if any(v is not None for v in values.values()) else None
    return None


def _machine(machine: Machine) -> dict[str, Any]:
    confidence = {key: q.confidence for key, q in machine.quantities.items()}
    return {
        "name": machine.name,
        "family": machine.family,
        "title": machine.title,
        "chips": machine.n_chips,
        "cores": machine.n_cores,
        "grid": [machine.topology.width, machine.topology.height],
        "existing_chips": machine.topology.chips.tolist(),
        "guesses": sorted(key for key, c in confidence.items() if c == "guess"),
        "overrides": sorted(key for key, c in confidence.items() if c == "override"),
        "quantities": [
            {"name": key, "value": q.value, "unit": q.unit, "confidence": q.confidence, "source": q.source}
            for key, q in sorted(machine.quantities.items())
        ],
    }


def _placement(compiled: Compiled, mapping: CoreMapping) -> list[dict[str, Any]]:
    """One row per population of the lowered network: neurons, cores that hold some of them (shared cores count for each), chips."""
    problem = compiled.lowered.problem
    assert problem is not None
    rows = []
    for number, name in enumerate(problem.population_names):
        neurons = np.flatnonzero(problem.population == number)
        parts = np.unique(mapping.partition.part[neurons])
        inside = parts[~mapping.partition.external[parts]]
        rows.append(
            {
                "population": name,
                "neurons": len(neurons),
                "cores": int(mapping.placement.width[inside].sum()),
                "chips": len(np.unique(mapping.placement.chip[inside])),
            }
        )
    return rows


def _chips(compiled: Compiled, mapping: CoreMapping, machine: Machine) -> list[dict[str, Any]]:
    """One row per chip that holds neurons or router entries: place, cores, neurons by population, router entries, and the limits."""
    problem, topology = compiled.lowered.problem, machine.topology
    assert problem is not None
    part, placement, tables = mapping.partition.part, mapping.placement, mapping.tables.tables
    on_cores = ~mapping.partition.external[part]
    chip_of_neuron = np.where(on_cores, placement.chip[part], -1)
    inside = ~mapping.partition.external
    limit = int(machine.value("router.usable_entries")) if machine.routing == "multicast_tcam" else None
    rows = []
    for chip in sorted({*placement.chip[inside].tolist(), *tables}):
        x, y = topology.position(chip)
        counts = np.bincount(problem.population[chip_of_neuron == chip], minlength=len(problem.population_names))
        rows.append(
            {
                "chip": chip,
                "x": x,
                "y": y,
                "cores": int(placement.width[inside & (placement.chip == chip)].sum()),
                "cores_available": len(topology.usable_cores(chip)),
                "populations": {name: int(n) for name, n in zip(problem.population_names, counts, strict=True) if n},
                "table_entries": len(tables[chip].key) if chip in tables else 0,
                "table_entries_available": limit,
            }
        )
    return rows


def _plain(value: Any) -> Any:
    """Return the value with NumPy scalars, arrays and tuples as JSON types; non-finite numbers as None."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
