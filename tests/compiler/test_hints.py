"""What a description and a recording tell the mapper: arrays of the mapping problem, and errors at their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.base import BuildOptions, load_targets
from neurocompile.hints import recorded_rates, with_hints
from neurocompile.ir import MappingHints, Network, Neurons, Population, SpikeSource
from neurocompile.ir.errors import InputError
from neurocompile.ir.hints import apart_labels, expected_rates, together_labels
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise_all
from neurocompile.ir.yaml_reader import read_yaml
from neurocompile.machine import load_machine
from neurocompile.mapping import check_problem
from neurocompile.mapping.problem import MappingProblem

HEAD = """
dt: 2 ms
populations:
  in: {model: spike_source, size: 4, params: {rate: 50 Hz}}
  silent: {model: spike_source, size: 2}
  a: {model: lif, size: 6, params: {tau_mem: 20 ms, v_threshold: 0.5}}
  b: {model: lif, size: 3, params: {tau_mem: 20 ms, v_threshold: 0.5}}
projections:
  - {pre: in, post: a, connect: all_to_all}
  - {pre: a, post: b, connect: all_to_all}
"""


def network(tmp_path: Path, mapping: str) -> Network:
    file = tmp_path / "net.yaml"
    file.write_text(HEAD + mapping)
    return read_yaml(file)


def test_rates_are_spikes_per_step(tmp_path: Path) -> None:
    """Named populations have their rate, sources that state one have that, the others the mean of the named."""
    net = network(tmp_path, "mapping: {rates: {a: 10 Hz, b: 30 Hz}}\n")
    rates = expected_rates(net)
    assert rates is not None
    np.testing.assert_allclose(rates, np.repeat([50, 20, 10, 30], [4, 2, 6, 3]) * 2e-3, rtol=1e-15)
    assert expected_rates(network(tmp_path, "")) is None


def test_groups_with_a_common_neuron_are_one(tmp_path: Path) -> None:
    net = network(
        tmp_path,
        """
mapping:
  together:
    - [{population: a, first: 0, size: 2}, {population: b, first: 2}]
    - [{population: a, first: 4}]
    - [{population: a, first: 1, size: 2}, in]
""",
    )
    label = together_labels(net)
    assert label is not None
    groups = {frozenset(np.flatnonzero(label == g).tolist()) for g in np.unique(label[label >= 0])}
    assert groups == {frozenset([0, 1, 2, 3, 6, 7, 8, 14]), frozenset([10, 11])}


def test_members_kept_apart(tmp_path: Path) -> None:
    net = network(tmp_path, "mapping: {apart: [[{population: a, size: 2}, b], [in, silent]]}\n")
    first, second = apart_labels(net)
    assert first.tolist() == [-1] * 6 + [0, 0] + [-1] * 4 + [1] * 3
    assert second.tolist() == [0] * 4 + [1] * 2 + [-1] * 9


def test_the_problem_gets_them(tmp_path: Path) -> None:
    net = network(
        tmp_path,
        "mapping: {rates: {a: 1 Hz}, together: [[a]], apart: [[a, b]], chips: [{neurons: {population: b, first: 1}, chip: [3, 1]}]}\n",
    )
    target, machine = load_targets()["loihi2"], load_machine("kapoho-point")
    problem = target.lower(net, realise_all(net), machine, BuildOptions()).problem
    assert problem is not None
    found = with_hints(problem, net, machine)
    assert found.chip is not None
    assert found.chip.tolist() == [-1] * 13 + [machine.topology.width + 3] * 2
    np.testing.assert_allclose(found.rates[6:12], 2e-3)
    assert found.together is not None
    assert (found.together >= 0).tolist() == [False] * 6 + [True] * 6 + [False] * 3
    assert found.set_resources[-1].limit == 1
    measured = np.arange(15.0)
    np.testing.assert_array_equal(with_hints(problem, net, machine, measured).rates, measured)


def test_neurons_that_a_target_adds_have_no_wishes() -> None:
    """SpiNNaker maps helpers of its own behind the network's neurons."""
    net = read_network("examples/digits.yaml")
    net = replace(net, mapping=MappingHints(rates=(("hidden", 5.0),), together=((Neurons(population="hidden", size=2),),)))
    machine, target = load_machine("spin5"), load_targets()["spinnaker"]
    options = BuildOptions(allow_approximation=True, extra={"eprop": "r_stdp"})
    problem = target.lower(net, realise_all(net), machine, options).problem
    assert problem is not None
    assert problem.n_neurons > net.n_neurons
    found = with_hints(problem, net, machine)
    check_problem(found)
    assert found.together is not None
    assert (found.together >= 0).sum() == 2
    np.testing.assert_allclose(found.rates[net.n_neurons :], found.rates[: net.n_neurons].mean())


