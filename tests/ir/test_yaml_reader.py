"""What good descriptions become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir import (
    ALIF,
    LIF,
    RSTDP,
    STDP,
    Adam,
    AllToAll,
    Constant,
    CubaLIF,
    DistanceDependent,
    EProp,
    Explicit,
    ExplicitFeedback,
    FixedInDegree,
    FixedOutDegree,
    FixedProbability,
    GradientDescent,
    Integration,
    LeakyReadout,
    LogNormal,
    Loss,
    Network,
    Normal,
    OneToOne,
    PerInterval,
    ProjectionFeedback,
    RandomFeedback,
    Reset,
    SpikeSource,
    SurrogateKind,
    Uniform,
    Values,
)
from neurocompile.ir.errors import InputError, NeurocompileError
from neurocompile.ir.read import read_network
from neurocompile.ir.yaml_reader import network_from_text, read_yaml

ISSUE = """\
name: pattern
dt: 1 ms
seed: 1
populations:
  in:     {model: spike_source, size: 100}
  hidden: {model: lif, size: 100, params: {tau_mem: 30 ms, v_threshold: 0.03, reset: subtract, t_ref: 0 ms}}   # alif adds adapt_beta
  out:    {model: leaky_readout, size: 1, params: {tau_mem: 30 ms}}
projections:
  - {pre: in, post: hidden, connect: {file: in_hidden.npz}, delay: 1 ms, learning: eprop}
  - {pre: hidden, post: hidden, connect: {fixed_probability: 0.1}, weight: {normal: [0, 0.02]}, delay: 1 ms, learning: eprop}
  - {name: read, pre: hidden, post: out, connect: all_to_all, weight: {normal: [0, 0.1]}, delay: 1 ms, learning: eprop}
learning:
  eprop:
    rule: eprop
    surrogate: {piecewise_linear: {height: 10, width: 0.03}}
    kappa: 0.97                      # filters per step
    kappa_reg: 0.97
    regularization: {strength: 3.0, rate: 10 Hz}      # c_reg, f_target
    feedback: {file: feedback.npz}   # npz pre (readout), post (hidden), weight
    optimizer: {gradient_descent: {learning_rate: 9.0e-8}}
    update: per_event
    weight_bounds: [-100, 100]
task: {readout: out, loss: mean_squared_error}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    pre, post = rng.permutation(100), rng.permutation(100)
    np.savez(tmp_path / "in_hidden.npz", pre=pre, post=post, weight=rng.normal(size=100))
    np.savez(tmp_path / "feedback.npz", pre=np.zeros(100, np.int64), post=np.arange(100), weight=np.ones(100))
    return tmp_path


def small(folder: Path, *, hidden: str = "", projection: str = "connect: all_to_all", more: str = "", seed: int | None = None) -> Network:
    text = f"""\
dt: 0.5 ms
populations:
  in: {{model: spike_source, size: 4, params: {{rate: 20 Hz}}}}
  hidden: {{{hidden or "model: lif, size: 4, params: {tau_mem: 20 ms, v_threshold: 1}"}}}
  out: {{model: leaky_readout, size: 2, params: {{tau_mem: 20 ms, tau_syn: 0, integration: euler}}}}
projections:
  - {{pre: in, post: hidden, {projection}}}
{more}
"""
    return network_from_text(text, "net.yaml", folder, seed=seed)


def test_the_file_of_the_issue(folder: Path) -> None:
    (folder / "pattern.yaml").write_text(ISSUE)
    network = read_yaml(folder / "pattern.yaml")
    assert (network.name, network.dt, network.seed, network.n_neurons) == ("pattern", 1e-3, 1, 201)
    hidden = network.population("hidden").model
    assert isinstance(hidden, LIF)
    assert (hidden.tau_mem, hidden.v_threshold, hidden.t_ref, hidden.reset) == (0.03, 0.03, 0.0, Reset.SUBTRACT)
    assert [p.name for p in network.projections] == ["in->hidden", "hidden->hidden", "read"]
    first = network.projections[0].connect
    stored = np.load(folder / "in_hidden.npz")
    assert isinstance(first, Explicit)
    np.testing.assert_array_equal(first.pre, stored["pre"])
    np.testing.assert_array_equal(first.weight, stored["weight"])
    assert network.projections[1].connect == FixedProbability(probability=0.1)
    assert network.projections[1].weight == Normal(mean=0.0, std=0.02)
    assert all(p.delay == Constant(value=1.0) for p in network.projections)
    rule = network.rule("eprop")
    assert isinstance(rule, EProp)
    assert (rule.surrogate.kind, rule.surrogate.height, rule.surrogate.width) == (SurrogateKind.PIECEWISE_LINEAR, 10.0, 0.03)
    assert (rule.kappa, rule.kappa_reg, rule.weight_bounds) == (0.97, 0.97, (-100.0, 100.0))
    assert rule.regularization is not None
    assert (rule.regularization.strength, rule.regularization.rate) == (3.0, 10.0)
    assert rule.optimizer == GradientDescent(learning_rate=9.0e-8)
    assert isinstance(rule.feedback, ExplicitFeedback)
    assert network.task is not None
    assert (network.task.readout, network.task.loss) == ("out", Loss.MEAN_SQUARED_ERROR)
    assert [Path(f).name for f in network.files] == ["in_hidden.npz", "feedback.npz"]
    assert read_yaml(folder / "pattern.yaml", seed=7).seed == 7


