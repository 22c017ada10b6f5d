"""YAML -> Network. The table in :mod:`neurocompile.ir.spec` says what may stand in the file; here its parts become one network.

All findings of a file come in one error, in the order of the file. Parts that could not be built are left out of the checks across
parts, so that one mistake is not reported as many.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.errors import Diagnostic, InputError, SourceSpan, did_you_mean
from neurocompile.ir.learning import RSTDP, STDP, EProp, LearningRule
from neurocompile.ir.network import Network, Population, Projection, safe_network_name
from neurocompile.ir.neurons import MODELS
from neurocompile.ir.spec import ROOT
from neurocompile.ir.spec_build import MAX_READER_ARRAY, construct, draw, is_empty, place, tuples
from neurocompile.ir.spec_sections import Parsed
from neurocompile.ir.spec_types import BAD, Reading, TooManyFindings
from neurocompile.ir.task import Task
from neurocompile.ir.units import Dimension, parse_quantity
from neurocompile.ir.values import LogNormal, Normal, Uniform
from neurocompile.ir.yaml_source import MappingNode, Node, ScalarNode, compose, read_text

_RULES: dict[str, type[Any]] = {"eprop": EProp, "stdp": STDP, "r_stdp": RSTDP}
_MAX_SIZE = 2**31 - 1  # neuron indices are int32
_MAX_FINDINGS = 100


def read_yaml(path: str | Path, *, seed: int | None = None) -> Network:
    """Read a description (docs/yaml.md).

    Parameters
    ----------
    path : str or Path
        Paths in the file are relative to its folder.
    seed : int, optional
        Used instead of the file's.

    Raises
    ------
    InputError
        With all findings of the file, each with its place.
    """
    path = Path(path)
    return network_from_text(read_text(path), str(path), path.parent, seed=seed)


def network_from_text(text: str, file: str, base_dir: str | Path, *, seed: int | None = None) -> Network:
    """Read a description from text; ``file`` is its name in messages, ``base_dir`` the folder of its paths (see :func:`read_yaml`)."""
    source, root = compose(text, file)
    ctx = Reading(source, Path(base_dir).absolute())
    if root is None or is_empty(root):
        raise InputError.of(
            "NC104", "the description is empty", span=source.span_at(1, 1), help="see docs/yaml.md or examples/ for the shape of the file"
        )
    if not isinstance(root, MappingNode):
        message = "the description must be a mapping (key: value)"
        raise InputError.of("NC104", message, span=source.span(root), help=f"known keys: {', '.join(f.key for f in ROOT.fields)}")
    ctx.dt = _time_step(root)
    network = None
    try:
        network = _Assembly(ROOT.read(root, ctx), ctx, Path(file).stem, seed).network()
        _check_units(ctx)
    except TooManyFindings:
        pass
    if ctx.findings or network is None:
        raise InputError(_in_order(ctx))
    return network


def _time_step(root: MappingNode) -> float | None:
    """Return dt if it is usable; a bad one is reported when the section is read."""
    for key, node in root.pairs:
        if key.text == "dt" and isinstance(node, ScalarNode) and node.value is not None and not isinstance(node.value, bool):
            try:
                value = parse_quantity(node.value, Dimension.TIME).value
            except InputError:
                return None
            return value if value > 0 and math.isfinite(value) else None
    return None


def _check_units(ctx: Reading) -> None:
    """A file writes membrane quantities with units everywhere or nowhere (0 and infinity excepted)."""
    if not ctx.with_unit:
        return
    line = min(n.line for n in ctx.with_unit)
    for node, number in ctx.without_unit:
        message = f"membrane quantity {number} has no unit, but line {line} gives one with a unit"
        ctx.fail("NC117", message, node, "write all membrane quantities with a unit (files: `unit: mV`), or none")
    for node, what in ctx.defaulted:
        ctx.fail("NC117", f"{what} must be stated in a file with units (line {line})", node, "the default is a number without unit")


def _in_order(ctx: Reading) -> list[Diagnostic]:
    """Findings by place, each once, those of other files last."""

    def key(found: Diagnostic) -> tuple[bool, int, int]:
        span: SourceSpan | None = found.span
        return (span is None or span.file != ctx.source.file, span.line if span else 0, span.column if span else 0)

    ordered = sorted(dict.fromkeys(ctx.findings), key=key)
    if len(ordered) > _MAX_FINDINGS:
        rest = len(ordered) - _MAX_FINDINGS
        ordered = ordered[:_MAX_FINDINGS]
        ordered.append(Diagnostic(code="NC125", message=f"at least {rest} more errors", file=ctx.source.file, help="correct these first"))
    return ordered


class _Assembly:
    """One network being put together from the root section."""

    def __init__(self, root: Parsed, ctx: Reading, stem: str, seed: int | None) -> None:
        self.root, self.ctx, self.stem = root, ctx, stem
        self.seed: int = seed if seed is not None else root.values.get("seed", 1)
        self.nodes: dict[tuple[str | int, ...], Node] = {}
        self.declared: dict[str, set[str]] = {"populations": set(), "rules": set(), "projections": set()}

    def network(self) -> Network | None:
        """Return the network, or None if any of its parts is bad (all findings are in the reading)."""
        ctx, values = self.ctx, self.root.values
        populations = self._populations(values.get("populations", []))
        rules = self._rules(values.get("learning", []))
        projections = self._projections(values.get("projections", []))
        task = construct(Task, values["task"], ctx) if "task" in values else None
        self._place_section(("task",), self.root.nodes.get("task"), values.get("task"))
        if isinstance(node := self.root.nodes.get("mapping"), MappingNode):
            self.nodes |= {("mapping",): node} | {("mapping", key.text): value for key, value in node.pairs}
        for name in ("name", "dt", "seed", "populations"):
            self.nodes[(name,)] = self.root.at(name)
        if "dt" in values and ctx.dt is None:
            ctx.fail("NC201", f"dt is {values['dt']:g} s, must be > 0 and finite", self.root.at("dt"), "write for example 1 ms")
        everything = {
            "name": values.get("name", safe_network_name(self.stem)),
            "dt": ctx.dt if ctx.dt is not None else 1e-3,
            "seed": self.seed,
            "source": ctx.source.file,
        }
        if not ctx.findings:
            everything |= {"notes": tuple(ctx.notes), "files": tuple(ctx.files.paths)}
            parts = {
                "populations": tuple(populations),
                "projections": tuple(p for _, p in projections),
                "rules": tuple(rules),
                "task": task,
                "mapping": values.get("mapping"),
            }
            return self._verified(everything | parts, list(range(len(projections))), whole=True)
        self._verify_good_parts(everything, populations, rules, projections, task)
        return None

    # --- parts ---------------------------------------------------------------------------------------------------------
    def _populations(self, entries: list[tuple[ScalarNode, Node, Any]]) -> list[Population]:
        return [p for key, _, item in entries if (p := self._population(key, item)) is not BAD]

    def _population(self, key: ScalarNode, parsed: Any) -> Any:
        name = key.text
        self.declared["populations"].add(name)
        self._place_section(("populations", name), key, parsed)
        if parsed is BAD or "model" not in parsed.values:
            return BAD
        ctx, values = self.ctx, parsed.values
        size = values.get("size", BAD)
        if size is not BAD and size > _MAX_SIZE:
            size = ctx.fail("NC201", f"population '{name}' has size {size}, at most {_MAX_SIZE}", parsed.at("size"), "split the population")
        params = values.get("params")
        if params is None and "params" not in parsed.nodes:
            params = Parsed(section=parsed.section.field("params").kind, node=parsed.node)
            params.complete = not params.section.required
        model: Any = BAD if params is None else self._model(name, values["model"], params, size)
        if model is BAD or size is BAD or not parsed.complete:
            if size is not BAD and size < 1:
                ctx.fail(
                    "NC205", f"population '{name}' has size {size}, needs at least 1", parsed.at("size"), "size: Number of neurons, >= 1."
                )
            return BAD
        try:
            return Population(name=name, size=size, model=model, positions=values.get("positions"))
        except InputError as error:
            for found in error.diagnostics:
                if "name" in found.field:
                    ctx.findings.append(found.at(ctx.source.span(key)))
                else:
                    ctx.findings.append(place(found, params if "params" in found.field else parsed, ctx))
            return BAD

    def _model(self, name: str, kind: str, params: Parsed, size: Any) -> Any:
        drawn = any(isinstance(v, Normal | Uniform | LogNormal) for v in params.values.values())
        if drawn and (size is BAD or not 0 <= size <= MAX_READER_ARRAY):
            if size is not BAD and size > 0:
                message = f"parameters of '{name}' are drawn for at most {MAX_READER_ARRAY} neurons"
                self.ctx.fail("NC201", message, params.node, "give one value for all, or split the population")
            return BAD
        values = {k: draw(v, size, self.seed, name, k) for k, v in params.values.items()}
        return construct(MODELS[kind], params, self.ctx, **values)

    def _rules(self, entries: list[tuple[ScalarNode, Node, Any]]) -> list[LearningRule]:
        found: list[LearningRule] = []
        for key, node, parsed in entries:
            name = key.text
            self.declared["rules"].add(name)
            self._place_section(("rules", name), node, parsed)
            if parsed is BAD or "rule" not in parsed.values:
                continue
            cls = _RULES[parsed.values.pop("rule")]
            parsed.values = tuples(parsed.values)
            rule = construct(cls, parsed, self.ctx, name=name)
            if rule is not BAD:
                found.append(rule)
        return found

    def _projections(self, entries: list[tuple[Node, Any]]) -> list[tuple[int, Projection]]:
        """Return (index in the file, projection) of those that are fine by themselves."""
        found = []
        for index, (node, parsed) in enumerate(entries):
            self._place_section(("projections", index), node, parsed)
            if parsed is BAD:
                continue
            values, ctx = parsed.values, self.ctx
            if "pre" in values and "post" in values:
                self.declared["projections"].add(values.get("name", f"{values['pre']}->{values['post']}"))
            connect = values.get("connect")
            own = {n for n in ("weight", "delay") if isinstance(connect, Explicit) and getattr(connect, n) is not None}
            for name in sorted(own & set(values)):
                ctx.notes.append(f"{ctx.source.span(parsed.at(name))}: '{name}' is not used, {connect.source} brings its own")
            if "weight" not in own and "weight" not in parsed.nodes:
                ctx.defaulted.append((node, "projection: 'weight' (default 1.0)"))
            if parsed.complete:
                projection = construct(Projection, parsed, ctx)
                if projection is not BAD:
                    found.append((index, projection))
        return found

    def _place_section(self, path: tuple[str | int, ...], node: Node | None, parsed: Any) -> None:
        if node is not None:
            self.nodes[path] = node
        if isinstance(parsed, Parsed):
            self.nodes.update({(*path, name): value for name, value in parsed.nodes.items()})

    # --- checks across parts -------------------------------------------------------------------------------------------
    def _verified(self, arguments: dict[str, Any], file_index: list[int], *, whole: bool) -> Network | None:
        try:
            return Network(**arguments)
        except InputError as error:
            for found in error.diagnostics:
                if whole or self._is_certain(found, arguments):
                    self.ctx.findings.append(self._placed(found, file_index))
            return None

    def _placed(self, found: Diagnostic, file_index: list[int]) -> Diagnostic:
        path = list(found.field)
        if len(path) > 1 and path[0] == "projections" and isinstance(path[1], int):
            path[1] = file_index[path[1]]
            if len(path) == 2:
                path.append("name")  # a duplicate name
        while tuple(path) not in self.nodes and path:
            path.pop()
        fix = found.help or "see docs/yaml.md"
        return Diagnostic(
            code=found.code, message=found.message, help=fix, span=self.ctx.source.span(self.nodes.get(tuple(path), self.root.node))
        )

    def _is_certain(self, found: Diagnostic, arguments: dict[str, Any]) -> bool:
        """Whether a finding about the good parts would also be one about the whole."""
        if not found.field:
            return True
        kind, last = found.field[0], found.field[-1]
        if kind == "rules":
            if found.code == "NC207":
                return last == "reward" and not self._bad_reward(found, arguments)
            return found.code == "NC208" or last == "reward"
        if kind == "task" and isinstance(last, str):
            return getattr(arguments["task"], last, None) not in self.declared["populations"] or found.code != "NC207"
        return kind != "populations"

    def _bad_reward(self, found: Diagnostic, arguments: dict[str, Any]) -> bool:
        rule = next(r for r in arguments["rules"] if r.name == found.field[1])
        return rule.reward in self.declared["populations"]

    def _verify_good_parts(
        self,
        everything: dict[str, Any],
        populations: list[Population],
        rules: list[LearningRule],
        projections: list[tuple[int, Projection]],
        task: Task | Any,
    ) -> None:
        good = {p.name for p in populations}
        good_rules = {r.name: r for r in rules}
        checked: list[tuple[int, Projection]] = []
        for index, projection in projections:
            ends_exist = True
            for end in ("pre", "post"):
                name = getattr(projection, end)
                if name not in good:
                    ends_exist = False
                    if name not in self.declared["populations"]:
                        self._unknown(index, end, "population", name, projection.name)
            learning = projection.learning
            if learning is not None and learning not in good_rules:
                if learning not in self.declared["rules"]:
                    self._unknown(index, "learning", "learning rule", learning, projection.name)
                learning = None
            elif learning is not None and task is BAD and isinstance(good_rules[learning], EProp):
                learning = None
            if ends_exist:
                plain = {n: getattr(projection, n) for n in ("pre", "post", "connect", "weight", "delay", "name")}
                checked.append((index, Projection(learning=learning, **plain)))
        if not populations:
            return
        parts = {
            "populations": tuple(populations),
            "projections": tuple(p for _, p in checked),
            "rules": tuple(rules),
            "task": None if task is BAD else task,
        }
        self._verified(everything | parts, [i for i, _ in checked], whole=False)

    def _unknown(self, index: int, key: str, kind: str, name: str, projection: str) -> None:
        known = self.declared["rules" if key == "learning" else "populations"]
        message = f"projection '{projection}': {kind} '{name}' does not exist"
        self.ctx.fail("NC207", message, self.nodes[("projections", index, key)], did_you_mean(name, known) or f"define the {kind}")
