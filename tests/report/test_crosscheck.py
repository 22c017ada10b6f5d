"""The cross-check by SANA-FE: with the tool itself where it can be installed, and with stand-ins for what can go wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from neurocompile.build_folder import read_build
from neurocompile.cli import run as cli
from neurocompile.report.crosscheck import _constants, _placed, architecture_text, count, network_text
from tests.report.conftest import NET

VERSION = "2.2.9"
OTHER = {"spikes": 0, "synaptic events": 0, "packets": 0, "packets x links": 0} | {
    f"energy of {x}": 1.0 for x in ("synapse", "soma", "network")
}


@pytest.fixture(scope="session")
def sanafe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of its own with SANA-FE (GPL 3: never in the project's environment); skipped where it cannot be installed."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("SANA-FE is not installed: there is no uv to install it with")
    folder = tmp_path_factory.mktemp("sanafe") / "venv"
    python = folder / "bin" / "python"
    for words in (
        ["venv", "-q", "--python", sys.executable, str(folder)],
        ["pip", "install", "-q", "--python", str(python), f"sanafe=={VERSION}", "numpy"],
    ):
        try:
            done = subprocess.run([uv, *words], capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            pytest.skip("SANA-FE is not installed: the registry did not answer within 60 s")
        if done.returncode != 0:
            pytest.skip(f"SANA-FE is not installed: {done.stderr.strip()[-300:]}")
    return python


@pytest.fixture(scope="module")
def machines(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Loihi 2 and Loihi 1 with chips of three usable cores on meshes that are not square, so that packets cross several links."""
    folder = tmp_path_factory.mktemp("machines")
    found = {}
    for name, kept in (("kapoho-point", 8), ("nahuku-32", 0)):
        text = (root / "hw_configs" / f"{name}.yaml").read_text("utf-8")
        text, n = re.subn(r"(    cores: {value: )128", rf"\g<1>{kept + 3}", text)
        assert n == 1
        found[name] = folder / f"{name}.yaml"
        found[name].write_text(text, "utf-8")
    return found


