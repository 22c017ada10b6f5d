"""Run this network in NEST: `python run.py --help`; README.md beside this file says what it does and how to run it under MPI.

The network is data (network.json, network.npz); this program is the same for every network. Our update step t is NEST's step t + offset,
that is the interval (t + offset, t + offset + 1] * dt. The offset is 0 unless a neuron spikes in step 0, which NEST cannot express.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
Spikes = dict[int, tuple[Ints, Ints]]  # population -> neuron, step
Signals = dict[int, tuple[Floats, NDArray[np.bool_]]]  # population -> target, window
Plastic = dict[str, tuple[Ints, Ints, Ints]]  # synapse model -> what `connect` says

HERE = Path(__file__).resolve().parent
NEVER = 1e300  # a threshold out of reach
NEURONS = ("lif", "alif")
LATE = ("V_m", "I_e", "V_min", "V_th")  # in this order V_min <= V_reset < V_th holds all the time, which NEST checks at every change


def main() -> None:
    args = arguments()
    try:
        net = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"{HERE / 'network.json'}: cannot be read: {error}")
    data = read_npz(HERE / "network.npz")
    spikes = load_spikes(net, data, args)
    signals = load_signals(net, args)
    check_clock(net, spikes, args)
    stdout = os.dup(1)  # stdout is for the summary alone: what NEST prints goes to stderr
    os.dup2(2, 1)
    nest = import_nest()
    try:
        result, summary = simulate(nest, net, data, spikes, signals, args)
    except (nest.NESTError, nest.NESTErrors.KernelException) as error:
        fail(f"NEST: {error}", status=1)
    if args.out is not None:
        merge(nest, net, data, spikes, result, args)
    sys.stdout.flush()
    os.dup2(stdout, 1)
    if nest.Rank() == 0:
        print(json.dumps(summary, sort_keys=True), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the network in NEST.")
    parser.add_argument("--steps", type=int, required=True, help="number of update steps")
    parser.add_argument("--input", action="append", default=[], metavar="POP=spikes.npz", help="spikes (neuron, step) of a spike source")
    parser.add_argument("--signal", action="append", default=[], metavar="READOUT=signal.npz", help="target and window of a readout")
    parser.add_argument("--out", type=Path, help="write weights, spikes and outputs to this .npz file")
    parser.add_argument("--threads", type=int, default=1, help="threads per process (default 1)")
    parser.add_argument("--no-learn", action="store_true", help="keep all weights")
    parser.add_argument(
        "--allow-approximation",
        action="store_true",
        help="run although spikes in step 0 put the clock of adam or of update intervals one step ahead",
    )
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps is {args.steps}, must be >= 1")
    if args.threads < 1:
        parser.error(f"--threads is {args.threads}, must be >= 1")
    if args.out is not None:
        folder = args.out.resolve().parent
        if not folder.is_dir():
            parser.error(f"--out: the folder of {args.out} does not exist")
        if args.out.is_dir() or not os.access(folder, os.W_OK):
            parser.error(f"--out: {args.out} cannot be written")
    return args


def fail(message: str, status: int = 3) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


def import_nest() -> Any:
    sys.argv = sys.argv[:1]  # NEST reads the command line too
    try:
        import nest
    except ImportError as error:
        fail(f"NEST cannot be imported ({error}): pip install 'nest-simulator>=3.10'", status=5)
    version = tuple(int(part) for part in nest.__version__.split(".")[:2] if part.isdigit())
    if len(version) == 2 and version < (3, 10):
        fail(f"NEST is {nest.__version__}, this program needs 3.10 or later", status=5)
    if hasattr(nest, "VerbosityLevel"):
        nest.verbosity = nest.VerbosityLevel.WARNING
    return nest


def read_npz(path: str | Path) -> Arrays:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is no .npz archive")
        with archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, SyntaxError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        fail(f"{path}: cannot be read as .npz: {error}")


def load(option: str, kind: str, net: dict[str, Any], names: tuple[str, ...]) -> tuple[int, Arrays]:
    """Return (index of the population, arrays) of a `NAME=file.npz` option."""
    name, _, path = option.partition("=")
    found = [i for i, p in enumerate(net["populations"]) if p["name"] == name and p["kind"] == kind]
    if not found:
        fail(f"{option!r}: the network has no {kind} of that name; it has {[p['name'] for p in net['populations'] if p['kind'] == kind]}")
    arrays = read_npz(path)
    for key in names:
        if key not in arrays:
            fail(f"{path}: has no array '{key}'")
    return found[0], arrays


def load_spikes(net: dict[str, Any], data: Arrays, args: argparse.Namespace) -> Spikes:
    """Return (neuron, step) of every source, sorted by step, then neuron; steps 0 .. N-1."""
    result: Spikes = {}
    for option in args.input:
        index, arrays = load(option, "spike_source", net, ("neuron", "step"))
        if index in result:
            fail(f"{option}: spikes of this source are given twice")
        neuron, step = arrays["neuron"], arrays["step"]
        size = net["populations"][index]["size"]
        if neuron.ndim != 1 or neuron.shape != step.shape or any(a.size and a.dtype.kind not in "iu" for a in (neuron, step)):
            fail(f"{option}: 'neuron' and 'step' must be 1-D integers of equal length")
        if neuron.size and (neuron.min() < 0 or neuron.max() >= size or step.min() < 0):
            fail(f"{option}: neurons must lie in 0 .. {size - 1}, steps must be >= 0")
        inside = step < args.steps
        neuron, step = neuron[inside].astype(np.int64), step[inside].astype(np.int64)
        order = np.lexsort((neuron, step))
        neuron, step = neuron[order], step[order]
        if np.any((np.diff(step) == 0) & (np.diff(neuron) == 0)):
            fail(f"{option}: a neuron spikes twice in one step")
        result[index] = (neuron, step)
    first = 0
    for index, population in enumerate(net["populations"]):
        if population["kind"] == "spike_source" and index not in result:
            probability = np.broadcast_to(data.get(f"population{index}:probability", 0.0), (population["size"],))
            result[index] = poisson(probability, first, net["seed"], args.steps)
        first += population["size"]
    return result


def poisson(probability: NDArray[Any], first: int, seed: int, steps: int) -> tuple[Ints, Ints]:
    """One Bernoulli draw a step and neuron, a function of (seed, neuron, step): the same spikes as `neurocompile simulate` draws."""
    if not probability.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    ids = np.arange(first, first + probability.size, dtype=np.uint64)
    start = mix(np.uint64(seed) + ids * np.uint64(golden) + np.uint64(golden))
    neurons, times = [], []
    for step in range(steps):
        draw = mix(start + np.uint64((step * golden + golden) & mask))
        hit = np.flatnonzero((draw >> np.uint64(11)).astype(np.float64) * 2.0**-53 < probability)
        neurons.append(hit)
        times.append(np.full(hit.size, step))
    return np.concatenate(neurons).astype(np.int64), np.concatenate(times).astype(np.int64)


def load_signals(net: dict[str, Any], args: argparse.Namespace) -> Signals:
    result: Signals = {}
    for option in args.signal:
        index, arrays = load(option, "leaky_readout", net, ("target",))
        if index in result:
            fail(f"{option}: a signal of this readout is given twice")
        if any(arrays[key].dtype.kind not in "biuf" for key in ("target", "window") if key in arrays):
            fail(f"{option}: 'target' and 'window' must hold numbers")
        target = np.asarray(arrays["target"], np.float64)
        window = np.asarray(arrays.get("window", np.ones(target.shape[:1], np.bool_)), np.bool_)
        size = net["populations"][index]["size"]
        if target.ndim != 2 or target.shape[1] != size or window.shape != target.shape[:1] or not np.isfinite(target).all():
            fail(f"{option}: 'target' must be finite numbers of shape (n_steps, {size}), 'window' of shape (n_steps,)")
        result[index] = (target[: args.steps], window[: args.steps])
    return result


def spikes_early(spikes: Spikes) -> bool:
    return any(step.size and step[0] == 0 for _, step in spikes.values())


def counts_steps(net: dict[str, Any]) -> bool:
    """Return whether weights depend on the number of a step, not only on distances between steps."""
    return any(r["optimizer"]["type"] == "adam" or r["optimizer"]["batch_size"] > 1 for r in net["rules"])


def check_clock(net: dict[str, Any], spikes: Spikes, args: argparse.Namespace) -> None:
    """Refuse input that NEST cannot learn from exactly: a spike in step 0 shifts the clock that adam and update intervals count from."""
    shifts = spikes_early(spikes) and not net["spikes_at_once"]  # that one was accepted when the program was built
    if counts_steps(net) and shifts and not args.no_learn and not args.allow_approximation:
        fail(
            "a source spikes in step 0, and adam or update intervals would count one step more in NEST; "
            "give no spikes in step 0, or accept it with --allow-approximation"
        )


def choose_offset(net: dict[str, Any], spikes: Spikes) -> int:
    """Return NEST's step of our step 0: 1 if anything spikes in step 0, which NEST's e-prop synapses do not survive, else 0."""
    return int(spikes_early(spikes) or net["spikes_at_once"])


def simulate(
    nest: Any, net: dict[str, Any], data: Arrays, spikes: Spikes, signals: Signals, args: argparse.Namespace
) -> tuple[Arrays, dict[str, Any]]:
    dt = net["dt_ms"]
    offset = choose_offset(net, spikes)
    nest.ResetKernel()
    nest.set(resolution=dt, local_num_threads=args.threads, rng_seed=1 + net["seed"] % (2**31 - 2))
    nest.set(min_delay=dt, max_delay=dt * net["max_delay"])
    began = time.perf_counter()
    nodes = [create(nest, i, population, data) for i, population in enumerate(net["populations"])]
    first = [n[0].global_id for n in nodes]
    for index, (neuron, step) in spikes.items():
        drive(nest, nodes[index], neuron, (step + offset) * dt, dt)
    for index, population_nodes in enumerate(nodes):
        if f"population{index}:pushed" in data:
            push(nest, population_nodes, data[f"population{index}:pushed"], np.arange(1, args.steps) + offset, dt)
    plastic = connect(nest, net, data, first, learn=not args.no_learn)
    if not args.no_learn:
        for index, (target, window) in signals.items():
            teach(nest, nodes[index], target, window, offset, dt)
        for item in net["feedback"]:
            key = f"feedback{item['index']}:"
            join(
                nest, data[key + "pre"] + first[item["pre"]], data[key + "post"] + first[item["post"]], data[key + "weight"],
                np.full(data[key + "pre"].size, dt), "eprop_learning_signal_connection",
            )  # fmt: skip
    recorder = nest.Create("spike_recorder")
    meters = {}
    for index, population in enumerate(net["populations"]):
        if population["kind"] == "leaky_readout":
            meters[index] = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": dt})
            nest.Connect(meters[index], nodes[index], "all_to_all", {"delay": dt})
        elif population["kind"] != "spike_source":
            nest.Connect(nodes[index], recorder, "all_to_all", {"delay": dt})
    built = time.perf_counter() - began

    if offset:
        nest.Simulate(offset * dt)
    for index, population in enumerate(net["populations"]):
        begin(nodes[index], index, population, data)
    began = time.perf_counter()
    nest.Simulate(args.steps * dt)
    wall = time.perf_counter() - began

    result = collect(nest, net, nodes, first, recorder, meters, plastic, offset, args.steps)
    counts = {p["name"]: int((result["spike_population"] == i).sum()) for i, p in enumerate(net["populations"]) if p["kind"] in NEURONS}
    summary = {
        "build_s": built,
        "n_neurons": sum(p["size"] for p in net["populations"]),
        "n_processes": nest.NumProcesses(),
        "n_spikes": counts | {net["populations"][i]["name"]: int(s[1].size) for i, s in spikes.items()},  # of this process's neurons
        "n_synapses": sum(int(data[f"projection{i}:pre"].size) for i in range(len(net["projections"]))),
        "n_threads": args.threads,
        "nest_version": nest.__version__,
        "offset_steps": offset,
        "out": None if args.out is None else str(args.out),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": args.steps,
        "wall_s": wall,
    }
    if offset and counts_steps(net) and not args.no_learn:
        summary["warning"] = "a spike in step 0 shifts NEST's clock by one step, which Adam and update intervals count from"
        print("warning: " + summary["warning"], file=sys.stderr)
    return result, summary


def create(nest: Any, index: int, population: dict[str, Any], data: Arrays) -> Any:
    """Create a population. It stays silent until `begin` gives it its membrane, limits and constant current."""
    params = {key: value for key, value in population["params"].items() if key not in LATE}
    arrays = {key: data[f"population{index}:{key}"] for key in population["arrays"] if key not in LATE}
    if population["kind"] in NEURONS:
        params["V_th"] = NEVER
    nodes = nest.Create(population["model"], population["size"], params=params)
    if arrays:  # apart from the scalars: beside an array NEST takes a text for a list of letters
        nodes.set(arrays)
    return nodes


def begin(nodes: Any, index: int, population: dict[str, Any], data: Arrays) -> None:
    for key in LATE:
        if key in population["arrays"]:
            nodes.set({key: data[f"population{index}:{key}"]})
        elif key in population["params"]:
            nodes.set({key: population["params"][key]})


def drive(nest: Any, parrots: Any, neuron: Ints, times: Floats, dt: float) -> None:
    """Give spikes to a source: a generator for each neuron; its parrot sends them on one step (the delay) later, at the time given."""
    order = np.argsort(neuron, kind="stable")
    neuron, times = neuron[order], times[order]
    active, start = np.unique(neuron, return_index=True)
    if active.size:
        generators = nest.Create("spike_generator", int(active.size))
        generators.set([{"spike_times": part} for part in np.split(times, start[1:])])
        join(
            nest,
            np.array(generators.tolist()),
            active + parrots[0].global_id,
            np.ones(active.size),
            np.full(active.size, dt),
            "static_synapse",
        )


def push(nest: Any, nodes: Any, bias: Floats, steps: Ints, dt: float) -> None:
    """Give neurons without leak their constant input, which NEST's I_e cannot give, as a spike of that weight in every step."""
    generator = nest.Create("spike_generator", params={"spike_times": steps * dt})
    post = np.flatnonzero(bias)
    join(nest, np.full(post.size, generator.global_id), post + nodes[0].global_id, bias[post], np.full(post.size, dt), "static_synapse")


