"""The neurocore template of the emitted program: its straight-line integers beside the twin's neurons, which Lava's model equals."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.loihi2 import TARGET
from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.twin.cells import Cells
from neurocompile.ir import ALIF, LIF, Network

SUBTRACT = LIF(tau_mem=0.03, v_threshold=0.03)
HELD = LIF(tau_mem=0.02, v_threshold=0.03, reset="to_value", v_reset=-0.01, t_ref=3e-3, bias=1e-4)
REFRACTORY = LIF(tau_mem=0.02, v_threshold=0.03, t_ref=3e-3, v_min=-0.02)
ADAPTIVE = ALIF(tau_mem=0.03, v_threshold=0.03, adapt_beta=0.003, adapt_tau=0.05)


@pytest.fixture
def template(lower: Callable[..., Loihi2Network], learner: Callable[..., Network]) -> types.ModuleType:
    """The file as a program has it."""
    text = TARGET.emit(lower(learner()), None, BuildOptions())["program/neurocore/neuron.py"]
    module = types.ModuleType("neurocore_template")
    exec(compile(text, "neuron.py", "exec"), module.__dict__)  # the file is a plain module
    return module


@pytest.mark.parametrize(
    ("hidden", "options"),
    [
        (SUBTRACT, {}),
        (SUBTRACT, {"third_factors": "split"}),
        (SUBTRACT, {"eprop_form": "pre_trace", "third_factors": "split"}),
        (SUBTRACT, {"eprop_form": "two_traces"}),
        (HELD, {"eprop_form": "aligned"}),
        (REFRACTORY, {"trace_bits": "5"}),
        (ADAPTIVE, {}),
        (ADAPTIVE, {"low_bits": "none"}),
    ],
)
def test_one_neuron_at_a_time_is_the_population(
    template: types.ModuleType, lower: Callable[..., Loihi2Network], learner: Callable[..., Network], hidden: Any, options: dict[str, str]
) -> None:
    """300 steps of random input and learning signals: spikes, y1, y2, y3 and the last state of 24 neurons, every integer."""
    spec, arrays = describe(lower(learner(hidden=hidden), allow=True, **options))
    population = spec["populations"][1]
    assert population["process"] == "Neuron"
    cells, learning, n = Cells(population, arrays), population["learning"], population["size"]
    names = ("du", "dv", "bias", "v_min", "vth", "subtract", "v_subtract", "v_reset", "t_ref", "adapt_decay", "adapt_beta", "u", "v")
    each = {name: np.broadcast_to(arrays.get(f"n1.fixed.{name}", 0), (n,)).tolist() for name in names}
    mantissa = arrays.get("n1.learning.adaptation_mantissa")
    own = [learning if mantissa is None else learning | {"adaptation_mantissa": int(np.broadcast_to(mantissa, (n,))[i])} for i in range(n)]
    p = [{name: values[i] for name, values in each.items()} for i in range(n)]
    states = [template.start(p[i], learning["psi_delay"]) for i in range(n)]
    table = arrays["n1.learning.surrogate_table"].tolist()
    rng, total = np.random.default_rng(0), 0
    for _ in range(300):
        arriving = rng.integers(-1, 3, n) * (int(np.max(each["vth"])) // 3)
        signal = rng.integers(-(2**15), 2**15, n)
        spiked = cells.step(arriving, signal, learn=True)
        found = [template.step(states[i], p[i], own[i], table, int(arriving[i]), int(signal[i])) for i in range(n)]
        np.testing.assert_array_equal(np.flatnonzero([f[0] for f in found]), spiked)
        for number in (1, 2, 3):
            np.testing.assert_array_equal([f[number] for f in found], cells.sent[number], err_msg=f"y{number}")
        total += len(spiked)
    np.testing.assert_array_equal([s["v"] for s in states], cells.v)
    np.testing.assert_array_equal([s["u"] for s in states], cells.u)
    assert total > 300
    for s in states:
        for name, bits in template.STATE.items():
            if name not in {"psi", "spiked"}:
                assert -(2 ** (bits - 1)) <= s[name] < 2 ** (bits - 1), name


def test_it_says_that_it_is_unverified_and_lava_does_not_import_it(
    write: Callable[[Network], Path], learner: Callable[..., Network]
) -> None:
    program = write(learner()) / "program"
    text = (program / "neurocore" / "neuron.py").read_text()
    assert text.startswith('"""UNVERIFIED TEMPLATE')
    assert not list((program / "processes").glob("**/neurocore*"))
    assert "neurocore" not in (program / "run.py").read_text()
    assert "neurocore/" in (program / "README.md").read_text()
