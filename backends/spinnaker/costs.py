"""What a network costs on SpiNNaker cores: neurons, local memory, synaptic events, and SDRAM a chip.

A core holds neurons of one population. Neurons and synapses share a core, except where sPyNNaker has no combined binary (neuromodulated
rules, multiplicative STDP on delta input, STDP on adaptive neurons): there each neuron core has N synapse cores on the same chip,
N = ceil(synaptic events a second / capacity of a core). A population whose spikes must wait longer than the ring buffers of a target reach
has a delay core beside each of its cores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.layout import delay_cores
from neurocompile.backends.spinnaker.learning import Learning, table_bytes
from neurocompile.backends.spinnaker.neurons import Cell
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import DoesNotFitError
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine
from neurocompile.mapping.problem import MappingProblem, Resource, SetResource
from neurocompile.mapping.targets import distinct_targets

COMBINED_PLASTIC = frozenset({("IF_curr_delta", False), ("IF_curr_exp", False), ("IF_curr_exp", True)})
"""(cell, multiplicative) with a combined spike-pair STDP binary in the sPyNNaker 1!7.4.1 wheel."""
STATE_BYTES = 64.0
"""A neuron's parameters and state in DTCM: 16 words (structs of neuron_model_lif_impl.h, synapse and input types); estimate."""
HISTORY_BYTES = 94.0
"""A plastic neuron's post-synaptic history (16 times and traces); with the rest this gives the 207 neurons of sPyNNaker issue 620."""
PLASTIC_HEADER_WORDS = 2
"""Time stamp and pre trace at the head of a plastic row (SynapseDynamicsSTDP)."""


def mapping_problem(
    network: Network,
    connections: Mapping[str, Connections],
    cells: list[Cell],
    learning: Learning,
    rates: Mapping[str, FloatArray],
    machine: Machine,
    *,
    packets: bool = False,
) -> tuple[MappingProblem, npt.NDArray[np.int32]]:
    """Return the mapper's view and the number of synapse cores of each population (0: combined).

    ``cells`` may hold populations that lowering added; their neurons are numbered after the network's. ``packets``: keep cores within the
    packets of a step as well.
    """
    sizes = [c.size for c in cells]
    offset = dict(zip([c.name for c in cells], np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    number = {c.name: i for i, c in enumerate(cells)}
    n = sum(sizes)
    population = np.repeat(np.arange(len(cells), dtype=np.int32), sizes)
    modulated = {m.post for m in learning.modulations}
    rule_of = {rule.post: rule for rule in learning.rules}

    events, sdram = np.zeros(n), np.zeros(n)
    static_bytes, plastic_bytes = machine.value("core.synapse_bits") / 8, machine.value("core.plastic_synapse_bits") / 8
    pairs: list[tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.integer[Any]], int, int]] = []
    for projection in network.synaptic_projections:
        synapses = connections[projection.name]
        pairs.append((synapses.pre, synapses.post, offset[projection.pre], offset[projection.post]))
        size = sizes[number[projection.post]]
        mine = slice(offset[projection.post], offset[projection.post] + size)
        events[mine] += np.bincount(synapses.post, rates[projection.pre][synapses.pre], size)
        plastic = (synapses.weight >= 0) & (projection.name in learning.plastic)
        sdram[mine] += np.bincount(synapses.post, np.where(plastic, plastic_bytes, static_bytes), size)
    for m in learning.modulations:
        n_pre, n_post = cells[number[m.pre]].size, cells[number[m.post]].size
        pre, post = np.divmod(np.arange(n_pre * n_post, dtype=np.int64), n_post)
        pairs.append((pre, post, offset[m.pre], offset[m.post]))
        np.add.at(events, post + offset[m.post], rates[m.pre][pre])
        np.add.at(sdram, post + offset[m.post], static_bytes)

    dtcm = _dtcm(cells, learning, network.dt, machine)
    row_limit = row_limits(network, connections, cells, learning, machine)
    delay_limit = delay_limits(network, connections, cells, machine, learning)
    split = np.zeros(len(cells), np.int32)
    load = np.zeros(n)
    neurons = machine.value("core.neurons")
    most = np.minimum(np.minimum(row_limit, delay_limit), [neurons if c.cell != "source" else np.inf for c in cells])
    per_core = {}
    for i, cell in enumerate(cells):
        mine = slice(offset[cell.name], offset[cell.name] + cell.size)
        memory = dtcm[1] // max(float(dtcm[0][mine].max()), 1.0)
        per_core[cell.name] = max(int(min(most[i], cell.size, memory)), 1)
    delayed = delay_cores(network, connections, per_core, machine.value("core.ring_buffer_bits"))
    for i, cell in enumerate(cells):
        if cell.cell == "source":
            continue
        rule = rule_of.get(cell.name)
        mine = slice(offset[cell.name], offset[cell.name] + cell.size)
        capacity = machine.value("core.plastic_events_per_second" if rule else "core.synaptic_events_per_second")
        if rule is not None and (cell.name in modulated or (cell.cell, rule.multiplicative) not in COMBINED_PLASTIC):
            beside = int(machine.value("chip.cores") - machine.value("chip.reserved_cores")) - 2 - (cell.name in delayed)
            split[i] = min(max(1, int(np.ceil(float(events[mine].mean()) * per_core[cell.name] / capacity))), max(beside, 1))
        load[mine] = events[mine] / (capacity * max(int(split[i]), 1))
    # A single neuron may be asked more than a core can do in real time; it still gets its core, and the program runs slower or drops.
    load = np.minimum(load, 1.0)

    indptr, indices = distinct_targets(n, pairs)
    source = np.asarray([c.cell == "source" for c in cells])[population]
    rows = machine.value("core.row_header_words") + (PLASTIC_HEADER_WORDS if rule_of else 0)
    return (
        MappingProblem(
            n_neurons=n,
            population=population,
            population_names=tuple(c.name for c in cells),
            external=np.zeros(n, np.bool_),
            indptr=indptr,
            indices=indices,
            resources=(
                Resource(
                    name="neurons",
                    unit="neuron",
                    limit=neurons,
                    per_neuron=(~source).astype(np.float64),
                    confidence=machine.quantity("core.neurons").confidence,
                ),
                *_sources(source, machine),
                Resource(name="local memory (estimate)", unit="byte", limit=dtcm[1], per_neuron=dtcm[0], confidence="guess"),
                Resource(
                    name="synaptic rows",
                    unit="share of a core",
                    limit=1.0,
                    per_neuron=(1.0 / row_limit)[population],
                    confidence="published",
                ),
                Resource(
                    name="delay slots",
                    unit="share of a core",
                    limit=1.0,
                    per_neuron=(1.0 / delay_limit)[population],
                    confidence="published",
                ),
                Resource(name="synaptic events", unit="share of a core", limit=1.0, per_neuron=load, confidence="guess"),
                *(packets_of_a_step(np.concatenate([rates[c.name] for c in cells]), indptr, network.dt, machine) if packets else ()),
            ),
            set_resources=(SetResource(name="populations", limit=1, label=population.copy(), confidence="published"),),
            core_width=(1 + split + [c.name in delayed for c in cells]).astype(np.int32),
            chip_resources=(
                Resource(
                    name="SDRAM",
                    unit="byte",
                    limit=machine.value("chip.sdram"),
                    per_neuron=sdram,
                    per_axon_in=4.0 * rows,
                    confidence=machine.quantity("chip.sdram").confidence,
                ),
            ),
        ),
        split,
    )


