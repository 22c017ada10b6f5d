"""Write the files of examples/pattern.yaml: weights, feedback, frozen noise, and a target that sums four sine waves.

    python examples/make_pattern.py            # the files that are committed
    python examples/make_pattern.py --repeats 50 --folder /tmp/pattern    # the same second, fifty times: enough to learn it

The task is the regression of NEST's e-prop tutorials (Bellec et al. 2020): one second of frozen noise, one readout.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from neurocompile.ir.npz import save_npz

N_IN, N_HIDDEN, STEPS = 100, 100, 1000


def make(folder: Path, repeats: int) -> None:
    """Write in_hidden.npz, feedback.npz, pattern_spikes.npz and pattern_signal.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    post, pre = np.nonzero(rng.random((N_HIDDEN, N_IN)) < 0.3)
    weight = np.round(rng.normal(0.0, 0.015 / np.sqrt(0.3 * N_IN), pre.size), 6)
    save_npz(folder / "in_hidden.npz", {"pre": pre.astype(np.int32), "post": post.astype(np.int32), "weight": weight})
    every = np.arange(N_HIDDEN, dtype=np.int32)
    save_npz(folder / "feedback.npz", {"pre": np.zeros_like(every), "post": every, "weight": np.round(rng.normal(0.0, 1.0, N_HIDDEN), 6)})
    step, neuron = np.nonzero(rng.random((STEPS, N_IN)) < 0.05)
    starts = STEPS * np.arange(repeats)
    spikes = {"neuron": np.tile(neuron, repeats).astype(np.int32), "step": (starts[:, None] + step).ravel().astype(np.int32)}
    save_npz(folder / "pattern_spikes.npz", spikes)
    time = np.arange(STEPS) / STEPS
    waves = sum(rng.uniform(0.5, 2.0) * np.sin(2 * np.pi * (hertz * time + rng.uniform())) for hertz in (1.0, 2.0, 3.0, 5.0))
    target = np.round(waves / np.abs(waves).max(), 6)[:, None]
    save_npz(folder / "pattern_signal.npz", {"target": np.tile(target, (repeats, 1)), "window": np.ones(repeats * STEPS, bool)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.repeats)