@pytest.mark.parametrize(
    ("text", "model", "values"),
    [
        ("model: alif, size: 4, params: {tau_mem: 20 ms, v_threshold: 1, adapt_beta: 2, adapt_tau: 2 s}", ALIF, {"adapt_tau": 2.0}),
        (
            "model: cuba_lif, size: 4, params: {tau_mem: .inf, v_threshold: 1, tau_syn: 5 ms}",
            CubaLIF,
            {"tau_mem": np.inf, "tau_syn": 0.005},
        ),
        (
            "model: lif, size: 4, params: {tau_mem: 20 ms, v_threshold: 1, reset: to_value, v_reset: -0.5, v_leak: 0.1, bias: 1e-3, "
            "v_min: -2, t_ref: 2 ms, integration: euler}",
            LIF,
            {"reset": Reset.TO_VALUE, "v_reset": -0.5, "bias": 0.001, "v_min": -2.0, "t_ref": 0.002, "integration": Integration.EULER},
        ),
    ],
)
def test_models(text: str, model: type, values: dict[str, Any], tmp_path: Path) -> None:
    network = small(tmp_path, hidden=text)
    got = network.population("hidden").model
    assert type(got) is model
    assert {k: getattr(got, k) for k in values} == values
    source, readout = network.population("in").model, network.population("out").model
    assert isinstance(source, SpikeSource)
    assert source.rate == 20.0
    assert isinstance(readout, LeakyReadout)
    assert readout.integration is Integration.EULER


