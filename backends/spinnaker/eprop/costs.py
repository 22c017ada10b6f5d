"""What a network that learns by e-prop costs on cores: neurons, local memory, cycles of a step, rows, and SDRAM a chip.

Sizes are those of the structs of templates/extension (tests compare them with the compiler's); cycles are in the machine file, as
benchmarks/spinnaker_eprop.py counts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.costs import packets_of_a_step
from neurocompile.backends.spinnaker.eprop.cycles import cycles_per_second, error_cycles_per_second
from neurocompile.backends.spinnaker.eprop.late import Copies, groups, longest_wait, ring_slots
from neurocompile.backends.spinnaker.eprop.load import Heard, heard_synapses, mean_source_cycles
from neurocompile.backends.spinnaker.eprop.numbering import number
from neurocompile.backends.spinnaker.eprop.plan import EpropOptions, EpropPlan, PlannedPopulation
from neurocompile.backends.spinnaker.eprop.scales import PIECES
from neurocompile.ir import Network, SpikeSource
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import DoesNotFitError
from neurocompile.ir.neurons import expand
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine
from neurocompile.mapping.problem import MappingProblem, Resource, SetResource
from neurocompile.mapping.targets import distinct_targets

RING_BYTES = 14 * 20
COEFFICIENT_BYTES = 32
ADAPTIVE_RING_BYTES = 14 * 40
ADAPTIVE_COEFFICIENT_BYTES = 76
CELL_BYTES = 44
STATE_BYTES = 32
WORK_BYTES, READOUT_WORK_BYTES = 8, 16
"""Input and what was heard; of a readout input, membrane, error and target"""
ROW_HEAD_BYTES = 12
ROW_BYTES = 256 * 10 + 64
"""The longest row, in each of two DMA buffers"""
STACK_BYTES = 8192
"""Stack, heap's own, sPyNNaker's variables and population table: a guess"""


def neuron_bytes(population: PlannedPopulation) -> int:
    """Return the bytes of local memory that a neuron takes."""
    learning = 0
    if population.scales is not None:
        adaptive = population.scales.adaptive
        learning = ADAPTIVE_RING_BYTES + ADAPTIVE_COEFFICIENT_BYTES if adaptive else RING_BYTES + COEFFICIENT_BYTES
    heard = 2 * len(population.feedback) if population.feedback is not None else 0
    own = 0 if population.neurons.uniform else CELL_BYTES
    return own + STATE_BYTES + (READOUT_WORK_BYTES if population.neurons.readout else WORK_BYTES) + learning + heard


def synapse_bytes(population: PlannedPopulation) -> int:
    """Return the bytes of SDRAM of a plastic synapse: weight, states, target."""
    assert population.scales is not None
    states = 1 + (population.scales.reg_max > 0) + population.scales.adaptive
    return 4 + states * population.scales.state_bits // 8 + 2


def eprop_problem(
    network: Network,
    connections: Mapping[str, Connections],
    plan: EpropPlan,
    copies: Sequence[Copies],
    options: EpropOptions,
    machine: Machine,
    *,
    packets: bool = False,
) -> MappingProblem:
    """Return the mapper's view: the network's populations; ``copies``, sources that repeat spikes later; and, for the keys under which
    neurons send spikes later, a sender for each neuron and delay, on its neuron's core and without costs. ``packets``: cores are kept
    within the packets of a step as well.

    Raises DoesNotFitError NC401 where one neuron does not fit a core.
    """
    all_of = number(network, connections, plan, copies)
    sizes, offset, n, population = all_of.sizes, all_of.offset, len(all_of.population), all_of.population
    rates = np.concatenate(
        [_rates(network, p.name, options) for p in network.populations]
        + [_rates(network, c.of, options)[c.neuron] for c in all_of.repeating]
    )
    sdram = np.zeros(n)
    pairs: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int, int]] = []
    for p in plan.projections:
        synapses, post = connections[p.name], plan.populations[p.post]
        for group in groups(p.pre, synapses, all_of.repeating, learns=p.learns):
            pairs.append((group.pre, synapses.post[group.synapses], offset[group.by], offset[p.post]))
        size = float(synapse_bytes(post)) if p.learns else machine.value("core.synapse_bits") / 8
        sdram[offset[p.post] : offset[p.post] + post.size] += np.bincount(synapses.post, minlength=post.size) * size
    for name, made in plan.populations.items():
        if made.feedback is not None and plan.readout is not None and len(made.feedback):
            errors, neurons = np.divmod(np.arange(len(made.feedback) * made.size, dtype=np.int32), np.int32(made.size))
            pairs.append((errors, neurons, offset[plan.readout], offset[name]))
    cycles = np.zeros(n)
    by_name = {p.name: rates[offset[p.name] : offset[p.name] + p.size] for p in network.populations}
    for name, taken in cycles_per_second(plan, connections, by_name, network.dt, machine).items():
        cycles[offset[name] : offset[name] + len(taken)] = taken
    memory = np.concatenate(
        [np.full(size, neuron_bytes(plan.populations[k]) if k in plan.populations else 0.0) for k, size in sizes.items()]
    )
    slots = np.array([ring_slots(plan, name) if name in plan.populations else 0 for name in sizes])
    waits = np.array([longest_wait(plan, name) if name in plan.populations else 0 for name in sizes])
    # a bit a tick for spikes that are held back; two ring buffers of 16 bits for at most twice as many neurons (a power of two)
    memory += (waits / 8.0 + 8.0 * np.maximum(slots - 2, 0))[population]
    adaptive = any(made.scales is not None and made.scales.adaptive for made in plan.populations.values())
    free = free_bytes(machine, adaptive=adaptive)
    _check_one(plan, memory, free, offset)
    indptr, indices = distinct_targets(n, pairs)
    heard = heard_synapses(plan, connections, all_of.repeating, offset)
    share, of_source = _shares(plan, heard, cycles, rates, indices, network.dt, machine)
    row_limit = _row_limit(sizes, connections, plan, machine)
    confidence = machine.quantity("core.eprop_fold_cycles").confidence
    return MappingProblem(
        n_neurons=n,
        population=population,
        population_names=tuple(sizes),
        external=np.zeros(n, np.bool_),
        indptr=indptr,
        indices=indices,
        resources=(
            _count("neurons", "core.neurons", ~all_of.source & ~all_of.sends_only, machine),
            *([_count("spike sources", "core.neurons_source", all_of.source, machine)] if all_of.source.any() else []),
            Resource(name="local memory (estimate)", unit="byte", limit=free, per_neuron=memory, confidence="guess"),
            Resource(
                name="cycles of a step",
                unit="share of a core",
                limit=1.0,
                per_neuron=share,
                per_axon_in=of_source,
                confidence=confidence,
            ),
            Resource(name="synaptic rows", unit="share of a core", limit=1.0, per_neuron=row_limit[population], confidence="published"),
            Resource(
                name="delay slots",
                unit="share of a core",
                limit=1.0,
                per_neuron=(2.0 * slots / 2.0 ** machine.value("core.ring_buffer_bits"))[population],
                confidence="published",
            ),
            *(packets_of_a_step(rates, indptr, network.dt, machine) if packets else ()),
        ),
        set_resources=(SetResource(name="populations", limit=1, label=all_of.label, confidence="published"),),
        core_width=np.ones(len(sizes), np.int32),
        chip_resources=(
            Resource(
                name="SDRAM",
                unit="byte",
                limit=machine.value("chip.sdram"),
                per_neuron=sdram,
                per_axon_in=4.0 * machine.value("core.row_header_words") + ROW_HEAD_BYTES,
                confidence=machine.quantity("chip.sdram").confidence,
            ),
        ),
        together=all_of.together if (all_of.together >= 0).any() else None,
        repeats=all_of.repeats if all_of.repeating else None,
    )


def _shares(
    plan: EpropPlan,
    heard: Sequence[Heard],
    cycles: FloatArray,
    rates: FloatArray,
    indices: npt.NDArray[np.int32],
    dt: float,
    machine: Machine,
) -> tuple[FloatArray, float]:
    """Return what each neuron takes of its core's cycles, (n,), and what a source does that reaches it, each as the mean source.

    The readout's packets come off what there is. A neuron that is more than a core can do in real time gets a core of its own.
    """
    errors = max((error_cycles_per_second(made, dt, machine) for made in plan.populations.values()), default=0.0)
    budget = max(machine.value("core.clock") * machine.value("core.eprop_share") - errors, 1.0)
    sources = np.bincount(indices, minlength=len(cycles))
    of_source = min(mean_source_cycles(plan, heard, rates, dt, machine) / budget, 0.999 / max(float(sources.max(initial=0)), 1.0))
    return np.minimum(cycles / budget, 1.0 - 1e-9 - sources * of_source), of_source


def free_bytes(machine: Machine, *, adaptive: bool) -> float:
    """Return the local memory of a core that neurons can have, beside ring buffers of two slots: more, for static synapses with delays, are
    counted with the neurons; plastic ones' wait at the source."""
    tables = 6 * 132 + 136 + 516 + 64  # the regions' copy, for programs without numbers of their own
    tables += 4 * (PIECES + 1) + 40 if adaptive else 0
    ring_buffers = 2.0 * machine.value("core.neurons") * 2.0 * 2.0
    spikes = 4.0 * machine.value("core.incoming_spike_buffer")
    return float(machine.value("core.dtcm") - ring_buffers - spikes - tables - 2.0 * ROW_BYTES - STACK_BYTES)


