"""Archives: no pickle in, same bytes out, whole files only."""

from __future__ import annotations

import io
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray, fill_from_npz, load_npz, npz_bytes, save_npz, stream_npz, write_atomically
from neurocompile.ir.shards import Threads
from neurocompile.ir.signals import Signal, Spikes


def test_round_trip_and_same_bytes(tmp_path: Path) -> None:
    arrays = {"weight:a->b": np.arange(5.0), "x": np.array([[1, 2]], np.int32)}
    save_npz(tmp_path / "a.npz", arrays)
    back = load_npz(tmp_path / "a.npz")
    assert list(back) == list(arrays)
    for key, values in arrays.items():
        np.testing.assert_array_equal(back[key], values)
    assert npz_bytes(arrays) == npz_bytes(dict(arrays)) == (tmp_path / "a.npz").read_bytes()


def test_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(InputError) as caught:
        load_npz(tmp_path / "bad.npz")
    assert caught.value.diagnostics[0].code == "NC106"
    with pytest.raises(ValueError, match="allow_pickle"):
        npz_bytes({"a": np.array([{"x": 1}], dtype=object)})


@pytest.mark.parametrize(("content", "code"), [(b"", "NC106"), (b"not a zip", "NC106"), (b"PK\x03\x04broken", "NC106"), (None, "NC105")])
def test_unreadable_files(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_npz(path)
    assert caught.value.diagnostics[0].code == code
    assert "x.npz" in str(caught.value)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"NC701.*No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NC701"):
        write_atomically(tmp_path / "no" / "a.bin", b"x")


def test_spikes_are_sorted_and_checked(tmp_path: Path) -> None:
    save_npz(tmp_path / "s.npz", {"neuron": np.array([3, 1, 2]), "step": np.array([5, 5, 0])})
    spikes = Spikes.load(tmp_path / "s.npz", size=4)
    assert spikes.step.tolist() == [0, 5, 5]
    assert spikes.neuron.tolist() == [2, 1, 3]
    with pytest.raises(InputError, match=r"NC204.*neuron 3 spikes, but the population has 3 neurons"):
        Spikes.load(tmp_path / "s.npz", size=3)


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"neuron": np.array([1])}, "NC107"),
        ({"neuron": np.array([1]), "step": np.array([1, 2])}, "NC202"),
        ({"neuron": np.array([1.5]), "step": np.array([1])}, "NC202"),
        ({"neuron": np.array([-1]), "step": np.array([1])}, "NC204"),
        ({"neuron": np.array([[1]]), "step": np.array([[1]])}, "NC202"),
    ],
)
def test_bad_spikes(tmp_path: Path, arrays: dict[str, np.ndarray], code: str) -> None:
    save_npz(tmp_path / "s.npz", arrays)
    with pytest.raises(InputError) as caught:
        Spikes.load(tmp_path / "s.npz", size=4)
    assert caught.value.diagnostics[0].code == code


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"window": np.ones(3)}, "NC107"),
        ({"target": np.zeros((3, 2)), "window": np.ones(4, bool)}, "NC202"),
        ({"target": np.zeros((3, 1)), "window": np.ones(3, bool)}, "NC202"),
        ({"target": np.full((3, 2), np.nan), "window": np.ones(3, bool)}, "NC203"),
        ({"target": np.array([["a", "b"]]), "window": np.ones(1, bool)}, "NC202"),
    ],
)
def test_bad_signals(tmp_path: Path, arrays: dict[str, np.ndarray], code: str) -> None:
    save_npz(tmp_path / "s.npz", arrays)
    with pytest.raises(InputError) as caught:
        Signal.load(tmp_path / "s.npz", size=2)
    assert caught.value.diagnostics[0].code == code


def test_a_signal_without_window_counts_everywhere(tmp_path: Path) -> None:
    save_npz(tmp_path / "s.npz", {"target": np.zeros((3, 2))})
    assert Signal.load(tmp_path / "s.npz", size=2).window.tolist() == [True] * 3


ARRAYS = {
    "state:a": np.arange(12.0).reshape(3, 4),
    "empty": np.zeros((0, 3), np.float32),
    "bytes": np.arange(5, dtype=np.uint8),
    "large": np.arange(2**21 + 3, dtype=np.float64),  # more than one piece, and not deflated
}


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_are_read_in_place(tmp_path: Path, compressed: bool) -> None:
    stream_npz(tmp_path / "a.npz", iter(ARRAYS.items()), compressed=compressed)
    into = {name: np.full_like(array, 77) for name, array in ARRAYS.items()}
    fill_from_npz(tmp_path / "a.npz", into)
    for name, array in load_npz(tmp_path / "a.npz").items():
        np.testing.assert_array_equal(into[name], array)
        np.testing.assert_array_equal(ARRAYS[name], array)
    if compressed:
        assert (tmp_path / "a.npz").read_bytes() == npz_bytes(ARRAYS)


