"""Energy and time of a step: counted again synapse by synapse in plain Python."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.spinnaker.eprop.cycles import stretches_per_second
from neurocompile.ir.yaml_reader import network_from_text
from neurocompile.pipeline import Compiled, CompileOptions, compile_network
from neurocompile.report.cost import step_cost
from tests.report.conftest import NET, Page

RATES = {"in": 0.02, "hidden": 0.005, "relay": 0.03, "out": 0.0175}
"""Spikes per step of 1 ms: the source's own 20 Hz, the description's 5 and 30 Hz, and their mean for who has none."""
WITH_RATES = NET + "mapping: {rates: {hidden: 5 Hz, relay: 30 Hz}}\n"
STATIC = WITH_RATES.replace(", learning: rule", "")
STATIC = STATIC[: STATIC.index("learning:")] + STATIC[STATIC.index("mapping:") :]
NAMES = [
    "synaptic events of the busiest core",
    "neuron updates of the busiest core",
    "packets of the busiest link",
    "what every step takes",
    "shortest step",
]


def compiled(folder: Path, target: str, text: str = WITH_RATES, **options: Any) -> Compiled:
    network = network_from_text(text, "net.yaml", folder)
    return compile_network(network, CompileOptions(target=target, allow_approximation=True, partition="sequential", **options))


def counted(made: Compiled) -> dict[str, Any]:
    """By part: events over static and plastic synapses, plastic synapses (Loihi changes all of them in every step), neurons; by loops."""
    assert made.mapping is not None
    static: dict[int, float] = defaultdict(float)
    plastic: dict[int, float] = defaultdict(float)
    changes: dict[int, float] = defaultdict(float)
    part = made.mapping.partition.part.tolist()
    for p in made.network.synaptic_projections:
        events = static if p.learning is None else plastic
        for post in made.connections[p.name].post.tolist():
            events[part[post + made.network.offsets[p.post]]] += RATES[p.pre]
            changes[part[post + made.network.offsets[p.post]]] += p.learning is not None
    inside = [q for q in part if not made.mapping.partition.external[q]]
    return {"static": static, "plastic": plastic, "changes": changes, "neurons": {q: inside.count(q) for q in set(inside)}}


def terms(total: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {t["name"]: t for t in total["terms"]}


@pytest.mark.parametrize("machine", ["kapoho-point", "nahuku-32"])
def test_loihi_counts_events_updates_and_hops(tmp_path: Path, machine: str) -> None:
    made = compiled(tmp_path, "loihi2", machine=machine, overrides={"core.neurons": 20.0})
    found, counts = step_cost(made), counted(made)
    assert found is not None
    assert made.machine is not None
    assert made.mapping is not None
    value = {key: q.value for key, q in made.machine.quantities.items()}
    static, plastic = sum(counts["static"].values()), sum(counts["plastic"].values())
    energy = terms(found["energy"])
    hops = made.mapping.traffic["hops_per_step"]
    # Sums of some thousand floats in another order: 1e-9 relative is far above their rounding.
    expected = {
        "synaptic events": (static + plastic, value["cost.synop_energy"]),
        "changes of plastic synapses": (sum(counts["changes"].values()), value["cost.plastic_synop_energy"]),
        "neuron updates": (sum(counts["neurons"].values()), value["cost.neuron_energy"]),
        "packets x links between chips": (hops, value["cost.hop_energy"]),
        "chips in use": (1, None),
    }
    assert set(energy) == set(expected)
    for name, (count, each) in expected.items():
        assert energy[name]["count"] == pytest.approx(count, rel=1e-9)
        assert energy[name]["value"] == (None if each is None else pytest.approx(count * each, rel=1e-9))
    assert found["energy"]["unknown"] == ["chips in use"]
    assert found["energy"]["value"] == pytest.approx(sum(n * e for n, e in expected.values() if e is not None), rel=1e-9)
    assert found["energy"]["confidence"] == "guess"  # nobody has published what Loihi 2's learning takes: Loihi 1's figure, marked
    change = value["cost.plastic_synop_time"]
    busiest = max(
        (counts["static"][q] + counts["plastic"][q]) * value["cost.synop_time"] + counts["changes"][q] * change for q in counts["neurons"]
    )
    updates = max(counts["neurons"].values()) * value["cost.neuron_time"]
    time = terms(found["time"])
    assert time[NAMES[0]]["value"] == pytest.approx(busiest, rel=1e-9)
    assert time[NAMES[1]]["value"] == pytest.approx(updates, rel=1e-9)
    assert found["time"]["value"] == pytest.approx(max(busiest, updates) + value["cost.step_time"], rel=1e-9)


def test_static_networks_cost_no_guess_of_learning(tmp_path: Path) -> None:
    """One chip and no learning: neither a hop nor a change is paid for, so that their guesses do not lower the confidence of the rest."""
    found = step_cost(compiled(tmp_path, "loihi2", text=STATIC, machine="oheo-gulch"))
    assert found is not None
    assert "changes of plastic synapses" not in terms(found["energy"])
    assert found["energy"]["confidence"] == found["time"]["confidence"] == "inferred"


def test_spinnaker_counts_chips_and_cores_for_the_time_of_a_step(tmp_path: Path) -> None:
    made = compiled(tmp_path, "spinnaker", extra={"eprop": "r_stdp"})
    found = step_cost(made)
    assert found is not None
    assert made.mapping is not None
    inside = ~made.mapping.partition.external
    cores, chips = int(made.mapping.placement.width[inside].sum()), len(set(made.mapping.placement.chip[inside].tolist()))
    energy, hops = terms(found["energy"]), float(made.mapping.traffic["hops_per_step"])  # type: ignore[arg-type]
    # 0.35 W a chip and 0.034 W a core (SpiNNMachine) over 1 ms, 1 nJ a packet and link.
    assert found["energy"]["value"] == pytest.approx(chips * 0.35e-3 + cores * 0.034e-3 + hops * 1e-9, rel=1e-9)
    assert energy["synaptic events"]["part_of"] == energy["neuron updates"]["part_of"] == "cores in use"
    assert found["energy"]["unknown"] == []
    assert found["energy"]["confidence"] == "published"
    assert found["time"]["value"] == 1e-4  # the software's shortest step: all cores are done long before
    assert found["time"]["unknown"] == [NAMES[1], NAMES[3]]


def test_own_cores_count_the_cycles_of_their_code(tmp_path: Path) -> None:
    """The busiest core, synapse by synapse: an update and what follows it a neuron, events at the rates of their sources, and once a core
    and source its packets and rows."""
    made = compiled(tmp_path, "spinnaker", overrides={"core.neurons": 20.0})
    found = step_cost(made)
    assert found is not None
    assert made.machine is not None
    assert made.mapping is not None
    value, part = made.machine.value, made.mapping.partition.part.tolist()
    cycles: dict[int, float] = defaultdict(float)
    offsets, learning = made.network.offsets, {p.post for p in made.network.synaptic_projections if p.learning}
    sending, hearing = {p.pre for p in made.network.synaptic_projections}, set()
    for p in made.network.populations:
        for neuron in range(p.size if p.name != "in" else 0):
            heard = 3 * value("core.eprop_error_cycles") if p.name in learning and p.name != "out" else 0.0
            fold = value("core.eprop_fold_cycles") if p.name in learning else 0.0
            update = value("core.eprop_update_cycles") + value("core.transfer_cycles")
            sent = RATES[p.name] * value("core.eprop_send_cycles") if p.name in sending else 0.0
            cycles[part[offsets[p.name] + neuron]] += update + fold + heard + sent
            if fold and heard:
                hearing.add(part[offsets[p.name] + neuron])
    packets, rows = set(), set()
    for p in made.network.synaptic_projections:
        synapses = made.connections[p.name]
        for pre, post, weight in zip(synapses.pre.tolist(), synapses.post.tolist(), synapses.weight.tolist(), strict=True):
            core = part[post + offsets[p.post]]
            packets.add((core, p.pre, pre))
            rows.add((core, p.name, pre, None if p.learning else weight < 0))
            spike = value("core.eprop_spike_cycles") if p.learning else value("core.static_synapse_cycles")
            stretches = float(stretches_per_second(np.array([RATES[p.pre] * 1e3]), 1e-3)[0]) * 1e-3 if p.learning else 0.0
            taken = RATES[p.pre] * spike + stretches * value("core.eprop_catch_up_cycles")
            cycles[core] += taken
    for core, source, _ in packets:
        cycles[core] += RATES[source] * value("core.packet_cycles")
    for core, name, _, _ in rows:
        p = next(q for q in made.network.synaptic_projections if q.name == name)
        if p.learning is None:
            cycles[core] += RATES[p.pre] * value("core.static_row_cycles")
            continue
        cycles[core] += RATES[p.pre] * (value("core.row_cycles") + value("core.eprop_row_cycles"))
        cycles[core] += (value("core.row_cycles") + value("core.eprop_sweep_cycles")) / 224
        stretches = float(stretches_per_second(np.array([RATES[p.pre] * 1e3]), 1e-3)[0]) * 1e-3
        cycles[core] += stretches * value("core.eprop_stretch_cycles")
    for core in hearing:
        cycles[core] += 3 * value("core.eprop_error_packet_cycles")
    (row,) = (t for t in found["time"]["terms"] if t["name"] == "events and updates of the busiest core")
    assert row["value"] == pytest.approx(max(cycles.values()) / value("core.clock"), rel=1e-9)
    assert (row["constant"], row["confidence"]) == ("core.eprop_spike_cycles", "measured")
    assert NAMES[0] not in terms(found["time"])


def test_who_repeats_spikes_is_not_updated(tmp_path: Path) -> None:
    """Plastic delays bring senders and sources that the network has not."""
    late = WITH_RATES.replace("delay: 1 ms, learning: rule", "delay: {uniform: [1, 4]}, learning: rule")
    made = compiled(tmp_path, "spinnaker", text=late)
    assert made.problem is not None
    assert made.problem.n_neurons > made.network.n_neurons
    found = step_cost(made)
    assert found is not None
    assert terms(found["energy"])["neuron updates"]["count"] == made.network.n_neurons


def test_an_overridden_constant_acts_and_says_so(tmp_path: Path) -> None:
    plain = step_cost(compiled(tmp_path, "loihi2", text=STATIC))
    changed = step_cost(compiled(tmp_path, "loihi2", text=STATIC, overrides={"cost.synop_energy": 1.0}))
    assert plain is not None
    assert changed is not None
    row = terms(changed["energy"])["synaptic events"]
    assert (row["value"], row["confidence"]) == (row["count"], "override")
    assert changed["energy"]["confidence"] == "override"
    others = {n: t for n, t in terms(plain["energy"]).items() if n != "synaptic events"}
    assert others == {n: t for n, t in terms(changed["energy"]).items() if n != "synaptic events"}


def test_without_rates_every_neuron_counts_once_a_step(tmp_path: Path) -> None:
    text = NET.replace(", params: {rate: 20 Hz}", "")
    found = step_cost(compiled(tmp_path, "loihi2", text=text))
    assert found is not None
    assert found["rates_known"] is False
    assert terms(found["energy"])["synaptic events"]["count"] == 9 * 90 + 5 * 70 + 90 * 3


def test_nothing_mapped_costs_nothing_known(tmp_path: Path) -> None:
    assert step_cost(compiled(tmp_path, "nest")) is None


def test_the_report_has_the_cost_and_the_partition(pages: dict[str, Page]) -> None:
    assert pages["nest"].report["cost"] is None
    assert pages["nest"].report["partition"] is None
    for name in ("loihi2", "loihi2, one chip", "spinnaker"):
        report = pages[name].report
        quality = report["partition"]
        assert quality["weighted_km1"] <= quality["sequential_weighted_km1"]
        assert quality["cores"] >= quality["lower_bound"] >= quality["bounds"][quality["bound_by"]]
        assert report["cost"]["energy"]["value"] > 0
    assert pages["loihi2"].report["partition"]["bound_by"] == "neurons"  # at most 7 a core of 163
    assert pages["loihi2"].report["partition"]["lower_bound"] == 24
