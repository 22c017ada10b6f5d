"""N-MNIST: the file format against a reader that goes byte by byte, damaged files, the real part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurocompile.ir.errors import InputError
from neurocompile.tasks.data import load_data
from neurocompile.tasks.nmnist import find_recordings, read_events, to_steps


def byte_by_byte(path: Path) -> list[tuple[int, int, int, int]]:
    """Read (x, y, polarity, time) as the data set's description says, one event after the other."""
    raw, events, later = path.read_bytes(), [], 0
    for i in range(0, len(raw), 5):
        x, y, a, b, c = raw[i : i + 5]
        if y == 240:
            later += 8192
            continue
        events.append((x, y, a >> 7, ((a & 127) << 16) + (b << 8) + c + later))
    return events


def write(path: Path, *events: tuple[int, int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255]) for x, y, p, t in events))
    return path


def test_real_recordings_equal_a_byte_by_byte_reader(shared: Path) -> None:
    files, labels = find_recordings(shared / "data" / "nmnist", "Test")
    assert (len(files), labels.max()) == (50, 9)
    for file in files[:3]:
        events = read_events(file)
        assert list(zip(events.x, events.y, events.polarity, events.time, strict=True)) == byte_by_byte(file)
        assert np.all(np.diff(events.time) >= 0)


def test_the_real_part_is_found_whole_and_fits_2312_inputs(shared: Path, tiny) -> None:
    data = load_data(tiny("nmnist", n_in=2312, sample_steps=300), str(shared / "data" / "nmnist"))
    assert (data.n_inputs, len(data.train.labels), len(data.test.labels)) == (2312, 1000, 50)
    sample = data.train.sample(0)
    assert sample.step.max() < 300
    assert sample.neuron.max() < 2312
    assert 500 < len(sample.step) < 20_000


def test_overflow_events_shift_later_times(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", (1, 2, 1, 8000), (0, 240, 0, 0), (3, 4, 0, 10), (0, 240, 0, 0), (5, 6, 1, 20))
    events = read_events(path)
    assert events.time.tolist() == [8000, 8202, 16404]
    assert events.polarity.tolist() == [1, 0, 1]
    assert byte_by_byte(path)[2] == (5, 6, 1, 16404)


def test_steps_and_neurons(tmp_path: Path) -> None:
    events = read_events(write(tmp_path / "a.bin", (33, 33, 1, 336_040), (0, 0, 0, 0), (0, 0, 0, 900), (1, 0, 1, 1120), (1, 0, 1, 1121)))
    neuron, step = to_steps(events, n_steps=300, duration=336_040)
    # a step lasts 336040 / 300 = 1120.13 us; both events of neuron 0 in step 0 are one spike; the last instant belongs to the last step
    assert list(zip(step, neuron, strict=True)) == [(0, 0), (0, 3), (1, 3), (299, 2311)]
    neuron, step = to_steps(events, n_steps=300, duration=336_040, pool=2, polarity=False)
    assert list(zip(step, neuron, strict=True)) == [(0, 0), (1, 0), (299, 288)]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (bytes(12), "2 bytes at offset 10"),
        (bytes(5) + bytes([34, 0, 0, 0, 0]), "event 1 at offset 5 has x = 34"),
        (bytes(10) + bytes([0, 77, 0, 0, 0]), "event 2 at offset 10 has x = 0, y = 77"),
    ],
)
def test_a_damaged_file_is_named_with_its_offset(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(InputError, match="NC247") as caught:
        read_events(path)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NC246"):
        read_events(tmp_path / "none.bin")
    with pytest.raises(InputError, match="no folder 'Train'"):
        find_recordings(tmp_path, "Train")
    (tmp_path / "Train").mkdir()
    with pytest.raises(InputError, match="holds no recordings"):
        find_recordings(tmp_path, "Train")


def folder(path: Path) -> Path:
    for part in ("Train", "Test"):
        for digit in (0, 3):
            write(path / part / str(digit) / f"0000{digit}.bin", (digit, 0, 0, 5), (digit, 1, 1, 200_000))
    return path


def test_options_of_nmnist(tmp_path: Path, tiny) -> None:
    where = str(folder(tmp_path))
    assert load_data(tiny("nmnist", path=where, n_in=578, options={"pool": 2})).n_inputs == 578
    assert load_data(tiny("nmnist", path=where, n_in=289, options={"pool": 2, "polarity": False})).n_inputs == 289
    with pytest.raises(InputError, match="must divide 34"):
        load_data(tiny("nmnist", path=where, n_in=578, options={"pool": 3}))
    data = load_data(tiny("nmnist", path=where, n_in=2312, options={"duration": 1000}))
    with pytest.raises(InputError, match="after the end of a recording"):
        data.train.sample(0)


def test_identity_changes_with_the_files(tmp_path: Path, tiny) -> None:
    network = tiny("nmnist", path=str(folder(tmp_path)), n_in=2312)
    before = load_data(network).identity
    assert load_data(network).identity == before
    write(tmp_path / "Test" / "3" / "00003.bin", (1, 1, 1, 1))
    assert load_data(network).identity != before
