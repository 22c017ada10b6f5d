"""The building blocks of the file format's table (:mod:`neurocompile.ir.spec`): each kind of value can read a YAML node and can say
what it accepts as JSON Schema (draft-07). The reader and the schema therefore cannot disagree about keys.

Single values are here, what holds several is in
:mod:`neurocompile.ir.spec_sections`.

A kind's ``read`` never raises for bad input: it notes a finding in the :class:`Reading` and returns ``BAD``, so that all errors of a
file come out in one run. Ranges (``low``) stand here for the schema only; the dataclasses check them, and the tests hold both equal.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from neurocompile.ir._types import FloatArray
from neurocompile.ir.edge_files import ArrayFiles
from neurocompile.ir.errors import Diagnostic, InputError, did_you_mean
from neurocompile.ir.units import EXAMPLES, NUMBER, PLAIN_ALLOWED, UNITS, Dimension, parse_quantity, scale, unit_pattern, whole_steps
from neurocompile.ir.yaml_source import Node, ScalarNode, SequenceNode, Source

Schema = dict[str, Any]
Definitions = dict[str, Schema]


class _Bad:
    """The value of what could not be read; a finding says why."""

    def __repr__(self) -> str:
        return "BAD"


BAD: Final = _Bad()


class TooManyFindings(Exception):
    """Raised inside a reading that has met so many errors that going on would only cost time."""


_ENOUGH = 1000


class Reading:
    """State of one reading: the source, the findings so far, and what units the file uses."""

    def __init__(self, source: Source, base_dir: Path) -> None:
        self.source = source
        self.base_dir = base_dir
        self.files = ArrayFiles()
        self.findings: list[Diagnostic] = []
        self.notes: list[str] = []
        self.dt: float | None = None
        self.with_unit: list[Node] = []
        self.without_unit: list[tuple[Node, str]] = []
        self.defaulted: list[tuple[Node, str]] = []

    def fail(self, code: str, message: str, node: Node, help: str | None = None) -> _Bad:
        """Note a finding at a node."""
        if len(self.findings) >= _ENOUGH:
            raise TooManyFindings
        self.findings.append(Diagnostic(code=code, message=message, span=self.source.span(node), help=help))
        return BAD

    def adopt(self, error: InputError, node: Node, help: str | None = None) -> _Bad:
        """Note the findings of an error, at a node where they have no place of their own."""
        for found in error.diagnostics:
            message = found.message if found.file is None else f"{Path(found.file).name}: {found.message}"
            placed = Diagnostic(code=found.code, message=message, span=found.span or self.source.span(node), help=found.help or help)
            self.findings.append(placed)
        return BAD

    def membrane(self, node: Node, unit: str | None, values: float | FloatArray) -> None:
        """Remember whether a membrane quantity carries a unit; 0 and infinity are the same in every unit."""
        if unit is not None:
            self.with_unit.append(node)
        elif np.any(np.isfinite(values) & (np.asarray(values) != 0.0)):
            first = np.asarray(values, dtype=np.float64).ravel()
            self.without_unit.append((node, f"{first[np.isfinite(first) & (first != 0.0)][0]:g}"))


def describe(node: Node) -> str:
    """Return what a node is, for messages."""
    if isinstance(node, ScalarNode):
        kinds = {type(None): "nothing", bool: "a boolean", int: "a number", float: "a number", str: "a text"}
        return f"{kinds[type(node.value)]} ('{node.text[:60]}')" if node.value is not None else "nothing"
    return "a list" if isinstance(node, SequenceNode) else "a mapping"


class Kind:
    """Base of all kinds."""

    def read(self, node: Node, ctx: Reading) -> Any:
        """Return the value of a node, or BAD after noting a finding."""
        raise NotImplementedError

    def schema(self, definitions: Definitions) -> Schema:
        """Return the JSON Schema of what ``read`` accepts; named parts go into ``definitions``."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Text(Kind):
    """A text; ``what`` names it in messages."""

    what: str = "a text"

    def read(self, node: Node, ctx: Reading) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return node.value
        fix = f"put it in quotes: '{node.text}'" if isinstance(node, ScalarNode) and node.text else f"write {self.what}"
        return ctx.fail("NC110", f"expected {self.what}, got {describe(node)}", node, fix)

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 -- one signature for all kinds
        return {"type": "string"}


@dataclass(frozen=True, kw_only=True)
class Path_(Kind):
    """A path, relative to the description's folder; returns the absolute path. ``exists``: it must be a file."""

    exists: bool = True

    def read(self, node: Node, ctx: Reading) -> Any:
        text = Text(what="a path").read(node, ctx)
        if text is BAD:
            return BAD
        path = ctx.base_dir / text  # an absolute path stays what it is
        if not self.exists:
            return path
        try:
            if path.is_file():
                return path
            siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        except (OSError, ValueError):
            siblings = []
        near = did_you_mean(path.name, siblings) if siblings else None
        fix = near if near and near.startswith("did") else f"paths are relative to the folder of {Path(ctx.source.file).name}"
        return ctx.fail("NC105", f"file '{text}' does not exist", node, fix)

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 -- one signature for all kinds
        return {"type": "string"}


