"""Emission: fixed code, data apart, the same bytes every time, and names that stay data."""

from __future__ import annotations

import ast
import io
import json

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions, Target
from neurocompile.backends.loihi2 import TARGET
from neurocompile.ir import LIF, Explicit, Network, Population, Projection, Reset, SpikeSource
from neurocompile.ir.errors import InputError


def tiny(pre="in", post="a"):
    return Network(
        name="tiny",
        dt=1e-3,
        populations=(
            Population(name=pre, size=2, model=SpikeSource()),
            Population(name=post, size=1, model=LIF(tau_mem=np.inf, v_threshold=1.0, reset=Reset.TO_VALUE)),
        ),
        projections=(
            Projection(pre=pre, post=post, name="p", connect=Explicit(pre=[0, 1], post=[0, 0], weight=[0.5, -0.25], delay=[1, 3])),
        ),
    )


def emit(lower, network):
    return TARGET.emit(lower(network), None, BuildOptions())


def test_it_is_a_target():
    assert isinstance(TARGET, Target)
    assert TARGET.sdk_versions()["lava-nc"] == "0.10.0"
    assert "two-factor" in TARGET.capabilities()["stdp"]


GOLDEN = {
    "dt": 0.001,
    "feedback": [],
    "format": 2,
    "learning": False,
    "name": "tiny",
    "populations": [
        {"key": "n0", "learning": None, "name": "in", "offset": 0.0, "process": "SpikeInput", "scale": 1.0, "size": 2},
        {"key": "n1", "learning": None, "name": "a", "offset": 0.0, "process": "LIF", "scale": 2080768.0, "size": 1},
    ],
    "projections": [
        {
            "key": "s0",
            "name": "p",
            "parts": 1,
            "post": 1,
            "pre": 0,
            "rule": None,
            "sign_mode": "MIXED",
            "unit": 2.0**12 / 2080768.0,
            "weight_exp": 6,
            "weight_range": [-256, 254],
            "weight_step": 2,
            "learnt_step": 1,
        }
    ],
    "rewards": [],
    "seed": 1,
}


def test_golden_program(lower):
    files = emit(lower, tiny())
    assert list(files) == [
        "program/README.md",
        "program/network.json",
        "program/network.npz",
        "program/neurocore/neuron.py",
        "program/processes/__init__.py",
        "program/processes/arithmetic.py",
        *(
            f"program/processes/{folder}/{name}.py"
            for folder, module in (("host", "host"), ("neurons", "neuron"), ("plasticity", "plastic"), ("readouts", "readout"))
            for name in ("__init__", module)
        ),
        "program/run.py",
    ]
    assert json.loads(files["program/network.json"]) == GOLDEN
    with np.load(io.BytesIO(files["program/network.npz"]), allow_pickle=False) as arrays:
        assert arrays["s0.weight.fixed"].tolist() == [254, -128]
        assert arrays["s0.delay"].tolist() == [1, 3]
        assert {k: arrays[f"n1.fixed.{k}"].item() for k in ("du", "dv", "vth", "bias_mant", "bias_exp", "u", "v")} == {
            "du": 4095,
            "dv": 0,
            "vth": 2080768 // 64 - 1,
            "bias_mant": 0,
            "bias_exp": 0,
            "u": 0,
            "v": 0,
        }
    assert b"| `p` | 2 | DelaySparse | 0.0019685 |" in files["program/README.md"]
    assert b"Not verified on hardware" in files["program/README.md"]


def test_same_network_same_bytes(lower, learner):
    assert emit(lower, learner()) == emit(lower, learner())


def test_code_is_the_same_for_every_network_and_needs_only_numpy_scipy_and_lava(lower, learner):
    """No text of the user's can become code: the .py files do not depend on the network at all."""
    first, second = emit(lower, tiny()), emit(lower, learner())
    for path, content in first.items():
        if path.endswith(".py"):
            assert second[path] == content, path
            for node in ast.walk(ast.parse(content)):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not [n for n in names if n.split(".")[0] in ("neurocompile", "ir", "backends")], path


def test_nothing_beside_a_process_class_can_run_the_program(lower):
    """Lava imports every .py beside a process class: run.py must be guarded and in a folder of its own."""
    files = emit(lower, tiny())
    folders = {p.rpartition("/")[0] for p, c in files.items() if b"(AbstractProcess)" in c}
    assert folders == {f"program/processes/{f}" for f in ("host", "neurons", "plasticity", "readouts")}
    assert b'if __name__ == "__main__":' in files["program/run.py"]


def test_hostile_names_are_refused_or_data(lower):
    with pytest.raises(InputError):
        tiny(pre='x"; import os #')
    files = emit(lower, tiny(pre="import os", post="a.b __class__"))
    assert json.loads(files["program/network.json"])["populations"][0]["name"] == "import os"
    assert files["program/run.py"] == emit(lower, tiny())["program/run.py"]
