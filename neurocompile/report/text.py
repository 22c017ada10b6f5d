"""The report for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def number(value: Any) -> str:
    """Return a number as people read it: whole numbers and those from 1000 on without decimals, others with four digits."""
    if value is None:
        return "-"
    if isinstance(value, float) and (not math.isfinite(value) or abs(value) >= 1e15):
        return f"{value:g}"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(share: float | None) -> str:
    """Return a share as a percentage; what is used a little does not show as unused, what is not quite full not as full."""
    if share is None:
        return "-"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def si(value: float | None, unit: str) -> str:
    """Return a number with a prefix of three powers of ten each: ``1.2 µJ``."""
    if value is None:
        return "unknown"
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    power = min(max(math.floor(math.log10(abs(value)) / 3 + 1e-9), -5), 3)
    return f"{value / 10.0 ** (3 * power):.3g} {_PREFIXES[power]}{unit}"


_PREFIXES = {-5: "f", -4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G"}


def times(value: float, other: float | None) -> str:
    """Return how many times ``other`` a value is."""
    return "-" if not other else f"{value / other:.3g} x"


def render_text(report: Mapping[str, Any]) -> list[Any]:
    """Return what to print, piece by piece (rich renderables)."""
    network, machine = report["network"], report["machine"]
    pieces: list[Any] = [
        Text(
            f"{report['name']} for {report['target']}"
            + (f" on {machine['name']} ({machine['title']})" if machine else "")
            + f": {network['n_neurons']:,} neurons, {network['n_synapses']:,} synapses, {network['n_plastic_synapses']:,} plastic"
        )
    ]
    if report["usage"]:
        table = Table(box=None, pad_edge=False, title="resources", title_justify="left", title_style="bold")
        for column in ("resource", "worst", "available", "fill", "unit", "limit is"):
            table.add_column(column, justify="right" if column in {"worst", "available", "fill"} else "left")
        for row in report["usage"]:
            fill = row["used"] / row["available"] if row.get("available") else None
            table.add_row(
                str(row["name"]),
                number(row["used"]),
                number(row.get("available")),
                percent(fill),
                str(row.get("unit", "")),
                str(row.get("confidence", "")),
            )
        pieces.append(table)
    if report["bottleneck"]:
        full = report["bottleneck"]
        where = f" on {full['worst']}" if full.get("worst") else ""
        pieces.append(Text(f"fullest: {full['name']}{where}, {percent(full['fill'])} (limit: {full['confidence']})"))
    pieces.extend(Text(line) for line in _partition(report.get("partition")))
    if report.get("routing"):
        routing = report["routing"]
        entries = f", {routing['table_entries']:,} table entries ({routing['table_entries_before_minimisation']:,} before minimisation)"
        sharing = routing["sharing"]
        stray = (
            "" if routing["exact"] else f"; {sharing['stray_deliveries']:,} deliveries in vain beside {sharing['deliveries']:,} needed ones"
        )
        pieces.append(Text(f"routing: {routing['routes']:,} routes, {routing['hops']:,} links{entries}{stray}"))
        pieces.extend(Text(line) for line in _traffic(routing))
    pieces.extend(Text(line) for line in _cost(report.get("cost")))
    if report["approximations"]:
        pieces.append(Text("approximations", style="bold"))
        for a in report["approximations"]:
            pieces.append(
                Text(f"  [{a['code']}] {a['where']}: {a['what']}; instead: {a['instead']}" + (f" ({a['effect']})" if a["effect"] else ""))
            )
    pieces.extend(Text(f"note: {note}") for note in [*report["details"].get("notes", ()), *report["notes"]])
    return pieces


def _partition(quality: Mapping[str, Any] | None) -> list[str]:
    if not quality:
        return []
    bounds = ", ".join(f"{name} {number(cores)}" for name, cores in quality["bounds"].items())
    per_step, once = number(quality["weighted_km1"]), number(quality["km1"])
    lines = [
        f"parts: {number(quality['cores'])}; no partition has fewer than {number(quality['lower_bound'])}, which "
        f"{quality['bound_by'] or 'nothing'} enforces (limit by limit: {bounds})",
        f"packets between parts: {per_step} a step, {once} when all spike once ({quality['algorithm']}); "
        + (
            "sequential fill finds no partition"
            if quality["sequential_cores"] is None
            else f"sequential fill: {number(quality['sequential_weighted_km1'])} and {number(quality['sequential_km1'])} "
            f"({times(quality['weighted_km1'], quality['sequential_weighted_km1'])}) with {number(quality['sequential_cores'])} parts"
        ),
    ]
    return lines + [f"note: partition: {note}" for note in quality["notes"]]


def _traffic(routing: Mapping[str, Any]) -> list[str]:
    load, fill = routing["link_load"], routing.get("table_fill")
    known = "" if routing["rates_known"] else " (rates are not known: every neuron once a step)"
    busiest = f" ({routing['busiest_link']})" if routing.get("busiest_link") else ""
    lines = [
        f"between chips: {number(routing['packets_per_step'])} packets, {number(routing['hops_per_step'])} packets x links a step{known}; "
        f"busiest link {number(load['max'])}{busiest}, mean {number(load['mean'])}"
    ]
    if fill:
        lines.append(f"router tables: fullest {number(fill['max'])} of {number(fill['limit'])} entries, mean {number(fill['mean'])}")
    return lines


def _cost(cost: Mapping[str, Any] | None) -> list[str]:
    if not cost:
        return []
    lines = []
    for what, unit in (("energy", "J"), ("time", "s")):
        found = cost[what]
        unknown = f"; not known and not in it: {', '.join(found['unknown'])}" if found["unknown"] else ""
        beside = f" for {si(cost['dt'], 's')}" if what == "time" else ""
        known = any(t["value"] is not None for t in found["terms"])
        all_spike = "" if cost["rates_known"] else "when every neuron spikes; "
        value = si(found["value"] if known else None, unit)
        lines.append(f"{what} of a step: {value}{beside} ({all_spike}constants: {found['confidence']}){unknown}")
    return lines
