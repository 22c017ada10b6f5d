"""The command line as a process: signals, pipes, streams, colours. What happens at one moment is made to happen there, not timed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neurocompile.build_folder import read_build
from neurocompile.cli import INTERRUPTED

COMMAND = (sys.executable, "-m", "neurocompile")

STAGES = {
    "reading": "neurocompile.ir.yaml_reader.read_yaml",
    "realising": "neurocompile.pipeline.realise_all",
    "mapping": "neurocompile.pipeline.map_network",
    "assembling": "neurocompile.cli.build.assemble",
    "writing a file": "os.fsync",
    "cleaning up": "shutil.rmtree",
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("form", ["text", "json"])
def test_ctrl_c_at_any_stage_of_a_build(pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch, stage: str, form: str) -> None:
    """The signal comes when the stage begins; an older build stays, unless the new one is already in its place."""
    out = pattern / "out"
    assert call("build", pattern / "pattern.yaml", "--target", "loihi2", "--seed", "5", "-o", out)[0] == 0
    module, _, name = STAGES[stage].rpartition(".")
    real, count = getattr(sys.modules[module], name), iter(range(1000))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(count) == (3 if stage == "writing a file" else 0):
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr(sys.modules[module], name, interrupted)
    code, answer, err = call("build", pattern / "pattern.yaml", "--target", "loihi2", "--seed", "6", "-o", out, "--format", form)
    monkeypatch.undo()
    assert code == INTERRUPTED
    assert "interrupted" in err
    assert "Traceback" not in err
    if form == "json":
        assert json.loads(answer) == {"format_version": "1.0", "errors": [], "interrupted": True, "exit_code": INTERRUPTED}
    else:
        assert answer == ""
    assert read_build(out).network.seed == (6 if stage == "cleaning up" else 5)
    assert call("build", pattern / "pattern.yaml", "--target", "loihi2", "--seed", "7", "-o", out)[0] == 0
    assert read_build(out).network.seed == 7
    if stage != "cleaning up":  # there the folder of a process that lives, as this one does, is left to it
        assert [p.name for p in pattern.iterdir() if p.name.startswith(".out")] == []


IMPORTING = """
import signal, sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Hook())
from neurocompile.cli import main
main(["check", "pattern.yaml"])
"""


def test_ctrl_c_while_modules_are_imported(pattern: Path) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], cwd=pattern, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "interrupted\n")


@pytest.mark.parametrize(
    "arguments", [("explain",), ("explain", "--format", "json"), ("schema",), ("--help",), ("check", "none.yaml", "--format", "json")]
)
def test_a_reader_that_has_gone_changes_nothing_but_its_own_view(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(write)
    assert done.returncode == (3 if "check" in arguments else 0)
    assert "Broken pipe" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_only_where_they_are_wanted(pattern: Path, variables: dict[str, str], coloured: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}} | {"TERM": "xterm"} | variables
    done = subprocess.run([*COMMAND, "check", "none.yaml"], cwd=pattern, env=environment, capture_output=True, text=True)
    assert done.returncode == 3
    assert ("\x1b[1;31m" in done.stderr or "\x1b[31m" in done.stderr) == coloured
    assert done.stdout == ""


def test_results_on_stdout_and_the_rest_on_stderr(pattern: Path, call: Any) -> None:
    plan = ("plan", pattern / "pattern.yaml", "--target", "loihi2")
    code, out, err = call(*plan)
    assert (code, err) == (0, "")
    assert "pattern for loihi2" in out
    code, loud_out, loud_err = call(*plan, "-v")
    assert (code, loud_out) == (0, out)
    stages = [line.split()[-1] for line in loud_err.splitlines()]
    assert [s for s in stages if s in {"realise", "lower", "map", "emit"}] == ["realise", "lower", "map", "emit"]
    assert call(*plan, "-q") == (0, out, "")
    assert call(*plan, "-v", "-q") == (0, out, "")
    code, answer, err = call(*plan, "--format", "json", "-v")
    assert json.loads(answer)["command"] == "plan"
    assert "realise" in err
    code, out, err = call("check", "none.yaml", "-q")  # quiet is no progress, not no errors
    assert (code, out) == (3, "")
    assert "NC105" in err


def test_an_internal_error_shows_its_traceback_only_when_asked(pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import neurocompile.cli.check

    def broken(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("[a] defect \x1b[31m")

    monkeypatch.setattr(neurocompile.cli.check, "open_network", broken)
    code, out, err = call("check", pattern / "pattern.yaml", "--format", "json")
    assert code == 1
    (error,) = json.loads(out)["errors"]
    assert (error["code"], "ZeroDivisionError" in error["message"]) == ("NC901", True)
    assert "Traceback" not in err
    assert "[a] defect \\x1b" in err
    code, _, err = call("check", pattern / "pattern.yaml", "-v")
    assert code == 1
    assert "Traceback" in err


def test_a_failed_validation_is_one_json_document(pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from neurocompile.backends.base import Check
    from neurocompile.backends.nest import TARGET

    assert call("build", pattern / "pattern.yaml", "--target", "nest", "-o", pattern / "out")[0] == 0
    checks = [Check(name="spikes", ok=True, detail="all"), Check(name="weights", ok=False, detail="3 of 5 differ")]
    monkeypatch.setattr(type(TARGET), "validate", lambda *_arguments, **_options: checks)
    code, out, err = call("validate", pattern / "out", "--format", "json")
    assert code == 6
    answer = json.loads(out)
    assert (answer["format_version"], answer["ok"], [c["ok"] for c in answer["checks"]]) == ("1.0", False, [True, False])
    assert [e["code"] for e in answer["errors"]] == ["NC650"]
    assert "weights: 3 of 5 differ" in err


def test_schema_in_both_forms_is_the_same(call: Any, call_json: Any) -> None:
    _, text, _ = call("schema")
    assert call_json("schema")["schema"] == json.loads(text)


def test_numbers_that_json_cannot_say_become_null() -> None:
    from neurocompile.cli.common import finite

    assert finite({"loss": float("nan"), "rows": [(1.0, float("inf"))], "n": 3, "text": "nan"}) == {
        "loss": None, "rows": [[1.0, None]], "n": 3, "text": "nan",
    }  # fmt: skip
