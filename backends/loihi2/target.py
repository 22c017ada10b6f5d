"""The target ``loihi2``."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from pathlib import Path

import numpy as np

from neurocompile.backends.base import Artifacts, BuildOptions, Check, TargetNetwork, Twin, TwinRun, require_sdk, sdk_version
from neurocompile.backends.loihi2.emit import describe, emit_program
from neurocompile.backends.loihi2.lower import lower_network
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.options import read_options
from neurocompile.backends.loihi2.twin import Twin as IntegerTwin
from neurocompile.backends.loihi2.validate import validate_program
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.machine import Machine
from neurocompile.mapping.types import Mapping


class _Twin:
    """A lowered network in integers, with weights and outputs in the description's units (:class:`neurocompile.backends.base.Twin`)."""

    def __init__(self, lowered: Loihi2Network, *, learning: bool) -> None:
        self._lowered, self._twin = lowered, IntegerTwin(*describe(lowered), learning=learning)

    @property
    def step(self) -> int:
        return self._twin.step

    def run(self, n_steps: int, *, spikes: MappingABC[str, Spikes], signals: MappingABC[str, Signal], learn: bool = True) -> TwinRun:
        result = self._twin.run(n_steps, spikes, signals, learn=learn)
        readouts = [p for p in self._lowered.populations if p.process == "Readout"]
        return TwinRun(spikes=result.spikes, outputs={p.name: result.output[p.name] / p.scale + p.offset for p in readouts})

    def reset(self) -> None:
        self._twin.reset()

    def weights(self) -> dict[str, FloatArray]:
        held = self._twin.weights()
        return {p.name: held[p.name] * p.quantised.unit for p in self._lowered.projections}

    def set_weights(self, weights: MappingABC[str, FloatArray]) -> None:
        held = {p.name: (p.quantised.unit, 2**p.quantised.coarse) for p in self._lowered.projections}
        self._twin.set_weights(
            {name: np.rint(w / (unit * by)).astype(np.int64) * by for name, w in weights.items() for unit, by in [held[name]]}
        )

    def state(self) -> dict[str, AnyArray]:
        return self._twin.state()

    def restore(self, state: MappingABC[str, AnyArray]) -> None:
        self._twin.restore(state)


class Loihi2Target:
    """Loihi 1 and 2 through Lava (see :class:`neurocompile.backends.base.Target`)."""

    name = "loihi2"
    title = "Intel Loihi 2 and Loihi 1 (Lava)"
    extra = "loihi2"
    default_machine: str | None = "oheo-gulch"
    machine_families = ("loihi2", "loihi1")
    bytes_per_synapse = 105.0

    def lower(
        self, network: Network, connections: MappingABC[str, Connections], machine: Machine | None, options: BuildOptions
    ) -> TargetNetwork:
        """Express the network in integers; UnsupportedError NC310 .. NC319."""
        return lower_network(network, connections, machine, options)

    def emit(self, lowered: TargetNetwork, mapping: Mapping | None, options: BuildOptions) -> Artifacts:
        """Return the files of ``program/``."""
        if not isinstance(lowered, Loihi2Network):
            raise TypeError(f"loihi2 cannot emit a {type(lowered).__name__}")
        return emit_program(lowered, mapping, options.shards)

    def validate(self, build: Path, network: Network, connections: MappingABC[str, Connections], *, steps: int) -> list[Check]:
        """Run the emitted program in Lava's CPU models; SdkMissingError NC501 without Lava."""
        require_sdk(self.name, self.extra, "lava-nc")
        return validate_program(build / "program", network, connections, steps=steps)

    def twin(self, lowered: TargetNetwork, *, learning: bool) -> Twin:
        """Return the twin of the emitted program, equal to it in Lava bit for bit, learning included."""
        if not isinstance(lowered, Loihi2Network):
            raise TypeError(f"loihi2 cannot simulate a {type(lowered).__name__}")
        return _Twin(lowered, learning=learning)

    def check_options(self, extra: MappingABC[str, str]) -> None:
        """Raise InputError for options that do not exist or are out of range."""
        read_options(extra)

    def sdk_versions(self) -> dict[str, str | None]:
        """Versions of Lava; lava-loihi is what runs on chips and is closed."""
        return {name: sdk_version(name) for name in ("lava-nc", "lava-loihi")}

    def capabilities(self) -> dict[str, str]:
        """What is supported."""
        return {
            "spike_source": "yes (host)",
            "lif": "yes (Lava's LIF where it resets to rest without refractory time and sends no third factor, else an emitted process)",
            "alif": "yes (emitted process)",
            "cuba_lif": "yes",
            "leaky_readout": "yes (emitted process)",
            "reset": "subtract, to_value",
            "delays": "1 .. 63 steps on static projections, 1 on plastic ones",
            "weights": "8 bits, one exponent a projection",
            "eprop": "three-factor rules of five forms (--eprop-form), mostly with the tag as eligibility; weights change in every step",
            "eprop, alif": "exact without low bits (--eprop-form adaptive), else approximated from the tag and a second trace",
            "eprop, feedback": "random, file, projection; symmetric is an approximation (fixed at the start)",
            "eprop, optimizer": "gradient_descent; adam is an approximation",
            "eprop, loss": "mean_squared_error; cross_entropy is an approximation",
            "stdp": "two-factor rule, pairs as in the engine; low bits of the weights in the tag",
            "r_stdp": "three-factor rule, eligibility in the tag",
            "runs here": "Lava's CPU models, fixed and floating point; its integers alone, learning included (--numerics)",
            "on chip": "not verified; emitted processes need microcode",
        }
