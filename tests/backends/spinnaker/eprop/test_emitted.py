"""The program of e-prop cores as a user gets it: mapped by sPyNNaker on a virtual board, every number as the build has it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.backends.spinnaker.validate import compare, compare_mappings, run_virtual
from neurocompile.backends.spinnaker.walk import walk_keys
from neurocompile.ir import Network
from neurocompile.ir.npz import load_npz, npz_bytes
from neurocompile.ir.realise import realise_all
from neurocompile.mapping import MapOptions, map_network
from neurocompile.mapping.export import load_mapping, mapping_arrays
from tests.backends.spinnaker.eprop.networks import learner, lowered

pytestmark = pytest.mark.slow
STEPS = 20


@pytest.fixture(
    scope="module",
    params=[("lif", 1, 1), ("alif", 4, 1), ("lif", 5, 2)],
    ids=["no delays", "adaptive, delays of 1 to 4", "delays of 2 to 5"],
)
def built(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, Network]:
    """A network of 200 hidden neurons on several cores, renumbered by the mapper, with a program that was not run yet. Of its plastic
    synapses some have delays, or all."""
    folder = tmp_path_factory.mktemp("eprop")
    model, delay, least = request.param
    network = learner(0, model=model, n_in=20, n=200, n_out=4, density=0.2, static=True, signs=True, delay=delay, least=least)
    made = lowered(network)
    assert made.problem is not None
    mapping = map_network(made.problem, made.machine, MapOptions(seed=1, effort="fast"))
    files = TARGET.emit(made, mapping, BuildOptions()) | {"mapping.npz": npz_bytes(mapping_arrays(mapping))}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder / "program", network


@pytest.fixture(scope="module")
def ran(
    built: tuple[Path, Network], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
    """(summary, results, mapping) of the program on a virtual board."""
    folder = tmp_path_factory.mktemp("ran")
    summary = run_virtual(built[0], STEPS, folder / "out.npz", folder / "mapping.npz", folder)
    return summary, dict(load_npz(folder / "out.npz")), dict(load_npz(folder / "mapping.npz"))


def failed(built: tuple[Path, Network], ran: tuple[dict[str, object], ...], **changes: object) -> set[str]:
    """Return the names of the checks that fail."""
    program, network = built
    seen = {"summary": ran[0], "results": ran[1], "mapping": ran[2], **changes}
    checks = compare(program, network, realise_all(network), **seen)  # type: ignore[arg-type]
    assert {"numbers of hidden", "numbers of out", "numbers of relay", "cells of hidden", "places of hidden"} <= {c.name for c in checks}
    return {c.name for c in checks if not c.ok}


def test_every_number_is_the_twins(built: tuple[Path, Network], ran: tuple[dict[str, object], ...]) -> None:
    """Synapses, neurons of each core, rule, weights with their fractions, cores, places, routes; and each is missed where it is wrong."""
    assert failed(built, ran) == set()
    mapping, results = ran[2], ran[1]
    cores = [key for key in mapping if key.startswith("neurons:1:")]
    assert len(cores) >= 2
    broken = {**mapping, cores[1]: np.asarray(mapping[cores[1]]) + np.eye(1, len(np.asarray(mapping[cores[1]])), 200, dtype=np.uint32)[0]}
    assert failed(built, ran, mapping=broken) == {"numbers of hidden"}
    rule = np.array(mapping["region:1:synapseDynamicsParams"])
    rule[40] += 1
    assert failed(built, ran, mapping={**mapping, "region:1:synapseDynamicsParams": rule}) == {"numbers of hidden"}
    weight = np.array(results["weight:in->hidden"])
    weight[3] += weight[weight != 0][0] * 2.0**-10
    assert failed(built, ran, results={**results, "weight:in->hidden": weight}) >= {"numbers of hidden"}


def test_the_sweep_names_every_source(built: tuple[Path, Network], ran: tuple[dict[str, object], ...]) -> None:
    """The region of the synapses has the keys of all sources of plastic rows and their delays, each once, at the tick of its number."""
    document = json.loads((built[0] / "network.json").read_text())
    arrays = load_npz(built[0] / "network.npz")
    entry = document["populations"][1]
    words = np.asarray(ran[2]["region:1:synapseDynamicsParams"]).astype(np.int64)
    n_rule = len(arrays[entry["eprop"]["rule"]["array"]])
    n_targets, n_keys = int(words[n_rule + 3]), int(words[n_rule + 9])
    network = built[1]
    sizes = {p.name: p.size for p in network.populations}
    made = realise_all(network)
    keys_of = {}  # neurons have a key of each delay; sources one where they are needed
    for p in network.projections:
        if p.learning is not None and p.post == "hidden":
            synapses = made[p.name]
            late = set(zip(synapses.pre.tolist(), synapses.delay.tolist(), strict=True)) if p.pre == "in" else set()
            every = {(i, d) for i in range(sizes[p.pre]) for d in np.unique(synapses.delay).tolist() if p.pre != "in" or d == 1}
            keys_of[p.pre] = every | {(i, d) for i, d in late if d > 1}
    assert n_targets == 0
    assert n_keys == sum(len(found) for found in keys_of.values())
    first, keys = words[n_rule + 12 : n_rule + 12 + 225], words[n_rule + 12 + 225 :][:n_keys]
    assert first[0] == 0
    assert first[224] == n_keys
    assert len(np.unique(keys)) == n_keys
    due = np.bincount([i % 224 for found in keys_of.values() for i, _ in found], minlength=224)
    np.testing.assert_array_equal(np.diff(first), due)


def test_packets_of_each_delay(built: tuple[Path, Network], ran: tuple[dict[str, object], ...], tmp_path: Path) -> None:
    """Each delay has its keys, routed to the cores with its synapses and no others; a key or an entry that is wrong is found. Our tables
    pass PACMAN's checkers."""
    network, mapping = built[1], ran[2]
    made, document = realise_all(network), json.loads((built[0] / "network.json").read_text())
    placements, keys, held = (np.asarray(mapping[name]) for name in ("placements", "keys", "held"))
    number = {p["name"]: i for i, p in enumerate(document["populations"])}
    arrays = load_npz(built[0] / "network.npz")
    slots = {p["name"]: np.arange(p["size"]) if p["slot"] is None else arrays[p["slot"]["array"]] for p in document["populations"]}
    reach = walk_keys(mapping)  # type: ignore[arg-type]
    for name, i in number.items():
        out = [p for p in network.projections if p.pre == name]
        waits = {int(d) - 1 if p.learning is not None and name != "in" else 0 for p in out for d in np.unique(made[p.name].delay)}
        rows = np.flatnonzero(placements[keys[:, 0], 0] == i)
        if out and name != "in":
            assert set(held[rows, 0].tolist()) == waits | ({0} if name == "out" else set())
        for row in rows if name not in ("in", "in, held back", "out") else []:
            core, wait = int(keys[row, 0]), int(held[row, 0])
            low, high = placements[core, 2:4]
            wanted = set()
            for p in out:
                s = made[p.name]
                mine = (slots[name][s.pre] >= low) & (slots[name][s.pre] <= high) & ((s.delay - 1 if p.learning else 0 * s.delay) == wait)
                to = slots[p.post][s.post[mine]]
                there = np.flatnonzero(placements[:, 0] == number[p.post])
                wanted |= {int(r) for r in there if ((to >= placements[r, 2]) & (to <= placements[r, 3])).any()}
            assert set(reach[core, wait]) == wanted
    late = np.flatnonzero(held[:, 0] == held[:, 0].max())[0]
    dead = np.asarray(mapping["entries"]).copy()
    at = (
        (dead[:, 2] == keys[late, 1] & dead[:, 3])
        & (dead[:, 0] == placements[keys[late, 0], 4])
        & (dead[:, 1] == placements[keys[late, 0], 5])
    )
    assert any(name.startswith("routes of") for name in failed(built, ran, mapping={**mapping, "entries": dead[~at]}))
    if held[:, 0].max() > 0:
        moved = {**mapping, "held": held + (np.arange(len(held)) == late)[:, None] * [1, 0]}
        assert {"numbers of hidden", "routes of hidden->hidden"} <= failed(built, ran, mapping=moved)
    ours = load_mapping(load_npz(built[0].parent / "mapping.npz"))
    checks = compare_mappings(built[0], ours, made, ran[0], mapping, tmp_path)  # type: ignore[arg-type]
    assert [c for c in checks if not c.ok] == []
    assert {"our tables, our tracer", "our tables, PACMAN compare_tables", "our tables, PACMAN validate_routes"} <= {c.name for c in checks}


