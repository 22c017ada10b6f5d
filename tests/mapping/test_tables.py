"""Keys, entries, default routing and minimisation; the HPSR 2016 benchmark tables and PACMAN's table comparison as oracles."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.machine import Machine
from neurocompile.mapping import map_network
from neurocompile.mapping.tables import minimise
from neurocompile.mapping.tables.keys import allocate_keys
from neurocompile.mapping.types import Mapping, Route, Routes

Factory = Callable[..., Any]
UInt32Array = npt.NDArray[np.uint32]
NO_HOPS = np.zeros((0, 3), np.int32)


def first_match(key: UInt32Array, mask: UInt32Array, wanted: UInt32Array) -> npt.NDArray[np.int64]:
    """Number of the first entry that each wanted key matches, -1 for none."""
    hits = np.pad(wanted[:, None] & mask[None, :] == key[None, :], ((0, 0), (0, 1)), constant_values=True)
    found = hits.argmax(axis=1)
    return np.where(found < len(key), found, -1)


def routes_of(*groups: tuple[int, int]) -> Routes:
    """Routes of (source part, number of neurons) groups; neurons numbered through."""
    at, found = 0, []
    for part, n in groups:
        neurons = np.arange(at, at + n, dtype=np.int32)
        found.append(Route(neurons=neurons, source_part=part, target_parts=np.zeros(1, np.int32), hops=NO_HOPS))
        at += n
    return Routes(routes=tuple(found), exact=True)


# --- keys ---------------------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(groups=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40)), max_size=25))
def test_keys_are_distinct_and_each_block_is_one_key_and_mask(groups: list[tuple[int, int]]) -> None:
    routes = routes_of(*groups)
    n = sum(size for _, size in groups)
    key, has_key, base, size = allocate_keys(routes, n + 3, 32)
    assert has_key.tolist() == [True] * n + [False] * 3
    assert len(set(key[:n].tolist())) == n
    taken: set[int] = set()
    for r, first, block in zip(routes.routes, base.tolist(), size.tolist(), strict=True):
        assert first % block == 0
        assert block == min(1 << b for b in range(7) if 1 << b >= len(r.neurons))
        assert {k & ~(block - 1) for k in key[r.neurons].tolist()} == {first}
        assert not taken & set(range(first, first + block))
        taken |= set(range(first, first + block))
    for part in {p for p, _ in groups}:
        # All blocks of a part lie in one aligned block of the least power of two that holds them: one entry can stand for a part.
        mine = [(b, s) for r, b, s in zip(routes.routes, base.tolist(), size.tolist(), strict=True) if r.source_part == part]
        span = 1 << (sum(s for _, s in mine) - 1).bit_length()
        assert len({b // span for b, _ in mine}) == len({(b + s - 1) // span for b, s in mine}) == 1


@pytest.mark.parametrize(("groups", "need"), [([(0, 5), (1, 3)], 12), ([(0, 1)], 1), ([(0, 8), (0, 1)], 16)])
def test_keys_run_out_exactly_where_the_blocks_do(groups: list[tuple[int, int]], need: int) -> None:
    bits = (need - 1).bit_length()
    n = sum(size for _, size in groups)
    key, *_ = allocate_keys(routes_of(*groups), n, bits)
    assert key.max() < 1 << bits
    if bits:
        with pytest.raises(DoesNotFitError, match=f"NC406.*need {need} keys .*packets have {bits - 1} key bits"):
            allocate_keys(routes_of(*groups), n, bits - 1)


# --- minimisation -------------------------------------------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> tuple[UInt32Array, UInt32Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Disjoint entries over 8-bit keys: aligned blocks of different sizes, few routes, some default-routed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_routes, p_default, p_entry = draw(st.integers(1, 6)), draw(st.sampled_from([0.0, 0.3, 1.0])), draw(st.sampled_from([0.2, 0.7, 1.0]))
    key, mask = [], []
    at = 0
    while at < 256:
        size = 1 << int(rng.integers(0, 4))
        size = min(size, at & -at or 256)
        if rng.random() < p_entry:
            key.append(at)
            mask.append(0xFFFFFFFF & ~(size - 1))
        at += size
    n = len(key)
    return np.array(key, np.uint32), np.array(mask, np.uint32), rng.integers(0, n_routes, n) * 7, rng.random(n) < p_default


@settings(max_examples=200, deadline=None)
@given(table=tables())
def test_a_minimised_table_routes_every_key_as_before(
    table: tuple[UInt32Array, UInt32Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    key, mask, route, default = table
    new_key, new_mask, new_route = minimise(key, mask, route, default)
    every = np.arange(256, dtype=np.uint32)
    before, after = first_match(key, mask, every), first_match(new_key, new_mask, every)
    for k in np.flatnonzero(before >= 0).tolist():
        if default[before[k]]:
            assert after[k] == -1, "a default-routed key is caught"
        else:
            assert after[k] >= 0
            assert new_route[after[k]] == route[before[k]]
    kept = int((~default).sum())
    assert len(np.unique(route[~default])) <= len(new_key) <= kept
    assert not (new_key & ~new_mask).any()


def test_minimisation_of_known_tables() -> None:
    full = 0xFFFFFFFF

    def run(rows: list[tuple[int, int, int]], default: list[bool] | None = None) -> set[tuple[int, int, int]]:
        k, m, r = (np.array(column) for column in zip(*rows, strict=True))
        found = minimise(k.astype(np.uint32), m.astype(np.uint32), r.astype(np.int64), np.array(default or [False] * len(rows)))
        return set(zip(*(column.tolist() for column in found), strict=True))

    assert run([(0, full, 5), (1, full, 5)]) == {(0, full - 1, 5)}
    assert run([(0, full, 5), (3, full, 5)]) == {(0, full - 3, 5)}  # 1 and 2 are nobody's keys
    # (0, 3) would catch 1, which goes elsewhere; the rarer route comes first and shields it.
    assert run([(0, full, 5), (3, full, 5), (1, full, 6)]) == {(1, full, 6), (0, full - 3, 5)}
    # The same, but 1 is default-routed: nothing can shield a key without an entry.
    assert run([(0, full, 5), (3, full, 5), (1, full, 6)], [False, False, True]) == {(0, full, 5), (3, full, 5)}
    assert run([(4, full, 5), (5, full, 6)], [True, True]) == set()


def _benchmark(path: Path) -> list[npt.NDArray[np.uint32]]:
    """Tables of (key, mask, source, route) rows; the format is in the README beside the file."""
    raw, at, found = lzma.decompress(path.read_bytes()), 0, []
    while at < len(raw):
        n = int.from_bytes(raw[at + 2 : at + 4], "little")
        found.append(np.frombuffer(raw, "<u4", 4 * n, at + 4).reshape(n, 4).astype(np.uint32))
        at += 4 + 16 * n
    return found


@pytest.mark.parametrize(
    ("name", "uncompressed", "without_default", "pair_merge", "distinct"),
    [("gaussian", 155_918, 147_552, 131_129, 85_989), ("centroid", 164_873, 157_270, 141_490, 97_694)],
)
def test_benchmark_tables(shared: Path, name: str, uncompressed: int, without_default: int, pair_merge: int, distinct: int) -> None:
    """The public tables of Mundy, Heathcote and Garside (HPSR 2016): same routes for all keys, and no more entries than published.

    Totals of the uncompressed tables, without default routes, after pair merging, and distinct routes: reference/mapping.md.
    """
    path = shared / "data" / "routing_tables" / f"{name}_12_12_xyp.bin.xz"
    if not path.is_file():
        pytest.skip(f"benchmark tables not found at {path}")
    opposite = {1 << link: 1 << (link + 3) % 6 for link in range(6)}
    total = dict.fromkeys(("all", "kept", "minimised", "routes"), 0)
    for table in _benchmark(path):
        key, mask, source, route = table.T.copy()
        default = np.array([opposite.get(s) == r for s, r in zip(source.tolist(), route.tolist(), strict=True)])
        new_key, new_mask, new_route = minimise(key, mask, route.astype(np.int64), default)
        # Entries are disjoint and minimised masks only lose bits, so the lowest key of an entry stands for all its keys.
        assert np.unique(mask).tolist() == [0xFFFFF800]
        after = first_match(new_key, new_mask, key)
        assert ((after < 0) == default).all()
        assert (new_route[after[~default]] == route[~default]).all()
        total["all"] += len(key)
        total["kept"] += int((~default).sum())
        total["minimised"] += len(new_key)
        total["routes"] += len(np.unique(route))
        assert len(np.unique(route[~default])) <= len(new_key) <= len(key)
    assert total["all"] == uncompressed
    assert total["kept"] == without_default
    assert total["routes"] == distinct
    assert total["minimised"] <= pair_merge


# --- entries ------------------------------------------------------------------------------------------------------------------


def unminimised(mapping: Mapping, machine: Machine, oracle: Any) -> dict[int, list[tuple[int, int, int, frozenset[int], int | None]]]:
    """Entries of each chip before minimisation, straight from the trees: (key, mask, links, cores, link over which packets arrive)."""
    _, _, base, size = allocate_keys(mapping.routes, len(mapping.partition.part), int(machine.value("router.key_bits")))
    cores = oracle.cores_of(mapping, machine)
    found: dict[int, list[tuple[int, int, int, frozenset[int], int | None]]] = {}
    for r, first, block in zip(mapping.routes.routes, base.tolist(), size.tolist(), strict=True):
        links: dict[int, int] = {int(mapping.placement.chip[r.source_part]): 0}
        came: dict[int, int] = {}
        for chip, link, following in r.hops.tolist():
            links[chip] = links.get(chip, 0) | 1 << link
            links.setdefault(following, 0)
            came[following] = link
        local = {core for p in r.target_parts.tolist() for core in cores[p]}
        for chip, out in links.items():
            here = frozenset(core for c, core in local if c == chip)
            found.setdefault(chip, []).append((first, 0xFFFFFFFF & ~(block - 1), out, here, came.get(chip)))
    return found


@pytest.mark.parametrize("kind", ["mesh", "hex", "hex_torus"])
@pytest.mark.parametrize("exact", [True, False])
def test_tables_equal_the_unminimised_ones_for_every_key(problem: Factory, machine: Factory, oracle: Any, kind: str, exact: bool) -> None:
    network = problem(sizes=(20, 120, 20), density=0.04, neurons=6, widths=(1, 1, 2))
    made = machine(kind=kind, width=7, height=7, cores=3)
    mapping = map_network(network, made if exact else machine(kind=kind, width=7, height=7, cores=3, entries=_longest(network, made) - 1))
    assert mapping.routes.exact is exact
    full = unminimised(mapping, made, oracle)
    assert {chip: len(rows) for chip, rows in full.items()} == mapping.tables.unminimised_entries
    n_default = 0
    for chip, rows in full.items():
        for key, mask, links, cores, came in rows:
            for k in range(key, key + (0xFFFFFFFF & ~mask) + 1):
                entry = oracle.lookup(mapping.tables.tables.get(chip), k)
                if entry is None:
                    assert came is not None, "a packet's own chip has no entry for it"
                    assert (links, cores) == (1 << came, frozenset())
                    n_default += 1
                else:
                    assert entry == (links, cores)
    assert n_default > 0, "no straight run: the test shows nothing about default routing"
    assert sum(map(len, full.values())) > sum(len(t.key) for t in mapping.tables.tables.values())


def _longest(network: Any, made: Machine) -> int:
    return max(len(t.key) for t in map_network(network, made).tables.tables.values())


def test_cores_beyond_the_first_word(problem: Factory, machine: Factory, oracle: Any) -> None:
    """More than 64 cores a chip: masks of several words."""
    network = problem(sizes=(10, 280), external=(True, False), density=0.02, neurons=1)
    made = machine(width=2, height=1, cores=150, entries=10_000)
    mapping = map_network(network, made)
    assert {t.cores.shape[1] for t in mapping.tables.tables.values()} == {3}
    assert any(t.cores[:, 2].any() for t in mapping.tables.tables.values())
    oracle.check(network, mapping, made)


def test_axons_of_a_destination_machine_are_sorted_and_lead_to_first_cores(problem: Factory, machine: Factory, oracle: Any) -> None:
    network = problem(sizes=(20, 60, 10), widths=(1, 2, 1))
    made = machine(kind="mesh", routing="destination")
    mapping = map_network(network, made)
    rows = [tuple(row) for row in mapping.tables.axons.tolist()]
    part, cores = mapping.partition.part.tolist(), oracle.cores_of(mapping, made)
    assert rows == sorted({(n, *cores[p][0]) for n in range(network.n_neurons) for p in oracle.target_parts(network, part, n)})
    assert mapping.tables.tables == {}
    assert not mapping.tables.has_key.any()


# --- PACMAN -------------------------------------------------------------------------------------------------------------------


def _pacman_table(rows: list[tuple[int, int, int, frozenset[int], int | None]]) -> Any:
    from pacman.model.routing_tables import CompressedMulticastRoutingTable
    from spinn_machine import MulticastRoutingEntry, RoutingEntry

    def bits(word: int) -> list[int]:
        return [i for i in range(word.bit_length()) if word >> i & 1]

    return CompressedMulticastRoutingTable(
        0,
        0,
        [
            MulticastRoutingEntry(
                key, mask, RoutingEntry(processor_ids=cores, link_ids=bits(links), incoming_link=None if came is None else (came + 3) % 6)
            )
            for key, mask, links, cores, came in rows
        ],
    )


def _ours(mapping: Mapping, chip: int, oracle: Any) -> list[tuple[int, int, int, frozenset[int], int | None]]:
    table = mapping.tables.tables.get(chip)
    return [] if table is None else [(*entry, None) for entry in oracle.entries(table)]


@pytest.fixture(scope="module")
def pacman() -> Any:
    """PACMAN's checker of compressed tables, set up to run alone."""
    checker = pytest.importorskip("pacman.operations.router_compressors.routing_compression_checker", reason="PACMAN is not installed")
    from pacman.config_setup import unittest_setup
    from spinn_utilities.config_holder import set_config

    unittest_setup()
    set_config("Machine", "version", "5")
    return checker


