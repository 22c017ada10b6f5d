"""Instructions and cycles of e-prop on a SpiNNaker core: the emitted C, compiled for ARM968, counted in qemu-arm's user mode.

python benchmarks/spinnaker_eprop.py [--neurons 64] [--synapses 64] [--state-bits 16] [--generic]

Needs arm-none-eabi-gcc and qemu-arm (Debian: gcc-arm-none-eabi, qemu-user). Every instruction that is executed is logged and looked up
in the listing. Cycles are a bound from above by the instruction timings of the ARM9E-S Technical Reference Manual (DDI 0165B, chapter 8):
every load and multiplication with its interlock, every taken branch with its refill; memory without wait states (ITCM and DTCM). What
sPyNNaker does for a packet and a row comes from the machine file (spinnaker_rows.py counts it). Also prints the extension's code and data
(arm-none-eabi-size). Prints JSON.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.backends.spinnaker.eprop.cycles import stretches_per_second
from neurocompile.backends.spinnaker.eprop.formats import Neurons, adapting, lower_neurons
from neurocompile.backends.spinnaker.eprop.ranges import Rule
from neurocompile.backends.spinnaker.eprop.rows import SWEEP
from neurocompile.backends.spinnaker.eprop.scales import Scales, choose_scales
from neurocompile.ir import ALIF, LIF, Reset, Surrogate, SurrogateKind
from neurocompile.ir._types import FloatArray
from neurocompile.machine import load_machine

CLOCK_PER_STEP = 200_000
"""Cycles of a step of 1 ms at 200 MHz"""
REAL_TIME = 0.7
"""Part of a step that neurons, synapses, rows and packets may take; the rest is for what is not counted: recording, the timer's interrupt
and callbacks, packets that find no row, contention for SDRAM and links"""
PACKET_INTERRUPT = 68
"""Cycles of a packet's interrupt, with a handler that puts it into a buffer (spinnaker_rows.py: waiting packet)"""
SHIM = Path(__file__).parents[1] / "tests" / "backends" / "spinnaker" / "eprop" / "shim"
"""The tests' stand-ins for sPyNNaker's headers"""
FLAGS = ["-mcpu=arm968e-s", "-marm", "-std=c11", "-O2", "-ffreestanding", "-nostdlib", "-static", "-Wall", "-Wextra", "-Werror"]
ROW_FLAGS = [
    "-fhosted",
    "-fno-tree-loop-distribute-patterns",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wl,--gc-sections",
    "-Wno-unused-function",
    "-Wno-type-limits",
]
PARTS = {"fold": 0, "catch_up": 1, "update": 2, "hear": 3}
ROW_PARTS = {"row": 4, "sweep": 5, "held_tick": 6, "held_spike": 7}
"""Of spinnaker_eprop_rows.c: the extension's functions as sPyNNaker calls them"""
RUNS = {"fold": 128, "catch_up": 4, "update": 64, "hear": 10, "row": 4, "sweep": 4, "held_tick": 8, "held_spike": 8}
"""Repetitions; folds over four blocks, with the composition of their totals"""
SMALL = ("fold", "update", "hear")
"""What a build compiles for size where neurons adapt"""
READOUTS = 10
SCALE = 16.0
"""S of the neurons whose cycles are counted"""


