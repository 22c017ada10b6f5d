"""Reading machine files: safe YAML with positions; all errors of a file in one run. The format is docs/machines.md."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import numpy as np
import yaml

from neurocompile.ir.errors import Diagnostic, InputError, SourceSpan, did_you_mean
from neurocompile.machine import CONFIDENCES, LINK_STEPS, ROUTING_KINDS, Machine, Quantity, Topology, quantity_need

LINK_NAMES = {
    "mesh": ("E", "N", "W", "S"),
    "hex": ("E", "NE", "N", "W", "SW", "S"),
    "hex_torus": ("E", "NE", "N", "W", "SW", "S"),
}
_TOP_KEYS = ("name", "family", "title", "topology", "routing", "quantities")
_FACT_KEYS = ("value", "unit", "source", "confidence")
_TOPOLOGY_KEYS = (
    "kind",
    "width",
    "height",
    "unit",
    "source",
    "confidence",
    "io_chip",
    "board",
    "cores",
    "reserved_cores",
    "dead_chips",
    "dead_links",
    "dead_cores",
)
_MAX_CHIPS = 1_000_000
_MAX_CORES = 10_000_000  # the verifier has an owner for every core
_MAX_TEXT = 1_000_000


class _Mark(Protocol):
    """A position in the text, as PyYAML's Python and C parsers give it; both count from 0."""

    line: int
    column: int


