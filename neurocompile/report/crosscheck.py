"""Cross-check of a mapping by SANA-FE, an independent simulator of neuromorphic chips: the same spikes, counted here and there.

SANA-FE is under GPL 3 and no part of neurocompile: it runs in an interpreter that the user names, on an architecture and a mapped network
in its documented YAML format. Chips become tiles, used cores become cores, and every neuron repeats given spikes (its model
``input``, with weights of 0, which such neurons accept). Counted on both sides: spikes, synaptic events, packets (one for each core that a
spike has a target on), links that they cross; and the energy of all that at the same constants.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping as MappingABC
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.build_folder import BuildFolder
from neurocompile.ir import LeakyReadout, Network
from neurocompile.ir.errors import Diagnostic, InputError, MismatchError, SdkMissingError
from neurocompile.ir.npz import load_npz
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Spikes
from neurocompile.mapping.export import load_mapping
from neurocompile.mapping.types import Mapping

IntArray = npt.NDArray[np.int64]
BoolMatrix = npt.NDArray[np.bool_]

RANDOM_RATE = 0.05
"""Spikes of a neuron and step where no recording is given."""
_MOST_SYNAPSES, _MOST_SPIKES = 3_000_000, 50_000_000
"""Bounds of the text that is written for SANA-FE: about 100 MB each."""
_RELATIVE = 1e-9
"""Energies are sums of some 1e5 floats in another order: rounding is below 1e-11 of them."""
_TIMEOUT_S = 1800.0
ENERGIES = ("energy of synapse", "energy of soma", "energy of network")
_DRIVER = """
import json, sys
try:
    import sanafe
except ModuleNotFoundError as error:
    print(json.dumps({"missing": error.name}))
    sys.exit(0)