def teach(nest: Any, readout: Any, target: Floats, window: NDArray[Any], offset: int, dt: float) -> None:
    """Compare a readout with its signal. Row 0 needs no delivery where NEST has no step for it: no spike arrives in step 0."""
    rows = np.arange(len(target)) + offset
    keep = rows >= 1
    rows, target, window = rows[keep], target[keep], window[keep].astype(np.float64)
    if not window.any():
        return

    def generator(values: Floats, end: float | None) -> Any:
        change = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
        times, values = rows[change] * dt, values[change]
        if end is not None:
            times, values = np.append(times, end), np.append(values, 0.0)
        return nest.Create("step_rate_generator", params={"amplitude_times": times, "amplitude_values": values})

    spec = {"synapse_model": "rate_connection_delayed", "delay": dt}
    nest.Connect(generator(window, (rows[-1] + 1) * dt), readout, "all_to_all", {**spec, "receptor_type": 1})
    for column in range(target.shape[1]):
        nest.Connect(generator(target[:, column], None), readout[column], "all_to_all", {**spec, "receptor_type": 2})


def join(nest: Any, pre: NDArray[Any], post: NDArray[Any], weight: NDArray[Any], delay: NDArray[Any], model: str) -> None:
    """Connect pre[i] with post[i]. Every process passes the whole list; NEST makes the synapses whose target it holds."""
    if pre.size:
        spec = {"synapse_model": model, "weight": weight.astype(np.float64), "delay": delay.astype(np.float64)}
        nest.Connect(pre.astype(np.int64), post.astype(np.int64), "one_to_one", spec)


