"""The files of ``program/``: golden structure, the same bytes for the same network, and a program that no name can reach."""

from __future__ import annotations

import ast
import io
import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.nest.templates import run as template_module
from neurocompile.ir import LIF, Adam, EProp, Explicit, ExplicitFeedback, LeakyReadout, Network, Population, Projection, SpikeSource, Task
from tests.backends.nest.conftest import RULE, Arrays, emitted, make_network

HOSTILE = 'x"; import os #'


def synapses(pre: list[int], post: list[int], weight: list[float], delay: list[int] | None = None) -> Explicit:
    return Explicit(
        pre=np.array(pre, np.int32),
        post=np.array(post, np.int32),
        weight=np.array(weight),
        delay=None if delay is None else np.array(delay),
    )


def tiny() -> Network:
    """Two neurons in, two hidden, one out; a static synapse with a delay; source 1 is Poisson, hidden neuron 1 has no leak."""
    feedback = ExplicitFeedback(connections=synapses([0, 0], [1, 0], [0.5, 0.0]))
    rule = EProp(feedback=feedback, optimizer=Adam(learning_rate=0.001, each_step=False), sign_constraint=True)
    return Network(
        name="tiny",
        dt=1e-3,
        seed=5,
        populations=(
            Population(name="in", size=2, model=SpikeSource(rate=np.array([0.0, 100.0]))),
            Population(name="hidden", size=2, model=LIF(tau_mem=np.array([0.02, np.inf]), v_threshold=0.5, bias=0.25)),
            Population(name="out", size=1, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=(
            Projection(pre="in", post="hidden", connect=synapses([1, 0], [0, 1], [0.5, -0.25]), learning="eprop"),
            Projection(name="read", pre="hidden", post="out", connect=synapses([0], [0], [1.5], [9])),
        ),
        rules=(rule,),
        task=Task(readout="out"),
    )


def arrays_of(files: dict[str, bytes]) -> Arrays:
    with np.load(io.BytesIO(files["program/network.npz"]), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def test_golden_structure() -> None:
    files = emitted(tiny())
    assert sorted(files) == ["program/README.md", "program/network.json", "program/network.npz", "program/run.py"]
    membrane = {"C_m": 1.0, "E_L": 0.0, "V_min": -1.7976931348623157e308}
    expected: dict[str, Any] = {
        "dt_ms": 1.0,
        "feedback": [{"index": 0, "post": 1, "pre": 2}],
        "format": "neurocompile-nest/1",
        "max_delay": 9,
        "name": "tiny",
        "populations": [
            {
                "arrays": [],
                "kind": "spike_source",
                "model": "parrot_neuron",
                "name": "in",
                "params": {"flush_event_send_interval": 1000.0},
                "size": 2,
            },
            {
                "arrays": ["I_e", "V_m", "tau_m"],
                "kind": "lif",
                "model": "eprop_iaf",
                "name": "hidden",
                "params": membrane
                | {"V_th": 0.5, "kappa": 0.97, "kappa_reg": 0.97, "t_ref": 0.0}
                | {"surrogate_gradient_function": "piecewise_linear", "surrogate_gradient_height": 0.3, "surrogate_gradient_width": 1.0},
                "size": 2,
            },
            {
                "arrays": [],
                "kind": "leaky_readout",
                "model": "eprop_readout",
                "name": "out",
                "params": membrane | {"I_e": 0.0, "V_m": 0.0, "tau_m": 20.0},
                "size": 1,
            },
        ],
        "projections": [{"name": "in->hidden", "post": 1, "pre": 0, "rule": 0}, {"name": "read", "post": 2, "pre": 1, "rule": None}],
        "rules": [
            {
                "keep_sign": True,
                "optimizer": {"type": "adam", "batch_size": 1, "eta": 0.001, "optimize_each_step": False, "Wmin": -100.0, "Wmax": 100.0}
                | {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
            }
        ],
        "seed": 5,
        "spikes_at_once": False,
    }
    assert json.loads(files["program/network.json"]) == expected
    alpha = np.exp(-1.0 / 20.0)
    golden = {
        "population0:probability": [0.0, 0.1],
        "population1:I_e": [0.25 / (20.0 * (1.0 - alpha)), 0.0],
        "population1:V_m": [0.25 / alpha, 0.25],
        "population1:tau_m": [20.0, 1e300],
        "population1:pushed": [0.0, 0.25],
        "projection0:pre": [1, 0],
        "projection0:post": [0, 1],
        "projection0:weight": [0.5, -0.25],
        "projection0:delay": [1, 1],
        "projection1:pre": [0],
        "projection1:post": [0],
        "projection1:weight": [1.5],
        "projection1:delay": [9],
        "feedback0:pre": [0],
        "feedback0:post": [1],
        "feedback0:weight": [0.5],
    }
    assert {key: value.tolist() for key, value in arrays_of(files).items()} == golden


def test_the_same_bytes() -> None:
    assert emitted(make_network()) == emitted(make_network())


def test_the_program_is_the_same_for_every_network() -> None:
    one, other = emitted(tiny()), emitted(make_network())
    assert one["program/run.py"] == other["program/run.py"]
    assert one["program/README.md"] == other["program/README.md"]
    assert one["program/network.json"] != other["program/network.json"]


def renamed(network: Network, names: dict[str, str]) -> Network:
    """Put in names that the description refuses: the backend does not rely on that."""
    populations = tuple(replace(p) for p in network.populations)
    projections = tuple(replace(p) for p in network.projections)
    for p in populations:
        object.__setattr__(p, "name", names.get(p.name, p.name))
    for q in projections:
        for field in ("name", "pre", "post"):
            object.__setattr__(q, field, names.get(getattr(q, field), getattr(q, field)))
    assert network.task is not None
    task = replace(network.task, readout=names.get(network.task.readout, network.task.readout))
    return replace(network, populations=populations, projections=projections, task=task)


@pytest.mark.parametrize("name", [HOSTILE, "../../etc/passwd", "ünïcode \U0001f40d \u2028", "a\nb", "{0} %s ${x}", "'''", "weight:in"])
def test_names_stay_data(name: str) -> None:
    plain, files = emitted(make_network()), emitted(renamed(make_network(), {"hidden": name, "read": f"{name}->{name}"}))
    assert files["program/run.py"] == plain["program/run.py"]
    assert list(arrays_of(files)) == list(arrays_of(plain))  # keys are numbers of populations; random feedback depends on the name
    assert sorted(files) == sorted(plain)  # no name becomes a path
    text = files["program/network.json"].decode("ascii")  # everything else is escaped
    structure = json.loads(text)
    assert structure["populations"][1]["name"] == name
    assert structure["projections"][2]["name"] == f"{name}->{name}"


def test_per_neuron_parameters_are_arrays() -> None:
    threshold = np.linspace(0.4, 0.8, 10)
    files = emitted(make_network(LIF(tau_mem=0.02, v_threshold=threshold)))
    hidden = json.loads(files["program/network.json"])["populations"][1]
    assert hidden["arrays"] == ["V_th"]
    assert "V_th" not in hidden["params"]
    assert np.array_equal(arrays_of(files)["population1:V_th"], threshold)


def test_static_and_rules_in_the_structure() -> None:
    structure = json.loads(emitted(make_network(learning={"rec": None}))["program/network.json"])
    assert [p["rule"] for p in structure["projections"]] == [0, None, 0]
    assert structure["rules"] == [{"keep_sign": RULE.sign_constraint, "optimizer": structure["rules"][0]["optimizer"]}]


def test_the_program_needs_numpy_and_nest_alone() -> None:
    tree = ast.parse(emitted(tiny())["program/run.py"])
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "nest"}


def test_the_program_evaluates_nothing() -> None:
    tree = ast.parse(emitted(tiny())["program/run.py"])
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile", "__import__", "system"}


def brute_repeats(pair: list[int]) -> list[int]:
    return [pair[:i].count(value) for i, value in enumerate(pair)]


def test_repeats_by_counting() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 50):
        pair = rng.integers(0, 6, size)
        assert template_module.repeats(pair).tolist() == brute_repeats(pair.tolist())
