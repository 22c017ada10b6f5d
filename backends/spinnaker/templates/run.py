"""Run a compiled network with sPyNNaker: `python run.py --virtual` maps it without hardware, `python run.py` runs it on a machine.

Needs numpy and spynnaker 1!7.4.1. All data is in network.json and network.npz beside this file; README.md explains both.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--virtual", action="store_true", help="map on a virtual board; nothing is executed, spikes stay empty")
    parser.add_argument("--steps", type=int, default=None, metavar="N", help="update steps 0 .. N-1 (default: see network.json)")
    parser.add_argument("--input", action="append", default=[], metavar="POP=FILE", help="npz with 1-D ints 'neuron' and 'step'")
    parser.add_argument("--out", metavar="FILE", help="write results (npz)")
    parser.add_argument("--mapping", metavar="FILE", help="write routing tables, keys and links as found in sPyNNaker (npz)")
    return parser.parse_args(argv)


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(3)


def read_spikes(path, size, label):
    """Return (neuron, step) of an npz file, checked."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            neuron, step = archive["neuron"], archive["step"]
    except (OSError, ValueError, KeyError) as error:
        fail(f"{path}: cannot be read as spikes of '{label}': {error}")
    for name, values in (("neuron", neuron), ("step", step)):
        if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
            fail(f"{path}: '{name}' must be a 1-D array of integers")
    if neuron.shape != step.shape:
        fail(f"{path}: 'neuron' and 'step' differ in length")
    if neuron.size and (neuron.min() < 0 or neuron.max() >= size or step.min() < 0):
        fail(f"{path}: neurons of '{label}' run from 0 to {size - 1}, steps from 0")
    return neuron.astype(np.int64), step.astype(np.int64)


def sandbox(folder, version):
    """Make a home for sPyNNaker with a configuration of a virtual board; the user's own files stay untouched.

    The file must exist in exactly one of $HOME and $XDG_CONFIG_HOME; write_network_graph would need graphviz.
    """
    (folder / "xdg").mkdir()
    (folder / "work").mkdir()
    (folder / ".spynnaker.cfg").write_text(
        f"[Machine]\nversion = {int(version)}\nvirtual_board = True\n[Mode]\nmode = Production\n[Reports]\nwrite_network_graph = False\n",
        encoding="utf-8",
    )
    os.environ["HOME"] = str(folder)
    os.environ["XDG_CONFIG_HOME"] = str(folder / "xdg")
    os.chdir(folder / "work")


def patch_neuromodulation():
    """Work around sPyNNaker 1!7.4.1: its neuromodulation rows have a 1-D size array where every other rule has (n, 1), which ends
    host-side generation of synapses in a ValueError. Does nothing where the size already has two dimensions."""
    from spynnaker.pyNN.models.neuron.synapse_dynamics import SynapseDynamicsNeuromodulation as Rule

    original = Rule.get_plastic_synaptic_data

    def fixed(self, *args, **kwargs):
        fp_data, pp_data, fp_size, pp_size = original(self, *args, **kwargs)
        if np.ndim(pp_size) == 1:
            pp_size = np.reshape(pp_size, (-1, 1))
        return fp_data, pp_data, fp_size, pp_size

    Rule.get_plastic_synaptic_data = fixed


def values(spec, arrays):
    """Return a number, or the array that {"array": key} names, as a list."""
    return arrays[spec["array"]].tolist() if isinstance(spec, dict) else spec


def make_population(sim, entry, arrays, given, n_steps, dt_ms):
    """Make a PyNN population of one entry of network.json."""
    params = {name: values(spec, arrays) for name, spec in entry["params"].items()}
    extra = {"neurons_per_core": entry["neurons_per_core"]} if entry["neurons_per_core"] else {}
    name = entry["name"]
    if entry["cell"] == "source":
        if name in given or not np.any(np.asarray(params["rate"]) > 0):
            neuron, step = given.get(name, (np.zeros(0, np.int64), np.zeros(0, np.int64)))
            neuron, step = neuron[step < n_steps], step[step < n_steps]
            if not neuron.size:  # sPyNNaker refuses a source without any spike: give it one that comes after the end
                neuron, step = np.zeros(1, np.int64), np.full(1, n_steps + 10)
            cell = sim.SpikeSourceArray(spike_times=[(np.sort(step[neuron == i]) * dt_ms).tolist() for i in range(entry["size"])])
        else:
            cell = sim.SpikeSourcePoisson(rate=params["rate"])
            extra["seed"] = entry["seed"]
        return sim.Population(entry["size"], cell, label=name, **extra)
    cells = {
        "IF_curr_delta": sim.extra_models.IFCurDelta,
        "IF_curr_delta_ca2_adaptive": sim.extra_models.IFCurrDeltaCa2Adaptive,
        "IF_curr_exp": sim.IF_curr_exp,
    }
    v_init = params.pop("v_init")
    extra["max_expected_summed_weight"] = entry["max_expected_summed_weight"]
    extra["n_synapse_cores"] = entry["n_synapse_cores"]  # 0: neurons and synapses share a core
    population = sim.Population(entry["size"], cells[entry["cell"]](**params), label=name, **extra)
    population.initialize(v=v_init)
    return population


