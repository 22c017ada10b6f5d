"""The emitted files, and what sPyNNaker makes of them on a virtual board."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker import TARGET
from neurocompile.backends.spinnaker.validate import run_virtual
from neurocompile.backends.spinnaker.walk import walk
from neurocompile.ir import LIF, RSTDP, EProp
from neurocompile.ir.errors import MismatchError
from neurocompile.machine import Machine


def test_golden_program(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    network, connections = build()
    files = TARGET.emit(TARGET.lower(network, connections, spin5, strict), None, strict)
    names = ["README.md", "board.py", "network.json", "network.npz", "pynn_network.py", "routes.py", "run.py"]
    assert sorted(files) == [f"program/{name}" for name in names]
    document = json.loads(files["program/network.json"])
    hidden = document["populations"][1]
    assert hidden.pop("max_expected_summed_weight")[0] > 0
    assert hidden.pop("weight_resolution")
    assert hidden.pop("params").pop("cm") == pytest.approx(20 * (1 - np.exp(-1 / 20)), rel=1e-3)
    assert hidden == {
        "name": "hid",
        "size": 20,
        "cell": "IF_curr_delta",
        "voltage_scale": 512.0,
        "weight_scale": 512.0,
        "record": "spikes",
        "neurons_per_core": 20,
        "n_slots": 20,
        "slot": None,
        "cores": None,
        "delay_cores": False,
        "n_synapse_cores": 0,
    }
    assert document["projections"][0] == {"key": "0", "name": "in->hid", "pre": "in", "post": "hid", "rule": {}}
    assert files["program/README.md"].startswith(b"# sPyNNaker program\n\nNetwork: small. Time step: 1 ms.")
    assert b"**Not verified on hardware**" in files["program/README.md"]


def test_same_input_same_bytes(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    first, second = (TARGET.emit(TARGET.lower(*build(), spin5, strict), None, strict) for _ in range(2))
    assert first == second


def test_program_is_self_contained(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    """run.py and its modules import nothing of ours, and are the same for every network: names are data."""
    files = TARGET.emit(TARGET.lower(*build(), spin5, strict), None, strict)
    imported = set()
    for name in ("run", "board", "pynn_network", "routes"):
        for node in ast.walk(ast.parse(files[f"program/{name}.py"])):
            if isinstance(node, ast.Import):
                imported |= {n.name.split(".")[0] for n in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {
        *("numpy", "pyNN", "spynnaker", "pacman", "spinn_front_end_common", "spinn_machine"),
        *("board", "pynn_network", "routes"),
        "eprop_model",  # of programs that have it
    }
    assert "program/eprop_model.py" not in files


HOSTILE = ['x"; import os #', "a'b", "a\nb", "</script>", "é\\u0022", "${HOME}", "../../x", "`id`", "{array}", "@CHANGES@"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_data(build: Callable[..., Any], spin5: Machine, approximate: BuildOptions, name: str) -> None:
    """ir/ refuses such names; a plugin that makes networks may not. Every name of the network is hostile here, past its own checks."""
    rule = RSTDP(reward="rew", weight_bounds=(0.0, 0.2))
    network, connections = build(rule=rule, mean=0.1)
    plain = TARGET.emit(TARGET.lower(network, connections, spin5, approximate), None, approximate)
    renamed = {p.name: f"{name}{p.name}" for p in network.populations}
    for population in network.populations:
        object.__setattr__(population, "name", renamed[population.name])
    for projection in network.projections:
        for end in ("pre", "post"):
            object.__setattr__(projection, end, renamed[getattr(projection, end)])
        connections[f"{name}{projection.name}"] = connections.pop(projection.name)
        object.__setattr__(projection, "name", f"{name}{projection.name}")
    object.__setattr__(rule, "reward", renamed["rew"])
    object.__setattr__(network, "name", name)
    files = TARGET.emit(TARGET.lower(network, connections, spin5, approximate), None, approximate)
    assert sorted(files) == sorted(plain)
    assert all(files[name] == plain[name] for name in files if name.endswith(".py"))
    document, before = json.loads(files["program/network.json"]), json.loads(plain["program/network.json"])
    assert document.pop("name") == name
    assert before.pop("name") == "small"
    assert [p["name"] for p in document["populations"]] == [renamed[p["name"]] for p in before["populations"]]
    assert document["modulations"][0]["pre"] == renamed["rew"]
    for row in [*document["populations"], *document["projections"], *document["modulations"]]:
        for key in ("name", "pre", "post"):
            row[key] = row[key].removeprefix(name) if key in row else None
    for row in [*before["populations"], *before["projections"], *before["modulations"]]:
        for key in ("name", "pre", "post"):
            row.setdefault(key, None)
    assert document == before
    assert files["program/network.npz"] == plain["program/network.npz"]
    assert files["program/README.md"].count(b"\n") == plain["program/README.md"].count(b"\n")


def test_readme_lists_what_was_approximated(build: Callable[..., Any], spin5: Machine, approximate: BuildOptions) -> None:
    network, connections = build(model=LIF(tau_mem=0.02, v_threshold=0.03), rule=EProp(), readout=True)
    options = replace(approximate, extra={"eprop": "r_stdp"})
    readme = TARGET.emit(TARGET.lower(network, connections, spin5, options), None, options)["program/README.md"].decode()
    for text in ("NC322", "NC325", "this is not e-prop", "`eprop_reward`", "`eprop_punishment`"):
        assert text in readme


def table(*entries: tuple[int, int, int, int, int, int]) -> dict[str, Any]:
    """Three chips in a row; a source on core 3 of chip (0, 0), targets on core 4 of each chip."""
    return {
        "placements": np.asarray([[0, -1, 0, 9, 0, 0, 3, 0], [1, -1, 0, 9, 1, 0, 4, 1], [1, -1, 10, 19, 2, 0, 4, 1]]),
        "keys": np.asarray([[0, 0x1000, 0xFFFFF000]]),
        "entries": np.asarray(entries, np.int64).reshape(-1, 6),
        "links": np.asarray([[0, 0, 0, 1, 0], [1, 0, 0, 2, 0], [1, 0, 3, 0, 0], [2, 0, 3, 1, 0]]),
    }


def test_walk_follows_entries_and_default_routes() -> None:
    mask = 0xFFFFF000
    assert walk(table((0, 0, 0x1000, mask, 1, 0), (1, 0, 0x1000, mask, 1, 16), (2, 0, 0x1000, mask, 0, 16))) == {0: [1, 2]}
    assert walk(table((0, 0, 0x1000, mask, 1, 0), (2, 0, 0x1000, mask, 0, 16))) == {0: [2]}  # straight on through (1, 0)
    assert walk(table((0, 0, 0x2000, mask, 1, 0), (2, 0, 0x1000, mask, 0, 16))) == {0: []}  # no entry where it starts: dropped
    loop = table((0, 0, 0x1000, mask, 1, 0), (1, 0, 0x1000, mask, 8, 0))
    assert walk(loop) == {0: []}  # a loop ends
    first = table((0, 0, 0x1000, mask, 0, 0), (0, 0, 0x1000, mask, 1, 0), (1, 0, 0x1000, mask, 0, 16))
    assert walk(first) == {0: []}  # the first match wins


BROKEN = {
    "no message": ("raise SystemExit(1)", "NC620"),
    "its message, not what is printed behind it": (
        "import sys; print('error: one core', file=sys.stderr); sys.exit('chatter')",
        "NC620.*one core",
    ),
    "no summary": ("print('hello')", "NC621"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_program_is_noticed(tmp_path: Path, case: str) -> None:
    text, says = BROKEN[case]
    (tmp_path / "run.py").write_text(text)
    with pytest.raises(MismatchError, match=says):
        run_virtual(tmp_path, 1, tmp_path / "o.npz", tmp_path / "m.npz", tmp_path)