def test_pacman_finds_our_tables_equal_to_the_unminimised_ones(pacman: Any, problem: Factory, machine: Factory, oracle: Any) -> None:
    from pacman.exceptions import PacmanRoutingException

    network = problem(sizes=(20, 160), external=(True, False), density=0.03, neurons=6)
    made = machine(kind="hex", width=5, height=4, cores=4)
    mapping = map_network(network, made)
    full = unminimised(mapping, made, oracle)
    assert len(full) > 10
    n_refused = 0
    for chip, rows in full.items():
        ours = _ours(mapping, chip, oracle)
        pacman.compare_tables(_pacman_table(rows), _pacman_table(ours))
        if ours:  # PACMAN's comparison must be able to fail: the last entry sent elsewhere
            key, mask, links, cores, _ = ours[-1]
            with pytest.raises(PacmanRoutingException):
                pacman.compare_tables(_pacman_table(rows), _pacman_table([*ours[:-1], (key, mask, links ^ 1, cores, None)]))
            n_refused += 1
    assert n_refused > 10


def test_we_need_no_more_entries_than_pacmans_pair_compressor(pacman: Any, problem: Factory, machine: Factory, oracle: Any) -> None:
    """The same tables through PACMAN's compressor, which is a pair merge of the same kind (and keeps default routes)."""
    from pacman.operations.router_compressors.pair_compressor import _PairCompressor

    network = problem(sizes=(20, 160), external=(True, False), density=0.03, neurons=6)
    made = machine(kind="hex", width=5, height=4, cores=4)
    mapping = map_network(network, made)
    theirs = ours = 0
    for chip, rows in unminimised(mapping, made, oracle).items():
        theirs += len(_PairCompressor().compress_table(_pacman_table(rows)))
        ours += len(_ours(mapping, chip, oracle))
    assert ours <= theirs