def _sources(source: npt.NDArray[np.bool_], machine: Machine) -> tuple[Resource, ...]:
    """Return the limit of spike sources on a core, apart from that of neurons: a core runs one population, so never both."""
    if not source.any():
        return ()
    quantity = machine.quantity("core.neurons_source" if machine.has("core.neurons_source") else "core.neurons")
    return (
        Resource(
            name="spike sources",
            unit="source",
            limit=quantity.value,
            per_neuron=source.astype(np.float64),
            confidence=quantity.confidence,
        ),
    )


def packets_of_a_step(rates: FloatArray, indptr: npt.NDArray[np.int64], dt: float, machine: Machine) -> tuple[Resource, ...]:
    """Return the limit of packets that come in a step: a spike buffer holds them. Each source with a target on a core counts as the mean
    source of the network; packets that reach a core without a target (stray deliveries) come on top. rates (n_neurons,) : Hz."""
    spikes = np.minimum(rates * dt, 1.0)
    sends = np.diff(indptr) > 0
    limit = machine.quantity("core.incoming_spike_buffer")
    return (
        Resource(
            name="incoming packets",
            unit="packet a step",
            limit=limit.value,
            per_neuron=np.zeros(len(spikes)),
            per_axon_in=float(spikes[sends].mean()) if sends.any() else 0.0,
            confidence=limit.confidence,
        ),
    )


