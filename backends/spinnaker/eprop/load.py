"""What the sources of e-prop cores cost: packets and rows, before neurons have cores and as they are placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop.cycles import error_cycles_per_second, source_cycles
from neurocompile.backends.spinnaker.eprop.formats import Ints
from neurocompile.backends.spinnaker.eprop.late import Copies
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedProjection
from neurocompile.ir._types import FloatArray, Int32Array
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine

_BLOCK = 4_000_000  # synapses looked at together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heard:
    """Synapses of a projection by who sends their packets. post : the population; learns; target (m,) : local numbers; base : what makes
    them the mapper's; row (m,) : rows; sender (rows,) : the mapper's number of who sends each row's packets."""

    post: str
    learns: bool
    target: Int32Array
    base: int
    row: Int32Array
    sender: Ints


def heard_synapses(
    plan: EpropPlan, connections: Mapping[str, Connections], repeating: Sequence[Copies], offset: Mapping[str, int]
) -> list[Heard]:
    """Return all synapses. repeating : populations that repeat spikes; offset : of populations in the mapper's numbering.

    Plastic rows are of one source and delay (and sign, where signs are kept), static ones of a source and receptor, with all delays.
    """
    found = []
    for p in plan.projections:
        if p.learns:
            target, row = p.rows.target, np.repeat(np.arange(len(p.rows.delay), dtype=np.int32), np.diff(p.rows.begin))
            sender = _senders(p, repeating, offset)
        else:
            synapses = connections[p.name]
            target, row = synapses.post, 2 * synapses.pre + (synapses.weight < 0)
            sender = offset[p.pre] + np.arange(2 * (len(p.rows.first) - 1)) // 2
        found.append(Heard(post=p.post, learns=p.learns, target=target, base=offset[p.post], row=row, sender=sender))
    return found


def _senders(p: PlannedProjection, repeating: Sequence[Copies], offset: Mapping[str, int]) -> Ints:
    source = np.repeat(np.arange(len(p.rows.first) - 1), np.diff(p.rows.first))
    sender: Ints = source + offset[p.pre]
    own = next((c for c in repeating if c.of == p.pre), None)
    for delay in np.unique(p.rows.delay).tolist() if own is not None else []:
        if delay > 1 and own is not None:
            late = p.rows.delay == delay
            sender[late] = own.numbers(source[late], delay - 1) + offset[own.name]
    return sender


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
    width = max((int(h.sender.max(initial=0)) for h in heard), default=0) + 1
    codes, learns = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    for h in heard:
        rows = len(h.sender)
        seen = [np.zeros(0, np.int64)]
        for a in range(0, len(h.row), _BLOCK):
            row = h.row[a : a + _BLOCK]
            place = np.int64(0) if part is None else part[h.base + h.target[a : a + _BLOCK]].astype(np.int64)
            seen.append(np.unique(place * rows + row))
        distinct = np.unique(np.concatenate(seen))
        codes.append(distinct // max(rows, 1) * width + h.sender[distinct % max(rows, 1)])
        learns.append(np.full(len(distinct), h.learns))
    plastic = np.concatenate(learns)
    found, of = np.unique(np.concatenate(codes), return_inverse=True)
    pairs: Ints = np.stack(np.divmod(found, width), axis=1)
    own: FloatArray = np.asarray(np.bincount(of[plastic], minlength=len(found)), np.float64)
    static: FloatArray = np.asarray(np.bincount(of[~plastic], minlength=len(found)), np.float64)
    return pairs, own, static


__all__ = ["Heard", "heard_synapses", "mean_source_cycles", "shared_cycles"]
