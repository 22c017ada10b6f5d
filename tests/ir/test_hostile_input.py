"""Input made to hurt: archives that lie about their size, lines without end, endless files, odd numbers; and round trips beside them."""

from __future__ import annotations

import math
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurocompile.ir import npz
from neurocompile.ir.edge_files import read_edges
from neurocompile.ir.errors import Diagnostic, InputError
from neurocompile.ir.npz import load_npz
from neurocompile.ir.serialise import unpack_network
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.ir.units import UNITS, Dimension, parse_quantity
from neurocompile.ir.yaml_reader import network_from_text, read_yaml

GOOD = "dt: 1 ms\npopulations: {a: {model: spike_source, size: 2}, b: {model: lif, size: 2, params: {tau_mem: 20 ms, v_threshold: 1}}}\n"
DEVICE_ZERO = Path("/dev/zero")


def findings(text: str, folder: str | Path = "/nonexistent") -> tuple[Diagnostic, ...]:
    with pytest.raises(InputError) as caught:
        network_from_text(text, "net.yaml", folder)
    return caught.value.diagnostics


# --- archives --------------------------------------------------------------------------------------------------------------
def header(shape: str, dtype: str = "<f8", version: bytes = b"\x01\x00") -> bytes:
    """The first bytes of an .npy file that claims a shape."""
    return (
        b"\x93NUMPY"
        + version
        + b"v\x00"
        + f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
        + b"\n"
    )


