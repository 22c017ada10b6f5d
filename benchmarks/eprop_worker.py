"""One contestant of ``eprop.py`` in a process of its own, so that its memory is its own; or the other end of the pipe to it.

A worker is started with what to run, builds it, and then waits for commands, one JSON object a line on stdin, answered by one on stdout.
The parent can so run contestants in turns, step by step through the same simulated time.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt
from eprop_dense import DenseForm, needed_bytes
from eprop_setup import (
    C_REG,
    DT,
    INPUT_INDEGREE,
    KAPPA,
    LEARNING_RATE,
    READOUTS,
    TAU_MEM,
    THRESHOLD,
    Point,
    input_spikes,
    network,
    signal,
    targets,
)

from neurocompile.backends.reference import Simulator
from neurocompile.ir import EProp
from neurocompile.ir.realise import iter_chunks, realise_all, realise_feedback
from neurocompile.ir.signals import Spikes

Answer = dict[str, Any]
ENGINES = {
    "anchored": {"algorithm": "anchored"},
    "anchored_float32": {"algorithm": "anchored", "precision": "float32"},
    "loop": {"algorithm": "loop"},
}
CONTESTANTS = (*ENGINES, "nest", "nest_cutoff", "dense")
NEST_CUTOFF_MS = 100.0
"""The cutoff of NEST's own examples. It changes the rule, so weights of ``nest_cutoff`` are not compared."""
DENSE_LIMIT = 2**29
WHOLE, SAMPLE = 120_000, 40_000
"""NEST needs some 50 microseconds to tell a synapse's weight: where a projection has more than ``WHOLE`` synapses it is asked for those of
its first targets alone, about ``SAMPLE`` in all."""
MEASURABLE_MIB = 8.0
"""A smaller growth says nothing: memory that Python has given back is used first."""
_MIB = 1 / 1024


