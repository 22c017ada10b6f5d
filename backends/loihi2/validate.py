"""``validate``: run the emitted program in Lava on the CPU and compare it with the twin and the reference engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import Check
from neurocompile.backends.loihi2.arithmetic import ALIGN_SHIFT
from neurocompile.backends.loihi2.stimulus import cosine, random_inputs, random_signals
from neurocompile.backends.loihi2.twin import TwinResult, run_twin
from neurocompile.ir import LIF, Network
from neurocompile.ir.errors import InputError, MismatchError
from neurocompile.ir.neurons import expand
from neurocompile.ir.npz import load_npz, save_npz
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes

_TIMEOUT_S = 1800.0
_RESOLUTION = 0.5
"""Weight changes of the engine below this many weight units cannot be compared: all of them round to nothing."""


def run_program(
    program: Path,
    *,
    steps: int,
    inputs: Mapping[str, Spikes],
    signals: Mapping[str, Signal] | None = None,
    flags: Sequence[str] = (),
    timeout: float = _TIMEOUT_S,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Run ``run.py`` of a program in a process of its own; return (arrays of results.npz, its JSON summary).

    Raises
    ------
    MismatchError
        NC613: it failed or took longer than ``timeout`` s; the end of its messages is in the error.
    """
    with tempfile.TemporaryDirectory(prefix="loihi2-validate-") as folder:
        command = [sys.executable, "run.py", "--steps", str(steps), "--out", f"{folder}/results.npz", *flags]
        for name, spikes in inputs.items():
            path = Path(folder) / f"input{len(command)}.npz"
            save_npz(path, {"neuron": spikes.neuron, "step": spikes.step})
            command += ["--input", f"{name}={path}"]
        for name, given in (signals or {}).items():
            path = Path(folder) / f"signal{len(command)}.npz"
            save_npz(path, {"target": given.target, "window": given.window})
            command += ["--signal", f"{name}={path}"]
        process = subprocess.Popen(command, cwd=program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            raise MismatchError.of("NC613", f"the emitted program did not end within {timeout:g} s", file=str(program / "run.py")) from None
        except BaseException:
            _end(process)
            raise
        if process.returncode != 0:
            tail = " | ".join(line for line in (err or out).strip().splitlines()[-4:])
            raise MismatchError.of("NC613", f"the emitted program failed (exit {process.returncode}): {tail}", file=str(program / "run.py"))
        return load_npz(f"{folder}/results.npz"), json.loads(out.strip().splitlines()[-1])


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and the processes it forked (Lava starts one per process; they share its session)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def load_program(program: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return (network.json, network.npz) of a program; InputError NC614 if it is not one of ours."""
    try:
        spec = json.loads((program / "network.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError.of("NC614", f"cannot be read: {error}", file=str(program / "network.json")) from None
    if not isinstance(spec, dict) or spec.get("format") != 2:
        raise InputError.of("NC614", "is not a program of this version", file=str(program / "network.json"), help="build it again")
    return spec, dict(load_npz(program / "network.npz"))


def compare_static(results: Mapping[str, npt.NDArray[Any]], twin: TwinResult, spec: Mapping[str, Any]) -> list[Check]:
    """Compare a run without learning with the twin: spikes, last u and v, readout traces; all integers, all equal or not."""
    checks = []
    for population in spec["populations"]:
        name = population["name"]
        if population["process"] == "Readout":
            exact = twin.output[name] / population["scale"] + population["offset"]
            same = int((results[f"output:{name}"] == exact).sum())
            checks.append(Check(name=f"output of {name}", ok=same == exact.size, detail=f"{same} of {exact.size} values equal the twin"))
        else:
            expected = set(zip(twin.spikes[name].step.tolist(), twin.spikes[name].neuron.tolist(), strict=True))
            found = set(zip(results[f"spike_step:{name}"].tolist(), results[f"spike_neuron:{name}"].tolist(), strict=True))
            wrong = expected ^ found
            first = f", first difference in step {min(wrong)[0]}" if wrong else ""
            checks.append(
                Check(
                    name=f"spikes of {name}",
                    ok=not wrong,
                    detail=f"{len(found)} in Lava, {len(expected)} in the twin, {len(wrong)} differ{first}",
                )
            )
        if population["process"] != "SpikeInput":
            pairs = [(results[f"state_{s}:{name}"], getattr(twin, s)[name]) for s in ("u", "v")]
            wrong_state = sum(int((np.asarray(a, np.int64) != b).sum()) for a, b in pairs)
            checks.append(
                Check(
                    name=f"last state of {name}", ok=wrong_state == 0, detail=f"{wrong_state} of {2 * population['size']} integers differ"
                )
            )
    return checks


def compare_learning(results: Mapping[str, npt.NDArray[Any]], twin: TwinResult, spec: Mapping[str, Any]) -> list[Check]:
    """Compare weights and both tags of every plastic synapse with the twin's after a run with learning; all integers, all equal or not."""
    checks = []
    for projection in spec["projections"]:
        name = projection["name"]
        if projection["rule"] is None:
            continue
        found = (np.rint(results[f"weight:{name}"] / projection["unit"]), results[f"state_t:{name}"], results[f"state_d:{name}"])
        wrong = [int((np.asarray(a, np.int64) != b).sum()) for a, b in zip(found, (twin.weights[name], *twin.tags[name]), strict=True)]
        checks.append(
            Check(
                name=f"learned integers of {name}",
                ok=not any(wrong),
                detail=f"{wrong[0]} weights, {wrong[1]} tags, {wrong[2]} second tags of {len(found[0])} synapses differ from the twin's",
            )
        )
    return checks


def check_description(
    spec: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], network: Network, connections: Mapping[str, Connections]
) -> list[Check]:
    """Compare the emitted integers with the description: synapses, weights within half a rounding step, thresholds within one unit."""
    checks = []
    for projection in spec["projections"]:
        key, name, unit = projection["key"], projection["name"], projection["unit"]
        described = connections[name]
        same = all(np.array_equal(arrays[f"{key}.{part}"], getattr(described, part)) for part in ("pre", "post", "delay"))
        values, weight = arrays[f"{key}.weight.fixed"].astype(np.int64), np.asarray(described.weight, np.float64)
        detail = f"{len(values)} synapses, {len(weight)} described"
        wrong = len(values)
        if same and values.shape == weight.shape:
            low, high = projection["weight_range"]
            half = projection["weight_step"] / 2  # mixed weights are even
            exact = np.clip(weight / unit, low, high)
            off = np.abs(values - exact)
            wrong = int((off > half * (1 + 1e-9)).sum())
            detail += f", weights within {off.max(initial=0.0):.3g} of at most {half:g} units, {wrong} beyond"
        checks.append(Check(name=f"emitted weights of {name}", ok=same and wrong == 0, detail=detail))
    for population in spec["populations"]:
        model = network.population(population["name"]).model
        if isinstance(model, LIF):
            unit = 2.0**ALIGN_SHIFT / population["scale"]
            fires_at = (np.asarray(arrays[f"{population['key']}.fixed.vth"], np.float64) + 1) * unit + population["offset"]
            above = (fires_at - expand(model.v_threshold, population["size"])) / unit  # v > vth << 6: at most one unit above
            ok = bool((above > -1e-6).all() and (above < 1 + 1e-6).all())
            detail = f"{above.min():.3g} .. {above.max():.3g} threshold units above the description's, 0 .. 1 is rounding"
            checks.append(Check(name=f"emitted thresholds of {population['name']}", ok=ok, detail=detail))
    return checks


def check_learning(
    results: Mapping[str, npt.NDArray[Any]],
    spec: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
    engine: Mapping[str, npt.NDArray[Any]],
    connections: Mapping[str, Connections],
) -> list[Check]:
    """Look at a run with learning: synapses are those described, weights in range, and how the change compares with the engine's.

    ``engine``: projection -> weights after the same run of the reference engine. The cosine is to be more than a quarter of the best
    that whole weight units allow, that of the engine's change rounded to them. A correct program reaches .7 to 1 of the best
    (docs/loihi2.md); a change that has nothing to do with the engine's has a cosine of about n^-1/2, .03 for 1,000 synapses.
    """
    checks = []
    for projection in spec["projections"]:
        if projection["rule"] is None:
            continue
        name, key = projection["name"], projection["key"]
        same = all(np.array_equal(results[f"{end}:{name}"], getattr(connections[name], end)) for end in ("pre", "post"))
        count = len(results[f"weight:{name}"])
        ok = same and count == len(connections[name].pre)
        checks.append(Check(name=f"synapses of {name}", ok=ok, detail=f"{count} plastic synapses, {len(connections[name].pre)} described"))
        units = np.rint(results[f"weight:{name}"] / projection["unit"]).astype(np.int64)
        low, high = projection["weight_range"]
        outside = int(((units < low) | (units > high)).sum())
        at_end = int(((units == low) | (units == high)).sum())
        detail = f"{outside} of {count} outside {low} .. {high}, {at_end} at an end"
        checks.append(Check(name=f"weight range of {name}", ok=outside == 0, detail=detail))
        start = arrays[f"{key}.weight.fixed"].astype(np.int64)
        change = (units - start) * projection["unit"]
        before = np.asarray(connections[name].weight, np.float64)
        reference: npt.NDArray[np.float64] = np.asarray(engine[name], np.float64) - before
        moved = int((units != start).sum())
        if not reference.any():
            checks.append(Check(name=f"learning of {name}", ok=True, detail=f"no change in the engine, {moved} of {count} weights here"))
            continue
        largest = float(np.abs(reference).max()) / (projection["unit"] * projection["learnt_step"])
        if largest < _RESOLUTION:
            detail = (
                f"the engine's largest change is {largest:.2g} of a unit of learnt weights, below what can move; {moved} of {count} moved"
            )
            checks.append(Check(name=f"learning of {name}", ok=True, detail=detail))
            continue
        value = cosine(change, reference)
        best = cosine(np.rint(reference / (projection["unit"] * projection["learnt_step"])), reference)
        ratio = float(np.linalg.norm(change) / np.linalg.norm(reference))
        detail = (
            f"cosine {value:.3f} to the engine's weight change ({best:.3f} is the best in whole units), {ratio:.2f} times its size, "
            f"{moved} of {count} weights moved"
        )
        checks.append(Check(name=f"learning of {name}", ok=value > 0.25 * best, detail=detail))
    return checks


def validate_program(program: Path, network: Network, connections: Mapping[str, Connections], *, steps: int) -> list[Check]:
    """Compare a program's integers with the description, run it without learning against the twin, then, if it learns, with learning
    against the twin (every integer) and the reference engine (the cosine of the weight change)."""
    from neurocompile.backends.reference import Simulator

    spec, arrays = load_program(program)
    inputs = random_inputs(network, steps=steps)
    twin = run_twin(spec, arrays, inputs, steps=steps)
    results, _ = run_program(program, steps=steps, inputs=inputs, flags=["--no-learn", "--state"])
    checks = check_description(spec, arrays, network, connections) + compare_static(results, twin, spec)
    if not spec["learning"]:
        return checks
    signals = random_signals(network, steps=steps)
    learned, _ = run_program(program, steps=steps, inputs=inputs, signals=signals, flags=["--state"])
    learnt = run_twin(spec, arrays, inputs, steps=steps, signals=signals, learn=True)
    checks += [replace(c, name=f"{c.name}, learning") for c in compare_static(learned, learnt, spec)]
    checks += compare_learning(learned, learnt, spec)
    simulator = Simulator(network, connections)
    simulator.run(steps, spikes=inputs, signals=signals)
    simulator.flush()
    return checks + check_learning(learned, spec, arrays, simulator.weights(), connections)
