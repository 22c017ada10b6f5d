"""Counts of instructions on a SpiNNaker core: they are what the machine files say, and neurons a core follow from them."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from neurocompile.backends.spinnaker.eprop.cycles import source_cycles
from neurocompile.backends.spinnaker.eprop.scales import Scales
from neurocompile.machine import load_machine
from tests.backends.spinnaker.eprop.networks import learner, planned

FILES = ("spin3", "spin5", "spin5x18")
Script = Callable[[str], ModuleType]
with_compiler = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("arm-none-eabi-gcc", "qemu-arm")), reason="needs gcc for ARM and qemu-arm"
)
OPTIONS = {"neurons": 64, "synapses": 64, "state_bits": 16, "reg": 0.0, "adaptive": False, "generic": False}


@pytest.mark.parametrize("file", FILES)
def test_rows_of_spynnaker_are_those_of_its_machine_code(script: Script, file: str) -> None:
    """The binary is of a known hash, so every cycle must be there; a packet alone takes what its interrupts take together."""
    rows = script("spinnaker_rows")
    if rows.machine_code.binary(rows.BINARY) is None:
        pytest.skip("needs sPyNNaker's binaries, qemu-arm and an assembler for ARM (binutils-arm-none-eabi)")
    found, machine = rows.measure(), load_machine(file)
    names = {"packet": "packet", "row": "row", "static row": "static_row", "static synapse": "static_synapse", "transfer": "transfer"}
    for name, key in names.items():
        assert machine.value(f"core.{key}_cycles") == math.ceil(found["cycles"][name]), name
    alone = found["calls"]["plastic"]
    assert found["cycles"]["packet"] + found["cycles"]["row"] == sum(alone[k]["cycles"] for k in ("packet", "user", "transfer", "written"))


@with_compiler
def test_our_rows_are_in_the_machine_files(script: Script) -> None:
    """Exactly with the compiler that counted them; another one's code may differ by a tenth. A row's cost is a line over its synapses."""
    eprop = script("spinnaker_eprop")
    version = subprocess.run(["arm-none-eabi-gcc", "-dumpversion"], check=True, capture_output=True, text=True).stdout
    within = 0.0 if version.startswith("12.2") else 0.1
    one, three = (eprop.counted("row", OPTIONS | {"synapses": n}) for n in (1, 3))
    slope, intercept = eprop.line("row", "synapses", (1, 64), OPTIONS)
    np.testing.assert_allclose(one + 2 * slope, three, atol=1.0)
    assert intercept[0] > 50.0
    swept = eprop.counted("sweep", OPTIONS | {"synapses": 1})
    np.testing.assert_array_equal(swept, eprop.counted("sweep", OPTIONS))  # no stretch is due: no synapse is looked at
    machine = load_machine("spin5")
    for key, cycles in (("spike", slope[1]), ("row", intercept[1]), ("sweep", swept[1])):
        assert machine.value(f"core.eprop_{key}_cycles") == pytest.approx(math.ceil(cycles), rel=within, abs=1.0), key


@with_compiler
def test_what_is_held_back_costs_a_send_each(script: Script) -> None:
    """A tick without spikes costs words, not neurons; a spike is kept and sent once."""
    eprop = script("spinnaker_eprop")
    few, many = (eprop.counted("held_tick", OPTIONS | {"neurons": n}) for n in (32, 128))
    assert (many - few)[0] < 10 * 3  # three words more
    spikes = [
        (eprop.counted("held_spike", OPTIONS | {"neurons": n}) - eprop.counted("held_tick", OPTIONS | {"neurons": n})) / n for n in (32, 64)
    ]
    np.testing.assert_allclose(spikes[0], spikes[1], rtol=0.08)
    assert load_machine("spin5").value("core.eprop_send_cycles") == pytest.approx(spikes[1][1], rel=0.1)


@pytest.mark.parametrize("sources", [None, 2000])
@pytest.mark.parametrize(("rate", "inputs"), [(5.0, 250), (20.0, 100)])
def test_neurons_per_core_is_the_most_that_fits(script: Script, rate: float, inputs: int, sources: int | None) -> None:
    """n neurons take no more than a step has, n + 1 do, by the model that the mapper uses."""
    eprop, machine = script("spinnaker_eprop"), load_machine("spin5")
    value = machine.value
    cycles = {
        part: value(f"core.eprop_{part}_cycles") for part in ("fold", "update", "spike", "catch_up", "row", "stretch", "sweep", "send")
    }
    cycles |= {"hear": value("core.eprop_error_cycles"), "error_packet": value("core.eprop_error_packet_cycles") - eprop.PACKET_INTERRUPT}
    around = {part: value(f"core.{part}_cycles") for part in ("packet", "row", "transfer")}
    n = eprop.neurons_per_core(cycles, around, rate=rate, inputs=inputs, sources=sources)
    scales = planned(learner(0, strength=0.0)).populations["hidden"].scales
    assert isinstance(scales, Scales)
    hz, one = np.array([rate]), np.ones(1)
    source = float(source_cycles(machine, hz, one, 0 * one, 1e-3, scales)[0])
    synapse = rate * cycles["spike"] + float(eprop.stretches_per_second(hz, 1e-3)[0]) * cycles["catch_up"]
    neuron = 1e3 * (around["transfer"] + cycles["update"] + cycles["fold"] + 10 * cycles["hear"]) + rate * cycles["send"] + inputs * synapse

    def share(n: int) -> float:
        heard = inputs if sources is None else sources * (1 - (1 - inputs / sources) ** n)
        return (n * neuron + heard * source + 10 * 1e3 * value("core.eprop_error_packet_cycles")) / value("core.clock")

    assert share(n) <= value("core.eprop_share") < share(n + 1)
    assert n >= 64 or rate > 5.0
