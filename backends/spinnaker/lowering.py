"""Network -> SpinnakerNetwork: cells, number formats of the inputs, learning, cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.backends.base import BuildOptions, accept, refuse_engine_only
from neurocompile.backends.spinnaker import costs
from neurocompile.backends.spinnaker.eprop.lower import learns_by_eprop, lower_eprop
from neurocompile.backends.spinnaker.eprop.plan import MOST_SHIFT, EpropOptions
from neurocompile.backends.spinnaker.learning import Learning, lower_learning, rule_rows
from neurocompile.backends.spinnaker.lowered import RingBuffer, SpinnakerNetwork
from neurocompile.backends.spinnaker.neurons import Cell, Findings, lower_population, summary_row
from neurocompile.backends.spinnaker.rounding import Rounding, rounding, rounding_row
from neurocompile.ir import ActorCritic, Network, Projection, SpikeSource
from neurocompile.ir._types import FloatArray, Int32Array
from neurocompile.ir.errors import InputError, UnsupportedError, did_you_mean
from neurocompile.ir.neurons import expand
from neurocompile.ir.realise import Connections, Weights
from neurocompile.ir.shards import Shards, Shared, ranges_of_targets
from neurocompile.machine import Machine

DEFAULT_RATE = 30.0
"""Hz a neuron, sPyNNaker's own assumption (spynnaker.cfg: spikes_per_second)."""
DEFAULT_SOURCE_RATE = 250.0
"""Hz a spike source neuron without a rate of its own: event data is denser than a hidden layer."""
SIGMAS = 5.0
"""Standard deviations of a step's summed weight that are planned for (spynnaker.cfg: ring_buffer_sigma)."""
MIN_STEP_US = 100
"""sPyNNaker's shortest time step."""
DEFAULT_STEPS = 100
OPTIONS = ("eprop", "rate", "source_rate", "error_limit", "state_bits", "growth", "packets")
CORES, STATIC = "cores", "static"
"""Values of the option eprop: cores that learn by e-prop (eprop/); what learns by it is frozen"""


