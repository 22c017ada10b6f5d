"""The parts of the file format's table that hold several values: sections, alternatives, named maps, lists (see ``spec_types``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from neurocompile.ir.errors import did_you_mean
from neurocompile.ir.spec_types import BAD, Choice, Definitions, Kind, Path_, Reading, Schema, describe
from neurocompile.ir.task import DataSet
from neurocompile.ir.yaml_source import MappingNode, Node, ScalarNode, SequenceNode

_NO_MERGE = "merge keys are not read (YAML 1.2 has none): write the keys out, or name a whole value by an alias"


@dataclass(frozen=True, kw_only=True)
class Field:
    """One key of a section: ``attr`` is the dataclass's name for it (default: the key), ``default`` is for the documentation,
    ``unit_default``: the default is a membrane quantity, so a file with units must state it."""

    key: str
    kind: Kind
    doc: str
    required: bool = False
    default: str = ""
    attr: str = ""
    unit_default: bool = False

    @property
    def name(self) -> str:
        """The dataclass's name."""
        return self.attr or self.key


@dataclass(kw_only=True, eq=False)
class Parsed:
    """What a section's reading gave: good values by attribute name, the nodes of keys and values, and whether it is complete."""

    section: Section
    node: Node
    values: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    complete: bool = True

    def at(self, *names: str) -> Node:
        """Return the node of the first of these attributes that stands in the file, else the section's."""
        return next((self.nodes[n] for n in names if n in self.nodes), self.node)


