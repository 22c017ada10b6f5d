"""NestNetwork -> the files of ``program/``. The program text is fixed; names and numbers are data beside it."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import numpy as np

from neurocompile.backends.base import Artifacts
from neurocompile.backends.nest.lowered import NestNetwork, NestPopulation
from neurocompile.ir.npz import AnyArray, npz_bytes
from neurocompile.ir.shards import IN_TURN, Shards

FORMAT = "neurocompile-nest/1"


def emit(lowered: NestNetwork, shards: Shards = IN_TURN) -> Artifacts:
    """Return run.py, network.json, network.npz and README.md under ``program/``; same network, same bytes."""
    arrays: dict[str, AnyArray] = {}
    structure = _structure(lowered, arrays)
    templates = importlib.resources.files("neurocompile.backends.nest") / "templates"
    return {
        "program/run.py": (templates / "run.py").read_bytes(),
        "program/network.json": (json.dumps(structure, indent=1, sort_keys=True) + "\n").encode(),
        "program/network.npz": npz_bytes(arrays, shards=shards),
        "program/README.md": (templates / "README.md").read_bytes(),
    }


def _structure(lowered: NestNetwork, arrays: dict[str, AnyArray]) -> dict[str, Any]:
    network = lowered.network
    index = {p.name: i for i, p in enumerate(network.populations)}
    projections = []
    for i, projection in enumerate(network.synaptic_projections):
        synapses = lowered.connections[projection.name]
        for key in ("pre", "post", "weight", "delay"):
            arrays[f"projection{i}:{key}"] = getattr(synapses, key)
        projections.append(
            {
                "name": projection.name,
                "pre": index[projection.pre],
                "post": index[projection.post],
                "rule": lowered.rule_of.get(projection.name),
            }
        )
    feedback = []
    for i, item in enumerate(lowered.feedback):
        for key in ("pre", "post", "weight"):
            arrays[f"feedback{i}:{key}"] = getattr(item, key)
        feedback.append({"index": i, "pre": item.pre_population, "post": item.post_population})
    delays = [int(c.delay.max()) for c in (lowered.connections[p.name] for p in network.synaptic_projections) if len(c.delay)]
    return {
        "format": FORMAT,
        "name": network.name,
        "dt_ms": network.dt * 1e3,
        "seed": network.seed,
        "max_delay": max(delays, default=1),
        "spikes_at_once": lowered.spikes_at_once,
        "populations": [_population(i, p, arrays) for i, p in enumerate(lowered.populations)],
        "projections": projections,
        "feedback": feedback,
        "rules": [{"optimizer": rule.optimizer, "keep_sign": rule.keep_sign} for rule in lowered.rules],
    }


def _population(i: int, population: NestPopulation, arrays: dict[str, AnyArray]) -> dict[str, Any]:
    per_neuron = sorted(key for key, value in population.params.items() if isinstance(value, np.ndarray))
    for key in per_neuron:
        arrays[f"population{i}:{key}"] = np.asarray(population.params[key])
    if population.probability is not None:
        arrays[f"population{i}:probability"] = population.probability
    if population.pushed is not None:
        arrays[f"population{i}:pushed"] = population.pushed
    return {
        "name": population.name,
        "kind": population.kind,
        "model": population.model,
        "size": population.size,
        "params": {key: value for key, value in population.params.items() if key not in per_neuron},
        "arrays": per_neuron,
    }
