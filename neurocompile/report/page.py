"""The report as one HTML page: no network access, no scripts, every user string escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from neurocompile.report.text import number


def render_html(report: Mapping[str, Any]) -> str:
    """Return the page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    text = resources.files("neurocompile.report").joinpath("templates/report.html.j2").read_text("utf-8")
    return environment.from_string(text).render(r=report, **_figures(report))


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    bars = []
    for row in report["usage"]:
        if not row.get("available"):
            continue
        fill = row["used"] / row["available"]
        bars.append({**row, "fill": fill, "width": round(min(fill, 1.0) * 100, 1)})
    bars.sort(key=lambda b: -b["fill"])
    most = max((c["cores"] for c in report["chips"]), default=1)
    chips = [{**c, "shade": round(0.15 + 0.75 * c["cores"] / most, 3)} for c in report["chips"]]
    return {"bars": bars, "worst": bars[0] if bars else None, "chips": chips[:400], "more_chips": max(len(chips) - 400, 0)}
