"""Emitted programs as a user runs them, mapped by sPyNNaker on a virtual spin5 board, and what ``validate`` says of them.

Each program is run once for all tests of this file: importing sPyNNaker and mapping take several seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import Check
from neurocompile.backends.spinnaker import TARGET
from neurocompile.backends.spinnaker.checks import check_cells, check_cores, check_places, check_routes, check_synapses, numbering
from neurocompile.backends.spinnaker.twin.loaded import check_numbers
from neurocompile.backends.spinnaker.validate import compare
from neurocompile.backends.spinnaker.walk import walk
from neurocompile.ir import ALIF, LIF, RSTDP, STDP, CubaLIF, EProp, Explicit, LeakyReadout, Network, Population, Projection, SpikeSource
from neurocompile.ir.neurons import Reset
from neurocompile.ir.npz import load_npz
from neurocompile.ir.realise import Connections, realise_all

pytestmark = pytest.mark.slow

STEPS = 12
SENTINEL = "[Machine]\nmachine_name = board.of.the.user\nversion = 5\n"


@dataclass(frozen=True)
class Ran:
    """One run of a program: what it printed and wrote."""

    folder: Path
    network: Network
    connections: dict[str, Connections]
    done: subprocess.CompletedProcess[str]

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.done.stdout)
        return found

    @property
    def results(self) -> dict[str, Any]:
        return dict(load_npz(self.folder / "work" / "results"))

    @property
    def mapping(self) -> dict[str, Any]:
        return dict(load_npz(self.folder / "work" / "mapping"))

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "program" / "network.json").read_text())
        return found

    def checks(self, **changes: Any) -> dict[str, Check]:
        seen = {"summary": self.summary, "results": self.results, "mapping": self.mapping, **changes}
        return {c.name: c for c in compare(self.folder / "program", self.network, self.connections, **seen)}

    @property
    def slots(self) -> dict[str, Any]:
        return numbering(self.document, load_npz(self.folder / "program" / "network.npz"))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start run.py from another folder, with a home that holds the user's own configuration of a real board."""
    for name in ("home", "work"):
        (folder / name).mkdir()
    (folder / "home" / ".spynnaker.cfg").write_text(SENTINEL)
    environment = {key: value for key, value in os.environ.items() if key != "XDG_CONFIG_HOME"} | {"HOME": str(folder / "home")}
    command = [sys.executable, "-B", str(folder / "program" / "run.py"), *arguments]
    return subprocess.run(command, cwd=folder / "work", env=environment, capture_output=True, text=True, check=False)


def sparse(rng: np.random.Generator, n_pre: int, n_post: int, m: int, longest: int, mean: float = 0.01) -> Explicit:
    """m random synapses, three of them between the same two neurons."""
    pre, post = rng.integers(0, n_pre, m), rng.integers(0, n_post, m)
    pre[:3], post[:3] = 0, 0
    return Explicit(pre=pre, post=post, weight=rng.normal(mean, 0.05, m), delay=rng.integers(1, longest + 1, m))


def big_plastic() -> tuple[Network, dict[str, Connections]]:
    """A rule and a neuron model for each population, at dt = 0.1 ms, with long delays: combined cores, and split ones where there is
    no combined binary (multiplicative on delta input, adaptive neurons)."""
    rng = np.random.default_rng(6)
    hard: dict[str, Any] = {"tau_mem": 0.02, "v_threshold": 0.5, "reset": Reset.TO_VALUE}
    network = Network(
        name="rules",
        dt=1e-4,
        populations=(
            Population(name="in", size=40, model=SpikeSource()),
            Population(name="delta", size=150, model=LIF(**hard)),
            Population(name="current", size=150, model=CubaLIF(tau_syn=0.005, **hard)),
            Population(name="adaptive", size=150, model=ALIF(adapt_beta=0.1, adapt_tau=0.2, **hard)),
            Population(name="soft", size=60, model=LIF(**hard)),
            Population(name="out", size=3, model=LeakyReadout(tau_mem=0.03)),
        ),
        projections=(
            Projection(pre="in", post="delta", connect=sparse(rng, 40, 150, 700, 120, 0.1), learning="additive"),
            Projection(pre="delta", post="current", connect=sparse(rng, 150, 150, 700, 9, 0.1), learning="multiplicative"),
            Projection(pre="current", post="adaptive", connect=sparse(rng, 150, 150, 700, 100, 0.1), learning="additive"),
            Projection(pre="adaptive", post="soft", connect=sparse(rng, 150, 60, 500, 1, 0.1), learning="multiplicative"),
            Projection(pre="soft", post="out", connect=sparse(rng, 60, 3, 100, 2)),
        ),
        rules=(STDP(name="additive"), STDP(name="multiplicative", multiplicative=True)),
    )
    return network, realise_all(network)


