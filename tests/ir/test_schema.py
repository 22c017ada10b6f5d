"""The JSON Schema is valid, agrees with the reader on keys and words, and the table agrees with the dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from neurocompile.ir.connectivity import AllToAll, DistanceDependent, FixedInDegree, FixedOutDegree, FixedProbability, OneToOne
from neurocompile.ir.errors import InputError
from neurocompile.ir.learning import (
    RSTDP,
    STDP,
    Adam,
    EProp,
    GradientDescent,
    Interval2020,
    PerEvent,
    PerInterval,
    Regularization,
    Surrogate,
)
from neurocompile.ir.neurons import MODELS
from neurocompile.ir.schema import DRAFT, json_schema
from neurocompile.ir.spec import CONNECT, MODEL_PARAMS, PROJECTION, ROOT, RULE_FIELDS, TASK
from neurocompile.ir.spec_sections import Field, Section
from neurocompile.ir.task import Task
from neurocompile.ir.units import UNITS
from neurocompile.ir.yaml_reader import network_from_text

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

GOOD: dict[str, Any] = {
    "dt": "1 ms",
    "populations": {
        "in": {"model": "spike_source", "size": 3},
        "hidden": {"model": "lif", "size": 3, "params": {"tau_mem": "20 ms", "v_threshold": 1}},
        "alif": {"model": "alif", "size": 3, "params": {"tau_mem": "20 ms", "v_threshold": 1, "adapt_beta": 1, "adapt_tau": "1 s"}},
        "cuba": {"model": "cuba_lif", "size": 3, "params": {"tau_mem": "20 ms", "v_threshold": 1, "tau_syn": "5 ms"}},
        "out": {"model": "leaky_readout", "size": 3, "params": {"tau_mem": "20 ms"}},
    },
    "projections": [{"pre": "in", "post": "hidden", "connect": "all_to_all"}],
    "learning": {"e": {"rule": "eprop"}, "s": {"rule": "stdp"}, "r": {"rule": "r_stdp", "reward": "in"}},
    "task": {"readout": "out"},
}


def read_codes(document: object, folder: Path) -> list[tuple[str, str]]:
    """The reader's findings for a document (JSON is YAML)."""
    try:
        network_from_text(json.dumps(document), "net.yaml", folder)
    except InputError as error:
        return [(d.code, d.message) for d in error.diagnostics]
    return []


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """GOOD with one value set."""
    document: Any = json.loads(json.dumps(GOOD))
    node = document
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return document  # type: ignore[no-any-return]


def test_the_schema_is_valid_draft_07_and_plain_json() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == DRAFT
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert json_schema() == SCHEMA


