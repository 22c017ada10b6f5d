"""sPyNNaker follows the build: its slices are our parts, on our cores; both mappings are proved and counted side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.base import BuildOptions, Check
from neurocompile.backends.spinnaker import TARGET
from neurocompile.backends.spinnaker.checks import check_cores, check_keys, check_memory, check_places, check_routes, numbering
from neurocompile.backends.spinnaker.comparison import (
    OurTables,
    check_ours,
    check_pacman,
    our_tables,
    side_by_side,
    trace_ours,
    tree_crossings,
)
from neurocompile.backends.spinnaker.layout import delay_slots, layouts
from neurocompile.backends.spinnaker.validate import compare, compare_mappings
from neurocompile.ir import LIF, RSTDP, Explicit, LeakyReadout, Network, Population, Projection, SpikeSource
from neurocompile.ir.neurons import Reset
from neurocompile.ir.npz import load_npz
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import Connections, realise_all
from neurocompile.machine import Machine, load_machine
from neurocompile.mapping import MapOptions, map_network
from neurocompile.mapping.export import load_mapping
from neurocompile.mapping.types import Mapping, Partition, Placement

HARD: dict[str, Any] = {"tau_mem": 0.02, "v_threshold": 0.5, "reset": Reset.TO_VALUE}


def clustered(seed: int = 3) -> Network:
    """Two populations whose clusters lie across their order, so that a partition that lowers traffic renumbers them; long delays."""
    rng = np.random.default_rng(seed)
    cluster = {name: rng.permutation(np.arange(n) % 3) for name, n in (("in", 30), ("a", 330), ("b", 170))}

    def inside(pre: str, post: str, m: int, longest: int) -> Explicit:
        pairs = rng.integers(0, len(cluster[pre]), 6 * m), rng.integers(0, len(cluster[post]), 6 * m)
        same = np.flatnonzero(cluster[pre][pairs[0]] == cluster[post][pairs[1]])[:m]
        weight = rng.normal(0.01, 0.05, len(same))
        return Explicit(pre=pairs[0][same], post=pairs[1][same], weight=weight, delay=rng.integers(1, longest + 1, len(same)))

    to_out = Explicit(pre=np.arange(170), post=np.arange(170) % 3, weight=np.full(170, 0.1), delay=np.full(170, 1))
    return Network(
        name="clustered",
        dt=1e-3,
        populations=(
            Population(name="in", size=30, model=SpikeSource(rate=np.linspace(5.0, 50.0, 30))),
            Population(name="a", size=330, model=LIF(bias=np.linspace(0.0, 1.0, 330), **HARD)),
            Population(name="b", size=170, model=LIF(bias=0.9, **HARD)),
            Population(name="out", size=3, model=LeakyReadout(tau_mem=0.03)),
        ),
        projections=(
            Projection(pre="in", post="a", connect=inside("in", "a", 900, 100)),
            Projection(pre="a", post="a", connect=inside("a", "a", 1500, 200)),
            Projection(pre="a", post="b", connect=inside("a", "b", 900, 1)),
            Projection(pre="b", post="out", connect=to_out),
        ),
    )


@dataclass(frozen=True)
class Followed:
    """A mapped network, its program's run on a virtual board, and what was found."""

    folder: Path
    network: Network
    connections: dict[str, Connections]
    summary: dict[str, Any]
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "program" / "network.json").read_text())
        return found

    @property
    def ours(self) -> Mapping:
        return load_mapping(load_npz(self.folder / "mapping.npz"))

    @property
    def theirs(self) -> dict[str, Any]:
        return dict(load_npz(self.folder / "theirs.npz"))


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", str(folder / "program" / "run.py"), "--virtual", "--steps", "5", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def follow(folder: Path, network: Network, connections: dict[str, Connections], *options: str) -> Followed:
    done = run(folder, "--mapping", "theirs.npz", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    return Followed(folder, network, connections, json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="module")
def small(spin5: Machine) -> Machine:
    """A spin5 whose cores take 64 neurons: many parts of a small network."""
    return spin5.with_overrides({"core.neurons": 64.0})


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory, write_program: Callable[..., Path], small: Machine) -> Followed:
    network = clustered()
    connections = realise_all(network)
    folder = write_program(tmp_path_factory.mktemp("followed"), network, connections, mapped=True, machine=small)
    return follow(folder, network, connections, "--out", "results.npz")


def checks(found: Followed, tmp_path: Path) -> dict[str, Check]:
    program, theirs = found.folder / "program", found.theirs
    made = compare(program, found.network, found.connections, found.summary, load_npz(found.folder / "results.npz"), theirs)
    return {c.name: c for c in made + compare_mappings(program, found.ours, found.connections, found.summary, theirs, tmp_path)}


