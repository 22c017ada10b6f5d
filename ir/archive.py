"""Zip archives whose members may come deflated already (zipfile deflates itself, in one thread); bytes as zipfile of Python 3.10."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from types import TracebackType
from typing import IO

STORED, DEFLATED = 0, 8
_PLAIN, _ZIP64 = 20, 45
"""Version that a reader needs."""
_MOST = 0x7FFFFFFF
"""Size or place above which a 64-bit field is needed (some readers take 32-bit ones as signed)."""
_MOST_MEMBERS = 0xFFFF
_UNIX, _MODE = 3, 0o644 << 16
_DATE = 0x0021
"""1980-01-01, the earliest: no time stamps."""
_UTF8 = 0x800


class Archive:
    """Writes members one after the other into a seekable file, and the directory at the end; see :meth:`add`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._directory: list[bytes] = []

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._finish()

    def add(self, name: str, content: Iterable[bytes | memoryview], deflated: Iterable[bytes] | None = None) -> None:
        """Write a member.

        Parameters
        ----------
        content
            The member, in pieces.
        deflated
            The same as a raw deflate stream, in pieces; None: it is stored as it is.
        """
        file, start = self._file, self._file.tell()
        encoded = name.encode()
        flags = 0 if name.isascii() else _UTF8
        file.write(_local(encoded, flags, deflated is not None, 0, 0, 0))
        crc = size = packed = 0
        for raw in content:
            crc, size = zlib.crc32(raw, crc), size + len(raw)
            if deflated is None:
                file.write(raw)
        for piece in () if deflated is None else deflated:
            packed += len(piece)
            file.write(piece)
        packed = size if deflated is None else packed
        end = file.tell()
        file.seek(start)
        file.write(_local(encoded, flags, deflated is not None, crc, packed, size))
        file.seek(end)
        self._directory.append(_central(encoded, flags, deflated is not None, crc, packed, size, start))

    def _finish(self) -> None:
        start, n = self._file.tell(), len(self._directory)
        length = sum(map(len, self._directory))
        self._file.write(b"".join(self._directory))
        if n > _MOST_MEMBERS or start > _MOST or length > _MOST:
            self._file.write(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, _ZIP64, _ZIP64, 0, 0, n, n, length, start))
            self._file.write(struct.pack("<4sIQI", b"PK\6\7", 0, start + length, 1))
        short = min(n, _MOST_MEMBERS)
        ends = min(length, 0xFFFFFFFF), min(start, 0xFFFFFFFF) if start <= _MOST else 0xFFFFFFFF
        self._file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, short, short, *ends, 0))


def _local(name: bytes, flags: int, deflated: bool, crc: int, packed: int, size: int) -> bytes:
    """Return a member's header, which has room for 64-bit sizes whatever they are: it is written before they are known."""
    large = max(packed, size) > _MOST
    sizes = (0xFFFFFFFF, 0xFFFFFFFF) if large else (packed, size)
    version, method = _ZIP64 if large else _PLAIN, DEFLATED if deflated else STORED
    head = struct.pack("<4s5H3I2H", b"PK\3\4", version, flags, method, 0, _DATE, crc, *sizes, len(name), 20)
    return head + name + struct.pack("<HHQQ", 1, 16, size, packed)


def _central(name: bytes, flags: int, deflated: bool, crc: int, packed: int, size: int, start: int) -> bytes:
    """Return a member's entry of the directory."""
    far = [size, packed] if max(packed, size) > _MOST else []
    sizes = (0xFFFFFFFF, 0xFFFFFFFF) if far else (packed, size)
    place = start
    if start > _MOST:
        far, place = [*far, start], 0xFFFFFFFF
    extra = struct.pack(f"<HH{len(far)}Q", 1, 8 * len(far), *far) if far else b""
    version, method = _ZIP64 if far else _PLAIN, DEFLATED if deflated else STORED
    head = struct.pack("<4s2B5H3I", b"PK\1\2", version, _UNIX, version, flags, method, 0, _DATE, crc, *sizes)
    head += struct.pack("<5H2I", len(name), len(extra), 0, 0, 0, _MODE, place)
    return head + name + extra


__all__ = ["Archive"]
