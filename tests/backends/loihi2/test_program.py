"""An emitted program as a user runs it: its files and keys, its errors, and what is left when it fails or is interrupted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lava")

from neurocompile.backends.loihi2.twin import run_twin
from neurocompile.backends.loihi2.validate import check_description, load_program
from neurocompile.build_folder import read_build
from neurocompile.cli import run as cli
from neurocompile.ir.signals import Spikes

DESCRIPTION = """
name: user
dt: 1 ms
populations:
  import os: {model: spike_source, size: 20}
  a.b __class__: {model: lif, size: 15, params: {tau_mem: 20 ms, v_threshold: 0.6, t_ref: 2 ms}}
  out: {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
projections:
  - {pre: import os, post: a.b __class__, connect: {fixed_probability: 0.6}, weight: {normal: [0.1, 0.1]}, delay: 3 ms}
  - {name: lambda.x->__import__, pre: a.b __class__, post: out, connect: all_to_all, weight: {normal: [0, 0.1]}, learning: eprop}
learning:
  eprop: {rule: eprop, feedback: {random: {normal: [0, 1]}}, optimizer: {gradient_descent: {learning_rate: 1e-4}}}
task: {readout: out, loss: mean_squared_error}
"""
STEPS = 40


def command(*arguments: str) -> tuple[int, str]:
    """Run the command line in this process; return (exit code, its messages)."""
    messages = io.StringIO()
    with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(io.StringIO()):
        code = cli(list(arguments))
    return code, messages.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.yaml, spikes.npz, signal.npz, and build/ made of them; some names look like code."""
    path = tmp_path_factory.mktemp("user")
    (path / "net.yaml").write_text(DESCRIPTION)
    step, neuron = np.nonzero(np.random.default_rng(1).random((STEPS, 20)) < 0.15)
    np.savez(path / "spikes.npz", step=step, neuron=neuron)
    np.savez(path / "signal.npz", target=np.ones((STEPS, 2)), window=np.ones(STEPS, bool))
    code, messages = command("build", str(path / "net.yaml"), "--target", "loihi2", "-o", str(path / "build"), "-q")
    assert code == 0, messages
    return path


def run(folder: Path, *flags: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Run the program from the user's folder with relative paths."""
    given = ["--steps", str(STEPS), "--input", "import os=spikes.npz", "--signal", "out=signal.npz", "--out", "results.npz"]
    done = subprocess.run([sys.executable, "build/program/run.py", *given, *flags], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "results.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}, json.loads(done.stdout)


def simulate(folder: Path, *flags: str) -> dict[str, np.ndarray]:
    code, messages = command(
        "simulate", str(folder / "net.yaml"), "--steps", str(STEPS), "--input", f"import os={folder / 'spikes.npz'}",
        "--signal", f"out={folder / 'signal.npz'}", "--save", str(folder / "engine.npz"), "-q", *flags,
    )  # fmt: skip
    assert code == 0, messages
    with np.load(folder / "engine.npz") as archive:
        return {key: archive[key] for key in archive.files}


def test_results_have_the_keys_of_simulate(folder):
    results, summary = run(folder)
    engine = simulate(folder)
    assert set(results) == set(engine)
    for key, values in engine.items():
        assert results[key].dtype == values.dtype, key
        if not key.startswith("spike"):
            assert results[key].shape == values.shape, key
    assert (summary["mode"], summary["learning"], summary["n_steps"], summary["n_neurons"]) == ("fixed_pt", True, STEPS, 37)
    assert summary["n_spikes"] == {name: len(results[f"spike_step:{name}"]) for name in ("import os", "a.b __class__")}
    assert summary["n_plastic_synapses"] == len(results["weight:lambda.x->__import__"]) == 30
    before = read_build(folder / "build").connections["lambda.x->__import__"].weight
    assert (
        np.abs(results["weight:lambda.x->__import__"] - before).max() > 0.5 * np.abs(engine["weight:lambda.x->__import__"] - before).max()
    )  # it learns


def test_static_spikes_are_the_twins(folder):
    results, _ = run(folder, "--no-learn")
    spec, arrays = load_program(folder / "build" / "program")
    with np.load(folder / "spikes.npz") as given:
        inputs = {"import os": Spikes(neuron=given["neuron"].astype(np.int32), step=given["step"])}
    twin = run_twin(spec, arrays, inputs, steps=STEPS)
    for name, spikes in twin.spikes.items():
        assert np.array_equal(results[f"spike_step:{name}"], spikes.step)
        assert np.array_equal(results[f"spike_neuron:{name}"], spikes.neuron)
    assert len(twin.spikes["a.b __class__"].step) > 20
    assert np.array_equal(results["output:out"], twin.output["out"] / spec["populations"][2]["scale"])


def test_float_without_learning_is_the_engine(folder):
    """Lava's floating-point models are float64: the same spikes; the membrane to rounding (1e-12 of values around 1)."""
    results, summary = run(folder, "--float", "--no-learn")
    engine = simulate(folder, "--no-learn")
    assert (summary["mode"], summary["learning"]) == ("floating_pt", False)
    for key, values in engine.items():
        if key.startswith("output"):
            assert np.allclose(results[key], values, rtol=0, atol=1e-12), key
        else:
            assert np.array_equal(results[key], values), key


BAD = """
import json, sys
import run
for argv in json.loads(sys.argv[1]):
    try:
        run.main(argv)
    except SystemExit as end:
        print("exit", end.code, file=sys.stderr)
"""


def test_bad_input_ends_with_a_message_and_exit_3(folder):
    """One interpreter for all of them: importing Lava takes seconds."""
    for name, arrays in {
        "far": {"neuron": [20], "step": [0]},
        "real": {"neuron": [0.5], "step": [0.0]},
        "lone": {"neuron": [0]},
        "wide": {"target": np.zeros((3, 5)), "window": np.ones(3, bool)},
        "nan": {"target": np.full((3, 2), np.nan), "window": np.ones(3, bool)},
    }.items():
        np.savez(folder / f"{name}.npz", **{key: np.array(value) for key, value in arrays.items()})
    (folder / "text.npz").write_text("no archive")
    cases = [
        (["--input", "import os=missing.npz"], "missing.npz: cannot be read"),
        (["--input", "import os=text.npz"], "text.npz: cannot be read"),
        (["--input", "nobody=spikes.npz"], "NAME one of import os"),
        (["--input", "import os=far.npz"], "neurons must lie in 0 .. 19"),
        (["--input", "import os=real.npz"], "1-D integer arrays"),
        (["--input", "import os=lone.npz"], "needs the arrays 'neuron' and 'step'"),
        (["--signal", "out=wide.npz"], "shape (n_steps, 2)"),
        (["--signal", "out=nan.npz"], "finite numbers"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder / "build" / "program")}
    argvs = json.dumps([argv for argv, _ in cases])
    done = subprocess.run([sys.executable, "-c", BAD, argvs], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "exit "))]
    assert len(lines) == 2 * len(cases), done.stderr
    for (_, message), said, code in zip(cases, lines[::2], lines[1::2], strict=True):
        assert message in said
        assert code == "exit 3"
    assert "Traceback" not in done.stderr


def members(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def segments(pids: list[int]) -> set[str]:
    """Shared-memory files that these processes map."""
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found |= set(re.findall(r"/dev/shm/\S+", Path(f"/proc/{pid}/maps").read_text()))
    return found


BROKEN = (
    "incoming, target, window =",
    'if self.time_step > 20:\n            raise ValueError("broken readout")\n        incoming, target, window =',
)
BROKEN_CONSTRUCTOR = ("self.p = proc_params", 'raise ValueError("broken constructor")\n        self.p = proc_params')


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("interrupt", 130, "error: interrupted"),
        ("interrupt all", 130, "error: interrupted"),  # as Ctrl-C in a terminal does
        ("terminate", 1, "error: the run was ended"),
        ("kill", -9, ""),
        ("kill at once", -9, ""),  # while Lava starts its processes
        ("exception", 1, "ValueError: broken readout"),
        ("exception at the start", 1, "ValueError: broken constructor"),
    ],
)
def test_a_run_that_ends_early_leaves_nothing_behind(folder, tmp_path, how, code, message):
    program = tmp_path / "program"
    shutil.copytree(folder / "build" / "program", program)
    fails = how.startswith("exception")
    if fails:
        path = program / "processes" / "readouts" / "readout.py"
        path.write_text(path.read_text().replace(*(BROKEN if how == "exception" else BROKEN_CONSTRUCTOR)))
    scratch = Path(tempfile.mkdtemp(prefix="nc-", dir="/tmp"))  # short: Lava makes sockets below it
    started = subprocess.Popen(
        [sys.executable, "run.py", "--steps", "1000000"], cwd=program, env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    shared: set[str] = set()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and started.poll() is None and (fails or len(shared) <= (0 if how == "kill at once" else 10)):
            shared |= segments(members(started.pid))
            time.sleep(0.01)
        ended = "" if started.poll() is None else f" (exit {started.returncode}: {started.communicate()})"
        assert shared, f"Lava's shared memory was never seen: the test would prove nothing{ended}"
        if not fails:
            number = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL}.get(how.removesuffix(" at once"), signal.SIGINT)
            (os.killpg if how.endswith("all") else os.kill)(started.pid, number)
        out, err = started.communicate(timeout=30)
        deadline = time.monotonic() + 20  # what it forked, and Python's resource tracker, end a moment after the program
        while time.monotonic() < deadline and (members(started.pid) or any(Path(path).exists() for path in shared)):
            time.sleep(0.05)
        left = members(started.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode == code, err
    assert message in err
    assert "leaked" not in err
    assert out == ""
    assert [path for path in shared if Path(path).exists()] == []
    assert left == []
    if not how.startswith("kill"):  # else nobody is left to remove it
        assert [entry.name for entry in scratch.iterdir() if entry.name.startswith("loihi2-")] == []
    shutil.rmtree(scratch)


def test_a_long_temporary_folder_is_no_obstacle(folder, tmp_path):
    """The path of a Unix socket has 107 characters; Lava's shared memory manager wants one in the temporary folder."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    program = folder / "build" / "program"
    ended = subprocess.run(
        [sys.executable, "run.py", "--steps", "3"],
        cwd=program,
        env={**os.environ, "TMPDIR": str(deep), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["n_steps"] == 3


def tampered(folder: Path, key: str, by: int) -> list[str]:
    """Names of the checks that fail when one number of network.npz is another."""
    build = read_build(folder / "build")
    spec, arrays = load_program(folder / "build" / "program")
    arrays[key] = arrays[key].copy()
    arrays[key].reshape(-1)[0] += by
    return [check.name for check in check_description(spec, arrays, build.network, build.connections) if not check.ok]


@pytest.mark.parametrize(
    ("key", "by", "failed"),
    [
        ("s0.weight.fixed", 0, []),
        ("s0.weight.fixed", 2, ["emitted weights of import os->a.b __class__"]),
        ("s1.weight.fixed", -2, ["emitted weights of lambda.x->__import__"]),
        ("s0.post", 1, ["emitted weights of import os->a.b __class__"]),
        ("s0.delay", 1, ["emitted weights of import os->a.b __class__"]),
        ("n1.fixed.vth", 1, ["emitted thresholds of a.b __class__"]),
        ("n1.fixed.vth", -1, ["emitted thresholds of a.b __class__"]),
    ],
)
def test_validate_sees_one_wrong_number(folder, key, by, failed):
    assert tampered(folder, key, by) == failed


def test_validate_command_refuses_a_changed_build(folder, tmp_path):
    build = tmp_path / "build"
    shutil.copytree(folder / "build", build)
    path = build / "program" / "network.npz"
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays["s0.weight.fixed"][0] += 2
    np.savez(path, **arrays)
    code, messages = command("validate", str(build), "--steps", "5")
    assert code == 3
    assert "NC704" in messages
