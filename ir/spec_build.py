"""From read sections to the network's dataclasses: findings of their own verification get the place of the key they are about."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np

from neurocompile.ir._types import FloatArray
from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.edge_files import positions_from_array
from neurocompile.ir.errors import Diagnostic, InputError
from neurocompile.ir.feedback import AdaptiveFeedback, ExplicitFeedback, RandomFeedback
from neurocompile.ir.spec_sections import Field, Parsed, Section, Tagged
from neurocompile.ir.spec_types import (
    BAD,
    Choice,
    Definitions,
    Kind,
    List,
    Number,
    Path_,
    Quantity,
    Reading,
    Schema,
    Steps,
    Text,
    describe,
)
from neurocompile.ir.units import UNITS, Dimension
from neurocompile.ir.values import Constant, LogNormal, Normal, Uniform, Values
from neurocompile.ir.yaml_source import MappingNode, Node, ScalarNode, SequenceNode

MAX_READER_ARRAY = 50_000_000
"""Values of an array that the reader itself makes (drawn parameters, grids): 400 MB, more neurons than any machine file offers."""


def construct(cls: type[Any], parsed: Parsed, ctx: Reading, **values: Any) -> Any:
    """Return ``cls(**parsed.values, **values)``, or BAD after placing its findings.

    An incomplete section is tried as well, with 1.0 for required fields that are missing or bad, so that findings about the others
    appear in the same run; the result is BAD then.
    """
    arguments = parsed.values | values
    stand_ins: set[str] = set()
    if not parsed.complete:
        for entry in fields(cls):
            if entry.init and entry.name not in arguments and entry.default is MISSING and entry.default_factory is MISSING:
                arguments[entry.name] = 1.0
                stand_ins.add(entry.name)
    try:
        result = cls(**arguments)
    except InputError as error:
        for found in error.diagnostics:
            names = [str(f) for f in found.field]
            if stand_ins.isdisjoint(names):
                ctx.findings.append(place(found, parsed, ctx))
        return BAD
    except (TypeError, ValueError, OverflowError):
        if parsed.complete:
            raise
        return BAD
    return result if parsed.complete else BAD


def place(found: Diagnostic, parsed: Parsed, ctx: Reading) -> Diagnostic:
    """Return a finding with the place of the field it is about, and that field's description as help if it has none."""
    names = [str(f) for f in found.field]
    node = parsed.at(*reversed(names))
    entry = next((f for f in parsed.section.fields if f.name in names), None)
    fix = found.help or (f"{entry.key}: {entry.doc}" if entry else f"see {parsed.section.name} in docs/yaml.md")
    return replace(found, help=fix).at(ctx.source.span(node))


def maker(cls: type[Any], **fixed: Any) -> Any:
    """Return a section's ``build`` that constructs ``cls``."""

    def build(parsed: Parsed, ctx: Reading) -> Any:
        return construct(cls, parsed, ctx, **fixed)

    return build


# --- values of many synapses or neurons ------------------------------------------------------------------------------------
def _unit_field(inner: Kind) -> tuple[Field, ...]:
    dimension = inner.dimension if isinstance(inner, Quantity) else Dimension.TIME
    units = Choice(values={u: u for u in UNITS[dimension]}, what="unit")
    return (Field(key="unit", kind=units, doc="Unit of the numbers."),) if units.values else ()


def _distributions(inner: Quantity | Steps) -> dict[str, Kind]:
    loose = Steps(exact=False) if isinstance(inner, Steps) else inner

    def log_normal(parsed: Parsed, ctx: Reading) -> Any:
        unit = parsed.values.pop("unit", None)
        if parsed.complete:
            mu = inner.convert_log(parsed.values["mu"], unit, parsed.node, ctx)
            if mu is BAD:
                return BAD
            parsed.values["mu"] = mu
        return construct(LogNormal, parsed, ctx)

    number = Number()
    return {
        "normal": Section(
            name="normal",
            doc="Normal distribution.",
            positional=True,
            build=maker(Normal),
            fields=(
                Field(key="mean", kind=loose, doc="Mean.", required=True),
                Field(key="std", kind=loose, doc="Standard deviation, >= 0.", required=True),
            ),
        ),
        "uniform": Section(
            name="uniform",
            doc="Uniform distribution on [low, high); for delays the whole steps low .. high, both included.",
            positional=True,
            build=maker(Uniform),
            fields=(
                Field(key="low", kind=inner, doc="Lower end.", required=True),
                Field(key="high", kind=inner, doc="Upper end, >= low.", required=True),
            ),
        ),
        "lognormal": Section(
            name="lognormal",
            doc="exp of a normal distribution, times `unit`.",
            positional=True,
            build=log_normal,
            fields=(
                Field(key="mu", kind=number, doc="Mean of the logarithm.", required=True),
                Field(key="sigma", kind=Number(low=0), doc="Standard deviation of the logarithm, >= 0.", required=True),
                *_unit_field(inner),
            ),
        ),
    }