LIES = {
    "a million million numbers": (header("(1000000000000,)") + bytes(10**6), r"needs 8000000000000 bytes, the file holds 1000128"),
    "more than 2^64 bytes": (header("(4294967296, 4294967296)") + bytes(8), "needs 147573952589676412928 bytes"),
    "one number too many": (header("(3,)") + bytes(16), "EOF|needs"),
    "negative": (header("(-3,)") + bytes(24), ""),
    "pickled objects": (header("(1,)", "|O") + b"\x80\x04K\x01.", "pickle"),
    "fields with Unicode names": (header("(1,)", version=b"\x03\x00"), "no plain array"),
    "text": (b"hello", ""),
    "nothing": (b"", ""),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_that_are_not_what_they_claim(lie: str, compression: int, tmp_path: Path) -> None:
    content, words = LIES[lie]
    path = tmp_path / "e.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("pre.npy", content)
    tracemalloc.start()
    with pytest.raises(InputError, match=rf"(?s)NC106.*e\.npz.*(?:{words})") as caught:
        load_npz(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert "np.savez" in (caught.value.diagnostics[0].help or "")


def test_an_honest_archive_beyond_the_memory_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million zeros are 8 kB in the file and 8 MB in memory; here the machine has 5 MB."""
    path = tmp_path / "e.npz"
    np.savez_compressed(path, pre=np.zeros(10**6, np.int64))
    assert path.stat().st_size < 20_000
    assert len(load_npz(path)["pre"]) == 10**6
    monkeypatch.setattr(npz, "physical_memory", lambda: 5e6)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"NC106.*this machine has 0\.0 GiB"):
        load_npz(path)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


# --- edge files: what is written comes back, in order ----------------------------------------------------------------------
EDGES = st.lists(
    st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.floats(-1e300, 1e300), st.integers(1, 255)), max_size=12
)


@given(edges=EDGES, suffix=st.sampled_from(["npz", "compressed", "csv", "tsv", "txt"]), n_columns=st.integers(2, 4), titled=st.booleans())
@settings(max_examples=80, deadline=None)
def test_edges_come_back_bit_by_bit(
    edges: list[Any], suffix: str, n_columns: int, titled: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = ["pre", "post", "weight", "delay"][:n_columns]
    columns = {n: [e[i] for e in edges] for i, n in enumerate(names)}
    path = tmp_path_factory.mktemp("edges") / f"e.{suffix.replace('compressed', 'npz')}"
    if path.suffix == ".npz":
        kinds: dict[str, Any] = {"weight": np.float64}
        (np.savez_compressed if suffix == "compressed" else np.savez)(
            path, **{n: np.array(c, kinds.get(n, np.int64)) for n, c in columns.items()}
        )
    else:
        separator = "\t" if suffix == "tsv" else ", "
        rows = [separator.join(names)] * titled + [separator.join(map(repr, e[:n_columns])) for e in edges]
        path.write_text("# edges\n" + "\r\n".join(rows) + "\n", encoding="utf-8-sig")
    got = read_edges(path)
    assert (got.pre.tolist(), got.post.tolist()) == (columns["pre"], columns["post"])
    for name in names[2:]:
        values = getattr(got, name)
        assert (values is None and not edges) or values.tolist() == columns[name]


@given(data=st.data(), format=st.sampled_from(["csr", "csc", "coo", "bsr"]))
@settings(max_examples=40, deadline=None)
def test_sparse_matrices_keep_their_synapses_and_order(data: st.DataObject, format: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """coo keeps doubles and any order; the others have the order of their stored values; explicit zeros are synapses."""
    cells = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=10, unique=format != "coo"))
    weight = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.5, -2.0]), min_size=len(cells), max_size=len(cells))))
    row, column = (np.array([c[i] for c in cells], np.int32) for i in (0, 1))
    matrix = scipy.sparse.coo_matrix((weight, (row, column)), shape=(5, 7)).asformat(format)
    path = tmp_path_factory.mktemp("sparse") / "m.npz"
    scipy.sparse.save_npz(path, matrix)
    got, expected = read_edges(path), matrix.tocoo()
    assert got.pre.tolist() == expected.row.tolist()
    assert got.post.tolist() == expected.col.tolist()
    assert got.weight is not None
    assert got.weight.tolist() == expected.data.tolist()
    if format == "coo":
        assert list(zip(got.pre.tolist(), got.post.tolist(), strict=True)) == cells


@pytest.mark.parametrize("cell", ["1_0", "\uff11", "0x10", "1e", "--1", "1;5", "", "one", "\u0661", "1d3"])
def test_only_numbers_are_numbers_in_a_csv_file(cell: str, tmp_path: Path) -> None:
    """Python's float() reads '1_0' as 10 and digits of any script; other tools do not, so neither does the reader."""
    (tmp_path / "e.csv").write_text(f"0,1,0.5\n2,3,{cell}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_edges(tmp_path / "e.csv")
    (found,) = caught.value.diagnostics
    assert found.code == "NC119"
    assert found.span is not None
    assert (found.span.line, found.span.column) == (2, 5)


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"neuron": [2**32], "step": [0]}, "NC204"),
        ({"neuron": [0], "step": np.array([2**63], np.uint64)}, "NC204"),
        ({"neuron": [True], "step": [0]}, "NC202"),
        ({"neuron": ["0"], "step": [0]}, "NC202"),
    ],
)
def test_spikes_never_wrap_around(arrays: dict[str, Any], code: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(InputError, match=code):
        Spikes.load(tmp_path / "s.npz", size=2**31 - 1)


def test_complex_signals_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", target=np.ones((3, 1), complex))
    with pytest.raises(InputError, match=r"NC202.*complex128"):
        Signal.load(tmp_path / "s.npz", size=1)


# --- text ------------------------------------------------------------------------------------------------------------------
def test_long_lines_with_many_findings_do_not_fill_the_memory() -> None:
    """A line of 4 MB with tabs and a thousand mistakes: each finding shows the line, all share one copy of it."""
    line = "populations: {" + ", ".join(f"\tp{i}: 3" for i in range(1000)) + "}\t# " + "x" * 4_000_000
    tracemalloc.start()
    found = findings("dt: 1 ms\n" + line)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 101
    assert peak < 60e6  # the text, its lines, one copy; a copy for each finding would be 4 GB
    assert max(len(d.render()) for d in found) < 1000


@pytest.mark.skipif(not DEVICE_ZERO.exists(), reason="no such device")
def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="NC103"):
        read_yaml(DEVICE_ZERO)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_very_deep_nesting_has_its_own_code(opening: str) -> None:
    (found,) = findings("name: " * (opening in "[{a: ") + opening * 50_000)
    assert found.code == "NC103"
    assert found.span is not None


MERGED = {
    "population": "x: &p {model: lif, size: 2, params: {tau_mem: 1 ms, v_threshold: 1}}\n" + GOOD.replace("{a: {", "{c: {<<: *p}, a: {"),
    "params": GOOD.replace("params: {", "params: {<<: {bias: 1}, "),
}


@pytest.mark.parametrize("case", MERGED)
def test_merge_keys_are_named_in_the_help(case: str) -> None:
    assert any("merge keys" in (d.help or "") for d in findings(MERGED[case]))


