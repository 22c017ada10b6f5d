"""The other verbs: what they print, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from neurocompile.ir.codes import CODES


def test_version_names_the_sdks(call: Any) -> None:
    code, out, _ = call("--version")
    assert code == 0
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert {"neurocompile", "lava-nc", "spynnaker", "nest-simulator"} <= set(lines)


def test_help_of_every_verb(call: Any) -> None:
    code, out, _ = call("--help")
    assert code == 0
    for verb in ("build", "plan", "check", "simulate", "train", "evaluate", "validate", "report", "targets", "explain", "schema"):
        assert verb in out
        code, text, _ = call(verb, "--help")
        assert code == 0
        assert "Usage:" in text


def test_check(pattern: Path, call: Any, call_json: Any) -> None:
    result = call_json("check", pattern / "pattern.yaml")
    assert result["n_neurons"] == 36
    assert [p["name"] for p in result["projections"]] == ["in->hidden", "hidden->hidden", "read"]
    code, out, err = call("check", pattern / "pattern.yaml")
    assert code == 0
    assert out.splitlines()[-1].startswith("ok: 36 neurons")
    assert err == ""


@pytest.mark.parametrize("target", ["loihi2", "spinnaker", "nest"])
def test_build_plan_report(pattern: Path, call: Any, call_json: Any, target: str) -> None:
    planned = call_json("plan", pattern / "pattern.yaml", "--target", target, "--allow-approximation")
    assert not (pattern / "out").exists()
    built = call_json("build", pattern / "pattern.yaml", "--target", target, "--allow-approximation", "-o", pattern / "out")
    assert built["report"] == planned["report"] == call_json("report", pattern / "out")["report"]
    on_disk = sorted(str(p.relative_to(pattern / "out")) for p in (pattern / "out").rglob("*") if p.is_file())
    assert built["files"] == on_disk
    assert {"manifest.json", "report.json", "report.html", "mapping.npz", "program/run.py"} <= set(on_disk)
    code, out, _ = call("report", pattern / "out")
    assert code == 0
    assert "pattern for " + target in out
    if target != "nest":
        assert built["report"]["usage"]
        assert all(row["used"] <= row["available"] for row in built["report"]["usage"] if row["available"])


def test_what_a_target_cannot_express_is_named(pattern: Path, call: Any) -> None:
    code, _, err = call("build", pattern / "pattern.yaml", "--target", "spinnaker", "--set", "eprop=r_stdp", "-o", pattern / "out")
    assert code == 3
    assert "error[NC32" in err
    assert "--allow-approximation" in err
    assert not (pattern / "out").exists()


def test_a_hostile_name_ends_in_an_error_and_a_hostile_title_in_text(pattern: Path, call: Any) -> None:
    text = (pattern / "pattern.yaml").read_text()
    (pattern / "evil.yaml").write_text(text.replace("name: pattern", "name: '<script>alert(1)</script>'"))
    code, _, err = call("build", pattern / "evil.yaml", "--target", "nest", "-o", pattern / "out")
    if code == 0:
        assert "<script" not in (pattern / "out" / "report.html").read_text()
    else:
        assert code == 3, err


def test_targets(call_json: Any) -> None:
    listed = {t["name"]: t for t in call_json("targets")["targets"]}
    assert {"loihi2", "spinnaker", "nest"} <= set(listed)
    assert {"oheo-gulch", "kapoho-point", "hala-point", "nahuku-32"} <= set(listed["loihi2"]["machines"])
    one = call_json("targets", "spinnaker")
    assert one["capabilities"]
    for machine in one["machines"]:
        for quantity in machine["quantities"].values():
            assert {"value", "unit", "source", "confidence"} <= set(quantity)


def test_names_of_quantities_are_never_cut(call: Any, call_json: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """--set machine.QUANTITY takes them: whole in a narrow terminal too, and with them every value and unit."""
    monkeypatch.setenv("COLUMNS", "60")
    for target in ("spinnaker", "loihi2"):
        code, out, _ = call("targets", target)
        assert code == 0
        words = set(out.split())
        for machine in call_json("targets", target)["machines"]:
            assert set(machine["quantities"]) <= words
            assert {f"{q['value']:g}" for q in machine["quantities"].values()} <= words


def test_explain(call: Any, call_json: Any) -> None:
    assert set(call_json("explain")["codes"]) == set(CODES)
    assert call_json("explain", "nc204")["exit_code"] == 3
    code, _, err = call("explain", "NC999")
    assert code == 3
    assert "NC162" in err


def test_schema_is_draft_7(call: Any) -> None:
    code, out, _ = call("schema")
    assert code == 0
    jsonschema.Draft7Validator.check_schema(json.loads(out))


def test_quiet_and_colour(pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    code, out, err = call("build", pattern / "pattern.yaml", "--target", "nest", "-q", "-o", pattern / "out")
    assert code == 0
    assert err == ""
    assert "\x1b[" not in out


def test_override_shows_in_the_report(pattern: Path, call_json: Any) -> None:
    report = call_json("plan", pattern / "pattern.yaml", "--target", "loihi2", "--allow-approximation", "--set", "machine.core.neurons=7")[
        "report"
    ]
    assert report["machine"]["overrides"] == ["core.neurons"]
    (row,) = (r for r in report["usage"] if r["name"] in {"neurons", "core.neurons"})
    assert row["available"] == 7
    assert row["used"] <= 7


@pytest.mark.parametrize(
    ("option", "default", "other"), [("partition", "auto", "sequential"), ("routes", "auto", "exact"), ("effort", "normal", "fast")]
)
def test_what_the_mapper_is_told_is_written_down(pattern: Path, call: Any, call_json: Any, option: str, default: str, other: str) -> None:
    arguments = ["build", pattern / "pattern.yaml", "--target", "spinnaker", "--allow-approximation", "-o", pattern / "out"]
    for given, value in ([], default), ([f"--{option}", other], other):
        report = call_json(*arguments, *given)["report"]
        manifest = json.loads((pattern / "out" / "manifest.json").read_text())
        assert report["provenance"]["options"][option] == manifest["options"][option] == value
        sharing = report["routing"]["sharing"]
        assert report["routing"]["exact"] is (sharing["stray_deliveries"] == 0)
        if option == "routes":
            assert sharing["asked"] == value
    code, _, err = call(*arguments, f"--{option}", "best")
    assert code == 2
    assert other in err  # those that there are


def test_the_committed_schema_is_today_s(call: Any, root: Path) -> None:
    _, out, _ = call("schema")
    assert (root / "docs" / "neurocompile.schema.json").read_text() == out, "run: neurocompile schema > docs/neurocompile.schema.json"


def test_validate_gives_targets_an_absolute_folder(pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulators run in folders of their own, where a relative path would lead nowhere."""
    from neurocompile.backends.base import Check
    from neurocompile.backends.nest import TARGET

    assert call("build", pattern / "pattern.yaml", "--target", "nest", "-o", pattern / "out")[0] == 0
    seen: list[Path] = []

    def fake(_self: object, build: Path, *_rest: object, steps: int) -> list[Check]:
        seen.append(build)
        return [Check(name="fake", ok=steps == 200, detail="1 differs"), Check(name="<both>", ok=True, detail="", pair=("1,234", "5,678"))]

    monkeypatch.setattr(type(TARGET), "validate", fake)
    monkeypatch.chdir(pattern)
    assert call("validate", "out")[0] == 0
    assert seen[0].is_absolute()
    assert call("validate", "out", "--html", "page.html")[0] == 0
    page = (pattern / "page.html").read_text()
    assert "1,234" in page
    assert "5,678" in page
    assert "&lt;both&gt;" in page
    assert "1 differs" in page
    assert "1,234" not in (pattern / "out" / "report.html").read_text()
    assert call("validate", "out", "--html", "nowhere/page.html")[0] == 3
    code, _, err = call("validate", "out", "--steps", "7")
    assert code == 6
    assert "NC650" in err
