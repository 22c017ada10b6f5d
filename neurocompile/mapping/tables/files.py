"""Files of routing tables: the format of the HPSR 2016 benchmark (Mundy, Heathcote, Garside), also xz-compressed.

Little-endian, table after table: x (u8), y (u8), number of entries (u16), then four u32 an entry: key, mask, source, route. Bits 0-5 of
source and route are the links E, NE, N, W, SW, S, bits 6 and up the chip's cores; source says where packets come from (0: not known).
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import write_atomically

UInt32Array = npt.NDArray[np.uint32]

_XZ_MAGIC = b"\xfd7zXZ\x00"
_HEAD, _ROW = 4, 16
_MOST_BYTES = 1 << 30  # a file of 256 x 256 chips with 1,024 entries each has this size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableFile:
    """The table of one chip; arrays are uint32 (n,), in order of match."""

    x: int
    y: int
    key: UInt32Array
    mask: UInt32Array
    source: UInt32Array
    route: UInt32Array

    @property
    def default(self) -> npt.NDArray[np.bool_]:
        """Entries that default routing makes unnecessary: packets come over one link and leave over the one opposite to it."""
        found = np.zeros(len(self.key), bool)
        for link in range(6):
            found |= (self.source == 1 << link) & (self.route == 1 << (link + 3) % 6)
        return found


def read_tables(path: str | Path) -> tuple[TableFile, ...]:
    """Read a file of tables; whether it is compressed is seen from its first bytes.

    Raises
    ------
    InputError
        NC170: cannot be read, damaged compression, ends inside a table, a chip twice, a key with bits that its mask ignores.
    """
    try:
        raw = Path(path).read_bytes()
        if raw[: len(_XZ_MAGIC)] == _XZ_MAGIC:
            decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
            raw = decompressor.decompress(raw, _MOST_BYTES)
            if not decompressor.eof or decompressor.unused_data:
                raise _bad(path, "the xz stream is cut off, longer than 1 GiB, or followed by other bytes")
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from None
    except lzma.LZMAError as error:
        raise _bad(path, f"damaged xz compression ({error})") from None
    tables: list[TableFile] = []
    seen: set[tuple[int, int]] = set()
    at = 0
    while at < len(raw):
        if len(raw) - at < _HEAD:
            raise _bad(path, f"table {len(tables)} at byte {at}: {len(raw) - at} bytes are left, the head of a table has {_HEAD}")
        x, y, n = raw[at], raw[at + 1], int.from_bytes(raw[at + 2 : at + 4], "little")
        if len(raw) - at - _HEAD < _ROW * n:
            left = len(raw) - at - _HEAD
            raise _bad(path, f"table {len(tables)} of chip ({x}, {y}) at byte {at}: {n} entries take {_ROW * n} bytes, {left} are left")
        if (x, y) in seen:
            raise _bad(path, f"table {len(tables)} at byte {at}: chip ({x}, {y}) has a table already")
        seen.add((x, y))
        rows = np.frombuffer(raw, "<u4", 4 * n, at + _HEAD).reshape(n, 4).astype(np.uint32)
        key, mask, source, route = (np.ascontiguousarray(column) for column in rows.T)
        loose = np.flatnonzero(key & ~mask)
        if len(loose):
            i = int(loose[0])
            raise _bad(
                path,
                f"chip ({x}, {y}), entry {i}: key {int(key[i]):#010x} has bits that mask {int(mask[i]):#010x} ignores: it matches nothing",
            )
        tables.append(TableFile(x=x, y=y, key=key, mask=mask, source=source, route=route))
        at += _HEAD + _ROW * n
    return tuple(tables)


def table_bytes(tables: Iterable[TableFile]) -> bytes:
    """The file of some tables, not compressed."""
    blocks = []
    for t in tables:
        rows = np.stack([t.key, t.mask, t.source, t.route], axis=1).astype("<u4")
        blocks.append(bytes([t.x, t.y]) + len(t.key).to_bytes(2, "little") + rows.tobytes())
    return b"".join(blocks)


def write_tables(path: str | Path, tables: Iterable[TableFile]) -> int:
    """Write a file of tables, whole or not at all; xz-compressed if its name ends in ``.xz``. Return its size in bytes."""
    content = table_bytes(tables)
    if str(path).endswith(".xz"):
        content = lzma.compress(content, format=lzma.FORMAT_XZ)
    write_atomically(path, content)
    return len(content)


def _bad(path: str | Path, what: str) -> InputError:
    found = InputError.of(
        "NC170",
        f"not a file of routing tables: {what}",
        file=str(path),
        help="docs/cli.md (minimise) shows the format; `.xz` files are recognised by their content",
    )
    assert isinstance(found, InputError)
    return found
