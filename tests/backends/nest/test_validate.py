"""``validate`` of the NEST target: holds for a good build, fails for one that was changed, and says what a broken program did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import Check
from neurocompile.backends.nest import TARGET
from neurocompile.backends.nest.validate import compare, random_input
from neurocompile.ir import ALIF, LIF, Adam, Loss, Network, Reset, SymmetricFeedback, Task
from neurocompile.ir.errors import MismatchError
from neurocompile.ir.npz import load_npz, npz_bytes
from neurocompile.ir.realise import realise_all
from tests.backends.nest.conftest import HIDDEN, RULE, Arrays, engine, make_network, write_program
from tests.backends.nest.test_beside_engine import slow

STEPS = 120
MORE = (slow("in", "hidden", 12, 10, 1, max_delay=20),)


def checks_of(folder: Path, network: Network) -> dict[str, Check]:
    return {check.name: check for check in TARGET.validate(folder, network, realise_all(network), steps=STEPS)}


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network(more=MORE)


@pytest.fixture(scope="module")
def build(needs_nest: None, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_program(network, tmp_path_factory.mktemp("build"))


def test_a_good_build_holds(build: Path, network: Network) -> None:
    checks = checks_of(build, network)
    names = {"spikes of in", "spikes of hidden", "output of out", "weights of in->hidden", "weights of rec", "weights of read"}
    assert set(checks) == names | {"weights of slow in hidden", "clock"}
    assert all(check.ok for check in checks.values()), checks
    assert not checks["spikes of hidden"].detail.startswith("0 ")
    assert "largest change 0," not in checks["weights of in->hidden"].detail


@pytest.mark.parametrize(
    "build_it",
    [
        lambda: make_network(task=Task(readout="out", loss=Loss.CROSS_ENTROPY)),
        lambda: make_network(HIDDEN, replace(RULE, feedback=SymmetricFeedback())),
        lambda: make_network(
            ALIF(tau_mem=0.02, v_threshold=0.5, reset=Reset.TO_VALUE, v_reset=-0.1, t_ref=0.002, adapt_beta=0.1, adapt_tau=0.2)
        ),
        lambda: make_network(LIF(tau_mem=0.02, v_threshold=0.6, bias=0.7, t_ref=0.004), replace(RULE, optimizer=Adam())),
    ],
    ids=["cross_entropy", "symmetric", "alif to_value, t_ref", "adam, bias"],
)
def test_approximations_are_what_they_say(build_it: Callable[[], Network], needs_nest: None, tmp_path: Path) -> None:
    """The program is compared with the engine that makes the same approximation: nothing beyond the named one differs."""
    network = build_it()
    checks = checks_of(write_program(network, tmp_path, allow=True), network)
    assert all(check.ok for check in checks.values()), checks


def weight(key: str, change: float) -> Callable[[Arrays, Any], None]:
    def tamper(arrays: Arrays, _: Any) -> None:
        arrays[key] = arrays[key].copy()
        arrays[key][3] += change

    return tamper


def delay(arrays: Arrays, _: Any) -> None:
    arrays["projection3:delay"] = arrays["projection3:delay"] % 20 + 1


def time_constant(_: Arrays, structure: Any) -> None:
    structure["populations"][1]["params"]["tau_m"] *= 1.0 + 1e-6


def rate(_: Arrays, structure: Any) -> None:
    structure["rules"][0]["optimizer"]["eta"] *= 1.0 + 1e-6


def clock(_: Arrays, structure: Any) -> None:
    structure["spikes_at_once"] = True


@pytest.mark.parametrize(
    ("tamper", "fails"),
    [
        (weight("projection0:weight", 1e-6), "weights of in->hidden"),
        (weight("projection3:weight", 1e-6), "weights of slow in hidden"),
        (delay, "output of out"),
        (time_constant, "weights of in->hidden"),
        (rate, "weights of read"),
        (clock, "clock"),
    ],
    ids=["plastic weight", "static weight", "delays", "tau_m", "learning rate", "clock"],
)
def test_a_changed_build_fails(build: Path, network: Network, tmp_path: Path, tamper: Callable[[Arrays, Any], None], fails: str) -> None:
    shutil.copytree(build, tmp_path, dirs_exist_ok=True)
    arrays, structure = dict(load_npz(tmp_path / "program/network.npz")), json.loads((tmp_path / "program/network.json").read_text())
    tamper(arrays, structure)
    (tmp_path / "program/network.npz").write_bytes(npz_bytes(arrays))
    (tmp_path / "program/network.json").write_text(json.dumps(structure))
    assert not checks_of(tmp_path, network)[fails].ok


@pytest.mark.parametrize(
    ("program", "code", "says"),
    [
        ("import sys; sys.exit('out of memory')", "NC630", "ended with status 1: out of memory"),
        ("print('hello')", "NC631", "no JSON summary but 'hello"),
        ("import sys, numpy\nnumpy.savez(sys.argv[sys.argv.index('--out') + 1], a=[1])\nprint('{}')", "NC632", "lack 'output:out'"),
    ],
)
def test_a_broken_program_is_named(network: Network, tmp_path: Path, needs_nest: None, program: str, code: str, says: str) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "run.py").write_text(program)
    with pytest.raises(MismatchError) as caught:
        checks_of(tmp_path, network)
    (finding,) = caught.value.diagnostics
    assert (finding.code, says in finding.message) == (code, True)


# --- the comparison itself -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(network: Network) -> Arrays:
    return engine(network, 60, *random_input(network, 60))


def failed(network: Network, results: Arrays, expected: Arrays) -> set[str]:
    return {check.name for check in compare(network, realise_all(network), results, expected) if not check.ok}


def test_the_comparison_tells_how_much(network: Network, expected: Arrays) -> None:
    key = "weight:in->hidden"
    change = float(np.abs(expected[key] - realise_all(network)["in->hidden"].weight).max())
    assert change > 1e-3
    for share, fails in ((0.5e-9, set()), (2e-9, {"weights of in->hidden"})):
        off = expected | {key: expected[key] + share * change * (np.arange(expected[key].size) == 5)}
        assert failed(network, off, expected) == fails


@pytest.mark.parametrize(
    ("key", "change", "fails"),
    [
        ("weight:read", lambda a: np.where(np.arange(a.size) == 2, np.nan, a), "weights of read"),
        ("weight:read", lambda a: a[:-1], "weights of read"),
        ("output:out", lambda a: a + 1e-8 * np.abs(a).max(), "output of out"),
        ("output:out", lambda a: a[:-1], "output of out"),
        ("spike_neuron:hidden", lambda a: (a + 1) % 10, "spikes of hidden"),
        ("pre:rec", lambda a: a[::-1], "synapses of rec"),
    ],
)
def test_the_comparison_sees(network: Network, expected: Arrays, key: str, change: Callable[[Any], Any], fails: str) -> None:
    assert failed(network, expected | {key: change(expected[key])}, expected) == {fails}
    assert not failed(network, expected, expected)


def test_a_missing_spike_is_placed(network: Network, expected: Arrays) -> None:
    keys = ("spike_step:hidden", "spike_neuron:hidden")
    results = expected | {key: np.delete(expected[key], 4) for key in keys}
    (check,) = (c for c in compare(network, realise_all(network), results, expected) if not c.ok)
    step, neuron = (int(expected[key][4]) for key in keys)
    n = expected[keys[0]].size
    assert check.detail == f"{n - 1} in NEST, {n} in the engine, they differ first in step {step}, neuron {neuron}"
