"""A learning network in the twin of the loihi2 target beside its emitted program in Lava on the CPU: steps per second, and equality.

python benchmarks/loihi2_twin.py [--neurons 1000] [--probability 0.1] [--lava-steps 150] [--twin-steps 3000]

The network: as many sources as hidden neurons / 10, all projections plastic (e-prop), recurrent with the probability, 10 readouts.
Compiling and starting are not counted for either. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.loihi2 import TARGET
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.stimulus import random_inputs, random_signals
from neurocompile.backends.loihi2.twin import Twin
from neurocompile.backends.loihi2.validate import compare_learning, compare_static, load_program, run_program
from neurocompile.ir import (
    LIF,
    AllToAll,
    EProp,
    FixedProbability,
    GradientDescent,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    SpikeSource,
    Surrogate,
    Task,
)
from neurocompile.ir.realise import realise_all


def network(n: int, probability: float, *, rate: float = 1e-4) -> Network:
    """Return a recurrent network whose projections all learn by e-prop."""
    fan_in = n * probability

    def plastic(pre: str, post: str, connect: Any, size: float) -> Projection:
        return Projection(pre=pre, post=post, connect=connect, weight=Normal(mean=0.0, std=size), learning="eprop")

    rule = EProp(
        surrogate=Surrogate(height=0.3, width=0.6),
        kappa=0.9375,
        kappa_reg=0.9375,
        feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
        optimizer=GradientDescent(learning_rate=rate),
    )
    return Network(
        name="benchmark",
        dt=1e-3,
        populations=(
            Population(name="in", size=max(1, n // 10), model=SpikeSource()),
            Population(name="h", size=n, model=LIF(tau_mem=0.02, v_threshold=0.6)),
            Population(name="out", size=10, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=(
            plastic("in", "h", FixedProbability(probability=0.5), 0.12 / np.sqrt(n / 1000)),
            plastic("h", "h", FixedProbability(probability=probability), 0.2 / np.sqrt(fan_in)),
            plastic("h", "out", AllToAll(), 0.05),
        ),
        rules=(rule,),
        task=Task(readout="out"),
    )


def compare(n: int, probability: float, *, lava_steps: int, twin_steps: int) -> dict[str, Any]:
    """Run both and return what was measured."""
    described = network(n, probability)
    lowered = TARGET.lower(described, realise_all(described), None, BuildOptions(extra={"tune": "0"}))
    assert isinstance(lowered, Loihi2Network)
    with tempfile.TemporaryDirectory() as folder:
        for path, content in TARGET.emit(lowered, None, BuildOptions()).items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(content)
        program = Path(folder) / "program"
        spec, arrays = load_program(program)
        inputs, signals = random_inputs(described, steps=twin_steps), random_signals(described, steps=twin_steps)
        Twin(spec, arrays, learning=True).run(2, inputs, signals)  # compiles
        same = Twin(spec, arrays, learning=True).run(lava_steps, inputs, signals)
        results, summary = run_program(program, steps=lava_steps, inputs=inputs, signals=signals, flags=["--state"])
        checks = compare_static(results, same, spec) + compare_learning(results, same, spec)
        twin = Twin(spec, arrays, learning=True)
        began = time.perf_counter()
        done = twin.run(twin_steps, inputs, signals)
        seconds = time.perf_counter() - began
    lava = (lava_steps - 1) / summary["wall_s"]
    return {
        "neurons": n,
        "plastic_synapses": summary["n_plastic_synapses"],
        "rate_hz": len(done.spikes["h"].step) / n / twin_steps / described.dt,
        "lava_steps_per_s": lava,
        "twin_steps_per_s": twin_steps / seconds,
        "twin_over_lava": twin_steps / seconds / lava,
        "ns_per_synapse_and_step": seconds / twin_steps / summary["n_plastic_synapses"] * 1e9,
        "checks": len(checks),
        "checks_failed": [c.name for c in checks if not c.ok],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neurons", type=int, default=1000)
    parser.add_argument("--probability", type=float, default=0.1)
    parser.add_argument("--lava-steps", type=int, default=150)
    parser.add_argument("--twin-steps", type=int, default=3000)
    given = parser.parse_args()
    result = compare(given.neurons, given.probability, lava_steps=given.lava_steps, twin_steps=given.twin_steps)
    print(json.dumps(result, indent=1))
