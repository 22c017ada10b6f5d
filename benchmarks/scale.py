"""Build and run a network as large as the machine holds: by default one million neurons with 100 plastic synapses each.

    python benchmarks/scale.py [--neurons 1000000] [--indegree 100] [--rate 5] [--threads N] [--precision float64|float32] [--seconds 1]
    python benchmarks/scale.py --sweep [--sizes 10000,100000,1000000] [--rates 1,5,20] [--out FILE]

--sweep asks how the cost of a simulated second grows with synaptic events: each size at --rate, and each rate at the smallest size, in a
process of its own. The network is given to the engine as a description, so its synapses are drawn where they are placed and never exist
twice. JSON goes to stdout (or --out), progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from eprop_results import write_whole
from eprop_setup import C_REG, DT, KAPPA, LEARNING_RATE, READOUTS, RECURRENT_SPREAD, TAU_MEM, THRESHOLD, signal, weight_for_rate
from eprop_worker import memory

from neurocompile.backends.reference import Simulator
from neurocompile.backends.reference.simulator import max_threads
from neurocompile.ir import (
    LIF,
    EProp,
    FixedInDegree,
    FixedOutDegree,
    GradientDescent,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    SpikeSource,
    Surrogate,
    Task,
)
from neurocompile.ir.errors import NeurocompileError
from neurocompile.ir.values import Constant

INPUTS, INPUT_RATE, INPUT_INDEGREE = 10_000, 10.0, 5
"""Static input: with the bias alone the membrane rests at half the threshold, Poisson spikes do the rest."""
_CHUNK_STEPS = 50


def network(neurons: int, indegree: int, rate: float, input_weight: float) -> Network:
    """Return the network: plastic recurrent synapses (fixed in-degree), one plastic readout synapse a neuron, static input."""
    rule = EProp(
        surrogate=Surrogate(height=0.5, width=0.6),
        kappa=KAPPA,
        kappa_reg=KAPPA,
        regularization=Regularization(strength=C_REG, rate=rate),
        feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
        optimizer=GradientDescent(learning_rate=LEARNING_RATE),
    )
    bias = 0.5 * THRESHOLD * (1.0 - math.exp(-DT / TAU_MEM))
    return Network(
        name="scale",
        dt=DT,
        seed=7,
        populations=(
            Population(name="in", size=INPUTS, model=SpikeSource(rate=INPUT_RATE)),
            Population(name="hidden", size=neurons, model=LIF(tau_mem=TAU_MEM, v_threshold=THRESHOLD, bias=bias)),
            Population(name="out", size=READOUTS, model=LeakyReadout(tau_mem=TAU_MEM)),
        ),
        projections=(
            Projection(pre="in", post="hidden", connect=FixedInDegree(degree=INPUT_INDEGREE), weight=Constant(value=input_weight)),
            Projection(
                pre="hidden",
                post="hidden",
                connect=FixedInDegree(degree=indegree, allow_autapses=False),
                weight=Normal(mean=0.0, std=RECURRENT_SPREAD / math.sqrt(indegree)),
                learning="eprop",
            ),
            Projection(
                pre="hidden",
                post="out",
                connect=FixedOutDegree(degree=1),
                weight=Normal(mean=0.0, std=math.sqrt(READOUTS / neurons)),
                learning="eprop",
            ),
        ),
        rules=(rule,),
        task=Task(readout="out"),
    )


def reporter() -> Callable[[str, int, int], None]:
    """Return a progress function that speaks at most once a second."""
    last = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1.0 or done >= total:
            last = now
            print(f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} million", file=sys.stderr, flush=True)

    return progress


def measure(neurons: int, indegree: int, rate: float, threads: int, precision: str, seconds: float, warm_up: float) -> dict[str, Any]:
    """Build, warm up, run, and return what it took."""
    input_weight = weight_for_rate(network(2000, min(indegree, 100), rate, 1.0), "in->hidden", rate)
    described = network(neurons, indegree, rate, input_weight)
    base, began = memory("VmRSS"), time.perf_counter()
    simulator = Simulator(described, algorithm="anchored", precision=precision, threads=threads, progress=reporter())
    build_s, built = time.perf_counter() - began - simulator.compile_s, memory("VmRSS")

    def run(n_steps: int) -> tuple[float, int, int]:
        wall, spikes, events = 0.0, 0, 0
        for first in range(0, n_steps, _CHUNK_STEPS):
            n = min(_CHUNK_STEPS, n_steps - first)
            recording = simulator.run(n, signals={"out": signal(simulator.step, n)})
            wall, spikes = wall + recording.wall_s, spikes + recording.n_spikes["hidden"]
            events += recording.n_synaptic_events - INPUT_INDEGREE * neurons * recording.n_spikes["in"] // INPUTS
            print(f"step {simulator.step}: {recording.wall_s / (n * DT):.2f} s a simulated s", file=sys.stderr, flush=True)
        return wall, spikes, events

    run(round(warm_up / DT))
    load = os.getloadavg()
    wall, spikes, events = run(round(seconds / DT))
    plastic = neurons * indegree + neurons
    return {
        "neurons": neurons,
        "indegree": indegree,
        "plastic_synapses": plastic,
        "threads": threads,
        "precision": precision,
        "warm_up_s": warm_up,
        "simulated_s": seconds,
        "build_s": build_s,
        "compile_s": simulator.compile_s,
        "wall_s": wall,
        "wall_per_simulated_s": wall / seconds,
        "hidden_rate_hz": spikes / (neurons * seconds),
        "spikes": spikes,
        "plastic_events_about": events,
        "ns_per_event": 1e9 * wall / events if events else None,
        "ns_per_neuron_step": 1e9 * wall / (neurons * seconds / DT),
        "bytes_per_plastic_synapse": simulator.bytes_per_plastic_synapse(),
        "base_mib": base,
        "built_mib": built,
        "peak_mib": memory("VmHWM"),
        "load_average": {"start": load, "end": os.getloadavg()},
    }


def exponent(points: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the power of the synaptic events with which wall time grows (1: linear), by least squares of the logarithms; None if there
    are fewer than two different numbers of events."""
    pairs = [(p["plastic_events_about"] / p["simulated_s"], p["wall_per_simulated_s"]) for p in points if p["plastic_events_about"] > 0]
    if len({events for events, _ in pairs}) < 2:
        return None
    events, walls = np.log(np.array(pairs)).T
    return float(np.polyfit(events, walls, 1)[0])


