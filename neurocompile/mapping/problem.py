"""What the mapper sees of a lowered network: neurons with costs, who talks to whom, and limits. No target names, no neuron models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """One additive limit of a core: used = sum(per_neuron) + per_axon_in * distinct sources + per_axon_out * outgoing axons.

    Attributes
    ----------
    name, unit : str
        As in the machine file, e.g. ``synapse_memory``, ``bit``.
    limit : float
        Per core.
    per_neuron : float64 array, shape (n_neurons,)
        What a neuron brings to its core: its own state and all its in-synapses.
    per_axon_in : float
        Cost of each distinct source neuron that has at least one target on the core.
    per_axon_out : float
        Cost of each (source neuron of the core, other or same core with at least one of its targets) pair; 0 on multicast machines.
    confidence : str
        Of the limit, from the machine file.
    """

    name: str
    unit: str
    limit: float
    per_neuron: FloatArray
    per_axon_in: float = 0.0
    per_axon_out: float = 0.0
    confidence: str = "guess"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetResource:
    """A limit on the number of different labels on a core (parameter profiles; populations where a core runs one only).

    ``label``: int32 array, shape (n_neurons,), -1 for neurons that need none.
    """

    name: str
    limit: int
    label: Int32Array
    confidence: str = "guess"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MappingProblem:
    """Neurons, connections, costs.

    Attributes
    ----------
    n_neurons : int
        All neurons of the network, numbered through (``Network.offsets``).
    population : int32 array, shape (n_neurons,)
        Population number of each neuron; names in ``population_names``.
    external : bool array, shape (n_neurons,)
        True for neurons that live outside the cores (host inputs): their packets enter at the machine's input chip.
    indptr, indices : int64 (n_neurons+1,) and int32 (n_edges,)
        CSR by source neuron: distinct targets of each source, sorted.
    resources, set_resources : tuples
        Limits per core.
    core_width : int32 array, shape (n_populations,)
        Physical cores that one part of this population occupies, all on one chip (SpiNNaker split cores: 1 + synapse cores).
    chip_resources : tuple of Resource
        Limits per chip (SDRAM), summed over the parts on the chip.
    rate : float64 array, shape (n_neurons,), optional
        Spikes of each neuron per step, >= 0: what traffic is weighted by; None: one each.
    together : int32 array, shape (n_neurons,), optional
        Neurons of one label >= 0 share a part; -1: free. None: all are free.
    chip : int32 array, shape (n_neurons,), optional
        Chip on which a neuron must lie, -1: any. None: any for all. Neurons of different chips never share a part.
    repeats : int32 array, shape (n_neurons,), optional
        Of what the target has added: the neuron whose spikes it repeats, -1: none. It has that one's rate. None: nothing repeats any.

    Neurons that must not share a part have different labels in a :class:`SetResource` of limit 1.
    """

    n_neurons: int
    population: Int32Array
    population_names: tuple[str, ...]
    external: BoolArray
    indptr: npt.NDArray[np.int64]
    indices: Int32Array
    resources: tuple[Resource, ...]
    set_resources: tuple[SetResource, ...] = ()
    core_width: Int32Array
    chip_resources: tuple[Resource, ...] = ()
    rate: FloatArray | None = None
    together: Int32Array | None = None
    chip: Int32Array | None = None
    repeats: Int32Array | None = None

    @property
    def rates(self) -> FloatArray:
        """Spikes of each neuron per step, one each where they are not known."""
        return np.ones(self.n_neurons) if self.rate is None else self.rate
