"""What a lowered network costs on a neurocore, from the machine file.

Synapse memory follows the only published per-synapse formula (nengo-loihi's ``block.py``, Loihi 1): an axon that reaches n synapses of a
core takes blocks of at most 64 synapses, each of 64 * ceil((n * bits + 10) / 64) bits, with bits = weight + delay + tag + target index.
The mapper's costs are additive, so its upper bound is used: bits + (10 + 63) / 64 for each synapse and 10 + 63 for each axon.
For Loihi 2 the formula is a guess; the machine file says so. Profiles are parameter sets that neurons of a core share; each kind has a
limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurocompile.backends.loihi2.lowered import LoweredProjection
from neurocompile.ir import LIF, LeakyReadout, Network, SpikeSource
from neurocompile.ir.neurons import expand
from neurocompile.machine import Machine
from neurocompile.mapping.problem import MappingProblem, Resource, SetResource
from neurocompile.mapping.targets import distinct_targets


def make_problem(network: Network, projections: Sequence[LoweredProjection], machine: Machine) -> MappingProblem:
    """Return what the mapper sees. Spike sources are outside the cores; readouts take cores as any population."""
    offsets, n = network.offsets, network.n_neurons
    names = tuple(p.name for p in network.populations)
    starts = [offsets[name] for name in names]
    population = np.repeat(np.arange(len(names), dtype=np.int32), [p.size for p in network.populations])
    external = np.concatenate([np.full(p.size, isinstance(p.model, SpikeSource)) for p in network.populations])
    word, block = int(machine.value("core.synapse_word")), machine.value("core.synapse_block")
    overhead = machine.value("core.synapse_block_header") + word - 1
    synapse_bits = np.zeros(n)
    for projection in projections:
        bits = sum(_bits(projection, machine).values())
        first, size = starts[projection.post], network.populations[projection.post].size
        synapse_bits[first : first + size] += np.bincount(projection.post_ids, minlength=size) * (bits + overhead / block)
    indptr, indices = distinct_targets(n, [(p.pre_ids, p.post_ids, starts[p.pre], starts[p.post]) for p in projections])
    inside = (~external).astype(np.float64)

    def resource(
        key: str, per_neuron: np.ndarray[tuple[int], np.dtype[np.float64]], axon_in: float = 0.0, axon_out: float = 0.0
    ) -> Resource:
        quantity = machine.quantity(f"core.{key}")
        return Resource(
            name=key,
            unit=quantity.unit,
            limit=quantity.value,
            per_neuron=per_neuron,
            per_axon_in=axon_in,
            per_axon_out=axon_out,
            confidence=quantity.confidence,
        )

    zeros = np.zeros(n)
    resources = (
        resource("neurons", inside),
        resource("synapse_memory", synapse_bits, axon_in=float(overhead)),
        resource("axons_in", zeros, axon_in=1.0),
        resource("axons_out", zeros, axon_out=1.0),
    )
    labels = {
        "profiles": _profiles(network, external),
        "threshold_profiles": _threshold_profiles(network),
        "pre_trace_profiles": _trace_profiles(network, projections),
    }
    return MappingProblem(
        n_neurons=n,
        population=population,
        population_names=names,
        external=external,
        indptr=indptr,
        indices=indices,
        resources=resources,
        set_resources=tuple(
            SetResource(name=name, limit=int(limit.value), label=label, confidence=limit.confidence)
            for name, label in labels.items()
            if (limit := machine.quantities.get(f"core.{name}")) is not None and (name == "profiles" or (label >= 0).any())
        ),
        core_width=np.ones(len(names), np.int32),
    )


def _profiles(network: Network, external: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Number the different parameter sets: neurons of a population that share all per-neuron parameters share a profile."""
    labels = np.full(network.n_neurons, -1, np.int32)
    next_label = 0
    for p in network.populations:
        if isinstance(p.model, SpikeSource):
            continue
        assert isinstance(p.model, LIF | LeakyReadout)
        varying = [name for name in p.model.array_lengths() if name != "bias"]  # the bias is stored per neuron
        table = np.column_stack([expand(getattr(p.model, name), p.size) for name in varying]) if varying else np.zeros((p.size, 1))
        _, inverse = np.unique(table, axis=0, return_inverse=True)
        start = network.offsets[p.name]
        labels[start : start + p.size] = next_label + inverse.reshape(-1)
        next_label += int(inverse.max()) + 1
    labels[external] = -1
    return labels