def connect(nest: Any, net: dict[str, Any], data: Arrays, first: list[int], *, learn: bool) -> Plastic:
    """Make all synapses. Return synapse model -> (key of each of its synapses, sorted; projection; number within the projection).

    NEST tells synapses apart by (source, target, model), so repeated plastic synapses of a pair go into copies of the model. Weights that
    must keep their sign go into two more, which differ in their bounds.
    """
    dt, total = net["dt_ms"], first[-1] + net["populations"][-1]["size"]
    parts: dict[int, list[tuple[NDArray[Any], ...]]] = {}
    for index, projection in enumerate(net["projections"]):
        key = f"projection{index}:"
        pre, post = data[key + "pre"] + np.int64(first[projection["pre"]]), data[key + "post"] + np.int64(first[projection["post"]])
        weight, rule = data[key + "weight"], projection["rule"]
        if rule is None or not learn:
            join(nest, pre, post, weight, data[key + "delay"] * dt, "static_synapse")
        else:
            parts.setdefault(rule, []).append((pre, post, weight, np.full(pre.size, index), np.arange(pre.size)))
    plastic: Plastic = {}
    for rule, lists in parts.items():
        pre, post, weight, projection, synapse = (np.concatenate(column) for column in zip(*lists, strict=True))
        pair, optimizer = pre * total + post, net["rules"][rule]["optimizer"]
        sides = {"": (np.ones(pair.size, np.bool_), optimizer)}
        if net["rules"][rule]["keep_sign"]:
            sides = {
                "plus": (weight >= 0, optimizer | {"Wmin": max(optimizer["Wmin"], 0.0)}),
                "minus": (weight < 0, optimizer | {"Wmax": min(optimizer["Wmax"], 0.0)}),
            }
        for side, (chosen, settings) in sides.items():
            members = np.flatnonzero(chosen)
            repeat = repeats(pair[members])
            for number in range(int(repeat.max(initial=-1)) + 1):
                mine = members[repeat == number]
                model = f"eprop_rule{rule}{side}_{number}"
                nest.CopyModel("eprop_synapse", model, {"weight": float(weight[mine[0]])})  # the default, 1, may be out of bounds
                nest.SetDefaults(model, {"optimizer": settings})
                join(nest, pre[mine], post[mine], weight[mine], np.full(mine.size, dt), model)
                mine = mine[np.argsort(pair[mine])]
                plastic[model] = (pair[mine], projection[mine], synapse[mine])
    return plastic


