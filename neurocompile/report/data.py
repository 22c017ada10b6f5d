"""The report as data: JSON-ready, the same for report.json, the page and the terminal."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.ir.learning import RSTDP, STDP, EProp

if TYPE_CHECKING:
    from neurocompile.pipeline import Compiled

RULE_NAMES = {EProp: "eprop", STDP: "stdp", RSTDP: "r_stdp"}


def build_report(compiled: Compiled) -> dict[str, Any]:
    """Return the report of a compiled network.

    Keys: ``name``, ``target``, ``machine`` (None without cores), ``network`` (counts, populations, projections), ``usage`` (one row a
    resource: used by the worst core, available, unit, confidence), ``chips``, ``approximations``, ``notes``, ``details`` (the target's).
    """
    network, machine, mapping = compiled.network, compiled.machine, compiled.mapping
    plastic = {p.name: p.learning for p in network.synaptic_projections if p.learning is not None}
    sizes = {name: len(c.pre) for name, c in compiled.connections.items()}
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
                for p in network.synaptic_projections
            ],
            "rules": {r.name: RULE_NAMES[type(r)] for r in network.rules},
        },
        "machine": None,
        "usage": [],
        "chips": [],
        "approximations": [asdict(a) for a in compiled.lowered.approximations],
        "notes": list(network.notes),
        "details": _plain(compiled.lowered.summary),
    }
    if machine is not None:
        guesses = sorted(key for key, q in machine.quantities.items() if q.confidence == "guess")
        overrides = sorted(key for key, q in machine.quantities.items() if q.confidence == "override")
        report["machine"] = {
            "name": machine.name,
            "family": machine.family,
            "title": machine.title,
            "guesses": guesses,
            "overrides": overrides,
        }
    if mapping is not None and machine is not None:
        report["usage"] = [_plain(row) for row in mapping.usage]
        report["chips"] = _chips(compiled)
        routes = mapping.routes
        report["routing"] = {
            "routes": len(routes.routes),
            "exact": routes.exact,
            "hops": int(sum(len(r.hops) for r in routes.routes)),
            "table_entries": int(sum(len(t.key) for t in mapping.tables.tables.values())),
            "table_entries_before_minimisation": int(sum(mapping.tables.unminimised_entries.values())),
            "axons": len(mapping.tables.axons),
        }
    return report


def _chips(compiled: Compiled) -> list[dict[str, Any]]:
    """One row per chip in use: number, cores taken, cores by population, router entries."""
    mapping, problem = compiled.mapping, compiled.lowered.problem
    if mapping is None or problem is None:
        return []
    parts = mapping.partition.part
    population_of_part = np.zeros(mapping.partition.n_parts, np.int64)
    population_of_part[parts] = problem.population
    rows = []
    inside = ~mapping.partition.external
    for chip in np.unique(mapping.placement.chip[inside]):
        here = np.flatnonzero(inside & (mapping.placement.chip == chip))
        names: dict[str, int] = {}
        for part in here:
            name = problem.population_names[int(population_of_part[part])]
            names[name] = names.get(name, 0) + int(mapping.placement.width[part])
        table = mapping.tables.tables.get(int(chip))
        rows.append(
            {
                "chip": int(chip),
                "cores": int(mapping.placement.width[here].sum()),
                "populations": names,
                "table_entries": 0 if table is None else len(table.key),
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
