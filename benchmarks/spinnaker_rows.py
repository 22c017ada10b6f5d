"""Instructions and cycles of what sPyNNaker does for a packet and for a row of synapses: the wheel's own machine code in qemu-arm.

python benchmarks/spinnaker_rows.py

Needs sPyNNaker 7.4.1, qemu-arm and binutils for ARM (Debian: qemu-user, binutils-arm-none-eabi). A packet's way through a core is walked
function by function as the interrupts would call them: the packet's interrupt puts its key into a buffer and asks for a user event; that
looks the key up in the population table and has the row fetched; the DMA's interrupt takes the next key, has that row fetched, and hands
the one that has come to the synapses; a changed row is written back, and that transfer's interrupt is taken too. Controllers are memory
here, so no time passes in them: a transfer runs beside the core's code. Every instruction is logged, weighted as in spinnaker_eprop.py;
those of the synapse dynamics are left out, which our own C replaces. Prints JSON.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
BINARY = "IF_curr_exp_stdp_mad_pair_additive.aplx"
SHA256 = "36834f0a6c8e94852cb4148b5bd18769abea4021caa77d3d77ccd4a0aef6a1e2"
PACKET, USER, TRANSFERRED = 0x72A4, 0x76A4, 0x741C
"""Interrupts of a packet, of a user event and of a DMA transfer, each with all that it calls"""
ENTRIES = {PACKET: 0x72D4, USER: 0x7704, TRANSFERRED: 0x74A0}
"""Their first and last instructions, which only an interrupt can execute"""
DYNAMICS = (0x3CAC, 0x40B4)
"""The rule's part of a row, which the extension replaces"""
THUMB = ((0x6F00, 0x6FA4), (0x70AC, 0x712C), (0x71A4, 0x71F4))
STATE, TABLE, CALLBACKS = 0x4001FC, 0x40026C, 0x400464
"""Of spike processing, of the population table and of the events' callbacks"""
POPULATIONS = 16
"""Entries of the population table, which is searched by halves: four comparisons"""
COLOUR_BITS = 4
KEY = 0x1000
TRANSFER_BINARY, TRANSFER, TRANSFER_STATE = "IF_curr_delta.aplx", 0x2840, 0x400168
TRANSFER_SHA256 = "9e991ac64c9eebc2f34a53e93ff667bad9b3ef112a16d4d91ac1605fd660dbcd"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = made
    spec.loader.exec_module(made)
    return made


machine_code = module(ROOT / "tests" / "backends" / "spinnaker" / "machine_code.py")
cost = module(ROOT / "benchmarks" / "spinnaker_eprop.py").cost


class Core:
    """A core with a population table and rows, between two spikes. calls : kinds of the calls so far, as they are logged."""

    def __init__(self, folder: Path) -> None:
        path = machine_code.binary(BINARY)
        assert path is not None
        self.folder, self.log = folder, folder / "log"
        self.machine = machine_code.Machine(path, folder, SHA256, self.log)
        self.calls: list[str] = []
        write, place = self.machine.write, self.machine.place
        for first, last in ENTRIES.items():
            write(first, 0xE1A0E00E)  # mov lr, lr for sub lr, lr, #4
            (word,) = self.machine.read(last, np.uint32, 1)
            write(last, int(word) & ~(1 << 22))  # ldm without its ^
        for event, callback in ((0, 0x2FE4), (1, 0x46B0), (4, 0x2FB0)):
            write(CALLBACKS + 8 * event, callback)
            write(CALLBACKS + 8 * event + 4, -1 if event == 0 else 0)
        write(0x4002C4, 0x2D68)  # who is told of rows that have been read
        write(0x4000F4, 77)  # the tick
        write(0x4004B8, 1)  # a transfer's number; 0 says that there is no room for it
        self.ring = place(np.zeros(1 << 14, np.uint16))
        buffer = place(np.concatenate([[255], np.zeros(259)]).astype(np.uint32))
        self.rows = [place(np.zeros(80, np.uint32)) for _ in range(2)]
        write(STATE, np.zeros(28, np.uint32))
        write(STATE + 8, buffer)
        write(STATE + 52, self.rows[0])
        write(STATE + 76, self.rows[1])
        write(STATE + 80, 2)
        entries = np.zeros((POPULATIONS, 5), np.uint32)
        for i in range(POPULATIONS):  # key, mask, place and bits of the colour | rows, neurons' mask and shift, neurons a core
            entries[i] = (KEY * (i + 1), 0xFFFFF000, i | COLOUR_BITS << 13 | 1 << 16, 0x0 | 12 << 16, 128)
        addresses = place(np.full(POPULATIONS, 61, np.uint32) | np.arange(POPULATIONS, dtype=np.uint32) << 8)
        bits = place(np.full(POPULATIONS, place(np.full(8, 0xFFFFFFFF, np.uint32)), np.uint32))
        for offset, value in ((0, POPULATIONS), (4, bits), (12, place(entries)), (16, addresses), (20, 0x60000000)):
            write(TABLE + offset, value)

    def row(self, n_fixed: int, *, plastic: bool) -> None:
        """Put into both buffers what a DMA would bring: a row with static synapses, or one with a plastic part without any."""
        head = [2, 0, 0] if plastic else [0]
        words = np.array([*head, n_fixed, 0, *([1 << 16] * n_fixed)], np.uint32)
        for at in self.rows:
            self.machine.write(at, words)

    def call(self, kind: str, function: int) -> None:
        self.calls.append(kind)
        self.machine.call(function)

    def packet(self, kind: str, population: int, neuron: int) -> None:
        self.machine.write(0x20000014, KEY * (population + 1) + (neuron << COLOUR_BITS))
        self.call(kind, PACKET)

    def counts(self) -> list[dict[str, int]]:
        """Return instructions and cycles of each call."""
        self.machine.end()
        found = executed(self.log, code(self.folder / "itcm.bin", THUMB), without=DYNAMICS)
        assert len(found) == len(self.calls), (len(found), len(self.calls))
        return found


