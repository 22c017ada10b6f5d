"""YAML text -> a tree of nodes with positions. No object is ever constructed, and numbers are read as YAML 1.2's core schema reads them.

PyYAML's parser gives events; the tree is composed here, because PyYAML's own composer follows YAML 1.1 (`1e-5` a string, `on` a boolean),
lets duplicate keys pass and expands aliases without limit. What is refused: tags (`!!python/object`), complex keys, several documents,
control characters, text that is not UTF-8, and anything beyond the limits below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from neurocompile.ir.errors import InputError, SourceSpan

MAX_BYTES = 16 * 2**20
"""A description, not data: arrays belong into .npz files."""
MAX_DEPTH = 40
_FEW_LEVELS = "descriptions need about six levels"
MAX_NODES = 500_000
"""Values after expanding aliases; reading so many takes about three seconds."""

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_NOT_PRINTABLE = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# https://yaml.org/spec/1.2.2/#1032-tag-resolution
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"[-+]?\.(inf|Inf|INF)")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_MAX_INT_DIGITS = 400  # more digits than the largest float64 has: such a number is no setting of anything

Scalar = bool | int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """A place in the file; ``line`` and ``column`` count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScalarNode(Node):
    """``text`` as written; ``value`` as YAML 1.2 reads it (quoted and block scalars are strings)."""

    text: str
    value: Scalar


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SequenceNode(Node):
    """A list."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MappingNode(Node):
    """Pairs in the order of the file, duplicates included (readers report them). Keys are scalars, read by their text."""

    pairs: tuple[tuple[ScalarNode, Node], ...]

    def keys(self) -> list[str]:
        """Return the keys' texts."""
        return [key.text for key, _ in self.pairs]


class Source:
    """A text with its lines, to make places from nodes."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines = _LINE_BREAK.split(text)
        self._shown: dict[int, str] = {}  # one copy a line: a line may have 16 MiB and a thousand findings

    def span_at(self, line: int, column: int) -> SourceSpan:
        """Return the place; the line's text is shown with tabs as single spaces, so that the caret stands right."""
        if 0 < line <= len(self.lines) and line not in self._shown:
            self._shown[line] = self.lines[line - 1].replace("\t", " ")
        return SourceSpan(file=self.file, line=line, column=column, text=self._shown.get(line))

    def span(self, node: Node) -> SourceSpan:
        """Return the place of a node."""
        return self.span_at(node.line, node.column)

    def span_of_offset(self, text: str, offset: int) -> SourceSpan:
        """Return the place of the character at ``offset``."""
        breaks = [m.end() for m in _LINE_BREAK.finditer(text, 0, offset)]
        return self.span_at(len(breaks) + 1, offset - (breaks[-1] if breaks else 0) + 1)