def memory(field: str) -> float:
    """Return a field of this process's status in MiB: RssAnon (what it holds now, without files), VmRSS (with them), VmHWM (its peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * _MIB
    raise KeyError(field)


def why_not(contestant: str, point: Point, threads: int) -> str | None:
    """Return why a contestant cannot run a point, None if it can."""
    if contestant.startswith("nest"):
        return None if importlib.util.find_spec("nest") else "NEST is not installed (pip install 'nest-simulator>=3.10,<3.11')"
    if contestant == "loop" and threads > 1:
        return "the loop runs on one thread"
    if contestant == "dense":
        if threads > 1:
            return "the dense form is measured on one thread"
        needed = needed_bytes(point.n_inputs + point.size, point.size)
        if needed > DENSE_LIMIT:
            return f"all pairs need {needed / 2**30:.1f} GiB and as many passes over it as there are steps"
    return None


class Contestant(Protocol):
    """What the worker asks of a simulator that has been built."""

    def run(self, first: int, n_steps: int) -> Answer:
        """Run ``n_steps`` steps from step ``first`` on; return at least ``wall_s``, the time of the stepping alone."""

    def weights(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """Return weights in canonical order: all of a projection, or those of its first targets."""

    def facts(self) -> Answer:
        """Return what is known after the last run."""


class OurEngine:
    def __init__(self, point: Point, contestant: str, threads: int, window_steps: int | None) -> None:
        options: dict[str, Any] = {**ENGINES[contestant]}
        if contestant != "loop":
            options |= {"threads": threads, "window_steps": window_steps}
        self.simulator = Simulator(network(point), **options)
        self.spikes = input_spikes(point)
        self.size = point.size

    def about(self) -> Answer:
        """Return what is known before a run; ``build_s`` includes ``compile_s``, which is long where no cache has the kernels yet."""
        return {"compile_s": self.simulator.compile_s, "algorithm": self.simulator.algorithm}

    def run(self, first: int, n_steps: int) -> Answer:
        recording = self.simulator.run(n_steps, spikes={"in": self.spikes}, signals={"out": signal(first, n_steps)})
        return {"wall_s": recording.wall_s, "spikes": recording.n_spikes["hidden"], "events": recording.n_synaptic_events}

    def weights(self) -> Mapping[str, npt.NDArray[np.float64]]:
        return self.simulator.weights()

    def facts(self) -> Answer:
        return {"bytes_per_synapse": self.simulator.bytes_per_plastic_synapse(), "ns_per_silent_neuron_step": self._silent()}

    def _silent(self, n_steps: int = 300) -> float:
        """Return the cost of a neuron and step when nothing spikes."""
        self.simulator.reset_dynamics()
        nothing = {"in": Spikes(neuron=np.zeros(0, np.int32), step=np.zeros(0, np.int64))}
        walls = []
        for _ in range(8):
            recording = self.simulator.run(n_steps, spikes=nothing, signals={"out": signal(1, n_steps)})
            if recording.n_synaptic_events:
                raise RuntimeError("a network without input is not silent")
            walls.append(recording.wall_s)
        return 1e9 * min(walls) / (n_steps * self.size)


class Dense:
    def __init__(self, point: Point) -> None:
        net = network(point)
        feedback = realise_feedback(net, _rule(net.rules[0]), "hidden")
        assert feedback is not None
        self.form = DenseForm(net, realise_all(net), feedback)
        spikes = input_spikes(point)
        cuts = np.searchsorted(spikes.step, np.arange(point.total_steps + 1))
        self.inputs = [spikes.neuron[a:b].astype(np.int64) for a, b in itertools.pairwise(cuts)]

    def run(self, first: int, n_steps: int) -> Answer:
        rows = signal(first, n_steps)
        before, began = self.form.n_spikes, time.perf_counter()
        self.form.run(self.inputs[first : first + n_steps], targets(), rows.window)
        return {"wall_s": time.perf_counter() - began, "spikes": self.form.n_spikes - before}

    def weights(self) -> Mapping[str, npt.NDArray[np.float64]]:
        return {name: self.form.weights(name) for name in self.form.places}

    def facts(self) -> Answer:
        return {}


def _rule(rule: object) -> EProp:
    assert isinstance(rule, EProp)
    return rule


class Nest:
    """The same network in NEST: the same synapses, weights, input and signals (the reference engine's tests have the same mapping)."""

    def __init__(self, point: Point, threads: int, cutoff_ms: float | None) -> None:
        import nest

        nest.verbosity = nest.VerbosityLevel.ERROR
        nest.ResetKernel()
        nest.set(resolution=DT * 1e3, local_num_threads=threads)
        self.nest, self.point, self.same_rule = nest, point, cutoff_ms is None
        tau = TAU_MEM * 1e3
        common: dict[str, Any] = {"C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "I_e": 0.0, "tau_m": tau}
        cutoff = {} if cutoff_ms is None else {"eprop_isi_trace_cutoff": cutoff_ms}
        hidden: dict[str, Any] = {
            **common,
            **cutoff,
            "t_ref": 0.0,
            "V_th": THRESHOLD,
            "c_reg": C_REG,
            "f_target": point.rate,
            "kappa": KAPPA,
        }
        hidden |= {"kappa_reg": KAPPA, "surrogate_gradient_function": "piecewise_linear"}
        hidden |= {"surrogate_gradient_height": 0.5, "surrogate_gradient_width": 0.6}
        self.nodes = {
            "in": nest.Create("parrot_neuron", point.n_inputs),
            "hidden": nest.Create("eprop_iaf", point.size, hidden),
            "out": nest.Create("eprop_readout", READOUTS, {**common, **cutoff}),
        }
        spikes = input_spikes(point)
        order = np.lexsort((spikes.step, spikes.neuron))
        times = np.split(spikes.step[order] * DT * 1e3, np.cumsum(np.bincount(spikes.neuron, minlength=point.n_inputs))[:-1])
        generators = nest.Create("spike_generator", point.n_inputs, [{"spike_times": t} for t in times])
        nest.Connect(generators, self.nodes["in"], "one_to_one", {"delay": DT * 1e3})
        optimizer = {"type": "gradient_descent", "batch_size": 1, "eta": LEARNING_RATE, "optimize_each_step": False}
        nest.SetDefaults("eprop_synapse", {"optimizer": {**optimizer, "Wmin": -100.0, "Wmax": 100.0}})
        net = network(point)
        next(iter_chunks(net, net.projections[0], max_synapses=1))  # loads compiled code, which is not NEST's memory
        first = {name: int(np.min(nodes.tolist())) for name, nodes in self.nodes.items()}
        self.first, before, self.n_plastic = first, memory("RssAnon"), 0
        for projection in net.synaptic_projections:
            for chunk in iter_chunks(net, projection, max_synapses=200_000):
                c = chunk.connections
                pre, post = c.pre.astype(np.int64) + first[projection.pre], c.post.astype(np.int64) + first[projection.post]
                spec = {"synapse_model": "eprop_synapse", "weight": c.weight.astype(np.float64), "delay": np.full(len(c), DT * 1e3)}
                nest.Connect(pre, post, "one_to_one", spec)
                self.n_plastic += len(c)
        self.connected_mib = memory("RssAnon") - before
        feedback = realise_feedback(net, _rule(net.rules[0]), "hidden")
        assert feedback is not None
        back = {"synapse_model": "eprop_learning_signal_connection", "weight": feedback.T.copy(), "delay": DT * 1e3}
        nest.Connect(self.nodes["out"], self.nodes["hidden"], "all_to_all", back)
        signals = {"synapse_model": "rate_connection_delayed", "delay": DT * 1e3}
        window = nest.Create("step_rate_generator", 1, {"amplitude_times": [DT * 1e3], "amplitude_values": [1.0]})
        nest.Connect(window, self.nodes["out"], "all_to_all", {**signals, "receptor_type": 1})
        for index, target in enumerate(targets()):
            generator = nest.Create("step_rate_generator", 1, {"amplitude_times": [DT * 1e3], "amplitude_values": [float(target)]})
            nest.Connect(generator, self.nodes["out"][index], "all_to_all", {**signals, "receptor_type": 2})
        self.recorder = nest.Create("spike_recorder")
        nest.Connect(self.nodes["hidden"], self.recorder)
        self.spikes, self.built_mib, self.run_mib = 0, memory("RssAnon"), 0.0
        nest.Prepare()

    def run(self, first: int, n_steps: int) -> Answer:
        if first != round(self.nest.biological_time / (DT * 1e3)):
            raise RuntimeError(f"NEST is at {self.nest.biological_time} ms, not at step {first}")
        began = time.perf_counter()
        self.nest.Run(n_steps * DT * 1e3)
        wall = time.perf_counter() - began
        self.run_mib = memory("RssAnon")
        before, self.spikes = self.spikes, int(self.recorder.n_events)
        return {"wall_s": wall, "spikes": self.spikes - before}

    def weights(self) -> Mapping[str, npt.NDArray[np.float64]]:
        found: dict[str, npt.NDArray[np.float64]] = {}
        if not self.same_rule:
            return found
        degrees = {"in->hidden": INPUT_INDEGREE, "hidden->hidden": self.point.indegree, "hidden->out": self.point.size}
        for name, degree in degrees.items():
            pre, post = (self.nodes[end] for end in name.split("->"))
            if degree * len(post) > WHOLE:
                post = post[: max(1, SAMPLE // degree)]
            values = self.nest.GetConnections(pre, post, synapse_model="eprop_synapse").get(["source", "target", "weight"])
            canonical = np.lexsort((values["source"], values["target"]))
            found[name] = np.array(values["weight"])[canonical]
        return found

    def facts(self) -> Answer:
        return {
            "bytes_per_synapse": self.connected_mib * 2**20 / self.n_plastic if self.connected_mib > MEASURABLE_MIB else None,
            "mib_grown_in_the_run": self.run_mib - self.built_mib,
        }


def build(point: Point, contestant: str, threads: int, window_steps: int | None) -> Contestant:
    """Build a contestant."""
    if contestant in ENGINES:
        return OurEngine(point, contestant, threads, window_steps)
    if contestant == "dense":
        return Dense(point)
    return Nest(point, threads, NEST_CUTOFF_MS if contestant == "nest_cutoff" else None)


def serve(given: argparse.Namespace, answers: TextIO) -> None:
    """Build the contestant, then do what is asked until stdin ends."""

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    point = Point(**json.loads(given.point))
    base, began = memory("VmRSS"), time.perf_counter()
    contestant = build(point, given.contestant, given.threads, given.window)
    build_s = time.perf_counter() - began
    answer(build_s=build_s, base_mib=base, **(contestant.about() if isinstance(contestant, OurEngine) else {}))
    step, peak = 0, 0.0
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "run":
            cpu = time.process_time()
            done = contestant.run(step, command["steps"])
            step, peak = step + command["steps"], memory("VmHWM")
            answer(**done, cpu_s=time.process_time() - cpu)
        else:  # after the last run: weights first, since facts may reset the network
            np.savez(command["file"], **contestant.weights())
            answer(peak_mib=peak, **contestant.facts())


class Worker:
    """The parent's end of a worker."""

    def __init__(self, point: Point, contestant: str, *, threads: int = 1, window_steps: int | None = None) -> None:
        words = ["--point", json.dumps(asdict(point)), "--threads", str(threads)]
        words += [] if window_steps is None else ["--window", str(window_steps)]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # NEST is told its own number
        self._process = subprocess.Popen(
            [sys.executable, __file__, contestant, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYNEST_QUIET": "1", **(one if not contestant.startswith("nest") else {})},
        )
        self.contestant = contestant
        try:
            self.built = self._answer()
        except RuntimeError:
            self._end()
            raise

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(f"{self.contestant} ended with status {self._process.returncode}")
        try:
            found: Answer = json.loads(line)
        except ValueError:
            raise RuntimeError(f"{self.contestant} was cut off while it answered") from None
        return found

    def ask(self, **command: Any) -> Answer:
        """Send a command and wait for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(f"{self.contestant} ended with status {self._process.wait()}") from None
        return self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what a dead process never read
                    pipe.close()


def main() -> None:
    """Entry point of the worker's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--point", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--window", type=int)
    given = parser.parse_args()
    # NEST prints to stdout: answers get a copy of it, and everything else goes to stderr.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(given, answers)


if __name__ == "__main__":
    main()
