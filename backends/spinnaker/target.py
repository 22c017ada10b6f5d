"""The target as the compiler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neurocompile.backends.base import Artifacts, BuildOptions, Check, TargetNetwork, Twin, require_sdk, sdk_version
from neurocompile.backends.spinnaker.emit import emit
from neurocompile.backends.spinnaker.eprop.population import EpropCores
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.lowering import lower, read_options
from neurocompile.backends.spinnaker.twin import Twin as CoreTwin
from neurocompile.backends.spinnaker.validate import validate
from neurocompile.ir import Network
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine, load_machine
from neurocompile.mapping.types import Mapping as CoreMapping


class SpinnakerTarget:
    """sPyNNaker 1!7.4.1 on SpiNNaker 1; SpiNNaker 2 is mapped only."""

    name = "spinnaker"
    title = "SpiNNaker through sPyNNaker 1!7.4.1 (PyNN)"
    extra = "spinnaker"
    default_machine: str | None = "spin5"
    machine_families: tuple[str, ...] = ("spinnaker1", "spinnaker2")
    bytes_per_synapse = 132.0

    def lower(
        self, network: Network, connections: Mapping[str, Connections], machine: Machine | None, options: BuildOptions
    ) -> SpinnakerNetwork:
        """See :func:`neurocompile.backends.spinnaker.lowering.lower`; ``machine`` None means spin5."""
        return lower(network, connections, load_machine("spin5") if machine is None else machine, options)

    def emit(self, lowered: TargetNetwork, mapping: CoreMapping | None, options: BuildOptions) -> Artifacts:
        """See :func:`neurocompile.backends.spinnaker.emit.emit`."""
        if not isinstance(lowered, SpinnakerNetwork):
            raise TypeError(f"expected a SpinnakerNetwork, got {type(lowered).__name__}")
        return emit(lowered, mapping, options.shards)

    def validate(self, build: Path, network: Network, connections: Mapping[str, Connections], *, steps: int) -> list[Check]:
        """Map the emitted program on a virtual board and compare what sPyNNaker made of it with the build."""
        require_sdk(self.name, self.extra, "spynnaker")
        return validate(build, network, connections, steps=steps)

    def twin(self, lowered: TargetNetwork, *, learning: bool) -> Twin:
        """Return the twin of the emitted program, in the integers of SpiNNaker's cores."""
        if not isinstance(lowered, SpinnakerNetwork):
            raise TypeError(f"expected a SpinnakerNetwork, got {type(lowered).__name__}")
        plan = lowered.eprop
        if plan is not None:
            made = {name: (lambda _, index: EpropCores(plan, lowered.cells[index].name)) for name in plan.populations}
            return CoreTwin(lowered, learning=learning, replaced=made)
        return CoreTwin(lowered, learning=learning)

    def check_options(self, extra: Mapping[str, str]) -> None:
        """Raise InputError NC320 for options that do not exist or are no positive numbers."""
        read_options(extra)

    def sdk_versions(self) -> dict[str, str | None]:
        """Versions of sPyNNaker and what maps for it."""
        return {name: sdk_version(name) for name in ("spynnaker", "spinnakergraphfrontend", "spinnaker-pacman", "pynn")}

    def capabilities(self) -> dict[str, str]:
        """Rows for ``targets spinnaker``."""
        return {
            "spike_source": "SpikeSourceArray for given spikes, SpikeSourcePoisson for a rate",
            "lif": "IF_curr_delta; reset to a value; reset by subtraction only as an approximation (NC322)",
            "alif": "approximation (NC324): adaptation current IFCurrDeltaCa2Adaptive",
            "cuba_lif": "IF_curr_exp",
            "leaky_readout": "IF_curr_delta or IF_curr_exp with an unreachable threshold, membrane recorded",
            "v_min": "approximation (NC323): no lower bound",
            "time step": "whole microseconds, at least 0.1 ms",
            "weights": "16 bit, unsigned; one PyNN projection for each sign",
            "delays": "1 .. 255 steps; beyond 64, fewer neurons a core (128, then 64)",
            "stdp": "approximation (NC340): SpikePairRule pairs without the delay; one rule a population; non-negative weights",
            "r_stdp": "approximation (NC340, NC341): Neuromodulation, unsigned eligibility, additive only, split cores",
            "eprop": "cores of our own, in C: lif, alif, readouts as described; binaries are built by the user with SpiNNaker's tools",
            "eprop, state_bits=16|32, error_limit=X, growth=N": "--set: bits of an eligibility; errors beyond X are clipped (4); weights "
            "may grow to N times their largest at the start (2)",
            "--set rate=HZ, source_rate=HZ, packets=limit": "rates assumed of neurons (30) and of sources without one (250); packets of a "
            "step as a limit of a core",
            "eprop, --set eprop=r_stdp or static": "approximation (NC325): reward-modulated STDP, or static weights",
            "emulator": "virtual board: maps, executes nothing",
            "runs here": "the integers of its binaries, learning included (--numerics)",
            "SpiNNaker 2": "mapping only (NC329)",
            "hardware": "not verified",
        }


TARGET = SpinnakerTarget()
