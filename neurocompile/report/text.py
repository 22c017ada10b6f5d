"""The report for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def number(value: Any) -> str:
    """Return a number as people read it: whole numbers whole, others with four digits."""
    if value is None:
        return "-"
    if isinstance(value, float) and value != int(value):
        return f"{value:.4g}"
    return f"{int(value):,}"


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
                "-" if fill is None else f"{100 * fill:.1f} %",
                str(row.get("unit", "")),
                str(row.get("confidence", "")),
            )
        pieces.append(table)
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
