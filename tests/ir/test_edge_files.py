"""Connectivity from files: order kept, formats agree, bad files refused."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from neurocompile.ir.edge_files import ArrayFiles, read_edges
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import load_npz

PRE, POST = np.array([3, 0, 2, 0]), np.array([1, 1, 0, 1])  # unsorted, with a double synapse
WEIGHT, DELAY = np.array([0.1, -0.2, 1e-5, 4.0]), np.array([1, 255, 3, 2])


def test_npz_keeps_the_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", pre=PRE.astype(np.uint16), post=POST, weight=WEIGHT.astype(np.float32), delay=DELAY)
    edges = read_edges(tmp_path / "e.npz")
    np.testing.assert_array_equal(edges.pre, PRE)
    np.testing.assert_array_equal(edges.post, POST)
    assert edges.weight is not None
    assert edges.delay is not None
    np.testing.assert_array_equal(edges.weight, WEIGHT.astype(np.float32))
    np.testing.assert_array_equal(edges.delay, DELAY)
    assert edges.source == "e.npz"
    np.savez(tmp_path / "bare.npz", pre=PRE, post=POST)
    bare = read_edges(tmp_path / "bare.npz")
    assert bare.weight is None
    assert bare.delay is None


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr", "dia"])
def test_scipy_sparse_rows_are_sources(format: str, tmp_path: Path) -> None:
    dense = np.array([[0, 1.5, 0], [2.5, 0, 0], [0, 0, 0], [0, 0, -3.5]])
    scipy.sparse.save_npz(tmp_path / "m.npz", scipy.sparse.coo_matrix(dense).asformat(format))
    edges = read_edges(tmp_path / "m.npz")
    got = np.zeros_like(dense)
    assert edges.weight is not None
    np.add.at(got, (edges.pre, edges.post), edges.weight)
    np.testing.assert_array_equal(got, dense)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.csv", "pre,post,weight,delay\n3,1,0.1,1\n0,1,-0.2,255\n2,0,1e-5,3\n0,1,4,2\n"),
        ("e.csv", "3, 1, 0.1, 1\n0, 1, -0.2, 255\n\n# comment\n2, 0, 1e-5, 3\n0, 1, 4, 2"),
        ("e.csv", "weight,delay,source,target\r\n0.1,1,3,1\r\n-0.2,255,0,1\r\n1e-5,3,2,0\r\n4,2,0,1\r\n"),
        ("e.tsv", "pre\tpost\tweight\tdelay\n3\t1\t0.1\t1\n0\t1\t-0.2\t255\n2\t0\t1e-5\t3\n0\t1\t4\t2\n"),
    ],
)
def test_csv(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    edges = read_edges(tmp_path / name)
    np.testing.assert_array_equal(edges.pre, PRE)
    np.testing.assert_array_equal(edges.post, POST)
    np.testing.assert_array_equal(edges.weight, WEIGHT)  # type: ignore[arg-type]
    np.testing.assert_array_equal(edges.delay, DELAY)  # type: ignore[arg-type]


def test_csv_without_weights_and_without_rows(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("0,1\n1,0\n")
    assert read_edges(tmp_path / "two.csv").weight is None
    for text in ("", "pre,post\n", "# nothing\n"):
        (tmp_path / "none.csv").write_text(text)
        assert read_edges(tmp_path / "none.csv").pre.shape == (0,)


def test_a_published_edge_list(shared: Path) -> None:
    """The larva's connectome as NumPy reads it."""
    path = shared / "data" / "connectomes" / "drosophila_larva_edges.csv"
    expected = np.loadtxt(path, delimiter=",")
    edges = read_edges(path)
    np.testing.assert_array_equal(np.stack([edges.pre, edges.post], axis=1), expected[:, :2])
    np.testing.assert_array_equal(edges.weight, expected[:, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("0,1,0.5\n0,1\n", "NC119", (2, 1)),
        ("0,1,0.5\n0,1,x\n", "NC119", (2, 5)),
        ("pre,post\n0,1\n1,-2\n", "NC119", (3, 3)),
        ("pre,post\n0.5,1\n", "NC119", (2, 1)),
        ("0,99999999999\n", "NC119", (1, 3)),
        ("0,1,nan\n", "NC203", (1, 5)),
        ("pre,post,weight\n0,nan,1\n", "NC119", (2, 3)),
        ("0,1,1,inf\n", "NC203", (1, 7)),
        ("pre,post,wieght\n0,1,1\n", "NC119", None),
        ("pre,weight\n0,1\n", "NC119", None),
        ("pre,pre\n0,1\n", "NC119", None),
        ("0\n1\n", "NC119", None),
        ("0,1,2,3,4\n", "NC119", None),
        ("0,1,1,300\n", "NC209", None),
        ("0,1,1,1.5\n", "NC209", None),
    ],
)
def test_bad_csv(text: str, code: str, place: tuple[int, int] | None, tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_edges(tmp_path / "e.csv")
    found = caught.value.diagnostics[0]
    assert found.code == code
    assert (None if found.span is None else (found.span.line, found.span.column)) == place


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="NC102"):
        read_edges(tmp_path / "e.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(InputError, match="NC124"):
        read_edges(tmp_path / "d.csv")
    with pytest.raises(InputError, match="NC105"):
        read_edges(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="NC121"):
        read_edges(tmp_path / "e.h5")


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"pre": [0]}, "NC107"),
        ({"pre": [0], "post": [0], "weigth": [1.0]}, "NC107"),
        ({"pre": [0.5], "post": [0]}, "NC202"),
        ({"pre": [-1], "post": [0]}, "NC204"),
        ({"pre": [[0]], "post": [[0]]}, "NC202"),
        ({"pre": [0], "post": [0], "weight": ["a"]}, "NC202"),
        ({"pre": [0], "post": [0], "weight": [1j]}, "NC202"),
        ({"pre": [0], "post": [0], "weight": [np.inf]}, "NC203"),
        ({"pre": [0], "post": [0], "delay": [np.nan]}, "NC203"),
        ({"pre": [0], "post": [0], "delay": [0]}, "NC209"),
        ({"pre": [0, 1], "post": [0]}, "NC202"),
        ({"format": b"csr", "data": [1.0]}, "NC106"),
        ({"format": b"csr", "data": [1.0], "indices": [7], "indptr": [0, 1], "shape": [1, 1]}, "NC106"),
        ({"format": b"coo", "data": [1.0], "row": [-1], "col": [0], "shape": [1, 1]}, "NC106"),
        ({"format": b"exe", "data": [1.0]}, "NC106"),
    ],
)
def test_bad_npz(arrays: dict[str, object], code: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        read_edges(tmp_path / "e.npz")
    assert caught.value.diagnostics[0].code == code


def test_damaged_archives_give_no_traceback(tmp_path: Path) -> None:
    """Every byte of a small archive changed in turn; and a header that promises far more than there is; and a bare .npy."""
    path = tmp_path / "e.npz"
    np.savez_compressed(path, pre=[0, 1], post=[1, 0], weight=[1.0, 2.0])
    whole = path.read_bytes()
    n_refused, codes = 0, set()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_edges(path)
        except InputError as error:
            codes.add(error.diagnostics[0].code)
            n_refused += 1
    assert codes <= {"NC106", "NC107"}
    assert n_refused > len(whole) / 3 / 4
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pre.npy", header)
    with pytest.raises(InputError, match="NC106"):
        load_npz(path)
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "a.npy").rename(path)
    with pytest.raises(InputError, match="single array"):
        load_npz(path)


