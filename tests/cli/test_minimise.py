"""``minimise``: files of routing tables in and out, and what is refused."""

from __future__ import annotations

import lzma
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Row = tuple[int, int, int, int]
FULL = 0xFFFFFFFF


def table(x: int, y: int, rows: list[Row]) -> bytes:
    """A table in the format of the HPSR 2016 benchmark, written from its description."""
    return struct.pack("<BBH", x, y, len(rows)) + b"".join(struct.pack("<4I", *row) for row in rows)


def parsed(raw: bytes) -> dict[tuple[int, int], list[Row]]:
    found, at = {}, 0
    while at < len(raw):
        x, y, n = struct.unpack_from("<BBH", raw, at)
        found[x, y] = [struct.unpack_from("<4I", raw, at + 4 + 16 * i) for i in range(n)]
        at += 4 + 16 * n
    assert at == len(raw)
    return found  # type: ignore[return-value]


def route_of(rows: list[Row], key: int) -> int | None:
    return next((route for k, mask, _, route in rows if key & mask == k), None)


ROWS: list[Row] = [
    (0, FULL, 64, 1),  # from a core to the east
    (3, FULL, 8, 1),  # from the west to the east: default routing
    (4, FULL, 4, 130),
    (5, FULL, 16, 130),
    (6, FULL, 64, 1),
]


@pytest.mark.parametrize("suffix", [".bin", ".bin.xz"])
def test_a_file_comes_back_shorter(tmp_path: Path, call_json: Any, suffix: str) -> None:
    (tmp_path / "in.bin").write_bytes(table(1, 2, ROWS) + table(0, 0, []))
    out = tmp_path / ("out" + suffix)
    result = call_json("minimise", tmp_path / "in.bin", "-o", out)
    found = parsed(lzma.decompress(out.read_bytes()) if suffix.endswith("xz") else out.read_bytes())
    assert found[0, 0] == []
    rows = found[1, 2]
    # 4 and 5 become one; 0 and 6 would catch 4, which is shielded, but no other key: two entries in all, sources joined.
    assert sorted(rows) == [(0, FULL - 6, 64, 1), (4, FULL - 1, 20, 130)]
    assert rows[0][3] == 130
    assert route_of(rows, 3) is None
    assert all(route_of(rows, k) == route for k, _, _, route in ROWS if k != 3)
    assert (result["tables"], result["entries_before"], result["entries_after"]) == (2, 5, 2)
    assert (result["largest_before"], result["largest_after"], result["verified"]) == (5, 2, True)
    assert [(r["x"], r["y"], r["before"], r["after"]) for r in result["by_table"]] == [(1, 2, 5, 2), (0, 0, 0, 0)]
    assert 0 <= result["seconds_per_table_mean"] <= result["seconds_per_table_max"] < 1


def test_compressed_input_is_recognised_by_its_content(tmp_path: Path, call: Any, call_json: Any) -> None:
    raw = table(1, 2, ROWS)
    (tmp_path / "plain.xz").write_bytes(raw)
    (tmp_path / "packed").write_bytes(lzma.compress(raw))
    for name in ("plain.xz", "packed"):
        call_json("minimise", tmp_path / name, "-o", tmp_path / (name + ".out"))
    assert (tmp_path / "plain.xz.out").read_bytes() == (tmp_path / "packed.out").read_bytes()
    code, out, err = call("minimise", tmp_path / "packed", "-o", tmp_path / "again")
    assert (code, err) == (0, "")
    assert "every key verified" in out


def test_what_minimise_wrote_can_be_minimised_again(tmp_path: Path, call_json: Any) -> None:
    """Its tables overlap and are ordered; every key keeps its route, and no table grows."""
    rng = np.random.default_rng(5)
    keys = rng.choice(512, 160, replace=False).tolist()
    rows = [(k, FULL, 64, int(r)) for k, r in zip(keys, rng.integers(1, 12, 160), strict=True)]
    (tmp_path / "in").write_bytes(table(3, 3, rows))
    call_json("minimise", tmp_path / "in", "-o", tmp_path / "once")
    call_json("minimise", tmp_path / "once", "-o", tmp_path / "twice")
    once, twice = (parsed((tmp_path / name).read_bytes())[3, 3] for name in ("once", "twice"))
    assert len(twice) <= len(once) < 160
    for key, _, _, route in rows:
        assert route_of(once, key) == route_of(twice, key) == route


