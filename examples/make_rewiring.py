"""Write the target of examples/rewiring.yaml: what a teacher makes of the few inputs that tell something.

    python examples/make_rewiring.py [--folder FOLDER]

The inputs are Poisson trains that follow from the description's seed, so the teacher, a network with the same inputs and dense weights from
the first N_INFORMATIVE of them, hears exactly what the network hears.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurocompile.backends.reference import Simulator
from neurocompile.ir import Explicit
from neurocompile.ir.npz import save_npz
from neurocompile.ir.read import read_network

N_INFORMATIVE, N_OUT, STEPS = 8, 3, 20_000


def make(folder: Path) -> None:
    """Write rewiring_signal.npz."""
    network = read_network(Path(__file__).resolve().parent / "rewiring.yaml")
    rng = np.random.default_rng(1)
    pre = np.concatenate([rng.permutation(N_INFORMATIVE)[:4] for _ in range(N_OUT)]).astype(np.int32)
    weight = np.tile([1.0, 1.0, -1.0, -1.0], N_OUT) * rng.uniform(0.3, 0.6, pre.size)
    taught = Explicit(pre=pre, post=np.repeat(np.arange(N_OUT, dtype=np.int32), 4), weight=weight)
    teacher = replace(network, projections=(replace(network.projections[0], connect=taught, learning=None),))
    target = Simulator(teacher).run(STEPS).outputs["out"]
    folder.mkdir(parents=True, exist_ok=True)
    save_npz(folder / "rewiring_signal.npz", {"target": np.round(target, 1), "window": np.ones(STEPS, bool)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent)
    make(parser.parse_args().folder)
