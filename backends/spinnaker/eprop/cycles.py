"""Cycles of cores that learn by e-prop, from counts that are in the machine file: benchmarks/spinnaker_eprop.py measures those of our C,
benchmarks/spinnaker_rows.py those of sPyNNaker's code around it.

A neuron brings its updates and the events of its synapses to its core; a source brings a packet for each of its spikes, and rows of
synapses, however many of the core's neurons they reach.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.backends.spinnaker.eprop.late import delays_sent
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedPopulation
from neurocompile.backends.spinnaker.eprop.ranges import LEVELS, WINDOW
from neurocompile.backends.spinnaker.eprop.rows import BLOCKS, SWEEP
from neurocompile.backends.spinnaker.eprop.scales import Scales
from neurocompile.ir._types import FloatArray
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine


def cycles_of(machine: Machine, part: str, scales: Scales | None) -> float:
    """Return the cycles of a part (fold: a neuron and step; spike, catch_up: a synapse; row, stretch: a row's spike, and its catch-up of a
    stretch) by what the scales have states for."""
    suffix = "" if scales is None else "_adaptive" * scales.adaptive + "_reg" * (scales.reg_max > 0)
    return machine.value(f"core.eprop_{part}_cycles{suffix}")


def stretches_per_second(rate: FloatArray, dt: float) -> FloatArray:
    """Return the expected stretches of blocks that a row catches up with in a second, whose source spikes at random at ``rate`` (Hz).

    The sweep touches a row in every (BLOCKS - 1)-th block for certain, spikes in each with the same chance; from one touch to the next it
    takes the longest stretches of 1, 2 and 4 blocks that begin evenly and fit.
    """
    rates, back = np.unique(np.asarray(rate, np.float64), return_inverse=True)
    chance = 1.0 - np.exp(-rates * dt * WINDOW)
    swept, longest = BLOCKS - 1, 1 << (LEVELS - 1)
    period = swept * longest
    total = np.zeros(len(rates))
    for begin in range(period):
        weight = np.ones(len(rates)) if begin % swept == 0 else chance
        for block in range(begin + 1, begin + swept + 1):
            certain = block % swept == 0
            total += weight * (1.0 if certain else chance) * _stretches(begin, block)
            if certain:
                break
            weight = weight * (1.0 - chance)
    found: FloatArray = (total / (period * WINDOW * dt))[back]
    return found


def _stretches(past: int, block: int) -> int:
    count = 0
    while past < block:
        past += next(s for s in (1 << level for level in reversed(range(LEVELS))) if past % s == 0 and past + s <= block)
        count += 1
    return count


def cycles_per_second(
    plan: EpropPlan, connections: Mapping[str, Connections], rates: Mapping[str, FloatArray], dt: float, machine: Machine
) -> dict[str, FloatArray]:
    """Return the cycles that each neuron takes of its core in a second, by population of neurons: its update, what it hears of the
    readout, its spikes' packets, and its synapses' events, without their rows (:func:`source_cycles`).

    rates : spikes a second (Hz) of each neuron of a population, sources included.
    """
    found = {}
    for name, made in plan.populations.items():
        fold = cycles_of(machine, "fold", made.scales) if made.scales is not None else 0.0
        heard = len(made.feedback) * machine.value("core.eprop_error_cycles") if made.feedback is not None else 0.0
        sent = delays_sent(plan, name)
        held = sum(delay > 1 for delay in sent) * machine.value("core.eprop_held_cycles")
        update = machine.value("core.transfer_cycles") + cycles_of(machine, "update", made.scales)
        each_step = (update + fold + heard + held) / dt
        found[name] = each_step + len(sent) * machine.value("core.eprop_send_cycles") * np.asarray(rates[name], np.float64)
    for p in plan.projections:
        synapses, post = connections[p.name], plan.populations[p.post]
        hz = rates[p.pre]
        if p.learns:
            spike, catch_up = cycles_of(machine, "spike", post.scales), cycles_of(machine, "catch_up", post.scales)
            each = hz * spike + stretches_per_second(hz, dt) * catch_up
        else:
            each = hz * machine.value("core.static_synapse_cycles")
        found[p.post] += np.bincount(synapses.post, each[synapses.pre], post.size)
    return found


def source_cycles(
    machine: Machine, rate: FloatArray, rows: FloatArray, static_rows: FloatArray, dt: float, scales: Scales | None
) -> FloatArray:
    """Return the cycles that sources take in a second of a core that has rows of theirs, whatever is in the rows: packets, the fetching of
    rows and their writing back, the sweep, and what each row's catching up takes beside its synapses.

    rate (n,) : Hz; rows, static_rows (n,) : of each source on the core, plastic and static; scales : of the core's population.
    """
    hz = np.asarray(rate, np.float64)
    found: FloatArray = hz * (machine.value("core.packet_cycles") + static_rows * machine.value("core.static_row_cycles"))
    if scales is not None:
        fetched = machine.value("core.row_cycles")
        swept = (fetched + machine.value("core.eprop_sweep_cycles")) / (SWEEP * dt)
        stretches = stretches_per_second(hz, dt) * cycles_of(machine, "stretch", scales)
        found = found + rows * (hz * (fetched + cycles_of(machine, "row", scales)) + swept + stretches)
    return found


def error_cycles_per_second(made: PlannedPopulation, dt: float, machine: Machine) -> float:
    """Return the cycles that the packets of the readout take in a second of a core of a population, beside what each neuron hears."""
    return len(made.feedback) * machine.value("core.eprop_error_packet_cycles") / dt if made.feedback is not None else 0.0