def big_static() -> tuple[Network, dict[str, Connections]]:
    """Several cores, Poisson and given input, parameters of single neurons, delays beyond the ring buffer, parallel synapses.

    With 256 neurons a core, sPyNNaker would silently drop every synapse of a delay above 64 steps (costs.delay_limits)."""
    rng = np.random.default_rng(5)
    cuba = CubaLIF(tau_mem=np.linspace(0.01, 0.03, 300), tau_syn=0.005, v_threshold=0.5, i_init=0.01, t_ref=0.002, reset=Reset.TO_VALUE)
    network = Network(
        name="big",
        dt=1e-3,
        populations=(
            Population(name="in", size=40, model=SpikeSource()),
            Population(name="noise", size=10, model=SpikeSource(rate=20.0)),
            Population(name="a", size=300, model=cuba),
            Population(name="out", size=3, model=LeakyReadout(tau_mem=0.03, tau_syn=np.linspace(0.004, 0.006, 3))),
        ),
        projections=(
            Projection(pre="in", post="a", connect=sparse(rng, 40, 300, 900, 120)),
            Projection(pre="noise", post="a", connect=sparse(rng, 10, 300, 100, 1)),
            Projection(pre="a", post="a", connect=sparse(rng, 300, 300, 1500, 9)),
            Projection(pre="a", post="out", connect=sparse(rng, 300, 3, 400, 2)),
        ),
    )
    return network, realise_all(network)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Any], write_program: Callable[..., Path]) -> Callable[[str], Ran]:
    """Build and run a network by name, once."""
    made: dict[str, Callable[[], tuple[Network, dict[str, Connections]]]] = {
        "static": big_static,
        "stdp": big_plastic,
        "r_stdp": lambda: build(rule=RSTDP(reward="rew", weight_bounds=(0.0, 0.3), reward_weight=5.0), mean=0.1),
        "eprop": lambda: build(rule=EProp(), mean=0.02, readout=True),
    }
    finished: dict[str, Ran] = {}

    def get(name: str) -> Ran:
        if name not in finished:
            folder = tmp_path_factory.mktemp(name)
            network, connections = made[name]()
            write_program(folder, network, connections, mapped=True)
            np.savez(folder / "spikes.npz", neuron=np.array([0, 3, 3]), step=np.array([1, 2, 100]))
            options = ["--steps", str(STEPS), "--input", "in=../spikes.npz", "--out", "results", "--mapping", "mapping"]
            finished[name] = Ran(folder, network, connections, run(folder, "--virtual", *options))
        return finished[name]

    return get


NAMES = ["static", "stdp", "r_stdp", "eprop"]


@pytest.mark.parametrize("name", NAMES)
def test_runs_as_a_user_starts_it(ran: Callable[[str], Ran], name: str) -> None:
    """Exit 0, nothing but the summary on stdout, exactly the two files asked for, and the user's own home as it was."""
    found = ran(name)
    assert found.done.returncode == 0, found.done.stderr
    assert "Traceback" not in found.done.stderr
    summary = found.summary
    assert (summary["mode"], summary["executed"], summary["steps"]) == ("virtual", False, STEPS)
    assert "nothing was executed" in summary["note"]
    assert sorted(p.name for p in (found.folder / "work").iterdir()) == ["mapping", "results"]
    assert [p.name for p in (found.folder / "home").iterdir()] == [".spynnaker.cfg"]
    assert (found.folder / "home" / ".spynnaker.cfg").read_text() == SENTINEL
    written = ["README.md", "board.py", "network.json", "network.npz", "pynn_network.py", "routes.py", "run.py"]
    assert sorted(p.name for p in (found.folder / "program").iterdir()) == written


@pytest.mark.parametrize("name", NAMES)
def test_every_check_of_validate_holds(ran: Callable[[str], Ran], name: str) -> None:
    found = ran(name)
    checks = found.checks()
    assert {n: c.detail for n, c in checks.items() if not c.ok} == {}
    wanted = {f"{kind} of {p.name}" for p in found.network.projections for kind in ("synapses", "routes")}
    wanted |= {f"{kind} of {p.name}" for p in found.network.populations if p.model.receives for kind in ("cells", "numbers")}
    wanted |= {f"{kind} of {p['name']}" for p in found.document["populations"] for kind in ("cores", "places")}
    wanted |= {"keys", "memory of chips", "routing tables"}
    assert set(checks) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_results_have_the_keys_of_every_program(ran: Callable[[str], Ran], name: str) -> None:
    found = ran(name)
    names = [p["name"] for p in found.document["populations"]]
    wanted = {f"{kind}:{p.name}" for p in found.network.projections for kind in ("weight", "pre", "post", "delay")}
    wanted |= {f"{kind}:{p}" for p in names for kind in ("spike_step", "spike_neuron")} | {"output:out"}
    assert set(found.results) == wanted
    assert found.results["output:out"].shape == (0, found.network.population("out").size)
    assert all(found.results[f"spike_step:{p}"].size == 0 for p in names)
    assert found.summary["n_synapses"] == sum(len(c.pre) for c in found.connections.values())
    assert found.summary["n_neurons"] == sum(p["size"] for p in found.document["populations"])


