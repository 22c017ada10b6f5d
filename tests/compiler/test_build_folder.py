"""A build folder appears whole or not at all, holds what it says, and is the same for the same input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neurocompile.build_folder import assemble, read_build, write_build
from neurocompile.ir.errors import InputError
from neurocompile.ir.read import read_network
from neurocompile.mapping.partition import partition
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


@pytest.mark.parametrize("algorithm", ["sequential", "refined"])
def test_the_partitioner_that_was_asked_for_works_and_is_written_down(tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "net.yaml").write_text(NET)
    network = read_network(tmp_path / "net.yaml")
    options = CompileOptions(target="loihi2", partition=algorithm, overrides={"core.neurons": 5.0})
    compiled = compile_network(network, options)
    assert compiled.mapping is not None
    assert compiled.lowered.problem is not None
    alone = partition(compiled.lowered.problem, algorithm=algorithm, seed=network.seed)
    np.testing.assert_array_equal(compiled.mapping.partition.part, alone.part)
    files = assemble(compiled, options, {})
    assert json.loads(files["manifest.json"])["options"]["partition"] == algorithm
    assert assemble(compile_network(network, options), options, {}) == files


def fake(**files: bytes) -> dict[str, bytes]:
    """The files of a build that is none: enough for what only moves folders."""
    manifest = {"format_version": "1.0", "target": "x", "files": dict.fromkeys(files, "")}
    return {"manifest.json": json.dumps(manifest).encode(), **files}


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


@pytest.mark.parametrize("name", ["program/numpy.py", "program/processes/extra.so"])
def test_code_that_was_added_is_noticed(tmp_path: Path, name: str) -> None:
    """The program's folder is the first place where its imports are looked for."""
    write_build(files_for(tmp_path), tmp_path / "out")
    (tmp_path / "out" / name).write_text("print('not ours')")
    with pytest.raises(InputError, match=f"NC704.*{name}"):
        read_build(tmp_path / "out")


def test_weights_that_were_added_are_not_taken(tmp_path: Path) -> None:
    write_build(files_for(tmp_path), tmp_path / "out")
    weight = read_build(tmp_path / "out").connections["hidden->hidden"].weight
    np.savez(tmp_path / "out" / "weights.npz", **{"weight:hidden->hidden": weight + 1.0})
    np.testing.assert_array_equal(read_build(tmp_path / "out").connections["hidden->hidden"].weight, weight)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "No such file"),
        ("half of a {", "Expecting"),
        ("[]", "list"),
        ('{"files": 3}', "int"),
        ('{"files": {}, "format_version": "1.0", "name": "n", "target": "nest"}', "lacks 'versions'"),
        ('{"files": {}, "format_version": "1.0", "name": "n", "target": "nest", "versions": {"python": "3"}}', "lacks 'network.json'"),
    ],
)
def test_something_else_is_no_build(tmp_path: Path, manifest: str | None, words: str) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=f"NC703.*{words}"):
        read_build(tmp_path)


def test_an_older_build_is_replaced_and_other_folders_are_not(tmp_path: Path) -> None:
    write_build(fake(old=b"1"), tmp_path / "out")
    write_build(fake(new=b"2"), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.json", "new"]
    (tmp_path / "empty").mkdir()
    write_build(fake(new=b"2"), tmp_path / "empty")
    assert (tmp_path / "empty" / "new").exists()


@pytest.mark.parametrize(
    "manifest", [None, b"{}", b"no JSON", b'"target files format_version"', b"[1]", b'{"target": "x"}', b'{"target": "x", "files": {}}']
)
def test_a_folder_that_is_no_build_stays_as_it_is(tmp_path: Path, manifest: bytes | None) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work")
    if manifest is not None:
        (thesis / "manifest.json").write_bytes(manifest)
    with pytest.raises(InputError, match=r"NC702.*thesis"):
        write_build(fake(), thesis)
    assert (thesis / "chapter.txt").read_text() == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis"]


def test_results_that_lie_in_an_older_build_are_not_lost(tmp_path: Path) -> None:
    write_build(fake(**{"program/run.py": b"1"}), tmp_path / "out")
    (tmp_path / "out" / "program" / "__pycache__").mkdir()
    (tmp_path / "out" / "program" / "__pycache__" / "run.cpython-310.pyc").write_bytes(b"")
    write_build(fake(**{"program/run.py": b"2"}), tmp_path / "out")
    (tmp_path / "out" / "program" / "results.npz").write_bytes(b"a night on the machine")
    with pytest.raises(InputError, match=r"NC702.*'program/results\.npz'"):
        write_build(fake(**{"program/run.py": b"3"}), tmp_path / "out")
    assert (tmp_path / "out" / "program" / "results.npz").read_bytes() == b"a night on the machine"
    assert (tmp_path / "out" / "program" / "run.py").read_bytes() == b"2"


def test_links_and_files_are_not_replaced(tmp_path: Path) -> None:
    write_build(fake(), tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text")
    for name in ("link", "dangling", "file"):
        with pytest.raises(InputError, match="NC702"):
            write_build(fake(), tmp_path / name)
    assert (tmp_path / "file").read_text() == "text"
    assert not (tmp_path / "nowhere").exists()


def test_a_failing_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_build(fake(old=b"1"), tmp_path / "out")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"NC701.*No space left"):
        write_build(fake(new=b"2"), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert (tmp_path / "out" / "old").read_bytes() == b"1"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="NC701"):
        write_build(fake(), tmp_path / "file" / "out")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(5, "Input/output error")])
