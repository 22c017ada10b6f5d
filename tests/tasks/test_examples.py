"""The examples for `simulate` run as they stand, and each shows what its description says."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from neurocompile.cli import run
from neurocompile.ir.npz import AnyArray

Arrays = dict[str, AnyArray]
Simulate = Callable[..., Arrays]


def commands(root: Path) -> dict[str, str]:
    """Example -> the command in the comment at its head."""
    found = {}
    for path in sorted((root / "examples").glob("*.yaml")):
        head = re.sub(r"\\\n# *", "", path.read_text().split("\nname:")[0])
        for line in re.findall(r"^# +(neurocompile simulate .*)$", head, re.MULTILINE):
            found[path.stem] = line
    return found


@pytest.fixture
def simulate(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Run an example by the command in its head, in a copy of the folder; returns out.npz. change: (old, new) texts of the description."""
    shutil.copytree(root / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)

    def go(name: str, *change: tuple[str, str]) -> Arrays:
        path = tmp_path / "examples" / f"{name}.yaml"
        text = path.read_text()
        for old, new in change:
            assert text.count(old) == 1
            text = text.replace(old, new)
        path.write_text(text)
        words = shlex.split(commands(root)[name])[1:]
        assert run([*words, "-q"]) == 0
        with np.load(words[words.index("--save") + 1]) as archive:
            return dict(archive)

    return go


def test_every_example_is_in_the_list(root: Path) -> None:
    page = (root / "docs" / "examples.md").read_text()
    stated = commands(root)
    assert len(stated) >= 5
    for path in (root / "examples").glob("*.yaml"):
        assert f"`examples/{path.name}`" in page
        if path.stem in stated:
            assert f"    {' '.join(stated[path.stem].split())}\n" in page, path.name
    for path in (root / "examples").iterdir():
        assert path.stat().st_size < 50_000, path.name


def test_stdp_finds_the_correlated_inputs(simulate: Simulate) -> None:
    """Weights split in two, and are those of a clock-driven form that keeps the traces of every synapse in every step."""
    found = simulate("stdp")
    largest = 0.008
    shared, alone = found["weight:shared"] / largest, found["weight:alone"] / largest
    assert shared.mean() > 0.85
    assert alone.mean() < 0.45
    rates = [len(found[f"spike_step:{name}"]) / 100 / 60.0 for name in ("correlated", "independent")]
    assert rates[0] == pytest.approx(rates[1], rel=0.05)  # it is not the rate that decides
    fired = np.zeros(60_001, bool)
    fired[found["spike_step:neuron"]] = True
    for name, source in (("shared", "correlated"), ("alone", "independent")):
        arrivals = np.zeros((60_001, 100), bool)
        arrivals[found[f"spike_step:{source}"] + 1, found[f"spike_neuron:{source}"]] = True
        expected = clock_driven_stdp(arrivals[:60_000], fired, np.full(100, 0.004), largest)
        # both add some 40,000 exponentials a synapse in other orders
        np.testing.assert_allclose(found[f"weight:{name}"], expected, rtol=0, atol=1e-9 * largest)


def clock_driven_stdp(
    arrivals: npt.NDArray[np.bool_], fired: npt.NDArray[np.bool_], weight: npt.NDArray[np.float64], largest: float
) -> npt.NDArray[np.float64]:
    """Additive STDP of synapses on one neuron: a_plus 0.03, a_minus 0.0315 of the largest weight, 20 ms both, in steps of 1 ms."""
    decay = np.exp(-1.0 / 20.0)
    x, y = np.zeros(len(weight)), 0.0
    for arrived, spike in zip(arrivals, fired, strict=False):
        x, y = decay * x, decay * y
        weight = np.where(arrived, np.clip(weight - 0.0315 * largest * y, 0.0, largest), weight)
        if spike:
            weight = np.clip(weight + 0.03 * largest * x, 0.0, largest)
        x, y = x + arrived, y + spike
    return weight