def test_targets_reach_the_core(built: tuple[Path, Network], tmp_path: Path) -> None:
    """--target: integers of the readout's membrane in its region, outside the window a row that says so; bad files end with a message."""
    target, window = np.arange(4.0 * STEPS).reshape(STEPS, 4) / 10.0, np.arange(STEPS) >= 5
    np.savez(tmp_path / "target.npz", target=target, window=window)
    command = [sys.executable, str(built[0] / "run.py"), "--virtual", "--steps", str(STEPS), "--mapping", str(tmp_path / "mapping.npz")]
    done = subprocess.run([*command, "--target", f"out={tmp_path / 'target.npz'}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    arrays, entry = load_npz(built[0] / "network.npz"), json.loads((built[0] / "network.json").read_text())["populations"][2]
    words = load_npz(tmp_path / "mapping.npz")["region:2:synapseDynamicsParams"].view(np.int32).astype(np.int64)
    n_rule = len(arrays[entry["eprop"]["rule"]["array"]])
    rows = int(words[n_rule + 3])
    held = words[n_rule + 12 : n_rule + 12 + rows * 4].reshape(rows, 4)
    assert rows == STEPS
    np.testing.assert_array_equal(held[5:], np.rint(target[5:] * entry["eprop"]["target_unit"]))
    assert (held[:5] == -(2**31)).all()
    document = json.loads((built[0] / "network.json").read_text())
    assert (words[n_rule + 4], words[n_rule + 5]) == (STEPS, document["eprop"]["break_ticks"])  # in the break weights are settled
    shorter = [*command[:3], "--steps", "8", *command[5:], "--samples", "2", "--target", f"out={tmp_path / 'target.npz'}"]
    done = subprocess.run(shorter, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = load_npz(tmp_path / "mapping.npz")["region:2:synapseDynamicsParams"].view(np.int32).astype(np.int64)
    held = words[n_rule + 12 : n_rule + 12 + 16 * 4].reshape(16, 4)
    np.testing.assert_array_equal(
        held[5:], np.rint(target[5:16] * entry["eprop"]["target_unit"])
    )  # steps of both samples, no break between
    longest = max(int(arrays[f"delay:{p['key']}"].max()) for p in document["projections"])
    assert document["eprop"]["break_ticks"] >= 2
    assert tuple(words[n_rule + 3 : n_rule + 6]) == (16, 8, max(1 + longest, document["eprop"]["break_ticks"]))
    np.savez(tmp_path / "bad.npz", target=target[:, :3], window=window)
    for what, said in (
        (f"out={tmp_path / 'bad.npz'}", "shape (steps, 4)"),
        ("hidden=x.npz", "READOUT one of: out"),
        ("out=no.npz", "cannot be read"),
    ):
        done = subprocess.run([*command, "--target", what], capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_binaries_are_asked_for(built: tuple[Path, Network]) -> None:
    """On a machine the program needs the binaries, and says where they come from."""
    command = [sys.executable, str(built[0] / "run.py"), "--steps", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "eprop_1.aplx, eprop_2.aplx, eprop_3.aplx not found" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_in_the_extension(built: tuple[Path, Network], tmp_path: Path) -> None:
    """C, a header of numbers and a Makefile for each population of neurons; the headers compile; names of the network are in none."""
    folder = built[0] / "extension"
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {"src", "eprop_1", "eprop_2", "eprop_3"}
    for app in ("eprop_1", "eprop_2", "eprop_3"):
        makefile = (folder / app / "Makefile").read_text()
        assert f"APP = {app}\n" in makefile
        named = re.findall(r"^(?:[A-Z_]+) := \$\(EXTENSION\)/(src/\S+)$", makefile, flags=re.MULTILINE)
        assert len(named) == 7
        assert all((folder / name).is_file() for name in named)
        wanted = "NEURON_IMPL_H SYNAPSE_DYNAMICS SYNAPTOGENESIS_DYNAMICS PARTNER_SELECTION FORMATION ELIMINATION TIMING_DEPENDENCE_H"
        assert all(f"\n{name} := " in makefile for name in [*wanted.split(), "WEIGHT_DEPENDENCE_H", "SYNAPSE_TYPE_H"])
        assert not {"hidden", "relay"} & set((folder / app / f"{app}.h").read_text().split())
    assert (folder / "Makefile").read_text().startswith("APPS = eprop_1 eprop_2 eprop_3\n")
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    source = tmp_path / "all.c"
    source.write_text('#include "eprop_core.h"\nint main(void) { return EPROP_SCALES->signal_max < 0 || EPROP_CELLS->reach < 0; }\n')
    for app in ("eprop_1", "eprop_2", "eprop_3"):
        numbers = f'-DEPROP_NUMBERS="{folder / app / app}.h"'
        flags = re.findall(r"-DEPROP_(?:STATE_BITS|ADAPTIVE)=\d+", (folder / app / "Makefile").read_text())
        assert len(flags) == 2
        words = [compiler, "-Wall", "-Werror", *flags, numbers, f"-I{folder / 'src'}", str(source), "-o", str(tmp_path / app)]
        subprocess.run(words, check=True)
        subprocess.run([str(tmp_path / app)], check=True)