def costs(points: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Fit wall = a neurons steps + b events by relative least squares; both costs in ns, and the largest relative residual."""
    rows = [
        (p["neurons"] * p["simulated_s"] / DT / p["wall_s"] / 1e9, p["plastic_events_about"] / p["wall_s"] / 1e9)
        for p in points
        if p["wall_s"] > 0
    ]
    if len(set(rows)) < 2:
        return {}
    (a, b), *_ = np.linalg.lstsq(np.array(rows), np.ones(len(rows)), rcond=None)
    residual = float(np.abs(np.array(rows) @ [a, b] - 1.0).max())
    return {"ns_per_neuron_step": float(a), "ns_per_event": float(b), "largest_relative_residual": residual}


def sweep(given: argparse.Namespace) -> int:
    """Measure all sizes and rates, each in a process of its own; what is there is written after each. 1 if one failed."""
    wanted = [(n, given.rate) for n in given.sizes] + [(min(given.sizes), r) for r in given.rates]
    points: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for neurons, rate in dict.fromkeys(wanted):
        print(f"{neurons:,} neurons at {rate:g} Hz", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "point.json"
            options = {
                "neurons": neurons, "rate": rate, "indegree": given.indegree, "threads": given.threads, "precision": given.precision,
                "seconds": given.seconds, "warm-up": given.warm_up, "out": out,
            }  # fmt: skip
            words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
            code = subprocess.run([sys.executable, __file__, *words], check=False).returncode
            if code == 0:
                points.append({"wanted_rate_hz": rate, **json.loads(out.read_text())})
            else:
                failed.append({"neurons": neurons, "wanted_rate_hz": rate, "exit_status": code})
        result = {
            "points": points,
            "failed": failed,
            "exponent_by_size": exponent(p for p in points if p["wanted_rate_hz"] == given.rate),
            "exponent_by_rate": exponent(p for p in points if p["neurons"] == min(given.sizes)),
            "fit": costs(points),
        }
        if given.out is not None:
            write_whole(given.out, json.dumps(result, indent=1) + "\n")
    if given.out is None:
        print(json.dumps(result, indent=1))
    return 1 if failed else 0


def _numbers(kind: type) -> Callable[[str], tuple[Any, ...]]:
    def parse(text: str) -> tuple[Any, ...]:
        try:
            found = tuple(kind(word) for word in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers such as 10,100") from None
        if not all(x > 0 for x in found):
            raise argparse.ArgumentTypeError(f"'{text}': all must be above 0")
        return found

    return parse


def main(words: list[str] | None = None) -> int:
    """Entry point; the exit code of the error if the network cannot be built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=1_000_000)
    parser.add_argument("--indegree", type=int, default=100, help="plastic recurrent synapses of a neuron")
    parser.add_argument("--rate", type=float, default=5.0, help="wanted firing rate, Hz; the measured one is reported")
    parser.add_argument("--threads", type=int, default=max_threads())
    parser.add_argument("--precision", choices=("float64", "float32"), default="float64")
    parser.add_argument("--seconds", type=float, default=1.0, help="simulated time that is measured")
    parser.add_argument("--warm-up", type=float, default=0.2, help="simulated time before it")
    parser.add_argument("--out", type=Path, help="write the JSON here instead of to stdout")
    parser.add_argument("--sweep", action="store_true", help="measure --sizes and --rates instead of one network")
    parser.add_argument("--sizes", type=_numbers(int), default=(10_000, 100_000, 1_000_000), help="of --sweep")
    parser.add_argument("--rates", type=_numbers(float), default=(1.0, 5.0, 20.0), help="of --sweep, Hz")
    given = parser.parse_args(words)
    if given.seconds < DT or given.warm_up < 0.0 or not given.rate > 0.0:
        parser.error("--seconds must be at least a step of 1 ms, --warm-up >= 0, --rate > 0")
    fewest = min(given.sizes) if given.sweep else given.neurons
    if not 1 <= given.indegree < fewest:
        parser.error(f"--indegree {given.indegree}: must lie in 1 .. {fewest - 1}, one less than --{'sizes' if given.sweep else 'neurons'}")
    if given.sweep:
        return sweep(given)
    try:
        result = measure(given.neurons, given.indegree, given.rate, given.threads, given.precision, given.seconds, given.warm_up)
    except NeurocompileError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    text = json.dumps(result, indent=1)
    if given.out is None:
        print(text)
    else:
        write_whole(given.out, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