def test_parameters_per_neuron(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", tau=np.array([10.0, 20.0, 30.0, 35.0]), other=np.ones(2))
    (tmp_path / "v.csv").write_text("i,v\n0,1\n1,2\n2,3\n3,4\n")
    params = "tau_mem: {file: x.npz, key: tau, unit: ms}, v_threshold: {file: v.csv, key: v}, t_ref: [0, 1 ms, 2 ms, 0 s]"
    hidden = f"model: lif, size: 4, params: {{{params}}}"
    model = small(tmp_path, hidden=hidden).population("hidden").model
    assert isinstance(model, LIF)
    np.testing.assert_array_equal(model.tau_mem, [0.01, 0.02, 0.03, 0.035])
    np.testing.assert_array_equal(model.v_threshold, [1, 2, 3, 4])
    np.testing.assert_array_equal(model.t_ref, [0, 0.001, 0.002, 0])


def test_drawn_parameters_depend_on_seed_and_name_only(tmp_path: Path) -> None:
    params = "tau_mem: {normal: [20 ms, 1 ms]}, v_threshold: {uniform: [1, 2]}, t_ref: {lognormal: {mu: 0, sigma: 0.5, unit: ms}}"
    hidden = f"model: lif, size: 2000, params: {{{params}}}"
    one, same, other = (small(tmp_path, hidden=hidden, seed=s).population("hidden").model for s in (1, 1, 2))
    assert isinstance(one, LIF)
    assert isinstance(same, LIF)
    assert isinstance(other, LIF)
    tau = np.asarray(one.tau_mem)
    np.testing.assert_array_equal(tau, np.asarray(same.tau_mem))
    assert np.all(tau != np.asarray(other.tau_mem))
    # five standard errors of the mean (1 ms / sqrt 2000) and of the standard deviation (1 ms / sqrt 4000)
    assert abs(tau.mean() - 0.02) < 5 * 1e-3 / np.sqrt(2000)
    assert abs(tau.std() - 1e-3) < 5 * 1e-3 / np.sqrt(4000)
    threshold = np.asarray(one.v_threshold)
    assert threshold.min() >= 1
    assert threshold.max() < 2
    assert abs(np.median(np.asarray(one.t_ref)) - 1e-3) < 5 * 1.2533 * 0.5e-3 / np.sqrt(2000)
    with pytest.raises(InputError, match=r"NC201.*tau_mem"):
        small(tmp_path, hidden=hidden.replace("20 ms, 1 ms", "1 ms, 5 ms"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all_to_all", AllToAll()),
        ("{all_to_all: {allow_autapses: false}}", AllToAll(allow_autapses=False)),
        ("one_to_one", OneToOne()),
        ("{fixed_probability: 0.1}", FixedProbability(probability=0.1)),
        ("{fixed_probability: {probability: .1, allow_autapses: false}}", FixedProbability(probability=0.1, allow_autapses=False)),
        ("{fixed_indegree: 2}", FixedInDegree(degree=2)),
        ("{fixed_outdegree: {degree: 0o3}}", FixedOutDegree(degree=3)),
    ],
)
def test_connect(text: str, expected: object, tmp_path: Path) -> None:
    assert small(tmp_path, projection=f"connect: {text}").projections[0].connect == expected


def test_positions(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", xy=np.arange(8.0).reshape(4, 2))
    (tmp_path / "p.csv").write_text("0,1\n2,3\n4,5\n6,7\n")
    base = "model: lif, size: 4, params: {tau_mem: 20 ms, v_threshold: 1}, positions: "
    got = {}
    for text in (
        "{grid: [2, 2], spacing: 0.5}",
        "{file: p.npz, key: xy}",
        "{file: p.csv}",
        "[0, 1, 2, 3]",
        "[[0, 1], [2, 3], [4, 5], [6, 7]]",
    ):
        positions = small(tmp_path, hidden=base + text).population("hidden").positions
        assert positions is not None
        got[text] = positions.tolist()
    assert got.pop("{grid: [2, 2], spacing: 0.5}") == [[0, 0], [0, 0.5], [0.5, 0], [0.5, 0.5]]
    assert got.pop("[0, 1, 2, 3]") == [[0], [1], [2], [3]]
    assert all(v == [[0, 1], [2, 3], [4, 5], [6, 7]] for v in got.values())
    rule = "{probability: 0.5, scale: 1, profile: exponential, periodic: [2, 2]}"
    more = f"  - {{pre: hidden, post: hidden, connect: {{distance_dependent: {rule}}}}}"
    network = small(tmp_path, hidden=base + "{grid: [2, 2]}", more=more)
    assert network.projections[1].connect == DistanceDependent(probability=0.5, scale=1.0, profile="exponential", periodic=(2.0, 2.0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("delay: 3", Constant(value=3.0)),
        ("delay: 3 steps", Constant(value=3.0)),
        ("delay: 127.5 ms", Constant(value=255.0)),
        ("delay: 0.0015 s", Constant(value=3.0)),
        ("delay: {uniform: [0.5 ms, 5 ms]}", Uniform(low=1.0, high=10.0)),
        ("delay: {normal: [2.25 ms, 0.6 ms]}", Normal(mean=4.5, std=1.2)),
        ("delay: {normal: {mean: 4, std: 1}}", Normal(mean=4.0, std=1.0)),
        ("delay: {lognormal: [1, 0.5]}", LogNormal(mu=1.0, sigma=0.5)),
    ],
)
def test_delays_are_steps_of_half_a_millisecond(text: str, expected: Any, tmp_path: Path) -> None:
    got = small(tmp_path, projection=f"connect: all_to_all, {text}").projections[0].delay
    assert type(got) is type(expected)
    for name in expected.__dataclass_fields__:
        # 1e-12: one division by dt
        assert getattr(got, name) == pytest.approx(getattr(expected, name), rel=1e-12)


def test_lists_and_files_of_weights_and_delays(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.arange(4.0), d=np.array([1.0, 1.5, 2.0, 127.5]))
    text = "connect: one_to_one, weight: {file: w.npz, key: w}, delay: {file: w.npz, key: d, unit: ms}"
    projection = small(tmp_path, projection=text).projections[0]
    assert isinstance(projection.weight, Values)
    assert isinstance(projection.delay, Values)
    np.testing.assert_array_equal(projection.weight.values, np.arange(4.0))
    np.testing.assert_array_equal(projection.delay.values, [2, 3, 4, 255])
    listed = small(tmp_path, projection="connect: one_to_one, weight: [1e-1, .5, 0x10, -2.]").projections[0].weight
    assert isinstance(listed, Values)
    np.testing.assert_array_equal(listed.values, [0.1, 0.5, 16, -2])


def test_units_of_membrane_quantities(tmp_path: Path) -> None:
    """With units everywhere the network is in volts; the weights of a file say theirs."""
    np.savez(tmp_path / "w.npz", pre=[0], post=[1], weight=[2.0])
    text = """\
dt: 1 ms
populations:
  in: {model: spike_source, size: 2}
  hidden: {model: lif, size: 2, params: {tau_mem: 20 ms, v_threshold: 15 mV, v_leak: 0, v_min: -.inf}}
  out: {model: leaky_readout, size: 1, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: {file: w.npz, unit: mV}}
  - {pre: hidden, post: out, connect: all_to_all, weight: {lognormal: {mu: 0, sigma: 1, unit: mV}}, learning: e}
learning: {e: {rule: eprop, surrogate: {exponential: {height: 0.3 1/mV, width: 5 mV}}, weight_bounds: [-1 V, 1 V]}}
task: {readout: out}
"""
    network = network_from_text(text, "net.yaml", tmp_path)
    hidden, rule, edges = network.population("hidden").model, network.rule("e"), network.projections[0].connect
    assert isinstance(hidden, LIF)
    assert isinstance(rule, EProp)
    assert isinstance(edges, Explicit)
    assert hidden.v_threshold == 0.015
    assert edges.weight is not None
    assert edges.weight.tolist() == [0.002]
    assert network.projections[1].weight == LogNormal(mu=np.log(1e-3), sigma=1.0)
    assert (rule.surrogate.height, rule.surrogate.width, rule.weight_bounds) == (300.0, 0.005, (-1.0, 1.0))
    for old, new, what in (
        (", unit: mV}}\n", "}}\n", "membrane quantity 2"),
        ("weight: {lognormal: {mu: 0, sigma: 1, unit: mV}}, ", "", "'weight'"),
        ("surrogate: {exponential: {height: 0.3 1/mV, width: 5 mV}}, ", "", "'surrogate'"),
    ):
        assert old in text
        with pytest.raises(InputError, match="NC117") as caught:
            network_from_text(text.replace(old, new, 1), "net.yaml", tmp_path)
        assert what in str(caught.value)


def test_learning_rules_and_task(tmp_path: Path) -> None:
    more = """\
  - {pre: hidden, post: out, connect: all_to_all, learning: e1}
  - {pre: hidden, post: hidden, connect: all_to_all, learning: e2}
  - {name: back, pre: out, post: hidden, connect: all_to_all}
  - {name: s, pre: in, post: hidden, connect: all_to_all, learning: s}
learning:
  e1: {rule: eprop, surrogate: arctan_derivative, feedback: {random: {normal: [0, 1]}}, optimizer: adam, update: {per_interval: 100 ms}}
  e2:
    rule: eprop
    feedback: {projection: back}
    optimizer: {adam: {learning_rate: 1e-3, beta_1: .5, each_step: false}}
    trace_cutoff: 100 ms
    learning_window: 5 ms
    sign_constraint: true
  s: {rule: stdp, tau_plus: 10 ms, weight_bounds: [0, 2], multiplicative: true}
  r: {rule: r_stdp, reward: in, tau_c: 2 s, reward_weight: 0.5}
task:
  readout: out
  loss: cross_entropy
  input: in
  data: {nmnist: {path: data/nmnist, n_train: 5, kind: x, fast: true}}
  sample: 100 ms
  learning_window: 10 ms
  epochs: 3
"""
    network = small(tmp_path, more=more)
    e1, e2, s, r = (network.rule(n) for n in ("e1", "e2", "s", "r"))
    assert isinstance(e1, EProp)
    assert isinstance(e2, EProp)
    assert (e1.feedback, e1.optimizer, e1.update) == (RandomFeedback(weight=Normal(mean=0.0, std=1.0)), Adam(), PerInterval(steps=200))
    assert (e2.feedback, e2.optimizer) == (ProjectionFeedback(projection="back"), Adam(learning_rate=1e-3, beta_1=0.5, each_step=False))
    assert (e2.trace_cutoff_steps, e2.learning_window_steps, e2.sign_constraint) == (200, 10, True)
    assert s == STDP(name="s", tau_plus=0.01, weight_bounds=(0.0, 2.0), multiplicative=True)
    assert r == RSTDP(name="r", reward="in", tau_c=2.0, reward_weight=0.5)
    task = network.task
    assert task is not None
    assert task.data is not None
    assert (task.loss, task.input, task.sample_steps, task.learning_window_steps, task.epochs) == (Loss.CROSS_ENTROPY, "in", 200, 20, 3)
    assert (task.data.kind, task.data.path) == ("nmnist", str(tmp_path / "data" / "nmnist"))
    assert task.data.options == {"n_train": 5, "kind": "x", "fast": True}
    digits = small(tmp_path, more="task: {readout: out, data: digits}").task
    assert digits is not None
    assert digits.data is not None
    assert (digits.data.kind, digits.data.path, digits.data.options) == ("digits", None, {})


def test_a_file_with_its_own_weights_and_delays_says_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", pre=[3, 0], post=[1, 2], weight=[1.0, 2.0], delay=[4, 5])
    network = small(tmp_path, projection="connect: {file: e.npz}, weight: 3, delay: 1")
    assert len(network.notes) == 2
    assert "'delay' is not used, e.npz brings its own" in network.notes[0]


def test_aliases_are_read(tmp_path: Path) -> None:
    more = "  - {pre: hidden, post: hidden, connect: &c {fixed_probability: 0.5}}\n  - {name: x, pre: in, post: hidden, connect: *c}"
    assert small(tmp_path, more=more).projections[2].connect == FixedProbability(probability=0.5)


def test_read_network_dispatches_on_the_suffix(folder: Path) -> None:
    for name in ("a.yaml", "a.yml", "A.YAML"):
        (folder / name).write_text(ISSUE)
        assert read_network(folder / name, seed=3).seed == 3
    with pytest.raises(InputError, match="NC122"):
        read_network(folder / "a.yaml", dt=1e-3)
    with pytest.raises(InputError, match="NC121") as caught:
        read_network(folder / "a.json")
    assert caught.value.diagnostics[0].help == "known: .yaml, .yml, .nir, .net"


# --- no text whatever raises anything but NeurocompileError ---------------------------------------------------------------
KEYS = """populations projections learning task model size params lif alif tau_mem v_threshold connect weight delay file normal grid
positions eprop rule surrogate readout data digits path nmnist dt 1 0 -1 1e400 .inf .nan null true ms mV Hz &a *a <<: !!str --- ... %YAML
? | >"""
MARKS = ["{", "}", "[", "]", ":", ": ", ", ", "- ", "\n", "\n  ", "\n    ", "\t", "'", '"', "#", "1 ms", "\x00", "\ud800", "é", "\u2028"]
WORDS = st.sampled_from([*KEYS.split(), *MARKS])


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=80) | st.lists(WORDS, max_size=60).map("".join) | st.lists(WORDS, max_size=40).map(" ".join))
def test_no_text_gives_a_traceback(text: str) -> None:
    try:
        network_from_text(text, "fuzz.yaml", "/nonexistent")
    except NeurocompileError as error:
        found = error.diagnostics
    else:
        found = ()
    assert all(d.render().startswith("error[NC") for d in found)