@pytest.mark.parametrize("name", NAMES)
def test_summary_counts_what_the_mapping_holds(ran: Callable[[str], Ran], name: str) -> None:
    """Cores, chips, neurons and table entries once more, from the raw placements and tables."""
    found = ran(name)
    summary, mapping = found.summary, found.mapping
    placements = mapping["placements"]
    where = [tuple(row) for row in placements[:, 4:7].tolist()]
    assert len(set(where)) == len(where)  # a core holds one vertex
    for index, entry in enumerate(found.document["populations"]):
        mine = placements[placements[:, 0] == index]
        got = summary["populations"][entry["name"]]
        assert got["cores"] == len(mine)
        assert got["chips"] == len({tuple(row) for row in mine[:, 4:6].tolist()})
        slices = sorted({(low, high) for low, high in mine[:, 2:4].tolist()})
        assert got["neuron_cores"] == len(slices)
        covered = np.concatenate([np.arange(low, high + 1) for low, high in slices])
        np.testing.assert_array_equal(covered, np.arange(entry["n_slots"]))
        assert max(high - low + 1 for low, high in slices) <= entry["neurons_per_core"]
    per_chip = np.unique(mapping["entries"][:, :2], axis=0, return_counts=True)[1]
    assert summary["routing_entries"] == len(mapping["entries"]) == per_chip.sum()
    assert summary["max_routing_entries"] == per_chip.max()
    keys = {(int(key), int(mask)) for _, key, mask in mapping["keys"]}
    assert len(keys) == len(mapping["keys"])
    for key, mask in keys:  # no two key ranges overlap
        assert all(other == (key, mask) or (key ^ other[0]) & mask & other[1] for other in keys)


@pytest.mark.parametrize("name", NAMES)
def test_all_keys_of_a_core_go_the_same_way(ran: Callable[[str], Ran], name: str) -> None:
    """walk follows one key of each core: here every key of its range is sent, by a loop over hops that shares no code with it."""
    mapping = ran(name).mapping
    core_at = {tuple(row[4:7]): i for i, row in enumerate(mapping["placements"].tolist())}
    beside = {(x, y, link): (u, v) for x, y, link, u, v in mapping["links"].tolist()}
    reached = walk(mapping)
    assert set(reached) == {int(row) for row, _, _ in mapping["keys"]}
    for row, base, mask in mapping["keys"].tolist():
        size = (~mask & 0xFFFFFFFF) + 1
        for key in {base, base + size - 1, *np.random.default_rng(row).integers(base, base + size, 10).tolist()}:
            found, packets = set(), [(*mapping["placements"][row, 4:6].tolist(), None)]
            for x, y, arrived in packets:
                assert len(packets) < 10_000
                hits = [e for e in mapping["entries"].tolist() if e[:2] == [x, y] and key & e[3] == e[2]]
                links = {i for i in range(6) if hits[0][4] >> i & 1} if hits else {(arrived + 3) % 6} if arrived is not None else set()
                found |= {core_at[x, y, p] for p in range(18) if hits and hits[0][5] >> p & 1 and (x, y, p) in core_at}
                packets += [(*beside[x, y, i], (i + 3) % 6) for i in links]
            assert sorted(found) == reached[row]


