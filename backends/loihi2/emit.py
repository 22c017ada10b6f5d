"""Emission: the files of ``program/``. Code is fixed text (templates/); all of the user's is data in network.json and network.npz."""

from __future__ import annotations

import json
from importlib import resources
from importlib.abc import Traversable
from typing import Any

import numpy as np

from neurocompile.backends.base import Artifacts
from neurocompile.backends.loihi2.lowered import Loihi2Network, LoweredPopulation
from neurocompile.ir.npz import npz_bytes
from neurocompile.ir.shards import IN_TURN, Shards
from neurocompile.mapping.types import Mapping

_SUFFIX = ".tmpl"


def emit_program(lowered: Loihi2Network, mapping: Mapping | None, shards: Shards = IN_TURN) -> Artifacts:
    """Return path -> content; the same network gives the same bytes."""
    files: Artifacts = {}
    root = resources.files("neurocompile.backends.loihi2") / "templates" / "program"
    for path, text in sorted(_templates(root, "program")):
        files[path] = text.encode()
    spec, arrays = describe(lowered)
    files["program/network.json"] = (json.dumps(spec, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()
    files["program/network.npz"] = npz_bytes(arrays, shards=shards)
    files["program/README.md"] = files["program/README.md"].replace(b"@TABLE@", _table(lowered).encode())
    if mapping is not None:
        files["program/mapping.json"] = (json.dumps(_cores(lowered, mapping), sort_keys=True) + "\n").encode()
    return dict(sorted(files.items()))


def _templates(folder: Traversable, path: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _templates(entry, f"{path}/{entry.name}")
        elif entry.name.endswith(_SUFFIX):
            found.append((f"{path}/{entry.name.removesuffix(_SUFFIX)}", entry.read_text(encoding="utf-8")))
    return found


def describe(lowered: Loihi2Network) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """Return (network.json, network.npz) of a program: structure and names, numbers."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    populations, projections, feedback = [], [], []
    for index, population in enumerate(lowered.populations):
        key = f"n{index}"
        populations.append(
            {
                "key": key,
                "name": population.name,
                "size": population.size,
                "process": population.process,
                "scale": population.scale,
                "offset": population.offset,
                "learning": None if population.learning is None else dict(population.learning),
            }
        )
        for part, values in (("fixed", population.fixed), ("real", population.real), ("learning", population.learning_arrays)):
            for name, value in values.items():
                arrays[f"{key}.{part}.{name}"] = np.asarray(value)
        if population.rate is not None:
            arrays[f"{key}.rate"] = population.rate
    for index, projection in enumerate(lowered.projections):
        key, quantised = f"s{index}", projection.quantised
        projections.append(
            {
                "key": key,
                "name": projection.name,
                "pre": projection.pre,
                "post": projection.post,
                "unit": quantised.unit,
                "weight_exp": quantised.exponent,
                "sign_mode": quantised.sign_mode,
                "weight_range": [quantised.low, quantised.high],
                "weight_step": quantised.step,
                "learnt_step": 2**quantised.coarse,
                "parts": int(projection.part.max()) + 1 if projection.part.size else 0,
                "rule": None if projection.rule is None else dict(projection.rule),
            }
        )
        arrays |= {
            f"{key}.pre": projection.pre_ids,
            f"{key}.post": projection.post_ids,
            f"{key}.delay": projection.delay,
            f"{key}.part": projection.part,
            f"{key}.weight.fixed": quantised.values,
            f"{key}.weight.real": projection.weight,
        }
    for index, entry in enumerate(lowered.feedback):
        key = f"f{index}"
        feedback.append({"key": key, "readout": entry.readout, "post": entry.post, "sign_mode": entry.quantised.sign_mode})
        arrays |= {f"{key}.fixed": entry.quantised.values, f"{key}.real": entry.real}
    spec = {
        "format": 2,
        "name": lowered.network.name,
        "dt": lowered.network.dt,
        "seed": lowered.network.seed,
        "learning": any(p.rule is not None for p in lowered.projections),
        "populations": populations,
        "projections": projections,
        "feedback": feedback,
        "rewards": [{"reward": reward, "post": post} for reward, post in lowered.rewards],
    }
    return spec, arrays


def _kind(population: LoweredPopulation) -> str:
    return {"SpikeInput": "host", "LIF": "lava.proc.lif.LIF", "Neuron": "processes/neurons", "Readout": "processes/readouts"}[
        population.process
    ]


def _table(lowered: Loihi2Network) -> str:
    rows = ["| population | neurons | process |", "|---|---|---|"]
    rows += [f"| `{p.name}` | {p.size} | {p.process} ({_kind(p)}) |" for p in lowered.populations]
    rows += ["", "| projection | synapses | process | weight unit |", "|---|---|---|---|"]
    for p in lowered.projections:
        slow = bool(p.delay.size) and int(p.delay.max()) > 1
        process = "Plastic (processes/plasticity)" if p.rule is not None else "DelaySparse" if slow else "Sparse"
        rows.append(f"| `{p.name}` | {len(p.pre_ids)} | {process} | {p.quantised.unit:.6g} |")
    return "\n".join(rows)


def _cores(lowered: Loihi2Network, mapping: Mapping) -> dict[str, Any]:
    """Return which neurons share a core, as metadata: the program runs one big process a population."""
    part, place = mapping.partition.part, mapping.placement
    cores: list[dict[str, Any]] = []
    offsets = lowered.network.offsets
    for population in lowered.network.populations:
        start = offsets[population.name]
        own = part[start : start + population.size]
        for number in np.unique(own):
            if not mapping.partition.external[number]:
                cores.append(
                    {
                        "chip": int(place.chip[number]),
                        "core": int(place.core[number]),
                        "population": population.name,
                        "neurons": np.flatnonzero(own == number).tolist(),
                    }
                )
    return {"note": "Metadata: where the compiler would place the neurons. Lava's own compiler decides on hardware.", "cores": cores}
