"""What a description can get wrong about rewiring: code, place and way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurocompile.ir import EProp, Rewiring
from neurocompile.ir.errors import InputError
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import Connections, realise_all
from neurocompile.ir.rewired import moved_synapses, rewired_projections

GOOD = """\
dt: 1 ms
populations:
  in: {model: spike_source, size: 4}
  hidden: {model: lif, size: 3, params: {tau_mem: 20 ms, v_threshold: 1}}
  out: {model: leaky_readout, size: 1, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: {fixed_indegree: 2}, learning: r}
learning:
  r:
    rule: eprop
    sign_constraint: true
    weight_bounds: [-1, 1]
    optimizer: {gradient_descent: {learning_rate: 1.0e-5}}
    rewiring: {every: 10 ms, l1: 1.0e-3, noise: 0.01}
task: {readout: out}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "net.yaml"
    path.write_text(text)
    return path


def test_a_description_says_steps_and_membrane_units(tmp_path: Path) -> None:
    network = read_network(written(tmp_path, GOOD))
    rule = network.rules[0]
    assert isinstance(rule, EProp)
    assert rule.rewiring == Rewiring(every_steps=10, l1=1e-3, noise=0.01)
    assert [p.name for p in rewired_projections(network)] == ["in->hidden"]


BAD = {
    "no sign": ("sign_constraint: true", "sign_constraint: false", "NC210", 14, "sign_constraint: true"),
    "bounds without 0": ("[-1, 1]", "[0.1, 1]", "NC210", 14, "weight_bounds that hold 0"),
    "adam": ("gradient_descent", "adam", "NC210", 14, "gradient descent only"),
    "each step": ("1.0e-5}", "1.0e-5, each_step: true}", "NC210", 14, "gradient descent only"),
    "intervals of 2020": (
        "    sign_constraint: true",
        "    update: {interval_2020: {interval: 10 ms}}\n    sign_constraint: true",
        "NC210",
        15,
        "interval_2020",
    ),
    "neither": ("l1: 1.0e-3, noise: 0.01", "l1: 0", "NC201", 14, "both 0"),
    "negative pull": ("l1: 1.0e-3", "l1: -1.0e-3", "NC201", 14, "l1"),
    "negative noise": ("noise: 0.01", "noise: -0.01", "NC201", 14, "noise"),
}


@pytest.mark.parametrize("what", BAD)
def test_errors_have_a_place(tmp_path: Path, what: str) -> None:
    old, new, code, line, words = BAD[what]
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_network(path)
    found = next(d for d in caught.value.diagnostics if d.code == code)
    assert words in f"{found.message} {found.help}"
    assert found.span is not None
    assert (found.span.file, found.span.line) == (str(path), line)
    assert found.span.column is not None


def test_distance_dependent_connectivity_is_refused(tmp_path: Path) -> None:
    positions = "[[0], [1], [2], [3]]"
    text = GOOD.replace("size: 4}", f"size: 4, positions: {positions}}}").replace(
        "{tau_mem: 20 ms, v_threshold: 1}}", "{tau_mem: 20 ms, v_threshold: 1}, positions: [[0], [1], [2]]}"
    )
    text = text.replace("{fixed_indegree: 2}", "{distance_dependent: {probability: 0.5, scale: 1}}")
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_network(path)
    assert [(d.code, d.span and d.span.line) for d in caught.value.diagnostics] == [("NC210", 7)]
    assert "would fade" in caught.value.diagnostics[0].message


ENDS = {"pre:in->hidden": np.arange(6) % 4, "post:in->hidden": np.arange(6) % 3}
FILES = {
    "one end": ({"post:in->hidden": None}, "NC107", "'post:in->hidden'"),
    "number": ({"pre:in->hidden": np.zeros(5, np.int64)}, "NC202", "6 synapses"),
    "floats": ({"pre:in->hidden": np.zeros(6)}, "NC203", "integers"),
    "too large": ({"post:in->hidden": np.array([0, 1, 2, 3, 0, 1])}, "NC204", "[3] is 3, population 'hidden' has 3"),
    "negative": ({"pre:in->hidden": np.array([0, -1, 2, 3, 0, 1])}, "NC204", "[1] is -1"),
}


def test_synapses_from_a_file(tmp_path: Path) -> None:
    network = read_network(written(tmp_path, GOOD))
    described = realise_all(network)["in->hidden"]
    found = moved_synapses(network, "in->hidden", described, ENDS, file="w.npz")
    np.testing.assert_array_equal(found.pre, ENDS["pre:in->hidden"])
    np.testing.assert_array_equal(found.post, ENDS["post:in->hidden"])
    np.testing.assert_array_equal(found.weight, described.weight)
    same: Connections = moved_synapses(network, "in->hidden", described, {}, file="w.npz")
    assert same is described


@pytest.mark.parametrize("what", FILES)
def test_files_that_do_not_fit(tmp_path: Path, what: str) -> None:
    change, code, words = FILES[what]
    network = read_network(written(tmp_path, GOOD))
    arrays = {name: a for name, a in (ENDS | change).items() if a is not None}
    with pytest.raises(InputError) as caught:
        moved_synapses(network, "in->hidden", realise_all(network)["in->hidden"], arrays, file="w.npz")
    (found,) = caught.value.diagnostics
    assert (found.code, found.file) == (code, "w.npz")
    assert words in found.message
