"""Checkpoints of ``simulate``: whatever ends a run, and whenever, the resumed one has the bytes of one that nothing has ended."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.reference.simulator import Simulator, max_threads
from neurocompile.cli import INTERRUPTED, run
from neurocompile.ir.npz import npz_bytes

STDP = """\
name: pairs
dt: 1 ms
seed: 3
populations:
  in: {model: spike_source, size: 30, params: {rate: 40 Hz}}
  hidden: {model: lif, size: 20, params: {tau_mem: 20 ms, v_threshold: 0.5, reset: to_value, t_ref: 2 ms}}
projections:
  - {pre: in, post: hidden, connect: {fixed_indegree: 12}, weight: {uniform: [0.0, 0.3]}, delay: {uniform: [1 ms, 4 ms]}, learning: pairs}
  - {name: rec, pre: hidden, post: hidden, connect: {fixed_probability: 0.2}, weight: {normal: [0, 0.05]}, delay: 3 ms}
learning:
  pairs: {rule: stdp, weight_bounds: [0, 1]}
"""
INTERVALS = """\
name: intervals
dt: 1 ms
seed: 5
populations:
  in: {model: spike_source, size: 40, params: {rate: 20 Hz}}
  hidden: {model: alif, size: 30, params: {tau_mem: 20 ms, v_threshold: 0.5, adapt_tau: 100 ms, adapt_beta: 0.05}}
  out: {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: {fixed_indegree: 15}, weight: {normal: [0.1, 0.1]}, delay: 1 ms, learning: rule}
  - {name: rec, pre: hidden, post: hidden, connect: {fixed_indegree: 8}, weight: {normal: [0, 0.05]}, delay: 5 ms}
  - {name: read, pre: hidden, post: out, connect: all_to_all, weight: {normal: [0, 0.1]}, delay: 1 ms, learning: rule}
learning:
  rule:
    rule: eprop
    kappa: 0.9
    kappa_reg: 0.95
    regularization: {strength: 1.0, rate: 10 Hz}
    feedback: symmetric
    optimizer: {gradient_descent: {learning_rate: 1e-3}}
    update: {per_interval: 50 ms}
task: {readout: out}
"""
ADAM = INTERVALS.replace("{gradient_descent: {learning_rate: 1e-3}}", "{adam: {learning_rate: 1e-3}}").replace(
    "name: intervals", "name: adam"
)
STEPS = 600
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "pattern, anchored": ("pattern", ("--record", "membrane:hidden", "--flush")),
    "pattern, loop": ("pattern", ("--algorithm", "loop", "--record", "traces:read", "--record", "weights:read", "--record-every", "70")),
    "pattern, float32, recorded": ("pattern", ("--precision", "float32", "--record", "weights:in->hidden", "--record-every", "7")),
    "pattern, no learning": ("pattern", ("--no-learn", "--record", "learning_signal:hidden")),
    "stdp, poisson": ("stdp", ("--record", "weights:in->hidden", "--record-every", "90", "--flush")),
    "intervals, threads": ("intervals", ("--threads", str(min(2, max_threads())), "--record", "adaptation:hidden")),
    "pattern, integers": ("pattern", ("--numerics", "loihi2", "--set", "tune=0")),
    "intervals, integers": (
        "intervals",
        ("--numerics", "loihi2", "--allow-approximation", "--set", "tune=0", "--set", "eprop_form=adaptive"),
    ),
    "adam": ("adam", ("--record", "traces:read", "--record-every", "200")),
}
Command = list[str]


@pytest.fixture
def command(pattern: Path) -> Callable[[str], Command]:
    """Give the command of a case, in a folder with all networks; inputs and signal of the pattern cover a fifth of the steps."""
    for name, text in (("stdp", STDP), ("intervals", INTERVALS), ("adam", ADAM)):
        (pattern / f"{name}.yaml").write_text(text)

    def give(case: str) -> Command:
        name, options = CASES[case]
        given = [f"in={pattern / 'spikes.npz'}", f"out={pattern / 'signal.npz'}"]
        files = ["--input", given[0], "--signal", given[1]] if name == "pattern" else []
        return ["simulate", str(pattern / f"{name}.yaml"), *files, *options]

    return give


def finish(command: Command, folder: Path, *more: str, steps: int = STEPS) -> bytes:
    """Run to the end and return out.npz."""
    out = folder / "out.npz"
    assert run([*command, "--steps", str(steps), "--save", str(out), *more]) == 0
    return out.read_bytes()


def in_child(arguments: Command, prepare: Callable[[], None] = lambda: None) -> int:
    """Start the command line in a fork of this process, whose modules and kernels are loaded already; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            os._exit(run(arguments))
        finally:
            os._exit(99)
    return pid


