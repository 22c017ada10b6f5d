"""Bad input of every kind, through the command line: the exit code, a code, the place and a way out, as text and as JSON at once."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from neurocompile.ir.codes import CODES

BOMB = "x: &a [1, 1]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12))


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A call that must fail.

    call : arguments, run in the folder of the fixture `pattern`; edit : (old, new) in its pattern.yaml, written as bad.yaml;
    make : what else to prepare there; at : text in bad.yaml whose first occurrence is the place, or the file that is named; says, help :
    parts of the message and of the help.
    """

    call: str
    code: str
    says: str
    help: str
    exit_code: int = 3
    edit: tuple[str, str] | None = None
    make: Callable[[Path], object] | None = None
    at: str | None = None
    file: str | None = None


def npz(name: str, **arrays: Any) -> Callable[[Path], object]:
    return lambda folder: np.savez(folder / name, **arrays)


def edges(**changes: Any) -> Callable[[Path], object]:
    return npz("in_hidden.npz", **({"pre": np.array([0, 1]), "post": np.array([0, 1]), "weight": np.ones(2)} | changes))


def text(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def graph(folder: Path, *nodes: Any) -> None:
    nir.write(folder / "model.nir", nir.NIRGraph.from_list(nir.Input(np.array([2])), *nodes, nir.Output(np.array([2]))))


def hdf5(folder: Path) -> None:
    with h5py.File(folder / "model.nir", "w") as file:
        file["something"] = np.arange(3)


CHECK, SIMULATE = "check bad.yaml", "simulate pattern.yaml --steps 5"
TRAIN = "train task.yaml --out run --epochs 1 --limit-train 2 --limit-test 2 --no-baseline"


def task(data: str, folder: Path) -> None:
    """A description that learns from data, which does not fit it."""
    content = (folder / "pattern.yaml").read_text().replace("{readout: out,", f"{{readout: out, data: {data},")
    (folder / "task.yaml").write_text(content)


CASES = {
    # what the issue lists
    "unknown key": Bad(
        call=CHECK, code="NC108", edit=("kappa_reg:", "kapa_reg:"), at="kapa_reg", says="kapa_reg", help="did you mean 'kappa_reg'?"
    ),
    "wrong unit": Bad(call=CHECK, code="NC116", edit=("tau_mem: 30 ms, v", "tau_mem: 30 Hz, v"), at="30 Hz", says="Hz", help="ms"),
    "negative time constant": Bad(
        call=CHECK, code="NC201", edit=("tau_mem: 30 ms, v", "tau_mem: -30 ms, v"), at="-30 ms", says="-0.03", help="> 0"
    ),
    "weight file with NaN": Bad(
        call="check pattern.yaml",
        code="NC203",
        make=edges(weight=np.array([1, np.nan])),
        at="in_hidden.npz}",
        says="[1]",
        help="docs/yaml.md",
    ),
    "index out of range": Bad(
        call="check pattern.yaml", code="NC204", make=edges(pre=np.array([0, 20])), at="{file: in_hidden", says="20", help="from 0 to 19"
    ),
    "empty population": Bad(
        call=CHECK, code="NC205", edit=("size: 15", "size: 0"), at="0, params", says="hidden", help="Number of neurons"
    ),
    "delay too long": Bad(
        call=CHECK,
        code="NC209",
        edit=("delay: 1 ms, learning: eprop}\n  - {name", "delay: 300 ms}\n  - {name"),
        at="300 ms",
        says="300",
        help="relay",
    ),
    "duplicate population": Bad(
        call=CHECK,
        code="NC206",
        edit=("  out: ", "  hidden: {model: lif, size: 2, params: {tau_mem: 1 ms, v_threshold: 1}}\n  out: "),
        at="hidden: {model: lif, size: 2",
        says="twice",
        help="first in line 6",
    ),
    "duplicate projection": Bad(
        call=CHECK, code="NC206", edit=("name: read", "name: in->hidden"), at="in->hidden", says="in->hidden", help="another 'name'"
    ),
    "YAML bomb": Bad(call="check bomb.yaml", code="NC103", make=text("bomb.yaml", BOMB), file="bomb.yaml", says="values", help=".npz"),
    "name that is code": Bad(
        call=CHECK,
        code="NC208",
        edit=("  hidden: {", "  'x\"; import os #': {"),
        at="'x\"; import",
        says='x"; import os #',
        help="letters, digits",
    ),
    "one neuron too big": Bad(
        call="plan pattern.yaml --target loihi2 --set machine.core.axons_in=3", code="NC401", exit_code=4, says="3", help="machine"
    ),
    # how files are written
    "no file": Bad(call="check none.yaml", code="NC105", file="none.yaml", says="does not exist", help=""),
    "no suffix": Bad(call="check README", code="NC121", make=text("README", ""), file="README", says="suffix", help=".nir"),
    "not UTF-8": Bad(call="check x.yaml", code="NC102", make=text("x.yaml", b"name: \xff\xfe"), file="x.yaml", says="UTF-8", help="UTF-8"),
    "empty": Bad(call="check x.yaml", code="NC104", make=text("x.yaml", ""), file="x.yaml", says="empty", help="docs/yaml.md"),
    "syntax": Bad(call=CHECK, code="NC101", edit=("task: {readout: out,", "task: {readout: out]"), at="] loss", says="", help="brackets"),
    "code in a tag": Bad(
        call=CHECK,
        code="NC113",
        edit=("size: 15", "size: !!python/object/apply:os.system [ls]"),
        at="!!python",
        says="python",
        help="remove the tag",
    ),
    "pickle in npz": Bad(
        call="check pattern.yaml",
        code="NC106",
        make=edges(pre=np.array([{}], dtype=object)),
        at="in_hidden.npz}",
        says="in_hidden.npz",
        help="np.savez",
    ),
    "damaged npz": Bad(
        call="check pattern.yaml",
        code="NC106",
        make=text("in_hidden.npz", b"PK\x03\x04 half"),
        at="in_hidden.npz}",
        says="in_hidden.npz",
        help="np.savez",
    ),
    "other lengths": Bad(
        call="check pattern.yaml", code="NC202", make=edges(weight=np.ones(3)), at="in_hidden.npz}", says="3", help="docs/yaml.md"
    ),
    # NIR
    "NIR without step": Bad(
        call="check model.nir",
        code="NC142",
        make=lambda f: graph(f, nir.Linear(np.eye(2)), nir.IF(np.ones(2), np.ones(2))),
        file="model.nir",
        says="no time step",
        help="--dt",
    ),
    "not NIR": Bad(call="check model.nir --dt 1e-3", code="NC140", make=text("model.nir", "text"), file="model.nir", says="", help="nir"),
    "HDF5 but not NIR": Bad(call="check model.nir --dt 1e-3", code="NC140", make=hdf5, file="model.nir", says="", help="nir"),
    "unknown NIR node": Bad(
        call="check model.nir --dt 1e-3", code="NC141", make=lambda f: graph(f, nir.I(np.ones(2))), file="model.nir", says="I", help=""
    ),
    "step longer than tau": Bad(
        call="check model.nir --dt '1 s'",
        code="NC142",
        make=lambda f: graph(f, nir.Linear(np.eye(2)), nir.LIF(np.full(2, 0.01), np.ones(2), np.zeros(2), np.ones(2))),
        file="model.nir",
        says="0.01",
        help="",
    ),
    # options of simulate
    "step of YAML": Bad(call="check pattern.yaml --dt 1ms", code="NC122", file="pattern.yaml", says="time step", help="leave out --dt"),
    "step of zero": Bad(call="check model.nir --dt 0", code="NC160", says="must be > 0", help="--dt '1 ms'"),
    "input of no source": Bad(call=f"{SIMULATE} --input hiden=spikes.npz", code="NC207", says="hiden", help="known: in"),
    "input twice": Bad(call=f"{SIMULATE} --input in=spikes.npz --input in=spikes.npz", code="NC206", says="twice", help="explain NC206"),
    "spikes without steps": Bad(
        call=f"{SIMULATE} --input in=s.npz",
        code="NC107",
        make=npz("s.npz", neuron=np.arange(3)),
        file="s.npz",
        says="'step'",
        help="explain",
    ),
    "spikes of floats": Bad(
        call=f"{SIMULATE} --input in=s.npz",
        code="NC202",
        make=npz("s.npz", neuron=np.array([0.5]), step=np.array([0])),
        file="s.npz",
        says="float64",
        help="explain",
    ),
    "spikes in two dimensions": Bad(
        call=f"{SIMULATE} --input in=s.npz",
        code="NC202",
        make=npz("s.npz", neuron=np.zeros((2, 2), int), step=np.zeros((2, 2), int)),
        file="s.npz",
        says="(2, 2)",
        help="explain",
    ),
    "spikes before the start": Bad(
        call=f"{SIMULATE} --input in=s.npz",
        code="NC204",
        make=npz("s.npz", neuron=np.array([0]), step=np.array([-1])),
        file="s.npz",
        says="-1",
        help="explain",
    ),
    "spikes of no neuron": Bad(
        call=f"{SIMULATE} --input in=s.npz",
        code="NC204",
        make=npz("s.npz", neuron=np.array([20]), step=np.array([0])),
        file="s.npz",
        says="20",
        help="from 0 to 19",
    ),
    "two spikes in a step": Bad(
        call=f"{SIMULATE} --input in=s.npz",
        code="NC237",
        make=npz("s.npz", neuron=np.array([3, 3]), step=np.array([1, 1])),
        says="3",
        help="",
    ),
    "signal in one dimension": Bad(
        call=f"{SIMULATE} --signal out=s.npz",
        code="NC202",
        make=npz("s.npz", target=np.zeros(5)),
        file="s.npz",
        says="(5,)",
        help="explain",
    ),
    "signal of another width": Bad(
        call=f"{SIMULATE} --signal out=s.npz",
        code="NC202",
        make=npz("s.npz", target=np.zeros((5, 3))),
        file="s.npz",
        says="3 columns",
        help="explain",
    ),
    "window of another length": Bad(
        call=f"{SIMULATE} --signal out=s.npz",
        code="NC202",
        make=npz("s.npz", target=np.zeros((5, 1)), window=np.ones(4, bool)),
        file="s.npz",
        says="(4,)",
        help="explain",
    ),
    "signal with NaN": Bad(
        call=f"{SIMULATE} --signal out=s.npz",
        code="NC203",
        make=npz("s.npz", target=np.array([[0.0], [np.nan]])),
        file="s.npz",
        says="row 1",
        help="explain",
    ),
    "signal of text": Bad(
        call=f"{SIMULATE} --signal out=s.npz",
        code="NC202",
        make=npz("s.npz", target=np.array([["a"]])),
        file="s.npz",
        says="numbers",
        help="explain",
    ),
    "weights of another network": Bad(
        call=f"{SIMULATE} --weights w.npz",
        code="NC202",
        make=npz("w.npz", **{"weight:read": np.zeros(3)}),
        file="w.npz",
        says="15 synapses",
        help="explain",
    ),
    "weights beyond bounds": Bad(
        call=f"{SIMULATE} --weights w.npz", code="NC236", make=npz("w.npz", **{"weight:read": np.full(15, 101.0)}), says="101", help=""
    ),
    "nothing recorded": Bad(call=f"{SIMULATE} --record membrane:hidden", code="NC160", says="--save", help="explain"),
    "output nowhere": Bad(call=f"{SIMULATE} --save no/out.npz", code="NC701", file="no/out.npz", says="cannot be written", help="write to"),
    # targets and builds
    "unknown target": Bad(call="plan pattern.yaml --target lohi2", code="NC301", says="lohi2", help="did you mean 'loihi2'?"),
    "unknown machine": Bad(
        call="plan pattern.yaml --target loihi2 -m ohio-gulch", code="NC151", says="ohio-gulch", help="did you mean 'oheo-gulch'?"
    ),
    "machine of another family": Bad(call="plan pattern.yaml --target loihi2 -m spin5", code="NC302", says="spinnaker1", help="targets"),
    "machine file missing": Bad(
        call="plan pattern.yaml --target loihi2 -m ./none.yaml", code="NC150", file="./none.yaml", says="No such file", help="explain"
    ),
    "unknown quantity": Bad(
        call="plan pattern.yaml --target loihi2 --set machine.core.neuron=1",
        code="NC157",
        says="core.neuron",
        help="did you mean 'core.neurons'?",
    ),
    "quantity no number": Bad(
        call="plan pattern.yaml --target loihi2 --set machine.core.neurons=many", code="NC160", says="many", help="explain"
    ),
    "option without value": Bad(call="plan pattern.yaml --target loihi2 --set core", code="NC160", says="KEY=VALUE", help="explain"),
    "cannot be expressed": Bad(
        call="build pattern.yaml --target spinnaker --set eprop=static -o out", code="NC325", says="e-prop", help="--allow-approximation"
    ),
    "not a folder": Bad(
        call="build pattern.yaml --target nest -o pattern.yaml/out",
        code="NC701",
        file="pattern.yaml/out",
        says="cannot be written",
        help="-o",
    ),
    "somebody's folder": Bad(call="build pattern.yaml --target nest -o .", code="NC702", says="nothing was written", help="-o"),
    "no build to report": Bad(call="report .", code="NC703", file=".", says="not a build folder", help="neurocompile build"),
    "no build to validate": Bad(call="validate none", code="NC703", file="none", says="No such file", help="neurocompile build"),
    "unknown target to list": Bad(call="targets spinaker", code="NC301", says="spinaker", help="did you mean 'spinnaker'?"),
    "unknown code": Bad(call="explain NC999", code="NC162", says="NC999", help="NC"),
    # training
    "nothing to learn from": Bad(call="train pattern.yaml --out run", code="NC243", says="no data set", help="task:"),
    "nothing to evaluate on": Bad(call="evaluate pattern.yaml", code="NC243", says="no data set", help="task:"),
    "unknown data set": Bad(
        call=CHECK,
        code="NC111",
        edit=("{readout: out,", "{readout: out, data: digit,"),
        at="digit,",
        says="digit",
        help="did you mean 'digits'?",
    ),
    "unknown option of the data": Bad(
        call=TRAIN, code="NC241", make=lambda f: task("{digits: {max_rat: 3}}", f), says="max_rat", help="did you mean 'max_rate'?"
    ),
    "inputs do not match the data": Bad(call=TRAIN, code="NC245", make=lambda f: task("{digits: {}}", f), says="64", help=""),
    "no recordings": Bad(call=TRAIN, code="NC246", make=lambda f: task("{nmnist: {path: nowhere}}", f), says="'Train'", help=""),
    "nothing to resume": Bad(
        call=f"{TRAIN} --resume",
        code="NC710",
        make=lambda f: (task("{digits: {}}", f), shutil.copy(f / "task.yaml", f / "task.yml")) and fitting(f),
        says="no checkpoint",
        help="--resume",
    ),
}


def fitting(folder: Path) -> None:
    """A description that fits the digits."""
    content = (folder / "task.yaml").read_text().replace("size: 20}", "size: 64}").replace("size: 1,", "size: 10,")
    (folder / "task.yaml").write_text(content)


@pytest.mark.parametrize("bad", CASES.values(), ids=CASES)
def test_bad_input(bad: Bad, pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pattern)
    if bad.make is not None:
        bad.make(pattern)
    source = "pattern.yaml"
    if bad.edit is not None:
        old, new = bad.edit
        content = (pattern / source).read_text()
        assert content.count(old) >= 1, "the case edits nothing"
        source = "bad.yaml"
        (pattern / source).write_text(content.replace(old, new, 1))
    before = {p: p.read_bytes() for p in pattern.rglob("*") if p.is_file()}
    code, out, err = call(*shlex.split(bad.call), "--format", "json")
    assert (code, "Traceback" in err) == (bad.exit_code, False), err
    assert {p: p.read_bytes() for p in pattern.rglob("*") if p.is_file()} == before, "a failing command leaves no file"
    answer = json.loads(out)
    assert (answer["format_version"], answer["exit_code"]) == ("1.0", bad.exit_code)
    found = [e for e in answer["errors"] if e["code"] == bad.code]
    assert found, answer["errors"]
    (error, *_) = found
    assert bad.says in error["message"]
    assert all(e["code"] in CODES and e["message"] and e["help"] for e in answer["errors"])
    assert bad.help in error["help"]
    assert f"error[{bad.code}]" in err
    assert error["help"] in err
    if bad.at is not None:
        content = (pattern / source).read_text()
        before_it = content[: content.index(bad.at)].split("\n")
        assert (error["file"], error["line"], error["column"]) == (source, len(before_it), len(before_it[-1]) + 1)
        assert f"{source}:{error['line']}:{error['column']}:" in err
    elif bad.file is not None:
        assert error["file"] == bad.file
        assert bad.file in err


def test_the_cases_cover_every_exit_code_of_bad_input_and_most_verbs() -> None:
    assert {c.exit_code for c in CASES.values()} == {3, 4}
    assert {c.call.split()[0] for c in CASES.values()} == {
        "check", "simulate", "plan", "build", "report", "validate", "targets", "explain", "train", "evaluate",
    }  # fmt: skip
    assert len({c.code for c in CASES.values()}) >= 40


def test_the_machine_that_is_named_as_the_smallest_that_fits_does_fit(pattern: Path, call: Any, call_json: Any) -> None:
    content = (pattern / "pattern.yaml").read_text().replace("size: 15,", "size: 40000,")
    content = content.replace("{file: in_hidden.npz}, delay: 1 ms, learning: eprop", "{fixed_indegree: 1}, weight: 0.1, delay: 1 ms")
    content = content.replace("{fixed_probability: 0.3}", "{fixed_indegree: 1}").replace("all_to_all", "{fixed_indegree: 1}")
    (pattern / "big.yaml").write_text(content.replace(", learning: eprop", ""))
    arguments = ["plan", pattern / "big.yaml", "--target", "spinnaker", "--allow-approximation"]
    code, out, err = call(*arguments, "--machine", "spin3", "--format", "json")
    assert code == 4, err
    (error,) = json.loads(out)["errors"]
    assert error["code"] == "NC402"
    needed, has = map(int, re.findall(r"needs (\d+) cores .* has (\d+) usable cores", error["message"])[0])
    assert needed > has
    name = re.findall(r"--machine ([\w-]+)", error["help"])[0]
    usage = {row["name"]: row for row in call_json(*arguments, "--machine", name)["report"]["usage"]}
    assert needed <= usage["cores"]["used"] <= usage["cores"]["available"]  # with room to spare, parts are spent to lower the traffic
    machines = {m["name"]: m for m in call_json("targets", "spinnaker")["machines"]}
    assert {"spin3", name} <= set(machines)


@pytest.mark.parametrize("target", ["loihi2", "spinnaker", "nest"])
def test_a_missing_sdk_ends_with_5_and_the_command_that_installs_it(
    pattern: Path, call: Any, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    out = pattern / "out"
    from neurocompile.backends import base

    monkeypatch.setattr(base, "sdk_version", lambda _distribution: None)
    assert call("build", pattern / "pattern.yaml", "--target", target, "--allow-approximation", "-o", out)[0] == 0  # needs no SDK
    code, answer, err = call("validate", out, "--format", "json")
    assert code == 5
    (error,) = json.loads(answer)["errors"]
    assert (error["code"], error["help"]) == ("NC501", f"pip install 'neurocompile[{target}]'")
    assert f"'{target}'" in err


def test_a_yaml_bomb_ends_at_once(tmp_path: Path, call: Any) -> None:
    (tmp_path / "bomb.yaml").write_text(BOMB)  # 2 * 9**12 values, five hundred thousand are read
    began = time.monotonic()
    code, _, err = call("check", tmp_path / "bomb.yaml")
    assert code == 3
    assert "NC103" in err
    assert time.monotonic() - began < 10.0  # it takes far below a second; the bound is for a loaded machine


HOSTILE = [
    'x"; import os #',
    "'); DROP TABLE x; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "a\nb",
    "{{ 7 * 7 }}",
    "${HOME}",
    "a\x1b[31mred",
    "-rf",
    "",
    "ä",
    "x" * 101,
]


ALLOWED = {("network", "ä"), ("projection", ""), ("projection", "x" * 101)}
"""Letters of any language; no name, so PRE->POST; a projection's name can hold two others."""


@pytest.mark.parametrize(
    ("place", "name"),
    [(p, n) for p in ("network", "population", "projection", "rule") for n in HOSTILE if (p, n) not in ALLOWED],
)
def test_hostile_names_are_refused_wherever_they_stand_and_never_obeyed(pattern: Path, call: Any, place: str, name: str) -> None:
    content = (pattern / "pattern.yaml").read_text()
    quoted = json.dumps(name)  # a YAML double-quoted scalar
    edits = {
        "network": [("name: pattern", f"name: {quoted}")],
        "population": [("  hidden:", f"  {quoted}:"), ("post: hidden", f"post: {quoted}"), ("pre: hidden", f"pre: {quoted}")],
        "projection": [("name: read", f"name: {quoted}")],
        "rule": [("  eprop:\n", f"  {quoted}:\n"), ("learning: eprop", f"learning: {quoted}")],
    }
    for old, new in edits[place]:
        assert old in content
        content = content.replace(old, new)
    (pattern / "evil.yaml").write_text(content)
    code, out, err = call("build", pattern / "evil.yaml", "--target", "nest", "-o", pattern / "out", "--format", "json")
    assert code == 3, err
    errors = json.loads(out)["errors"]
    assert {e["code"] for e in errors} & {"NC208", "NC109", "NC110"}, errors
    assert all(e["line"] for e in errors)
    assert "\x1b" not in err, "a description could send commands to the terminal"
    assert not (pattern / "out").exists()
