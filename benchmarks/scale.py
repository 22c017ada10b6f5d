"""Build and run a network as large as the machine holds: by default one million neurons with 100 plastic synapses each.

    python benchmarks/scale.py [--neurons 1000000] [--indegree 100] [--rate 5] [--threads N] [--precision float64|float32] [--seconds 1]

The network is given to the engine as a description, so its synapses are drawn where they are placed and never exist twice. JSON goes to
stdout (or --out), progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    given = parser.parse_args(words)
    if given.seconds < DT or given.warm_up < 0.0 or not given.rate > 0.0:
        parser.error("--seconds must be at least a step of 1 ms, --warm-up >= 0, --rate > 0")
    if not 1 <= given.indegree < given.neurons:
        parser.error(f"--indegree {given.indegree}: must lie in 1 .. {given.neurons - 1}, one less than --neurons")
    try:
        result = measure(given.neurons, given.indegree, given.rate, given.threads, given.precision, given.seconds, given.warm_up)
    except NeurocompileError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    text = json.dumps(result, indent=1)
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
