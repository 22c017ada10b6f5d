"""Learning connections in Lava side by side: ours (``Plastic``), Lava's LearningDense and LearningSparse. Same rule, network and input.

    python benchmarks/loihi2_learning.py [--sizes 256,1000] [--turns 3] [--seconds 3] [--out FILE]

Every contestant runs in an interpreter of its own, in turns; steps/s are those of its second run (the first, of ``SAME`` steps, starts the
processes and gives the weights that are compared). JSON goes to stdout (or --out), progress to stderr. docs/benchmarks.md has figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata, resources
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CONTESTANTS = ("plastic", "learning_dense", "learning_sparse")
DENSITY, RATE, SAME = 0.1, 0.02, 60
"""Share of the pairs that have a synapse, spikes per source and step, steps after which weights are compared."""
RULES: dict[str, dict[str, dict[str, str]]] = {
    "two_products": {
        "floating_pt": {"dw": "2^-7*u0*x1*y1 - 2^-7*x0*y1"},
        "fixed_pt": {"dw": "2^-5*u0*x1*y1 - 2^-4*x0*y1"},
    },
    "eprop": {
        "floating_pt": {"dt": "u0*x1*y2 - x0*y2 - 2^-5*u0*t", "dw": "2^-7*u0*t*y3"},
        "fixed_pt": {
            "dt": "2^-7*u0*x1*y2 - 2^-6*x0*y2 - 2^-5*u0*t",
            "dd": "-2^-5*u0*t*y3 - 2^2*u0*(d-32)*y1",
            "dw": "-1*u0*(d-32)*y1",
        },
    },
}
"""A rule without synaptic state, which Lava's three learning connections compute, and the form that the compiler emits for e-prop."""
CANNOT = {
    ("learning_sparse", "eprop"): "Lava's LearningSparse fails with rules that contain t or d (lava issue 851)",
}


def network(size: int) -> dict[str, Any]:
    """Return synapses (sorted by target, as realised networks are), weights, and third factors of 64 steps, which repeat."""
    rng = np.random.default_rng([size, 1])
    post, pre = np.nonzero(rng.random((size, size)) < DENSITY)
    return {
        "pre": pre,
        "post": post,
        "weight": 2 * rng.integers(1, 40, len(pre)) * rng.choice([-1, 1], len(pre)),
        "y1": rng.integers(-16, 17, (64, size)),
        "y2": rng.integers(0, 128, (64, size)),
        "y3": 32 * rng.integers(-3, 4, (64, size)),
    }


def write_processes(folder: Path) -> None:
    """Write the processes of an emitted program."""
    root = resources.files("neurocompile.backends.loihi2") / "templates" / "program" / "processes"
    for name in ("__init__.py", "arithmetic.py", "plasticity/__init__.py", "plasticity/plastic.py", "host/__init__.py", "host/host.py"):
        path = folder / "processes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(root.joinpath(f"{name}.tmpl").read_text("utf-8"), "utf-8")


