"""Small networks for the NEST target, their programs, and runs of both simulators."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurocompile.backends.base import BuildOptions, sdk_version
from neurocompile.backends.nest import TARGET
from neurocompile.backends.nest.lowered import NestNetwork
from neurocompile.backends.reference import Simulator
from neurocompile.ir import (
    LIF,
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
    SpikeSource,
    Task,
)
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.simulation.engines import recorded_arrays

Arrays = dict[str, npt.NDArray[Any]]
HIDDEN = LIF(tau_mem=0.03, v_threshold=0.6)
RANDOM = RandomFeedback(weight=Normal(mean=0.0, std=1.0))
RULE = EProp(feedback=RANDOM, optimizer=GradientDescent(learning_rate=2e-4), regularization=Regularization(strength=0.05, rate=20.0))


def edges(rng: np.random.Generator, n_pre: int, n_post: int, scale: float, share: float = 0.6, max_delay: int = 1) -> Explicit:
    """Random synapses in random order."""
    pre, post = np.nonzero(rng.random((n_pre, n_post)) < share)
    order = rng.permutation(pre.size)
    delay = rng.integers(1, max_delay + 1, pre.size)
    return Explicit(pre=pre[order], post=post[order], weight=rng.normal(0.0, scale, pre.size), delay=delay)


def make_network(
    hidden: LIF = HIDDEN,
    *rules: EProp,
    readout: LeakyReadout | None = None,
    sizes: tuple[int, int, int] = (12, 10, 2),
    more: tuple[Projection, ...] = (),
    learning: Mapping[str, str | None] | None = None,
    **changes: Any,
) -> Network:
    """in -> hidden -> out with recurrence, all plastic by the first of the rules unless ``learning`` says otherwise, and ``more``."""
    rng = np.random.default_rng(7)
    n_in, n_hidden, n_out = sizes
    rules = rules or (RULE,)
    learns: dict[str, str | None] = {**dict.fromkeys(("in", "rec", "read"), rules[0].name), **(learning or {})}
    arguments: dict[str, Any] = {
        "name": "small",
        "dt": 1e-3,
        "seed": 3,
        "populations": (
            Population(name="in", size=n_in, model=SpikeSource()),
            Population(name="hidden", size=n_hidden, model=hidden),
            Population(name="out", size=n_out, model=readout or LeakyReadout(tau_mem=0.02)),
        ),
        "projections": (
            Projection(pre="in", post="hidden", connect=edges(rng, n_in, n_hidden, 0.5), learning=learns["in"]),
            Projection(name="rec", pre="hidden", post="hidden", connect=edges(rng, n_hidden, n_hidden, 0.3), learning=learns["rec"]),
            Projection(name="read", pre="hidden", post="out", connect=edges(rng, n_hidden, n_out, 0.3, 1.0), learning=learns["read"]),
            *more,
        ),
        "rules": rules,
        "task": Task(readout="out"),
    }
    return Network(**{**arguments, **changes})


def with_weights(network: Network, change: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Network:
    """The same network with other weights of its explicit projections."""
    projections = []
    for p in network.projections:
        assert isinstance(p.connect, Explicit)
        assert p.connect.weight is not None
        projections.append(replace(p, connect=replace(p.connect, weight=change(p.connect.weight))))
    return replace(network, projections=tuple(projections))


def lowered(network: Network, *, allow: bool = False) -> NestNetwork:
    return TARGET.lower(network, realise_all(network), None, BuildOptions(allow_approximation=allow))


def emitted(network: Network, *, allow: bool = False) -> dict[str, bytes]:
    options = BuildOptions(allow_approximation=allow)
    return TARGET.emit(lowered(network, allow=allow), None, options)


def write_program(network: Network, folder: Path, *, allow: bool = False) -> Path:
    """Write the program of a network into a build folder and return that."""
    for path, content in emitted(network, allow=allow).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@dataclass
class Done:
    """A finished process, its summary and its results."""

    status: int
    stdout: str
    stderr: str
    results: Arrays

    @property
    def summary(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.stdout)
        return parsed


def call(folder: Path, *arguments: str, out: str = "results.npz", env: Mapping[str, str] | None = None, **more: Any) -> Done:
    """Run ``python program/run.py ARGUMENTS --out results.npz`` in the folder, as a user does."""
    command = [sys.executable, "program/run.py", *arguments, "--out", out]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=env, **more)
    results: Arrays = {}
    if (folder / "results.npz").is_file() and done.returncode == 0:
        with np.load(folder / "results.npz") as archive:
            results = {key: archive[key] for key in archive.files}
    return Done(done.returncode, done.stdout, done.stderr, results)


def random_spikes(size: int, steps: int, rate: float, *, first: int = 0, seed: int = 11) -> Spikes:
    """Spikes of every neuron with probability ``rate`` a step, from step ``first`` on; neuron 0 spikes in that step."""
    raster = np.random.default_rng(seed).random((steps, size)) < rate
    raster[:first] = False
    raster[first, 0] = True
    step, neuron = np.nonzero(raster)
    return Spikes(neuron=neuron.astype(np.int32), step=step)


def random_signal(size: int, steps: int, *, rows: int | None = None, seed: int = 12) -> Signal:
    """Targets that change in every step, and a window with gaps; ``rows`` of them where that is less than the steps."""
    rng, rows = np.random.default_rng(seed), rows or steps
    return Signal(target=rng.normal(size=(rows, size)), window=rng.random(rows) < 0.8)


def given(folder: Path, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal]) -> list[str]:
    """Write inputs into the folder and return the options that name them."""
    options = []
    for i, (name, s) in enumerate(spikes.items()):
        np.savez(folder / f"spikes{i}.npz", neuron=s.neuron, step=s.step)
        options += ["--input", f"{name}=spikes{i}.npz"]
    for i, (name, g) in enumerate(signals.items()):
        np.savez(folder / f"signal{i}.npz", target=g.target, window=g.window)
        options += ["--signal", f"{name}=signal{i}.npz"]
    return options


def engine(network: Network, steps: int, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], *, learn: bool = True) -> Arrays:
    """What ``neurocompile simulate --save`` writes."""
    connections = realise_all(network)
    simulator = Simulator(network, connections)
    recording = simulator.run(steps, spikes=spikes, signals=signals, learn=learn)
    found = {key: array for key, array in recorded_arrays(recording).items() if key != "snapshot_step"}
    for name, ends in connections.items():
        found |= {f"weight:{name}": simulator.weight(name), f"pre:{name}": ends.pre, f"post:{name}": ends.post}
    return found


@pytest.fixture(scope="session")
def needs_nest() -> None:
    if sdk_version("nest-simulator") is None:
        pytest.skip("NEST is not installed")


@pytest.fixture(scope="module")
def program(needs_nest: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder with the program of the small network, its input (50 steps) in it."""
    folder = write_program(make_network(), tmp_path_factory.mktemp("program"))
    given(folder, {"in": random_spikes(12, 50, 0.1, first=1)}, {"out": random_signal(2, 50)})
    return folder
