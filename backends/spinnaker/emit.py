"""The files of ``program/``: run.py and its modules are the same for every network; all that is particular stands in network.json and
network.npz, so that names of populations are data and never code."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import Artifacts
from neurocompile.backends.spinnaker.eprop.emit import copies_row, extension_files, network_row, population_row, projection_row
from neurocompile.backends.spinnaker.layout import layouts
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.ir.npz import npz_bytes
from neurocompile.ir.shards import IN_TURN, Shards
from neurocompile.mapping.types import Mapping

FORMAT_VERSION = "1.1"
SCRIPTS = ("run", "pynn_network", "board", "routes")
"""Files of the program, the same for every network: the command, what it asks PyNN for, sPyNNaker's cores and tables, routes."""


def emit(lowered: SpinnakerNetwork, mapping: Mapping | None, shards: Shards = IN_TURN) -> Artifacts:
    """Return run.py and its modules, network.json, network.npz and README.md (see docs/spinnaker.md for the keys)."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    populations = _populations(lowered, mapping, arrays)
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": lowered.network.name,
        "dt_ms": lowered.network.dt * 1e3,
        "seed": lowered.network.seed,
        "steps": lowered.steps,
        "machine_version": lowered.machine_version,
        "n_boards": lowered.n_boards,
        "grid": [lowered.machine.topology.width, lowered.machine.topology.height],
        "mapping_only": lowered.mapping_only,
        "populations": populations,
        "projections": _projections(lowered, arrays),
        "rules": [
            {
                "tau_plus": r.tau_plus,
                "tau_minus": r.tau_minus,
                "a_plus": r.a_plus,
                "a_minus": r.a_minus,
                "w_min": r.w_min,
                "w_max": r.w_max,
                "multiplicative": r.multiplicative,
            }
            for r in lowered.learning.rules
        ],
        "modulations": [
            {
                "pre": m.pre,
                "post": m.post,
                "receptor": m.receptor,
                "weight": m.weight,
                "tau_c": m.tau_c,
                "tau_d": m.tau_d,
                "w_min": m.w_min,
                "w_max": m.w_max,
            }
            for m in lowered.learning.modulations
        ],
    }
    plan = lowered.eprop
    document["eprop"] = None if plan is None else network_row(plan, lowered.machine, populations, lowered.network.dt)
    templates = resources.files("neurocompile.backends.spinnaker") / "templates"
    extra: Artifacts = {}
    if lowered.eprop is not None:
        extra = {
            "program/eprop_model.py": (templates / "eprop_model.py.txt").read_bytes(),
            **extension_files(lowered.eprop, [cell.name for cell in lowered.cells]),
        }
    return {
        **extra,
        **{f"program/{name}.py": (templates / f"{name}.py.txt").read_bytes() for name in SCRIPTS},
        "program/network.json": (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(),
        "program/network.npz": npz_bytes(arrays, shards=shards),
        "program/README.md": _readme(lowered, (templates / "README.md").read_text(encoding="utf-8")).encode(),
    }


def _populations(lowered: SpinnakerNetwork, mapping: Mapping | None, arrays: dict[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    rows = []
    for index, (cell, layout) in enumerate(zip(lowered.cells, layouts(lowered, mapping), strict=True)):

        def stored(name: str, value: float | npt.NDArray[np.float64], index: int = index) -> float | dict[str, str]:
            if isinstance(value, float):
                return value
            arrays[f"param:{index}:{name}"] = value
            return {"array": f"param:{index}:{name}"}

        if layout.moved:
            arrays[f"slot:{index}"] = layout.slot
        row: dict[str, Any] = {
            "name": cell.name,
            "size": cell.size,
            "cell": cell.cell,
            "params": {name: stored(name, value) for name, value in cell.params.items()},
            "voltage_scale": cell.voltage_scale,
            "weight_scale": stored("weight_scale", cell.weight_scale),
            "record": cell.record,
            "neurons_per_core": layout.per_core,
            "n_slots": layout.n_slots,
            "slot": {"array": f"slot:{index}"} if layout.moved else None,
            "cores": None if layout.cores is None else [[x, y, list(cores)] for x, y, cores in layout.cores],
            "delay_cores": layout.delayed,
        }
        if cell.cell == "source":
            row["seed"] = (lowered.network.seed + index) % 2**31
            row |= copies_row(lowered.copies, index, cell.name, arrays)
        else:
            buffer = lowered.buffers[cell.name]
            row["max_expected_summed_weight"] = list(buffer.expected)
            row["weight_resolution"] = list(buffer.resolution)
            row["n_synapse_cores"] = int(lowered.split[index])
            if lowered.eprop is not None:
                events = lowered.machine.value("core.plastic_events_per_second")
                row["eprop"] = population_row(lowered.network, lowered.eprop, index, cell.name, arrays, events)
        rows.append(row)
    return rows


def _projections(lowered: SpinnakerNetwork, arrays: dict[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    rows = []
    for index, projection in enumerate(lowered.network.synaptic_projections):
        synapses = lowered.connections[projection.name]
        key = str(index)
        arrays[f"pre:{key}"] = synapses.pre
        arrays[f"post:{key}"] = synapses.post
        arrays[f"weight:{key}"] = synapses.weight
        arrays[f"delay:{key}"] = synapses.delay
        rule = lowered.learning.plastic.get(projection.name)
        rows.append(
            {
                "key": key,
                "name": projection.name,
                "pre": projection.pre,
                "post": projection.post,
                "rule": _rules(lowered, projection.name, rule),
                **({} if lowered.eprop is None else projection_row(lowered.eprop, lowered.copies, projection.name, synapses)),
            }
        )
    return rows


def _rules(lowered: SpinnakerNetwork, projection: str, rule: int | None) -> dict[str, int | str]:
    """Return receptor -> what its synapses obey: a number in ``rules``, or "eprop"."""
    if lowered.eprop is not None and any(p.learns for p in lowered.eprop.projections if p.name == projection):
        return {"excitatory": "eprop", "inhibitory": "eprop"}
    return {} if rule is None else {"excitatory": rule}


_OWN_BINARIES = """
**Build the binaries first**: populations run on cores of our own (`extension`, C in sPyNNaker's interfaces), which released sPyNNaker has
not. `extension/README.md` has the steps; `--virtual` needs none. What readouts should do is given with `--target READOUT=FILE`, an npz
with `target` (steps, n) and, if not all steps count, `window` (steps,).
"""


def _readme(lowered: SpinnakerNetwork, template: str) -> str:
    """Fill the template in one pass; a name with line breaks or a placeholder in it stays text."""
    changes = [f"{a.code}, {a.where}: {a.what}. Instead: {a.instead}. {a.effect}".rstrip(". ") + "." for a in lowered.approximations]
    signals = ""
    if lowered.learning.signals:
        names = ", ".join(f"`{name}`" for name in lowered.learning.signals)
        signals = (
            "\nReward and punishment enter as spikes of the added sources " + names + ": give them with `--input`, e.g. "
            f"`--input {lowered.learning.signals[0]}=reward.npz`. Without spikes there nothing is learned.\n"
        )
    only = f"\n**{lowered.mapping_only}.**\n" if lowered.mapping_only else ""
    own = _OWN_BINARIES if lowered.eprop is not None else ""
    filled = {
        "NAME": _one_line(lowered.network.name),
        "CHANGES": "\n".join(f"- {_one_line(change)}" for change in changes) or "- none",
        "SIGNALS": own + signals + only,
        "DT": f"{lowered.network.dt * 1e3:g}",
    }
    return re.sub(r"@(\w+)@", lambda match: filled[match[1]], template)


def _one_line(text: str) -> str:
    return " ".join(text.split())