def work(contestant: str, size: int, rule: str, precision: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Run one contestant: ``SAME`` steps, whose weights are saved, then steps for some seconds."""
    sys.path.insert(0, str(folder))
    from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.process import LearningDense
    from lava.proc.sparse.process import LearningSparse
    from lava.utils.weightutils import SignMode
    from processes.host.host import Signal, SpikeInput  # type: ignore[import-not-found]
    from processes.plasticity.plastic import Plastic  # type: ignore[import-not-found]
    from scipy.sparse import csr_matrix

    given = network(size)
    fixed = precision == "fixed_pt"
    number = np.int32 if fixed else np.float64
    pre, post, weight = given["pre"], given["post"], given["weight"].astype(number)
    steps = 100_000
    drawn = np.random.default_rng([size, 2]).random((1000, size)) < RATE
    step, neuron = np.nonzero(np.tile(drawn, (steps // 1000, 1)))
    source = SpikeInput(shape=(size,), neuron=neuron, start=np.searchsorted(step, np.arange(steps + 1)))
    low_bits = fixed and rule == "eprop"
    learned = Loihi3FLearningRule(**RULES[rule][precision], x1_impulse=16, x1_tau=20, t_epoch=1, rng_seed=7)
    ends = (post, pre)
    if contestant == "plastic":
        connection = Plastic(
            shape=(size, size), pre=pre, post=post, weights=weight, weight_exp=0, weight_range=(-256, 255), learning_rule=learned,
            steps=SAME, path=str(folder / "plastic.npy"), tag=0, tag_2=30 if low_bits else 0,
        )  # fmt: skip
    else:
        options = {"learning_rule": learned, "sign_mode": SignMode.MIXED}
        matrix = csr_matrix((weight, ends), shape=(size, size))
        if contestant == "learning_sparse":
            connection = LearningSparse(weights=matrix, **options)
        else:
            tag_2 = np.full((size, size), 30 if low_bits else 0)
            connection = LearningDense(weights=matrix.toarray(), tag_1=np.zeros((size, size)), tag_2=tag_2, **options)
    source.s_out.connect(connection.s_in)
    for name in ("y1", "y2", "y3"):
        if any(name in text for text in RULES[rule][precision].values()):
            values = np.tile(given[name], (steps // 64, 1)).astype(number)
            Signal(shape=(size,), values=values).s_out.connect(getattr(connection, f"s_in_{name}"))
    config = Loihi2SimCfg(select_tag=precision)
    started = time.perf_counter()
    try:
        source.run(condition=RunSteps(num_steps=SAME), run_cfg=config)
        start_s = time.perf_counter() - started
        if contestant == "plastic":
            weights = np.load(folder / "plastic.npy")[0]
        else:
            stored = connection.weights.get()
            dense = np.asarray(stored.todense() if hasattr(stored, "todense") else stored)
            weights = dense[ends]
            grown = int(((dense != 0) & (matrix.toarray() == 0)).sum())
        source.run(condition=RunSteps(num_steps=10), run_cfg=config)
        n, took = 10, 0.0
        while took < seconds and n < steps // 4:
            n = n if took == 0 else int(min(4 * n, n * seconds / took * 1.2 + 1))
            begin = time.perf_counter()
            source.run(condition=RunSteps(num_steps=n), run_cfg=config)
            took = time.perf_counter() - begin
    finally:
        source.stop()
    np.save(folder / f"{contestant}.weights.npy", weights)
    answer: dict[str, Any] = {"steps": n, "wall_s": took, "start_s": start_s, "moved": int((weights != weight).sum())}
    return answer | ({} if contestant == "plastic" else {"zeros_that_grew": grown})


def measure(size: int, rule: str, precision: str, turns: int, seconds: float) -> dict[str, Any]:
    """Run all contestants in turns; compare their weights with ours."""
    found: dict[str, Any] = {"size": size, "rule": rule, "precision": precision, "skipped": {}, "contestants": {}}
    answers: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="nc-", dir="/tmp" if os.access("/tmp", os.W_OK) else None) as name:  # noqa: S108 - short: sockets
        folder = Path(name)
        write_processes(folder)
        for _ in range(turns):
            for contestant in CONTESTANTS:
                if reason := CANNOT.get((contestant, rule)):
                    found["skipped"][contestant] = reason
                    continue
                job = json.dumps([contestant, size, rule, precision, seconds, name])
                done = subprocess.run([sys.executable, __file__, "--worker", job], capture_output=True, text=True, timeout=600, check=False)
                if done.returncode != 0:
                    raise SystemExit(f"{contestant}, {size}, {rule}, {precision}:\n{done.stderr[-3000:]}")
                answers.setdefault(contestant, []).append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{size} {rule} {precision} {contestant}: {answers[contestant][-1]}", file=sys.stderr, flush=True)
        ours = np.load(folder / "plastic.weights.npy")
        for contestant, runs in answers.items():
            speeds = [run["steps"] / run["wall_s"] for run in runs]
            theirs = np.load(folder / f"{contestant}.weights.npy")
            row = {"steps_per_s": max(speeds), "median_steps_per_s": median(speeds), "start_s": min(r["start_s"] for r in runs)}
            row |= {k: v for k, v in runs[-1].items() if k in {"moved", "zeros_that_grew"}}
            if contestant != "plastic":
                row |= {"same_weights": bool(np.array_equal(ours, theirs)), "largest_difference": float(np.abs(ours - theirs).max())}
            found["contestants"][contestant] = row
    best = found["contestants"]["plastic"]
    for contestant, row in found["contestants"].items():
        if contestant != "plastic":
            best[f"times_faster_than_{contestant}"] = best["steps_per_s"] / row["steps_per_s"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256,1000", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--rules", default="two_products,eprop", type=lambda text: text.split(","))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of the timed run of each contestant")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        *job, folder = json.loads(args.worker)
        print(json.dumps(work(*job, Path(folder))))
        return
    points: list[dict[str, Any]] = []
    result = {
        "format": 1,
        "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__},
        "versions": {"lava-nc": metadata.version("lava-nc")},
        "density": DENSITY,
        "spikes_per_step": RATE,
        "load_before": os.getloadavg(),
        "points": points,
    }
    for size in args.sizes:
        for rule in args.rules:
            points += [measure(size, rule, precision, args.turns, args.seconds) for precision in ("floating_pt", "fixed_pt")]
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
