"""Map the emitted program on a virtual board and compare what sPyNNaker made of it with the build: synapses, cores, routes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.backends.base import Check
from neurocompile.backends.spinnaker.neurons import Findings, lower_population
from neurocompile.backends.spinnaker.walk import walk
from neurocompile.ir import Network
from neurocompile.ir.errors import MismatchError
from neurocompile.ir.npz import AnyArray, load_npz
from neurocompile.ir.realise import Connections

TIMEOUT_S = 1800
STATE = frozenset({"v_init", "isyn_exc", "isyn_inh"})
"""Entries of a cell's ``params`` that are initial values; sPyNNaker does not give them back as parameters."""


def validate(build: Path, network: Network, connections: Mapping[str, Connections], *, steps: int) -> list[Check]:
    """Run ``program/run.py --virtual`` and return the comparisons.

    Raises
    ------
    MismatchError
        NC620: the program failed; NC621: it did not print its summary.
    """
    program = build / "program"
    with tempfile.TemporaryDirectory() as folder:
        out, found = Path(folder) / "results.npz", Path(folder) / "mapping.npz"
        summary = run_virtual(program, steps, out, found, Path(folder))
        results, mapping = load_npz(out), load_npz(found)
    return compare(program, network, connections, summary, results, mapping)


def compare(
    program: Path,
    network: Network,
    connections: Mapping[str, Connections],
    summary: Mapping[str, Any],
    results: Mapping[str, AnyArray],
    mapping: Mapping[str, AnyArray],
) -> list[Check]:
    """Compare what a run on a virtual board printed (``summary``) and wrote (``results``, ``mapping``) with the build."""
    document, arrays = json.loads((program / "network.json").read_text(encoding="utf-8")), load_npz(program / "network.npz")
    checks = [check_synapses(p.name, connections[p.name], results, document, arrays) for p in network.synaptic_projections]
    checks += check_cells(network, connections, document, mapping, summary)
    checks += check_cores(document, summary)
    checks.append(check_tables(summary))
    checks += check_routes(document, connections, mapping)
    return checks