def test_parameters_and_weight_format_are_those_of_spynnaker(ran: Callable[[str], Ran]) -> None:
    """From the formulas of PyNN's cell, not from the lowering: v <- E v + (1 - E) (R I + v_rest) must be the description's step."""
    found = ran("static")
    mapping, index = found.mapping, [p["name"] for p in found.document["populations"]].index("a")
    tau, cm = mapping[f"param:{index}:tau_m"], mapping[f"param:{index}:cm"]
    model: Any = found.network.population("a").model
    # A unit and a half of 2^-15 in 1 - E of at least 0.03: half from the quotient, one from E, which a core rounds down.
    np.testing.assert_allclose(1 - np.exp(-1.0 / tau), 1 - np.exp(-1e-3 / model.tau_mem), rtol=1.5e-3)
    np.testing.assert_allclose((1 - np.exp(-1.0 / tau)) * tau / cm, 1.0, rtol=1.5e-3)
    # What a spike of 1 leaves on the membrane over all time: 1 / ((1 - a) (1 - s)), as in the description's own recurrences.
    (scale,) = {p["weight_scale"] for p in found.document["populations"] if p["name"] == "a"}
    (voltage,) = {p["voltage_scale"] for p in found.document["populations"] if p["name"] == "a"}
    tau_syn = float(mapping[f"param:{index}:tau_syn_E"][0])
    charge = scale / voltage * tau_syn * (1 - np.exp(-1 / tau_syn)) / (1 - np.exp(-1 / tau_syn)) * tau / cm
    np.testing.assert_allclose(charge, 1 / ((1 - np.exp(-1e-3 / model.tau_mem)) * (1 - np.exp(-1e-3 / model.tau_syn))), rtol=2e-3)
    assert set(mapping[f"param:{index}:tau_refrac"]) == {1.5}  # ceil(1.5) = 2 silent steps
    units = found.summary["populations"]["a"]["weight_resolution"]
    weights = np.abs(np.concatenate([c.weight for n, c in found.connections.items() if n.endswith("->a")])) * scale
    assert max(units) * 2**15 > weights.max() >= 0.0
    assert all(np.log2(u).is_integer() for u in units)


def test_checks_notice_what_is_broken(ran: Callable[[str], Ran]) -> None:
    found = ran("r_stdp")
    results, summary, mapping, document = found.results, found.summary, found.mapping, found.document
    arrays = load_npz(found.folder / "program" / "network.npz")
    name = "in->hid"

    def synapses(**changes: Any) -> Check:
        broken = {f"{key}:{name}": value for key, value in changes.items()}
        return check_synapses(name, found.connections[name], {**results, **broken}, document, arrays)

    weight = results[f"weight:{name}"]
    assert synapses().ok
    assert not synapses(weight=weight + np.where(np.arange(len(weight)) == 3, 0.01, 0.0)).ok
    assert not synapses(weight=np.where(np.arange(len(weight)) == 3, np.nan, weight)).ok
    assert not synapses(weight=weight[:-1]).ok
    assert not synapses(weight=-weight).ok
    assert not synapses(delay=results[f"delay:{name}"] + 1).ok
    assert not synapses(delay=results[f"delay:{name}"][:-1]).ok
    assert not synapses(post=np.roll(results[f"post:{name}"], 1)).ok

    def cells(mapping: dict[str, Any], summary: dict[str, Any]) -> dict[str, bool]:
        return {c.name: c.ok for c in check_cells(found.network, found.connections, document, arrays, mapping, summary)}

    assert all(cells(mapping, summary).values())
    assert not cells({**mapping, "param:1:tau_m": mapping["param:1:tau_m"] * 1.001}, summary)["cells of hid"]
    assert not cells({k: v for k, v in mapping.items() if k != "param:1:cm"}, summary)["cells of hid"]
    coarse = json.loads(json.dumps(summary))
    coarse["populations"]["out"]["weight_resolution"][0] *= 2
    assert [n for n, ok in cells(mapping, coarse).items() if not ok] == ["cells of out"]
    more = json.loads(json.dumps(summary))
    more["populations"]["hid"]["cores"] += 1
    assert [c.name for c in check_cores(document, more) if not c.ok] == ["cores of hid"]
    silent = {**mapping, "entries": np.where(np.arange(6) == 5, 0, mapping["entries"])}
    assert not any(c.ok for c in check_routes(document, found.connections, silent, found.slots))
    elsewhere = {**mapping, "placements": np.where(np.arange(8) == 6, mapping["placements"] + 1, mapping["placements"])}
    assert not any(c.ok for c in check_places(document, summary, elsewhere))
    assert not any(c.ok for c in check_places(document, {**summary, "placement": "free"}, mapping))
    assert not found.checks(summary={**summary, "routing_entries": 0})["routing tables"].ok