def make_stdp(sim, rule, weight=None, delay=None):
    """Return the plasticity of one rule of network.json."""
    timing = sim.SpikePairRule(tau_plus=rule["tau_plus"], tau_minus=rule["tau_minus"], A_plus=rule["a_plus"], A_minus=rule["a_minus"])
    dependence = sim.MultiplicativeWeightDependence if rule["multiplicative"] else sim.AdditiveWeightDependence
    return sim.STDPMechanism(
        timing_dependence=timing, weight_dependence=dependence(w_min=rule["w_min"], w_max=rule["w_max"]), weight=weight, delay=delay
    )


def make_projection(sim, entry, arrays, populations, scale, rules, dt_ms):
    """Make the PyNN projections of one entry of network.json: one for each receptor and plasticity. Returns (mask, projection) pairs."""
    k = entry["key"]
    pre, post, delay = arrays[f"pre:{k}"], arrays[f"post:{k}"], arrays[f"delay:{k}"]
    weight = arrays[f"weight:{k}"].astype(np.float64) * scale[entry["post"]][post]
    made = []
    for receptor, mask in (("excitatory", weight >= 0), ("inhibitory", weight < 0)):
        rule = entry["rule"].get(receptor)
        if not mask.any():
            continue
        rows = np.column_stack((pre[mask], post[mask], weight[mask], delay[mask] * dt_ms))
        synapse = sim.StaticSynapse() if rule is None else make_stdp(sim, rules[rule])
        made.append(
            (
                mask,
                sim.Projection(
                    populations[entry["pre"]],
                    populations[entry["post"]],
                    sim.FromListConnector(rows, column_names=["weight", "delay"]),
                    synapse_type=synapse,
                    receptor_type=receptor,
                    label=f"{entry['name']}:{receptor}",
                ),
            )
        )
    return made


def read_weights(entry, made, arrays, scale, dt_ms):
    """Return (weight, delay in steps) of one projection in the order of network.npz, NaN where sPyNNaker holds no such synapse, and
    the number of synapses that sPyNNaker holds."""
    k = entry["key"]
    pre, post, delay = arrays[f"pre:{k}"], arrays[f"post:{k}"], arrays[f"delay:{k}"]
    weight = np.full(len(pre), np.nan)
    steps = np.full(len(pre), -1, np.int64)
    total = 0
    for mask, projection in made:
        got = np.asarray([tuple(row) for row in projection.get(["weight", "delay"], format="list")], dtype=np.float64).reshape(-1, 4)
        total += len(got)
        ids = np.flatnonzero(mask)
        # A pair may be connected more than once: equal pairs are matched by delay, then by weight.
        got_delay = np.rint(got[:, 3] / dt_ms).astype(np.int64)
        ours = ids[np.lexsort((np.abs(arrays[f"weight:{k}"][ids]), delay[ids], post[ids], pre[ids]))]
        theirs = np.lexsort((np.abs(got[:, 2]), got_delay, got[:, 1], got[:, 0]))
        n = min(len(ours), len(theirs))
        ours, theirs = ours[:n], theirs[:n]
        same = (pre[ours] == got[theirs, 0]) & (post[ours] == got[theirs, 1])
        ours, theirs = ours[same], theirs[same]
        sign = -1.0 if projection_is_inhibitory(projection) else 1.0
        weight[ours] = sign * np.abs(got[theirs, 2]) / scale[entry["post"]][post[ours]]
        steps[ours] = got_delay[theirs]
    return weight, steps, total


def projection_is_inhibitory(projection):
    return projection.label.endswith(":inhibitory")


