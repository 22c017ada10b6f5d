"""Bad descriptions: each ends in an error with a code, a place in the file and a way out, never in a traceback."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from neurocompile.ir.codes import CODES
from neurocompile.ir.errors import Diagnostic, InputError
from neurocompile.ir.yaml_reader import network_from_text, read_yaml

GOOD = """\
dt: 1 ms
populations:
  in: {model: spike_source, size: 4}
  hidden: {model: lif, size: 3, params: {tau_mem: 20 ms, v_threshold: 0.5}}
  out: {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: all_to_all, weight: 0.1, delay: 1 ms}
  - {pre: hidden, post: out, connect: all_to_all, weight: 0.1, delay: 1 ms, learning: rule}
learning:
  rule: {rule: eprop, kappa: 0.9}
task: {readout: out}
"""


def findings(text: str, folder: Path) -> list[Diagnostic]:
    with pytest.raises(InputError) as caught:
        network_from_text(text, "net.yaml", folder)
    return list(caught.value.diagnostics)


@dataclass(frozen=True)
class Case:
    """``old`` -> ``new`` in GOOD; the finding stands at ``at`` within the changed text (its first occurrence)."""

    old: str
    new: str
    code: str
    at: str
    help: str


HIDDEN = "{model: lif, size: 3, params: {tau_mem: 20 ms, v_threshold: 0.5}}"
CONNECT = "post: hidden, connect: all_to_all"

CASES = {
    "unknown top key": Case("projections:", "projectoins:", "NC108", "projectoins", "did you mean 'projections'?"),
    "unknown key in params": Case("tau_mem: 20 ms, v", "tau_mem: 20 ms, tau_men: 3 ms, v", "NC108", "tau_men", "did you mean 'tau_mem'?"),
    "unknown key in a projection": Case("weight: 0.1", "wieght: 0.1", "NC108", "wieght", "did you mean 'weight'?"),
    "unknown key in a rule": Case("kappa: 0.9", "kapa: 0.9", "NC108", "kapa", "did you mean 'kappa'?"),
    "missing key": Case(", v_threshold: 0.5", "", "NC109", "{tau_mem: 20 ms}", "v_threshold"),
    "missing params": Case(HIDDEN, "{model: lif, size: 3}", "NC109", "{model: lif, size: 3}", "params"),
    "missing model": Case("{model: lif, size: 3", "{size: 3", "NC109", "{size: 3", "spike_source"),
    "missing dt": Case("dt: 1 ms\n", "name: x\n", "NC109", "name", "dt"),
    "unknown model": Case("model: lif", "model: lfi", "NC111", "lfi", "did you mean 'lif'?"),
    "unknown rule kind": Case("rule: eprop", "rule: eprob", "NC111", "eprob", "did you mean 'eprop'?"),
    "unknown rule name": Case("learning: rule", "learning: rul", "NC207", "rul}", "did you mean 'rule'?"),
    "unknown population": Case("pre: in", "pre: inn", "NC207", "inn", "did you mean 'in'?"),
    "unknown readout": Case("readout: out", "readout: otu", "NC207", "otu", "did you mean 'out'?"),
    "unknown connect": Case("connect: all_to_all", "connect: all_to_al", "NC111", "all_to_al,", "did you mean 'all_to_all'?"),
    "unknown connect with value": Case("connect: all_to_all", "connect: {fixed_prob: 0.1}", "NC111", "fixed_prob", "fixed_probability"),
    "unknown distribution": Case("weight: 0.1", "weight: {norml: [0, 1]}", "NC111", "norml", "did you mean 'normal'?"),
    "unknown loss": Case("readout: out", "readout: out, loss: mse", "NC111", "mse", "mean_squared_error"),
    "unknown surrogate": Case("kappa: 0.9", "surrogate: triangle", "NC111", "triangle", "piecewise_linear"),
    "unknown optimizer": Case("kappa: 0.9", "optimizer: {adm: {}}", "NC111", "adm", "did you mean 'adam'?"),
    "epsilon of Adam 0": Case("kappa: 0.9", "optimizer: {adam: {epsilon: 0}}", "NC201", "0}", "divides 0 by epsilon"),
    "unknown data set": Case("readout: out", "readout: out, data: digit", "NC111", "digit}", "did you mean 'digits'?"),
    "unknown unit": Case("tau_mem: 20 ms, v", "tau_mem: 20 msec, v", "NC116", "20 msec", "did you mean 'ms'?"),
    "unit of another dimension": Case("tau_mem: 20 ms, v", "tau_mem: 20 Hz, v", "NC116", "20 Hz", "use s, ms"),
    "time without unit": Case("tau_mem: 20 ms, v", "tau_mem: 20, v", "NC115", "20, v", "write '20 ms' or '20 s'"),
    "mixed membrane units": Case("v_threshold: 0.5", "v_threshold: 15 mV", "NC117", "0.1, delay", "or none"),
    "negative time constant": Case("tau_mem: 20 ms, v", "tau_mem: -20 ms, v", "NC201", "-20 ms", "Membrane time constant, > 0"),
    "negative dt": Case("dt: 1 ms", "dt: -1 ms", "NC201", "-1 ms", "write for example 1 ms"),
    "probability above 1": Case("connect: all_to_all", "connect: {fixed_probability: 1.5}", "NC201", "1.5", "In [0, 1]"),
    "kappa out of range": Case("kappa: 0.9", "kappa: 1.0", "NC201", "1.0", "in [0, 1)"),
    "degree too high": Case("connect: all_to_all", "connect: {fixed_indegree: 9}", "NC201", "{fixed_indegree: 9}", "docs/yaml.md"),
    "empty population": Case("size: 3", "size: 0", "NC205", "0, params", "Number of neurons"),
    "population too big": Case("size: 3", "size: 99999999999", "NC201", "99999999999", "split the population"),
    "size not whole": Case("size: 3", "size: 3.5", "NC114", "3.5", "write a whole number"),
    "size a text": Case("size: 3", "size: many", "NC114", "many", "write a whole number"),
    "number a list": Case("kappa: 0.9", "kappa: [0.9]", "NC110", "[0.9]", "write a number"),
    "boolean of YAML 1.1": Case("kappa: 0.9", "sign_constraint: yes", "NC110", "yes", "write true or false"),
    "nan": Case("weight: 0.1", "weight: .nan", "NC114", ".nan", "write for example"),
    "infinite weight": Case("weight: 0.1", "weight: .inf", "NC203", ".inf", "give finite numbers"),
    "very long number": Case("weight: 0.1", f"weight: {'9' * 500}", "NC114", "9999", "fewer digits"),
    "name a number": Case("pre: in", "pre: 1", "NC110", "1, post", "put it in quotes: '1'"),
    "name with code": Case("  hidden: {", "  'x\"; import os #': {", "NC208", "'x\"; import", "use letters, digits"),
    "projection name with code": Case("pre: in", "name: 'a\n\n    b', pre: in", "NC208", "'a", "use letters, digits"),
    "duplicate population": Case(
        "  out:", "  hidden: {model: lif, size: 1}\n  out:", "NC206", "hidden: {model: lif, size: 1}", "first in line 4"
    ),
    "duplicate rule": Case("task:", "  rule: {rule: stdp}\ntask:", "NC206", "rule: {rule: stdp}", "first in line 10"),
    "duplicate projection name": Case("pre: hidden", "name: in->hidden, pre: hidden", "NC206", "in->hidden", "another 'name'"),
    "duplicate key": Case("size: 3", "size: 3, size: 4", "NC112", "size: 4", "first in line 4"),
    "delay too long": Case("weight: 0.1, delay: 1 ms}", "weight: 0.1, delay: 300 ms}", "NC209", "300 ms", "relay population"),
    "negative delay": Case("weight: 0.1, delay: 1 ms}", "weight: 0.1, delay: -1 ms}", "NC209", "-1 ms", "larger dt"),
    "zero delay": Case("weight: 0.1, delay: 1 ms}", "weight: 0.1, delay: 0}", "NC209", "0}", "larger dt"),
    "delay between steps": Case("weight: 0.1, delay: 1 ms}", "weight: 0.1, delay: 2.5 ms}", "NC118", "2.5 ms", "such as 2 ms"),
    "delay not whole steps": Case("weight: 0.1, delay: 1 ms}", "weight: 0.1, delay: 2.5}", "NC118", "2.5}", "whole steps"),
    "sample between steps": Case("readout: out", "readout: out, sample: 10.5 ms", "NC118", "10.5 ms", "such as 10 ms"),
    "wrong number of values": Case("weight: 0.1", "weight: {normal: [0]}", "NC202", "[0]", "write normal: [mean, std]"),
    "negative deviation": Case("weight: 0.1", "weight: {normal: [0, -1]}", "NC201", "-1]", ">= 0"),
    "per-neuron list too short": Case("v_threshold: 0.5", "v_threshold: [0.5, 0.6]", "NC202", "[0.5, 0.6]", "v_threshold"),
    "bounds reversed": Case("kappa: 0.9", "weight_bounds: [1, -1]", "NC201", "[1, -1]", "low <= high"),
    "bounds of three": Case("kappa: 0.9", "weight_bounds: [1, 2, 3]", "NC202", "[1, 2, 3]", "write 2 values"),
    "into a source": Case("post: hidden, connect", "post: in, connect", "NC211", "in, connect", "docs/yaml.md"),
    "rule without value": Case("update: x", "", "", "", ""),
    "positions missing": Case(
        "connect: all_to_all", "connect: {distance_dependent: {probability: 1, scale: 2}}", "NC202", "{distance", "positions"
    ),
    "grid of another size": Case("size: 3,", "size: 3, positions: {grid: [2, 2]},", "NC202", "{grid", "Places of the neurons"),
    "grid of zero": Case("size: 3,", "size: 3, positions: {grid: [0, 3]},", "NC201", "[0, 3]", "[rows, columns]"),
    "nmnist without path": Case("readout: out", "readout: out, data: {nmnist: {seed: 1}}", "NC109", "{seed: 1}", "add `path:`"),
    "setting that is a list": Case("readout: out", "readout: out, data: {digits: {a: [1]}}", "NC110", "[1]", "write one value"),
    "reward unknown": Case("rule: eprop, kappa: 0.9", "rule: r_stdp, reward: inn", "NC207", "inn", "did you mean 'in'?"),
    "file missing": Case("connect: all_to_all", "connect: {file: wieghts.npz}", "NC105", "wieghts.npz", "did you mean 'weights.npz'?"),
    "array file missing": Case(
        "weight: 0.1", "weight: {file: nowhere/x.npz}", "NC105", "nowhere/x.npz", "relative to the folder of net.yaml"
    ),
    "array missing in file": Case(
        "weight: 0.1", "weight: {file: weights.npz, key: wieght}", "NC107", "weights.npz", "did you mean 'weight'?"
    ),
    "file of unknown suffix": Case("connect: all_to_all", "connect: {file: data.bin}", "NC121", "data.bin", "known: .npz"),
    "file not npz": Case("connect: all_to_all", "connect: {file: text.npz}", "NC106", "text.npz", "np.savez"),
    "file with Python objects": Case("connect: all_to_all", "connect: {file: objects.npz}", "NC106", "objects.npz", "np.savez"),
    "weight NaN in file": Case("connect: all_to_all", "connect: {file: nan.npz}", "NC203", "nan.npz", "docs/yaml.md"),
    "index out of range in file": Case("connect: all_to_all", "connect: {file: range.npz}", "NC204", "{file: range", "count from 0 to 3"),
    "lengths differ in file": Case("connect: all_to_all", "connect: {file: lengths.npz}", "NC202", "lengths.npz", "docs/yaml.md"),
    "delay too long in file": Case("connect: all_to_all", "connect: {file: delay.npz}", "NC209", "delay.npz", "docs/yaml.md"),
    "array without unit": Case("tau_mem: 20 ms, v", "tau_mem: {file: weights.npz, key: weight}, v", "NC115", "weights.npz", "add `unit:`"),
    "python tag": Case("weight: 0.1", "weight: !!python/object/apply:os.system [ls]", "NC113", "!!python", "remove the tag"),
    "undefined alias": Case("weight: 0.1", "weight: *w", "NC101", "*w", "define it before"),
    "bracket left open": Case("task: {readout: out}", "task: {readout: out", "NC101", "", "check indentation"),
    "second document": Case("task:", "---\ntask:", "NC101", "---", "one document"),
    "tab": Case("  in: {", "\tin: {", "NC101", "\tin", "not with tabs"),
    "control character": Case("weight: 0.1", "weight: \x07", "NC102", "\x07", "remove it"),
    "deep nesting": Case("weight: 0.1", f"weight: {'[' * 60}{']' * 60}", "NC103", "[" * 23 + "]", "six levels"),
    "alias of itself": Case("weight: 0.1", "weight: &a [*a]", "NC103", "*a", "cannot hold itself"),
    "list as key": Case("weight: 0.1", "? [1, 2]\n  : 3", "NC110", "[1, 2]", "write `key: value`"),
}
del CASES["rule without value"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    two = {"pre": np.array([0, 1]), "post": np.array([0, 1])}
    np.savez(tmp_path / "weights.npz", **two, weight=np.array([1.0, 2.0]))
    np.savez(tmp_path / "nan.npz", **two, weight=np.array([1.0, np.nan]))
    np.savez(tmp_path / "range.npz", pre=np.array([0, 4]), post=np.array([0, 1]), weight=np.ones(2))
    np.savez(tmp_path / "lengths.npz", **two, weight=np.ones(3))
    np.savez(tmp_path / "delay.npz", **two, weight=np.ones(2), delay=np.array([1, 256]))
    np.savez(tmp_path / "objects.npz", pre=np.array([{}, {}], dtype=object), post=np.array([0, 1]))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "data.bin").write_text("?")
    return tmp_path


def test_the_good_one_is_good(folder: Path) -> None:
    assert network_from_text(GOOD, "net.yaml", folder).n_neurons == 9


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_input(case: Case, folder: Path) -> None:
    assert case.old in GOOD
    text = GOOD.replace(case.old, case.new, 1)
    found = findings(text, folder)
    where = text.index(case.new) + case.new.index(case.at) if case.at in case.new else text.index(case.at)
    if case.at:
        before = text[:where].split("\n")
        place = (len(before), len(before[-1]) + 1)
        match = [d for d in found if d.code == case.code and d.span and (d.span.line, d.span.column) == place]
    else:
        match = [d for d in found if d.code == case.code and d.span]
    assert match, f"expected {case.code} at {place if case.at else 'any place'}, got:\n" + "\n".join(d.render() for d in found)
    assert case.help in (match[0].help or "")
    for diagnostic in found:
        assert diagnostic.code in CODES
        assert diagnostic.help
        assert "^" in diagnostic.render()


@pytest.mark.parametrize(
    ("text", "message"), [("", "empty"), ("# only a comment\n", "empty"), ("null", "empty"), ("- 1\n- 2\n", "mapping"), ("text", "mapping")]
)
def test_no_description(text: str, message: str, tmp_path: Path) -> None:
    (found,) = findings(text, tmp_path)
    assert found.code == "NC104"
    assert message in found.message
    assert found.span is not None
    assert (found.span.line, found.span.column) == (1, 1)


def test_all_errors_of_a_file_come_in_one_run_in_order(folder: Path) -> None:
    text = (
        GOOD.replace("tau_mem: 20 ms, v", "tau_mem: -20 ms, tua: 1, v")
        .replace("model: leaky_readout", "model: leaky_readuot")
        .replace("pre: in, post: hidden", "pre: nobody, post: hidden")
        .replace("weight: 0.1, delay: 1 ms}", "weight: {normal: [0, -1]}, delay: 1.5 ms}")
        .replace("kappa: 0.9", "kappa: 2, feedback: sym")
    )
    got = [(d.span.line if d.span else None, d.code) for d in findings(text, folder)]
    assert got == [(4, "NC201"), (4, "NC108"), (5, "NC111"), (7, "NC201"), (7, "NC118"), (10, "NC201"), (10, "NC111")]


def test_one_mistake_is_not_reported_as_many(folder: Path) -> None:
    """A bad population, rule or task does not make what refers to it 'unknown'; unknown names are still found beside it."""
    text = GOOD.replace("size: 3", "size: x").replace("rule: {rule: eprop, kappa: 0.9}", "rule: {rule: eprop, kappa: 9}")
    assert [d.code for d in findings(text, folder)] == ["NC114", "NC201"]
    assert [d.code for d in findings(GOOD.replace("readout: out", "readout: out, epochs: 0"), folder)] == ["NC201"]
    both = GOOD.replace("size: 3", "size: x").replace("pre: in", "pre: inn")
    assert [d.code for d in findings(both, folder)] == ["NC114", "NC207"]
    source = "in: {model: spike_source, size: -4}"
    rewarded = GOOD.replace("in: {model: spike_source, size: 4}", source).replace("task:", "  other: {rule: r_stdp, reward: in}\ntask:")
    assert [d.code for d in findings(rewarded, folder)] == ["NC205"]


def test_many_errors_are_cut(tmp_path: Path) -> None:
    text = GOOD + "".join(f"key{i}: 1\n" for i in range(300))
    found = findings(text, tmp_path)
    assert len(found) == 101
    assert found[-1].code == "NC125"
    assert "200 more" in found[-1].message
    start = time.perf_counter()
    assert len(findings("".join(f"key{i}: 1\n" for i in range(50_000)), tmp_path)) == 101  # it does not go on for ever
    assert time.perf_counter() - start < 10.0


def test_yaml_bomb_ends_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    start = time.perf_counter()
    (found,) = findings("\n".join(lines), tmp_path)
    assert time.perf_counter() - start < 2.0
    assert found.code == "NC103"
    assert "aliases" in found.message
    assert found.span is not None
    assert found.span.line == 6  # a_i holds 1.2e(i+1) nodes: with a4 they are 135 thousand, a few aliases of a5 pass half a million


def test_files(tmp_path: Path) -> None:
    """Not there, a folder, too big, not UTF-8."""
    cases: dict[str, tuple[bytes | None, str]] = {
        "absent.yaml": (None, "NC105"),
        "big.yaml": (b"#" * (16 * 2**20 + 1), "NC103"),
        "latin.yaml": ("dt: 1 ms\nname: café".encode("latin-1"), "NC102"),
        "utf16.yaml": ("dt: 1 ms".encode("utf-16"), "NC102"),
    }
    for name, (content, code) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_yaml(tmp_path / name)
        assert caught.value.diagnostics[0].code == code, name
        assert caught.value.diagnostics[0].help
        if name == "latin.yaml":
            span = caught.value.diagnostics[0].span
            assert span is not None
            assert (span.line, span.column) == (2, 10)
    with pytest.raises(InputError, match="NC124"):
        read_yaml(tmp_path)


def test_a_bad_line_of_a_csv_file_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("pre,post,weight\n0,1,0.5\n1,x,0.5\n2,2\n")
    found = findings(GOOD.replace("connect: all_to_all", "connect: {file: edges.csv}"), tmp_path)
    assert [(d.code, d.span.line, d.span.column) for d in found if d.span] == [("NC119", 3, 3), ("NC119", 4, 1)]
    assert found[0].span is not None
    assert found[0].span.file.endswith("edges.csv")