@pytest.mark.slow
def test_parts_of_other_sizes_and_order_are_followed(followed: Followed, tmp_path: Path) -> None:
    """Renumbered neurons, slices that are filled up, delay cores, parameters of single neurons; every comparison holds."""
    found = checks(followed, tmp_path)
    assert {name: c.detail for name, c in found.items() if not c.ok} == {}
    entry = next(p for p in followed.document["populations"] if p["name"] == "a")
    assert entry["slot"] is not None
    assert entry["delay_cores"]
    assert len(entry["cores"]) >= 6
    assert (followed.summary["placement"], followed.summary["routes"]) == ("build", "pacman")
    assert "chips" in found["side by side: chips"].name
    wanted = {"our tables, our tracer", "our tables, PACMAN compare_tables", "our tables, PACMAN validate_routes"}
    assert wanted | {
        f"side by side: {what}" for what in ("cores", "chips", "table entries", "entries of the fullest chip", "packets x links")
    } <= set(found)


@pytest.mark.slow
def test_results_are_in_the_descriptions_numbering(followed: Followed) -> None:
    """Pairs, delays and weights of the file are the description's, in its order, though sPyNNaker's neurons have other numbers."""
    results = load_npz(followed.folder / "results.npz")
    for name, synapses in followed.connections.items():
        np.testing.assert_array_equal(results[f"pre:{name}"], synapses.pre)
        np.testing.assert_array_equal(results[f"post:{name}"], synapses.post)
        np.testing.assert_array_equal(results[f"delay:{name}"], synapses.delay)
        np.testing.assert_allclose(results[f"weight:{name}"], synapses.weight, atol=1e-3)


@pytest.mark.slow
def test_free_placement_and_a_machine_that_lacks_a_core(followed: Followed, tmp_path: Path) -> None:
    """Asked for, or because a planned core does not exist: sPyNNaker's own placement, slices as before, and `places` says so."""
    free = follow(followed.folder, followed.network, followed.connections, "--placement", "free", "--map-only")
    assert free.summary["placement"] == "free"
    assert all(c.ok for c in check_cores(free.document, free.summary))
    assert not any(c.ok for c in check_places(free.document, free.summary, free.theirs))
    document = followed.document
    document["populations"][1]["cores"][0][2] = [18, 19]  # no chip has them
    program = tmp_path / "program"
    program.mkdir()
    for path in (followed.folder / "program").iterdir():
        (program / path.name).write_bytes(path.read_bytes())
    (program / "network.json").write_text(json.dumps(document))
    lacks = follow(tmp_path, followed.network, followed.connections, "--map-only")
    assert lacks.summary["placement"] == "free"
    assert "cores of the build are missing or taken, e.g. 18 on (" in lacks.stderr
    assert "Traceback" not in lacks.stderr


@pytest.mark.slow
def test_samples_and_live_spikes_on_a_virtual_board(followed: Followed, tmp_path: Path) -> None:
    """Three samples are three runs of one mapping; with live spikes the gatherer gets its core, and sPyNNaker places the others."""
    found = follow(followed.folder, followed.network, followed.connections, "--samples", "3", "--live", "live.txt", "--map-only")
    assert (found.summary["samples"], found.summary["placement"]) == (3, "free")  # our first core of the Ethernet chip is the gatherer's
    assert all(c.ok for c in check_cores(found.document, found.summary))
    assert (found.folder / "live.txt").read_text() == ""  # nothing is executed
    assert "Run 1 of 1" in found.stderr


@pytest.mark.slow
def test_scattered_populations_are_routed_though_pacman_cannot(
    tmp_path: Path, write_program: Callable[..., Path], small: Machine, spin5: Machine
) -> None:
    """Parts at opposite ends of the board: PACMAN's router fails or loses packets, the program's shortest ways reach all."""
    network = clustered()
    connections = realise_all(network)
    options = BuildOptions(allow_approximation=True)
    lowered = TARGET.lower(network, connections, small, options)
    assert lowered.problem is not None
    mapping = map_network(lowered.problem, small, MapOptions(seed=1))
    chips = np.asarray(small.topology.chips)
    far = chips[(np.arange(mapping.partition.n_parts) * 17 + 1) % len(chips)]
    assert len(set(far.tolist())) == len(far)
    first = np.asarray([small.topology.usable_cores(int(c))[0] for c in far], np.int32)
    moved = replace(mapping, placement=Placement(chip=far.astype(np.int32), core=first, width=mapping.placement.width))
    for name, content in TARGET.emit(lowered, moved, options).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = follow(tmp_path, network, connections, "--map-only")
    assert (found.summary["placement"], found.summary["routes"]) == ("build", "program")
    slots = numbering(found.document, load_npz(tmp_path / "program" / "network.npz"))
    theirs = found.theirs
    made = check_routes(found.document, connections, theirs, slots) + check_places(found.document, found.summary, theirs)
    assert {c.name: c.detail for c in [*made, check_keys(found.document, theirs)] if not c.ok} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spin3", "spinnaker2-48"])