@pytest.mark.parametrize(
    "name",
    ["'x\"; import os #'", "../../etc", "a/b", '"a\\nb"', '"\\u202eabc"', "'" + "x" * 101 + "'", "''", "' a'", "'-rf'", '"a\\e[31m"'],
)
def test_names_that_could_leave_their_place_are_refused(name: str) -> None:
    """The network's name becomes a folder, a rule's name a key of files: no separators, controls, quotes or leading dashes."""
    for text in (f"name: {name}\n{GOOD}", f"{GOOD}learning: {{{name}: {{rule: stdp}}}}\n"):
        found = findings(text)
        assert {d.code for d in found} == {"NC208"}
        assert all("use letters" in (d.help or "") and d.span for d in found)


def test_a_name_from_an_odd_file_name_is_made_safe(tmp_path: Path) -> None:
    for stem, name in (
        ("my net", "my net"),
        ("r\u00e9seau-2", "r\u00e9seau-2"),
        ("a;b", "a_b"),
        (".hidden", "_.hidden"),
        ("x" * 200, "x" * 99),
    ):
        path = tmp_path / f"{stem}.yaml"
        path.write_text(GOOD)
        assert read_yaml(path).name == name


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("{rule: stdp, weight_bounds: [-.inf, 1]}", "NC201"),
        ("{rule: r_stdp, reward: a, weight_bounds: [0, .inf]}", "NC201"),
        ("{rule: r_stdp, reward: a, reward_weight: .inf}", "NC201"),
        ("{rule: r_stdp, reward: out}", "NC210"),
    ],
)
def test_rules_that_could_only_give_nonsense(rule: str, code: str) -> None:
    text = GOOD.replace("{a: ", "{out: {model: leaky_readout, size: 1, params: {tau_mem: 1 ms}}, a: ") + f"learning: {{r: {rule}}}\n"
    (found,) = findings(text)
    assert found.code == code
    assert found.span is not None
    assert found.span.line == 3


@pytest.mark.parametrize("text", ["1e400", "-1e999", "9" * 401, "0x" + "f" * 500, "'1e400'", "1e400 mV", "'-1e309 V'"])
def test_numbers_beyond_float64_are_no_infinity(text: str) -> None:
    (found,) = findings(GOOD.replace("v_threshold: 1", f"v_threshold: {text}"))
    assert found.code == "NC114"
    assert ".inf" in (found.help or "") or "fewer digits" in (found.help or "")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": "neurocompile-network/1", "network": ' + "[" * 100_000, "", "\x00", "1e400", "NaN"]
)
def test_stored_text_of_any_kind_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match=r"NC161.*network\.json"):
        unpack_network(text, {}, file="network.json")


# --- units -----------------------------------------------------------------------------------------------------------------
ALL_UNITS = [(d, u) for d, units in UNITS.items() for u in units]


@given(value=st.floats(-1e30, 1e30, allow_subnormal=False), unit=st.sampled_from(ALL_UNITS), spaces=st.sampled_from(["", " ", "\t", "   "]))
def test_every_prefix_round_trips(value: float, unit: tuple[Dimension, str], spaces: str) -> None:
    """SI -> text in the unit -> SI: two roundings to float64, so at most 2 units in the last place apart."""
    dimension, name = unit
    assume(value == 0.0 or abs(value) > 1e-290)  # below, the number in the unit may be subnormal and lose digits
    spaces = spaces or " " * name.startswith("1")  # '0.31/mV' would be 0.31 and '/mV'
    back = parse_quantity(f"{spaces}{value / 10.0 ** UNITS[dimension][name]!r}{spaces}{name}{spaces}", dimension)
    assert back.unit == name
    assert math.isclose(back.value, value, rel_tol=2**-51)


@given(text=st.text(max_size=20) | st.text("0123456789.eE+-mMskHzVuµμ/ _\n", max_size=20), dimension=st.sampled_from(list(Dimension)))
@settings(max_examples=400)
def test_any_text_is_a_quantity_or_an_error_of_its_own(text: str, dimension: Dimension) -> None:
    try:
        value = parse_quantity(text, dimension).value
    except InputError as error:
        codes = {d.code for d in error.diagnostics if d.help}
    else:
        codes = set()
        assert math.isfinite(value)
    assert codes <= {"NC114", "NC115", "NC116"}
