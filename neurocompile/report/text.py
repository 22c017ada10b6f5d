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
    if report.get("routing"):
        routing = report["routing"]
        entries = f", {routing['table_entries']:,} table entries ({routing['table_entries_before_minimisation']:,} before minimisation)"
        stray = "" if routing["exact"] else "; routed per core: some packets reach cores that drop them"
        pieces.append(Text(f"routing: {routing['routes']:,} routes, {routing['hops']:,} links{entries}{stray}"))
    if report["approximations"]:
        pieces.append(Text("approximations", style="bold"))
        for a in report["approximations"]:
            pieces.append(
                Text(f"  [{a['code']}] {a['where']}: {a['what']}; instead: {a['instead']}" + (f" ({a['effect']})" if a["effect"] else ""))
            )
    pieces.extend(Text(f"note: {note}") for note in report["notes"])
    return pieces