@pytest.mark.parametrize("name", ["stdp", "r_stdp"])
def test_numbers_that_differ_by_one_unit_are_noticed(ran: Callable[[str], Ran], name: str) -> None:
    """Each integer that sPyNNaker would load, changed by one: the population and what differs are named, and nothing else is."""
    found = ran(name)
    document, mapping, results = found.document, found.mapping, found.results
    arrays = load_npz(found.folder / "program" / "network.npz")
    post = "delta" if name == "stdp" else "hid"
    index = [p["name"] for p in document["populations"]].index(post)
    projection = next(p["name"] for p in document["projections"] if p["post"] == post and p["rule"])
    entry = document["populations"][index]
    assert all(c.ok for c in check_numbers(document, arrays, results, mapping))
    unit = entry["weight_resolution"][0] / np.min(
        arrays[entry["weight_scale"]["array"]] if isinstance(entry["weight_scale"], dict) else entry["weight_scale"]
    )
    words = [key for key in mapping if key.startswith(f"word:{index}:")]
    assert {f"word:{index}:{n}" for n in ("v", "tau_m", "cm", "v_thresh", "i_offset", "tau_refrac", "timestep", "refract_timer")} <= set(
        words
    )
    rule = f"region:{index}:synapseDynamicsParams"
    assert len(mapping[rule]) > 20
    broken = [(key.split(":")[2], {key: mapping[key] + (np.arange(entry["size"]) == 1)}) for key in words]
    broken += [("rule", {rule: mapping[rule] ^ (np.arange(len(mapping[rule])) == k)}) for k in (0, 1, 9, len(mapping[rule]) - 1)]
    broken += [("rule", {rule: mapping[rule][:-1]})]
    for said, change in broken:
        wrong = [c for c in check_numbers(document, arrays, results, {**mapping, **change}) if not c.ok]
        assert [c.name for c in wrong] == [f"numbers of {post}"]
        assert wrong[0].detail.endswith(f"the twin's: {said}")
    ring = mapping[f"region:{index}:SynapseParams"].astype(np.int64)
    for place, said in ((4, "delay slots"), (7, "shifts of weights")):
        changed = {**mapping, f"region:{index}:SynapseParams": ring - 9 * (np.arange(len(ring)) == place)}
        assert said in next(c for c in check_numbers(document, arrays, results, changed) if not c.ok).detail
    weight = results[f"weight:{projection}"]
    for value in (weight[3] + unit, np.nan):
        changed = {**results, f"weight:{projection}": np.where(np.arange(len(weight)) == 3, value, weight)}
        (wrong,) = (c for c in check_numbers(document, arrays, changed, mapping) if not c.ok)
        assert wrong.detail.endswith(f"the twin's: weights of {projection}")
    assert not check_numbers(document, arrays, results, {})[0].ok


def test_split_cores_and_their_neighbours(ran: Callable[[str], Ran]) -> None:
    """Reward needs a synapse core beside each neuron core, on the same chip."""
    found = ran("r_stdp")
    hidden = found.summary["populations"]["hid"]
    assert (hidden["cores"], hidden["neuron_cores"], hidden["chips"]) == (2, 1, 1)
    assert ran("static").summary["populations"]["a"]["neuron_cores"] == 3  # 128 a core, for delays up to 120 steps
    plastic = {name: (p["cores"], p["neuron_cores"]) for name, p in ran("stdp").summary["populations"].items()}
    assert plastic["delta"] == (3, 3)  # at most 64 a core, for delays up to 120 steps and a slot more
    assert (plastic["current"], plastic["adaptive"], plastic["soft"]) == ((1, 1), (6, 3), (2, 1))
    assert ran("static").summary["helper_cores"] > 0  # delay extensions
    assert {"eprop_reward", "eprop_punishment"} <= set(ran("eprop").summary["populations"])


def test_validate_notices_a_changed_program(tmp_path: Path, build: Callable[..., Any], write_program: Callable[..., Path]) -> None:
    """A weight, a delay and a parameter changed after the build are named, each by its own check; the rest holds."""
    network, connections = build()
    folder = write_program(tmp_path, network, connections)
    arrays = dict(load_npz(folder / "program" / "network.npz"))
    arrays["weight:0"] = np.where(np.arange(len(arrays["weight:0"])) == 5, 2 * arrays["weight:0"], arrays["weight:0"])
    arrays["delay:1"] = np.where(np.arange(len(arrays["delay:1"])) == 5, 7, arrays["delay:1"])
    np.savez(folder / "program" / "network.npz", **arrays)
    document = json.loads((folder / "program" / "network.json").read_text())
    document["populations"][1]["params"]["v_thresh"] *= 1.01
    document["populations"][2]["neurons_per_core"] = 1
    (folder / "program" / "network.json").write_text(json.dumps(document))
    failed = {c.name: c.detail for c in TARGET.validate(folder, network, connections, steps=5) if not c.ok}
    assert set(failed) == {"synapses of in->hid", "synapses of hid->hid", "cells of hid"}
    assert "v_thresh" in failed["cells of hid"]
    assert ", 1 with another delay" in failed["synapses of hid->hid"]