def run_virtual(program: Path, steps: int, out: Path, mapping: Path, folder: Path) -> dict[str, Any]:
    """Run the program on a virtual board and return its JSON summary."""
    command = [sys.executable, str(program / "run.py"), "--virtual", "--steps", str(steps), "--out", str(out), "--mapping", str(mapping)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise MismatchError.of("NC620", f"run.py --virtual did not end within {TIMEOUT_S} s", file=str(program / "run.py")) from None
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise MismatchError.of(
            "NC620", f"run.py --virtual ended with status {done.returncode}: {last}", file=str(program / "run.py"), help="run it by hand"
        )
    try:
        summary: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise MismatchError.of(
            "NC621", f"run.py printed no JSON summary but {done.stdout[:80]!r}", file=str(program / "run.py"), help="run it by hand"
        ) from None
    return summary


def check_synapses(
    name: str, expected: Connections, results: Mapping[str, AnyArray], document: Mapping[str, Any], arrays: Mapping[str, AnyArray]
) -> Check:
    """Compare pre, post, delay exactly and weights to one unit of the 16-bit format."""
    weight = np.asarray(results[f"weight:{name}"], np.float64)
    delay = np.asarray(results[f"delay:{name}"], np.int64)
    ends = np.array_equal(results[f"pre:{name}"], expected.pre) and np.array_equal(results[f"post:{name}"], expected.post)
    row = next(p for p in document["projections"] if p["name"] == name)
    post = next(p for p in document["populations"] if p["name"] == row["post"])
    # weight_scale is an array where neurons differ in tau_syn
    scale = arrays[post["weight_scale"]["array"]][expected.post] if isinstance(post["weight_scale"], dict) else post["weight_scale"]
    allowed = max(post["weight_resolution"]) / np.broadcast_to(np.asarray(scale, np.float64), expected.weight.shape)
    missing = int(np.count_nonzero(np.isnan(weight)))
    differs = np.abs(weight - expected.weight) if len(weight) == len(expected.weight) else np.full(len(expected.weight), np.inf)
    difference = float(np.nanmax(differs, initial=0.0))
    late = int(np.count_nonzero(delay != expected.delay)) if len(delay) == len(expected.delay) else len(expected.delay)
    # Half a unit from rounding, one more because float32 weights are scaled before they are rounded.
    ok = ends and missing == 0 and late == 0 and not np.any(differs > allowed)
    return Check(
        name=f"synapses of {name}",
        ok=bool(ok),
        detail=f"{len(expected.pre)} expected, {missing} missing, {late} with another delay, weights differ by at most {difference:.3g} "
        f"(16-bit resolution {float(np.max(allowed, initial=0.0)):.3g})",
    )


def check_cells(
    network: Network,
    connections: Mapping[str, Connections],
    document: Mapping[str, Any],
    mapping: Mapping[str, AnyArray],
    summary: Mapping[str, Any],
) -> list[Check]:
    """Compare the neuron parameters that sPyNNaker holds with the description lowered again, and its weight format with the planned one."""
    checks = []
    for index, population in enumerate(network.populations):
        inputs = [connections[p.name].weight for p in network.synaptic_projections if p.post == population.name]
        largest = max((float(np.abs(w).max(initial=0.0)) for w in inputs), default=0.0)
        cell = lower_population(population, network.dt, largest, Findings())
        if cell.cell == "source":
            continue
        wrong = []
        for name in sorted(set(cell.params) - STATE):
            got = mapping.get(f"param:{index}:{name}")
            # The same numbers went through JSON or npz and sPyNNaker's own storage, in double precision.
            if got is None or not np.allclose(np.asarray(got, np.float64), cell.params[name], rtol=1e-12, atol=0.0):
                wrong.append(name)
        entry = document["populations"][index]
        planned, got_units = entry.get("weight_resolution"), summary["populations"][population.name].get("weight_resolution")
        ok = not wrong and planned == got_units and entry["cell"] == cell.cell
        checks.append(
            Check(
                name=f"cells of {population.name}",
                ok=ok,
                detail=f"{cell.cell}, {len(cell.params) - len(STATE & set(cell.params))} parameters, "
                + (f"other than the description's: {', '.join(wrong)}" if wrong else "as described")
                + f"; weight resolution planned {planned}, sPyNNaker {got_units}",
            )
        )
    return checks


def check_cores(document: Mapping[str, Any], summary: Mapping[str, Any]) -> list[Check]:
    """Compare sPyNNaker's cores of each population with those the build planned."""
    checks = []
    for entry in document["populations"]:
        got = summary["populations"][entry["name"]]
        per_core = entry["neurons_per_core"]
        if not per_core:
            continue
        parts = -(-entry["size"] // per_core)
        planned = parts * (1 + entry.get("n_synapse_cores", 0))
        checks.append(
            Check(
                name=f"cores of {entry['name']}",
                ok=got["cores"] == planned and got["neuron_cores"] == parts,
                detail=f"planned {planned} ({parts} with neurons, {per_core} neurons each), sPyNNaker {got['cores']} "
                f"({got['neuron_cores']} with neurons)",
            )
        )
    return checks


def check_tables(summary: Mapping[str, Any]) -> Check:
    """Routing tables must not be empty where anything is connected."""
    return Check(
        name="routing tables",
        ok=summary["routing_entries"] > 0 or summary["n_synapses"] == 0,
        detail=f"{summary['routing_entries']} entries on {summary['routing_tables']} chips, "
        f"at most {summary['max_routing_entries']} a chip",
    )


def check_routes(document: Mapping[str, Any], connections: Mapping[str, Connections], mapping: Mapping[str, AnyArray]) -> list[Check]:
    """Walk the packets of every source core through sPyNNaker's tables to the cores that hold its targets."""
    reach = walk(mapping)
    placements = np.asarray(mapping["placements"], np.int64)
    index = {p["name"]: i for i, p in enumerate(document["populations"])}
    delay_cores = set(np.flatnonzero(placements[:, 1] >= 0).tolist())
    checks = []
    for projection in document["projections"]:
        synapses = connections[projection["name"]]
        pre, post = index[projection["pre"]], index[projection["post"]]
        sources = [r for r in np.flatnonzero(placements[:, 0] == pre).tolist() if r in reach]
        targets = np.flatnonzero((placements[:, 0] == post) & (placements[:, 7] == 1)).tolist()
        slices = sorted({(int(placements[t, 2]), int(placements[t, 3])) for t in targets})
        wanted = lost = 0
        for source in sources:
            sends = (synapses.pre >= placements[source, 2]) & (synapses.pre <= placements[source, 3])
            reached = set(reach[source])
            for extension in reached & delay_cores:  # a delay extension sends on under its own key
                reached |= set(reach.get(extension, ()))
            for low, high in slices:
                if np.any(sends & (synapses.post >= low) & (synapses.post <= high)):
                    wanted += 1
                    lost += not any(t in reached and placements[t, 2] == low and placements[t, 3] == high for t in targets)
        ok = lost == 0 and (wanted > 0 or len(synapses.pre) == 0)
        checks.append(
            Check(
                name=f"routes of {projection['name']}",
                ok=ok,
                detail=f"{wanted} pairs of source and target core with synapses, {lost} not reached by the source's key",
            )
        )
    return checks
