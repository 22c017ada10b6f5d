"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# A test run is a verdict on a commit: the same commit gives the same one. NEUROCOMPILE_NEW_EXAMPLES=1 draws new examples each time.
settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("NEUROCOMPILE_NEW_EXAMPLES"):
    settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C works, here and in child processes, although a shell that starts pytest in the background makes it be ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data beside the checkout; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}")
    return folder


CUBA = {"type": b"CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False}


def _write_netx(path: Path, layers: Sequence[Mapping[str, Any]], *, ts: float | None = None) -> Path:
    with h5py.File(path, "w") as file:
        if ts is not None:
            file["simulation/Ts"] = ts
        for number, layer in enumerate(layers):
            group = file.create_group(f"layer/{number}")
            given = {"neuron": CUBA} | layer if layer["type"] not in {"flatten", "input"} else layer
            for key, value in given.items():
                if key == "type":
                    group.create_dataset("type", (1,), "S10", np.array([str(value).encode()]))
                elif isinstance(value, Mapping):
                    for name, entry in value.items():
                        group[f"{key}/{name}"] = entry
                elif value is not None:
                    group[key] = value
    return path


@pytest.fixture(scope="session")
def write_netx() -> Callable[..., Path]:
    """Write a netx file of lava-dl: (path, layers as mappings of data sets, ts); CUBA neurons unless ``neuron`` says otherwise or None."""
    return _write_netx
