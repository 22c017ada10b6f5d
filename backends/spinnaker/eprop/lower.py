"""Network -> SpinnakerNetwork on cores that learn by e-prop: our own neurons and synapses, not sPyNNaker's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from neurocompile.backends.base import BuildOptions, accept
from neurocompile.backends.spinnaker.eprop.costs import eprop_problem
from neurocompile.backends.spinnaker.eprop.late import Copies, delays_sent, source_copies
from neurocompile.backends.spinnaker.eprop.plan import WEIGHT_MOST, EpropOptions, EpropPlan, plan_eprop
from neurocompile.backends.spinnaker.learning import Learning
from neurocompile.backends.spinnaker.lowered import RingBuffer, SpinnakerNetwork
from neurocompile.backends.spinnaker.neurons import Cell, Findings, shrink
from neurocompile.backends.spinnaker.rounding import rounding, rounding_row
from neurocompile.ir import EProp, Network, SpikeSource
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import UnsupportedError
from neurocompile.ir.neurons import expand
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine

_OWN_CORES = (
    "learns by e-prop on cores of our own, which released sPyNNaker has not: a machine needs their binaries, built with SpiNNaker's tools "
    "as program/extension/README.md says (unverified on hardware)"
)
_INSTEAD = "or do without e-prop on the machine: --set eprop=r_stdp or eprop=static"


def learns_by_eprop(network: Network) -> bool:
    """Whether any synapse of a network obeys e-prop."""
    used = {p.learning for p in network.synaptic_projections if p.learning is not None}
    return any(isinstance(rule, EProp) and rule.name in used for rule in network.rules)


def lower_eprop(
    network: Network,
    connections: Mapping[str, Connections],
    machine: Machine,
    options: BuildOptions,
    eprop: EpropOptions,
    findings: Findings,
    *,
    board: tuple[int, int],
    mapping_only: str,
    steps: int,
    packets: bool,
) -> SpinnakerNetwork:
    """Express a network on cores that learn by e-prop; all of its populations run there, sources apart. ``packets``: cores are kept within
    the packets of a step as well.

    Raises
    ------
    UnsupportedError
        NC325, NC327, NC328: all findings at once.
    DoesNotFitError
        NC401: one neuron does not fit a core.
    """
    plan = plan_eprop(network, connections, eprop, findings, learning=options.learning)
    if findings.errors:
        raise UnsupportedError([e if e.code == "NC320" else replace(e, help=f"{e.help}; {_INSTEAD}") for e in findings.errors])
    approximations = accept(findings.approximations, options)
    copies = source_copies(network, plan, connections)
    cells = tuple(_cell(network, plan, p.name) for p in network.populations)
    cells += tuple(Cell(name=c.name, size=len(c.neuron), cell="source", params={"rate": 0.0}) for c in copies)
    return SpinnakerNetwork(
        network=network,
        connections=connections,
        problem=eprop_problem(network, connections, plan, copies, eprop, machine, packets=packets),
        approximations=approximations,
        summary=_summary(network, plan, cells, copies, connections, eprop),
        cells=cells,
        buffers={name: _buffer(p.shift) for name, p in plan.populations.items()},
        learning=Learning(plastic={}),
        split=np.zeros(len(cells), np.int32),
        machine_version=board[0],
        n_boards=board[1],
        mapping_only=mapping_only,
        steps=steps,
        machine=machine,
        eprop=plan,
        copies=copies,
    )


def _buffer(shift: int) -> RingBuffer:
    """Return what makes sPyNNaker take our shift: the smallest s with 2^s above what is expected."""
    expected, resolution = 0.75 * 2.0**shift, 2.0 ** (shift - 15)
    return RingBuffer(expected=(expected, expected), resolution=(resolution, resolution))


def _cell(network: Network, plan: EpropPlan, name: str) -> Cell:
    population = network.population(name)
    if isinstance(population.model, SpikeSource):
        return Cell(name=name, size=population.size, cell="source", params={"rate": shrink(expand(population.model.rate, population.size))})
    made = plan.populations[name]
    return Cell(
        name=name,
        size=population.size,
        cell="eprop",
        params={},
        voltage_scale=made.scale,
        weight_scale=made.scale,
        record="v" if made.neurons.readout else "spikes",
    )


def _summary(
    network: Network,
    plan: EpropPlan,
    cells: tuple[Cell, ...],
    copies: tuple[Copies, ...],
    connections: Mapping[str, Connections],
    eprop: EpropOptions,
) -> dict[str, Any]:
    sent = {name: delays_sent(plan, name) for name in plan.populations}
    late = {name: list(delays) for name, delays in sent.items() if max(delays, default=1) > 1}
    return {
        "populations": {c.name: {"cell": c.cell, "voltage_scale": c.voltage_scale} for c in cells if c.cell != "source"},
        "eprop": dict(plan.summary),
        "weight_rounding": {
            p.name: _rounding(np.asarray(connections[p.name].weight, np.float64), plan.populations[p.post].weight_unit)
            for p in plan.projections
        },
        "learning": [{"post": name, "rule": f"e-prop ({row['rule']})"} for name, row in plan.summary.items()],
        "added_sources": [c.name for c in copies],
        **({"delays": late} if late else {}),
        "notes": [
            _OWN_CORES,
            *_reach(network, plan, eprop),
            *(f"'{name}' sends each spike under {len(d)} keys, for plastic delays up to {d[-1]} steps" for name, d in late.items()),
            *(f"'{c.name}': {len(c.neuron)} sources that repeat spikes of '{c.of}' up to {c.wait.max()} steps later" for c in copies),
        ],
    }


def _reach(network: Network, plan: EpropPlan, eprop: EpropOptions) -> list[str]:
    """Say of each population whose weights learn how far they can go, where the rule lets them go farther."""
    found = []
    for name, row in plan.summary.items():
        most, (low, high) = WEIGHT_MOST * row["weight_unit"], network.rule(row["rule"]).weight_bounds
        if max(-low, high) > most * (1.0 + 1e-9):
            found.append(
                f"plastic weights into '{name}' end at {most:.3g} (16 bits), weight_bounds are [{low:g}, {high:g}]: planned for "
                f"{eprop.growth:g} times the largest at the start, --set growth=N for N times, in coarser units"
            )
    return found


def _rounding(weight: FloatArray, unit: float) -> dict[str, Any]:
    """What the 16 bits that are sent make of weights; those that learn are held with 14 bits more."""
    return rounding_row([rounding(weight, 1.0, (unit, unit))], len(weight))
