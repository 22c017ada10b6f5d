"""Random programs: the twin against Lava's own models, every spike, state, weight and tag.

Fifty of them; NEUROCOMPILE_RANDOM_PROGRAMS=1000 in the environment runs a thousand (a quarter of an hour).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("lava")

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.loihi2 import TARGET
from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.forms import SECOND_STATES, Form
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.twin import Twin
from neurocompile.backends.loihi2.validate import compare_learning, compare_static, load_program, run_program
from neurocompile.ir import (
    ALIF,
    LIF,
    RSTDP,
    STDP,
    EProp,
    Explicit,
    GradientDescent,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    Task,
)
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.loihi2.offline_lava import emitted, run_offline
from tests.backends.loihi2.test_twin import networks

EXAMPLES = int(os.environ.get("NEUROCOMPILE_RANDOM_PROGRAMS", "50"))
slow_start = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], derandomize=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """(run.py as a module, a folder for what the recorders write)."""
    folder = tmp_path_factory.mktemp("offline")
    network = learner(LIF(tau_mem=0.02, v_threshold=0.5), seed=0, rate=1e-3)
    lowered = TARGET.lower(network, realise_all(network), None, BuildOptions(extra={"tune": "0"}))
    for path, content in TARGET.emit(lowered, None, BuildOptions()).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    with emitted(folder / "program") as run:
        yield run, folder


def learner(hidden: Any, *, seed: int, rate: float, strength: float = 0.0, kind: SurrogateKind = SurrogateKind.PIECEWISE_LINEAR) -> Network:
    """Five sources, four recurrent hidden neurons, two readouts; hidden and readout learn, and a static projection with delays."""
    rng = np.random.default_rng(seed)

    def edges(n_pre: int, n_post: int, p: float, size: float, *, delay: int = 1) -> Explicit:
        pre, post = np.nonzero(rng.random((n_pre, n_post)) < p)
        pre, post = np.append(pre, 0), np.append(post, 0)  # not empty, and sometimes a pair twice
        return Explicit(
            pre=pre.astype(np.int32), post=post.astype(np.int32), weight=rng.normal(0.05, size, len(pre)),
            delay=rng.integers(1, delay + 1, len(pre)),
        )  # fmt: skip

    rule = EProp(
        surrogate=Surrogate(kind=kind, height=0.5, width=0.5),
        kappa=float(rng.choice([0.0, 0.75, 0.9375, 0.97])),
        feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
        optimizer=GradientDescent(learning_rate=rate),
        regularization=Regularization(strength=strength, rate=20.0) if strength else None,
    )
    rule = replace(rule, kappa_reg=rule.kappa)
    return Network(
        name="learner",
        dt=1e-3,
        seed=seed % 1000,
        populations=(
            Population(name="in", size=5, model=SpikeSource()),
            Population(name="h", size=4, model=hidden),
            Population(name="out", size=2, model=LeakyReadout(tau_mem=float(rng.uniform(5e-3, 0.05)))),
        ),
        projections=(
            Projection(pre="in", post="h", connect=edges(5, 4, 0.7, 0.4), learning="eprop"),
            Projection(pre="h", post="h", connect=edges(4, 4, 0.5, 0.3), learning="eprop"),
            Projection(name="far", pre="in", post="h", connect=edges(5, 4, 0.3, 0.3, delay=9)),
            Projection(pre="h", post="out", connect=edges(4, 2, 0.9, 0.3), learning="eprop"),
        ),
        rules=(rule,),
        task=Task(readout="out"),
    )


@st.composite
def learners(draw: Any) -> tuple[Network, dict[str, str]]:
    """A network that learns, and options of its lowering: every form, every place for low bits, any learning rate."""
    common: dict[str, Any] = {"tau_mem": draw(st.floats(3e-3, 0.1)), "v_threshold": draw(st.floats(0.2, 1.0))}
    common |= {"reset": draw(st.sampled_from(Reset)), "t_ref": draw(st.integers(0, 3)) * 1e-3}
    adaptive = {"adapt_beta": draw(st.floats(0.0, 0.5)), "adapt_tau": draw(st.floats(5e-3, 0.2))}
    hidden: Any = ALIF(**common, **adaptive) if draw(st.booleans()) else LIF(**common)
    network = learner(
        hidden,
        seed=draw(st.integers(0, 10**6)),
        rate=10.0 ** draw(st.floats(-6.0, 0.0)),
        strength=draw(st.sampled_from([0.0, 3.0])),
        kind=draw(st.sampled_from(SurrogateKind)),
    )
    options = {"eprop_form": draw(st.sampled_from(Form)).value, "low_bits": draw(st.sampled_from(sorted(SECOND_STATES))), "tune": "0"}
    if options["eprop_form"] == Form.TWO_TRACES.value and abs(network.rules[0].kappa - np.exp(-1e-3 / common["tau_mem"])) < 2e-3:
        options["eprop_form"] = Form.LAGGED.value
    return network, options


@st.composite
def pairers(draw: Any) -> tuple[Network, dict[str, str]]:
    """A recurrent network whose neurons learn by STDP or rewarded STDP of any amplitude, time constants and bounds, from spikes of three
    sources, two of them the reward; Lava's own LIF or the emitted neuron."""
    rewarded = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-1.0, 0.0), (0.0, 0.3), (0.1, 0.5)]))
    tau, amplitude = st.floats(1e-3, 0.1), st.floats(1e-4, 1.0)
    common: dict[str, Any] = {"name": "pairs", "weight_bounds": (low, high), "multiplicative": draw(st.booleans()) or high == 0.0}
    common |= {
        "tau_plus": draw(tau),
        "tau_minus": draw(tau),
        "a_plus": draw(amplitude),
        "a_minus": draw(st.one_of(st.just(0.0), amplitude)),
    }
    reward = {"reward": "reward", "tau_c": draw(st.floats(2e-3, 2.0)), "tau_d": draw(st.floats(2e-3, 1.0))}
    rule = RSTDP(**common, **reward, reward_weight=draw(st.sampled_from([-20.0, 0.5, 100.0]))) if rewarded else STDP(**common)

    def edges(n_pre: int, p: float) -> Explicit:
        pre, post = np.nonzero(rng.random((n_pre, 4)) < p)
        pre, post = np.append(pre, 0), np.append(post, 0)
        ones = np.ones(len(pre), np.int64)
        return Explicit(pre=pre.astype(np.int32), post=post.astype(np.int32), weight=rng.uniform(low, high, len(pre)), delay=ones)

    hidden = LIF(tau_mem=0.01, v_threshold=0.6, reset=draw(st.sampled_from(Reset)), t_ref=draw(st.integers(0, 2)) * 1e-3)
    drive = Explicit(pre=np.arange(4), post=np.arange(4), weight=np.full(4, 0.8), delay=np.ones(4, np.int64))
    network = Network(
        name="pairs",
        dt=1e-3,
        seed=int(rng.integers(1000)),
        populations=(
            Population(name="in", size=5, model=SpikeSource()),
            Population(name="drive", size=4, model=SpikeSource()),
            Population(name="reward", size=2, model=SpikeSource()),
            Population(name="h", size=4, model=hidden),
        ),
        projections=(
            Projection(pre="in", post="h", connect=edges(5, 0.7), learning="pairs"),
            Projection(pre="h", post="h", connect=edges(4, 0.5), learning="pairs"),
            Projection(pre="drive", post="h", connect=drive),
            Projection(pre="reward", post="h", connect=Explicit(pre=[0], post=[0], weight=[0.1], delay=[3])),
        ),
        rules=(rule,),
    )
    return network, {"low_bits": draw(st.sampled_from(["d", "none"])), "trace_bits": draw(st.sampled_from(["7", "5"]))}


