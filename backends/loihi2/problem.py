"""What a lowered network costs on a neurocore, from the machine file.

Synapse memory follows the only published per-synapse formula (nengo-loihi's ``block.py``, Loihi 1): an axon that reaches n synapses of a
core takes blocks of at most 64 synapses, each of 64 * ceil((n * bits + 10) / 64) bits, with bits = weight + delay + tag + target index.
The mapper's costs are additive, so its upper bound is used: bits + (10 + 63) / 64 for each synapse and 10 + 63 for each axon.
For Loihi 2 the formula is a guess; the machine file says so.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        bits = machine.value("core.weight_bits") + machine.value("core.index_bits")
        low_bits_in_d = projection.rule is not None and projection.rule["dd_fixed"] is not None
        if low_bits_in_d or (projection.delay.size and projection.delay.max() > 1):
            bits += machine.value("core.delay_bits")
        if projection.rule is not None:
            bits += machine.value("core.tag_bits")
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
    profiles = machine.quantity("core.profiles")
    return MappingProblem(
        n_neurons=n,
        population=population,
        population_names=names,
        external=external,
        indptr=indptr,
        indices=indices,
        resources=resources,
        set_resources=(
            SetResource(name="profiles", limit=int(profiles.value), label=_profiles(network, external), confidence=profiles.confidence),
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
