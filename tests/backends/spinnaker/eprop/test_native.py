"""The emitted C, compiled for this machine with sanitizers on, beside the integer twin: every integer equal."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurocompile.backends.spinnaker.eprop.scales import Scales, choose_scales
from tests.backends.spinnaker.eprop.cores import BLOCKS, SWEEP, Events, Left, random_events, rule, run_twin

HERE = Path(__file__).parent
FLAGS = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
EXAMPLES = int(os.environ.get("NEUROCOMPILE_RANDOM_CORES", "60"))
"""10,000 of them take half an hour: NEUROCOMPILE_RANDOM_CORES=10000"""


@pytest.fixture(scope="session", params=[16, 32])
def native(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The program of core.c and the width of its states."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    program = tmp_path_factory.mktemp("core") / f"core{request.param}"
    with resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include:
        defined = [f"-DEPROP_STATE_BITS={request.param}", f"-DEPROP_BLOCKS={BLOCKS}", f"-I{include}"]
        done = subprocess.run([compiler, *FLAGS, *defined, str(HERE / "core.c"), "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program, request.param


def run_native(program: Path, scales: Scales, events: Events) -> Left:
    """Run events in the C program."""
    (ticks, n), (rows, m) = events.psi.shape, events.target.shape
    order = [*scales.tables().values(), *(np.array([x]) for x in scales.constants().values())]
    parts = [np.array([n, rows, m, ticks, events.low, events.high, SWEEP]), *order]
    given = b"".join(part.astype("<i4").tobytes() for part in parts)
    given += events.target.astype("<u2").tobytes() + events.weight.astype("<i4").tobytes()
    for tick in range(ticks):
        spikes = events.spikes[tick]
        row = np.concatenate([events.psi[tick], events.signal[tick], events.reg[tick], [len(spikes)], spikes])
        given += row.astype("<i4").tobytes()
    done = subprocess.run([str(program)], input=given, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    numbers = np.frombuffer(done.stdout[:-16], "<i4").astype(np.int64)
    weight, states, heads, neuron = np.split(numbers, np.cumsum([rows * m, 2 * rows * m, 2 * rows]))
    sent, saturated = np.frombuffer(done.stdout[-16:], "<i8")
    e, r = states.reshape(rows, m, 2).transpose(2, 0, 1)
    return Left(
        weight=weight.reshape(rows, m), e=e, r=r, head=heads.reshape(rows, 2), neuron=neuron.reshape(n, 8), ring=np.zeros(0, np.int64),
        sent=int(sent), saturated=int(saturated),
    )  # fmt: skip


def assert_equal(native: Left, twin: Left) -> None:
    for name in ("weight", "e", "r", "head", "neuron"):
        np.testing.assert_array_equal(getattr(native, name), getattr(twin, name), err_msg=name)
    assert (native.sent, native.saturated) == (twin.sent, twin.saturated)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0.88, 0.995),
    kappa=st.floats(0.88, 0.995),
    rate=st.sampled_from([0.002, 0.05, 0.5]),
    ticks=st.integers(1, 400),
    learning_rate=st.sampled_from([1e-6, 1e-3, 1e-1]),
    reg=st.sampled_from([0.0, 1.0]),
    interval=st.sampled_from([1.0, 50.0]),
)
def test_twin_and_c_agree(
    native: tuple[Path, int],
    seed: int,
    alpha: float,
    kappa: float,
    rate: float,
    ticks: int,
    learning_rate: float,
    reg: float,
    interval: float,
) -> None:
    """Any rule and activity, rates that saturate states too (an interval of 50 steps promised, 2 kept), weights that reach their bounds.
    Rules whose steps are too large for the weight unit are refused (test_fixed_point.py), here they are passed over."""
    program, bits = native
    rng = np.random.default_rng(seed)
    chosen = rule(alpha=alpha, kappa=kappa, kappa_reg=0.95, learning_rate=learning_rate, reg=reg, interval=interval)
    try:
        scales = choose_scales(chosen, state_bits=bits)
    except ValueError as error:
        assume(not any(said in str(error) for said in ("too much for 32 bits", "leaves no number format")))
        raise
    events = random_events(rng, scales, n=4, rows=6, m=4, ticks=ticks, rate=rate)
    assert_equal(run_native(program, scales, events), run_twin(scales, events))


def test_a_core_of_64_neurons(native: tuple[Path, int]) -> None:
    """5,000 steps, 250 sources at 5 Hz."""
    program, bits = native
    scales = choose_scales(rule(reg=0.5), state_bits=bits)
    events = random_events(np.random.default_rng(0), scales, n=64, rows=250, m=64, ticks=5000, rate=0.005, smooth=0.9)
    twin = run_twin(scales, events)
    assert_equal(run_native(program, scales, events), twin)
    assert (twin.weight != events.weight).all()
    assert twin.saturated == 0


def test_a_trace_beyond_its_word_saturates(native: tuple[Path, int]) -> None:
    """A source that spikes in every step where one in 50 was promised, on a membrane that hardly decays: z with 20 fraction bits (those of
    32-bit states) would need 33 bits, with 14 it fits."""
    program, bits = native
    scales = choose_scales(rule(alpha=0.9999, interval=50.0), state_bits=bits)
    events = random_events(np.random.default_rng(5), scales, n=2, rows=2, m=2, ticks=2700, rate=1.0)
    found = run_native(program, scales, events)
    assert (found.head[:, 0].max() == 2**31 - 1) == (bits == 32)
    assert_equal(found, run_twin(scales, events))


def test_saturation_is_reached_by_the_test_above(native: tuple[Path, int]) -> None:
    """With 16-bit states, sources 25 times as fast as promised saturate some."""
    program, bits = native
    scales = choose_scales(rule(interval=50.0), state_bits=bits)
    events = random_events(np.random.default_rng(3), scales, n=4, rows=6, m=4, ticks=400, rate=0.5)
    found = run_native(program, scales, events)
    assert (found.saturated > 0) == (bits == 16)
    assert_equal(found, run_twin(scales, events))
