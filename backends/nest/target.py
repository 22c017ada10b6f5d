"""The target as the compiler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neurocompile.backends.base import Artifacts, BuildOptions, Check, TargetNetwork, require_sdk, sdk_version
from neurocompile.backends.nest.emit import emit
from neurocompile.backends.nest.lowered import NestNetwork
from neurocompile.backends.nest.lowering import lower
from neurocompile.backends.nest.validate import validate
from neurocompile.ir import Network
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine
from neurocompile.mapping.types import Mapping as CoreMapping


class NestTarget:
    """NEST 3.10: threads on one machine, MPI on many."""

    name = "nest"
    title = "NEST 3.10 (PyNEST), threads and MPI"
    extra = "nest"
    default_machine: str | None = None
    machine_families: tuple[str, ...] = ()
    bytes_per_synapse = 70.0

    def lower(
        self,
        network: Network,
        connections: Mapping[str, Connections],
        machine: Machine | None,  # noqa: ARG002
        options: BuildOptions,
    ) -> NestNetwork:
        """See :func:`neurocompile.backends.nest.lowering.lower`; NEST has no cores, so there is no machine."""
        return lower(network, connections, options)

    def emit(self, lowered: TargetNetwork, mapping: CoreMapping | None, options: BuildOptions) -> Artifacts:  # noqa: ARG002
        """See :func:`neurocompile.backends.nest.emit.emit`."""
        if not isinstance(lowered, NestNetwork):
            raise TypeError(f"expected a NestNetwork, got {type(lowered).__name__}")
        return emit(lowered, options.shards)

    def validate(self, build: Path, network: Network, connections: Mapping[str, Connections], *, steps: int) -> list[Check]:
        """Run the emitted program and the reference engine on the same random input; compare spikes, outputs and weights."""
        require_sdk(self.name, self.extra, "nest-simulator")
        return validate(build, network, connections, steps=steps)

    def sdk_versions(self) -> dict[str, str | None]:
        """Version of NEST."""
        return {"nest-simulator": sdk_version("nest-simulator")}

    def capabilities(self) -> dict[str, str]:
        """Rows for ``targets nest``."""
        return {
            "spike_source": "spike_generator and parrot_neuron; Poisson spikes are the engine's own",
            "lif": "eprop_iaf (reset subtract), eprop_iaf_psc_delta (reset to_value)",
            "alif": "eprop_iaf_adapt, eprop_iaf_psc_delta_adapt; approximation (NC330) for to_value with a refractory time",
            "cuba_lif": "no (NC331)",
            "leaky_readout": "eprop_readout; tau_syn: no (NC331)",
            "integration euler": "exact, through an equivalent tau_m",
            "time step": "whole microseconds",
            "delays": "1 .. 255 steps on static projections, 1 on plastic ones",
            "eprop": "eprop_synapse, all surrogates, gradient_descent and adam, regularisation, cutoff, intervals",
            "feedback": "random, file, projection; symmetric: approximation (NC333) where the readout learns",
            "sign_constraint, weight_bounds": "exact",
            "cross_entropy": "approximation (NC333)",
            "stdp, r_stdp": "no (NC334)",
            "emulator": "NEST itself, compared with the reference engine",
            "MPI": "the same program; not verified here (the wheel has no MPI)",
        }


TARGET = NestTarget()