def test_big_files_are_read_fast(tmp_path: Path) -> None:
    """A million synapses: the bounds are ten times what two cores took here (0.1 s and 1.5 s)."""
    rng = np.random.default_rng(1)
    n = 1_000_000
    np.savez(tmp_path / "big.npz", pre=rng.integers(0, 9999, n, dtype=np.int32), post=rng.integers(0, 9999, n), weight=rng.normal(size=n))
    start = time.perf_counter()
    assert read_edges(tmp_path / "big.npz").pre.size == n
    assert time.perf_counter() - start < 2.0
    (tmp_path / "big.csv").write_text("".join(f"{i},{i + 1},0.5\n" for i in range(n // 10)))
    start = time.perf_counter()
    assert read_edges(tmp_path / "big.csv").pre.size == n // 10
    assert time.perf_counter() - start < 3.0


def test_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=np.arange(3, dtype=np.int8))
    np.savez(tmp_path / "two.npz", x=np.arange(3), y=np.ones((2, 2)))
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    files = ArrayFiles()
    np.testing.assert_array_equal(files.array(tmp_path / "one.npz", None), [0, 1, 2])
    np.testing.assert_array_equal(files.array(tmp_path / "two.npz", "y"), np.ones((2, 2)))
    np.testing.assert_array_equal(files.array(tmp_path / "t.csv", "b"), [2, 4])
    np.testing.assert_array_equal(files.array(tmp_path / "t.csv", None), [[1, 2], [3, 4]])
    assert len(files.paths) == 3
    for name, key in (("two.npz", None), ("two.npz", "z"), ("t.csv", "c")):
        with pytest.raises(InputError, match="NC107"):
            files.array(tmp_path / name, key)