def build(
    folder: Path, part: str, runs: int, *, neurons: int, synapses: int, state_bits: int, reg: float, adaptive: bool, generic: bool
) -> Path:
    """Compile the counting program; return it."""
    rule = Rule(
        alpha=0.951, kappa=0.97, kappa_reg=0.97, height=0.3, learning_rate=1e-3, weight_unit=2.0**-14, interval=5.0, signal=1.0, reg=reg
    )
    cells, adaptation = adapting(lowered(rule.height, adaptive=adaptive), SCALE, rule.height)
    scales = choose_scales(replace(rule, adaptation=adaptation), state_bits=state_bits)
    tables = ["{" + ", ".join(map(str, table.tolist())) + "}" for table in scales.tables().values()]
    values = ", ".join([*tables, *map(str, scales.constants().values())])
    (folder / "scales.h").write_text(f"#define SCALES {{{values}}}\n{neuron_numbers(scales, cells)}")
    (folder / "numbers.h").write_text("static const eprop_scales_t eprop_fixed_scales = SCALES;\n")
    program = folder / f"{part}-{runs}"
    of_rows = part in ROW_PARTS
    named = {
        "PART": ROW_PARTS[part] if of_rows else PARTS[part],
        "RUNS": runs,
        "NEURONS": neurons,
        "SYNAPSES": synapses,
        "EPROP_STATE_BITS": state_bits,
        "EPROP_ADAPTIVE": int(adaptive),
        "READOUTS": READOUTS,
        "WAIT": 1,
    }
    own = Path(__file__)
    source = own.with_name("spinnaker_eprop_rows.c") if of_rows else own.with_suffix(".c")
    numbers = [] if generic else ['-DEPROP_NUMBERS="numbers.h"']
    with resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include:
        words = [
            "arm-none-eabi-gcc",
            *FLAGS,
            *(["-DGENERIC"] if generic else []),
            *([*ROW_FLAGS, f"-I{SHIM}"] if of_rows else []),
            *numbers,
            *(["-Os"] if adaptive and part in SMALL else []),
            *(f"-D{k}={v}" for k, v in named.items()),
            f"-I{include}",
            f"-I{folder}",
            str(source),
        ]
        subprocess.run([*words, "-lgcc", "-o", str(program)], check=True)
    return program


def lowered(height: float, *, adaptive: bool) -> Neurons:
    """Return a neuron's integers: threshold 16 in s16.15, a width that is no power of two, soft reset; adaptive: beta of 0.0174 of the
    threshold, 2 s."""
    surrogate = Surrogate(kind=SurrogateKind.PIECEWISE_LINEAR, height=height, width=1.1)
    model = LIF(tau_mem=0.02, v_threshold=1.0, reset=Reset.SUBTRACT)
    if adaptive:
        model = ALIF(tau_mem=0.02, v_threshold=1.0, reset=Reset.SUBTRACT, adapt_beta=0.0174, adapt_tau=2.0)
    return lower_neurons(model, 1, 1e-3, SCALE, surrogate)


def neuron_numbers(scales: Scales, neurons: Neurons) -> str:
    """Return CELLS and CELL of a population in C."""
    hold = "{1000000000, 40}" if scales.reg_max else "{0, 1}"
    fields = {
        "flags": "EPROP_FLAG_SUBTRACT | EPROP_FLAG_LEARNS",
        "reach": neurons.reach,
        "position": f"{{{neurons.position.mantissa}, {neurons.position.shift}}}",
        "rate_decay": 2100000000,
        "rate_step": 20000000,
        "rate_target": 10000000,
        "hold": hold,
        "signal": "{1000000000, 40}",
        "table": "{" + ", ".join(map(str, neurons.table.tolist())) + "}",
    }
    names = ("decay", "current_decay", "adapt_decay", "bias", "v_min", "threshold", "v_reset", "adapt_step", "leak", "refractory")
    cell = ", ".join(str(int(getattr(neurons, name)[0])) for name in (*names, "initial_current"))
    cells = ", ".join(f".{name} = {value}" for name, value in fields.items())
    return f"#define CELLS {{{cells}}}\n#define CELL {{{cell}}}\n"


def sizes(*, state_bits: int, adaptive: bool) -> dict[str, int]:
    """Return bytes of code (with constants) and of data of the extension alone, with the tests' stand-ins for sPyNNaker's headers."""
    found = {"text": 0, "data": 0, "bss": 0}
    with (
        tempfile.TemporaryDirectory() as name,
        resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include,
    ):
        (Path(name) / "neurons.c").write_text(
            '#include "neuron_impl_eprop.h"\nvoid *kept[] = {neuron_impl_initialise, neuron_impl_add_inputs, '
            "neuron_impl_load_neuron_parameters, neuron_impl_store_neuron_parameters, neuron_impl_do_timestep_update, neuron_impl_get_v};\n"
        )
        for source in (Path(name) / "neurons.c", include / "synapse_dynamics_eprop.c", include / "synaptogenesis_eprop.c"):
            made = Path(name) / "made.o"
            flags = [flag for flag in FLAGS if flag not in ("-ffreestanding", "-nostdlib", "-static")]
            words = [
                "arm-none-eabi-gcc",
                *flags,
                "-c",
                f"-DEPROP_STATE_BITS={state_bits}",
                f"-DEPROP_ADAPTIVE={int(adaptive)}",
                f"-I{SHIM}",
                f"-I{include}",
                str(source),
            ]
            subprocess.run([*words, "-o", str(made)], check=True)
            printed = subprocess.run(["arm-none-eabi-size", str(made)], check=True, capture_output=True, text=True).stdout
            for key, value in zip(found, printed.splitlines()[1].split(), strict=False):
                found[key] += int(value)
    return found