def test_every_key_has_a_description_for_hover() -> None:
    def walk(node: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            yield from (
                node.get("properties", {}).items() if node.get("additionalProperties") is False and len(node["properties"]) > 1 else ()
            )
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    keys = list(walk(SCHEMA))
    assert len(keys) > 80
    assert [key for key, value in keys if not value.get("description")] == []


def test_the_good_document_is_accepted_by_both(tmp_path: Path) -> None:
    assert read_codes(GOOD, tmp_path) == []
    assert list(VALIDATOR.iter_errors(GOOD)) == []


SECTIONS: dict[tuple[str | int, ...], Section] = {
    (): ROOT,
    ("projections", 0): PROJECTION,
    ("task",): TASK,
    **{("populations", n): ROOT.fields[3].kind.item.sections[GOOD["populations"][n]["model"]] for n in GOOD["populations"]},  # type: ignore[attr-defined]
    **{("learning", n): ROOT.fields[5].kind.item.sections[GOOD["learning"][n]["rule"]] for n in GOOD["learning"]},  # type: ignore[attr-defined]
    **{
        ("populations", n, "params"): ROOT.fields[3].kind.item.sections[GOOD["populations"][n]["model"]].field("params").kind  # type: ignore[attr-defined]
        for n in GOOD["populations"]
        if n != "in"
    },
}


def _is_unknown_in_schema(document: object, key: str) -> bool:
    def flat(errors: Any) -> Iterator[str]:
        for error in errors:
            yield error.message
            yield from flat(error.context or ())

    return any("Additional properties" in m and f"'{key}'" in m for m in flat(VALIDATOR.iter_errors(document)))


@pytest.mark.parametrize("path", SECTIONS, ids=str)
def test_reader_and_schema_accept_the_same_keys(path: tuple[str | int, ...], tmp_path: Path) -> None:
    """Each key of any section, tried in each section: both call it unknown, or neither does."""
    every_key = sorted({f.key for s in SECTIONS.values() for f in s.fields} | {"nonsense", "Size", "tau"})
    node: Any = GOOD
    for step in path:
        node = node[step]
    n_known = 0
    for key in every_key:
        document = changed((*path, key), node.get(key, [[["?"]]]))
        reader_refuses = any(code == "NC108" and f"unknown key '{key}'" in message for code, message in read_codes(document, tmp_path))
        schema_refuses = key in node or _is_unknown_in_schema(document, key)
        if key in node:
            assert not reader_refuses, key
        else:
            assert reader_refuses == (SECTIONS[path].field(key) is None), key
            if reader_refuses:
                assert schema_refuses, key
            elif not path or path[0] not in ("populations", "learning"):  # oneOf reports other models' refusals too
                assert not schema_refuses, key
        n_known += not reader_refuses
    assert n_known == len(SECTIONS[path].fields)


BAD: list[tuple[tuple[str | int, ...], object]] = [
    (("dt",), 1),
    (("dt",), "1 Hz"),
    (("projectoins",), []),
    (("seed",), -1),
    (("seed",), 1.5),
    (("populations",), []),
    (("populations", "hidden", "model"), "lfi"),
    (("populations", "hidden", "size"), 0),
    (("populations", "hidden", "size"), "many"),
    (("populations", "hidden", "params", "tau_mem"), 20),
    (("populations", "hidden", "params", "tau_mem"), "20 Hz"),
    (("populations", "hidden", "params", "tau_men"), "20 ms"),
    (("populations", "hidden", "params", "reset"), "hard"),
    (("populations", "hidden", "params"), {}),
    (("populations", "hidden", "positions"), "grid"),
    (("populations", "in", "params"), {"rate": "3 ms"}),
    (("projections", 0, "connect"), "all"),
    (("projections", 0, "connect"), {"fixed_probability": 2}),
    (("projections", 0, "connect"), {"fixed_indegree": -1}),
    (("projections", 0, "connect"), {"all_to_all": {}, "one_to_one": {}}),
    (("projections", 0, "weight"), {"normal": [1]}),
    (("projections", 0, "weight"), True),
    (("projections", 0, "delay"), 1.5),
    (("projections", 0, "delay"), "1 V"),
    (("learning", "e", "rule"), "bptt"),
    (("learning", "e", "kappa"), 1),
    (("learning", "e", "kapa"), 0.5),
    (("learning", "e", "surrogate"), {"triangle": {}}),
    (("learning", "e", "optimizer"), {"adam": {"beta_1": 1}}),
    (("learning", "e", "optimizer"), {"adam": {"epsilon": 0}}),
    (("learning", "e", "weight_bounds"), [1]),
    (("learning", "e", "sign_constraint"), "yes"),
    (("learning", "e", "regularization"), {"strength": 1}),
    (("learning", "e", "update"), "per_interval"),
    (("learning", "e", "update"), "interval_2020"),
    (("learning", "e", "update"), {"interval_2020": {"learning_window": 10}}),
    (("learning", "e", "update"), {"interval_2020": {"interval": 10, "batch_size": 0}}),
    (("learning", "e", "update"), {"interval_2020": {"interval": 10, "average_gradient": "yes"}}),
    (("learning", "r"), {"rule": "r_stdp"}),
    (("task", "loss"), "mse"),
    (("task", "data"), {"nmnist": {"x": 1}}),
    (("task", "data"), "cifar"),
    (("task", "epochs"), 0),
    (("task",), {}),
]


@pytest.mark.parametrize(("path", "value"), BAD, ids=lambda v: str(v)[:40])
def test_both_refuse_bad_documents(path: tuple[str | int, ...], value: object, tmp_path: Path) -> None:
    document = changed(path, value)
    assert not VALIDATOR.is_valid(document)
    assert read_codes(document, tmp_path)


FINE: list[tuple[tuple[str | int, ...], object]] = [
    (("populations", "hidden", "params", "tau_mem"), ["20 ms", "1e1ms", "0.1 s"]),
    (("populations", "hidden", "params", "tau_mem"), {"normal": ["20 ms", 0]}),
    (("populations", "hidden", "params", "t_ref"), 0),
    (("populations", "hidden", "positions"), {"grid": [3], "spacing": 2}),
    (("populations", "hidden", "positions"), [[0, 1], [1, 2], [0, 0]]),
    (("populations", "in", "params"), {}),
    (("projections", 0, "connect"), {"fixed_probability": {"probability": 0.5, "allow_autapses": False}}),
    (("projections", 0, "connect"), {"fixed_indegree": [2]}),
    (("projections", 0, "connect"), {"all_to_all": None}),
    (("projections", 0, "connect"), {"file": "e.npz"}),
    (("projections", 0, "weight"), {"file": "w.npz", "key": "w"}),
    (("projections", 0, "weight"), "0.5"),
    (("projections", 0, "delay"), "3 steps"),
    (("projections", 0, "delay"), {"uniform": [1, "5 ms"]}),
    (("learning", "e", "surrogate"), "exponential"),
    (("learning", "e", "feedback"), {"random": {"normal": {"mean": 0, "std": 1}}}),
    (("learning", "e", "optimizer"), {"adam": None}),
    (("learning", "e", "update"), {"per_interval": "10 ms"}),
    (("learning", "e", "update"), {"interval_2020": "10 ms"}),
    (("learning", "e", "update"), {"interval_2020": {"interval": 10, "learning_window": "3 ms", "reset_neurons": False, "batch_size": 2}}),
    (("learning", "e", "trace_cutoff"), 100),
    (("learning", "e", "weight_bounds"), [-1, "2"]),
    (("task", "data"), {"nmnist": {"path": "d", "n": 3}}),
    (("task", "data"), {"digits": None}),
    (("projections",), None),
]


@pytest.mark.parametrize(("path", "value"), FINE, ids=lambda v: str(v)[:40])
def test_both_accept_good_documents(path: tuple[str | int, ...], value: object, tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", pre=[0], post=[1], weight=[1.0])
    np.savez(tmp_path / "w.npz", w=[1.0] * 9)
    document = changed(path, value)
    assert read_codes(document, tmp_path) == []
    assert list(VALIDATOR.iter_errors(document)) == []


def test_examples_are_accepted(root: Path) -> None:
    examples = sorted((root / "examples").glob("*.yaml"))
    if not examples:
        pytest.skip("no example files")
    for path in examples:
        document = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
        assert set(document) <= {f.key for f in ROOT.fields}
        from neurocompile.ir.yaml_source import compose

        _, node = compose(path.read_text(), path.name)
        errors = list(VALIDATOR.iter_errors(_as_json(node)))
        assert errors == [], f"{path.name}: {errors[0].message if errors else ''}"


def _as_json(node: Any) -> Any:
    if hasattr(node, "pairs"):
        return {key.text: _as_json(value) for key, value in node.pairs}
    return [_as_json(n) for n in node.items] if hasattr(node, "items") else node.value


CLASSES: list[tuple[type[Any], tuple[Field, ...], set[str]]] = [
    *[(MODELS[m], fields, set()) for m, fields in MODEL_PARAMS.items()],
    *[({"eprop": EProp, "stdp": STDP, "r_stdp": RSTDP}[r], fields, {"name"}) for r, fields in RULE_FIELDS.items()],
    (Task, TASK.fields, set()),
    *[
        (cls, CONNECT.choices[name].fields, set())  # type: ignore[attr-defined]
        for name, cls in {
            "all_to_all": AllToAll,
            "one_to_one": OneToOne,
            "fixed_probability": FixedProbability,
            "fixed_indegree": FixedInDegree,
            "fixed_outdegree": FixedOutDegree,
            "distance_dependent": DistanceDependent,
        }.items()
    ],
]


@pytest.mark.parametrize(("cls", "fields", "besides"), CLASSES, ids=lambda v: getattr(v, "__name__", ""))
def test_the_table_has_every_field_of_the_dataclasses(cls: type[Any], fields: tuple[Field, ...], besides: set[str]) -> None:
    assert {f.name for f in fields} | besides == {f.name for f in dataclasses.fields(cls)}
    required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    assert {f.name for f in fields if f.required} - {"reward"} == required


def _sections_below(kind: Any) -> Iterator[Section]:
    if isinstance(kind, Section):
        yield kind
        for entry in kind.fields:
            yield from _sections_below(entry.kind)
    for inner in (*getattr(kind, "choices", {}).values(), *getattr(kind, "sections", {}).values(), getattr(kind, "item", None)):
        if inner is not None:
            yield from _sections_below(inner)


def test_default_texts_are_the_dataclasses_defaults() -> None:
    """The documented defaults of plain numbers and words are those that apply."""
    owners = {"adam": Adam, "gradient_descent": GradientDescent, "regularization": Regularization, "per_event": PerEvent}
    owners |= {
        "per_interval": PerInterval,
        "interval_2020": Interval2020,
        "piecewise_linear": Surrogate,
        "task": Task,
        "eprop rule": EProp,
        "stdp rule": STDP,
    }
    owners |= {f"{m} params": cls for m, cls in MODELS.items()} | {"r_stdp rule": RSTDP}
    n_checked = 0
    for section in _sections_below(ROOT):
        if section.name not in owners:
            continue
        defaults = {f.name: f.default for f in dataclasses.fields(owners[section.name])}
        for entry in section.fields:
            value = defaults.get(entry.name)
            if not entry.default or entry.required or not isinstance(value, bool | int | float | str):
                continue
            text = getattr(value, "value", value)
            number, _, unit = entry.default.partition(" ")
            if isinstance(text, (bool, str)):
                if text != "":
                    assert entry.default == str(text).lower(), (section.name, entry.key)
            else:
                factor = next((10.0**p for units in UNITS.values() for u, p in units.items() if u == unit), 1.0)
                assert float(number.replace(".inf", "inf")) * factor == pytest.approx(text), (section.name, entry.key)
            n_checked += 1
    assert n_checked > 40
