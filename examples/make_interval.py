"""Write the files of examples/interval_2020.yaml: the same 300 ms of frozen noise, and a target of three sine waves, forty times.

python examples/make_interval.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from neurocompile.ir.npz import save_npz

N_IN, STEPS, REPEATS = 50, 300, 40


def make(folder: Path) -> None:
    """Write interval_spikes.npz and interval_signal.npz. Sources begin their intervals in steps 0, 300, ..., readouts two steps later."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2020)
    step, neuron = np.nonzero(rng.random((STEPS, N_IN)) < 0.05)
    starts = STEPS * np.arange(REPEATS)
    spikes = {"neuron": np.tile(neuron, REPEATS).astype(np.int32), "step": (starts[:, None] + step).ravel().astype(np.int32)}
    save_npz(folder / "interval_spikes.npz", spikes)
    time = np.arange(STEPS) / STEPS
    waves = sum(rng.uniform(0.5, 2.0) * np.sin(2 * np.pi * (cycles * time + rng.uniform())) for cycles in (1, 2, 3))
    target = np.round(waves / np.abs(waves).max(), 6)
    whole = np.concatenate([[0.0, 0.0], np.tile(target, REPEATS)[:-2]])[:, None]
    save_npz(folder / "interval_signal.npz", {"target": whole, "window": np.ones(len(whole), bool)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent)
    make(parser.parse_args().folder)