def test_order_decides_where_entries_overlap(tmp_path: Path, call_json: Any) -> None:
    """First match wins in the input: 4 goes to core 2, the rest of 4 .. 7 to core 1; a covered entry says nothing."""
    rows = [(4, FULL, 64, 256), (4, FULL - 3, 64, 128), (5, FULL, 64, 512), (8, FULL, 64, 128)]
    (tmp_path / "in").write_bytes(table(0, 0, rows))
    call_json("minimise", tmp_path / "in", "-o", tmp_path / "out")
    found = parsed((tmp_path / "out").read_bytes())[0, 0]
    assert [route_of(found, k) for k in (4, 5, 6, 7, 8)] == [256, 128, 128, 128, 128]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (table(1, 2, ROWS)[:-1], r"table 0 of chip \(1, 2\) at byte 0: 5 entries take 80 bytes, 79 are left"),
        (table(1, 2, ROWS) + b"\x01\x02\x03", "table 1 at byte 84: 3 bytes are left, the head of a table has 4"),
        (table(1, 2, ROWS) + table(1, 2, []), r"table 1 at byte 84: chip \(1, 2\) has a table already"),
        (table(1, 2, [(3, FULL - 1, 64, 1)]), r"chip \(1, 2\), entry 0: key 0x00000003 has bits that mask 0xfffffffe ignores"),
        (lzma.compress(table(1, 2, ROWS))[:-8], "the xz stream is cut off"),
        (lzma.compress(table(1, 2, ROWS)) + b"more", "followed by other bytes"),
        (lzma.compress(table(1, 2, ROWS))[:20] + b"\x00" * 40, "damaged xz compression|cut off"),
        (b"PK\x03\x04 something else", "bytes, .* are left"),
    ],
)
def test_files_that_are_none(tmp_path: Path, call: Any, content: bytes, says: str) -> None:
    (tmp_path / "in").write_bytes(content)
    code, out, err = call("minimise", tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "NC170" in err
    assert "Traceback" not in err
    assert re.search(says, err)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_a_missing_file_and_a_missing_folder(tmp_path: Path, call: Any) -> None:
    code, _, err = call("minimise", tmp_path / "none", "-o", tmp_path / "out")
    assert (code, "NC170" in err) == (3, True)
    (tmp_path / "in").write_bytes(table(0, 0, ROWS))
    code, _, err = call("minimise", tmp_path / "in", "-o", tmp_path / "no" / "out")
    assert (code, "NC701" in err) == (3, True)
    code, _, err = call("minimise", tmp_path / "in")
    assert code == 2
    code, _, err = call("minimise", tmp_path / "in", "-o", tmp_path / "out", "--time-limit", "0")
    assert code == 2


def test_a_length_that_cannot_be_reached(tmp_path: Path, call: Any, call_json: Any) -> None:
    """Two routes need two entries: one is refused, with numbers, and an older output stays."""
    (tmp_path / "in").write_bytes(table(1, 2, ROWS))
    (tmp_path / "out").write_bytes(b"older")
    code, _, err = call("minimise", tmp_path / "in", "-o", tmp_path / "out", "--target-length", "1")
    assert code == 4
    assert "NC404" in err
    assert "1 of 1 tables are longer than 1 entries; the largest, of chip (1, 2), has 2 (5 before)" in err
    assert (tmp_path / "out").read_bytes() == b"older"
    assert call_json("minimise", tmp_path / "in", "-o", tmp_path / "out", "--target-length", "4")["entries_after"] <= 4