@dataclass(frozen=True, kw_only=True)
class Boolean(Kind):
    """true or false."""

    def read(self, node: Node, ctx: Reading) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, bool):
            return node.value
        return ctx.fail(
            "NC110", f"expected true or false, got {describe(node)}", node, "write true or false (YAML 1.2: yes and on are texts)"
        )

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 -- one signature for all kinds
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class Number(Kind):
    """A number without unit. ``low``, ``high``: range for the schema (``open_low``, ``open_high``: limit excluded)."""

    whole: bool = False
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def read(self, node: Node, ctx: Reading) -> Any:
        what = "a whole number" if self.whole else "a number"
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            code = "NC114" if isinstance(value, str) else "NC110"
            return ctx.fail(
                code, f"expected {what}, got {describe(node)}", node, f"write {what} such as {'10' if self.whole else '0.5 or 1e-5'}"
            )
        if self.whole:
            if isinstance(value, float) and not value.is_integer():
                return ctx.fail("NC114", f"expected a whole number, got {value:g}", node, "write a whole number such as 10")
            return int(value)
        try:
            value = float(value)
        except OverflowError:
            value = math.nan
        if math.isnan(value):
            return ctx.fail("NC114", f"expected a number, got {describe(node)}", node, "write a number such as 0.5 or 1e-5")
        return value

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 -- one signature for all kinds
        result: Schema = {"type": "integer" if self.whole else "number"}
        if self.low is not None:
            result["exclusiveMinimum" if self.open_low else "minimum"] = self.low
        if self.high is not None:
            result["exclusiveMaximum" if self.open_high else "maximum"] = self.high
        return result


@dataclass(frozen=True, kw_only=True)
class Quantity(Kind):
    """A number with a unit of ``dimension``; returns SI (see :mod:`neurocompile.ir.units` for what may stand without a unit)."""

    dimension: Dimension

    @property
    def plain_is_fine(self) -> bool:
        """Whether numbers may stand without a unit."""
        return self.dimension in PLAIN_ALLOWED

    def read(self, node: Node, ctx: Reading) -> Any:
        value = node.value if isinstance(node, ScalarNode) else None
        if value is None or isinstance(value, bool):
            return ctx.fail("NC110", f"expected a {self.dimension.value}, got {describe(node)}", node, self.example)
        try:
            quantity = parse_quantity(value, self.dimension)
        except InputError as error:
            return ctx.adopt(error, node)
        if self.plain_is_fine and self.dimension is not Dimension.NUMBER:
            ctx.membrane(node, quantity.unit, quantity.value)
        return quantity.value

    @property
    def example(self) -> str:
        """A way out for a wrong type."""
        return f"write for example {EXAMPLES[self.dimension]}"

    def convert(self, values: FloatArray, unit: str | None, node: Node, ctx: Reading) -> Any:
        """Return an array from a file in SI, or BAD where it needs a unit."""
        if unit is None and not self.plain_is_fine and np.any(np.isfinite(values) & (values != 0.0)):
            units = ", ".join(u for u in UNITS[self.dimension] if u.isascii())
            return ctx.fail("NC115", f"the values of this file are a {self.dimension.value} without unit", node, f"add `unit:` ({units})")
        if self.plain_is_fine and self.dimension is not Dimension.NUMBER:
            ctx.membrane(node, unit, values)
        return values if unit is None else scale(values, unit, self.dimension)

    def convert_log(self, mu: float, unit: str | None, node: Node, ctx: Reading) -> Any:
        """Return mu of a log-normal so that exp gives SI."""
        factor = self.convert(np.ones(1), unit, node, ctx)
        return BAD if factor is BAD else mu + math.log(float(factor[0]))

    def schema(self, definitions: Definitions) -> Schema:
        name = f"{self.dimension.name.lower()}_quantity"
        number: Schema = {"type": "number"}
        if not self.plain_is_fine:  # only 0 and infinity stand without unit
            number = {"type": "number", "anyOf": [{"const": 0}, {"minimum": 1.0e308}, {"maximum": -1.0e308}]}
        text = {"type": "string", "pattern": unit_pattern(self.dimension)}
        if self.plain_is_fine:
            united = f"{unit_pattern(self.dimension)}|" if UNITS[self.dimension] else ""
            text["pattern"] = rf"{united}^\s*{NUMBER}\s*$"
        definitions[name] = {"description": f"A {self.dimension.value}, for example {EXAMPLES[self.dimension]}", "anyOf": [number, text]}
        return {"$ref": f"#/definitions/{name}"}


_STEPS = re.compile(r"\s*([-+]?[0-9]{1,18})\s*steps?\s*")


