"""The emitted program at its edges: bad arguments, files that appear whole or not at all, hostile names, processes that join."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from neurocompile.cli import run as command_line
from neurocompile.ir import Adam, PerInterval
from tests.backends.nest.conftest import (
    HIDDEN,
    RULE,
    Arrays,
    call,
    engine,
    given,
    make_network,
    random_signal,
    random_spikes,
    write_program,
)
from tests.backends.nest.test_emit import HOSTILE, renamed

OK = ("--steps", "50", "--input", "in=spikes0.npz", "--signal", "out=signal0.npz")


def spoil(folder: Path, name: str, **arrays: Any) -> None:
    np.savez(folder / name, **arrays)


# --- bad arguments ---------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int, str]] = {
    "no steps": (lambda _: None, (), 2, "--steps"),
    "zero steps": (lambda _: None, ("--steps", "0"), 2, "--steps is 0, must be >= 1"),
    "no number": (lambda _: None, ("--steps", "ten"), 2, "invalid int value: 'ten'"),
    "zero threads": (lambda _: None, ("--steps", "9", "--threads", "0"), 2, "--threads is 0, must be >= 1"),
    "unknown option": (lambda _: None, ("--steps", "9", "--fast"), 2, "--fast"),
    "unknown population": (
        lambda _: None,
        ("--steps", "9", "--input", "inn=spikes0.npz"),
        3,
        "no spike_source of that name; it has ['in']",
    ),
    "no source": (lambda _: None, ("--steps", "9", "--input", "hidden=spikes0.npz"), 3, "no spike_source of that name"),
    "no readout": (lambda _: None, ("--steps", "9", "--signal", "hidden=signal0.npz"), 3, "no leaky_readout of that name; it has ['out']"),
    "no equals sign": (lambda _: None, ("--steps", "9", "--input", "spikes0.npz"), 3, "no spike_source of that name"),
    "no file": (lambda _: None, ("--steps", "9", "--input", "in=absent.npz"), 3, "absent.npz: cannot be read"),
    "given twice": (lambda _: None, (*OK, "--input", "in=spikes0.npz"), 3, "given twice"),
    "signal given twice": (lambda _: None, (*OK, "--signal", "out=signal0.npz"), 3, "given twice"),
    "text for an archive": (lambda f: (f / "bad.npz").write_text("neuron,step\n1,2\n"), ("--input", "in=bad.npz"), 3, "as .npz"),
    "array for an archive": (lambda f: np.save(f / "bad.npy", np.zeros(3)), ("--input", "in=bad.npy"), 3, "it is no .npz archive"),
    "half an archive": (
        lambda f: (f / "bad.npz").write_bytes((f / "spikes0.npz").read_bytes()[:200]),
        ("--input", "in=bad.npz"),
        3,
        "cannot be read as .npz",
    ),
    "objects": (lambda f: spoil(f, "bad.npz", neuron=np.array([{}]), step=np.array([1])), ("--input", "in=bad.npz"), 3, "as .npz"),
    "no steps in it": (lambda f: spoil(f, "bad.npz", neuron=np.array([1])), ("--input", "in=bad.npz"), 3, "has no array 'step'"),
    "unequal": (
        lambda f: spoil(f, "bad.npz", neuron=np.array([1, 2]), step=np.array([1])),
        ("--input", "in=bad.npz"),
        3,
        "1-D integers of equal length",
    ),
    "floats": (lambda f: spoil(f, "bad.npz", neuron=np.array([1.0]), step=np.array([1])), ("--input", "in=bad.npz"), 3, "1-D integers"),
    "neuron 12": (lambda f: spoil(f, "bad.npz", neuron=np.array([12]), step=np.array([1])), ("--input", "in=bad.npz"), 3, "in 0 .. 11"),
    "negative": (lambda f: spoil(f, "bad.npz", neuron=np.array([1]), step=np.array([-1])), ("--input", "in=bad.npz"), 3, "must be >= 0"),
    "twice": (
        lambda f: spoil(f, "bad.npz", neuron=np.array([1, 2, 1]), step=np.array([4, 4, 4])),
        ("--input", "in=bad.npz"),
        3,
        "a neuron spikes twice in one step",
    ),
    "columns": (lambda f: spoil(f, "bad.npz", target=np.zeros((9, 3))), ("--signal", "out=bad.npz"), 3, "shape (n_steps, 2)"),
    "nan": (lambda f: spoil(f, "bad.npz", target=np.full((9, 2), np.nan)), ("--signal", "out=bad.npz"), 3, "finite numbers"),
    "text": (lambda f: spoil(f, "bad.npz", target=np.array([["a", "b"]])), ("--signal", "out=bad.npz"), 3, "must hold numbers"),
    "window": (
        lambda f: spoil(f, "bad.npz", target=np.zeros((9, 2)), window=np.ones(8, bool)),
        ("--signal", "out=bad.npz"),
        3,
        "'window' of shape (n_steps,)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(program: Path, name: str) -> None:
    prepare, arguments, status, says = BAD[name]
    prepare(program)
    steps = () if "--steps" in arguments or status == 2 else ("--steps", "9")
    before = sorted(os.listdir(program))
    done = call(program, *steps, *arguments)
    assert done.status == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(os.listdir(program)) == before


@pytest.mark.parametrize("out", ["absent/results.npz", "program"])
def test_bad_output(program: Path, out: str) -> None:
    done = call(program, *OK, out=out)
    assert done.status == 2
    assert f"--out: {'the folder of ' if '/' in out else ''}{out}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", ["network.json", "network.npz"])
def test_damaged_program(program: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(program, tmp_path, dirs_exist_ok=True)
    (tmp_path / "program" / file).write_bytes(b"PK\x03\x04 {")
    done = call(tmp_path, *OK)
    assert done.status == 3
    assert f"{file}: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("raise ImportError('no NEST here')", "NEST cannot be imported (no NEST here)"),
        ("__version__ = '3.9.0'", "NEST is 3.9.0, this program"),
    ],
)
def test_nest_is_missing_or_old(program: Path, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "nest").mkdir()
    (tmp_path / "nest" / "__init__.py").write_text(content)
    done = call(program, *OK, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.status == 5
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_of_nest_have_no_traceback(program: Path, tmp_path: Path) -> None:
    shutil.copytree(program, tmp_path, dirs_exist_ok=True)
    structure = json.loads((program / "program" / "network.json").read_text())
    structure["populations"][1]["params"]["kappa"] = 1.5
    (tmp_path / "program" / "network.json").write_text(json.dumps(structure))
    done = call(tmp_path, *OK)
    assert done.status == 1
    assert "error: NEST: " in done.stderr
    assert "kappa" in done.stderr
    assert "Traceback" not in done.stderr


# --- results appear whole or not at all ------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_results(program: Path, tmp_path: Path) -> None:
    shutil.copytree(program, tmp_path, dirs_exist_ok=True)
    (tmp_path / "results.npz").write_bytes(b"old")
    before = sorted(os.listdir(tmp_path))
    limit = 2000  # bytes; the results have some 6000
    done = call(tmp_path, *OK, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.status == 3
    assert "results.npz: cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert (tmp_path / "results.npz").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == before


def test_the_same_run_twice(program: Path) -> None:
    """Same results; the summary alone is on stdout, and nothing but the results appears."""
    first, second = call(program, *OK), call(program, *OK)
    assert first.summary.keys() == second.summary.keys()
    assert first.results.keys() == second.results.keys()
    for key, value in first.results.items():
        assert np.array_equal(second.results[key], value), key
    assert not [name for name in os.listdir(program) if name.startswith(".") or name.endswith(".tmp")]


# --- names -----------------------------------------------------------------------------------------------------------------


def test_hostile_names_run(needs_nest: None, tmp_path: Path) -> None:
    names = {"in": HOSTILE, "hidden": "../../ünï\U0001f40d", "out": "'; $(touch owned) {0}", "read": "../up"}
    network = renamed(make_network(), names)
    folder = write_program(network, tmp_path)
    spikes, signals = {HOSTILE: random_spikes(12, 50, 0.1)}, {names["out"]: random_signal(2, 50)}
    options = given(folder, spikes, signals)
    before = sorted(os.listdir(folder))
    done = call(folder, "--steps", "50", *options)
    assert done.status == 0, done.stderr
    assert sorted(os.listdir(folder)) == sorted([*before, "results.npz"])
    expected = engine(network, 50, spikes, signals)
    assert set(done.results) == set(expected)
    assert done.summary["n_spikes"][HOSTILE] == spikes[HOSTILE].step.size
    np.testing.assert_allclose(done.results["weight:../up"], expected["weight:../up"], rtol=1e-9)


# --- step 0 and the optimizers' clock --------------------------------------------------------------------------------------


def test_adam_and_a_spike_in_step_0(needs_nest: None, tmp_path: Path) -> None:
    network = make_network(HIDDEN, replace(RULE, optimizer=Adam(learning_rate=1e-3)))
    folder = write_program(network, tmp_path)
    signals = {"out": random_signal(2, 50)}
    options = ("--steps", "50", *given(folder, {"in": random_spikes(12, 50, 0.1)}, signals))
    refused = call(folder, *options)
    assert refused.status == 3
    assert "a source spikes in step 0" in refused.stderr
    assert "--allow-approximation" in refused.stderr
    allowed = call(folder, *options, "--allow-approximation")
    assert allowed.status == 0
    assert allowed.summary["offset_steps"] == 1
    assert "clock" in allowed.summary["warning"]
    assert f"warning: {allowed.summary['warning']}" in allowed.stderr


@pytest.mark.parametrize(
    ("steps", "no_learn", "refused"), [([0], False, True), ([0], True, False), ([1], False, False), ([], False, False)]
)
def test_whose_clock_is_refused(tmp_path: Path, steps: list[int], no_learn: bool, refused: bool) -> None:
    program = load_program(write_program(make_network(HIDDEN, replace(RULE, update=PerInterval(steps=5))), tmp_path))
    net = json.loads((tmp_path / "program" / "network.json").read_text())
    args = SimpleNamespace(no_learn=no_learn, allow_approximation=False)
    spikes = {0: (np.zeros(len(steps), np.int64), np.array(steps, np.int64))}
    with pytest.raises(SystemExit) if refused else nullcontext():
        program.check_clock(net, spikes, args)
    accepted_when_built = net | {"spikes_at_once": True}
    program.check_clock(accepted_when_built, spikes, args)


# --- the command line beside it --------------------------------------------------------------------------------------------


def test_example_from_the_command_line(needs_nest: None, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``build``, the program, and ``simulate --save`` on the same files: the same keys, types and numbers."""
    example = root / "examples" / "pattern.yaml"
    inputs = ("--input", f"in={root}/examples/pattern_spikes.npz", "--signal", f"out={root}/examples/pattern_signal.npz")
    assert command_line(["build", str(example), "--target", "nest", "-o", str(tmp_path / "built")]) == 0
    assert command_line(["simulate", str(example), "--steps", "300", *inputs, "--save", str(tmp_path / "engine.npz")]) == 0
    capsys.readouterr()
    done = call(tmp_path / "built", "--steps", "300", *inputs)
    assert done.status == 0, done.stderr
    with np.load(tmp_path / "engine.npz") as archive:
        expected = {key: archive[key] for key in archive.files}
    assert set(done.results) == set(expected)
    assert expected["spike_step:hidden"].size > 50
    for key, value in expected.items():
        assert done.results[key].dtype == value.dtype, key
        if value.dtype.kind == "f":
            np.testing.assert_allclose(done.results[key], value, rtol=0, atol=1e-9 * np.abs(value).max(), err_msg=key)
        else:
            assert np.array_equal(done.results[key], value), key