def repeats(pair: Ints) -> Ints:
    """Return how many equal values stand before each value."""
    order = np.argsort(pair, kind="stable")
    result = np.empty(pair.size, np.int64)
    result[order] = np.arange(pair.size) - np.searchsorted(pair[order], pair[order], side="left")
    return result


def collect(
    nest: Any,
    net: dict[str, Any],
    nodes: list[Any],
    first: list[int],
    recorder: Any,
    meters: dict[int, Any],
    plastic: Plastic,
    offset: int,
    steps: int,
) -> Arrays:
    """Return what this process holds: spikes, outputs of its readouts, weights of the synapses whose targets it holds."""
    dt, total = net["dt_ms"], first[-1] + net["populations"][-1]["size"]
    events = recorder.events
    senders = np.asarray(events["senders"], np.int64)
    step = np.rint(np.asarray(events["times"]) / dt).astype(np.int64) - 1 - offset
    population = np.searchsorted(np.array(first), senders, side="right") - 1
    result: Arrays = {"spike_population": population, "spike_neuron": senders - np.array(first)[population], "spike_step": step}
    for index, meter in meters.items():
        events = meter.events
        row = np.rint(np.asarray(events["times"]) / dt).astype(np.int64) - 1 - offset
        column = np.asarray(events["senders"], np.int64) - first[index]
        value = np.asarray(events["V_m"], np.float64)
        last = np.flatnonzero(np.atleast_1d(nodes[index].local))  # the last step is still with the neuron
        row, column = np.append(row, np.full(last.size, steps - 1)), np.append(column, last)
        value = np.append(value, [nodes[index][int(i)].V_m for i in last])
        inside = row >= 0
        result[f"output{index}:row"], result[f"output{index}:column"] = row[inside], column[inside]
        result[f"output{index}:value"] = value[inside]
    where, which, weights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for model, (pair, projection, synapse) in plastic.items():
        found = nest.GetConnections(synapse_model=model)
        if len(found):
            state = found.get(["source", "target", "weight"])
            key = np.atleast_1d(state["source"]).astype(np.int64) * total + np.atleast_1d(state["target"]).astype(np.int64)
            place = np.searchsorted(pair, key)
            where.append(projection[place])
            which.append(synapse[place])
            weights.append(np.atleast_1d(state["weight"]).astype(np.float64))
    result |= {"projection": np.concatenate(where), "synapse": np.concatenate(which), "weight": np.concatenate(weights)}
    return result