@pytest.fixture(scope="module")
def build(machines: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The build of the network that is looked at, nine neurons a core, on one of the machines."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("build")
            (folder / "net.yaml").write_text(NET.replace(", params: {rate: 20 Hz}", ""))
            words = ["build", str(folder / "net.yaml"), "--target", "loihi2", "--machine", str(machines[name]), "-q"]
            assert cli([*words, "--allow-approximation", "--set", "machine.core.neurons=9", "-o", str(folder / "build")]) == 0
            made[name] = folder / "build"
        return made[name]

    return of


def report(capsys: pytest.CaptureFixture[str], build: Path, *words: str) -> tuple[int, Any, str]:
    """Run ``report --crosscheck``; return (exit code, JSON or None, messages)."""
    capsys.readouterr()
    code = cli(["report", str(build), "--crosscheck", "sanafe", "--format", "json", *words])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, out + err


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["kapoho-point", "nahuku-32"])
def test_sanafe_counts_the_same(build: Callable[[str], Path], sanafe: Path, machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Spikes, events, packets and links are equal, energies to 1e-9 (the command refuses anything else); and something is counted."""
    code, found, messages = report(capsys, build(machine), "--python", str(sanafe), "--steps", "40")
    assert code == 0, messages
    rows = {row["name"]: row for row in found["crosscheck"]["rows"]}
    for name, row in rows.items():
        assert row["here"] == (pytest.approx(row["there"], rel=1e-9) if name.startswith("energy") else row["there"])
        assert row["here"] > 0
    assert rows["packets x links"]["here"] > rows["packets"]["here"] * 0.3  # chips of three cores: many packets leave theirs
    constants = found["crosscheck"]["constants"]
    expected = rows["synaptic events"]["here"] * constants["event"]
    assert rows["energy of synapse"]["there"] == pytest.approx(expected, rel=1e-9)
    assert constants["event"] == (3.36e-11 if machine == "nahuku-32" else 6.8e-12)


@pytest.mark.slow
def test_sanafe_replays_a_recording(build: Callable[[str], Path], sanafe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One spike of a neuron of relay, which has no synapses, and two of the first source: events are its synapses, by hand."""
    np.savez(
        tmp_path / "rec.npz", **{"spike_step:in": [0, 3], "spike_neuron:in": [0, 0], "spike_step:relay": [2], "spike_neuron:relay": [5]}
    )
    code, found, messages = report(capsys, build("kapoho-point"), "--python", str(sanafe), "--spikes", str(tmp_path / "rec.npz"))
    assert code == 0, messages
    rows = {row["name"]: row["there"] for row in found["crosscheck"]["rows"]}
    fan_out = int((read_build(build("kapoho-point")).connections["in->hidden"].pre == 0).sum())
    assert (rows["spikes"], rows["synaptic events"]) == (3, 2 * fan_out)
    assert found["crosscheck"]["steps"] == 4


@pytest.mark.parametrize("machine", ["kapoho-point", "nahuku-32"])
def test_own_count_is_the_mappers_traffic(build: Callable[[str], Path], machine: str) -> None:
    """Without rates the mapper's traffic has every neuron spike once a step: the counter, which knows neither axons nor routes, agrees."""
    folder = read_build(build(machine))
    placed = _placed(folder, None, 1)
    every = replace(placed, fired=np.ones_like(placed.fired))
    found = count(every, _constants(folder.report["machine"]["quantities"]))
    routing = folder.report["routing"]
    assert found["packets"] == routing["axons"] == len(set(map(tuple, np.load(folder.path / "mapping.npz")["axons"].tolist())))
    assert found["packets x links"] == pytest.approx(routing["hops_per_step"])
    energy = {term["name"]: term["count"] for term in folder.report["cost"]["energy"]["terms"]}
    assert found["synaptic events"] == pytest.approx(energy["synaptic events"])


def test_what_is_written_is_yaml_without_the_users_names(build: Callable[[str], Path]) -> None:
    folder = read_build(build("kapoho-point"))
    placed = _placed(folder, None, 3)
    architecture = yaml.safe_load(architecture_text(placed, _constants(folder.report["machine"]["quantities"])))["architecture"]
    text = network_text(placed)
    network = yaml.safe_load(text)
    assert (architecture["attributes"]["width"], architecture["attributes"]["height"]) == tuple(folder.report["machine"]["grid"])
    assert len(architecture["tile"]) == folder.report["machine"]["chips"]
    assert sum(core["attributes"]["max_neurons_supported"] for tile in architecture["tile"] for core in tile["core"]) >= 193
    assert len(network["mappings"]) == folder.network.n_neurons
    assert len(network["network"]["edges"]) == sum(len(c.pre) for c in folder.connections.values())
    assert not [name for name in ("hidden", "relay", "looked-at") if name in text]


def stand_in(folder: Path, body: str) -> Path:
    """A program in the place of the interpreter."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("body", "code", "exit_code", "says"),
    [
        ("print(json.dumps({'missing': 'sanafe'}))", "NC731", 5, "pip install sanafe"),
        ("sys.exit('out of memory')", "NC732", 6, "out of memory"),
        ("print('nothing')", "NC732", 6, "failed"),
        ("print('{}')", "NC732", 6, "failed"),
        (
            f"print(json.dumps({OTHER!r}))",
            "NC733",
            6,
            "energy of synapse",
        ),
    ],
    ids=["absent", "fails", "no counts", "empty", "other counts"],
)
def test_what_can_go_wrong_with_the_tool(
    build: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, code: str, exit_code: int, says: str
) -> None:
    found, _, messages = report(capsys, build("kapoho-point"), "--python", str(stand_in(tmp_path, body)), "--steps", "2")
    assert found == exit_code
    assert code in messages
    assert says in messages


def test_what_is_refused(build: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No interpreter, a recording of another network or without spikes, a target whose packets carry keys, too much text."""
    here, python = build("kapoho-point"), str(stand_in(tmp_path, "print('{}')"))
    (tmp_path / "net.yaml").write_text(NET)
    words = ["build", str(tmp_path / "net.yaml"), "--allow-approximation", "-q", "--target"]
    assert cli([*words, "spinnaker", "-o", str(tmp_path / "spin")]) == 0
    np.savez(tmp_path / "far.npz", **{"spike_step:in": [0], "spike_neuron:in": [30]})
    np.savez(tmp_path / "none.npz", **{"spike_step:x": [0], "spike_neuron:x": [0]})
    for folder, more, code in (
        (here, ["--python", str(tmp_path / "no python")], "NC731"),
        (here, ["--python", python, "--spikes", str(tmp_path / "far.npz")], "NC204"),
        (here, ["--python", python, "--spikes", str(tmp_path / "none.npz")], "NC107"),
        (here, ["--python", python, "--steps", "1000000"], "NC730"),
        (tmp_path / "spin", ["--python", python], "NC730"),
    ):
        found, _, messages = report(capsys, folder, *more)
        assert found in {3, 5}
        assert code in messages
    assert report(capsys, here)[0] == 2  # --crosscheck without --python