def _threshold_profiles(network: Network) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Number the different thresholds of spiking neurons."""
    labels = np.full(network.n_neurons, -1, np.int32)
    values = np.full(network.n_neurons, np.nan)
    for p in network.populations:
        if isinstance(p.model, LIF):
            values[network.offsets[p.name] :][: p.size] = expand(p.model.v_threshold, p.size)
    spiking = ~np.isnan(values)
    labels[spiking] = np.unique(values[spiking], return_inverse=True)[1].reshape(-1)
    return labels


def _trace_profiles(network: Network, projections: Sequence[LoweredProjection]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Number the different presynaptic traces (time constant and impulse) by the neurons whose plastic synapses need them."""
    labels = np.full(network.n_neurons, -1, np.int32)
    found: dict[tuple[tuple[str, Any], ...], int] = {}
    for projection in projections:
        if projection.rule is not None:
            trace = tuple(sorted((name, value) for name, value in projection.rule.items() if name.startswith(("x1_", "x2_"))))
            post = network.populations[projection.post]
            start = network.offsets[post.name]
            labels[start : start + post.size] = found.setdefault(trace, len(found))
    return labels


_SURENESS = ("guess", "override", "inferred", "published", "measured")


def _bits(projection: LoweredProjection, machine: Machine) -> dict[str, int]:
    """Return the bits that a stored synapse of a projection has, by name: those of the machine file, and of the rule's second tag (d)."""
    names = ["weight_bits", "index_bits"]
    if projection.rule is not None:
        names.append("tag_bits")
    elif projection.delay.size and int(projection.delay.max()) > 1:
        names.append("delay_bits")
    bits = {name: int(machine.value(f"core.{name}")) for name in names}
    if projection.rule is not None and projection.rule["d_bits"]:
        bits["second_tag_bits"] = projection.rule["d_bits"]
    return bits


def synapse_memory(projection: LoweredProjection, network: Network, machine: Machine) -> dict[str, Any]:
    """Return what a projection's synapses take by encoding, were all its targets on one core: the formula above, exactly.

    ``sparse_bits`` counts stored synapses with the index of their target, ``dense_bits`` every pair of a source that has a synapse
    without it; ``learning_bits`` is the part of ``sparse_bits`` that learning adds (tag, and d where it is used). The mapper uses
    sparse synapses. ``confidence``: the least sure number in them.
    """
    bits = _bits(projection, machine)
    parts = [name for name in bits if name != "second_tag_bits"]
    word, header = int(machine.value("core.synapse_word")), int(machine.value("core.synapse_block_header"))
    block = int(machine.value("core.synapse_block"))
    used = [f"core.{name}" for name in (*parts, "synapse_word", "synapse_block_header", "synapse_block", "synapse_memory")]

    def total(counts: np.ndarray[tuple[int], np.dtype[np.int64]], each: int) -> int:
        full, rest = counts // block, counts % block
        words = full * -(-(block * each + header) // word) + np.where(rest > 0, -(-(rest * each + header) // word), 0)
        return int(words.sum()) * word

    fan_out = np.bincount(projection.pre_ids, minlength=network.populations[projection.pre].size)
    fan_out = fan_out[fan_out > 0]
    each, n_post = sum(bits.values()), network.populations[projection.post].size
    sparse = total(fan_out, each)
    dense = total(np.full(len(fan_out), n_post), each - bits["index_bits"])
    learned = bits.get("tag_bits", 0) + bits.get("second_tag_bits", 0)
    return {
        "synapses": len(projection.pre_ids),
        "bits_a_synapse": each,
        "sparse_bits": sparse,
        "dense_bits": dense,
        "learning_bits": learned * len(projection.pre_ids),
        "smaller": "sparse" if sparse <= dense else "dense",
        "confidence": min((machine.quantity(key).confidence for key in used), key=_SURENESS.index),
    }