def test_other_boards_are_followed(tmp_path: Path, write_program: Callable[..., Path], name: str) -> None:
    """Reserved cores of the machine file are those that sPyNNaker's monitors take on its virtual board, chip by chip."""
    network = clustered()
    connections = realise_all(network)
    machine = load_machine(name)
    folder = write_program(tmp_path, network, connections, mapped=True, machine=machine.with_overrides({"core.neurons": 64.0}))
    found = follow(folder, network, connections, "--map-only")
    made = check_cores(found.document, found.summary) + check_places(found.document, found.summary, found.theirs)
    made += compare_mappings(folder / "program", found.ours, connections, found.summary, found.theirs, tmp_path)
    assert {c.name: c.detail for c in made if not c.ok} == {}
    system = found.theirs["placements"][(found.theirs["placements"][:, :2] < 0).all(axis=1)]
    taken = {(x, y): 1 + int(((system[:, 4] == x) & (system[:, 5] == y)).sum()) for x, y in system[:, 4:6].tolist()}
    assert taken == {machine.topology.position(c): int(machine.topology.n_reserved[c]) for c in machine.topology.chips.tolist()}


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_several_synapse_cores_share_the_sources(tmp_path: Path, build: Callable[..., Any], spin5: Machine, n: int) -> None:
    """sPyNNaker deals sources out anew whenever it is asked: PACMAN's routes pass its own validate_routes all the same."""
    network, connections = build(rule=RSTDP(reward="rew", weight_bounds=(0.0, 0.2)), mean=0.1)
    for rate in np.geomspace(1e3, 1e6, 60):
        options = BuildOptions(allow_approximation=True, extra={"source_rate": str(rate)})
        lowered = TARGET.lower(network, connections, spin5, options)
        if lowered.split[1] == n:
            break
    assert lowered.split[1] == n
    assert lowered.problem is not None
    mapping = map_network(lowered.problem, spin5, MapOptions(seed=1))
    for name, content in TARGET.emit(lowered, mapping, options).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = follow(tmp_path, network, connections)
    assert (found.summary["placement"], found.summary["routes"]) == ("build", "pacman")
    assert found.summary["populations"]["hid"]["cores"] == 1 + n
    slots = numbering(found.document, load_npz(tmp_path / "program" / "network.npz"))
    made = check_routes(found.document, connections, found.theirs, slots) + check_places(found.document, found.summary, found.theirs)
    assert {c.name: c.detail for c in made if not c.ok} == {}


@pytest.mark.slow
def test_checks_notice_damaged_tables(followed: Followed, tmp_path: Path) -> None:
    """One entry of ours changed: our tracer and both of PACMAN's checkers refuse it, each on its own."""
    ours = our_tables(followed.ours, followed.document, followed.connections)
    links = followed.theirs["links"]

    def verdict(tables: OurTables) -> list[bool]:
        traces = trace_ours(tables, links)
        return [c.ok for c in (check_ours(tables, traces), *check_pacman(tables, traces, followed.document, tmp_path))]

    assert verdict(ours) == [True, True, True]
    busiest = int(np.argmax(ours.entries[:, 5]))
    without = ours.entries.copy()
    without[busiest, 5] &= without[busiest, 5] - 1  # a core less
    assert verdict(replace(ours, entries=without)) == [False, False, False]
    more = ours.entries.copy()
    more[busiest, 5] |= 1 << 2  # a monitor's core
    assert verdict(replace(ours, entries=more)) == [False, False, False]
    gone = np.delete(ours.entries, busiest, axis=0)
    assert verdict(replace(ours, entries=gone))[:2] == [False, False]
    some = check_pacman(ours, trace_ours(ours, links), followed.document, tmp_path, most_pairs=10)
    assert all(c.ok and "(one of " in c.detail for c in some)
    keyless = replace(ours, keyless=1)
    assert not check_ours(keyless, trace_ours(keyless, links)).ok


