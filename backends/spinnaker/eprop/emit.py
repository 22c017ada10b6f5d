"""What a build has for cores that learn by e-prop: the C of the cores, and their integers for eprop_model.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import Artifacts
from neurocompile.backends.spinnaker.eprop.cycles import cycles_of
from neurocompile.backends.spinnaker.eprop.image import CELL, cells_words, numbers_header, rule_words
from neurocompile.backends.spinnaker.eprop.late import Copies, groups
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan
from neurocompile.ir import EProp, Network
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine

Arrays = dict[str, npt.NDArray[Any]]
_FILES = (
    "eprop.h",
    "eprop_core.h",
    "eprop_exp.h",
    "eprop_held.h",
    "eprop_neurons.h",
    "eprop_no_elimination.c",
    "eprop_no_formation.c",
    "eprop_no_partners.c",
    "eprop_nothing.h",
    "neuron_impl_eprop.h",
    "synapse_dynamics_eprop.c",
    "synaptogenesis_eprop.c",
)


def binary_name(index: int) -> str:
    """Return the name of a population's binary, by its number in the network."""
    return f"eprop_{index}"


def projection_row(plan: EpropPlan, copies: Sequence[Copies], name: str, synapses: Connections) -> dict[str, Any]:
    """Return what network.json says of a projection beside its synapses: the delays of its plastic ones, and who sends their packets; of a
    delay above a step they are sent so many ticks later (docs/spinnaker-eprop.md)."""
    planned = next(p for p in plan.projections if p.name == name)
    if not planned.learns:
        return {}
    return {"sent": [{"delay": g.delay, "by": g.by} for g in groups(planned.pre, synapses, copies, learns=True)]}


def copies_row(copies: Sequence[Copies], index: int, name: str, arrays: Arrays) -> dict[str, Any]:
    """Return the entry "copies" of a source that repeats another's spikes, and that it is not recorded; nothing for other populations."""
    made = next((c for c in copies if c.name == name), None)
    if made is None:
        return {}
    arrays[f"copies:{index}:neuron"], arrays[f"copies:{index}:wait"] = made.neuron, made.wait
    stored = {key: {"array": f"copies:{index}:{key}"} for key in ("neuron", "wait")}
    return {"copies": {"of": made.of, **stored}, "record": None}


def network_row(plan: EpropPlan, machine: Machine, populations: Sequence[Mapping[str, Any]], dt: float) -> dict[str, Any]:
    """Return the entry "eprop" of network.json: the task's readout, and how many ticks a break between samples takes, in which each core
    brings all its rows up to date and lets them forget (twice a catch-up, at most). populations : its rows."""
    budget = machine.value("core.clock") * dt * machine.value("core.eprop_share")
    ticks = 1.0
    for row in populations:
        own = plan.populations.get(row["name"])
        if own is not None and own.scales is not None:
            into = [p for p in plan.projections if p.post == row["name"] and p.learns]
            synapses = sum(len(p.weight) for p in into)
            share = min(int(row["neurons_per_core"] or row["size"]) / row["size"], 1.0)
            cycles = cycles_of(machine, "catch_up", own.scales)
            # at most: a core has some of each row; its synapses are caught up with, and set to rest, in as much time again
            swept = machine.value("core.row_cycles") + machine.value("core.eprop_sweep_cycles")
            fetched = swept + cycles_of(machine, "stretch", own.scales)
            rows = sum(min(len(p.rows.delay), len(p.weight) * share) for p in into)
            ticks = max(ticks, (2.0 * cycles * synapses * share + rows * fetched) / budget)
    return {"readout": plan.readout, "break_ticks": math.ceil(ticks) + 1}