NUMBERS = ["1", "0", "-1", "1e300", "9" * 30, ".inf", "-.inf", ".nan", "1 ms", "0.3 ms", "5 mV", "5 Hz"]
SCALARS = st.sampled_from([*NUMBERS, "yes", "null", "~", "''", "x", "in", "[1, 2]", "{}", "[]"])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_mutation_gives_a_traceback(data: st.DataObject) -> None:
    """Cut, double or replace a token of a valid file."""
    tokens = ISSUE.replace("{file: in_hidden.npz}", "one_to_one").replace("{file: feedback.npz}", "symmetric").split(" ")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(tokens) - 1))
        action = data.draw(st.sampled_from(["cut", "double", "replace"]))
        if action == "cut" and len(tokens) > 1:
            del tokens[at]
        elif action == "double":
            tokens.insert(at, tokens[at])
        else:
            old = tokens[at]
            keep = old[len(old.rstrip(",}]\n")) :]
            tokens[at] = data.draw(SCALARS) + keep
    try:
        network = network_from_text(" ".join(tokens), "fuzz.yaml", "/nonexistent")
    except NeurocompileError as error:
        found = error.diagnostics
    else:
        found = ()
        assert network.n_neurons >= 1
    assert all(d.span is not None and d.help for d in found), found


def test_sparse_matrices_are_read(tmp_path: Path) -> None:
    matrix = scipy.sparse.random(4, 4, density=0.5, format="csr", random_state=np.random.default_rng(0))
    scipy.sparse.save_npz(tmp_path / "m.npz", matrix)
    edges = small(tmp_path, projection="connect: {file: m.npz}").projections[0].connect
    assert isinstance(edges, Explicit)
    assert edges.weight is not None
    dense = np.zeros((4, 4))
    dense[edges.pre, edges.post] = edges.weight
    np.testing.assert_array_equal(dense, matrix.toarray())