def executed(log: Path, listing: dict[int, tuple[str, str, int]], without: tuple[int, int] = (0, 0)) -> list[dict[str, int]]:
    """Return instructions and cycles of each stay in the binary's code."""
    found: list[dict[str, int]] = []
    inside, previous = False, 0
    for line in log.read_text().splitlines():
        place = re.match(r"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/", line)
        if place is None:
            continue
        at = int(place[1], 16)
        if at >= 0x8000:
            inside = False
            continue
        if not inside:
            found.append({"instructions": 0, "cycles": 2})  # an exception refills the pipeline as a branch does
            inside, previous = True, 0
        if without[0] <= at < without[1]:
            previous = at
            continue
        name, operands, size = listing[at]
        found[-1]["instructions"] += 1
        found[-1]["cycles"] += cost(name, operands) + (2 if previous and at != previous + size else 0)
        previous = at
    return found


def transfer() -> dict[str, float]:
    """Return instructions and cycles of taking a neuron's input of a tick from the ring buffers of two receptors."""
    path = machine_code.binary(TRANSFER_BINARY)
    assert path is not None
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        machine = machine_code.Machine(path, Path(name), TRANSFER_SHA256, log)
        ring, inputs = machine.place(np.full(512, 3, np.uint16)), machine.place(np.zeros(512, np.int32))
        shifts = machine.place(np.array([4, 5], np.uint32))
        for n in (128, 64):
            for offset, value in ((88, inputs), (96, n), (120, n), (124, 2), (132, shifts)):
                machine.write(TRANSFER_STATE + offset, value)
            machine.call(TRANSFER, ring)
        machine.end()
        many, few = executed(log, code(Path(name) / "itcm.bin", ()))
    return {unit: (many[unit] - few[unit]) / 64 for unit in many}


def code(image: Path, thumbs: tuple[tuple[int, int], ...]) -> dict[int, tuple[str, str, int]]:
    """Return (mnemonic, operands, bytes) by address; thumbs : where instructions have 16 bits."""
    found = {}
    for thumb in (False, True):
        words = ["arm-none-eabi-objdump", "-D", "-b", "binary", "-m", "arm", *(["-M", "force-thumb"] if thumb else []), str(image)]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        for at, raw, name, operands in re.findall(r"^\s*([0-9a-f]+):\t([0-9a-f ]+?) *\t(\S+)(?:\t([^\n;@]*))?", printed, re.MULTILINE):
            place = int(at, 16)
            if thumb == any(first <= place < last for first, last in thumbs):
                found[place] = (name, operands or "", len(raw.replace(" ", "")) // 2)
    return found


def walk(n_fixed: int, *, plastic: bool) -> dict[str, dict[str, int]]:
    """Return instructions and cycles of the calls for a packet alone, and for one of several that wait: packet, user, transfer (read),
    written; waiting packet, transfer."""
    with tempfile.TemporaryDirectory() as name:
        core = Core(Path(name))
        core.row(n_fixed, plastic=plastic)
        worst = POPULATIONS - 1
        for neuron in (3, 4):  # the first time the way is another; a row that is still there would not be fetched again
            core.packet("packet", worst, neuron)
            core.call("user", USER)
            core.call("transfer", TRANSFERRED)
            if plastic:
                core.call("written", TRANSFERRED)
        core.packet("packet", worst, 5)
        core.call("user", USER)
        for neuron in (6, 7):  # the first one's row is fetched, the other's is not yet
            core.packet("waiting packet", worst, neuron)
        core.call("waiting transfer", TRANSFERRED)
        counted = core.counts()
        return dict(zip(core.calls, counted, strict=True))


def measure() -> dict[str, Any]:
    """Return cycles of a packet and of a row, plastic and static, of a static synapse, and of a neuron's input."""
    plastic, bare, full = walk(0, plastic=True), walk(1, plastic=False), walk(61, plastic=False)
    found: dict[str, Any] = {"calls": {"plastic": plastic, "static": bare}}
    input_of_neuron = transfer()
    for unit in ("instructions", "cycles"):
        row = plastic["waiting transfer"][unit] + plastic["written"][unit]
        alone = sum(plastic[k][unit] for k in ("packet", "user", "transfer", "written"))
        synapse = (full["transfer"][unit] - bare["transfer"][unit]) / 60
        found[unit] = {
            "packet": max(alone - row, plastic["waiting packet"][unit]),
            "row": row,
            "static row": bare["waiting transfer"][unit] - synapse,
            "static synapse": synapse,
            "transfer": input_of_neuron[unit],
        }
    return found


if __name__ == "__main__":
    if machine_code.binary(BINARY) is None:
        sys.exit("needs sPyNNaker's binaries, qemu-arm and binutils for ARM")
    print(json.dumps(measure(), indent=1))
