"""What the sources of e-prop cores cost: packets and rows, before neurons have cores and as they are placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop.cycles import error_cycles_per_second, source_cycles
from neurocompile.backends.spinnaker.eprop.formats import Ints
from neurocompile.backends.spinnaker.eprop.late import Copies, groups
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedProjection
from neurocompile.ir._types import FloatArray
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heard:
    """Synapses of a projection by who sends their packets. post : the population; learns; sender, target (m,) : numbers of the mapper;
    row (m,) : the synapse's row, of the projection."""

    post: str
    learns: bool
    sender: Ints
    target: Ints
    row: Ints


def heard_synapses(
    plan: EpropPlan, connections: Mapping[str, Connections], repeating: Sequence[Copies], offset: Mapping[str, int]
) -> list[Heard]:
    """Return all synapses. repeating : populations that repeat spikes; offset : of populations in the mapper's numbering."""
    found = []
    for p in plan.projections:
        synapses = connections[p.name]
        row = _rows(p, synapses)
        for group in groups(p.pre, synapses, repeating, learns=p.learns):
            found.append(
                Heard(
                    post=p.post,
                    learns=p.learns,
                    sender=group.pre.astype(np.int64) + offset[group.by],
                    target=synapses.post[group.synapses].astype(np.int64) + offset[p.post],
                    row=row[group.synapses],
                )
            )
    return found


def _rows(p: PlannedProjection, synapses: Connections) -> Ints:
    """Return the row of each synapse: plastic ones are of one source and delay (and sign, where signs are kept), static ones of a source
    and receptor, with all delays."""
    if not p.learns:
        found: Ints = 2 * synapses.pre.astype(np.int64) + (synapses.weight < 0)
        return found
    row = np.zeros(len(synapses.pre), np.int64)
    row[p.rows.order] = np.repeat(np.arange(len(p.rows.delay)), np.diff(p.rows.begin))
    return row


def mean_source_cycles(plan: EpropPlan, heard: Sequence[Heard], rate: FloatArray, dt: float, machine: Machine) -> float:
    """Return the cycles a second that the mean source of a population takes of one of its cores; of the population where it is the most.
    rate (n,) : Hz, of all senders."""
    most = 0.0
    for name in plan.populations:
        sender, rows, static = _count([h for h in heard if h.post == name], None)
        if len(sender):
            most = max(most, float(source_cycles(machine, rate[sender[:, 1]], rows, static, dt, plan.populations[name].scales).mean()))
    return most


def shared_cycles(
    plan: EpropPlan,
    heard: Sequence[Heard],
    part: npt.NDArray[np.integer[Any]],
    n_parts: int,
    first: Mapping[str, Ints],
    rate: FloatArray,
    dt: float,
    machine: Machine,
) -> FloatArray:
    """Return the cycles a second, (n_parts,), that each part's sources and the readout's packets take, as neurons are placed.

    part (n,) : of each neuron and sender; first : the mapper's numbers of each population's neurons; rate (n,) : Hz.
    """
    found = np.zeros(n_parts)
    for name, made in plan.populations.items():
        pairs, rows, static = _count([h for h in heard if h.post == name], part)
        if len(pairs):
            cycles = source_cycles(machine, rate[pairs[:, 1]], rows, static, dt, made.scales)
            found += np.bincount(pairs[:, 0], cycles, n_parts)
        found[np.unique(part[first[name]])] += error_cycles_per_second(made, dt, machine)
    return found


def _count(heard: Sequence[Heard], part: npt.NDArray[np.integer[Any]] | None) -> tuple[Ints, FloatArray, FloatArray]:
    """Return distinct (part, sender), (n, 2), and how many plastic and static rows of the sender are there. part None: all are one."""
    rows = []
    for h in heard:
        place = np.zeros(len(h.target), np.int64) if part is None else part[h.target].astype(np.int64)
        order = np.lexsort([h.row, h.sender, place])
        triples = np.stack([place[order], h.sender[order], h.row[order]], axis=1)
        new = np.ones(len(order), np.bool_)
        new[1:] = (triples[1:] != triples[:-1]).any(axis=1)
        distinct = triples[new]
        rows.append(np.concatenate([distinct[:, :2], np.full((len(distinct), 1), h.learns, np.int64)], axis=1))
    if not rows:
        return np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0)
    every = np.concatenate(rows)
    pairs, inverse = np.unique(every[:, :2], axis=0, return_inverse=True)
    of, learns = inverse.ravel(), every[:, 2]
    plastic: FloatArray = np.asarray(np.bincount(of, learns, len(pairs)), np.float64)
    static: FloatArray = np.asarray(np.bincount(of, 1 - learns, len(pairs)), np.float64)
    return pairs, plastic, static


__all__ = ["Heard", "heard_synapses", "mean_source_cycles", "shared_cycles"]