@pytest.mark.slow
def test_side_by_side_notices_what_does_not_fit(followed: Followed) -> None:
    theirs, summary, document = followed.theirs, followed.summary, followed.document
    ours = our_tables(followed.ours, document, followed.connections)
    traces, slots = trace_ours(ours, theirs["links"]), numbering(document, load_npz(followed.folder / "program" / "network.npz"))

    def failed(summary: dict[str, Any], theirs: dict[str, Any], links: int = tree_crossings(followed.ours)) -> list[str]:
        return [c.name.split(": ")[1] for c in side_by_side(ours, traces, links, document, slots, summary, theirs) if not c.ok]

    assert failed(summary, theirs) == []
    nowhere = np.where(theirs["placements"][:, :1] == 3, -1, theirs["placements"])  # the readout, which sends nothing
    assert failed(summary, {**theirs, "placements": nowhere}) == ["cores"]
    assert failed(summary, {**theirs, "chips": np.where(np.arange(6) == 5, 1, theirs["chips"])}) == ["entries of the fullest chip"]
    assert failed({**summary, "routing_entries": 0}, theirs) == ["table entries"]
    assert failed(summary, theirs, tree_crossings(followed.ours) + 1) == ["packets x links"]
    assert not check_memory({**theirs, "chips": np.where(np.arange(6) == 3, 10, theirs["chips"])}).ok
    assert not check_keys(document, {**theirs, "keys": np.where(np.arange(3) == 1, 0, theirs["keys"])}).ok
    assert not check_keys(document, {**theirs, "keys": theirs["keys"][:0]}).ok


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n_parts=st.integers(1, 9))
def test_layout_is_a_renumbering(spin5: Machine, seed: int, n_parts: int) -> None:
    """Any partition of any population: places are distinct, neurons of a part share a slice, slices of all but the last are equally long,
    nothing is wasted behind the last."""
    rng = np.random.default_rng(seed)
    network = clustered()
    connections = realise_all(network)
    lowered = TARGET.lower(network, connections, spin5, BuildOptions(allow_approximation=True))
    assert lowered.problem is not None
    population = lowered.problem.population
    part = np.unique(population * 16 + rng.integers(0, n_parts, len(population)), return_inverse=True)[1].astype(np.int32)
    n = int(part.max()) + 1
    chips = np.asarray(spin5.topology.chips)[np.arange(n) % 48].astype(np.int32)
    core = np.asarray([spin5.topology.usable_cores(int(c))[0] for c in chips], np.int32)
    mapping = replace(
        map_network(lowered.problem, spin5, MapOptions(seed=1, effort="fast")) if seed < 0 else _no_mapping(),
        partition=Partition(part=part, n_parts=n, external=np.zeros(n, np.bool_)),
        placement=Placement(chip=chips, core=core, width=np.ones(n, np.int32)),
    )
    for i, layout in enumerate(layouts(lowered, mapping)):
        mine = part[population == i]
        assert len(np.unique(layout.slot)) == len(mine)
        assert layout.slot.min() >= 0
        assert layout.slot.max() == layout.n_slots - 1
        slices = layout.slot // layout.per_core
        assert len(set(zip(slices.tolist(), mine.tolist(), strict=True))) == len(set(mine.tolist())) == layout.n_slices
        sizes = np.bincount(slices)
        assert layout.per_core == sizes.max()
        assert sizes[-1] == sizes.min()
        assert layout.n_slots == (len(sizes) - 1) * layout.per_core + sizes[-1]
        assert layout.cores is not None
        where = {m: (*spin5.topology.position(int(chips[m])), int(core[m])) for m in set(mine.tolist())}
        assert all((x, y, c[0]) == where[mine[np.flatnonzero(slices == row)[0]]] for row, (x, y, c) in enumerate(layout.cores))


def _no_mapping() -> Mapping:
    empty: Any = None
    return Mapping(partition=empty, placement=empty, routes=empty, tables=empty)


@pytest.mark.parametrize(("neurons", "slots"), [(1, 4096), (2, 4096), (3, 2048), (64, 128), (65, 64), (128, 64), (129, 32), (256, 32)])
def test_delay_slots_are_spynnakers(neurons: int, slots: int) -> None:
    """2^(14 - 1 - bits of a neuron), at least one bit (get_n_bits)."""
    assert delay_slots(neurons, 14.0) == slots


LARGE = pytest.mark.skipif(not os.environ.get("NEUROCOMPILE_LARGE"), reason="a minute and a half; NEUROCOMPILE_LARGE=1 runs it")