class _Reader:
    """Values out of YAML nodes; every complaint is collected with its position."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines = text.splitlines()
        self.found: list[Diagnostic] = []

    def span(self, mark: _Mark | None) -> SourceSpan | None:
        if mark is None:
            return None
        text = self.lines[mark.line] if mark.line < len(self.lines) else None
        return SourceSpan(file=self.file, line=mark.line + 1, column=mark.column + 1, text=text)

    def complain(self, code: str, message: str, node: yaml.Node, help: str | None = None) -> None:
        self.found.append(Diagnostic(code=code, message=message, span=self.span(node.start_mark), file=self.file, help=help))

    def mapping(
        self, node: yaml.Node | None, what: str, allowed: tuple[str, ...] | None, required: tuple[str, ...] = ()
    ) -> dict[str, yaml.Node]:
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.complain("NC153", f"{what} must be a mapping", node)
            return {}
        result: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            if name in result:
                self.complain("NC152", f"{what}: key '{name}' is given twice", key)
            elif allowed is not None and name not in allowed:
                self.complain("NC152", f"{what}: unknown key '{name}'", key, did_you_mean(name, allowed))
            result.setdefault(name, value)
        for name in required:
            if name not in result:
                code = "NC154" if name in {"unit", "source", "confidence"} else "NC152"
                self.complain(code, f"{what}: '{name}' is missing", node, "every number needs value, unit, source and confidence")
        return result

    def text(self, node: yaml.Node | None, what: str, choices: tuple[str, ...] | None = None) -> str:
        if node is None:
            return ""
        if not isinstance(node, yaml.ScalarNode) or not str(node.value).strip():
            self.complain("NC153", f"{what} must be a text that is not empty", node)
            return ""
        value = " ".join(str(node.value).split())
        if choices is not None and value not in choices:
            self.complain("NC153", f"{what} is '{value}'", node, did_you_mean(value, choices))
        return value

    def number(self, node: yaml.Node | None, what: str, *, integer: bool = False, least: float = 0.0) -> float:
        if node is None:
            return math.nan
        value = math.nan
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            try:
                value = float(str(node.value))
            except ValueError:
                value = math.nan
        if not math.isfinite(value) or (integer and value != int(value)) or value < least:
            kind = "a whole number" if integer else "a number"
            self.complain("NC153", f"{what} must be {kind}" + (f" >= {least:g}" if math.isfinite(least) else ""), node)
            return math.nan
        return value

    def items(self, node: yaml.Node | None, what: str) -> list[yaml.Node]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.complain("NC153", f"{what} must be a list", node)
            return []
        return list(node.value)

    def integers(self, node: yaml.Node, what: str, n: int) -> tuple[int, ...] | None:
        values = [self.number(item, what, integer=True) for item in self.items(node, what)]
        if any(math.isnan(v) for v in values):
            return None
        if len(values) != n:
            self.complain("NC153", f"{what} needs {n} whole numbers, has {len(values)}", node)
            return None
        return tuple(int(v) for v in values)

    def fact(self, node: yaml.Node, what: str, key: str, extra: tuple[str, ...] = ()) -> tuple[Quantity, dict[str, yaml.Node]]:
        """Value, unit, source and confidence of the quantity ``key``."""
        entries = self.mapping(node, what, (*_FACT_KEYS, *extra), (*_FACT_KEYS, *extra))
        quantity = Quantity(
            value=self.number(entries.get("value"), f"{what}: value", least=-math.inf),
            unit=self.text(entries.get("unit"), f"{what}: unit"),
            source=self.text(entries.get("source"), f"{what}: source"),
            confidence=self.text(entries.get("confidence"), f"{what}: confidence", CONFIDENCES),
        )
        need = quantity_need(key, quantity.value, quantity.unit)
        if need is not None and math.isfinite(quantity.value):
            self.complain("NC153", f"{what}: value must be {need}", entries["value"])
            quantity = replace(quantity, value=math.nan)
        return quantity, entries


def read_machine(text: str, *, file: str) -> Machine:
    """Return the machine that a file describes.

    Raises
    ------
    InputError
        All findings: NC150 not YAML or with aliases, NC152 unknown or missing keys, NC153 wrong values, NC154 numbers without unit,
        source or confidence, NC155 impossible topology.
    """
    reader = _Reader(text, file)
    root = _compose(text, reader)
    top = reader.mapping(root, "machine file", _TOP_KEYS, _TOP_KEYS)
    name = reader.text(top.get("name"), "name")
    family = reader.text(top.get("family"), "family")
    title = reader.text(top.get("title"), "title")
    routing_keys = reader.mapping(top.get("routing"), "routing", ("kind",), ("kind",))
    routing = reader.text(routing_keys.get("kind"), "routing: kind", ROUTING_KINDS)
    quantities: dict[str, Quantity] = {}
    for group, members in reader.mapping(top.get("quantities"), "quantities", None).items():
        for key, node in reader.mapping(members, f"quantities: {group}", None).items():
            quantities[f"{group}.{key}"] = reader.fact(node, f"{group}.{key}", f"{group}.{key}")[0]
    for key in (
        "chip.cores",
        "chip.reserved_cores",
        *(("router.usable_entries", "router.key_bits") if routing == "multicast_tcam" else ()),
    ):
        if key not in quantities and root is not None:
            reader.complain("NC152", f"quantity '{key}' is missing", root, "docs/machines.md lists the quantities that a machine needs")
    topology = _topology(reader, top.get("topology"), quantities)
    if reader.found or topology is None:
        raise InputError(reader.found)
    return Machine(
        name=name, family=family, title=title, file=file, topology=topology, routing=routing, quantities=MappingProxyType(quantities)
    )


def _compose(text: str, reader: _Reader) -> yaml.Node:
    if len(text) > _MAX_TEXT:
        raise InputError.of("NC150", f"machine file has {len(text)} characters, at most {_MAX_TEXT} are read", file=reader.file)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                span = reader.span(event.start_mark)
                raise InputError.of("NC150", "aliases (*name) are not allowed in machine files", span=span, help="write the value out")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise InputError.of("NC150", f"not YAML: {error.problem}", span=reader.span(error.problem_mark), file=reader.file) from None
    except (yaml.YAMLError, RecursionError):
        raise InputError.of("NC150", "not YAML", file=reader.file) from None
    if node is None:
        raise InputError.of("NC150", "machine file is empty", file=reader.file)
    return node


def _topology(reader: _Reader, node: yaml.Node | None, quantities: dict[str, Quantity]) -> Topology | None:
    required = ("kind", "width", "height", "unit", "source", "confidence", "io_chip")
    top = reader.mapping(node, "topology", _TOPOLOGY_KEYS, required)
    if node is None or any(key not in top for key in required):
        return None
    kind = reader.text(top["kind"], "topology: kind", tuple(LINK_STEPS))
    reader.text(top["unit"], "topology: unit")
    reader.text(top["source"], "topology: source")
    reader.text(top["confidence"], "topology: confidence", CONFIDENCES)
    width, height = (reader.number(top[k], f"topology: {k}", integer=True, least=1) for k in ("width", "height"))
    default = [quantities[k].value if k in quantities else math.nan for k in ("chip.cores", "chip.reserved_cores")]
    if kind not in LINK_STEPS or math.isnan(width + height + sum(default)):
        return None
    if width * height > _MAX_CHIPS:
        reader.complain("NC155", f"topology: {width:g} x {height:g} chips, at most {_MAX_CHIPS} are possible", node)
        return None
    grid = _Grid(reader, kind, int(width), int(height))
    grid.place_boards(top.get("board"), node)
    n_cores = np.full(grid.size, int(default[0]), np.int32)
    n_reserved = np.full(grid.size, int(default[1]), np.int32)
    for key, array in (("cores", n_cores), ("reserved_cores", n_reserved)):
        for item in reader.items(top.get(key), f"topology: {key}"):
            quantity, entries = reader.fact(item, f"topology: {key}", f"chip.{key}", ("chips",))
            for chip in grid.board_chips(entries.get("chips"), f"topology: {key}: chips"):
                if math.isfinite(quantity.value):
                    array[chip] = int(quantity.value)
    if grid.size * int(n_cores.max()) > _MAX_CORES:
        what = f"topology: {grid.size} chips of up to {n_cores.max()} cores; at most {_MAX_CORES} cores are possible"
        reader.complain("NC155", what, node)
        return None
    for chip in grid.chips_of(top.get("dead_chips"), "topology: dead_chips"):
        grid.exists[chip] = False
    dead_links = frozenset(grid.dead_links(top.get("dead_links")))
    dead_cores = frozenset(grid.dead_cores(top.get("dead_cores"), n_cores))
    n_cores[~grid.exists] = 0
    n_reserved[~grid.exists] = 0
    if (n_reserved > n_cores).any():
        chip = int(np.argmax(n_reserved > n_cores))
        reader.complain(
            "NC155", f"topology: chip {grid.name(chip)} has {n_cores[chip]} cores, of which {n_reserved[chip]} are reserved", node
        )
    if not grid.exists.any():
        reader.complain("NC155", "topology: no chip is left", node)
    io_chip = grid.chip(top["io_chip"], "topology: io_chip")
    if io_chip is None:
        return None
    if not grid.exists[io_chip]:
        reader.complain("NC155", f"topology: io_chip {grid.name(io_chip)} does not exist or is dead", top["io_chip"])
    return Topology(
        kind=kind,
        width=grid.width,
        height=grid.height,
        chips=np.flatnonzero(grid.exists).astype(np.int32),
        n_cores=n_cores,
        n_reserved=n_reserved,
        io_chip=io_chip,
        dead_links=dead_links,
        dead_cores=dead_cores,
    )


class _Grid:
    """The chips of a topology while it is read."""

    def __init__(self, reader: _Reader, kind: str, width: int, height: int) -> None:
        self.reader, self.kind, self.width, self.height = reader, kind, width, height
        self.size = width * height
        self.exists = np.ones(self.size, bool)
        self.origins: list[tuple[int, int]] = [(0, 0)]

    def name(self, chip: int) -> str:
        return f"({chip % self.width}, {chip // self.width})"

    def place_boards(self, node: yaml.Node | None, place: yaml.Node) -> None:
        """Boards of one shape (first and last x of each row) at their origins; wrapped around on a torus."""
        if node is None:
            return
        board = self.reader.mapping(node, "topology: board", ("rows", "origins"), ("rows", "origins"))
        rows = [self.reader.integers(i, "topology: board: rows", 2) for i in self.reader.items(board.get("rows"), "topology: board: rows")]
        origins = [
            self.reader.integers(i, "topology: board: origins", 2)
            for i in self.reader.items(board.get("origins"), "topology: board: origins")
        ]
        self.exists[:] = False
        self.origins = [(o[0], o[1]) for o in origins if o is not None]
        if len(rows) > self.height or any(r is not None and not r[0] <= r[1] < self.width for r in rows):
            self.reader.complain("NC155", f"topology: board: rows must lie inside {self.width} x {self.height} chips", node)
            return
        for origin in self.origins:
            for dy, row in enumerate(rows):
                for dx in range(row[0], row[1] + 1) if row is not None else ():
                    chip = self._at(origin[0] + dx, origin[1] + dy)
                    if chip is None or self.exists[chip]:
                        what = "outside the machine" if chip is None else "on top of another board"
                        self.reader.complain("NC155", f"topology: board at {origin}: chip ({dx}, {dy}) of the board lies {what}", place)
                        return
                    self.exists[chip] = True

    def _at(self, x: int, y: int) -> int | None:
        if self.kind == "hex_torus":
            x, y = x % self.width, y % self.height
        return y * self.width + x if 0 <= x < self.width and 0 <= y < self.height else None

    def chip(self, node: yaml.Node, what: str) -> int | None:
        xy = self.reader.integers(node, what, 2)
        if xy is None:
            return None
        if xy[0] >= self.width or xy[1] >= self.height:
            self.reader.complain("NC155", f"{what}: chip {xy} lies outside {self.width} x {self.height} chips", node)
            return None
        return xy[1] * self.width + xy[0]

    def chips_of(self, node: yaml.Node | None, what: str) -> Iterator[int]:
        for item in self.reader.items(node, what):
            chip = self.chip(item, what)
            if chip is not None:
                yield chip

    def board_chips(self, node: yaml.Node | None, what: str) -> Iterator[int]:
        """Chips given relative to the origin of every board."""
        for item in self.reader.items(node, what):
            xy = self.reader.integers(item, what, 2)
            for origin in self.origins if xy is not None else ():
                chip = self._at(origin[0] + xy[0], origin[1] + xy[1])  # type: ignore[index]
                if chip is None or not self.exists[chip]:
                    self.reader.complain("NC155", f"{what}: there is no chip {xy}", item)
                else:
                    yield chip

    def dead_links(self, node: yaml.Node | None) -> Iterator[tuple[int, int]]:
        names = LINK_NAMES[self.kind]
        for item in self.reader.items(node, "topology: dead_links"):
            parts = self.reader.items(item, "topology: dead_links")
            if len(parts) != 3:
                self.reader.complain("NC153", f"topology: dead_links: an entry is [x, y, link], links {', '.join(names)}", item)
                continue
            link = self.reader.text(parts[2], "topology: dead_links: link", names)
            xy = [self.reader.number(p, "topology: dead_links", integer=True) for p in parts[:2]]
            if link not in names or any(math.isnan(v) for v in xy):
                continue
            x, y = (int(v) for v in xy)
            chip = self._at(x, y) if x < self.width and y < self.height else None
            if chip is None:
                self.reader.complain(
                    "NC155", f"topology: dead_links: chip ({x}, {y}) lies outside {self.width} x {self.height} chips", item
                )
                continue
            number = names.index(link)
            yield chip, number
            dx, dy = LINK_STEPS[self.kind][number]
            other = self._at(x + dx, y + dy)
            if other is not None:
                yield other, (number + len(names) // 2) % len(names)

    def dead_cores(self, node: yaml.Node | None, n_cores: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Iterator[tuple[int, int]]:
        for item in self.reader.items(node, "topology: dead_cores"):
            xyc = self.reader.integers(item, "topology: dead_cores", 3)
            if xyc is None:
                continue
            x, y, core = xyc
            if x >= self.width or y >= self.height or not 0 <= core < n_cores[y * self.width + x]:
                self.reader.complain("NC155", f"topology: dead_cores: chip ({x}, {y}) has no core {core}", item)
            else:
                yield y * self.width + x, core