def merge(nest: Any, net: dict[str, Any], data: Arrays, spikes: Spikes, result: Arrays, args: argparse.Namespace) -> None:
    """Write the results. With several processes each writes its part, and process 0 joins them as they appear in the folder."""
    rank, n_ranks = nest.Rank(), nest.NumProcesses()
    parts = [result]
    if n_ranks > 1:
        names = [args.out.with_name(f".{args.out.name}.part{k}of{n_ranks}.npz") for k in range(n_ranks)]
        names[rank].unlink(missing_ok=True)  # of an earlier run that was stopped
        nest.SyncProcesses()
        write(names[rank], result)
        nest.SyncProcesses()
        if rank != 0:
            return
        parts = []
        for name in names:
            deadline = time.monotonic() + 600  # network file systems show a new file late
            while not name.exists():
                if time.monotonic() > deadline:
                    fail(f"{name} did not appear")
                time.sleep(0.1)
            parts.append(read_npz(name))
            name.unlink()
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    out: Arrays = {}
    for index, projection in enumerate(net["projections"]):
        key = f"projection{index}:"
        weight = data[key + "weight"].astype(np.float64)
        mine = joined["projection"] == index
        weight[joined["synapse"][mine]] = joined["weight"][mine]
        out |= {f"weight:{projection['name']}": weight}
        out |= {f"pre:{projection['name']}": data[key + "pre"], f"post:{projection['name']}": data[key + "post"]}
    for index, population in enumerate(net["populations"]):
        name = population["name"]
        if population["kind"] == "leaky_readout":
            values = np.full((args.steps, population["size"]), np.nan)
            values[joined[f"output{index}:row"], joined[f"output{index}:column"]] = joined[f"output{index}:value"]
            out[f"output:{name}"] = values
            continue
        if population["kind"] == "spike_source":
            neuron, step = spikes[index]
        else:
            mine = joined["spike_population"] == index
            neuron, step = joined["spike_neuron"][mine], joined["spike_step"][mine]
            order = np.lexsort((neuron, step))
            neuron, step = neuron[order], step[order]
        out |= {f"spike_step:{name}": step, f"spike_neuron:{name}": neuron.astype(np.int32)}
    write(args.out, out)


def write(path: Path, arrays: Arrays) -> None:
    """Write an .npz file that appears whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)
        part.replace(path)
    except OSError as error:
        sys.unraisablehook = lambda _: None  # NumPy's archive tries to finish its file once more when it is collected
        fail(f"{path}: cannot be written: {error}")
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
