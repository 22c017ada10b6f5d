"""Map the emitted program on a virtual board and compare what sPyNNaker made of it with the build: synapses, cores, routes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocompile.backends.base import Check
from neurocompile.backends.spinnaker.checks import (
    check_cells,
    check_cores,
    check_keys,
    check_memory,
    check_places,
    check_routes,
    check_synapses,
    check_tables,
    numbering,
)
from neurocompile.backends.spinnaker.comparison import check_ours, check_pacman, our_tables, side_by_side, trace_ours, tree_crossings
from neurocompile.backends.spinnaker.eprop.late import copies_of
from neurocompile.backends.spinnaker.twin.loaded import check_numbers
from neurocompile.ir import Network
from neurocompile.ir.errors import MismatchError
from neurocompile.ir.npz import AnyArray, load_npz
from neurocompile.ir.realise import Connections
from neurocompile.mapping.export import load_mapping
from neurocompile.mapping.types import Mapping as CoreMapping

TIMEOUT_S = 1800


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
        checks = compare(program, network, connections, summary, results, mapping)
        ours = load_mapping(load_npz(build / "mapping.npz")) if (build / "mapping.npz").exists() else None
        return checks if ours is None else checks + compare_mappings(program, ours, connections, summary, mapping, Path(folder))


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
    slots = numbering(document, arrays)
    checks = [check_synapses(p.name, connections[p.name], results, document, arrays) for p in network.synaptic_projections]
    checks += check_cells(network, connections, document, arrays, mapping, summary)
    checks += check_numbers(document, arrays, results, mapping)
    checks += check_cores(document, summary)
    checks += check_places(document, summary, mapping)
    checks += [check_keys(document, mapping), check_memory(mapping), check_tables(summary)]
    checks += check_routes(document, connections, mapping, slots, copies_of(document, arrays))
    return checks


def compare_mappings(
    program: Path,
    ours: CoreMapping,
    connections: Mapping[str, Connections],
    summary: Mapping[str, Any],
    mapping: Mapping[str, AnyArray],
    folder: Path,
) -> list[Check]:
    """Put our tables before PACMAN's checkers and our tracer, and count in our mapping and in sPyNNaker's; ``folder``: for files."""
    document, arrays = json.loads((program / "network.json").read_text(encoding="utf-8")), load_npz(program / "network.npz")
    tables = our_tables(ours, document, connections, copies_of(document, arrays))
    traces = trace_ours(tables, mapping["links"])
    found = [check_ours(tables, traces), *check_pacman(tables, traces, document, folder)]
    return found + side_by_side(tables, traces, tree_crossings(ours), document, numbering(document, arrays), summary, mapping)


def run_virtual(program: Path, steps: int, out: Path, mapping: Path, folder: Path) -> dict[str, Any]:
    """Run the program on a virtual board and return its JSON summary."""
    command = [sys.executable, str(program / "run.py"), "--virtual", "--steps", str(steps), "--out", str(out), "--mapping", str(mapping)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise MismatchError.of("NC620", f"run.py --virtual did not end within {TIMEOUT_S} s", file=str(program / "run.py")) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()  # sPyNNaker lists its own warnings again at the end
        last = "\n".join([line for line in lines if line.startswith("error: ")] or lines[-3:])
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
