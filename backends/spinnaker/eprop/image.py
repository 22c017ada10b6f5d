"""What a core's memory holds before it starts: the regions and rows that templates/extension reads, from the plan of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop.formats import TABLE, Ints
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedPopulation, PlannedProjection
from neurocompile.backends.spinnaker.eprop.rows import SWEEP
from neurocompile.backends.spinnaker.eprop.scales import Scales, silent_scales
from neurocompile.ir._types import IntArray

SUBTRACT, READOUT, SOFTMAX, LEARNS, UNIFORM = 1, 2, 4, 8, 16
NO_TARGET = -(2**31)
Words = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """targets (rows, n) : integers, a row whose first is NO_TARGET is outside the learning window; ticks_per_target : of learning;
    sample_ticks, break_ticks : see eprop_core.h, 0 without breaks."""

    targets: Ints
    ticks_per_target: int
    sample_ticks: int = 0
    break_ticks: int = 0


NOTHING = Schedule(targets=np.zeros((0, 0), np.int64), ticks_per_target=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """synapses : places of its synapses in the projection's rows; source; delay; projection : index in the plan; content : words."""

    projection: int
    source: int
    delay: int
    synapses: IntArray
    content: Words


def _cells(plan: PlannedPopulation, *, softmax: bool) -> tuple[list[tuple[str, list[int]]], Ints]:
    """Return eprop_cells_t as (name, numbers) in order, but for its table, and the table with its padding."""
    c, p = plan.cells, plan.neurons
    flags = SUBTRACT * p.subtract | READOUT * p.readout | SOFTMAX * softmax | LEARNS * (plan.scales is not None) | UNIFORM * p.uniform
    return [
        ("flags", [flags]),
        ("reach", [p.reach]),
        ("position", [p.position.mantissa, p.position.shift]),
        ("rate_decay", [c.rate_decay]),
        ("rate_step", [c.rate_step]),
        ("rate_target", [c.rate_target]),
        ("hold", [c.hold, c.hold_shift]),
        ("signal", [c.signal, c.signal_shift]),
        ("error", [plan.error.mantissa, plan.error.shift]),
        ("learn", [plan.learn.mantissa, plan.learn.shift]),
    ], np.append(p.table, 0)


def cells_words(plan: PlannedPopulation, *, softmax: bool) -> Words:
    """Return eprop_cells_t."""
    head, table = _cells(plan, softmax=softmax)
    assert len(table) == TABLE + 2
    return np.concatenate([_words(np.array([x for _, values in head for x in values])), table.astype("<u2").view("<i4")])


def neuron_region(plan: PlannedPopulation, neurons: IntArray, *, softmax: bool) -> Words:
    """Return eprop_cells_t, how many readouts are heard, and the parameters of the neurons of a core."""
    heard = np.array([0 if plan.feedback is None else len(plan.feedback)])
    own = np.stack([getattr(plan.neurons, name)[neurons] for name in CELL], axis=1)
    weights = np.zeros((len(neurons), 0), np.int64) if plan.feedback is None else plan.feedback[:, neurons].T
    each = np.concatenate([own[:1].ravel(), weights.ravel()]) if plan.neurons.uniform else np.concatenate([own, weights], axis=1).ravel()
    return np.concatenate([cells_words(plan, softmax=softmax), _words(heard), _words(each)])


def numbers_header(plan: PlannedPopulation, *, softmax: bool) -> str:
    """Return the C header with the numbers of a population's rule, which the compiler of the extension then knows."""

    def braced(values: Sequence[int] | npt.NDArray[np.integer]) -> str:  # type: ignore[type-arg]
        return "{" + ", ".join(str(int(x)) for x in values) + "}" if len(values) > 1 else str(int(values[0]))

    scales = plan.scales if plan.scales is not None else silent_scales()
    rule = [(name, braced(table)) for name, table in scales.tables().items()]
    rule += [(name, str(value)) for name, value in scales.constants().items()]
    head, table = _cells(plan, softmax=softmax)
    cells = [(name, braced(values)) for name, values in head] + [("table", braced(table))]
    lines = ["/* Numbers of one population, which follow from its neurons and its rule (docs/spinnaker-eprop.md of neurocompile). */", ""]
    lines += [f'_Static_assert(EPROP_ADAPTIVE == {int(scales.adaptive)}, "EPROP_ADAPTIVE must be what these numbers are for");', ""]
    for kind, name, fields in (("eprop_scales_t", "eprop_fixed_scales", rule), ("eprop_cells_t", "eprop_fixed_cells", cells)):
        lines += [f"static const {kind} {name} = {{", *(f"    .{field} = {value}," for field, value in fields), "};", ""]
    return "\n".join(lines)


CELL = (
    "decay",
    "current_decay",
    "adapt_decay",
    "bias",
    "v_min",
    "threshold",
    "v_reset",
    "adapt_step",
    "leak",
    "refractory",
    "initial_current",
)
"""eprop_cell_t, in order"""


def rule_words(scales: Scales | None) -> Words:
    """Return eprop_scales_t."""
    given = scales if scales is not None else silent_scales()
    return _words(np.concatenate([*given.tables().values(), *(np.array([value]) for value in given.constants().values())]))


