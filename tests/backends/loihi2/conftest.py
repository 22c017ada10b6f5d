"""Small networks and emitted programs of the loihi2 target."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.loihi2 import TARGET
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.ir import (
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
    Task,
)
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Spikes
from neurocompile.machine import load_machine


def _edges(rng: np.random.Generator, n_pre: int, n_post: int, p: float, size: float, mean: float = 0.0, delay: int = 1) -> Explicit:
    pre, post = np.nonzero(rng.random((n_pre, n_post)) < p)
    return Explicit(
        pre=pre.astype(np.int32),
        post=post.astype(np.int32),
        weight=rng.normal(mean, size, len(pre)),
        delay=rng.integers(1, delay + 1, len(pre)),
    )


@pytest.fixture
def edges() -> Callable[..., Explicit]:
    """Random synapses: (rng, n_pre, n_post, probability, std, mean, longest delay)."""
    return _edges


@pytest.fixture
def lower() -> Callable[..., Loihi2Network]:
    """Lower a network for the default machine; ``allow`` accepts approximations. Scales of learning are for worst cases unless ``tune``
    says otherwise: measuring takes a second a network."""

    def run(network: Network, *, allow: bool = False, **extra: str) -> Loihi2Network:
        options = BuildOptions(allow_approximation=allow, extra={"tune": "0"} | extra)
        lowered = TARGET.lower(network, realise_all(network), load_machine("oheo-gulch"), options)
        assert isinstance(lowered, Loihi2Network)
        return lowered

    return run


@pytest.fixture
def write(tmp_path: Path, lower: Callable[..., Loihi2Network]) -> Callable[[Network], Path]:
    """Write a network's program into a fresh build folder and return that folder."""

    def run(network: Network) -> Path:
        for path, content in TARGET.emit(lower(network), None, BuildOptions()).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        return tmp_path

    return run


@pytest.fixture
def learner() -> Callable[..., Network]:
    """A network that learns by e-prop; keywords replace fields of the rule, ``task`` and ``hidden`` the task and the hidden model."""

    def make(*, task: Task | None = None, hidden: Any = None, readout: Any = None, **changes: Any) -> Network:
        rng = np.random.default_rng(0)
        rule = EProp(
            surrogate=Surrogate(height=10.0, width=0.03),
            kappa=0.96875,
            kappa_reg=0.96875,
            feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
            optimizer=GradientDescent(learning_rate=1e-6),
            regularization=Regularization(strength=0.1, rate=10.0),
        )
        return Network(
            name="learner",
            dt=1e-3,
            populations=(
                Population(name="in", size=20, model=SpikeSource()),
                Population(name="h", size=24, model=hidden or LIF(tau_mem=0.03, v_threshold=0.03)),
                Population(name="out", size=2, model=readout or LeakyReadout(tau_mem=0.03)),
            ),
            projections=(
                Projection(pre="in", post="h", connect=_edges(rng, 20, 24, 0.8, 0.014), learning="eprop"),
                Projection(pre="h", post="out", connect=_edges(rng, 24, 2, 1.0, 0.1), learning="eprop"),
            ),
            rules=(replace(rule, **changes),),
            task=task or Task(readout="out"),
        )

    return make


@pytest.fixture(scope="session")
def pairing() -> Callable[..., tuple[Network, dict[str, Spikes]]]:
    """A recurrent network whose neurons all learn by a rule of STDP, and spikes for it: (rule, seed, steps).

    Weights are within the rule's bounds (``margin``: how far at least, relative to their distance); each neuron is driven over the
    threshold by a source of its own too. The last steps are silent: in them the engine makes up for spikes under way.
    """

    def make(
        rule: STDP, *, seed: int = 0, steps: int = 1000, rate: float = 0.02, margin: float = 0.0, **changes: Any
    ) -> tuple[Network, dict[str, Spikes]]:
        rng = np.random.default_rng(seed)
        n_in, n = 30, 20
        low, high = rule.weight_bounds
        low, high = low + margin * (high - low), high - margin * (high - low)

        def edges(n_pre: int, p: float) -> Explicit:
            pre, post = np.nonzero(rng.random((n_pre, n)) < p)
            ones = np.ones(len(pre), np.int64)
            return Explicit(pre=pre.astype(np.int32), post=post.astype(np.int32), weight=rng.uniform(low, high, len(pre)), delay=ones)

        drive = Explicit(pre=np.arange(n), post=np.arange(n), weight=np.full(n, 1.2), delay=np.ones(n, np.int64))
        hidden = LIF(**{"tau_mem": 0.02, "v_threshold": 1.0, "reset": Reset.TO_VALUE} | changes)
        sizes = {"in": n_in, "drive": n} | ({rule.reward: 2} if isinstance(rule, RSTDP) else {})
        network = Network(
            name="pairs",
            dt=1e-3,
            seed=seed,
            populations=(
                *(Population(name=name, size=size, model=SpikeSource()) for name, size in sizes.items()),
                Population(name="h", size=n, model=hidden),
            ),
            projections=(
                Projection(pre="in", post="h", connect=edges(n_in, 0.6), learning=rule.name),
                Projection(name="loop", pre="h", post="h", connect=edges(n, 0.3), learning=rule.name),
                Projection(pre="drive", post="h", connect=drive),
            ),
            rules=(rule,),
        )
        inputs = {}
        for name, size in sizes.items():
            drawn = rng.random((steps, size)) < (rate if name in {"in", "drive"} else 0.004)
            drawn[-3:] = False
            step, neuron = np.nonzero(drawn)
            inputs[name] = Spikes(neuron=neuron.astype(np.int32), step=step.astype(np.int64))
        return network, inputs

    return make


@pytest.fixture(scope="module")
def emitted() -> types.ModuleType:
    """``processes/arithmetic.py`` of every emitted program, as a module."""
    text = (resources.files("neurocompile.backends.loihi2") / "templates/program/processes/arithmetic.py.tmpl").read_text("utf-8")
    module = types.ModuleType("emitted_arithmetic")
    exec(compile(text, "arithmetic.py", "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def plastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The emitted ``processes.plasticity.plastic``, imported from the templates as a program would."""
    root = resources.files("neurocompile.backends.loihi2") / "templates/program/processes"
    folder = tmp_path_factory.mktemp("program")
    target = folder / "processes" / "plasticity"
    target.mkdir(parents=True)
    for path in ("__init__.py", "plasticity/__init__.py", "plasticity/plastic.py"):
        (folder / "processes" / path).write_text((root / f"{path}.tmpl").read_text("utf-8"))
    sys.path.insert(0, str(folder))
    yield importlib.import_module("processes.plasticity.plastic")
    sys.path.remove(str(folder))
    for name in [n for n in sys.modules if n.split(".")[0] == "processes"]:
        del sys.modules[name]
