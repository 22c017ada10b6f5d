"""The emitted files, and what sPyNNaker makes of them on a virtual board."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker import TARGET
from neurocompile.backends.spinnaker.validate import check_cores, check_routes, check_synapses, run_virtual
from neurocompile.backends.spinnaker.walk import walk
from neurocompile.ir import LIF, RSTDP, STDP, EProp
from neurocompile.ir.errors import MismatchError
from neurocompile.ir.npz import load_npz
from neurocompile.machine import Machine


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_golden_program(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    network, connections = build()
    files = TARGET.emit(TARGET.lower(network, connections, spin5, strict), None, strict)
    assert sorted(files) == ["program/README.md", "program/network.json", "program/network.npz", "program/run.py"]
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
        "n_synapse_cores": 0,
    }
    assert document["projections"][0] == {"key": "0", "name": "in->hid", "pre": "in", "post": "hid", "rule": {}}
    assert files["program/README.md"].startswith(b"# sPyNNaker program\n\nNetwork: small. Time step: 1 ms.")
    assert b"**Not verified on hardware**" in files["program/README.md"]


def test_same_input_same_bytes(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    first, second = (TARGET.emit(TARGET.lower(*build(), spin5, strict), None, strict) for _ in range(2))
    assert first == second


def test_program_is_self_contained(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    """run.py imports nothing of ours, and is the same for every network: names are data."""
    run = TARGET.emit(TARGET.lower(*build(), spin5, strict), None, strict)["program/run.py"]
    imported = set()
    for node in ast.walk(ast.parse(run)):
        if isinstance(node, ast.Import):
            imported |= {n.name.split(".")[0] for n in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", "pyNN", "spynnaker"}


@pytest.mark.parametrize("name", ['x"; import os #', "a'b", "a\nb", "</script>", "é\\u0022"])
def test_hostile_network_name_stays_data(build: Callable[..., Any], spin5: Machine, strict: BuildOptions, name: str) -> None:
    network, connections = build()
    plain = TARGET.emit(TARGET.lower(network, connections, spin5, strict), None, strict)
    files = TARGET.emit(TARGET.lower(replace(network, name=name), connections, spin5, strict), None, strict)
    assert files["program/run.py"] == plain["program/run.py"]
    assert json.loads(files["program/network.json"])["name"] == name


def test_readme_lists_what_was_approximated(build: Callable[..., Any], spin5: Machine, approximate: BuildOptions) -> None:
    network, connections = build(model=LIF(tau_mem=0.02, v_threshold=0.03), rule=EProp(), readout=True)
    readme = TARGET.emit(TARGET.lower(network, connections, spin5, approximate), None, approximate)["program/README.md"].decode()
    for text in ("NC322", "NC325", "this is not e-prop", "`eprop_reward`", "`eprop_punishment`"):
        assert text in readme


def mapped(folder: Path, network: Any, connections: Any, machine: Machine, options: BuildOptions) -> Path:
    return write(folder, TARGET.emit(TARGET.lower(network, connections, machine, options), None, options))


def test_stdp_and_delays_on_a_virtual_board(tmp_path: Path, build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    network, connections = build(rule=STDP(weight_bounds=(0.0, 0.3)), mean=0.1, delay=20)
    folder = mapped(tmp_path, network, connections, spin5, strict)
    checks = TARGET.validate(folder, network, connections, steps=10)
    assert [c for c in checks if not c.ok] == []
    assert {c.name for c in checks} >= {"synapses of in->hid", "cores of hid", "routing tables", "routes of hid->hid"}


def test_reward_modulated_on_a_virtual_board(tmp_path: Path, build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    """Maps on split cores; then each check is shown a broken result and must notice it."""
    network, connections = build(rule=RSTDP(reward="rew", weight_bounds=(0.0, 0.3)), mean=0.1)
    folder = mapped(tmp_path, network, connections, spin5, strict)
    (tmp_path / "work").mkdir()
    spikes = tmp_path / "spikes.npz"
    np.savez(spikes, neuron=np.asarray([0, 3]), step=np.asarray([1, 2]))
    out, found = tmp_path / "out.npz", tmp_path / "map.npz"
    summary = run_virtual(folder / "program", 10, out, found, tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())  # sPyNNaker's reports stay in its temporary home
    assert summary["mode"] == "virtual"
    assert summary["executed"] is False
    assert summary["populations"]["hid"]["cores"] == 2
    assert summary["populations"]["hid"]["neuron_cores"] == 1
    assert summary["n_synapses"] == sum(len(c.pre) for c in connections.values())
    results, mapping = load_npz(out), load_npz(found)
    assert results["spike_step:hid"].size == 0
    assert results["output:out"].shape == (0, 2)
    document = json.loads((folder / "program" / "network.json").read_text())
    arrays = load_npz(folder / "program" / "network.npz")
    good = [check_synapses(n, c, results, document, arrays) for n, c in connections.items()]
    good += check_cores(document, summary) + check_routes(document, connections, mapping)
    assert all(c.ok for c in good), [c.detail for c in good]

    name = "in->hid"
    weight = results[f"weight:{name}"].copy()
    weight[3] += 0.01
    assert not check_synapses(name, connections[name], {**results, f"weight:{name}": weight}, document, arrays).ok
    weight[3] = np.nan
    assert not check_synapses(name, connections[name], {**results, f"weight:{name}": weight}, document, arrays).ok
    delay = results[f"delay:{name}"] + 1
    assert not check_synapses(name, connections[name], {**results, f"delay:{name}": delay}, document, arrays).ok
    post = np.roll(results[f"post:{name}"], 1)
    assert not check_synapses(name, connections[name], {**results, f"post:{name}": post}, document, arrays).ok
    summary["populations"]["hid"]["cores"] = 3
    assert not all(c.ok for c in check_cores(document, summary))
    entries = mapping["entries"].copy()
    entries[:, 5] = 0  # no core is reached any more
    assert not any(c.ok for c in check_routes(document, connections, {**mapping, "entries": entries}))


def test_eprop_approximation_maps(tmp_path: Path, build: Callable[..., Any], spin5: Machine, approximate: BuildOptions) -> None:
    network, connections = build(model=LIF(tau_mem=0.02, v_threshold=0.03), rule=EProp(), readout=True)
    folder = mapped(tmp_path, network, connections, spin5, approximate)
    assert [c for c in TARGET.validate(folder, network, connections, steps=10) if not c.ok] == []


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "at least 1"),
        (["--input", "hid=x.npz"], "expected POP=FILE"),
        (["--input", "in=missing.npz"], "cannot be read"),
    ],
)
def test_bad_arguments_of_the_program(
    tmp_path: Path, build: Callable[..., Any], spin5: Machine, strict: BuildOptions, arguments: list[str], message: str
) -> None:
    folder = mapped(tmp_path, *build(), spin5, strict)
    done = subprocess.run([sys.executable, str(folder / "program" / "run.py"), *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("code", "text"), [("NC620", "raise SystemExit(1)"), ("NC621", "print('hello')")])
def test_broken_program_is_noticed(tmp_path: Path, code: str, text: str) -> None:
    (tmp_path / "run.py").write_text(text)
    with pytest.raises(MismatchError, match=code):
        run_virtual(tmp_path, 1, tmp_path / "o.npz", tmp_path / "m.npz", tmp_path)
