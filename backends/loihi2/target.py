"""The target ``loihi2``."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from pathlib import Path

from neurocompile.backends.base import Artifacts, BuildOptions, Check, TargetNetwork, TwinRun, require_sdk, sdk_version
from neurocompile.backends.loihi2.emit import describe, emit_program
from neurocompile.backends.loihi2.lower import lower_network
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.twin import run_twin
from neurocompile.backends.loihi2.validate import validate_program
from neurocompile.ir import Network
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Spikes
from neurocompile.machine import Machine
from neurocompile.mapping.types import Mapping


class Loihi2Target:
    """Loihi 1 and 2 through Lava (see :class:`neurocompile.backends.base.Target`)."""

    name = "loihi2"
    title = "Intel Loihi 2 and Loihi 1 (Lava)"
    extra = "loihi2"
    default_machine: str | None = "oheo-gulch"
    machine_families = ("loihi2", "loihi1")
    bytes_per_synapse = 118.0

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

    def simulate(self, lowered: TargetNetwork, inputs: MappingABC[str, Spikes], *, steps: int) -> TwinRun:
        """Run a lowered network without learning in the twin of its program, bit for bit."""
        if not isinstance(lowered, Loihi2Network):
            raise TypeError(f"loihi2 cannot simulate a {type(lowered).__name__}")
        spec, arrays = describe(lowered)
        result = run_twin(spec, arrays, inputs, steps=steps)
        return TwinRun(
            spikes=result.spikes,
            outputs={p.name: result.output[p.name] / p.scale + p.offset for p in lowered.populations if p.process == "Readout"},
            weights={p.name: p.quantised.values * p.quantised.unit for p in lowered.projections},
        )

    def sdk_versions(self) -> dict[str, str | None]:
        """Versions of Lava; lava-loihi is what runs on chips and is closed."""
        return {name: sdk_version(name) for name in ("lava-nc", "lava-loihi")}

    def capabilities(self) -> dict[str, str]:
        """What is supported."""
        return {
            "spike_source": "yes (host)",
            "lif": "yes (Lava's LIF where it resets to rest without refractory time, else an emitted process)",
            "alif": "yes (emitted process)",
            "cuba_lif": "yes",
            "leaky_readout": "yes (emitted process)",
            "reset": "subtract, to_value",
            "delays": "1 .. 63 steps on static projections, 1 on plastic ones",
            "weights": "8 bits, one exponent a projection",
            "eprop": "three-factor rule with the tag as eligibility; weights change in every step",
            "eprop, alif": "approximation: eligibility without adaptation",
            "eprop, feedback": "random, file, projection; symmetric is an approximation (fixed at the start)",
            "eprop, optimizer": "gradient_descent; adam is an approximation",
            "eprop, loss": "mean_squared_error; cross_entropy is an approximation",
            "stdp": "no",
            "r_stdp": "no",
            "runs here": "Lava's CPU models, fixed and floating point; without learning also its integers alone (simulate --numerics)",
            "on chip": "not verified; emitted processes need microcode",
        }
