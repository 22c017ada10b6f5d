"""What sPyNNaker's sources ask of the extension and what they offer it, as they were read (docs/spinnaker-eprop.md, "The C"): for ARM, with
the flags of its makefiles."""

from __future__ import annotations

import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from tests.backends.spinnaker.eprop.programs import SHIM

FLAGS = [
    *("-c", "-mthumb-interwork", "-march=armv5te", "-std=gnu99", "-ffreestanding", "-Os"),
    *("-Wall", "-Wextra", "-Wold-style-definition", "-Werror", "-DSTDP_ENABLED=1", "-DSYNGEN_ENABLED=1"),
]
NEURON_C = """\
#include <neuron/neuron_recording.h>
#include <neuron/implementations/neuron_impl.h>
#include <neuron/current_sources/current_source.h>
void *called[] = {neuron_impl_initialise, neuron_impl_load_neuron_parameters, neuron_impl_store_neuron_parameters,
    neuron_impl_do_timestep_update, neuron_impl_add_inputs, current_source_initialise};
"""
"""As sPyNNaker's neuron.c includes a neuron implementation, which its makefiles include before"""
ASKED = {
    "synapse_dynamics_eprop.c": {
        "synapse_dynamics_initialise",
        "synapse_dynamics_process_plastic_synapses",
        "synapse_dynamics_process_post_synaptic_event",
        "synapse_dynamics_print_plastic_synapses",
        "synapse_dynamics_get_plastic_pre_synaptic_events",
        "synapse_dynamics_get_plastic_saturation_count",
        "synapse_dynamics_find_neuron",
        "synapse_dynamics_remove_neuron",
        "synapse_dynamics_add_neuron",
        "synapse_dynamics_n_connections_in_row",
    },
    "synaptogenesis_eprop.c": {
        "synaptogenesis_dynamics_initialise",
        "synaptogenesis_dynamics_rewire",
        "synaptogenesis_row_restructure",
        "synaptogenesis_spike_received",
        "synaptogenesis_n_updates",
        "print_post_to_pre_entry",
    },
    "neuron.c": {"called"},
}
OFFERED = {
    *("spinnaker_time", "neuron_keys", "use_key", "colour"),  # c_main.c (time), neuron.c
    *("synapse_type_index_bits", "synapse_index_bits", "synapse_delay_mask"),  # synapses.c
    *("items_to_go", "population_table_get_first_address", "population_table_get_next_address"),
    "spike_processing_do_rewiring",
    *("callback", "spin1_callback_on", "spin1_schedule_callback", "spin1_trigger_user_event"),  # spin1_api.c
    *("spin1_irq_disable", "spin1_int_disable", "spin1_mode_restore"),  # there inline
    *(
        "send_spike",
        "send_spike_mc",
        "send_spike_mc_payload",
        "neuron_recording_record_accum",
        "neuron_recording_record_bit",
    ),  # there inline
    *("memcpy", "memset"),
}
STAND_INS = {"malloc", "exit", "fprintf", "fputc", "fwrite", "_impure_ptr", "stderr"}
"""What the stand-ins make of sPyNNaker's memory and logs"""


def compiled(folder: Path, source: Path, *flags: str) -> tuple[set[str], set[str]]:
    """Return the global symbols that a file defines and those that it lacks."""
    compiler = shutil.which("arm-none-eabi-gcc")
    if compiler is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    made = folder / f"{source.stem}.o"
    with resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include:
        words = [compiler, *FLAGS, *flags, f"-I{SHIM}", f"-I{include}", str(source), "-o", str(made)]
        done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = subprocess.run(["arm-none-eabi-nm", "-g", str(made)], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [(kind, name) for *_, kind, name in (line.split() for line in lines)]
    return {name for kind, name in found if kind != "U"}, {name for kind, name in found if kind == "U"}


@pytest.mark.parametrize("adaptive", [False, True])
def test_symbols_are_those_of_spynnaker(tmp_path: Path, adaptive: bool) -> None:
    """Each unit compiles without a warning, defines all that sPyNNaker calls, nothing that could clash, and calls only what is there."""
    defined: set[str] = set()
    lacks: set[str] = set()
    (tmp_path / "neuron.c").write_text(NEURON_C)
    with resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include:
        for name, asked in ASKED.items():
            own = name == "neuron.c"
            first = ["-include", str(include / "neuron_impl_eprop.h")] if own else []
            source = (tmp_path if own else include) / name
            made, missing = compiled(tmp_path, source, f"-DEPROP_ADAPTIVE={int(adaptive)}", "-DEPROP_STATE_BITS=16", *first)
            assert asked <= made
            assert {other for other in made - asked if not other.startswith("eprop_")} == set()
            assert not made & defined
            defined |= made
            lacks |= missing
    lacks = {name for name in lacks - defined if not name.startswith("__aeabi_")}
    assert lacks - OFFERED - STAND_INS == set()


def test_files_for_the_makefiles(tmp_path: Path) -> None:
    """sPyNNaker's makefiles compile these too, and include the header for each."""
    with resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include:
        for name in ("partners", "formation", "elimination"):
            header = str(include / "eprop_nothing.h")
            assert compiled(tmp_path, include / f"eprop_no_{name}.c", "-include", header) == (set(), set())