@dataclass(frozen=True, kw_only=True)
class Section(Kind):
    """A mapping with known keys. ``positional``: may also be written as a list of its leading fields, or, if only the first field is
    required, as that field's value alone. ``build`` turns a :class:`Parsed` into an object (or BAD)."""

    name: str
    fields: tuple[Field, ...]
    doc: str = ""
    positional: bool = False
    build: Callable[[Parsed, Reading], Any] | None = None

    def field(self, key: str) -> Field | None:
        """Return the field of a key."""
        return next((f for f in self.fields if f.key == key), None)

    @property
    def required(self) -> list[Field]:
        """The fields that must stand in the file."""
        return [f for f in self.fields if f.required]

    def read(self, node: Node, ctx: Reading) -> Any:
        parsed = Parsed(section=self, node=node)
        if isinstance(node, MappingNode):
            self._mapping(node, parsed, ctx)
        elif self.positional and isinstance(node, SequenceNode):
            if len(node.items) != len(self.required):
                names = ", ".join(f.key for f in self.required)
                return ctx.fail(
                    "NC202", f"{self.name} takes [{names}], got {len(node.items)} values", node, f"write {self.name}: [{names}]"
                )
            for entry, item in zip(self.required, node.items, strict=True):
                self._value(entry, item, parsed, ctx)
        elif self.positional and len(self.required) == 1:
            self._value(self.required[0], node, parsed, ctx)
        elif isinstance(node, ScalarNode) and node.value is None and not self.required:
            pass  # `adam:` with nothing behind: all defaults
        else:
            keys = ", ".join(f.key for f in self.fields)
            return ctx.fail("NC110", f"{self.name}: expected a mapping, got {describe(node)}", node, f"known keys: {keys}")
        self._missing(parsed, ctx)
        if self.build is not None:
            return self.build(parsed, ctx)
        return parsed

    def _mapping(self, node: MappingNode, parsed: Parsed, ctx: Reading) -> None:
        seen: dict[str, ScalarNode] = {}
        for key, value in node.pairs:
            if key.text in seen:
                ctx.fail("NC112", f"{self.name}: key '{key.text[:60]}' stands twice", key, f"first in line {seen[key.text].line}; keep one")
                continue
            seen[key.text] = key
            entry = self.field(key.text)
            if entry is None:
                known = [f.key for f in self.fields]
                fix = did_you_mean(key.text[:60], known) or "remove it: no keys are known here"
                if key.text == "<<":
                    fix = _NO_MERGE
                ctx.fail("NC108", f"{self.name}: unknown key '{key.text[:60]}'", key, fix)
                continue
            self._value(entry, value, parsed, ctx)

    def _value(self, entry: Field, node: Node, parsed: Parsed, ctx: Reading) -> None:
        parsed.nodes[entry.name] = node
        value = entry.kind.read(node, ctx)
        if value is BAD or (isinstance(value, Parsed) and not value.complete):
            parsed.complete = False
        if value is not BAD:
            parsed.values[entry.name] = value

    def _missing(self, parsed: Parsed, ctx: Reading) -> None:
        for entry in self.fields:
            if entry.name in parsed.nodes:
                continue
            if entry.required:
                parsed.complete = False
                ctx.fail("NC109", f"{self.name}: '{entry.key}' is missing", parsed.node, f"add `{entry.key}:` ({entry.doc})")
            elif entry.unit_default:
                ctx.defaulted.append((parsed.node, f"{self.name}: '{entry.key}' (default {entry.default})"))

    def schema(self, definitions: Definitions) -> Schema:
        properties = {}
        for entry in self.fields:
            text = entry.doc + (f" Default: {entry.default}." if entry.default else "")
            inner = entry.kind.schema(definitions)
            # draft-07 ignores what stands beside $ref, so a description goes around it
            properties[entry.key] = {"description": text, "allOf": [inner]} if "$ref" in inner else {**inner, "description": text}
        mapping: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if self.required:
            mapping["required"] = [f.key for f in self.required]
        if self.doc:
            mapping["description"] = self.doc
        forms = [mapping]
        if self.positional:
            items = [properties[f.key] for f in self.required]
            forms.append({"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)})
            if len(items) == 1:
                forms.append(items[0])
        elif not self.required:
            forms.append({"type": "null"})
        return mapping if len(forms) == 1 else {"anyOf": forms}


@dataclass(frozen=True, kw_only=True)
class Tagged(Kind):
    """One of several named alternatives: ``name`` alone where it needs nothing, or ``{name: what it needs}``; returns what the
    alternative's kind returns. ``file``: a section with the key ``file`` that may stand instead."""

    what: str
    choices: dict[str, Kind]
    file: Section | None = None

    @property
    def names(self) -> list[str]:
        """All alternatives."""
        return [*self.choices, *(["file"] if self.file else [])]

    def read(self, node: Node, ctx: Reading) -> Any:
        known = self.names
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            kind = self.choices.get(node.text)
            if kind is None:
                return ctx.fail("NC111", f"unknown {self.what} '{node.text[:60]}'", node, did_you_mean(node.text[:60], known))
            if not self._alone(kind):
                need = ", ".join(f.key for f in kind.required) if isinstance(kind, Section) else "a value"
                return ctx.fail("NC109", f"{self.what} '{node.text}' needs {need}", node, f"write {{{node.text}: ...}}")
            empty = MappingNode(pairs=(), line=node.line, column=node.column)
            return kind.read(empty, ctx)
        if not isinstance(node, MappingNode):
            return ctx.fail("NC110", f"expected a {self.what}, got {describe(node)}", node, did_you_mean("", known))
        keys = node.keys()
        if self.file is not None and "file" in keys:
            return self.file.read(node, ctx)
        if len(keys) != 1:
            listed = ", ".join(k[:40] for k in keys[:5]) or "none"
            return ctx.fail("NC110", f"a {self.what} has exactly one key, here: {listed}", node, f"use one of: {', '.join(known)}")
        key, value = node.pairs[0]
        if key.text not in self.choices:
            return ctx.fail("NC111", f"unknown {self.what} '{key.text[:60]}'", key, did_you_mean(key.text[:60], known))
        return self.choices[key.text].read(value, ctx)

    @staticmethod
    def _alone(kind: Kind) -> bool:
        """Whether the alternative's name may stand alone."""
        return isinstance(kind, Options | Section) and not kind.required

    def schema(self, definitions: Definitions) -> Schema:
        forms: list[Schema] = []
        if alone := [n for n, k in self.choices.items() if self._alone(k)]:
            forms.append({"enum": alone})
        forms += [
            {"type": "object", "properties": {n: k.schema(definitions)}, "required": [n], "additionalProperties": False}
            for n, k in self.choices.items()
        ]
        if self.file is not None:
            forms.append(self.file.schema(definitions))
        return {"anyOf": forms}


@dataclass(frozen=True, kw_only=True)
class Options(Kind):
    """Settings that another room checks: a mapping of scalars, passed through; ``path`` is resolved. Returns a :class:`DataSet`."""

    name: str
    needs_path: bool = False

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.needs_path

    def read(self, node: Node, ctx: Reading) -> Any:
        if isinstance(node, ScalarNode) and node.value is None and not self.needs_path:
            return DataSet(kind=self.name)
        if not isinstance(node, MappingNode):
            return ctx.fail("NC110", f"expected a mapping of settings, got {describe(node)}", node, "write {key: value, ...}")
        path, good = None, True
        options: dict[str, float | int | str | bool] = {}
        for key, value in node.pairs:
            if key.text in options or (key.text == "path" and path is not None):
                good = ctx.fail("NC112", f"key '{key.text[:60]}' stands twice", key, "keep one") is not BAD
            elif key.text == "path":
                path = Path_(exists=False).read(value, ctx)
                good = good and path is not BAD
            elif not isinstance(value, ScalarNode) or value.value is None:
                message = f"setting '{key.text[:60]}': expected a number, a text or a boolean, got {describe(value)}"
                good = ctx.fail("NC110", message, value, "write one value") is not BAD
            else:
                options[key.text] = value.value
        if self.needs_path and path is None:
            good = ctx.fail("NC109", "'path' is missing", node, "add `path:` (folder of the data)") is not BAD
        return DataSet(kind=self.name, path=None if path is None else str(path), options=options) if good else BAD

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 -- one signature for all kinds
        result: Schema = {
            "type": "object",
            "properties": {"path": {"type": "string", "description": "Folder of the data, relative to this file."}},
            "additionalProperties": {"type": ["number", "string", "boolean"]},
        }
        if self.needs_path:
            return result | {"required": ["path"]}
        return {"anyOf": [result, {"type": "null"}]}


@dataclass(frozen=True, kw_only=True)
class Discriminated(Kind):
    """A mapping whose key ``key`` (such as ``model``) says which section it is; that key is a field of every section."""

    key: str
    what: str
    sections: dict[str, Section]

    def read(self, node: Node, ctx: Reading) -> Any:
        if not isinstance(node, MappingNode):
            return ctx.fail("NC110", f"expected a mapping with '{self.key}', got {describe(node)}", node, f"write {{{self.key}: ..., ...}}")
        chosen = [value for key, value in node.pairs if key.text == self.key]
        if not chosen:
            known = {f.key for s in self.sections.values() for f in s.fields}
            typo = [k for k, _ in node.pairs if k.text not in known]
            merged = any(k.text == "<<" for k in typo)
            help_text = _NO_MERGE if merged else f"add `{self.key}:` ({', '.join(self.sections)})"
            return ctx.fail("NC109", f"'{self.key}' is missing", typo[0] if typo else node, help_text)
        name = Choice(values={n: n for n in self.sections}, what=self.what).read(chosen[0], ctx)
        return BAD if name is BAD else self.sections[name].read(node, ctx)

    def schema(self, definitions: Definitions) -> Schema:
        for name, section in self.sections.items():
            definitions[f"{self.what}_{name}".replace(" ", "_")] = section.schema(definitions)
        return {"oneOf": [{"$ref": f"#/definitions/{f'{self.what}_{n}'.replace(' ', '_')}"} for n in self.sections]}


@dataclass(frozen=True, kw_only=True)
class NamedMap(Kind):
    """Name -> item, in the order of the file; returns a list of (key node, value node, item)."""

    item: Kind
    what: str

    def read(self, node: Node, ctx: Reading) -> Any:
        if not isinstance(node, MappingNode):
            return ctx.fail("NC110", f"expected a mapping of {self.what}s by name, got {describe(node)}", node, "write `NAME: {...}`")
        seen: dict[str, ScalarNode] = {}
        found = []
        for key, value in node.pairs:
            if key.text in seen:
                message = f"{self.what} name '{key.text[:60]}' is used twice"
                ctx.fail("NC206", message, key, f"first in line {seen[key.text].line}; give one of them another name")
                continue
            seen[key.text] = key
            found.append((key, value, self.item.read(value, ctx)))
        return found

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "object", "additionalProperties": self.item.schema(definitions)}


@dataclass(frozen=True, kw_only=True)
class AnyList(Kind):
    """A list whose bad items stay in place as BAD; returns a list of (node, item)."""

    item: Kind
    what: str

    def read(self, node: Node, ctx: Reading) -> Any:
        if isinstance(node, ScalarNode) and node.value is None:
            return []
        if not isinstance(node, SequenceNode):
            return ctx.fail("NC110", f"expected a list of {self.what}s, got {describe(node)}", node, "write each behind `- `")
        return [(n, self.item.read(n, ctx)) for n in node.items]

    def schema(self, definitions: Definitions) -> Schema:
        return {"anyOf": [{"type": "array", "items": self.item.schema(definitions)}, {"type": "null"}]}