@pytest.mark.slow
def test_reward_half_a_second_later_finds_its_cause(simulate: Simulate) -> None:
    found = simulate("r_stdp")
    (rewarded,), others = found["weight:rewarded"], found["weight:others"]
    assert rewarded > 0.85
    assert others.max() < rewarded - 0.1
    rewards, neuron, a = (found[f"spike_step:{name}"] for name in ("reward", "neuron", "a"))
    assert len(rewards) > 100
    causes = rewards - 500 - 1 - 1  # eight long delays, one to the reward neuron, one to the detector
    assert np.isin(causes, neuron).all()
    # `a` within 10 ms before; two of its spikes together reach further back
    assert np.mean([np.any((a <= step) & (a > step - 11)) for step in causes]) > 0.95


@pytest.mark.slow
def test_as_many_rewards_at_random_find_nothing(simulate: Simulate) -> None:
    found = simulate("r_stdp", ("reward: reward\n", "reward: chance\n"))
    (rewarded,), others = found["weight:rewarded"], found["weight:others"]
    assert len(found["spike_step:chance"]) > 100
    assert rewarded < np.sort(others)[-5]


def test_synapses_find_the_inputs_that_tell_something(simulate: Simulate, root: Path, tmp_path: Path) -> None:
    """8 of 100 inputs do. With rewiring more than a third of the synapses end there, and the loss of the last 3 s is less than half of
    that of as many synapses, of the same number and signs, that stay."""
    signal = np.load(root / "examples" / "rewiring_signal.npz")["target"]

    def loss(found: Arrays) -> float:
        return float((0.5 * (found["output:out"] - signal) ** 2).sum(axis=1)[-3000:].mean())

    moved = simulate("rewiring")
    stays = simulate("rewiring", ("    rewiring:", "    # rewiring:"))
    assert len(moved["pre:in->out"]) == len(stays["pre:in->out"]) == 24
    assert np.mean(stays["pre:in->out"] < 8) < 0.15
    assert np.mean(moved["pre:in->out"] < 8) > 0.35
    assert len(set(zip(moved["pre:in->out"].tolist(), moved["post:in->out"].tolist(), strict=True))) == 24
    assert loss(moved) < 0.5 * loss(stays)
    script(root, "make_rewiring").make(tmp_path / "made")
    assert (tmp_path / "made" / "rewiring_signal.npz").read_bytes() == (root / "examples" / "rewiring_signal.npz").read_bytes()


def test_both_populations_reach_the_rate(simulate: Simulate) -> None:
    """2 s of 50 neurons at 10 Hz are 1,000 spikes: 10 % is three standard deviations of a Poisson count."""
    found = simulate("rate_regularization")

    def rate(name: str, first: int, stop: int) -> float:
        steps = found[f"spike_step:{name}"]
        return float(((steps >= first) & (steps < stop)).sum() / 50 / ((stop - first) * 1e-3))

    assert rate("silent", 0, 1000) == 0.0
    assert rate("busy", 0, 1000) > 40.0
    for name in ("silent", "busy"):
        assert rate(name, 18_000, 20_000) == pytest.approx(10.0, rel=0.1)


def test_without_regularisation_they_stay_as_they_are(simulate: Simulate) -> None:
    found = simulate("rate_regularization", ("strength: 10.0", "strength: 0.0"))
    assert len(found["spike_step:silent"]) == 0
    assert len(found["spike_step:busy"]) > 40.0 * 50 * 20


def test_update_intervals_learn_the_waves(simulate: Simulate, root: Path) -> None:
    """Loss of each interval of the readout, which begins two steps after the sources'; weights change between intervals alone."""
    found = simulate("interval_2020")
    with np.load(root / "examples" / "interval_signal.npz") as archive:
        error = found["output:out"] - archive["target"]
    loss = 0.5 * (error[2:-298] ** 2).reshape(39, 300).sum(axis=1)
    assert np.mean(loss[-3:]) < 0.1 * np.mean(loss[:3])
    assert np.all(np.diff(loss[::6]) < 0.0)


def script(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, root / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_of_the_intervals_are_those_of_their_script(root: Path, tmp_path: Path) -> None:
    script(root, "make_interval").make(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (root / "examples" / made.name).read_bytes(), made.name
