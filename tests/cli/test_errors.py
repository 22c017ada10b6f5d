"""Exit codes and messages: what a user sees when something is wrong. Never a traceback, never a half-written output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurocompile.cli.app
from neurocompile.ir.codes import CODES


def expect(result: tuple[int, str, str], exit_code: int, *words: str) -> None:
    code, out, err = result
    assert "Traceback" not in err
    assert "Traceback" not in out
    assert code == exit_code, err
    for word in words:
        assert word in err


def test_usage_is_exit_2(call: Any) -> None:
    expect(call("simulate"), 2, "Missing argument")
    expect(call("no-such-verb"), 2, "No such command")
    expect(call("build", "x.yaml"), 2, "--target")
    code, out, _ = call("simulate", "--format", "json")
    assert code == 2
    assert json.loads(out)["errors"][0]["code"] == "NC001"


def test_a_missing_description(call: Any, tmp_path: Path) -> None:
    expect(call("check", tmp_path / "none.yaml"), 3, "none.yaml", "error[NC1")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--input", "in", ("NC160", "NAME=FILE")),
        ("--input", "im=spikes.npz", ("NC207", "there is no 'im'", "known: in")),
        ("--input", "hidden=spikes.npz", ("NC207",)),
        ("--input", "in=none.npz", ("NC105", "none.npz")),
        ("--signal", "out=spikes.npz", ("NC107", "target")),
        ("--record", "spikes", ("NC160", "KIND:NAME")),
        ("--record", "membrane:hiden", ("NC207",)),
        ("--weights", "spikes.npz", ("NC107", "weight:PROJECTION")),
    ],
)
def test_bad_options_of_simulate(
    pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch, option: str, value: str, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(pattern)
    expect(call("simulate", "pattern.yaml", "--steps", "5", option, value, "--save", "out.npz"), 3, *words)
    assert not (pattern / "out.npz").exists()


def test_weights_of_another_network(pattern: Path, call: Any) -> None:
    np.savez(pattern / "w.npz", **{"weight:read": np.zeros(3)})
    expect(call("simulate", pattern / "pattern.yaml", "--steps", "5", "--weights", pattern / "w.npz"), 3, "NC202", "15 synapses")
    np.savez(pattern / "w.npz", **{"weight:reed": np.zeros(15)})
    expect(call("simulate", pattern / "pattern.yaml", "--steps", "5", "--weights", pattern / "w.npz"), 3, "NC207", "did you mean 'read'?")
    np.savez(pattern / "w.npz", **{"weight:read": np.full(15, np.nan)})
    expect(call("simulate", pattern / "pattern.yaml", "--steps", "5", "--weights", pattern / "w.npz"), 3, "NC203")
    np.savez(pattern / "w.npz", **{"weight:read": np.zeros(15), "pre:read": np.arange(15)[::-1]})
    expect(
        call("simulate", pattern / "pattern.yaml", "--steps", "5", "--weights", pattern / "w.npz"), 3, "NC202", "another network or seed"
    )


def test_unknown_target_and_machine(pattern: Path, call: Any) -> None:
    expect(call("build", pattern / "pattern.yaml", "--target", "loihi"), 3, "NC301", "did you mean 'loihi2'?")
    expect(call("plan", pattern / "pattern.yaml", "--target", "loihi2", "--machine", "spin5"), 3, "NC302", "spinnaker1")
    expect(call("plan", pattern / "pattern.yaml", "--target", "nest", "--machine", "spin5"), 3, "NC302")
    expect(call("plan", pattern / "pattern.yaml", "--target", "loihi2", "--set", "machine.core.neurons=many"), 3, "NC160")


def test_too_big_for_the_machine(pattern: Path, call: Any) -> None:
    text = (pattern / "pattern.yaml").read_text()
    big = (
        text.replace("size: 15", "size: 15000")
        .replace("{file: in_hidden.npz}", "{fixed_indegree: 4}")
        .replace("{fixed_probability: 0.3}", "{fixed_indegree: 40}")
    )
    (pattern / "big.yaml").write_text(big)
    result = call(
        "build", pattern / "big.yaml", "--target", "loihi2", "-o", pattern / "out", "--allow-approximation",
        "--set", "machine.core.neurons=10",
    )  # fmt: skip
    expect(result, 4, "error[NC4")
    assert not (pattern / "out").exists()


def test_a_missing_sdk_is_exit_5(pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("build", pattern / "pattern.yaml", "--target", "nest", "-o", pattern / "out")[0] == 0
    from neurocompile.backends import base

    monkeypatch.setattr(base, "sdk_version", lambda _distribution: None)
    expect(call("validate", pattern / "out"), 5, "NC501", "pip install 'neurocompile[nest]'")


def test_an_output_that_cannot_be_written(pattern: Path, call: Any) -> None:
    expect(call("build", pattern / "pattern.yaml", "--target", "nest", "-o", pattern / "pattern.yaml" / "out"), 3, "NC701")
    expect(call("simulate", pattern / "pattern.yaml", "--steps", "5", "--save", pattern / "no" / "out.npz"), 3, "NC701")


def test_a_folder_that_is_no_build(pattern: Path, call: Any) -> None:
    for verb in ("validate", "report", "check"):
        expect(call(verb, pattern), 3, "NC703")
    expect(call("build", pattern / "pattern.yaml", "--target", "nest", "-o", pattern), 3, "NC702")


def test_a_tampered_build(pattern: Path, call: Any) -> None:
    assert call("build", pattern / "pattern.yaml", "--target", "nest", "-o", pattern / "out")[0] == 0
    with (pattern / "out" / "program" / "run.py").open("a") as file:
        file.write("# changed\n")
    expect(call("validate", pattern / "out"), 3, "NC704", "program/run.py")


def test_all_errors_of_a_file_in_json(pattern: Path, call: Any) -> None:
    bad = (
        (pattern / "pattern.yaml").read_text().replace("tau_mem: 30 ms, v_t", "tau_mem: -30 ms, v_t").replace("kappa: 0.97", "kappa: 1.97")
    )
    (pattern / "bad.yaml").write_text(bad)
    code, out, err = call("check", pattern / "bad.yaml", "--format", "json")
    assert code == 3
    findings = json.loads(out)["errors"]
    assert len(findings) == 2
    assert all(f["line"] and f["column"] and f["code"] in CODES for f in findings)
    assert "2 errors" in err


def test_an_internal_error_is_exit_1(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(neurocompile.cli.app.cli, "main", broken)
    expect(call("check", "x"), 1, "NC901", "a defect")


def test_ctrl_c_is_exit_130(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(neurocompile.cli.app.cli, "main", interrupted)
    expect(call("check", "x"), 130, "interrupted")


def test_every_code_used_in_the_source_is_explained(root: Path) -> None:
    import re

    used: set[str] = set()
    for room in ("ir", "neurocompile", "backends"):
        for file in (root / room).rglob("*.py"):
            if file.name != "codes.py" and "templates" not in file.parts:
                used |= set(re.findall(r"\"(NC\d{3})\"", file.read_text()))
    assert used - set(CODES) == set()
    assert set(CODES) - used == set()