@dataclass(frozen=True, kw_only=True)
class Steps(Kind):
    """A duration counted in steps: a plain whole number (or ``3 steps``) is steps, a time must be a whole number of dt.

    ``exact`` = False: times need not fall on steps (means and widths of distributions, which are rounded when drawn).
    """

    exact: bool = True
    as_int: bool = False

    def read(self, node: Node, ctx: Reading) -> Any:
        value = node.value if isinstance(node, ScalarNode) else None
        if value is None or isinstance(value, bool):
            return ctx.fail(
                "NC110", f"expected a time or a number of steps, got {describe(node)}", node, "write for example 1 ms, or 1 (step)"
            )
        if isinstance(value, int | float):
            return self._plain(value, node, ctx)
        if match := _STEPS.fullmatch(value):
            return self._plain(int(match.group(1)), node, ctx)
        try:
            time = parse_quantity(value, Dimension.TIME).value
        except InputError as error:
            return ctx.adopt(error, node, "write for example 1 ms, or 1 (step)")
        return self._steps(time, node, ctx)

    def _plain(self, value: float, node: Node, ctx: Reading) -> Any:
        try:
            number = float(value)
        except OverflowError:
            number = math.nan
        if not math.isfinite(number) or (self.exact and not number.is_integer()):
            return ctx.fail("NC118", f"{number:g} is not a whole number of steps", node, "write a time with its unit, or whole steps")
        return int(number) if self.as_int else number

    def _steps(self, time: float, node: Node, ctx: Reading) -> Any:
        if ctx.dt is None:
            return BAD  # dt itself is wrong, which is reported
        if not self.exact:
            return time / ctx.dt
        steps = whole_steps(time, ctx.dt)
        if steps is None:
            dt, ratio = ctx.dt, time / ctx.dt
            near = max(1, math.floor(ratio)) * dt if math.isfinite(ratio) else dt
            fix = f"use a multiple of dt, such as {near * 1e3:g} ms, or another dt"
            return ctx.fail("NC118", f"{time * 1e3:.9g} ms is {ratio:.9g} steps of dt = {dt * 1e3:g} ms, not a whole number", node, fix)
        return steps if self.as_int else float(steps)

    def convert(self, values: FloatArray, unit: str | None, node: Node, ctx: Reading) -> Any:
        """Return an array from a file in steps."""
        if unit is not None:
            if ctx.dt is None:
                return BAD
            values = scale(values, unit, Dimension.TIME) / ctx.dt
            values = np.where(np.abs(values - np.round(values)) <= 1e-9 * np.maximum(1.0, np.abs(values)), np.round(values), values)
        wrong = values != np.round(values)
        if self.exact and np.any(wrong):
            bad = int(np.argmax(wrong))
            return ctx.fail(
                "NC118", f"value {bad} is {values[bad]:.9g} steps, not a whole number", node, "use multiples of dt, or whole steps"
            )
        return values

    def convert_log(self, mu: float, unit: str | None, node: Node, ctx: Reading) -> Any:  # noqa: ARG002 -- one signature for all kinds
        """Return mu of a log-normal so that exp gives steps."""
        if unit is None:
            return mu
        return BAD if ctx.dt is None else mu + math.log(float(scale(np.ones(1), unit, Dimension.TIME)[0]) / ctx.dt)

    def schema(self, definitions: Definitions) -> Schema:
        pattern = rf"{unit_pattern(Dimension.TIME)}|^\s*[-+]?[0-9]+\s*steps?\s*$"
        number = {"type": "integer" if self.exact else "number"}
        name = "steps" if self.exact else "about_steps"
        definitions[name] = {
            "description": "A time with its unit that is a whole number of dt, or a plain number of steps",
            "anyOf": [number, {"type": "string", "pattern": pattern}],
        }
        return {"$ref": f"#/definitions/{name}"}


@dataclass(frozen=True, kw_only=True)
class Choice(Kind):
    """One word of several; returns ``values[word]``."""

    values: dict[str, Any]
    what: str

    def read(self, node: Node, ctx: Reading) -> Any:
        text = node.text if isinstance(node, ScalarNode) else None
        if text is not None and text in self.values:
            return self.values[text]
        if text is None:
            return ctx.fail("NC110", f"expected {self.what}, got {describe(node)}", node, did_you_mean("", self.values))
        return ctx.fail("NC111", f"unknown {self.what} '{text[:60]}'", node, did_you_mean(text[:60], self.values))

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 -- one signature for all kinds
        return {"enum": list(self.values)}


@dataclass(frozen=True, kw_only=True)
class List(Kind):
    """A list of ``length`` (None: any) items of one kind."""

    item: Kind
    length: int | None = None
    what: str = "a list"

    def read(self, node: Node, ctx: Reading) -> Any:
        if not isinstance(node, SequenceNode):
            return ctx.fail("NC110", f"expected {self.what}, got {describe(node)}", node, f"write {self.what} in [ ]")
        if self.length is not None and len(node.items) != self.length:
            return ctx.fail("NC202", f"expected {self.what}, got {len(node.items)} values", node, f"write {self.length} values in [ ]")
        items = [self.item.read(n, ctx) for n in node.items]
        return BAD if any(i is BAD for i in items) else items

    def schema(self, definitions: Definitions) -> Schema:
        result: Schema = {"type": "array", "items": self.item.schema(definitions)}
        if self.length is not None:
            result |= {"minItems": self.length, "maxItems": self.length}
        return result
