"""lava-dl netx files (HDF5) -> :class:`Network`, integer-exact (docs/netx.md).

A netx file holds the integers of Loihi's registers. With one membrane unit = 2^6 steps of the state, which is where Loihi aligns weights,
thresholds and biases, they are the numbers of the description, and ``Population.resolution`` = 2^-6 makes a target that computes in such
integers take exactly these:

    u <- u (4096 - iDecay) / 4096 + 2^6 sum of weights          tau_syn = 4096 dt / iDecay     (4096: no memory, a ``lif``)
    v <- v (4096 - vDecay) / 4096 + u + 2^6 bias                tau_mem = 4096 dt / vDecay     (0: no leak)
    a spike if v > 2^6 vThMant, then v = 0                      v_threshold = vThMant + 2^-6, because a description spikes at >=
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from neurocompile.ir._types import IntArray, Param
from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.convolution import MAX_ENTRIES, Shape, convolution_matrix, numbers, size
from neurocompile.ir.errors import Diagnostic, InputError
from neurocompile.ir.network import Network, Population, Projection, safe_network_name
from neurocompile.ir.netx_file import Layer, open_netx
from neurocompile.ir.neurons import LIF, CubaLIF, Integration, LeakyReadout, NeuronModel, Reset, SpikeSource

INPUT = "input"
"""Name of the source that feeds layer 0 where the file has no input layer."""
_RESOLUTION = 2.0**-6
_UNITY = 4096
_VTH_MAX = 2**17 - 1
_DELAY_MAX = 62
"""netx clamps delays here; one step more passes between two layers anyway"""
_SIZE_MAX = 50_000_000
"""Neurons of one layer."""
_DEFAULT_MS = 1.0
_READ = ("input", "dense", "dense_rec", "conv", "flatten")
_NEURONS = ("CUBA", "LOIHI")


def read_netx(path: str | Path, *, dt: float | None = None, seed: int | None = None) -> Network:
    """Read a netx file of lava-dl.

    Parameters
    ----------
    path : str or Path
    dt : float, optional
        Step, s, > 0; default: the file's ``simulation/Ts`` (ms), else 1 ms. Everything in the file counts in steps.
    seed : int, optional
        Of the network (the file leaves nothing random); default 1.

    Returns
    -------
    Network
        One population per layer with neurons, named by the layer's number; a ``spike_source`` for the input: the input layer, or ``input``
        where layer 0 has weights. Tensors are flattened in the order (C, H, W). ``notes`` says what was decided.

    Raises
    ------
    InputError
        NC105, NC130: the file cannot be read; NC131: a layer or neuron that is not supported; NC132: a value that is missing, not whole, or
        outside its register; NC142: dt; NC143: shapes; NC146: too large.
    """
    path = Path(path)
    try:
        if dt is not None and not (np.isfinite(dt) and dt > 0):
            raise InputError.of("NC142", f"the time step is {dt:g} s, must be > 0")
        with open_netx(path) as file:
            refused = [d for layer in file.layers for d in _unsupported(layer)]
            if refused:
                raise InputError(refused)
            step = dt if dt is not None else 1e-3 * (file.step_ms or _DEFAULT_MS)
            chain = _Chain(dt=step)
            for layer in file.layers:
                chain.add(layer)
        return chain.network(path, seed)
    except InputError as error:
        raise InputError(d if d.span or d.file else replace(d, file=str(path)) for d in error.diagnostics) from None
    except MemoryError as error:
        raise InputError.of("NC146", f"needs more memory than there is: {error}", file=str(path), help="read a smaller network") from None


def _unsupported(layer: Layer) -> Iterator[Diagnostic]:
    if layer.kind not in _READ:
        yield Diagnostic(code="NC131", message=f"layer {layer.number} is of type {layer.kind!r}", help=f"supported: {', '.join(_READ)}")
    elif layer.kind != "flatten" and layer.has("neuron/type"):
        kind = layer.text("neuron/type")
        if kind not in _NEURONS and layer.kind != "input":
            yield Diagnostic(
                code="NC131",
                message=f"{layer.place} has neurons of type {kind!r}",
                help=f"supported: {', '.join(_NEURONS)} (LIF with current)",
            )


@dataclass(slots=True)
class _Chain:
    """The network as it grows, layer by layer. ``shape``: of the tensor that comes out of the last layer; ``last``: its population."""

    dt: float
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shape: Shape | None = None
    last: str | None = None

    def add(self, layer: Layer) -> None:
        """Add a layer behind the others."""
        if self.populations and isinstance(self.populations[-1].model, LeakyReadout):
            raise InputError.of(
                "NC143",
                f"{layer.place} follows layer {self.last}, which has no neurons and sends no spikes",
                help="it must be the last layer",
            )
        if layer.kind == "input":
            self._input(layer)
        elif layer.kind == "flatten":
            self.shape = None if self.shape is None else (size(self.shape),)
        elif layer.kind == "conv":
            self._conv(layer)
        else:
            self._dense(layer)

    def network(self, path: Path, seed: int | None) -> Network:
        """Return what has been read."""
        if all(isinstance(p.model, SpikeSource) for p in self.populations):
            raise InputError.of("NC130", "no layer has neurons")
        said = [
            f"a step is {self.dt * 1e3:g} ms; spikes arrive one step later per layer, as in Lava",
            "integers of Loihi's fixed point: membrane units are 2^6 steps of the state",
        ]
        return Network(
            name=safe_network_name(path.stem),
            dt=self.dt,
            seed=1 if seed is None else seed,
            populations=tuple(self.populations),
            projections=tuple(self.projections),
            source=str(path),
            notes=(*said, *self.notes),
        )

    # --- layers ------------------------------------------------------------------------------------------------------------
    def _input(self, layer: Layer) -> None:
        if layer.number != 0:
            raise InputError.of("NC143", f"{layer.place}: an input layer can only be layer 0")
        self.shape = _shape(layer)
        self._source(str(layer.number), size(self.shape))
        if layer.has("neuron"):
            weight, bias = (layer.integer(key) if layer.has(key) else default for key, default in (("weight", 64), ("bias", 0)))
            self.notes.append(
                f"{layer.place} makes spikes of analog values x (a neuron driven by {weight} x + {bias}): give the spikes that it sends"
            )

    def _source(self, name: str, n: int) -> None:
        self.populations.append(Population(name=name, size=n, model=SpikeSource()))
        self.last = name

    def _dense(self, layer: Layer) -> None:
        shape = _shape(layer)
        n = size(shape)
        given = layer.shape("weight") if not _is_group(layer, "weight") else ()
        if not given:
            raise InputError.of("NC131", f"{layer.place} has complex weights", help="supported: real weights, one array")
        n_in = size(given) // n
        incoming = n_in if self.shape is None else size(self.shape)
        if size(given) != n * incoming or (len(given) > 1 and given[:2] != (n, incoming)):
            raise _mismatch(layer, f"weight has shape {given}, needs ({n}, {incoming}): {n} neurons, {incoming} inputs")
        _agree(layer, {"inFeatures": incoming, "outFeatures": n})
        if float(n) * incoming > MAX_ENTRIES:
            raise InputError.of("NC146", f"{layer.place} has {float(n) * incoming:.3g} weights")
        if self.last is None:
            self._source(INPUT, incoming)
            self.notes.append(f"source '{INPUT}' feeds layer {layer.number}")
        weight = layer.integers("weight").reshape(n, incoming)
        delay = self._delays(layer, n, incoming)
        source = self._require_last()
        self._population(layer, shape)
        self._connect(layer, source, weight, delay)
        if layer.kind == "dense_rec":
            if layer.shape("weight_rec") not in {(n, n), (n * n,)}:
                raise _mismatch(layer, f"weight_rec has shape {layer.shape('weight_rec')}, needs ({n}, {n})")
            own = np.broadcast_to(delay[:, :1], (n, n))
            if n != incoming and not (delay == delay[:, :1]).all():
                raise _mismatch(layer, f"delays per synapse serve {incoming} inputs, but also its {n} recurrent inputs")
            own = delay if n == incoming else own
            self._connect(layer, str(layer.number), layer.integers("weight_rec").reshape(n, n), own)

    def _conv(self, layer: Layer) -> None:
        if self.shape is None:
            raise _mismatch(
                layer,
                "the shape of its input is not known: no input layer comes before it",
                help="export the network with its input layer (shape C, H, W)",
            )
        if len(self.shape) != 3:
            raise _mismatch(layer, f"takes tensors of shape (channels, height, width), but gets {self.shape}")
        shape, given = _shape(layer), layer.shape("weight")
        if len(given) == 5 and given[4] == 1:
            given = given[:4]
        if len(given) != 4:
            raise _mismatch(layer, f"weight has shape {given}, needs (out, in / groups, height, width)")
        groups = layer.integer("groups", low=1) if layer.has("groups") else 1
        if given[1] * groups != self.shape[0]:
            raise _mismatch(layer, f"weight is for {given[1] * groups} input channels, but gets {self.shape[0]}")
        _agree(layer, {"inChannels": self.shape[0], "outChannels": given[0]})
        kernel = [*given[2:]]
        if layer.has("kernelSize") and (said := numbers(layer.integers("kernelSize"), 2, f"{layer.place}: kernelSize", 1)) != kernel:
            raise _mismatch(layer, f"kernelSize is {said}, the weight's is {kernel}")
        if layer.has("delay") and layer.integers("delay").any():
            raise InputError.of("NC131", f"{layer.place} has delays", help="delays are read in dense layers; netx ignores those of conv")
        how: dict[str, Any] = {key: layer.integers(key).reshape(-1) for key in ("stride", "padding", "dilation")}
        weight = layer.integers("weight").reshape(given)
        matrix, made = convolution_matrix(weight, self.shape[1:], groups=groups, place=layer.place, **how)
        if made != shape:
            raise _mismatch(layer, f"shape is {shape}, but the convolution makes {made}")
        source = self._require_last()
        self._population(layer, shape)
        self._project(layer, source, matrix.tocoo(), np.ones(matrix.nnz, np.int64))

    # --- parts of layers ---------------------------------------------------------------------------------------------------
    def _require_last(self) -> str:
        assert self.last is not None  # a source or a layer comes first
        return self.last

    def _population(self, layer: Layer, shape: Shape) -> None:
        name = str(layer.number)
        model = self._model(layer, _bias(layer, shape))
        self.populations.append(Population(name=name, size=size(shape), model=model, resolution=_RESOLUTION))
        self.shape, self.last = shape, name

    def _model(self, layer: Layer, bias: Param) -> NeuronModel:
        if not layer.has("neuron") and layer.kind != "dense":
            raise InputError.of("NC132", f"{layer.place} lacks 'neuron'", help="only a last layer of type dense can be without neurons")
        if not layer.has("neuron"):
            self.notes.append(f"{layer.place} has no neurons: output '{layer.number}' is the sum of its input from step 0 on")
            return LeakyReadout(tau_mem=np.inf, bias=bias, integration=Integration.EULER)
        if layer.has("neuron/gradedSpike") and layer.integer("neuron/gradedSpike"):
            raise InputError.of("NC131", f"{layer.place} has graded spikes", help="supported: spikes without payload")
        if layer.has("neuron/wgtExp") and layer.integer("neuron/wgtExp"):
            raise InputError.of(
                "NC131", f"{layer.place} has wgtExp {layer.integer('neuron/wgtExp')}", help="supported: 0, as netx reads it"
            )
        if layer.has("neuron/refDelay") and (refractory := layer.integer("neuron/refDelay")) != 1:
            self.notes.append(f"{layer.place}: refDelay {refractory} is ignored, as in Lava's netx")
        current = layer.integer("neuron/iDecay", low=1, high=_UNITY)
        membrane = layer.integer("neuron/vDecay", low=0, high=_UNITY)
        common: dict[str, Any] = {
            "tau_mem": self.dt * _UNITY / membrane if membrane else np.inf,
            "v_threshold": layer.integer("neuron/vThMant", low=0, high=_VTH_MAX) + _RESOLUTION,
            "bias": bias,
            "reset": Reset.TO_VALUE,
            "integration": Integration.EULER,
        }
        return LIF(**common) if current == _UNITY else CubaLIF(**common, tau_syn=self.dt * _UNITY / current)

    def _delays(self, layer: Layer, n: int, n_in: int) -> IntArray:
        """Return the delay of each synapse (n, n_in), steps >= 1: a number for all, one a neuron, one an input, or one a synapse."""
        if not layer.has("delay"):
            return np.broadcast_to(np.int64(1), (n, n_in))
        given = layer.integers("delay", low=0)
        if (longest := int(given.max(initial=0))) > _DELAY_MAX:
            self.notes.append(f"{layer.place}: delays up to {longest} steps are clamped at {_DELAY_MAX}, as in Lava's netx")
        steps = np.minimum(given, _DELAY_MAX) + 1
        if steps.size == 1:
            return np.broadcast_to(steps.reshape(()), (n, n_in))
        if steps.shape == (n, n_in):
            return steps
        flat = steps.reshape(-1)
        if flat.size == n and steps.ndim < 3:
            return np.broadcast_to(flat[:, np.newaxis], (n, n_in))
        if flat.size == n_in and steps.ndim == 1:
            return np.broadcast_to(flat, (n, n_in))
        raise _mismatch(layer, f"delay has shape {given.shape}, must be one number, ({n},), ({n_in},) or ({n}, {n_in})")

    def _connect(self, layer: Layer, source: str, weight: IntArray, delay: IntArray) -> None:
        entries = sparse.coo_matrix(weight)
        self._project(layer, source, entries, delay[entries.row, entries.col])

    def _project(self, layer: Layer, source: str, entries: Any, delay: IntArray) -> None:
        """Add a projection: synapses by target, then source."""
        if entries.nnz == 0:
            self.notes.append(f"no projection from '{source}' to '{layer.number}': all weights are 0")
            return
        order = np.lexsort((entries.col, entries.row))
        connect = Explicit(
            pre=entries.col[order], post=entries.row[order], weight=entries.data[order], delay=delay[order], source=layer.place
        )
        self.projections.append(Projection(pre=source, post=str(layer.number), connect=connect))


def _is_group(layer: Layer, key: str) -> bool:
    return layer.has(key) and hasattr(layer.group[key], "keys")


def _mismatch(layer: Layer, what: str, help: str = "") -> InputError:
    help = help or "export the network again; shapes are (C, H, W)"
    return InputError(Diagnostic(code="NC143", message=f"{layer.place}: {what}", help=help))


def _shape(layer: Layer) -> Shape:
    shape = tuple(int(n) for n in layer.integers("shape", low=1).reshape(-1))
    if not 1 <= len(shape) <= 3:
        raise _mismatch(layer, f"shape has {len(shape)} dimensions, needs 1 to 3")
    if size(shape) > _SIZE_MAX:
        raise InputError.of("NC146", f"{layer.place} has {size(shape)} neurons, at most {_SIZE_MAX} are possible")
    return shape


def _agree(layer: Layer, expected: dict[str, int]) -> None:
    for key, value in expected.items():
        if layer.has(key) and (found := layer.integer(key)) != value:
            raise _mismatch(layer, f"{key} is {found}, but its weights and its input say {value}")


def _bias(layer: Layer, shape: Shape) -> Param:
    """Return the bias in membrane units: one number, or one a neuron; a channel's bias is that of its neurons."""
    if not layer.has("bias"):
        return 0.0
    bias = layer.integers("bias").reshape(-1)
    if bias.size not in {1, shape[0]}:
        raise _mismatch(layer, f"{bias.size} biases for {shape[0]} {'channels' if len(shape) > 1 else 'neurons'}")
    if (bias == bias[0]).all():
        return float(bias[0])
    return np.repeat(bias, size(shape) // bias.size).astype(np.float64)


__all__ = ["INPUT", "read_netx"]
