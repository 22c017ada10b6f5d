"""Small networks for the SpiNNaker target, and their programs: written to a folder, or loaded as a module."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker import TARGET
from neurocompile.ir import LIF, Explicit, LeakyReadout, Network, Population, Projection, SpikeSource, Task
from neurocompile.ir.neurons import Reset
from neurocompile.ir.npz import npz_bytes
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine, load_machine
from neurocompile.mapping import MapOptions, map_network
from neurocompile.mapping.export import mapping_arrays

Built = tuple[Network, dict[str, Connections]]


def explicit(rng: np.random.Generator, n_pre: int, n_post: int, mean: float, spread: float, delay: int = 1) -> Explicit:
    pre, post = np.nonzero(rng.random((n_pre, n_post)) < 0.5)
    m = len(pre)
    delays = np.full(m, 1) if delay == 1 else rng.integers(1, delay + 1, m)
    return Explicit(pre=pre.astype(np.int32), post=post.astype(np.int32), weight=rng.normal(mean, spread, m), delay=delays)


def hard_lif(**changes: Any) -> LIF:
    return LIF(**{"tau_mem": 0.02, "v_threshold": 0.03, "reset": Reset.TO_VALUE, **changes})


@pytest.fixture(scope="session")
def connect() -> Callable[[Network], dict[str, Connections]]:
    def make(network: Network) -> dict[str, Connections]:
        found = {}
        for p in network.synaptic_projections:
            c = p.connect
            assert isinstance(c, Explicit)
            assert c.weight is not None
            assert c.delay is not None
            found[p.name] = Connections(pre=c.pre, post=c.post, weight=c.weight, delay=c.delay.astype(np.uint8))
        return found

    return make


@pytest.fixture(scope="session")
def build(connect: Callable[[Network], dict[str, Connections]]) -> Callable[..., Built]:
    """in (8) -> hid (20) -> out (2), hid -> hid; ``rule`` on in -> hid (and hid -> out for e-prop)."""

    def make(
        model: Any = None,
        rule: Any = None,
        *,
        mean: float = 0.02,
        spread: float = 0.01,
        readout: bool = False,
        delay: int = 1,
        dt: float = 1e-3,
    ) -> Built:
        rng = np.random.default_rng(7)
        learning = None if rule is None else rule.name
        populations = [
            Population(name="in", size=8, model=SpikeSource()),
            Population(name="hid", size=20, model=model or hard_lif()),
            Population(name="out", size=2, model=LeakyReadout(tau_mem=0.03)),
            Population(name="rew", size=2, model=SpikeSource(rate=5.0)),
        ]
        projections = (
            Projection(pre="in", post="hid", connect=explicit(rng, 8, 20, mean, spread, delay), learning=learning),
            Projection(pre="hid", post="hid", connect=explicit(rng, 20, 20, 0.0, 0.02, delay)),
            Projection(pre="hid", post="out", connect=explicit(rng, 20, 2, 0.0, 0.1, delay), learning=learning if readout else None),
        )
        network = Network(
            name="small",
            dt=dt,
            populations=tuple(populations),
            projections=projections,
            rules=() if rule is None else (rule,),
            task=Task(readout="out", sample_steps=30),
        )
        return network, connect(network)

    return make


@pytest.fixture(scope="session")
def spin5() -> Machine:
    return load_machine("spin5")


@pytest.fixture
def approximate() -> BuildOptions:
    return BuildOptions(allow_approximation=True)


@pytest.fixture
def strict() -> BuildOptions:
    return BuildOptions()


@pytest.fixture(scope="session")
def write_program(spin5: Machine) -> Callable[..., Path]:
    """Lower, emit and write a network, without a mapping, or mapped (``effort``; ``machine``: another than spin5); returns the build
    folder."""

    def write(
        folder: Path,
        network: Network,
        connections: dict[str, Connections],
        *,
        mapped: bool = False,
        machine: Machine = spin5,
        effort: str = "normal",
    ) -> Path:
        options = BuildOptions(allow_approximation=True, extra={"eprop": "r_stdp"})
        lowered = TARGET.lower(network, connections, machine, options)
        assert lowered.problem is not None
        mapping = map_network(lowered.problem, machine, MapOptions(seed=1, effort=effort)) if mapped else None
        for name, content in TARGET.emit(lowered, mapping, options).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        if mapping is not None:
            (folder / "mapping.npz").write_bytes(npz_bytes(mapping_arrays(mapping)))
        return folder

    return write


@pytest.fixture
def script(tmp_path: Path, write_program: Callable[..., Path], build: Callable[..., Built], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """run.py of the small network as a module; nothing of it is run."""
    path = write_program(tmp_path, *build()) / "program" / "run.py"
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("board", "pynn_network", "routes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    loader = SourceFileLoader("emitted_run", str(path))
    spec = importlib.util.spec_from_loader("emitted_run", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