@pytest.mark.parametrize(
    ("into", "words"),
    [
        ({"b": np.zeros(3)}, "b.npy"),
        ({"a": np.zeros((4, 3))}, "shape (3, 4), expected float64 of shape (4, 3)"),
        ({"a": np.zeros((3, 4), np.float32)}, "is float64 of shape (3, 4), expected float32"),
        ({"a": np.zeros((4, 3)).T}, "not contiguous"),
        ({"f": np.zeros((3, 4))}, "array 'f' is float64"),  # in Fortran's order
    ],
)
def test_arrays_that_do_not_fit_are_not_read_in_place(tmp_path: Path, into: dict[str, AnyArray], words: str) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(12.0).reshape(3, 4), f=np.asfortranarray(np.arange(12.0).reshape(3, 4)))
    with pytest.raises(InputError) as error:
        fill_from_npz(tmp_path / "a.npz", into)
    assert error.value.diagnostics[0].code == "NC106"
    assert words in error.value.diagnostics[0].message


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9])
def test_a_damaged_file_is_not_read_in_place(tmp_path: Path, place: float) -> None:
    stream_npz(tmp_path / "a.npz", {"a": np.arange(500.0)}.items(), compressed=False)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[int(place * len(content))] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError) as error:
        fill_from_npz(tmp_path / "a.npz", {"a": np.zeros(500)})
    assert error.value.diagnostics[0].code == "NC106"
    (tmp_path / "a.npz").write_bytes(content[: int(place * len(content))])
    with pytest.raises(InputError):
        fill_from_npz(tmp_path / "a.npz", {"a": np.zeros(500)})


def test_a_write_that_fails_midway_leaves_the_old_file(tmp_path: Path) -> None:
    def arrays() -> Iterator[tuple[str, AnyArray]]:
        yield "a", np.ones(3)
        raise RuntimeError

    stream_npz(tmp_path / "a.npz", {"a": np.zeros(3)}.items())
    with pytest.raises(RuntimeError):
        stream_npz(tmp_path / "a.npz", arrays())
    np.testing.assert_array_equal(load_npz(tmp_path / "a.npz")["a"], np.zeros(3))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_bytes_are_those_of_zipfile() -> None:
    """Where one piece holds an array, the archive is what the standard library writes (Python 3.10's layout)."""
    arrays = dict(ARRAYS) | {"größe": np.arange(3), "empty": np.zeros((0, 3)), "ä": np.array(["x", "yy"])}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_STORED if key == "large" else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array))
    found = npz_bytes(arrays)
    if sys.version_info < (3, 11):
        assert found == buffer.getvalue()
    with zipfile.ZipFile(buffer) as expected, zipfile.ZipFile(io.BytesIO(found)) as given:
        assert [(e.filename, e.CRC, e.file_size, e.compress_size, e.compress_type, e.external_attr) for e in given.infolist()] == [
            (e.filename, e.CRC, e.file_size, e.compress_size, e.compress_type, e.external_attr) for e in expected.infolist()
        ]


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n", [2**18 - 1, 2**18, 2**18 + 1, 700_000])
def test_arrays_in_several_pieces(n: int, n_threads: int) -> None:
    """A piece has 2^20 bytes; the sizes are those around one piece, and three pieces."""
    arrays = {"a": np.random.default_rng(n).integers(0, 1000, n).astype(np.int32), "b": np.zeros(5)}
    content = npz_bytes(arrays, shards=Threads(n_threads))
    assert content == npz_bytes(arrays)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
    for key, array in np.load(io.BytesIO(content)).items():
        np.testing.assert_array_equal(array, arrays[key], strict=True)
    whole = zlib.compress(np.ascontiguousarray(arrays["a"]).tobytes())
    assert len(content) < 1.001 * len(whole) + 1000  # headers and directory


@pytest.mark.parametrize("most", [0, 300, 10_000])
def test_archives_beyond_32_bits(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The fields for sizes and places above 2^31, tried with a lower limit: zipfile and numpy read them."""
    monkeypatch.setattr("neurocompile.ir.archive._MOST", most)
    monkeypatch.setattr("neurocompile.ir.archive._MOST_MEMBERS", 3)
    arrays = {f"a{i}": np.random.default_rng(i).integers(0, 9, 500 * i) for i in range(6)}
    content = npz_bytes(arrays)
    assert content.count(b"PK\6\6") == content.count(b"PK\6\7") == 1  # the directory's end in 64 bits
    n_large = sum(np.asarray(array).nbytes + 128 > most for array in arrays.values())  # 128: the header of .npy
    assert content.count(b"\xff" * 8) == 2 * n_large  # both sizes, in both headers of a member
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert len(archive.infolist()) == 6
    for key, array in np.load(io.BytesIO(content)).items():
        np.testing.assert_array_equal(array, arrays[key], strict=True)