def row_limits(
    network: Network, connections: Mapping[str, Connections], cells: list[Cell], learning: Learning, machine: Machine
) -> FloatArray:
    """Return the largest number of neurons of each population on a core for which every row of synapses fits, infinite where all do.

    All synapses from one source neuron to one core are a row of at most ``core.row_synapses`` words (master_pop_table.py): a word for each
    static synapse; half a word of target and a half word of weight for each STDP synapse, half a word more with an eligibility, and a
    header; one word for each reward synapse, and a flag.
    """
    words = machine.value("core.row_synapses")
    modulated = {m.post for m in learning.modulations}
    limits = {c.name: np.inf for c in cells}
    for projection in network.synaptic_projections:
        synapses = connections[projection.name]
        excitatory = synapses.weight >= 0
        for mask, plastic in ((excitatory, projection.name in learning.plastic), (~excitatory, False)):
            if not mask.any():
                continue
            space = words - PLASTIC_HEADER_WORDS - 2 if plastic else words  # two half words may be lost to alignment
            fits = int(space / (1.5 if projection.post in modulated else 1.0)) if plastic else int(space)
            if int(np.bincount(synapses.pre[mask]).max()) > fits:
                n_post = int(synapses.post.max()) + 1
                _, same_pair = np.unique(synapses.pre[mask].astype(np.int64) * n_post + synapses.post[mask], return_counts=True)
                limits[projection.post] = min(limits[projection.post], _whole(fits, int(same_pair.max())))
    for post in modulated:
        limits[post] = min(limits[post], _whole(words - 1, 1))
    return np.asarray([limits[c.name] for c in cells])


def _whole(space: float, need: int) -> float:
    """Return how many neurons fit that take ``need`` each; less than 1 (never 0 or below) where not even one does."""
    return float(space // need) if space >= need else max(space, 0.5) / need


def delay_limits(
    network: Network, connections: Mapping[str, Connections], cells: list[Cell], machine: Machine, learning: Learning
) -> FloatArray:
    """Return the largest number of neurons of each population on a core for which the longest delay takes one delay stage at most.

    A core's ring buffers have 2^14 slots for neuron, receptor and delay; longer delays go through stages of a delay extension. The host
    side of sPyNNaker 1!7.4.1 (``synapse_io.get_synapses``) numbers the rows of two or more stages by the neurons a core of the *target*
    and silently drops those beyond the source's size; with one stage the numbers are right. Plastic rows need more slots than
    their longest delay, and no stage: a delay of as many steps as there are slots is stored as 0, which the binaries take for a spike that
    comes too late.
    """
    longest = {c.name: 1 for c in cells}
    for projection in network.synaptic_projections:
        delay = connections[projection.name].delay
        longest[projection.post] = max(longest[projection.post], int(delay.max(initial=1)))
    slots = machine.value("core.ring_buffer_bits") - 1  # a bit tells excitatory from inhibitory
    plastic = {rule.post for rule in learning.rules}
    bits = [math.ceil(math.log2(longest[c.name] + 1 if c.name in plastic else math.ceil(longest[c.name] / 2))) for c in cells]
    return np.asarray([2.0 ** (slots - taken) for taken in bits])


def local_memory(machine: Machine) -> float:
    """Return the bytes of a core's local memory that the ring buffers and the spike buffer leave free."""
    fixed = 2.0 * 2.0 ** machine.value("core.ring_buffer_bits") + 4.0 * machine.value("core.incoming_spike_buffer")
    return float(machine.value("core.dtcm") - fixed)


def rule_tables(learning: Learning, dt: float) -> dict[str, int]:
    """Return the bytes of the decay tables on every core of a plastic population."""
    modulation = {m.post: m for m in learning.modulations}
    return {rule.post: table_bytes(rule, modulation.get(rule.post), dt * 1e3) for rule in learning.rules}


def _dtcm(cells: list[Cell], learning: Learning, dt: float, machine: Machine) -> tuple[FloatArray, float]:
    """Return bytes of local memory that each neuron takes, and what is free of it. What all neurons of a core share (the tables of their
    rule) is taken from the free part: their own bytes count for more."""
    free, tables = local_memory(machine), rule_tables(learning, dt)
    per_cell = []
    for cell in cells:
        own = 0.0 if cell.cell == "source" else STATE_BYTES + (HISTORY_BYTES if cell.name in tables else 0.0)
        shared = tables.get(cell.name, 0)
        if own + shared > free and own > 0.0:
            dtcm = machine.quantity("core.dtcm")
            raise DoesNotFitError.of(
                "NC401",
                f"one neuron of population '{cell.name}' needs {own + shared:g} byte of local memory beside {dtcm.value - free:g} byte "
                f"of ring buffers and spike buffer; a core has {dtcm.value:g} ({dtcm.confidence})",
                help="take a machine with more core.dtcm, or lower its core.ring_buffer_bits or core.incoming_spike_buffer",
            )
        per_cell.append(own * free / (free - shared) if own > 0.0 else 0.0)
    return np.repeat(np.asarray(per_cell), [c.size for c in cells]), max(free, 0.0)
