"""Parts of the wheel's own binaries, run in qemu-arm: what a SpiNNaker core computes, without a SpiNNaker core."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

ARENA = 0x30000000
"""Where memory for a test's own data begins (1 MiB)."""
_LINK = """
ENTRY(_start)
SECTIONS {
  .itcm 0x0 : { *(.itcm) }
  .dtcm 0x400000 : { *(.dtcm) }
  .text 0x10000000 : { *(.text) }
  .vic 0x1f000000 (NOLOAD) : { *(.vic) }
  .comms 0x20000000 (NOLOAD) : { *(.comms) }
  .arena 0x30000000 (NOLOAD) : { *(.arena) }
  .dma 0x40000000 (NOLOAD) : { *(.dma) }
  /DISCARD/ : { *(.ARM.attributes) }
}
"""
_IMAGES = '.section .itcm,"awx",%progbits\n.incbin "itcm.bin"\n.section .dtcm,"aw",%progbits\n.incbin "dtcm.bin"\n'
_DEVICES = "".join(f'.section .{name},"aw",%nobits\n.space 512\n' for name in ("vic", "comms", "dma"))
"""Registers of the interrupt, communications and DMA controllers, as memory: nothing happens there"""


def binary(name: str) -> Path | None:
    """Return a binary of the installed sPyNNaker, None if there is none or what runs it is missing."""
    package = importlib.util.find_spec("spynnaker")
    if package is None or package.origin is None or not (shutil.which("qemu-arm") and shutil.which("arm-none-eabi-ld")):
        return None
    path = Path(package.origin).parent / "pyNN/model_binaries" / name
    return path if path.is_file() else None


class Machine:
    """A core with a binary in its memories. sha256 : of the binary whose addresses the caller knows; log : where each executed instruction
    is logged, None: not at all."""

    def __init__(self, path: Path, folder: Path, sha256: str, log: Path | None = None) -> None:
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == sha256, f"{path.name} is another build: its addresses are not known"
        images, place = {}, 0
        while True:  # a table of (command, destination, offset from this entry, length), then the images
            command, destination, offset, length = struct.unpack_from("<4I", data, place)
            if command == 4:
                break
            if command == 2:
                images[destination] = data[place + offset : place + offset + length]
            place += 16
        (folder / "itcm.bin").write_bytes(images[0])
        (folder / "dtcm.bin").write_bytes(images[0x400000].ljust(0x10000, b"\0"))
        (folder / "link.ld").write_text(_LINK)
        (folder / "images.s").write_text(_IMAGES + _DEVICES)
        driver = Path(__file__).with_name("machine_driver.s")
        subprocess.run(["arm-none-eabi-as", str(driver), "images.s", "-o", "core.o"], cwd=folder, check=True)
        subprocess.run(["arm-none-eabi-ld", "-T", "link.ld", "core.o", "-o", "core.elf"], cwd=folder, check=True)
        logged = [] if log is None else ["-singlestep", "-d", "exec,nochain", "-D", str(log)]
        self._core = subprocess.Popen(["qemu-arm", *logged, str(folder / "core.elf")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._free = ARENA

    def end(self) -> None:
        """Let the program end, so that its log is complete."""
        self._core.communicate(timeout=60)

    def close(self) -> None:
        self._core.kill()
        self._core.communicate()

    def _ask(self, message: bytes, n: int) -> bytes:
        assert self._core.stdin is not None
        assert self._core.stdout is not None
        self._core.stdin.write(message)
        if not n:
            return b""
        self._core.stdin.flush()
        answer = self._core.stdout.read(n)
        assert len(answer) == n, f"the core ended with {self._core.wait()}"
        return answer

    def write(self, address: int, values: Any) -> None:
        """Write an array, or one word."""
        data = struct.pack("<I", values & 0xFFFFFFFF) if isinstance(values, int) else np.ascontiguousarray(values).tobytes()
        self._ask(struct.pack("<3I", ord("W"), address, len(data)) + data, 0)

    def read(self, address: int, dtype: Any, n: int) -> Any:
        size = np.dtype(dtype).itemsize * n
        return np.frombuffer(self._ask(struct.pack("<3I", ord("R"), address, size), size), dtype)

    def call(self, function: int, *arguments: int) -> int:
        words = [a & 0xFFFFFFFF for a in arguments] + [0] * (6 - len(arguments))
        return int(struct.unpack("<I", self._ask(struct.pack("<8I", ord("C"), function, *words), 4))[0])

    def place(self, values: Any) -> int:
        """Put an array into free memory and return its address."""
        data = np.ascontiguousarray(values)
        address, self._free = self._free, self._free + (data.nbytes + 15) // 8 * 8
        assert self._free < ARENA + (1 << 20)
        self.write(address, data)
        return address