def synapse_region(
    scales: Scales | None,
    low: int,
    high: int,
    schedule: Schedule,
    neurons: IntArray,
    sweep: list[list[int]],
    rows_per_key: int,
    hearing: tuple[int, int, int],
    sends: Sequence[tuple[int, int]] = ((0, 0),),
) -> Words:
    """Return eprop_learning_t, targets, the keys that each tick sweeps, and how spikes are sent. low, high : bounds of weights, accumulator
    units; hearing : key, mask and shift of the readouts' packets; sends : (ticks that a spike waits, what is added to the neuron's key)."""
    head = np.array([low, high, schedule.ticks_per_target, len(schedule.targets), schedule.sample_ticks, schedule.break_ticks])
    first = np.concatenate([[0], np.cumsum([len(keys) for keys in sweep])])
    keys = np.array([key for some in sweep for key in some], np.uint32).view(np.int32)
    targets = schedule.targets[:, neurons].ravel() if len(schedule.targets) else np.zeros(0, np.int64)
    tail = np.array([*hearing, first[-1], rows_per_key, len(sends)], np.uint32).view(np.int32)
    list_of_sends = np.array(sends, np.int64).ravel().astype(np.uint32).view(np.int32)
    return np.concatenate([rule_words(scales), _words(head), tail, _words(targets), _words(first), keys, list_of_sends])


def core_rows(
    plan: EpropPlan, population: str, neurons: IntArray, *, state_bits: int, control_bits: Callable[[int], tuple[int, int]]
) -> list[Row]:
    """Return the rows of a core. control_bits(n) : (bits of the neuron's number, bits below the delay) of a static synapse's word."""
    place = np.full(plan.populations[population].size, -1, np.int64)
    place[neurons] = np.arange(len(neurons))
    found = []
    for index, projection in enumerate(plan.projections):
        if projection.post != population:
            continue
        rows = projection.rows
        local = place[rows.target]
        source = np.repeat(np.arange(len(rows.first) - 1), np.diff(rows.first))
        for row in range(len(rows.delay)):
            mine = np.arange(rows.begin[row], rows.begin[row + 1])
            mine = mine[local[mine] >= 0]
            if not len(mine):
                continue
            delay = int(rows.delay[row])
            if projection.learns:
                content = _plastic(projection, row, mine, local[mine], plan.populations[population], state_bits)
            else:
                content = _static(projection, mine, local[mine], delay, *control_bits(len(neurons)))
            found.append(Row(projection=index, source=int(source[row]), delay=delay, synapses=mine, content=content))
    return found


def _plastic(
    projection: PlannedProjection, row: int, synapses: IntArray, local: IntArray, plan: PlannedPopulation, state_bits: int
) -> Words:
    rows, n = projection.rows, len(synapses)
    sign = 0 if rows.low[row] < 0 < rows.high[row] else 1 if rows.high[row] > 0 else -1
    regularised = plan.scales is not None and plan.scales.reg_max > 0
    width = state_bits // 16
    adaptive = plan.scales is not None and plan.scales.adaptive
    states = np.zeros(n * width * (1 + regularised + adaptive), "<i2")
    states = np.append(states, np.zeros(len(states) % 2, "<i2"))
    plastic = np.concatenate([_words(np.array([0, 0, sign])), _words(projection.weight[synapses]), states.view("<i4")])
    controls = np.append(local, np.zeros(n % 2, np.int64)).astype("<u2")
    return np.concatenate([_words(np.array([len(plastic)])), plastic, _words(np.array([0, n])), controls.view("<i4")])


def _static(projection: PlannedProjection, synapses: IntArray, local: IntArray, delay: int, index_bits: int, type_index_bits: int) -> Words:
    weight = projection.weight[synapses].astype(np.int64)
    word = np.abs(weight) << 16 | delay << type_index_bits | (weight < 0).astype(np.int64) << index_bits | local
    return np.concatenate([_words(np.array([0, len(word), 0])), word.astype(np.uint32).view(np.int32)])


def read_rows(row: Row, content: Words, *, state_bits: int, regularised: bool, adaptive: bool) -> dict[str, Ints]:
    """Return weight, e, r, with adaptation q (m,), and head (2,) of a plastic row's words."""
    n = len(row.synapses)
    kind = "<i2" if state_bits == 16 else "<i4"
    states = content[4 + n :].view(kind).astype(np.int64)
    second = {"q": states[(1 + regularised) * n : (2 + regularised) * n]} if adaptive else {}
    return second | {
        "head": content[1:3].astype(np.int64),
        "weight": content[4 : 4 + n].astype(np.int64),
        "e": states[:n],
        "r": states[n : 2 * n] if regularised else np.zeros(n, np.int64),
    }


def row_key(row: Row, plan: EpropPlan, key_of: Mapping[tuple[str, int], int]) -> int:
    """Return the key of the packets that reach a row. key_of : (population, delay) -> key of its first neuron; spikes for plastic rows are
    held back at the source, static synapses delay in the ring buffer."""
    projection = plan.projections[row.projection]
    return key_of[projection.pre, row.delay if projection.learns else 1] + row.source


def sweep_list(rows: list[Row], plan: EpropPlan, key_of: Mapping[tuple[str, int], int]) -> tuple[list[list[int]], int]:
    """Return the keys of plastic rows that each tick (modulo SWEEP) sweeps, and the most rows, static ones too, that a key has."""
    count: dict[int, int] = {}
    plastic: dict[int, int] = {}
    for row in rows:
        key = row_key(row, plan, key_of)
        count[key] = count.get(key, 0) + 1
        if plan.projections[row.projection].learns:
            plastic[key] = row.source
    found: list[list[int]] = [[] for _ in range(SWEEP)]
    for key in sorted(plastic):
        found[plastic[key] % SWEEP].append(key)
    return found, max(count.values(), default=1)


def _words(values: npt.NDArray[np.integer]) -> Words:  # type: ignore[type-arg]
    return values.astype("<i4")


__all__ = [
    "NOTHING",
    "NO_TARGET",
    "Row",
    "Schedule",
    "cells_words",
    "core_rows",
    "neuron_region",
    "numbers_header",
    "read_rows",
    "row_key",
    "rule_words",
    "sweep_list",
    "synapse_region",
]