def _count(name: str, limit: str, mine: npt.NDArray[np.bool_], machine: Machine) -> Resource:
    found = machine.quantity(limit if machine.has(limit) else "core.neurons")
    return Resource(name=name, unit="neuron", limit=found.value, per_neuron=mine.astype(np.float64), confidence=found.confidence)


def _rates(network: Network, name: str, options: EpropOptions) -> FloatArray:
    population = network.population(name)
    if isinstance(population.model, SpikeSource):
        own = expand(population.model.rate, population.size)
        found: FloatArray = np.where(own > 0.0, own, options.source_rate)
        return found
    return np.full(population.size, options.rate)


def _check_one(plan: EpropPlan, memory: FloatArray, free: float, offset: Mapping[str, int]) -> None:
    for name in plan.populations:
        if memory[offset[name]] > free:
            raise DoesNotFitError.of(
                "NC401",
                f"one neuron of population '{name}' needs {memory[offset[name]]:g} byte of local memory, a core has {free:g} left",
                help="use fewer readouts (two bytes of feedback a readout and neuron), or a machine with more core.dtcm",
            )


def _row_limit(names: Iterable[str], connections: Mapping[str, Connections], plan: EpropPlan, machine: Machine) -> FloatArray:
    """Return, for each population, the share of a row of ``core.row_synapses`` words, less one, that a neuron takes in the worst case: a
    row of all of them has a word more than sPyNNaker's buffers for rows. One word of a plastic row's head is for half words left over."""
    most = dict.fromkeys(names, 0.0)
    for p in plan.projections:
        post, synapses = plan.populations[p.post], connections[p.name]
        words = synapse_bytes(post) / 4.0 if p.learns else 1.0
        head = ROW_HEAD_BYTES / 4.0 + 1.0 if p.learns else 1.0
        key = synapses.pre.astype(np.int64) * 256 + synapses.delay
        longest = int(np.unique(key, return_counts=True)[1].max(initial=0))
        if longest * words > machine.value("core.row_synapses") - head:
            both = synapses.pre.astype(np.int64) * post.size + synapses.post
            pairs = int(np.unique(both, return_counts=True)[1].max())
            most[p.post] = max(most[p.post], min(pairs * words / (machine.value("core.row_synapses") - head), 1.0))
    return np.array(list(most.values()))
