"""Recorders: what a run is asked to keep -> arrays for the kernels -> the fields of a Recording."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.backends.reference.engine import Engine
from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.recording import Neurons, RecordOptions
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import InputError, did_you_mean


def make_probes(network: Network, engine: Engine, record: RecordOptions, n_steps: int) -> t.Probes:
    """Return the probes of a run (errors as in ``Simulator.run``)."""
    if record.every < 1:
        raise InputError.of("NC239", f"record every {record.every} steps, must be >= 1")
    names = [p.name for p in network.synaptic_projections]
    for name in (*record.weights, *record.traces):
        if name not in names:
            raise InputError.of("NC207", f"record: projection '{name}' does not exist", help=did_you_mean(name, names))
    for name in record.traces:
        if name not in engine.eprop_names:
            raise InputError.of("NC239", f"record: projection '{name}' has no e-prop traces")
    membrane = _ids(network, record.membrane, network.offsets)
    adaptation = _ids(network, record.adaptation, network.offsets)
    sites: dict[str, int] = {}
    for (population, _), first in engine.site_of.items():
        sites.setdefault(population, first)
    surrogate, signal = _ids(network, record.surrogate, sites), _ids(network, record.learning_signal, sites)
    return t.Probes(
        membrane,
        np.zeros((n_steps, membrane.size)),
        adaptation,
        np.zeros((n_steps, adaptation.size)),
        surrogate,
        np.zeros((n_steps, surrogate.size)),
        signal,
        np.zeros((n_steps, signal.size)),
        np.zeros((n_steps, sum(r.size for r in network.readouts))),
        np.zeros((n_steps, 0 if network.actor_critic is None else 3)),
    )


def _ids(network: Network, asked: Mapping[str, Neurons], first: Mapping[str, int]) -> t.I4:
    parts = [np.zeros(0, np.int64)]
    known = {p.name for p in network.populations}
    for name, neurons in asked.items():
        if name not in known:
            raise InputError.of("NC207", f"record: population '{name}' does not exist", help=did_you_mean(name, known))
        if name not in first:
            raise InputError.of("NC239", f"record: population '{name}' does not learn by e-prop and has no such quantity")
        size = network.population(name).size
        ids = np.arange(size) if neurons is None else np.asarray(neurons)
        if ids.ndim != 1 or (ids.size and (not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() >= size)):
            raise InputError.of("NC204", f"record: neurons of '{name}' must be a list of indices in 0 .. {size - 1}")
        parts.append(ids + first[name])
    return np.concatenate(parts).astype(np.int32)


def split_probes(network: Network, record: RecordOptions, probes: t.Probes) -> dict[str, dict[str, FloatArray]]:
    """Return the fields of a Recording that come from probes."""
    asked = (
        ("membrane", record.membrane, probes.membrane),
        ("adaptation", record.adaptation, probes.adaptation),
        ("surrogate", record.surrogate, probes.surrogate),
        ("learning_signal", record.learning_signal, probes.signal),
        ("outputs", {r.name: None for r in network.readouts}, probes.output),
    )
    result: dict[str, dict[str, FloatArray]] = {}
    for field, names, values in asked:
        result[field] = {}
        column = 0
        for name, neurons in names.items():
            width = network.population(name).size if neurons is None else len(np.asarray(neurons))
            result[field][name] = values[:, column : column + width].copy()
            column += width
    return result