architecture = sanafe.load_arch("architecture.yaml")
network = sanafe.load_net("network.yaml", architecture)
chip = sanafe.SpikingChip(architecture)
chip.load(network)
found = chip.sim(int(sys.argv[1]), timing_model="simple", perf_trace=True)
print(json.dumps({
    "spikes": sum(found["perf_trace"]["fired"]), "synaptic events": found["spikes"], "packets": found["packets_sent"],
    "packets x links": sum(found["perf_trace"]["hops"]), **{f"energy of {k}": v for k, v in found["energy"].items()},
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Energies in J: of a synaptic event, of a neuron in a step, of its spike, of a packet that leaves, of a packet over a link."""

    event: float
    neuron: float
    spike: float
    packet: float
    hop: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Placed:
    """The mapped network as both sides see it: spikes (n_steps, n_neurons), place of each neuron, ends of each synapse, the mesh."""

    fired: BoolMatrix
    chip: npt.NDArray[np.int32]
    core: npt.NDArray[np.int32]
    outside: npt.NDArray[np.bool_]
    pre: IntArray
    post: IntArray
    width: int
    height: int


def crosscheck(build: BuildFolder, python: Path, *, recording: Path | None, steps: int) -> dict[str, Any]:
    """Count the same spikes here and in SANA-FE; return ``steps``, ``constants`` and ``rows`` (``name``, ``here``, ``there``).

    Parameters
    ----------
    python
        An interpreter that has the package ``sanafe`` (and numpy).
    recording
        What ``simulate --save`` writes; None: each neuron spikes with probability ``RANDOM_RATE`` in each of ``steps`` steps.

    Raises
    ------
    InputError
        NC730 the build cannot be cross-checked, NC731 there is no such interpreter; those of recordings.
    SdkMissingError
        NC731: the interpreter has no SANA-FE.
    MismatchError
        NC732 SANA-FE failed, NC733 it counts otherwise.
    """
    placed = _placed(build, recording, steps)
    constants = _constants(build.report["machine"]["quantities"])
    here = count(placed, constants)
    with tempfile.TemporaryDirectory(prefix="neurocompile-sanafe-") as name:
        folder = Path(name)
        (folder / "architecture.yaml").write_text(architecture_text(placed, constants), "utf-8")
        (folder / "network.yaml").write_text(network_text(placed), "utf-8")
        there = _run(python, folder, len(placed.fired))
    wrong = [name for name, value in here.items() if abs(value - there[name]) > (_RELATIVE * abs(value) if name in ENERGIES else 0)]
    if wrong:
        raise MismatchError(
            Diagnostic(code="NC733", message=f"{name}: {here[name]:.15g} here, {there[name]:.15g} in SANA-FE", file=str(build.path))
            for name in wrong
        )
    rows = [{"name": name, "here": value, "there": there[name]} for name, value in here.items()]
    return {"tool": "sanafe", "steps": len(placed.fired), "constants": asdict(constants), "rows": rows}


def _placed(build: BuildFolder, recording: Path | None, steps: int) -> _Placed:
    network, machine = build.network, build.report["machine"]
    if machine is None or any(q["name"] == "router.usable_entries" for q in machine["quantities"]):
        raise InputError.of(
            "NC730",
            f"the build is for {machine['name'] if machine else 'a target without cores'}; SANA-FE models chips whose packets carry a core",
            file=str(build.path),
            help="use a build for loihi2",
        )
    width, height = machine["grid"]
    if len(machine["existing_chips"]) != width * height:
        raise InputError.of("NC730", "the machine's mesh has holes, SANA-FE's has none", file=str(build.path))
    fired = _recorded(network, recording) if recording is not None else _random(network, steps)
    n_synapses = sum(len(c.pre) for c in build.connections.values())
    if n_synapses > _MOST_SYNAPSES or fired.size > _MOST_SPIKES:
        raise InputError.of(
            "NC730",
            f"{n_synapses:,} synapses and {fired.shape[1]:,} neurons in {len(fired):,} steps are too much text for SANA-FE, which takes "
            f"{_MOST_SYNAPSES:,} synapses and {_MOST_SPIKES:,} neurons x steps",
            file=str(build.path),
            help="use fewer steps (--steps), or a smaller network",
        )
    mapping = load_mapping(load_npz(build.path / "mapping.npz"))
    return _of_mapping(network, build.connections, mapping, fired, width, height)


def _of_mapping(
    network: Network, connections: MappingABC[str, Connections], mapping: Mapping, fired: BoolMatrix, width: int, height: int
) -> _Placed:
    part = mapping.partition.part
    ends: list[tuple[IntArray, IntArray]] = [
        (connections[p.name].pre + np.int64(network.offsets[p.pre]), connections[p.name].post + np.int64(network.offsets[p.post]))
        for p in network.synaptic_projections
    ]
    none = np.zeros(0, np.int64)
    return _Placed(
        fired=fired,
        chip=mapping.placement.chip[part],
        core=mapping.placement.core[part],
        outside=mapping.partition.external[part],
        pre=np.concatenate([pre for pre, _ in ends]) if ends else none,
        post=np.concatenate([post for _, post in ends]) if ends else none,
        width=width,
        height=height,
    )


def _random(network: Network, steps: int) -> BoolMatrix:
    fired: BoolMatrix = np.random.default_rng([network.seed, 3]).random((steps, network.n_neurons)) < RANDOM_RATE
    for population in network.populations:
        if isinstance(population.model, LeakyReadout):
            fired[:, network.offsets[population.name] :][:, : population.size] = False
    return fired


def _recorded(network: Network, file: Path) -> BoolMatrix:
    arrays = load_npz(file)
    found: dict[str, Spikes] = {}
    for population in network.populations:
        neuron, step = (arrays.get(f"spike_{what}:{population.name}") for what in ("neuron", "step"))
        if neuron is None or step is None:
            continue
        found[population.name] = spikes = Spikes(neuron=neuron, step=step)  # type: ignore[arg-type]
        if spikes.neuron.size and int(spikes.neuron.max()) >= population.size:
            raise InputError.of(
                "NC204",
                f"'spike_neuron:{population.name}' holds neuron {int(spikes.neuron.max())}, the population has {population.size}",
                file=str(file),
                help="use a recording of this network",
            )
    if not any(spikes.step.size for spikes in found.values()):
        raise InputError.of("NC107", "has no spikes of this network", file=str(file), help="use what `simulate NET --save FILE` writes")
    fired = np.zeros((1 + max(int(s.step.max(initial=0)) for s in found.values()), network.n_neurons), np.bool_)
    for name, spikes in found.items():
        fired[spikes.step, network.offsets[name] + spikes.neuron] = True
    return fired


def _constants(quantities: list[dict[str, Any]]) -> Constants:
    """SANA-FE's own fitted constants where the machine file has them, else the machine file's."""
    value = {q["name"]: float(q["value"]) for q in quantities}
    hop = value.get("cost.hop_energy", 0.0)
    if "cost.fitted_synop_energy" in value:
        return Constants(
            event=value["cost.fitted_synop_energy"],
            neuron=value["cost.fitted_neuron_access_energy"] + value["cost.fitted_neuron_update_energy"],
            spike=value["cost.fitted_neuron_spike_energy"],
            packet=value["cost.fitted_message_out_energy"],
            hop=hop,
            source="cost.fitted_* (SANA-FE's Loihi file), cost.hop_energy",
        )
    event, neuron = value.get("cost.synop_energy", 0.0), value.get("cost.neuron_energy", 0.0)
    names = "cost.synop_energy, cost.neuron_energy, cost.hop_energy"
    return Constants(event=event, neuron=neuron, spike=0.0, packet=0.0, hop=hop, source=names)


def count(placed: _Placed, constants: Constants) -> dict[str, float]:
    """Count what given spikes cause: by the synapses and places alone, without the mapper's axons, routes and traffic."""
    spikes = placed.fired.sum(axis=0)
    n = len(spikes)
    fan_out = np.bincount(placed.pre, minlength=n)
    cores = int(placed.core.max(initial=0)) + 2  # outside neurons have core -1
    place = placed.chip.astype(np.int64) * cores + placed.core + 1
    reached = np.unique(np.column_stack([placed.pre, place[placed.post]]), axis=0)  # one packet for each core with a target
    x, y = placed.chip % placed.width, placed.chip // placed.width
    chip = reached[:, 1] // cores
    links = np.abs(chip % placed.width - x[reached[:, 0]]) + np.abs(chip // placed.width - y[reached[:, 0]])
    events, packets = int(spikes @ fan_out), int(spikes[reached[:, 0]].sum())
    crossed = int(spikes[reached[:, 0]] @ links)
    inside = ~placed.outside
    energies = (
        events * constants.event,
        int(inside.sum()) * len(placed.fired) * constants.neuron + int(spikes[inside].sum()) * constants.spike,
        packets * constants.packet + crossed * constants.hop,
    )
    counts = {"spikes": int(spikes.sum()), "synaptic events": events, "packets": packets, "packets x links": crossed}
    return {**counts, **dict(zip(ENERGIES, energies, strict=True))}


def _cores(placed: _Placed) -> dict[int, list[tuple[int, bool, npt.NDArray[np.int64]]]]:
    """Chip -> its used cores in SANA-FE's numbering: (core, whether it stands for the host, neurons)."""
    found: dict[int, list[tuple[int, bool, npt.NDArray[np.int64]]]] = {}
    key = placed.chip.astype(np.int64) * (1 << 32) + placed.core
    for value in np.unique(key):
        neurons = np.flatnonzero(key == value)
        chip = int(placed.chip[neurons[0]])
        found.setdefault(chip, []).append((int(placed.core[neurons[0]]), bool(placed.outside[neurons[0]]), neurons))
    return found


def _tile(placed: _Placed, chip: int) -> int:
    """Number of a chip as SANA-FE numbers tiles: column by column."""
    return (chip % placed.width) * placed.height + chip // placed.width


def architecture_text(placed: _Placed, constants: Constants) -> str:
    """Return SANA-FE's architecture file. Times are 1 ns each: they are not compared, but must not be 0 for its scheduler."""
    cores = _cores(placed)
    hops = ", ".join(f"energy_{way}_hop: {constants.hop!r}, latency_{way}_hop: 1.0e-9" for way in ("north", "east", "south", "west"))
    lines = [
        "architecture:",
        "  name: mapped",
        f"  attributes: {{topology: mesh, width: {placed.width}, height: {placed.height}, link_buffer_size: 16, sync_model: fixed, "
        "latency_sync: 0.0}",
        "  tile:",
    ]
    for tile in range(placed.width * placed.height):
        chip = tile % placed.height * placed.width + tile // placed.height
        lines += [f"    - name: chip{chip}", f"      attributes: {{{hops}}}", "      core:"]
        for number, (_, outside, neurons) in enumerate(cores.get(chip, [(0, False, np.zeros(1, np.int64))])):
            soma = "energy_access_neuron: {}, latency_access_neuron: 1.0e-9, energy_update_neuron: 0.0, latency_update_neuron: 1.0e-9, "
            soma = soma.format(0.0 if outside else repr(constants.neuron))
            soma += f"energy_spike_out: {0.0 if outside else constants.spike!r}, latency_spike_out: 1.0e-9"
            lines += [
                f"        - name: core{number}",
                f"          attributes: {{buffer_position: soma, buffer_inside_unit: false, max_neurons_supported: {len(neurons)}}}",
                "          axon_in: [{name: in, attributes: {energy_message_in: 0.0, latency_message_in: 1.0e-9}}]",
                "          synapse: [{name: synapse, attributes: {model: current_based, "
                f"energy_process_spike: {constants.event!r}, latency_process_spike: 1.0e-9}}}}]",
                "          dendrite: [{name: dendrite, attributes: {model: accumulator, energy_update: 0.0, latency_update: 0.0}}]",
                f'          soma: [{{name: "neuron[0..{len(neurons) - 1}]", attributes: {{model: input, {soma}}}}}]',
                "          axon_out: [{name: out, attributes: {"
                f"energy_message_out: {constants.packet!r}, latency_message_out: 1.0e-9}}}}]",
            ]
    return "\n".join(lines) + "\n"


def network_text(placed: _Placed) -> str:
    """Return SANA-FE's network file: one group, so that no name of the user's is in it."""
    spikes = [f"        - {i}: [soma: {{spikes: {json.dumps(column.astype(int).tolist())}}}]" for i, column in enumerate(placed.fired.T)]
    edges = [f"    - n.{i} -> n.{j}: [weight: 0]" for i, j in zip(placed.pre.tolist(), placed.post.tolist(), strict=True)]
    mappings = {
        int(neuron): f'  - n.{neuron}: [core: {_tile(placed, chip)}.{number}, soma: "neuron[{k}]"]'
        for chip, cores in _cores(placed).items()
        for number, (_, _, neurons) in enumerate(cores)
        for k, neuron in enumerate(neurons)
    }
    head = ["network:", "  name: mapped", "  groups:", "    - name: n", "      attributes: []", "      neurons:"]
    return (
        "\n".join([*head, *spikes, "  edges:" if edges else "  edges: []", *edges, "mappings:", *(mappings[i] for i in sorted(mappings))])
        + "\n"
    )


def _run(python: Path, folder: Path, steps: int) -> dict[str, float]:
    command = [str(python), "-I", "-c", _DRIVER, str(steps)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except OSError as error:
        raise InputError.of(
            "NC731", f"cannot be run: {error.strerror}", file=str(python), help="--python PATH names an interpreter"
        ) from None
    except subprocess.TimeoutExpired:
        raise MismatchError.of("NC732", f"SANA-FE did not end within {_TIMEOUT_S:g} s", file=str(python), help="use fewer steps") from None
    lines = done.stdout.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if done.returncode == 0 else None
    except (ValueError, IndexError):
        found = None
    if isinstance(found, dict) and "missing" in found:
        raise SdkMissingError.of(
            "NC731",
            f"has no module '{found['missing']}'",
            file=str(python),
            help=f"install it there: {python} -m pip install sanafe numpy (GPL 3, not a part of neurocompile)",
        )
    if not isinstance(found, dict) or not {"spikes", "synaptic events", "packets", "packets x links", *ENERGIES} <= set(found):
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise MismatchError.of("NC732", f"SANA-FE failed (exit {done.returncode}): {tail}", file=str(python))
    return found


__all__ = ["architecture_text", "count", "crosscheck", "network_text"]
