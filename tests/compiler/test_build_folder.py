"""A build folder appears whole or not at all, holds what it says, and is the same for the same input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neurocompile.build_folder import assemble, read_build, write_build
from neurocompile.ir.errors import InputError
from neurocompile.ir.read import read_network
from neurocompile.pipeline import CompileOptions, compile_network

NET = """\
name: small
dt: 1 ms
seed: 3
populations:
  in:     {model: spike_source, size: 8}
  hidden: {model: lif, size: 12, params: {tau_mem: 20 ms, v_threshold: 0.5, reset: to_value}}
projections:
  - {pre: in, post: hidden, connect: {fixed_probability: 0.5}, weight: {normal: [0.2, 0.1]}, delay: 1 ms}
  - {pre: hidden, post: hidden, connect: {fixed_indegree: 3}, weight: 0.05, delay: 3 ms}
"""


def files_for(folder: Path, target: str = "loihi2") -> dict[str, bytes]:
    (folder / "net.yaml").write_text(NET)
    options = CompileOptions(target=target, allow_approximation=True)
    return assemble(compile_network(read_network(folder / "net.yaml"), options), options, {"net.yaml": NET.encode()})


@pytest.mark.parametrize("target", ["loihi2", "spinnaker", "nest"])
def test_same_input_same_bytes_whatever_the_folder(tmp_path: Path, target: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = files_for(tmp_path / "a", target), files_for(tmp_path / "b", target)
    assert one == two
    assert {"manifest.json", "report.json", "report.html", "mapping.npz", "program/run.py"} <= set(one)
    for name, content in one.items():
        assert str(tmp_path).encode() not in content, name


def test_written_and_read_back(tmp_path: Path) -> None:
    files = files_for(tmp_path)
    write_build(files, tmp_path / "out")
    on_disk = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert on_disk == files
    build = read_build(tmp_path / "out")
    assert build.target == "loihi2"
    assert build.network.name == "small"
    assert [len(c.pre) for c in build.connections.values()][1] == 36
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["program/run.py", "report.html", "network.npz"])
def test_a_changed_file_is_noticed(tmp_path: Path, name: str) -> None:
    write_build(files_for(tmp_path), tmp_path / "out")
    with (tmp_path / "out" / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError) as caught:
        read_build(tmp_path / "out")
    assert caught.value.diagnostics[0].code == "NC704"
    assert name in str(caught.value)


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    write_build(files_for(tmp_path), tmp_path / "out")
    (tmp_path / "out" / "mapping.npz").unlink()
    with pytest.raises(InputError, match=r"NC704.*mapping.npz"):
        read_build(tmp_path / "out")


def test_something_else_is_no_build(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NC703"):
        read_build(tmp_path)


def test_an_older_build_is_replaced_and_other_folders_are_not(tmp_path: Path) -> None:
    write_build({"manifest.json": b'{"target": "x"}', "old": b"1"}, tmp_path / "out")
    write_build({"manifest.json": b'{"target": "x"}', "new": b"2"}, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.json", "new"]
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="NC702"):
        write_build({"manifest.json": b"{}"}, thesis)
    assert (thesis / "chapter.txt").read_text() == "years of work"


def test_a_failing_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_build({"manifest.json": b'{"target": "x"}', "old": b"1"}, tmp_path / "out")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"NC701.*No space left"):
        write_build({"manifest.json": b'{"target": "x"}', "new": b"2"}, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert (tmp_path / "out" / "old").read_bytes() == b"1"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="NC701"):
        write_build({"manifest.json": b"{}"}, tmp_path / "file" / "out")


SLOW_WRITER = """
import os, sys, time
from pathlib import Path
from neurocompile.build_folder import write_build
real = os.fsync
def slow(fd):
    real(fd)
    print("writing", flush=True)
    time.sleep(30)
os.fsync = slow
write_build({"manifest.json": b'{"target": "x"}', "new": b"2"}, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_the_older_one(tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "out"
    write_build({"manifest.json": b'{"target": "x"}', "old": b"1"}, out)
    process = subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(out)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "writing"
    process.send_signal(how)
    process.wait(timeout=20)
    process.stdout.close()
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "old"]
    leftovers = [p for p in tmp_path.iterdir() if p.name != "out"]
    assert (leftovers == []) == (how == signal.SIGINT)
    write_build({"manifest.json": b'{"target": "x"}', "new": b"2"}, out)  # the next build clears what a killed one left
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_build_killed_between_its_two_renames_is_brought_back(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stage = tmp_path / f".out.{gone.pid}.abc"
    (stage / "old").mkdir(parents=True)
    (stage / "old" / "manifest.json").write_text('{"target": "x"}')
    write_build({"manifest.json": b'{"target": "x"}', "new": b"2"}, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_the_manifest_names_every_file_and_no_time(tmp_path: Path) -> None:
    files = files_for(tmp_path)
    manifest = json.loads(files["manifest.json"])
    assert set(manifest["files"]) == set(files) - {"manifest.json"}
    assert manifest["format_version"] == "1.0"
    assert manifest["seed"] == 3
    assert manifest["versions"]["neurocompile"]
    assert list(manifest["inputs"]) == ["net.yaml"]