def describe_mapping(populations):
    """Return the placements, keys and routing tables that sPyNNaker found, as (summary, arrays)."""
    from spynnaker.pyNN.data import SpynnakerDataView as View

    names = list(populations)
    number = {id(populations[name]._vertex): i for i, name in enumerate(names)}
    cores = {name: {"cores": 0, "neuron_cores": 0, "chips": set(), "keys": []} for name in names}
    helpers, placed = 0, []
    row_of = {}
    for placement in View.iterate_placemements():
        vertex = placement.vertex
        index = number.get(id(vertex.app_vertex), -1)
        delay_of = -1
        if index < 0:
            source = getattr(vertex.app_vertex, "source_vertex", None)
            delay_of = number.get(id(source), -1)
            helpers += vertex.app_vertex is not None
        low, high = (vertex.vertex_slice.lo_atom, vertex.vertex_slice.hi_atom) if vertex.app_vertex is not None else (-1, -1)
        takes = "Synapses" in type(vertex).__name__ or type(vertex).__name__ == "PopulationMachineVertex"
        row_of[id(vertex)] = len(placed)
        placed.append((index, delay_of, low, high, placement.x, placement.y, placement.p, int(takes)))
        if index >= 0:
            entry = cores[names[index]]
            entry["cores"] += 1
            entry["neuron_cores"] += int("Synapses" not in type(vertex).__name__)
            entry["chips"].add((placement.x, placement.y))
    keys = []
    for info in View.get_routing_infos():
        row = row_of.get(id(info.vertex))
        if row is not None and (placed[row][0] >= 0 or placed[row][1] >= 0):
            keys.append((row, int(info.key), int(info.mask)))
            if placed[row][0] >= 0:
                cores[names[placed[row][0]]]["keys"].append([f"0x{int(info.key):08x}", f"0x{int(info.mask):08x}"])
    entries, per_chip = [], []
    for table in View.get_uncompressed().routing_tables:
        rows = list(table.multicast_routing_entries)
        per_chip.append(len(rows))
        for e in rows:
            links = sum(1 << link for link in e.link_ids)
            processors = sum(1 << p for p in e.processor_ids)
            entries.append((table.x, table.y, int(e.key), int(e.mask), links, processors))
    links = [
        (chip.x, chip.y, link.source_link_id, link.destination_x, link.destination_y)
        for chip in View.get_machine().chips
        for link in chip.router.links
    ]
    summary = {
        "populations": {name: {**c, "chips": len(c["chips"]), "keys": sorted(c["keys"])} for name, c in cores.items()},
        "helper_cores": helpers,
        "routing_tables": len(per_chip),
        "routing_entries": sum(per_chip),
        "max_routing_entries": max(per_chip, default=0),
    }
    arrays = {
        "placements": np.asarray(placed, np.int64).reshape(-1, 8),
        "keys": np.asarray(keys, np.int64).reshape(-1, 3),
        "entries": np.asarray(entries, np.int64).reshape(-1, 6),
        "links": np.asarray(links, np.int64).reshape(-1, 5),
    }
    return summary, arrays


def collect(network, populations, n_steps, dt_ms):
    """Return the recorded spikes and outputs in our steps and the user's units. A membrane is recorded at the beginning of a step, so
    row t of the output is sample t+1 of the recording."""
    found, counts = {}, {}
    for entry in network["populations"]:
        name = entry["name"]
        step, neuron = np.zeros(0, np.int64), np.zeros(0, np.int64)
        segments = populations[name].get_data(entry["record"]).segments
        if entry["record"] == "spikes":
            trains = segments[0].spiketrains if segments else []
            ids = [np.full(len(t), int(t.annotations.get("source_index", i))) for i, t in enumerate(trains)]
            times = [np.rint(np.asarray(t.rescale("ms")) / dt_ms).astype(np.int64) for t in trains]
            if times:
                step, neuron = np.concatenate(times), np.concatenate(ids)
            keep = step < n_steps
            order = np.lexsort((neuron[keep], step[keep]))
            step, neuron = step[keep][order], neuron[keep][order]
        else:
            signals = segments[0].analogsignals if segments else []
            raw = np.asarray(signals[0].magnitude) if signals else np.zeros((0, entry["size"]))
            found[f"output:{name}"] = raw[1 : n_steps + 1] / entry["voltage_scale"]
        found[f"spike_step:{name}"], found[f"spike_neuron:{name}"] = step.astype(np.int64), neuron.astype(np.int32)
        counts[name] = len(step)
    return found, counts