@pytest.mark.parametrize("renames_done", [0, 1])
def test_a_stop_around_the_two_renames_keeps_the_older_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | OSError, renames_done: int
) -> None:
    """The stop comes after the older build was moved aside (a signal can arrive between any two instructions), or before."""
    out = tmp_path / "out"
    write_build(fake(old=b"1"), out)
    real, calls = Path.rename, iter(range(100))

    def rename(self: Path, target: Path) -> Path:
        call = next(calls)
        if call == 0 and renames_done == 1:
            real(self, target)
        if call == 0:
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises((KeyboardInterrupt, InputError)):
        write_build(fake(new=b"2"), out)
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "old"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


SLOW_WRITER = """
import os, sys, time
from pathlib import Path
from neurocompile.build_folder import write_build
def stop(*_arguments):
    print("there", flush=True)
    time.sleep(60)
moment, out, manifest = sys.argv[1], Path(sys.argv[2]), sys.argv[3].encode()
if moment == "in a file":
    os.fsync = stop
else:
    real, left = Path.rename, [int(moment)]
    def rename(self, target):
        if left[0] == 0:
            stop()
        left[0] -= 1
        return real(self, target)
    Path.rename = rename
write_build({"manifest.json": manifest, "new": b"2"}, out)
"""


@pytest.mark.parametrize(
    ("how", "moment"),
    [(signal.SIGINT, "in a file"), (signal.SIGKILL, "in a file"), (signal.SIGKILL, "0"), (signal.SIGKILL, "1")],
)
def test_a_stopped_build_leaves_the_older_one(tmp_path: Path, how: signal.Signals, moment: str) -> None:
    """Stopped while a file is written, before the first rename, and between the two renames, where no handler runs."""
    out = tmp_path / "out"
    write_build(fake(old=b"1"), out)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, moment, str(out), fake(new=b"2")["manifest.json"].decode()],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "there"
    process.send_signal(how)
    process.wait(timeout=20)
    process.stdout.close()
    moved_aside = how == signal.SIGKILL and moment == "1"
    assert out.exists() != moved_aside  # absent for an instant at most: never half of a build
    if not moved_aside:
        assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "old"]
    leftovers = [p for p in tmp_path.iterdir() if p.name != "out"]
    assert (leftovers == []) == (how == signal.SIGINT)
    write_build(fake(new=b"2"), out)  # the next build clears what a killed one left
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "new"]


@pytest.mark.parametrize("name", ["out", "out [1]", "*"])
def test_a_build_killed_between_its_two_renames_is_brought_back_by_a_failing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stage = tmp_path / f".{name}.{gone.pid}.abc"
    (stage / "old").mkdir(parents=True)
    (stage / "old" / "manifest.json").write_bytes(fake()["manifest.json"])
    other = tmp_path / f".{name}.{os.getpid()}.running"  # of a process that lives: not ours to remove
    other.mkdir()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="NC701"):
        write_build(fake(new=b"2"), tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, other.name])
    assert [p.name for p in (tmp_path / name).iterdir()] == ["manifest.json"]


def test_the_manifest_names_every_file_and_no_time(tmp_path: Path) -> None:
    files = files_for(tmp_path)
    manifest = json.loads(files["manifest.json"])
    assert set(manifest["files"]) == set(files) - {"manifest.json"}
    assert manifest["format_version"] == "1.0"
    assert manifest["seed"] == 3
    assert manifest["versions"]["neurocompile"]
    assert list(manifest["inputs"]) == ["net.yaml"]
