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
from tests.backends.spinnaker.eprop.cores import BLOCKS, SWEEP, Events, Left, adaptive_rule, random_events, rule, run_twin

HERE = Path(__file__).parent
FLAGS = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
EXAMPLES = int(os.environ.get("NEUROCOMPILE_RANDOM_CORES", "60"))
"""10,000 of them take half an hour: NEUROCOMPILE_RANDOM_CORES=10000"""


@pytest.fixture(scope="session", params=[(16, False), (32, False), (16, True), (32, True)], ids=["16", "32", "16-adaptive", "32-adaptive"])
def native(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, bool]:
    """The program of core.c, the width of its states and whether its neurons adapt."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    bits, adaptive = request.param
    program = tmp_path_factory.mktemp("core") / f"core{bits}"
    with resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include:
        defined = [f"-DEPROP_STATE_BITS={bits}", f"-DEPROP_ADAPTIVE={int(adaptive)}", f"-DEPROP_BLOCKS={BLOCKS}", f"-I{include}"]
        done = subprocess.run([compiler, *FLAGS, *defined, str(HERE / "core.c"), "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program, bits, adaptive


def run_native(program: Path, scales: Scales, events: Events) -> Left:
    """Run events in the C program."""
    (ticks, n), (rows, m) = events.psi.shape, events.target.shape
    order = [*scales.tables().values(), *(np.array([x]) for x in scales.constants().values())]
    parts = [np.array([n, rows, m, ticks, events.low, events.high, SWEEP]), *order]
    given = b"".join(part.astype("<i4").tobytes() for part in parts)
    given += events.target.astype("<u2").tobytes() + events.weight.astype("<i4").tobytes()
    given += events.adapt_decay.astype("<i4").tobytes() + events.adapt_step.astype("<i4").tobytes()
    for tick in range(ticks):
        spikes = events.spikes[tick]
        row = np.concatenate([events.psi[tick], events.signal[tick], events.reg[tick], [len(spikes)], spikes])
        given += row.astype("<i4").tobytes()
    done = subprocess.run([str(program)], input=given, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    numbers = np.frombuffer(done.stdout[:-16], "<i4").astype(np.int64)
    weight, states, heads, neuron = np.split(numbers, np.cumsum([rows * m, 3 * rows * m, 2 * rows]))
    sent, saturated = np.frombuffer(done.stdout[-16:], "<i8")
    e, r, q = states.reshape(rows, m, 3).transpose(2, 0, 1)
    return Left(
        weight=weight.reshape(rows, m), e=e, r=r, q=q if scales.adaptive else q[:, :0], head=heads.reshape(rows, 2),
        neuron=neuron.reshape(n, -1), ring=np.zeros(0, np.int64), sent=int(sent), saturated=int(saturated),
    )  # fmt: skip


def assert_equal(native: Left, twin: Left) -> None:
    for name in ("weight", "e", "r", "q", "head", "neuron"):
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
    tau=st.sampled_from([30.0, 300.0, 3000.0]),
    share=st.sampled_from([1e-3, 0.02, 0.15]),
)
def test_twin_and_c_agree(
    native: tuple[Path, int, bool],
    seed: int,
    alpha: float,
    kappa: float,
    rate: float,
    ticks: int,
    learning_rate: float,
    reg: float,
    interval: float,
    tau: float,
    share: float,
) -> None:
    """Any rule and activity, rates that saturate states too (an interval of 50 steps promised, 2 kept), weights that reach their bounds.
    Rules whose steps are too large for the weight unit are refused (test_fixed_point.py), here they are passed over."""
    program, bits, adaptive = native
    rng = np.random.default_rng(seed)
    given = {"alpha": alpha, "kappa": kappa, "kappa_reg": 0.95, "learning_rate": learning_rate, "reg": reg, "interval": interval}
    chosen = adaptive_rule(tau, share, **given) if adaptive else rule(**given)
    try:
        scales = choose_scales(chosen, state_bits=bits)
    except ValueError as error:
        assume(not any(said in str(error) for said in ("too much for 32 bits", "leaves no number format", "state_bits=32")))
        raise
    events = random_events(rng, scales, n=4, rows=6, m=4, ticks=ticks, rate=rate)
    assert_equal(run_native(program, scales, events), run_twin(scales, events))


def test_a_core_of_64_neurons(native: tuple[Path, int, bool]) -> None:
    """5,000 steps, 250 sources at 5 Hz."""
    program, bits, adaptive = native
    scales = choose_scales(adaptive_rule(500.0, 0.03, reg=0.5) if adaptive else rule(reg=0.5), state_bits=bits)
    events = random_events(np.random.default_rng(0), scales, n=64, rows=250, m=64, ticks=5000, rate=0.005, smooth=0.9)
    twin = run_twin(scales, events)
    assert_equal(run_native(program, scales, events), twin)
    assert (twin.q != 0).mean() > 0.9 if adaptive else twin.q.size == 0
    assert (twin.weight != events.weight).all()
    assert twin.saturated == 0


def test_a_trace_beyond_its_word_saturates(native: tuple[Path, int, bool]) -> None:
    """A source that spikes in every step where one in 50 was promised, on a membrane that hardly decays: z with 20 fraction bits (those of
    32-bit states) would need 33 bits, with 14 it fits."""
    program, bits, adaptive = native
    given = {"alpha": 0.9999, "interval": 50.0}
    scales = choose_scales(adaptive_rule(500.0, 0.01, **given) if adaptive else rule(**given), state_bits=bits)
    events = random_events(np.random.default_rng(5), scales, n=2, rows=2, m=2, ticks=2700, rate=1.0)
    found = run_native(program, scales, events)
    assert (found.head[:, 0].max() == 2**31 - 1) == (bits == 32)
    assert_equal(found, run_twin(scales, events))


def test_saturation_is_reached_by_the_test_above(native: tuple[Path, int, bool]) -> None:
    """With 16-bit states, sources 25 times as fast as promised saturate some."""
    program, bits, adaptive = native
    scales = choose_scales(adaptive_rule(500.0, 0.02, interval=50.0) if adaptive else rule(interval=50.0), state_bits=bits)
    events = random_events(np.random.default_rng(3), scales, n=4, rows=6, m=4, ticks=400, rate=0.5)
    found = run_native(program, scales, events)
    assert (found.saturated > 0) == (bits == 16)
    assert_equal(found, run_twin(scales, events))
