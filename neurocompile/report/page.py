"""The report as one HTML page: no network access, no scripts, every user string escaped, nothing said by colour alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from neurocompile.report.data import NEVER_A_BOTTLENECK
from neurocompile.report.text import number, percent, si, times

MAX_CHIPS = 200
"""Rows of the table of chips; larger machines show their fullest, report.json has all."""
NEARLY_FULL = 0.9
_CELL = 34
_UNBROKEN = re.compile(r"(\S*-&gt;\S*)")


def render_html(report: Mapping[str, Any]) -> str:
    """Return the page."""
    templates = resources.files("neurocompile.report").joinpath("templates")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: templates.joinpath(name).read_text("utf-8")),
    )
    environment.filters.update(number=number, percent=percent, si=si, times=times, names=_names, value=_value)
    environment.tests.update(table_of_rows=_is_table_of_rows)
    style = Markup(templates.joinpath("report.css").read_text("utf-8"))  # noqa: S704 - our own file
    return environment.get_template("report.html.j2").render(r=report, style=style, nearly_full=NEARLY_FULL, **_figures(report))


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    usage = [
        {**row, "fill": row["used"] / row["available"] if row["available"] else None, "judged": row["unit"] not in NEVER_A_BOTTLENECK}
        for row in report["usage"]
    ]
    usage.sort(key=lambda r: -(r["fill"] or 0.0))
    scopes = [(title, [r for r in usage if r["scope"] == scope]) for scope, title in _SCOPES]
    chips = sorted(report["chips"], key=lambda c: (-c["cores"], -c["table_entries"], c["chip"]))[:MAX_CHIPS]
    return {
        "scopes": [(title, rows) for title, rows in scopes if rows],
        "chips": sorted(chips, key=lambda c: int(c["chip"])),
        "more_chips": len(report["chips"]) - len(chips),
        "chip_map": _chip_map(report),
        "histograms": _histograms(report.get("routing") or {}),
    }


_SCOPES = (("core", "the fullest core"), ("chip", "the fullest chip"), ("machine", "the whole machine"))


def _chip_map(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Cells of the drawing of the machine, y upwards; None on machines of one chip."""
    machine = report["machine"]
    if machine is None or len(machine["existing_chips"]) < 2 or not report["chips"]:
        return None
    width, height = machine["grid"]
    used = {c["chip"]: c for c in report["chips"]}
    cells = []
    for chip in machine["existing_chips"]:
        row = used.get(chip)
        y, x = divmod(chip, width)
        cells.append(
            {
                "left": x * _CELL + 1,
                "top": (height - 1 - y) * _CELL + 1,
                "cores": row["cores"] if row else 0,
                "share": round(row["cores"] / row["cores_available"], 3) if row and row["cores_available"] else 0.0,
            }
        )
    return {"width": width * _CELL + 1, "height": height * _CELL + 1, "size": _CELL - 2, "cells": cells}


def _histograms(routing: Mapping[str, Any]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(caption, what is counted, rows from the fullest down) of the link loads and table lengths."""
    found = []
    for key, caption, what in (
        ("link_load", "Links by packets per step", "links"),
        ("table_fill", "Router tables by entries", "tables"),
    ):
        histogram = routing.get(key, {}).get("histogram", {"upto": [], "count": []})
        total = sum(histogram["count"])
        rows = [
            {"over": over, "upto": upto, "count": count, "share": count / total}
            for over, upto, count in zip([None, *histogram["upto"]], histogram["upto"], histogram["count"], strict=False)
            if total and count
        ]
        if rows:
            found.append((caption, what, rows[::-1]))
    return found


def _names(text: object) -> Markup:
    """Escape, and keep names such as a->b in one line."""
    return Markup(_UNBROKEN.sub(r'<span class="name">\1</span>', str(escape(str(text)))))  # noqa: S704 - escaped just before


def _value(value: object) -> str:
    """Return a scalar of a target's details as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) or value is None else str(value)


def _is_table_of_rows(value: object) -> bool:
    """Whether a mapping holds mappings of scalars, which read best as a table."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(row, Mapping) and not any(isinstance(v, Mapping | list) for v in row.values()) for row in value.values())