def test_a_chip_that_is_not_there(tmp_path: Path) -> None:
    net = network(tmp_path, "mapping: {chips: [{neurons: b, chip: [7, 9]}]}\n")
    machine = load_machine("kapoho-point")
    problem = load_targets()["loihi2"].lower(net, realise_all(net), machine, BuildOptions()).problem
    assert problem is not None
    with pytest.raises(InputError, match=r"chip \(7, 9\) of 'kapoho-point' does not exist") as caught:
        with_hints(problem, net, machine)
    assert caught.value.diagnostics[0].code == "NC407"


def test_rates_of_a_recording(tmp_path: Path) -> None:
    """Counts over the steps up to the last spike; populations that the file lacks are silent."""
    net = network(tmp_path, "")
    file = tmp_path / "rec.npz"
    arrays = {"spike_neuron:in": [0, 0, 3], "spike_step:in": [0, 1, 3], "spike_neuron:a": [5], "spike_step:a": [9]}
    np.savez(file, **{k: np.array(v) for k, v in arrays.items()})
    expected = np.zeros(15)
    expected[[0, 3, 11]] = 0.2, 0.1, 0.1
    np.testing.assert_allclose(recorded_rates(net, file), expected)


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"spikes": np.zeros(3, int)}, "NC107"),
        ({"spike_neuron:a": np.array([6])}, "NC204"),
        ({"spike_neuron:a": np.array([0.5])}, "NC202"),
    ],
)
def test_recordings_of_something_else(tmp_path: Path, arrays: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]], code: str) -> None:
    file = tmp_path / "rec.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        recorded_rates(network(tmp_path, ""), file)
    assert caught.value.diagnostics[0].code == code
    assert caught.value.diagnostics[0].file == str(file)


@pytest.mark.parametrize(
    ("mapping", "code", "line"),
    [
        ("  rates: {c: 1 Hz}", "NC207", 12),
        ("  rates: {a: -1 Hz}", "NC201", 12),
        ("  together: [[a, x]]", "NC207", 12),
        ("  apart: [[{population: a, first: 6}, b]]", "NC204", 12),
        ("  apart: [[{population: a, first: 2, size: 5}, b]]", "NC204", 12),
        ("  apart: [[{population: a, size: 0}, b]]", "NC201", 12),
        ("  apart: [[{population: a, size: 2}, a]]", "NC210", 12),
        ("  together: [[a, b]]\n  apart: [[a, b]]", "NC210", 13),
        ("  chips: [{neurons: a, chip: [0, 0]}, {neurons: a, chip: [1, 0]}]", "NC210", 12),
        ("  together: [[a, b]]\n  chips: [{neurons: a, chip: [0, 0]}, {neurons: b, chip: [1, 0]}]", "NC210", 13),
        ("  chips: [{neurons: a, chip: [0]}]", "NC202", 12),
        ("  chips: [{neurons: a}]", "NC109", 12),
        ("  toghether: [[a, b]]", "NC108", 12),
    ],
)
def test_bad_wishes_have_a_place(tmp_path: Path, mapping: str, code: str, line: int) -> None:
    with pytest.raises(InputError) as caught:
        network(tmp_path, f"mapping:\n{mapping}\n")
    found = caught.value.diagnostics[0]
    assert (found.code, found.span.line if found.span else 0) == (code, line)
    assert found.help


@given(
    first=st.none() | st.lists(st.integers(-1, 3), min_size=9, max_size=9),
    second=st.none() | st.lists(st.integers(-1, 3), min_size=9, max_size=9),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_wishes_join_what_the_target_keeps_together(first: list[int] | None, second: list[int] | None) -> None:
    """Neurons share a label where a chain of either's groups links them; those of no group stay free."""
    net = Network(name="n", dt=1e-3, seed=0, populations=(Population(name="a", size=9, model=SpikeSource()),))
    problem = MappingProblem(
        n_neurons=9,
        population=np.zeros(9, np.int32),
        population_names=("a",),
        external=np.zeros(9, np.bool_),
        indptr=np.zeros(10, np.int64),
        indices=np.zeros(0, np.int32),
        resources=(),
        core_width=np.ones(1, np.int32),
        together=None if second is None else np.array(second, np.int32),
        repeats=np.array([-1] * 8 + [2], np.int32),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurocompile.hints.together_labels", lambda _: None if first is None else np.array(first, np.int32))
        found = with_hints(problem, net, load_machine("spin5"), np.arange(9.0))
    check_problem(found)
    assert found.rate is not None
    assert found.rate.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 2]  # the last repeats neuron 2
    if first is None and second is None:
        assert found.together is None
        return
    groups = [{i for i in range(9) if label[i] == g} for label in (first, second) if label for g in range(4)]
    reach = {i: {i} for i in range(9)}
    for _ in range(9):
        reach = {i: set().union(mine, *(g for g in groups if g & mine)) for i, mine in reach.items()}
    assert found.together is not None
    grouped = set().union(*groups)
    for i in range(9):
        assert (found.together[i] == -1) == (i not in grouped)
        for j in range(9):
            if i in grouped and j in grouped:
                assert (found.together[i] == found.together[j]) == (j in reach[i])