# --- processes -------------------------------------------------------------------------------------------------------------


def load_program(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("emitted_run", folder / "program" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def share(result: Arrays, rank: int, n_ranks: int, local: Callable[[str, int], Any]) -> Arrays:
    """What one of several processes holds of a result of `collect`, in another order than in one process."""
    part: Arrays = {}
    for group in ("spike", "output2", "synapse"):
        keys = [key for key in result if key.startswith(group) or (group == "synapse" and key in {"projection", "weight"})]
        mine = local(group, rank)
        part |= {key: result[key][mine][::-1] for key in keys}
    assert set(part) == set(result)
    assert n_ranks > rank
    return part


def test_processes_join_their_parts(tmp_path: Path) -> None:
    """Two processes without MPI: each writes its part, process 0 joins them into what one process writes."""
    folder = write_program(make_network(), tmp_path)
    program = load_program(folder)
    net = json.loads((folder / "program" / "network.json").read_text())
    data = program.read_npz(folder / "program" / "network.npz")
    r = np.random.default_rng(2)
    size = {i: data[f"projection{i}:pre"].size for i in range(3)}
    row, column = (a.ravel() for a in np.meshgrid(np.arange(20), np.arange(2)))
    neuron, step = (a.ravel() for a in np.meshgrid(np.arange(10), np.arange(0, 20, 7)))
    result: Arrays = {
        "spike_population": np.ones(neuron.size, np.int64), "spike_neuron": neuron, "spike_step": step,
        "output2:row": row, "output2:column": column, "output2:value": r.normal(size=row.size),
        "projection": np.repeat(np.arange(3), list(size.values())), "synapse": np.concatenate([np.arange(n) for n in size.values()]),
        "weight": r.normal(size=sum(size.values())),
    }  # fmt: skip
    spikes = {0: (np.array([3, 1]), np.array([2, 5]))}

    def process(rank: int, n_ranks: int) -> Any:
        return SimpleNamespace(Rank=lambda: rank, NumProcesses=lambda: n_ranks, SyncProcesses=lambda: None)

    def local(group: str, rank: int) -> Any:
        key = {"spike": "spike_neuron", "output2": "output2:column", "synapse": "synapse"}[group]
        return np.flatnonzero(result[key] % 2 == rank)

    alone, joined = (SimpleNamespace(out=tmp_path / name, steps=20) for name in ("alone.npz", "joined.npz"))
    program.merge(process(0, 1), net, data, spikes, result, alone)
    (tmp_path / ".joined.npz.part0of2.npz").write_bytes(b"left over from an earlier run")
    program.merge(process(1, 2), net, data, spikes, share(result, 1, 2, local), joined)
    assert not joined.out.exists()
    program.merge(process(0, 2), net, data, spikes, share(result, 0, 2, local), joined)
    expected, got = program.read_npz(alone.out), program.read_npz(joined.out)
    assert set(got) == set(expected)
    for key, value in expected.items():
        assert np.array_equal(got[key], value, equal_nan=False), key
    assert np.array_equal(got["weight:read"], result["weight"][result["projection"] == 2])
    assert np.array_equal(got["spike_step:hidden"], np.sort(step))
    assert np.array_equal(got["spike_neuron:in"], [3, 1])
    assert not list(tmp_path.glob(".joined*"))