def lowered(network: Network, **options: str) -> Loihi2Network:
    made = TARGET.lower(network, realise_all(network), None, BuildOptions(allow_approximation=True, extra=options))
    assert isinstance(made, Loihi2Network)
    return made


def shorter(network: Network, longest: int) -> Network:
    """Return a network with no delay above ``longest`` steps: Lava's DelaySparse takes its time with those, step by step."""
    projections = []
    for projection in network.projections:
        assert isinstance(projection.connect, Explicit)
        delay = np.minimum(np.asarray(projection.connect.delay), longest)
        projections.append(replace(projection, connect=replace(projection.connect, delay=delay)))
    return replace(network, projections=tuple(projections))


def spikes_of(seed: int, n: int, steps: int, rate: float) -> dict[str, Spikes]:
    step, neuron = np.nonzero(np.random.default_rng(seed).random((steps, n)) < rate)
    return {"in": Spikes(neuron=neuron.astype(np.int32), step=step.astype(np.int64))}


@settings(slow_start, max_examples=EXAMPLES * 6 // 10)
@given(network=networks(), seed=st.integers(0, 10**6), rate=st.floats(0.05, 0.6))
def test_static_programs(program: Any, network: Network, seed: int, rate: float) -> None:
    """Lava's LIF, Sparse and DelaySparse, the emitted Neuron and Readout; reset, refractory time, delays, sign modes, exponents."""
    run, folder = program
    spec, arrays = describe(lowered(shorter(network, 63 if seed % 20 == 0 else 5)))
    inputs = spikes_of(seed, 3, 24, rate)
    results = run_offline(run, folder, spec, arrays, inputs, {}, steps=24, learn=False)
    checks = compare_static(results, Twin(spec, arrays).run(24, inputs), spec)
    assert [c for c in checks if not c.ok] == []


@settings(slow_start, max_examples=EXAMPLES * 4 // 10)
@given(case=learners(), seed=st.integers(0, 10**6), rate=st.floats(0.05, 0.6))
def test_learning_programs(program: Any, case: tuple[Network, dict[str, str]], seed: int, rate: float) -> None:
    """Weights and both tags too, over every form of e-prop."""
    run, folder = program
    network, options = case
    spec, arrays = describe(lowered(network, **options))
    inputs = spikes_of(seed, 5, 30, rate)
    rng = np.random.default_rng([seed, 1])
    signals = {"out": Signal(target=rng.normal(0.0, 1.0, (25, 2)), window=rng.random(25) < 0.8)}
    results = run_offline(run, folder, spec, arrays, inputs, signals, steps=30, learn=True)
    twin = Twin(spec, arrays, learning=True).run(30, inputs, signals)
    checks = compare_static(results, twin, spec) + compare_learning(results, twin, spec)
    assert [c for c in checks if not c.ok] == []


@settings(slow_start, max_examples=EXAMPLES * 4 // 10)
@given(case=pairers(), seed=st.integers(0, 10**6), rate=st.floats(0.05, 0.6))
def test_programs_that_learn_from_pairs(program: Any, case: tuple[Network, dict[str, str]], seed: int, rate: float) -> None:
    """Rules of the neurons' own spikes: y0, the engine's y traces or those that neurons send, reward; traces and tags that saturate."""
    run, folder = program
    network, options = case
    spec, arrays = describe(lowered(network, **options))
    inputs = {name: spikes_of(seed + i, size, 40, rate) for i, (name, size) in enumerate((("in", 5), ("drive", 4), ("reward", 2)))}
    inputs = {name: spikes["in"] for name, spikes in inputs.items()}
    results = run_offline(run, folder, spec, arrays, inputs, {}, steps=40, learn=True)
    twin = Twin(spec, arrays, learning=True).run(40, inputs)
    checks = compare_static(results, twin, spec) + compare_learning(results, twin, spec)
    assert [c for c in checks if not c.ok] == []


def test_models_without_the_runtime_do_what_they_do_in_it(program: Any, lower: Callable[..., Loihi2Network], tmp_path: Path) -> None:
    """One program both ways: every array of the results equal."""
    run, folder = program
    network = learner(LIF(tau_mem=0.02, v_threshold=0.5), seed=7, rate=1e-2, strength=3.0)
    for path, content in TARGET.emit(lowered(network, tune="0"), None, BuildOptions()).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    spec, arrays = load_program(tmp_path / "program")
    inputs = spikes_of(3, 5, 80, 0.3)
    signals = {"out": Signal(target=np.random.default_rng(4).normal(size=(80, 2)), window=np.ones(80, np.bool_))}
    real, _ = run_program(tmp_path / "program", steps=80, inputs=inputs, signals=signals, flags=["--state"], timeout=300.0)
    offline = run_offline(run, folder, spec, arrays, inputs, signals, steps=80, learn=True)
    assert real.keys() == offline.keys()
    for name, values in real.items():
        np.testing.assert_array_equal(values, offline[name], err_msg=name)
    assert len(real["spike_step:h"]) > 10