def population_row(network: Network, plan: EpropPlan, index: int, name: str, arrays: Arrays, events_per_second: float) -> dict[str, Any]:
    """Return the entry "eprop" of a population in network.json; its integers go to ``arrays``."""
    own = plan.populations[name]
    softmax = plan.softmax and name == plan.readout
    n_heard = 0 if own.feedback is None else len(own.feedback)

    def stored(key: str, values: npt.NDArray[Any]) -> dict[str, str]:
        arrays[f"eprop:{index}:{key}"] = values
        return {"array": f"eprop:{index}:{key}"}

    into = [p for p in plan.projections if p.post == name]
    rows = [p.rows for p in into if p.learns]
    rules = {p.learning for p in network.synaptic_projections if p.post == name and p.learning is not None}
    kept = [network.rule(rule) for rule in rules]
    sources = [p.pre for p in into]
    return {
        "binary": binary_name(index),
        "words": stored("words", np.append(cells_words(own, softmax=softmax), n_heard).astype(np.int64)),
        "cell": stored("cell", np.stack([getattr(own.neurons, key) for key in CELL])),
        "feedback": stored("feedback", np.zeros((0, own.size), np.int64) if own.feedback is None else own.feedback),
        "rule": stored("rule", rule_words(own.scales).astype(np.int64)),
        "uniform": own.neurons.uniform,
        "n_heard": n_heard,
        "low": min((int(r.low.min(initial=0)) for r in rows), default=0),
        "high": max((int(r.high.max(initial=0)) for r in rows), default=0),
        "state_bits": 16 if own.scales is None else own.scales.state_bits,
        "regularised": own.scales is not None and own.scales.reg_max > 0,
        "adaptive": own.scales is not None and own.scales.adaptive,
        "keep_signs": any(isinstance(rule, EProp) and rule.sign_constraint for rule in kept),
        "rows_per_key": 2 * max((sources.count(pre) for pre in sources), default=1),
        "target_unit": own.target_unit,
        "target_range": list(plan.target_range(name)),
        "synapses_per_second": int(events_per_second),
    }


def extension_files(plan: EpropPlan, names: list[str]) -> Artifacts:
    """Return ``program/extension``: the C, a header of numbers and a Makefile for each population. names : all populations, in order."""
    templates = resources.files("neurocompile.backends.spinnaker") / "templates"
    files = {f"program/extension/src/{name}": (templates / "extension" / name).read_bytes() for name in _FILES}
    built = []
    for index, name in enumerate(names):
        if name in plan.populations:
            own, app = plan.populations[name], binary_name(index)
            built.append(app)
            header = numbers_header(own, softmax=plan.softmax and name == plan.readout)
            files[f"program/extension/{app}/{app}.h"] = header.encode()
            bits, adaptive = (16, False) if own.scales is None else (own.scales.state_bits, own.scales.adaptive)
            files[f"program/extension/{app}/Makefile"] = _MAKEFILE.format(
                app=app, bits=bits, adaptive=int(adaptive), neurons="-Os" if adaptive else "-O2"
            ).encode()
    files["program/extension/Makefile"] = _ALL.format(apps=" ".join(built)).encode()
    files["program/extension/README.md"] = (templates / "extension" / "README.md").read_bytes()
    return files


_MAKEFILE = """\
# Binary of one population; built as sPyNNaker's own models are (README.md).
APP = {app}
EXTENSION := $(abspath ..)
SOURCE_DIRS += $(EXTENSION)/src
BUILD_DIR := $(EXTENSION)/build/$(APP)/
APP_OUTPUT_DIR := $(EXTENSION)/binaries/
NEURON_IMPL_H := $(EXTENSION)/src/neuron_impl_eprop.h
SYNAPSE_DYNAMICS := $(EXTENSION)/src/synapse_dynamics_eprop.c
SYNAPTOGENESIS_DYNAMICS := $(EXTENSION)/src/synaptogenesis_eprop.c
# sPyNNaker's rules want parts of STDP and of rewiring, of which there are none
PARTNER_SELECTION := $(EXTENSION)/src/eprop_no_partners.c
FORMATION := $(EXTENSION)/src/eprop_no_formation.c
ELIMINATION := $(EXTENSION)/src/eprop_no_elimination.c
PARTNER_SELECTION_H := $(EXTENSION)/src/eprop_nothing.h
FORMATION_H := $(PARTNER_SELECTION_H)
ELIMINATION_H := $(PARTNER_SELECTION_H)
TIMING_DEPENDENCE_H := $(PARTNER_SELECTION_H)
WEIGHT_DEPENDENCE_H := $(PARTNER_SELECTION_H)
SYNAPSE_TYPE_H := $(PARTNER_SELECTION_H)
include $(NEURAL_MODELLING_DIRS)/makefiles/neuron/neural_build.mk
# Behind sPyNNaker's own -Ofast, with which the binary would not fit into ITCM. Rows are most of the work; neurons that adapt have more code
CFLAGS += -I$(EXTENSION)/modified_src -DEPROP_STATE_BITS={bits} -DEPROP_ADAPTIVE={adaptive} -DEPROP_NUMBERS='"$(CURDIR)/{app}.h"' -Os
$(SYNAPSE_DYNAMICS_O): CFLAGS += -O2
$(BUILD_DIR)neuron/neuron.o: CFLAGS += {neurons}
$(BUILD_DIR)neuron/neuron.o: $(NEURON_IMPL_H)
"""
_ALL = """\
APPS = {apps}

all: $(APPS)
$(APPS):
\t$(MAKE) -C $@

.PHONY: all $(APPS)
"""
