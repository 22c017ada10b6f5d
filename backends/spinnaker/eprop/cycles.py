"""Cycles of cores that learn by e-prop, from counts that are in the machine file (benchmarks/spinnaker_eprop.py measures them)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.backends.spinnaker.eprop.plan import EpropPlan
from neurocompile.backends.spinnaker.eprop.ranges import LEVELS, WINDOW
from neurocompile.backends.spinnaker.eprop.rows import BLOCKS
from neurocompile.backends.spinnaker.eprop.scales import Scales
from neurocompile.ir._types import FloatArray
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine


def cycles_of(machine: Machine, part: str, scales: Scales | None) -> float:
    """Return the cycles of a part (fold: a neuron and step; spike, catch_up: a synapse) by what the scales have states for."""
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
    readout, and its synapses' events.

    rates : spikes a second (Hz) of each neuron of a population, sources included.
    """
    found = {}
    for name, made in plan.populations.items():
        suffix = "_reg" if made.scales is not None and made.scales.reg_max else ""
        fold = cycles_of(machine, "fold", made.scales) if made.scales is not None else 0.0
        heard = len(made.feedback) * machine.value("core.eprop_error_cycles") if made.feedback is not None else 0.0
        found[name] = np.full(made.size, (machine.value(f"core.eprop_update_cycles{suffix}") + fold + heard) / dt)
    for p in plan.projections:
        synapses, post = connections[p.name], plan.populations[p.post]
        hz = rates[p.pre]
        if p.learns:
            spike, catch_up = cycles_of(machine, "spike", post.scales), cycles_of(machine, "catch_up", post.scales)
            each = hz * spike + stretches_per_second(hz, dt) * catch_up
        else:
            each = hz * machine.value("core.clock") / machine.value("core.synaptic_events_per_second")
        found[p.post] += np.bincount(synapses.post, each[synapses.pre], post.size)
    return found