def _array_file(inner: Quantity | Steps) -> Section:
    def build(parsed: Parsed, ctx: Reading) -> Any:
        if not parsed.complete:
            return BAD
        node = parsed.at("file")
        try:
            array = ctx.files.array(parsed.values["file"], parsed.values.get("key"))
        except InputError as error:
            return ctx.adopt(error, node, "see 'files' in docs/yaml.md")
        if array.ndim != 1:
            return ctx.fail("NC202", f"the array has shape {array.shape}, must be 1-D", node, "save one number per neuron or synapse")
        return inner.convert(array, parsed.values.get("unit"), node, ctx)

    return Section(
        name="file",
        doc="A 1-D array of an .npz file (`key`: which), or a column of a CSV file.",
        build=build,
        fields=(
            Field(key="file", kind=Path_(), doc="Path, relative to this file.", required=True),
            Field(key="key", kind=Text(what="the name of an array"), doc="Name of the array; optional if the file holds one."),
            *_unit_field(inner),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ManyValues(Kind):
    """A number, a list, a distribution or an array file. Returns a ``ValueSpec`` (``wrap``), else a float, an array or a distribution."""

    inner: Quantity | Steps
    wrap: bool

    def read(self, node: Node, ctx: Reading) -> Any:
        if isinstance(node, MappingNode):
            value = self._tagged().read(node, ctx)
        elif isinstance(node, SequenceNode):
            items = List(item=self.inner).read(node, ctx)
            value = BAD if items is BAD else np.array(items, dtype=np.float64)
        else:
            value = self.inner.read(node, ctx)
        if value is BAD or not self.wrap:
            return value
        try:
            if isinstance(value, np.ndarray):
                return Values(values=value)
            return Constant(value=value) if isinstance(value, float) else value
        except InputError as error:
            return ctx.adopt(error, node, "give finite numbers")

    def _tagged(self) -> Tagged:
        return Tagged(what="distribution", choices=_distributions(self.inner), file=_array_file(self.inner))

    def schema(self, definitions: Definitions) -> Schema:
        single = self.inner.schema(definitions)
        name = f"values_of_{single['$ref'].rsplit('/', 1)[1]}"
        if name not in definitions:
            forms = [single, {"type": "array", "items": single}, *self._tagged().schema(definitions)["anyOf"]]
            definitions[name] = {"description": "One number, a list, a distribution, or an array from a file.", "anyOf": forms}
        return {"$ref": f"#/definitions/{name}"}


@dataclass(frozen=True, kw_only=True)
class RandomWeights(Kind):
    """``random: SPEC`` or ``adaptive: SPEC`` of a feedback: a number or a distribution (a list would have no order to follow)."""

    spec: ManyValues
    build: type[RandomFeedback] | type[AdaptiveFeedback] = RandomFeedback
    doc: str = ""

    def read(self, node: Node, ctx: Reading) -> Any:
        value = self.spec.read(node, ctx)
        if isinstance(value, Values):
            return ctx.fail(
                "NC110", "feedback weights are drawn, not listed", node, "use {normal: [0, 1]}, or feedback: {file: feedback.npz}"
            )
        return BAD if value is BAD else self.build(weight=value)

    def schema(self, definitions: Definitions) -> Schema:
        single = self.spec.inner.schema(definitions)
        forms = Tagged(what="distribution", choices=_distributions(self.spec.inner)).schema(definitions)["anyOf"]
        return {"anyOf": [single, *forms]}


def draw(value: Any, n: int, seed: int, population: str, parameter: str) -> Any:
    """Return a parameter with distributions drawn: the same (seed, population, parameter) gives the same numbers (Philox)."""
    if not isinstance(value, Normal | Uniform | LogNormal):
        return value
    key = hashlib.sha256(f"{seed}/{population}/{parameter}".encode()).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
    if isinstance(value, Normal):
        return random.normal(value.mean, value.std, n)
    if isinstance(value, Uniform):
        return value.low + (value.high - value.low) * random.random(n)
    return random.lognormal(value.mu, value.sigma, n)


# --- connectivity ----------------------------------------------------------------------------------------------------------
def _edges(parsed: Parsed, ctx: Reading) -> Any:
    if not parsed.complete:
        return BAD
    node = parsed.at("file")
    try:
        return ctx.files.edges(parsed.values["file"])
    except InputError as error:
        return ctx.adopt(error, node, "see 'files' in docs/yaml.md")


def build_edge_file(parsed: Parsed, ctx: Reading) -> Any:
    """``connect: {file: ..., unit: ...}`` -> Explicit; weights with ``unit`` become volts."""
    edges = _edges(parsed, ctx)
    if edges is BAD or edges.weight is None:
        return edges
    weight: FloatArray = Quantity(dimension=Dimension.MEMBRANE).convert(edges.weight, parsed.values.get("unit"), parsed.at("file"), ctx)
    return Explicit(pre=edges.pre, post=edges.post, weight=weight, delay=edges.delay, source=edges.source)


def build_feedback_file(parsed: Parsed, ctx: Reading) -> Any:
    """``feedback: {file: ...}`` -> ExplicitFeedback."""
    edges = _edges(parsed, ctx)
    if edges is BAD:
        return BAD
    try:
        return ExplicitFeedback(connections=edges)
    except InputError as error:
        return ctx.adopt(error, parsed.at("file"), "save pre (readout), post (hidden) and weight")


def build_distance(cls: type[Any]) -> Any:
    """Return the build of ``distance_dependent``: ``periodic`` becomes a tuple."""

    def build(parsed: Parsed, ctx: Reading) -> Any:
        periodic = parsed.values.get("periodic")
        if periodic is not None:
            if not all(p > 0 and math.isfinite(p) for p in periodic):
                return ctx.fail("NC201", "periodic: sizes of the torus must be > 0", parsed.at("periodic"), "give one size per dimension")
            parsed.values["periodic"] = tuple(periodic)
        return construct(cls, parsed, ctx)

    return build


# --- positions -------------------------------------------------------------------------------------------------------------
_GRID = Section(
    name="grid",
    doc="Neurons on a regular grid: neuron i = row * columns + column lies at (row, column) * spacing.",
    fields=(
        Field(
            key="grid",
            kind=List(item=Number(whole=True, low=1), what="[rows, columns]"),
            doc="Size in each of 1 to 3 dimensions.",
            required=True,
        ),
        Field(key="spacing", kind=Number(low=0, open_low=True), doc="Distance between neighbours.", default="1"),
    ),
)
_POSITION_FILE = Section(
    name="positions",
    doc="Positions (n, 1..3) from an .npz array or a CSV file.",
    fields=(
        Field(key="file", kind=Path_(), doc="Path, relative to this file.", required=True),
        Field(key="key", kind=Text(what="the name of an array"), doc="Name of the array; optional if the file holds one."),
    ),
)
_COORDINATES = List(item=Number(), what="a list of coordinates")


@dataclass(frozen=True, kw_only=True)
class Positions(Kind):
    """``{grid: [rows, columns], spacing: 1}``, ``{file: x.npz, key: k}`` or a list of numbers or coordinate lists; returns (n, d)."""

    def read(self, node: Node, ctx: Reading) -> Any:
        if isinstance(node, SequenceNode):
            return self._listed(node, ctx)
        if not isinstance(node, MappingNode):
            return ctx.fail(
                "NC110", f"expected positions, got {describe(node)}", node, "write {grid: [rows, columns]}, {file: ...} or a list"
            )
        section = _POSITION_FILE if "file" in node.keys() else _GRID  # noqa: SIM118 -- a node, not a dict
        parsed = section.read(node, ctx)
        if parsed is BAD or not parsed.complete:
            return BAD
        if section is _GRID:
            return self._grid(parsed, ctx)
        try:
            return positions_from_array(ctx.files.array(parsed.values["file"], parsed.values.get("key")))
        except InputError as error:
            return ctx.adopt(error, parsed.at("file"), "see 'files' in docs/yaml.md")

    def _listed(self, node: SequenceNode, ctx: Reading) -> Any:
        if node.items and isinstance(node.items[0], SequenceNode):
            rows = List(item=_COORDINATES).read(node, ctx)
            if rows is not BAD and len({len(r) for r in rows}) > 1:
                return ctx.fail("NC202", "positions have different numbers of coordinates", node, "give every neuron as many coordinates")
        else:
            rows = _COORDINATES.read(node, ctx)
        return BAD if rows is BAD else positions_from_array(rows)

    def _grid(self, parsed: Parsed, ctx: Reading) -> Any:
        shape, spacing = parsed.values["grid"], parsed.values.get("spacing", 1.0)
        if not 1 <= len(shape) <= 3 or min(shape) < 1:
            return ctx.fail("NC201", f"grid is {shape}, must be 1 to 3 sizes >= 1", parsed.at("grid"), "write grid: [rows, columns]")
        if not (spacing > 0 and math.isfinite(spacing)):
            return ctx.fail("NC201", f"spacing is {spacing:g}, must be > 0", parsed.at("spacing"), "give the distance between neighbours")
        if math.prod(shape) > MAX_READER_ARRAY:
            return ctx.fail(
                "NC201", f"grid has more than {MAX_READER_ARRAY} places", parsed.at("grid"), "its product is the population's size"
            )
        return np.stack(np.unravel_index(np.arange(math.prod(shape)), shape), axis=1) * spacing

    def schema(self, definitions: Definitions) -> Schema:
        number: Schema = {"type": "number"}
        forms = [_GRID.schema(definitions), _POSITION_FILE.schema(definitions)]
        numbers = {"type": "array", "items": number}  # of one dimension, or a list for each neuron: never both
        return {"anyOf": [*forms, numbers, {"type": "array", "items": numbers}]}


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with lists as tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def is_empty(node: Node) -> bool:
    """Whether nothing stands at a node."""
    return isinstance(node, ScalarNode) and node.value is None