def execute(args, network, arrays, given, n_steps):
    if args.virtual:
        print("virtual board: the network is mapped, nothing is executed", file=sys.stderr)
    import pyNN.spiNNaker as sim

    patch_neuromodulation()
    dt_ms = network["dt_ms"]
    started = time.perf_counter()
    extra = {"n_boards_required": network["n_boards"]} if network["n_boards"] > 1 and args.virtual else {}
    sim.setup(timestep=dt_ms, min_delay=dt_ms, **extra)
    populations = {e["name"]: make_population(sim, e, arrays, given, n_steps, dt_ms) for e in network["populations"]}
    scale = {
        e["name"]: np.broadcast_to(np.asarray(values(e["weight_scale"], arrays), np.float64), (e["size"],)) for e in network["populations"]
    }
    made = {e["name"]: make_projection(sim, e, arrays, populations, scale, network["rules"], dt_ms) for e in network["projections"]}
    for m in network["modulations"]:  # after the plastic projections that they modulate
        rule = sim.extra_models.Neuromodulation(weight=m["weight"], tau_c=m["tau_c"], tau_d=m["tau_d"], w_min=m["w_min"], w_max=m["w_max"])
        sim.Projection(
            populations[m["pre"]], populations[m["post"]], sim.AllToAllConnector(), synapse_type=rule, receptor_type=m["receptor"]
        )
    for entry in network["populations"]:
        populations[entry["name"]].record(entry["record"])
    sim.run((n_steps + 1) * dt_ms)
    summary, mapping = describe_mapping(populations)
    results, counts = (
        ({}, {e["name"]: 0 for e in network["populations"]}) if args.virtual else collect(network, populations, n_steps, dt_ms)
    )
    n_synapses = 0
    for entry in network["projections"]:
        weight, steps, total = read_weights(entry, made[entry["name"]], arrays, scale, dt_ms)
        n_synapses += total
        results[f"weight:{entry['name']}"] = weight
        results[f"pre:{entry['name']}"] = arrays[f"pre:{entry['key']}"]
        results[f"post:{entry['name']}"] = arrays[f"post:{entry['key']}"]
        results[f"delay:{entry['name']}"] = steps
    if args.virtual:
        for entry in network["populations"]:
            results[f"spike_step:{entry['name']}"] = np.zeros(0, np.int64)
            results[f"spike_neuron:{entry['name']}"] = np.zeros(0, np.int32)
            if entry["record"] == "v":
                results[f"output:{entry['name']}"] = np.zeros((0, entry["size"]))
    sim.end()
    summary = {
        "format_version": "1.0",
        "mode": "virtual" if args.virtual else "machine",
        "executed": not args.virtual,
        "steps": n_steps,
        "n_neurons": sum(e["size"] for e in network["populations"]),
        "n_synapses": n_synapses,
        "n_spikes": counts,
        "wall_s": round(time.perf_counter() - started, 3),
        **summary,
    }
    if args.virtual:
        summary["note"] = "mapped on a virtual board: nothing was executed, spikes and outputs are empty, weights are the initial ones"
    return summary, results, mapping


def main(argv=None):
    args = parse(argv)
    network = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    with np.load(HERE / "network.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    if network["mapping_only"] and not args.virtual:
        fail(network["mapping_only"])
    n_steps = network["steps"] if args.steps is None else args.steps
    if n_steps < 1:
        fail(f"--steps is {n_steps}, must be at least 1")
    sizes = {e["name"]: e["size"] for e in network["populations"] if e["cell"] == "source"}
    given = {}
    for item in args.input:
        name, separator, path = item.partition("=")
        if not separator or name not in sizes:
            fail(f"--input {item!r}: expected POP=FILE with POP one of: {', '.join(sizes) or 'none'}")
        given[name] = read_spikes(path, sizes[name], name)
    out, mapping_out = (Path(p).resolve() if p else None for p in (args.out, args.mapping))
    # sPyNNaker and its parts print to stdout: only the summary may go there.
    stdout = os.dup(1)
    os.dup2(2, 1)
    here = Path.cwd()
    try:
        if args.virtual:
            folder = tempfile.mkdtemp(prefix="spynnaker-")
            # sPyNNaker writes there once more at exit; what is registered first runs last.
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            sandbox(Path(folder), network["machine_version"])
        summary, results, mapping = execute(args, network, arrays, given, n_steps)
    finally:
        os.chdir(here)
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
    if out is not None:
        np.savez_compressed(out, **results)
    if mapping_out is not None:
        np.savez_compressed(mapping_out, **mapping)
    print(json.dumps(summary, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