def lower(network: Network, connections: Mapping[str, Connections], machine: Machine, options: BuildOptions) -> SpinnakerNetwork:
    """Express a network in sPyNNaker's terms.

    Options (``--set``): ``eprop`` = cores (default: our own cores, eprop/) | r_stdp | static (what stands in for e-prop); ``rate`` and
    ``source_rate``, Hz, assumed firing rates of neurons and of sources without a rate, which set the resolution of weights and the number
    of synapse cores; ``packets`` = limit | free, whether cores are kept within the packets of a step at these rates; for cores,
    ``error_limit``, ``state_bits`` and ``growth`` (:class:`.eprop.plan.EpropOptions`).

    Raises
    ------
    UnsupportedError
        NC344 for learning that only the engine has; NC320 .. NC328, all findings at once.
    """
    chosen = read_options(options.extra)
    mode, rate, source_rate = chosen.eprop, chosen.rate, chosen.source_rate
    # what is measured of a policy are its actions' rewards, and cores draw no actions
    measured = not options.learning and network.task is not None and isinstance(network.task.loss, ActorCritic)
    refuse_engine_only(network, "spinnaker", frozen=mode == STATIC and not measured, freeze="--set eprop=static")
    findings = Findings()
    step_us = network.dt * 1e6
    if abs(step_us - round(step_us)) > 1e-6 * step_us or step_us < MIN_STEP_US:
        findings.refuse(
            "NC320",
            f"dt is {network.dt * 1e3:g} ms; sPyNNaker's time step is a whole number of microseconds, at least {MIN_STEP_US}",
            "choose another dt",
        )
    mapping_only = ""
    if machine.family == "spinnaker2":
        why = "sPyNNaker 1!7.4.1 brings binaries for SpiNNaker 1 only, the program maps (--virtual) but cannot run"
        mapping_only = f"machine '{machine.name}' is SpiNNaker 2: {why}"
        findings.approximate("NC329", f"machine '{machine.name}'", why, "mapping only", "run it on a SpiNNaker 1 machine (spin5)")
    steps = network.task.sample_steps if network.task is not None else DEFAULT_STEPS
    if mode == CORES and learns_by_eprop(network):
        own = EpropOptions(
            error_limit=chosen.error_limit, state_bits=chosen.state_bits, rate=rate, source_rate=source_rate, growth=chosen.growth
        )
        return lower_eprop(
            network,
            connections,
            machine,
            options,
            own,
            findings,
            board=_board(machine),
            mapping_only=mapping_only,
            steps=steps,
            packets=chosen.packets == "limit",
        )
    largest = {p.name: 0.0 for p in network.populations}
    for projection in network.synaptic_projections:
        weights = connections[projection.name].weight
        largest[projection.post] = max(largest[projection.post], float(weights.max(initial=0.0)), -float(weights.min(initial=0.0)))
    cells = [lower_population(p, network.dt, largest[p.name], findings) for p in network.populations]
    by_name = {cell.name: cell for cell in cells}
    learning = lower_learning(network, connections, by_name, mode, findings)
    _check_tables(learning, network.dt, machine, findings)
    if findings.errors:
        raise UnsupportedError(findings.errors)
    cells += [Cell(name=name, size=1, cell="source", params={"rate": 0.0}) for name in learning.signals]
    rates = {
        p.name: np.where(expand(p.model.rate, p.size) > 0, expand(p.model.rate, p.size), source_rate)
        if isinstance(p.model, SpikeSource)
        else np.full(p.size, rate)
        for p in network.populations
    } | {name: np.full(1, source_rate) for name in learning.signals}
    buffers = _ring_buffers(cells, network, connections, learning, rates, options.shards)
    _check_buffers(buffers, cells, findings)
    if findings.errors:
        raise UnsupportedError(findings.errors)
    _check_amplitudes(learning, buffers, findings)
    approximations = accept(findings.approximations, options)
    packets = chosen.packets == "limit"
    problem, split = costs.mapping_problem(network, connections, cells, learning, rates, machine, packets=packets)
    version, boards = _board(machine)
    return SpinnakerNetwork(
        network=network,
        connections=connections,
        problem=problem,
        approximations=approximations,
        summary=_summary(cells, buffers, learning, network, connections, options.shards),
        cells=tuple(cells),
        buffers=buffers,
        learning=learning,
        split=split,
        machine_version=version,
        n_boards=boards,
        mapping_only=mapping_only,
        steps=steps,
        machine=machine,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``--set`` of the target, see :func:`lower`."""

    eprop: str = CORES
    rate: float = DEFAULT_RATE
    source_rate: float = DEFAULT_SOURCE_RATE
    error_limit: float = 4.0
    state_bits: int | None = None
    growth: float = 2.0
    packets: str = "free"


def read_options(extra: Mapping[str, str]) -> Options:
    """Return the options; InputError NC320 for those that do not exist or are out of range."""
    found: dict[str, Any] = {}
    for key, text in extra.items():
        if key not in OPTIONS:
            raise InputError.of("NC320", f"target 'spinnaker' has no option '{key}'", help=did_you_mean(key, OPTIONS))
        if key == "eprop":
            found[key] = text
        elif key == "packets":
            if text not in ("limit", "free"):
                raise InputError.of(
                    "NC320", f"option packets={text!r} must be limit or free", help="limit: no core gets more than its buffer"
                )
            found[key] = text
        elif key == "state_bits":
            if text not in ("16", "32"):
                raise InputError.of("NC320", f"option state_bits={text!r} must be 16 or 32", help="16 halves the memory of eligibilities")
            found[key] = int(text)
        else:
            found[key] = _positive(key, text)
    return Options(**found)


def _positive(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < np.inf:
        example = "an error in membrane units, e.g. error_limit=4" if key == "error_limit" else f"a rate in Hz, e.g. {key}=50"
        raise InputError.of("NC320", f"option {key}={text!r} must be a positive number", help=f"give {example}")
    return value


def _check_tables(learning: Learning, dt: float, machine: Machine, findings: Findings) -> None:
    free = costs.local_memory(machine)
    room = free - costs.STATE_BYTES - costs.HISTORY_BYTES
    for post, size in costs.rule_tables(learning, dt).items():
        if size > room >= 0:  # without room for a neuron the machine is to blame, not the rule: NC401
            findings.refuse(
                "NC328",
                f"population '{post}': the decay tables of its learning rule take {size} bytes (2 for each of ln(2048) tau / dt steps), "
                f"a core has {free:g} left",
                "use shorter time constants (tau_plus, tau_minus, tau_c, tau_d) or a larger dt",
            )


def _check_buffers(buffers: Mapping[str, RingBuffer], cells: list[Cell], findings: Findings) -> None:
    """The sum of a step's weights must be an s16.15 number."""
    for cell in cells:
        worst = max(buffers[cell.name].expected) if cell.name in buffers else 0.0
        if not worst < 2.0**MOST_SHIFT:
            findings.refuse(
                "NC328",
                f"population '{cell.name}': weights of a step may add up to {worst:g} on the machine, where its s16.15 numbers hold sums "
                f"up to {2.0**MOST_SHIFT:g} (a weight of 1 becomes {np.max(cell.weight_scale):g})",
                "use smaller weights, or lower rates (--set rate=, source_rate=) if these are assumed too high",
            )


def _check_amplitudes(learning: Learning, buffers: Mapping[str, RingBuffer], findings: Findings) -> None:
    """A weight change below the weight's resolution is lost: weights are rounded down after each presynaptic spike."""
    for rule in learning.rules:
        unit = buffers[rule.post].resolution[0]
        reach = rule.w_max - rule.w_min if rule.multiplicative else 1.0
        for name, amplitude in (("a_plus", rule.a_plus * reach), ("a_minus", rule.a_minus * reach)):
            if 0.0 < amplitude < unit:
                findings.approximate(
                    "NC328",
                    f"inputs of '{rule.post}'",
                    f"{name} changes a weight (with reward: an eligibility) by at most {amplitude / unit:.2g} of the stored resolution",
                    "changes are rounded down to whole units",
                    "a single pair then strengthens nothing and weakens by a whole unit; narrow weight_bounds or raise the amplitude",
                )


def _board(machine: Machine) -> tuple[int, int]:
    """Return sPyNNaker's version number of the board type, and how many boards there are (a triad has 3; see SpiNNMachine.version)."""
    if machine.family == "spinnaker2":
        return (201, 1) if machine.n_chips == 1 else (248, 1)
    if machine.n_chips <= 4:
        return 3, 1
    return 5, -(-machine.n_chips // 48)


def _ring_buffers(
    cells: list[Cell],
    network: Network,
    connections: Mapping[str, Connections],
    learning: Learning,
    rates: Mapping[str, FloatArray],
    shards: Shards,
) -> dict[str, RingBuffer]:
    """Plan for the summed weight of a step: mean + 5 sigma of independent spikes, at least the largest weight, at most all at once."""
    by_name = {c.name: c for c in cells}
    sums = {c.name: np.zeros((3, 2, c.size)) for c in cells if c.cell != "source"}
    tops = {name: np.zeros(2) for name in sums}
    spikes = {p.name: Shared(np.minimum(rates[p.name] * network.dt, 1.0)) for p in network.populations}
    pieces = [(projection, of) for projection in network.synaptic_projections for of in _pieces(connections, by_name, projection)]
    found = shards.map(
        _summed_input,
        (
            (of.pre, of.post, of.first, of.weight, of.scale, spikes[projection.pre], _reach(learning, projection.name))
            for projection, of in pieces
        ),
    )
    for (projection, of), (summed, top) in zip(pieces, found, strict=True):
        sums[projection.post][:, :, of.first : of.first + len(of.scale)] += summed
        np.maximum(tops[projection.post], top, out=tops[projection.post])
    return {name: _ring_buffer(sums[name], tops[name]) for name in sums}


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Synapses of the targets first .. first + len(scale) - 1; ``scale``: PyNN weight of a weight of 1, of each of these targets."""

    first: int
    pre: Int32Array
    post: Int32Array
    weight: Weights
    scale: FloatArray


def _pieces(connections: Mapping[str, Connections], cells: Mapping[str, Cell], projection: Projection) -> Iterator[_Piece]:
    synapses, cell = connections[projection.name], cells[projection.post]
    scale = np.broadcast_to(np.asarray(cell.weight_scale, np.float64), (cell.size,))
    for cut in ranges_of_targets(synapses.post):
        post = synapses.post[cut]
        first, stop = (int(post.min()), int(post.max()) + 1) if len(post) else (0, 0)
        yield _Piece(first=first, pre=synapses.pre[cut], post=post, weight=synapses.weight[cut], scale=scale[first:stop])


def _reach(learning: Learning, projection: str) -> float:
    """Return the weight up to which a projection's synapses may grow, 0 for static ones."""
    rule = learning.plastic.get(projection)
    return 0.0 if rule is None else learning.rules[rule].w_max


def _summed_input(
    pre: Int32Array, post: Int32Array, first: int, weight: Weights, scale: FloatArray, spikes: FloatArray, reach: float
) -> tuple[FloatArray, FloatArray]:
    """Return (mean, variance, largest) of the summed weight of a step, shape (3, 2, targets), and the largest weight (2,); both for
    excitatory and inhibitory inputs. ``spikes``: probability of a spike in a step, of each source."""
    n, target = len(scale), post - np.int32(first)
    scaled = weight.astype(np.float64) * scale[target]
    negative = scaled < 0
    scaled = np.abs(scaled)
    scaled = np.where(negative, scaled, np.maximum(scaled, reach))
    p = spikes[pre]
    place = negative * n + target
    with np.errstate(over="ignore", invalid="ignore"):  # too large is refused later (_check_buffers)
        sums = [np.bincount(place, of, 2 * n).reshape(2, n) for of in (p * scaled, p * (1.0 - p) * scaled**2, scaled)]
    return np.stack(sums), np.array([scaled[~negative].max(initial=0.0), scaled[negative].max(initial=0.0)])


def _ring_buffer(sums: FloatArray, top: FloatArray) -> RingBuffer:
    mean, variance, total = sums
    expected = np.clip(mean + SIGMAS * np.sqrt(variance), top[:, None], np.maximum(total, top[:, None])).max(axis=1)
    return RingBuffer(
        expected=(float(expected[0]), float(expected[1])), resolution=(resolution(float(expected[0])), resolution(float(expected[1])))
    )


def resolution(expected: float) -> float:
    """Return the smallest weight difference that sPyNNaker stores for an expected summed weight: 2^-(15 - s), where s is the smallest
    whole number >= 0 with 2^s > expected (PopulationVertex.get_ring_buffer_shifts and get_weight_scales)."""
    return float(2.0 ** (max(math.frexp(expected)[1], 0) - 15))


def _summary(
    cells: list[Cell],
    buffers: Mapping[str, RingBuffer],
    learning: Learning,
    network: Network,
    connections: Mapping[str, Connections],
    shards: Shards,
) -> dict[str, Any]:
    by_name = {c.name: c for c in cells}
    pieces = [(projection, of) for projection in network.synaptic_projections for of in _pieces(connections, by_name, projection)]
    found = shards.map(
        _rounding, ((of.post, of.first, of.weight, of.scale, buffers[projection.post].resolution) for projection, of in pieces)
    )
    rounded: dict[str, list[Rounding]] = {}
    for (projection, _), part in zip(pieces, found, strict=True):
        rounded.setdefault(projection.name, []).append(part)
    return {
        "populations": {c.name: summary_row(c) for c in cells if c.cell != "source"},
        "weight_rounding": {name: rounding_row(parts, len(connections[name])) for name, parts in rounded.items()},
        "learning": rule_rows(learning),
        "added_sources": list(learning.signals),
    }


def _rounding(post: Int32Array, first: int, weight: Weights, scale: FloatArray, steps: tuple[float, float]) -> Rounding:
    """Return what rounding costs in a range of targets, whose scales these are."""
    return rounding(weight.astype(np.float64), scale[post - np.int32(first)], steps)
