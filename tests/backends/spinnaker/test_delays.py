"""Delays of plastic rows: more slots than steps, in the mapping and in what the program asks sPyNNaker for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import resources
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.spinnaker.costs import delay_limits
from neurocompile.backends.spinnaker.learning import Learning
from neurocompile.backends.spinnaker.neurons import Cell
from neurocompile.ir import LIF, STDP, Explicit, Network, Population, Projection, SpikeSource
from neurocompile.ir.realise import realise_all
from neurocompile.machine import Machine
from tests.backends.spinnaker.twin.networks import lowered_of

SLOTS = """
import sys
from importlib.util import spec_from_loader, module_from_spec
from importlib.machinery import SourceFileLoader
loader = SourceFileLoader("pynn_network", sys.argv[1])
module = module_from_spec(spec_from_loader("pynn_network", loader))
loader.exec_module(module)
from spynnaker.pyNN.config_setup import unittest_setup
from spynnaker.pyNN.models.neuron import PopulationVertex
from spynnaker.pyNN.data.spynnaker_data_writer import SpynnakerDataWriter
unittest_setup()
SpynnakerDataWriter.mock()

def slots(longest, available):
    vertex = object.__new__(PopulationVertex)
    vertex._PopulationVertex__max_delay_ms = float(longest)
    vertex._PopulationVertex__max_delay_slots_available = available
    return vertex.max_delay_steps_incoming

cases = [(1, 64), (2, 64), (3, 64), (4, 64), (16, 64), (63, 64), (40, 32)]
before = [slots(*case) for case in cases]
for _ in range(2):  # a second attempt patches again
    module.patch_plastic_delays()
    print(before, [slots(*case) for case in cases])
"""


def test_the_program_asks_for_more_slots_than_steps() -> None:
    """sPyNNaker's own vertex, with and without the program's patch; a longest delay of 2, 4, 16 steps has 2, 4, 16 slots without."""
    if importlib.util.find_spec("spynnaker") is None:
        pytest.skip("sPyNNaker is not installed")
    path = resources.files("neurocompile.backends.spinnaker") / "templates" / "pynn_network.py.txt"
    run = subprocess.run([sys.executable, "-c", SLOTS, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()[-2:]
    assert lines == ["[2, 2, 4, 4, 16, 64, 32] [2, 4, 4, 8, 32, 64, 32]"] * 2


@pytest.mark.parametrize(
    ("longest", "plastic", "static"), [(1, 2**12, 2**13), (2, 2**11, 2**13), (31, 2**8, 2**9), (32, 2**7, 2**9), (255, 2**5, 2**6)]
)
def test_plastic_populations_have_a_slot_more_than_steps(spin5: Machine, longest: int, plastic: int, static: int) -> None:
    """Neurons a core times slots never exceed the 2^13 that a receptor has."""

    def limits(rule: Any) -> float:
        pairs = Explicit(pre=np.array([0]), post=np.array([0]), weight=np.array([0.1]), delay=np.array([longest]))
        network = Network(
            name="delays",
            dt=1e-3,
            populations=(
                Population(name="in", size=1, model=SpikeSource()),
                Population(name="a", size=1, model=LIF(tau_mem=0.02, v_threshold=0.5)),
            ),
            projections=(Projection(pre="in", post="a", connect=pairs, learning=None if rule is None else rule.name),),
            rules=() if rule is None else (rule,),
        )
        learning = lowered_of(network).learning
        assert isinstance(learning, Learning)
        cells = [Cell(name=name, size=1, cell="IF_curr_delta", params={}) for name in ("in", "a")]
        return float(delay_limits(network, realise_all(network), cells, spin5, learning)[1])

    assert (limits(STDP()), limits(None)) == (plastic, static)
    assert plastic * (longest + 1) <= 2**13
