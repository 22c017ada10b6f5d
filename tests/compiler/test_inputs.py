"""The manifest says which bytes a build was made from: every file that is opened, by the path from the description."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from neurocompile.cli import run
from neurocompile.machine import list_machines

NET = """\
name: filed
dt: 1 ms
seed: 3
populations:
  in:  {model: spike_source, size: 4}
  mid: {model: lif, size: 4, params: {tau_mem: 20 ms, v_threshold: {file: arrays/thresholds.npz}}, positions: {file: places.npz}}
  out: {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: mid, connect: {file: arrays/edges.npz}, delay: 1 ms}
  - {name: more, pre: in, post: mid, connect: {file: edges.npz}, delay: 1 ms}
  - {pre: mid, post: mid, connect: {file: edges.csv}, delay: 1 ms, learning: rule}
  - {pre: mid, post: out, connect: all_to_all, weight: 0.1, delay: 1 ms, learning: rule}
learning:
  rule: {rule: eprop, kappa: 0.9, feedback: {file: ../feedback.npz}}
task: {readout: out}
"""
FILES = ["filed.yaml", "arrays/thresholds.npz", "arrays/edges.npz", "edges.npz", "edges.csv", "places.npz", "../feedback.npz"]


def make(folder: Path) -> Path:
    """A description in folder/nets whose files lie beside, below and above it; returns its path."""
    nets = folder / "nets"
    (nets / "arrays").mkdir(parents=True)
    ring = {"pre": np.arange(4), "post": (np.arange(4) + 1) % 4}
    np.savez(nets / "arrays" / "thresholds.npz", v=np.array([0.5, 0.6, 0.7, 0.8]))
    np.savez(nets / "arrays" / "edges.npz", **ring, weight=np.full(4, 0.25))
    np.savez(nets / "edges.npz", **ring, weight=np.full(4, 0.5))  # another file of the same name
    np.savez(nets / "places.npz", xy=np.eye(4)[:, :2])
    np.savez(folder / "feedback.npz", pre=np.array([0, 1]), post=np.array([0, 3]), weight=np.array([0.5, -0.5]))
    (nets / "edges.csv").write_text("pre,post,weight\n0,1,0.125\n2,3,-0.5\n")
    (nets / "filed.yaml").write_text(NET)
    return nets / "filed.yaml"


def build(net: Path, out: Path, *more: str | Path) -> dict[str, Any]:
    """Build for NEST (--allow-approximation) and return the manifest."""
    target = [] if "--target" in more else ["--target", "nest"]
    assert run([str(a) for a in ("build", net, *target, "--allow-approximation", "-o", out, *more)]) == 0
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return manifest


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_every_file_that_the_description_opens_is_named_with_its_digest(tmp_path: Path) -> None:
    net = make(tmp_path)
    manifest = build(net, tmp_path / "out")
    assert manifest["inputs"] == {name: sha256(net.parent / name) for name in FILES}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["provenance"]["inputs"] == manifest["inputs"]


@pytest.mark.parametrize("name", ["arrays/edges.npz", "edges.npz", "edges.csv", "../feedback.npz", "arrays/thresholds.npz"])
def test_another_byte_in_any_input_changes_its_digest_and_the_network(tmp_path: Path, name: str) -> None:
    net = make(tmp_path)
    before = build(net, tmp_path / "a")
    path = net.parent / name
    if path.suffix == ".csv":
        path.write_text(path.read_text().replace("0.125", "0.25"))
    else:
        arrays = dict(np.load(path))
        key = "weight" if "weight" in arrays else "v"
        np.savez(path, **(arrays | {key: arrays[key] + 0.125}))
    after = build(net, tmp_path / "b")
    changed = {key for key in before["inputs"] if before["inputs"][key] != after["inputs"][key]}
    assert changed == {name}
    assert before["files"]["network.npz"] != after["files"]["network.npz"]


@pytest.mark.parametrize("target", ["loihi2", "nest"])
def test_the_same_folder_elsewhere_and_called_otherwise_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    net = make(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "deep" / "er")
    build(net, tmp_path / "one", "--target", target)
    monkeypatch.chdir(tmp_path / "b" / "deep" / "er" / "nets")
    build(Path("filed.yaml"), tmp_path / "two", "--target", target)
    one, two = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()} for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two


def test_weights_and_a_machine_of_ones_own_are_inputs_too(tmp_path: Path, root: Path) -> None:
    net = make(tmp_path)
    weights, machine = tmp_path / "edges.npz", tmp_path / "mine.yaml"
    np.savez(weights, **{"weight:mid->out": np.full(8, 0.5)})
    assert "oheo-gulch" in list_machines()
    shutil.copy(root / "hw_configs" / "oheo-gulch.yaml", machine)
    options = ("--target", "loihi2", "--weights", weights)
    manifest = build(net, tmp_path / "out", *options, "--machine", machine)
    expected = {name: sha256(net.parent / name) for name in FILES}
    assert manifest["inputs"] == {**expected, "--weights edges.npz": sha256(weights), "--machine mine.yaml": sha256(machine)}
    ours = build(net, tmp_path / "packaged", *options, "--machine", "oheo-gulch")
    assert set(ours["inputs"]) == {*FILES, "--weights edges.npz"}  # machines of ours belong to the version


def test_a_nir_file_is_an_input(tmp_path: Path) -> None:
    lif = nir.LIF(tau=np.full(2, 0.01), r=np.full(2, 1.0), v_leak=np.zeros(2), v_threshold=np.full(2, 1.0))
    graph = nir.NIRGraph.from_list(nir.Input(np.array([2])), nir.Linear(np.eye(2)), lif, nir.Output(np.array([2])))
    nir.write(tmp_path / "model.nir", graph)
    manifest = build(tmp_path / "model.nir", tmp_path / "out", "--dt", "1 ms")
    assert manifest["inputs"] == {"model.nir": sha256(tmp_path / "model.nir")}


def test_a_build_of_a_build_names_the_first_and_keeps_what_it_was(tmp_path: Path) -> None:
    net = make(tmp_path)
    np.savez(tmp_path / "w.npz", **{"weight:mid->out": np.full(8, 0.5)})
    for name, options in (("plain", []), ("trained", ["--weights", tmp_path / "w.npz"])):
        first = build(net, tmp_path / name, *options)
        second = build(tmp_path / name, tmp_path / f"{name} again")
        assert second["inputs"] == {"manifest.json": sha256(tmp_path / name / "manifest.json")}
        files = [{k: v for k, v in m["files"].items() if not k.startswith("report")} for m in (first, second)]
        assert files[0] == files[1]
        report = json.loads((tmp_path / f"{name} again" / "report.json").read_text())
        assert report["trained_weights"] == (name == "trained")