def resolve_plain(text: str) -> Scalar:
    """Return the value of a plain (unquoted) scalar under YAML 1.2's core schema; ValueError (which says why) for a number too large."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > _MAX_INT_DIGITS:
            raise ValueError(f"a number of {len(text)} digits is too long")
        return int(text)
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        if len(text) > _MAX_INT_DIGITS:
            raise ValueError(f"a number of {len(text)} digits is too long")
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError(f"{text[:40]} is too large for a float64")
        return value
    if _INF.fullmatch(text):
        return float("-inf") if text.startswith("-") else float("inf")
    return text


def read_text(path: str | Path) -> str:
    """Read a description's text: NC105 absent, NC124 unreadable, NC103 too big, NC102 not UTF-8."""
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise InputError.of(
                "NC103",
                f"the file has {path.stat().st_size} bytes, at most {MAX_BYTES} are read",
                file=str(path),
                help="put arrays into .npz files and refer to them by `file:`",
            )
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)  # a device has no size, and no end
        if len(raw) > MAX_BYTES:
            raise InputError.of("NC103", f"more than {MAX_BYTES} bytes", file=str(path), help="give a file of at most 16 MiB")
    except FileNotFoundError:
        raise InputError.of("NC105", "file does not exist", file=str(path), help="check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError.of("NC124", f"cannot be read: {reason}", file=str(path), help="give a text file that you may read") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        source = Source(before, str(path))
        place = source.span_at(len(source.lines), len(source.lines[-1]) + 1)
        raise InputError.of("NC102", f"byte 0x{raw[error.start]:02x} is not UTF-8", span=place, help="save the file as UTF-8") from None


def compose(text: str, file: str) -> tuple[Source, Node | None]:
    """Return the source and the root node (None for an empty document).

    Raises
    ------
    InputError
        NC101 syntax, NC102 characters, NC103 size, depth or aliases, NC113 tags.
    """
    text = text.removeprefix("\ufeff")
    source = Source(text, file)
    if len(text) > MAX_BYTES:
        raise InputError.of("NC103", f"the text has {len(text)} characters, at most {MAX_BYTES} are read", file=file)
    if bad := _NOT_PRINTABLE.search(text):
        raise InputError.of(
            "NC102",
            f"character U+{ord(bad.group()):04X} is not allowed",
            span=source.span_of_offset(text, bad.start()),
            help="remove it; only printable text, tabs and line ends may stand in the file",
        )
    return source, _Composer(text, source).document()


class _Composer:
    """One pass over the parser's events. Every node knows its size and height after expansion, so that aliases are charged at once."""

    def __init__(self, text: str, source: Source) -> None:
        self.source = source
        self.anchors: dict[str, tuple[Node, int, int] | None] = {}
        self.n_nodes = 0
        self.events = self._events(text)

    def _events(self, text: str) -> Iterator[Any]:
        loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            loader = loader_class(text)
            while loader.check_event():
                yield loader.get_event()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = error.problem or error.context or "syntax error"
            span = self.source.span_at(mark.line + 1, mark.column + 1) if mark else None
            if "nesting depth" in problem:  # libyaml reads a long way ahead, and has a limit of its own
                raise InputError.of("NC103", f"nested deeper than {MAX_DEPTH} levels", span=span, help=_FEW_LEVELS) from None
            raise InputError.of("NC101", f"not valid YAML: {problem}", span=span, help=self._syntax_help(problem, mark)) from None
        except (yaml.YAMLError, ValueError) as error:
            raise InputError.of("NC101", f"not valid YAML: {error}", file=self.source.file, help="check the file in an editor") from None

    def _syntax_help(self, problem: str, mark: Any) -> str:
        line = self.source.lines[mark.line] if mark and mark.line < len(self.source.lines) else ""
        if "\t" in line and line[: len(line) - len(line.lstrip())].count("\t"):
            return "indent with spaces, not with tabs"
        if "undefined alias" in problem:
            return "define it before with `&name`"
        return "check indentation, brackets, quotes and colons near this place"

    def _fail(self, code: str, message: str, event: Any, fix: str) -> InputError:
        span = self.source.span_at(event.start_mark.line + 1, event.start_mark.column + 1)
        return InputError.of(code, message, span=span, help=fix)  # type: ignore[return-value]

    def document(self) -> Node | None:
        root: Node | None = None
        seen = False
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    raise self._fail("NC101", "a second document starts here", event, "keep one document a file (remove `---`)")
                seen = True
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, 1)[0]
        return root

    def _node(self, event: Any, depth: int) -> tuple[Node, int, int]:
        if depth > MAX_DEPTH:
            raise self._fail("NC103", f"nested deeper than {MAX_DEPTH} levels", event, _FEW_LEVELS)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if getattr(event, "tag", None) is not None:
            raise self._fail("NC113", f"tag '{event.tag[:80]}' is not allowed", event, "remove the tag: values are plain YAML only")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self._charge(1, event)
        place = {"line": event.start_mark.line + 1, "column": event.start_mark.column + 1}
        node: Node
        size, height = 1, 1
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place)
        else:
            children: list[Node] = []
            closing = yaml.SequenceEndEvent if isinstance(event, yaml.SequenceStartEvent) else yaml.MappingEndEvent
            for inner in self.events:
                if isinstance(inner, closing):
                    break
                child, child_size, child_height = self._node(inner, depth + 1)
                is_key = closing is yaml.MappingEndEvent and len(children) % 2 == 0
                if is_key and not isinstance(child, ScalarNode):
                    raise self._fail("NC110", "a key must be a name, not a list or a mapping", inner, "write `key: value`")
                children.append(child)
                size += child_size
                height = max(height, child_height + 1)
            if closing is yaml.SequenceEndEvent:
                node = SequenceNode(items=tuple(children), **place)
            else:
                keys = [c for c in children[::2] if isinstance(c, ScalarNode)]
                node = MappingNode(pairs=tuple(zip(keys, children[1::2], strict=True)), **place)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, size, height)
        return node, size, height

    def _scalar(self, event: Any, place: dict[str, int]) -> ScalarNode:
        if event.style:  # libyaml gives '' for plain scalars, the Python parser None
            return ScalarNode(text=event.value, value=event.value, **place)
        try:
            return ScalarNode(text=event.value, value=resolve_plain(event.value), **place)
        except ValueError as error:
            fix = "write fewer digits (.inf for infinity), or quotes if it is a text"
            raise self._fail("NC114", str(error), event, fix) from None

    def _alias(self, event: Any, depth: int) -> tuple[Node, int, int]:
        known = self.anchors.get(event.anchor, ())
        if known == ():
            raise self._fail("NC101", f"not valid YAML: undefined alias '{event.anchor[:80]}'", event, "define it before with `&name`")
        if not known:
            raise self._fail("NC103", f"alias '{event.anchor[:80]}' stands inside of what it names", event, "a value cannot hold itself")
        node, size, height = known
        self._charge(size, event)
        if depth + height - 1 > MAX_DEPTH:
            raise self._fail("NC103", f"aliases nest deeper than {MAX_DEPTH} levels", event, _FEW_LEVELS)
        return node, size, height

    def _charge(self, size: int, event: Any) -> None:
        self.n_nodes += size
        if self.n_nodes > MAX_NODES:
            message = f"the file holds more than {MAX_NODES} values (aliases expanded)"
            raise self._fail("NC103", message, event, "put arrays into .npz files and refer to them by `file:`")