def ended(pid: int) -> int:
    """Wait; return the exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def step_of(file: Path) -> int:
    with np.load(file) as archive:
        return int(json.loads(archive["meta"].tobytes())["step"])


def kill_at(operation: int) -> Callable[[], None]:
    """Have this process killed right before its ``operation``-th call that makes, flushes, renames or removes a file."""

    def prepare() -> None:
        count = iter(range(10**9))

        def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(count) == operation:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        tempfile.mkstemp = deadly(tempfile.mkstemp)
        os.fsync = deadly(os.fsync)
        Path.replace = deadly(Path.replace)  # type: ignore[method-assign]
        Path.unlink = deadly(Path.unlink)  # type: ignore[method-assign]

    return prepare


@pytest.mark.parametrize("case", ["pattern, float32, recorded", "stdp, poisson", pytest.param("pattern, integers", marks=pytest.mark.slow)])
def test_killed_at_each_moment_of_writing(command: Callable[[str], Command], tmp_path: Path, case: str) -> None:
    """Every state that files can be in between two system calls, at every checkpoint; at most one interval is lost."""
    whole, file, every = finish(command(case), tmp_path), tmp_path / "ck", 250
    arguments = [*command(case), "--steps", str(STEPS), "--checkpoint", str(file), "--checkpoint-every", str(every)]
    survived, seen = False, set()
    operation = 0
    while not survived:
        for stale in tmp_path.glob("ck*"):
            stale.unlink()
        code = ended(in_child(arguments, kill_at(operation)))
        survived = code == 0
        assert code in {0, -signal.SIGKILL}
        if file.exists():
            seen.add(step_of(file))
        # the operations of a checkpoint: make, flush, rename, tidy for the part and for FILE, and flushing the folder
        assert (step_of(file) if file.exists() else 0) >= min(STEPS, operation // 9 * every)
        more = ("--resume",) if file.exists() else ()
        assert finish([*arguments[:-4], "--checkpoint", str(file)], tmp_path, *more) == whole
        assert list(tmp_path.glob(".ck*")) == []
        operation += 1
    assert operation > 20
    assert seen == {250, 500, 600}


@pytest.mark.parametrize("case", CASES)
def test_killed_at_any_moment_again_and_again(command: Callable[[str], Command], tmp_path: Path, case: str) -> None:
    rng = np.random.default_rng(sorted(CASES).index(case))
    whole, file = finish(command(case), tmp_path), tmp_path / "ck"  # kernels are loaded now
    began = time.monotonic()
    assert finish(command(case), tmp_path) == whole
    duration = time.monotonic() - began
    arguments = [*command(case), "--steps", str(STEPS), "--checkpoint", str(file), "--checkpoint-every"]
    before = 0
    for _ in range(4):
        every = str(int(rng.integers(20, 200)))
        pid = in_child([*arguments, every, *(["--resume"] if file.exists() else [])])
        time.sleep(rng.uniform(0.1, 1.5) * duration)
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) in {0, -signal.SIGKILL}
        reached = step_of(file) if file.exists() else 0
        assert reached >= before  # what was done stays done
        before = reached
    assert finish([*arguments, "45"], tmp_path, *(["--resume"] if file.exists() else [])) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("case", ["pattern, anchored", "pattern, loop"])
def test_a_signal_writes_a_checkpoint(
    command: Callable[[str], Command],
    call: Any,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    number: signal.Signals,
) -> None:
    whole, file = finish(command(case), tmp_path), tmp_path / "ck"
    (tmp_path / "out.npz").unlink()
    capsys.readouterr()
    real = Simulator.run

    def interrupted(self: Simulator, n_steps: int, **options: Any) -> Any:
        if self.step > 100:
            signal.raise_signal(number)
        return real(self, n_steps, **options)

    arguments = [*command(case), "--steps", str(STEPS), "--save", str(tmp_path / "out.npz"), "--checkpoint", str(file), "--format", "json"]
    monkeypatch.setattr(Simulator, "run", interrupted)
    code, out, _ = call(*arguments)
    monkeypatch.undo()
    answer = json.loads(out)
    assert code == INTERRUPTED
    assert (answer["interrupted"], answer["save"], answer["steps"]) == (True, None, STEPS)
    assert 100 < answer["steps_done"] == step_of(file) < STEPS
    assert not (tmp_path / "out.npz").exists()
    code, out, _ = call(*arguments, "--resume")
    resumed = json.loads(out)
    assert (code, resumed["interrupted"], resumed["steps_done"]) == (0, False, STEPS)
    assert (tmp_path / "out.npz").read_bytes() == whole
    alone = json.loads(call(*arguments[:-4], "--format", "json")[1])  # counts, too, are those of the whole run
    assert all(alone[key] == resumed[key] for key in ("n_spikes", "n_synaptic_events", "algorithm", "bytes_per_plastic_synapse"))


@pytest.mark.parametrize("case", CASES)
def test_more_steps_later(command: Callable[[str], Command], tmp_path: Path, case: str) -> None:
    """Ends that are no multiple of --record-every or --checkpoint-every leave no trace; --flush at the first end does not either."""
    whole, file = finish(command(case), tmp_path), tmp_path / "ck"
    for i, steps in enumerate((1, 83, 411, STEPS)):
        part = finish(command(case), tmp_path, "--checkpoint", str(file), "--checkpoint-every", "57", *["--resume"] * (i > 0), steps=steps)
    assert part == whole
    sizes = {p.name: p.stat().st_size for p in tmp_path.glob("ck*")}
    assert finish(command(case), tmp_path, "--checkpoint", str(file), "--resume") == whole  # nothing left to do
    assert {p.name: p.stat().st_size for p in tmp_path.glob("ck*")} == sizes


@pytest.mark.parametrize("network", ["pattern", "intervals"])
@pytest.mark.parametrize(("first", "then"), [(1, 3), (3, 1), (2, 3), (4, 2)])
def test_another_number_of_threads_resumes(
    command: Callable[[str], Command],
    call: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    network: str,
    first: int,
    then: int,
) -> None:
    """A state lies by the ranges of the run that began it, so those stay: the same bytes, and not more threads than ranges. More threads
    than cores only wait for each other."""
    monkeypatch.setattr("neurocompile.backends.reference.simulator.max_threads", lambda: 4)
    arguments = command("pattern, anchored" if network == "pattern" else "intervals, threads")
    arguments = [x for i, x in enumerate(arguments) if x != "--threads" and arguments[i - 1] != "--threads"]
    whole, file, out = finish([*arguments, "--threads", "1"], tmp_path), tmp_path / "ck", tmp_path / "out.npz"
    checkpoint = ["--checkpoint", str(file), "--checkpoint-every", "70"]
    capsys.readouterr()
    began = json.loads(call(*arguments, "--steps", "230", *checkpoint, "--threads", str(first), "--format", "json")[1])
    assert (began["threads"], began["ranges"]) == (first, first)
    resumed = json.loads(call(*arguments, "--steps", "410", *checkpoint, "--resume", "--threads", str(then), "--format", "json")[1])
    assert (resumed["threads"], resumed["ranges"]) == (min(first, then), first)
    code, text, _ = call(*arguments, "--steps", str(STEPS), *checkpoint, "--resume", "--threads", "4", "--save", str(out))
    assert code == 0
    said = f"{4 - first} of 4 threads had nothing to do: neurons are split into {first} range{'s' * (first > 1)} in the checkpoint"
    assert (said in text) == (first < 4)
    assert out.read_bytes() == whole


def test_ranges_that_nobody_wrote_are_damage(pattern: Path, call: Any) -> None:
    """The number of ranges in a checkpoint decides what is built: none at all, and one that the state does not have, are refused."""
    file = pattern / "ck"
    assert call(*changed(pattern, ""), "--checkpoint", file)[0] == 0
    content = dict(np.load(file))
    meta = json.loads(content["meta"].tobytes())
    assert (meta["ranges"], meta["range_starts"]) == (1, [0, 36])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"ranges": 0}, "a count that cannot be"),
        ({"ranges": None}, "NoneType"),
        ({"ranges": 3}, "its state lies by ranges (0, 36), not (0, "),
        ({"range_starts": [0, 5, 36]}, "its state lies by ranges (0, 5, 36), not (0, 36)"),
    ]
    for what, said in wrong:
        told = np.frombuffer(json.dumps(meta | what).encode(), np.uint8)
        file.write_bytes(npz_bytes(content | {"meta": told}))
        code, _, err = call(*changed(pattern, ""), "--checkpoint", file, "--resume")
        assert (code, "NC712" in err, said in err) == (3, True, True)


def test_ctrl_c_without_a_checkpoint_leaves_nothing(
    command: Callable[[str], Command], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Simulator.run

    def interrupted(self: Simulator, n_steps: int, **options: Any) -> Any:
        if self.step > 100:
            signal.raise_signal(signal.SIGINT)
        return real(self, n_steps, **options)

    monkeypatch.setattr(Simulator, "run", interrupted)
    before = set(tmp_path.iterdir())
    code, out, err = call(*command("pattern, anchored"), "--steps", "600", "--save", tmp_path / "out.npz")
    assert (code, out) == (INTERRUPTED, "")
    assert "interrupted" in err
    assert {p.name for p in set(tmp_path.iterdir()) - before} <= {"stdp.yaml", "intervals.yaml", "adam.yaml"}


def test_progress_is_shown_on_a_terminal_alone(command: Callable[[str], Command]) -> None:
    arguments = [sys.executable, "-m", "neurocompile", *command("intervals, threads")[:2], "--steps", "3000"]
    silent = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert silent.stderr == ""
    ours, theirs = pty.openpty()
    shown = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 4096):
            seen += piece
    except OSError:  # how a terminal that nobody writes to any more ends
        pass
    finally:
        os.close(ours)
    out, _ = shown.communicate()
    assert b"/3000" in seen
    assert b"step" in seen
    assert re.sub(rb"[\d.]+", b"", out) == re.sub(rb"[\d.]+", b"", silent.stdout.encode())


def test_files_hold_plain_arrays_and_every_number_once(command: Callable[[str], Command], tmp_path: Path) -> None:
    file = tmp_path / "ck"
    arguments = [*command("pattern, anchored"), "--checkpoint", str(file), "--checkpoint-every", "100"]
    finish(arguments, tmp_path, steps=100)
    early = file.stat().st_size
    finish(arguments, tmp_path, "--resume")
    out, parts = np.load(tmp_path / "out.npz"), sorted(tmp_path.glob("ck.part*"))
    assert [p.name for p in parts] == [f"ck.part{i:06d}" for i in range(6)]
    assert abs(file.stat().st_size - early) < 100  # the numbers in its text grow, the state does not
    loaded = [dict(np.load(p, allow_pickle=False)) for p in parts]
    for key in ("spike_step:hidden", "output:out", "membrane:hidden"):
        np.testing.assert_array_equal(np.concatenate([part[key] for part in loaded]), out[key])
    assert all(array.dtype != object for array in np.load(file, allow_pickle=False).values())


def changed(folder: Path, what: str) -> Command:
    """Return the pattern's command with one thing changed."""
    arguments = [
        "simulate", str(folder / "pattern.yaml"), "--steps", "60", "--input", f"in={folder / 'spikes.npz'}",
        "--signal", f"out={folder / 'signal.npz'}", "--save", str(folder / "o.npz"),
    ]  # fmt: skip
    if what == "description":
        (folder / "pattern.yaml").write_text((folder / "pattern.yaml").read_text().replace("kappa: 0.97", "kappa: 0.96"))
    elif what == "edges":
        edges = dict(np.load(folder / "in_hidden.npz"))
        np.savez(folder / "in_hidden.npz", **(edges | {"weight": np.nextafter(edges["weight"], 1.0)}))
    elif what == "input":
        np.savez(folder / "spikes.npz", neuron=np.array([3]), step=np.array([5]))
    elif what == "no input":
        del arguments[4:6]
    elif what == "signal":
        np.savez(folder / "signal.npz", target=np.load(folder / "signal.npz")["target"])
    elif what == "weights":
        np.savez(folder / "w.npz", **{"weight:read": np.zeros(15)})
        arguments += ["--weights", str(folder / "w.npz")]
    elif what == "fewer steps":
        arguments[3] = "59"
    elif what:
        arguments += what.split()
    return arguments


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("description", "the description (changed)"),
        ("edges", "the description (changed)"),
        ("input", "the input of 'in' (changed)"),
        ("no input", "the input of 'in' (not given now)"),
        ("signal", "the signal of 'out' (changed)"),
        ("weights", "the weights (not given then)"),
        ("--seed 9", "the seed (1 then, 9 now)"),
        ("--no-learn", "--no-learn (off then, on now)"),
        ("--algorithm loop", "the algorithm (anchored then, loop now)"),
        ("--precision float32", "--precision (float64 then, float32 now)"),
        ("--record membrane:hidden", "--record (nothing then, membrane:hidden now)"),
        ("--record-every 2", "--record-every (1 then, 2 now)"),
        ("fewer steps", "the checkpoint is at step 60, behind --steps 59"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(pattern: Path, call: Any, what: str, said: str) -> None:
    file = str(pattern / "ck")
    assert call(*changed(pattern, ""), "--checkpoint", file)[0] == 0
    before, out = Path(file).read_bytes(), (pattern / "o.npz").read_bytes()
    code, _, err = call(*changed(pattern, what), "--checkpoint", file, "--resume")
    assert code == 3
    assert "NC711" in err
    assert said in err
    assert err.count("changed)") + err.count(" now") <= 1  # nothing else is said to differ
    assert (Path(file).read_bytes(), (pattern / "o.npz").read_bytes()) == (before, out)


def flip(file: Path, place: float) -> None:
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 0x40
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-200]),
    "empty": lambda file: file.write_bytes(b""),
    "other file": lambda file: file.write_bytes(npz_bytes({"meta": np.zeros(3)})),
    "a flipped bit": lambda file: flip(file, 0.5),
    "a part is missing": lambda file: file.with_name("ck.part000001").unlink(),
    "a part is another": lambda file: shutil.copy(file.with_name("ck.part000000"), file.with_name("ck.part000001")),
    "a part is truncated": lambda file: file.with_name("ck.part000001").write_bytes(b"PK"),
    "a bit of a part is flipped": lambda file: flip(file.with_name("ck.part000000"), 0.5),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoints_are_refused(pattern: Path, call: Any, damage: str) -> None:
    arguments = [*changed(pattern, ""), "--checkpoint", str(pattern / "ck"), "--checkpoint-every", "20"]
    assert call(*arguments)[0] == 0
    (pattern / "o.npz").unlink()
    DAMAGES[damage](pattern / "ck")
    code, _, err = call(*arguments, "--resume")
    assert code == 3
    assert "NC712" in err
    assert not (pattern / "o.npz").exists()


def test_a_checkpoint_is_neither_overwritten_nor_invented(pattern: Path, call: Any) -> None:
    arguments = [*changed(pattern, ""), "--checkpoint", str(pattern / "ck")]
    code, _, err = call(*arguments, "--resume")
    assert (code, "NC710" in err) == (3, True)
    assert call(*arguments)[0] == 0
    before = (pattern / "ck").read_bytes()
    code, _, err = call(*arguments)
    assert (code, "NC713" in err, "--resume" in err) == (3, True, True)
    assert (pattern / "ck").read_bytes() == before
    for option in ("--resume", "--checkpoint-every=5"):
        code, _, err = call(*changed(pattern, ""), option)
        assert (code, "NC160" in err, "--checkpoint" in err) == (3, True, True)
    code, _, err = call(*changed(pattern, ""), "--checkpoint", pattern / "none" / "ck")
    assert (code, "NC701" in err) == (3, True)