@pytest.mark.slow
@pytest.mark.parametrize(("longest", "cores"), [(100, 519), pytest.param(200, 1019, marks=LARGE)])
def test_twenty_thousand_neurons_map_on_virtual_boards(
    tmp_path: Path, write_program: Callable[..., Path], longest: int, cores: int
) -> None:
    """64 neurons a core and a synapse core beside them with delays up to 100 steps, 32 up to 200, more cores than a board has: cores and
    places as the build says, both mappings proved. Synapses are not made (ten minutes on the host)."""
    text = Path(__file__).with_name("sheet.yaml").read_text()
    (tmp_path / "sheet.yaml").write_text(text.replace("200 ms]", f"{longest} ms]"))
    network = read_network(tmp_path / "sheet.yaml")
    connections = realise_all(network)
    assert network.n_neurons == 21_001
    folder = write_program(tmp_path, network, connections, mapped=True, machine=load_machine("spin5x18"), effort="fast")
    found = follow(folder, network, connections, "--map-only")
    document, theirs, summary = found.document, found.theirs, found.summary
    slots = numbering(document, load_npz(folder / "program" / "network.npz"))
    made = check_cores(document, summary) + check_places(document, summary, theirs) + check_routes(document, connections, theirs, slots)
    made += [check_keys(document, theirs), check_memory(theirs)]
    made += compare_mappings(folder / "program", found.ours, connections, summary, theirs, tmp_path)
    assert {c.name: c.detail for c in made if not c.ok} == {}
    assert sum(p["cores"] + p["delay_cores"] for p in summary["populations"].values()) == cores == int(found.ours.placement.width.sum())
    if cores > load_machine("spin5").n_cores:
        assert len(np.unique(theirs["placements"][theirs["placements"][:, 0] >= 0][:, 4:6], axis=0)) > 48


def test_run_py_without_spynnaker_configuration_of_a_server(followed_program: Path, tmp_path: Path) -> None:
    """--spalloc ends with 5 at once if no configuration names a server, before sPyNNaker is imported."""
    for text, says in (
        ("[Machine]\nversion = 5\n", "no spalloc server"),
        ("not a configuration", "cannot be read"),
        (None, "no spalloc server"),
    ):
        home = tmp_path / f"home{says[:3]}{text is None}"
        home.mkdir()
        if text is not None:
            (home / ".spynnaker.cfg").write_text(text)
        done = start(followed_program, home, "--spalloc")
        assert done.returncode == 5
        assert says in done.stderr
        assert done.stdout == ""


@pytest.mark.slow
def test_a_server_that_does_not_answer(followed_program: Path, tmp_path: Path) -> None:
    """Exit 5, one line, nothing written."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".spynnaker.cfg").write_text("[Machine]\nspalloc_server = 127.0.0.1\nspalloc_port = 1\nspalloc_user = nobody\nversion = 5\n")
    done = start(followed_program, home, "--spalloc", "--out", "results.npz")
    assert done.returncode == 5, done.stderr[-500:]
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        "error: no machine: ConnectionRefusedError: [Errno 111] Connection refused (--debug shows where)"
    ]
    assert done.stdout == ""
    assert not (tmp_path / "results.npz").exists()


@pytest.mark.slow
def test_the_way_of_a_machine_to_its_results(followed: Followed, tmp_path: Path) -> None:
    """Without a mode the user's own configuration counts, here of a virtual board: what is recorded is asked for and read (nothing there),
    on the cores of the build."""
    (tmp_path / ".spynnaker.cfg").write_text("[Machine]\nversion = 5\nvirtual_board = True\n[Reports]\nwrite_network_graph = False\n")
    done = start(followed.folder / "program", tmp_path, "--out", "results.npz", "--mapping", "theirs.npz")
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout)
    assert (summary["mode"], summary["executed"], summary["placement"]) == ("machine", True, "build")
    results, before = load_npz(tmp_path / "results.npz"), load_npz(followed.folder / "results.npz")
    assert set(results) == set(before)
    assert results["output:out"].shape == (0, 3)
    assert all(results[name].size == 0 for name in results if name.startswith("spike_"))
    for name in followed.connections:
        np.testing.assert_array_equal(results[f"weight:{name}"], before[f"weight:{name}"])
    assert all(c.ok for c in check_places(followed.document, summary, load_npz(tmp_path / "theirs.npz")))


def start(program: Path, home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "XDG_CONFIG_HOME"} | {"HOME": str(home)}
    command = [sys.executable, "-B", str(program / "run.py"), "--steps", "5", *options]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def followed_program(tmp_path_factory: pytest.TempPathFactory, write_program: Callable[..., Path]) -> Path:
    network = clustered()
    return write_program(tmp_path_factory.mktemp("program"), network, realise_all(network)) / "program"