def executed(program: Path) -> tuple[collections.Counter[str], int]:
    """Run a program; return (mnemonic -> times executed, cycles at most)."""
    listing = subprocess.run(["arm-none-eabi-objdump", "-d", str(program)], check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^\s*([0-9a-f]+):\t[0-9a-f]{8} +\t(\S+)(?:\t([^\n;@]*))?", listing, re.MULTILINE)
    code = {int(at, 16): (name, operands or "") for at, name, operands in found}
    log = program.with_suffix(".log")
    subprocess.run(["qemu-arm", "-singlestep", "-d", "exec,nochain", "-D", str(log), str(program)], check=True)
    counts: collections.Counter[str] = collections.Counter()
    cycles, previous = 0, 0
    for line in log.read_text().splitlines():
        place = re.match(r"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/", line)
        if place is None:
            continue
        at = int(place[1], 16)
        if at not in code:
            continue
        name, operands = code[at]
        counts[name] += 1
        cycles += cost(name, operands) + (2 if previous and at != previous + 4 else 0)
        previous = at
    return counts, cycles


def cost(name: str, operands: str) -> int:
    """Cycles of an instruction with its interlock, without a branch's refill."""
    if name.startswith(("ldm", "stm", "pop", "push")):
        registers = operands[operands.find("{") + 1 : operands.find("}")].split(",")
        return (
            sum(
                1 + (int(r.split("-")[1].strip()[1:]) - int(r.split("-")[0].strip()[1:]) if re.match(r"\s*r\d+-r\d+", r) else 0)
                for r in registers
            )
            + 1
        )
    if name.startswith(("smull", "umull", "smlal", "umlal", "mul", "mla", "ldrd", "ldrh", "ldrb", "ldrs")):
        return 3
    if name.startswith("ldr"):
        return 2
    shifted = re.search(r"\b(lsl|lsr|asr|ror) r\d+", operands)  # by a register
    return 2 if shifted or (name.startswith(("lsl", "lsr", "asr")) and operands.count("r") == 3) else 1


def measure(*, neurons: int, synapses: int, state_bits: int, reg: float, adaptive: bool, generic: bool) -> dict[str, Any]:
    """Return instructions and cycles of each part: of a neuron and step fold, update and hear (of each readout); of a synapse spike and
    catch_up (a stretch); beside its synapses, of a row row (its spike), sweep and stretch; of a core error_packet; of a neuron, tick and
    key that waits held; of a spike and key send (and keep until then)."""
    options: dict[str, Any] = {"neurons": neurons, "synapses": synapses, "state_bits": state_bits, "reg": reg}
    options |= {"adaptive": adaptive, "generic": generic}
    one = {
        "fold": counted("fold", options) / neurons,
        "update": counted("update", options) / neurons,
        "sweep": counted("sweep", options | {"synapses": 1}),
    }
    one["spike"], one["row"] = line("row", "synapses", (1, synapses), options)
    one["catch_up"], one["stretch"] = line("catch_up", "synapses", (1, synapses), options)
    one["hear"], one["error_packet"] = line("hear", "neurons", (neurons // 2, neurons), options)
    waits = counted("held_tick", options)
    one["held"], one["send"] = waits / neurons, (counted("held_spike", options) - waits) / neurons
    return {part: {"instructions": float(found[0]), "cycles": float(found[1])} for part, found in one.items()}


def counted(part: str, options: dict[str, Any]) -> FloatArray:
    """Return instructions and cycles of one repetition of a part, (2,)."""
    with tempfile.TemporaryDirectory() as name:
        none, more = (executed(build(Path(name), part, runs, **options)) for runs in (1, 1 + RUNS[part]))
    return np.array([more[0].total() - none[0].total(), more[1] - none[1]]) / RUNS[part]


def line(part: str, count: str, between: tuple[int, int], options: dict[str, Any]) -> tuple[FloatArray, FloatArray]:
    """Return what one more of ``count`` takes, and what the part takes without any: slope and intercept."""
    few, many = (counted(part, options | {count: n}) for n in between)
    slope = (many - few) / (between[1] - between[0])
    return slope, few - between[0] * slope


def neurons_per_core(cycles: dict[str, float], around: dict[str, float], *, rate: float, inputs: int, sources: int | None) -> int:
    """Return how many neurons fit a core in real time, with ten readouts: each is updated, sends its spikes under one key and has
    ``inputs`` synapses, whose sources all spike at ``rate``.

    around : cycles of sPyNNaker's code: packet, row, transfer (a neuron's input from the ring buffers). sources : that neurons draw their
    inputs from at random, so that a core hears almost all of them; None: all neurons have the same inputs (dense), one row each.
    """
    hz = np.array([rate])
    stretches = float(stretches_per_second(hz, 1e-3)[0])
    neuron = 1000 * (around["transfer"] + cycles["fold"] + cycles["update"] + READOUTS * cycles["hear"]) + rate * cycles["send"]
    neuron += inputs * (rate * cycles["spike"] + stretches * cycles["catch_up"])
    source = rate * (around["packet"] + around["row"] + cycles["row"])
    source += (around["row"] + cycles["sweep"]) * 1000 / SWEEP + stretches * cycles["stretch"]
    left = REAL_TIME * CLOCK_PER_STEP * 1000 - READOUTS * 1000 * (PACKET_INTERRUPT + cycles["error_packet"])

    def taken(n: int) -> float:
        heard = inputs if sources is None else sources * (1 - (1 - inputs / sources) ** n)
        return n * neuron + heard * source

    n = 0
    while taken(n + 1) <= left:
        n += 1
    return n


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neurons", type=int, default=64)
    parser.add_argument("--synapses", type=int, default=64, help="of a row")
    parser.add_argument("--state-bits", type=int, default=16, choices=(16, 32))
    parser.add_argument("--generic", action="store_true", help="the compiler does not know the rule's numbers")
    given = parser.parse_args()
    missing = [tool for tool in ("arm-none-eabi-gcc", "qemu-arm") if shutil.which(tool) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 5
    machine = load_machine("spin5")
    around = {part: machine.value(f"core.{part}_cycles") for part in ("packet", "row", "transfer")}
    result: dict[str, Any] = {
        "neurons": given.neurons,
        "synapses": given.synapses,
        "state_bits": given.state_bits,
        "rules": {},
        "extension_bytes": {kind: sizes(state_bits=given.state_bits, adaptive=kind == "adaptive") for kind in ("lif", "adaptive")},
    }
    for name, reg, adaptive in (
        ("without_regularisation", 0.0, False),
        ("with_regularisation", 0.5, False),
        ("adaptive_without_regularisation", 0.0, True),
        ("adaptive_with_regularisation", 0.5, True),
    ):
        options: dict[str, Any] = {"neurons": given.neurons, "synapses": given.synapses, "state_bits": given.state_bits}
        found = measure(**options, reg=reg, adaptive=adaptive, generic=given.generic)
        cycles = {part: counts["cycles"] for part, counts in found.items()}
        found["neurons_per_core"] = {
            kind: {
                f"{rate} Hz": {
                    str(inputs): neurons_per_core(cycles, around, rate=rate, inputs=inputs, sources=sources)
                    for inputs in (100, 250, 500, 1000)
                }
                for rate in (1, 5, 10, 20, 50)
            }
            for kind, sources in (("dense", None), ("random_from_2000", 2000))
        }
        result["rules"][name] = found
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
