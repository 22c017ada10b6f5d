"""The tables of docs/yaml.md, made from the table of the file format.

``python -m neurocompile.ir.spec_docs docs/yaml.md`` rewrites them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from neurocompile.ir.spec import CONNECT, LOSS, MAPPING, POPULATION, PROJECTION, ROOT, RULE, TASK
from neurocompile.ir.spec_build import ManyValues, Positions, RandomWeights
from neurocompile.ir.spec_sections import AnyList, Field, NamedMap, Options, Section, Tagged
from neurocompile.ir.spec_types import Boolean, Choice, Kind, List, Number, Path_, Quantity, Steps

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


def type_name(kind: Kind) -> str:
    """Return what may stand for a kind, in a few words."""
    match kind:
        case ManyValues():
            return f"{type_name(kind.inner)}, list, distribution, file"
        case Quantity():
            return kind.dimension.value
        case Steps():
            return "time or steps"
        case Number():
            return "whole number" if kind.whole else "number"
        case Boolean():
            return "true, false"
        case Choice():
            return ", ".join(f"`{v}`" for v in kind.values)
        case Tagged():
            return ", ".join(f"`{v}`" for v in kind.names)
        case List():
            return f"[{type_name(kind.item)}, ...]"
        case Path_():
            return "path"
        case Positions():
            return "`grid`, `file`, list"
        case NamedMap():
            return f"name: {kind.what}"
        case AnyList():
            return f"list of {kind.what}s"
        case Section() | Options() | RandomWeights():
            return "mapping"
    return "text"


def _table(fields: tuple[Field, ...]) -> list[str]:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for entry in fields:
        default = "**required**" if entry.required else (f"`{entry.default}`" if entry.default else "")
        rows.append(f"| `{entry.key}` | {type_name(entry.kind)} | {default} | {entry.doc.replace('|', chr(92) + '|')} |")
    return rows


def _alternatives(title: str, kind: Tagged, level: str) -> list[str]:
    lines = [f"{level} {title}", ""]
    sections = [*kind.choices.values(), *([kind.file] if kind.file else [])]
    for name, section in zip(kind.names, sections, strict=True):
        lines += [f"**`{name}`**: {section.doc if isinstance(section, Section | RandomWeights) else 'see above.'}", ""]
        if isinstance(section, Section) and section.fields:
            lines += [*_table(section.fields), ""]
    return lines


def reference_markdown() -> str:
    """Return the reference of all keys as Markdown."""
    lines = ["### The file", "", *_table(ROOT.fields), "", "### Populations", ""]
    for name, section in POPULATION.sections.items():
        lines += [f"**`{name}`**: {section.doc}", ""]
        params = section.field("params")
        if params is not None and isinstance(params.kind, Section):
            lines += [*_table(params.kind.fields), ""]
    any_population = next(iter(POPULATION.sections.values()))
    lines += ["Beside `params`:", "", *_table(tuple(f for f in any_population.fields if f.key in {"size", "positions"})), ""]
    lines += ["### Projections", "", *_table(PROJECTION.fields), ""]
    lines += _alternatives("`connect`", CONNECT, "####")
    lines += ["### Learning", ""]
    for name, section in RULE.sections.items():
        lines += [f"**`rule: {name}`**: {section.doc}", "", *_table(tuple(f for f in section.fields if f.key != "rule")), ""]
    for entry in RULE.sections["eprop"].fields:
        if isinstance(entry.kind, Tagged):
            lines += _alternatives(f"`{entry.key}` of eprop", entry.kind, "####")
        elif isinstance(entry.kind, Section):
            lines += [f"#### `{entry.key}` of eprop", "", *_table(entry.kind.fields), ""]
    lines += ["### Task", "", *_table(TASK.fields), ""]
    lines += _alternatives("`loss` of the task", LOSS, "####")
    lines += ["### Mapping", "", *_table(MAPPING.fields)]
    return "\n".join(lines)


def updated(page: str) -> str:
    """Return a page with the part between the markers made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{reference_markdown()}\n{END}{tail}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(updated(Path(name).read_text(encoding="utf-8")), encoding="utf-8")
