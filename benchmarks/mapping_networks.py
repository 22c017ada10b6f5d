"""The reference networks of the mapping benchmarks, each with its planted answer where there is one.

| name | neurons | synapses | planted answer |
|---|---|---|---|
| ``uniform`` | 10,000 | 1.0 M: each neuron has 100 distinct targets at random | none |
| ``spatial`` | 316 x 316 torus | 9.4 M: Gaussian, sigma 8 | 16 x 16 tiles |
| ``modular`` | 256 communities of 250 | 6.4 M: 100 targets each, 80 % in the community | the communities |
| ``conv`` | 45,000 | 6.9 M: 5 convolutions and a dense layer | none |
| ``spatial_1m`` | 1000 x 1000 torus | 96 M: Gaussian, sigma 10 | 32 x 32 tiles |
| ``larva`` | 1,240 of the brain of a Drosophila larva | 32,564 | none |
| ``microcircuit`` | 3,858: a twentieth of the cortical column of Potjans and Diesmann | 0.8 M | none |
| ``cnn`` | 8,970: the N-MNIST network ``cnn_sinabs.nir`` | 1.0 M | none |

Neurons are numbered in natural order (row by row, community by community, channel by channel) or shuffled; multiple synapses of a pair are
one edge. The last but one comes from a description, larva and cnn from files in ``../shared/data``.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise_all
from neurocompile.mapping.problem import MappingProblem, Resource

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

MICROCIRCUIT = ("L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I")
SIZES = (20683, 5834, 21915, 5479, 4850, 1065, 14395, 2948)
# Connection probabilities of Potjans and Diesmann (Cereb. Cortex 24, 2014), table 5: rows are targets, columns sources.
PROBABILITIES = (
    (0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0),
    (0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0),
    (0.0077, 0.0059, 0.0497, 0.135, 0.0067, 0.0003, 0.0453, 0.0),
    (0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0),
    (0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0),
    (0.0548, 0.0269, 0.0257, 0.0022, 0.06, 0.3158, 0.0086, 0.0),
    (0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252),
    (0.0364, 0.001, 0.0034, 0.0005, 0.0277, 0.008, 0.0658, 0.1443),
)
CELL = "{model: cuba_lif, size: %d, params: {tau_mem: 10 ms, tau_syn: 5 ms, v_threshold: 1.0, reset: to_value, t_ref: 2 ms}}"


class MissingError(Exception):
    """A network needs a file that is not here."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """A network: CSR of distinct targets by source, and the part of each neuron in the planted answer (None: there is none).

    ``file``: the network in its natural order, where it comes from a file that the compiler reads."""

    name: str
    indptr: Int64
    indices: Int32
    planted: Int32 | None
    population: Int32
    population_names: tuple[str, ...]
    file: Path | None = None

    @property
    def n_neurons(self) -> int:
        return len(self.indptr) - 1


def _csr(n: int, pre: Int64, post: Int64) -> tuple[Int64, Int32]:
    """Distinct pairs as CSR; works row by row of blocks of sources, so that sorting never holds all pairs twice."""
    order = np.argsort(pre, kind="stable") if (np.diff(pre) < 0).any() else None
    if order is not None:
        pre, post = pre[order], post[order]
    starts = np.searchsorted(pre, np.arange(0, n + 1, max(1, n // 64)))
    if starts[-1] != len(pre):
        starts = np.append(starts, len(pre))
    counts = np.zeros(n, np.int64)
    found = []
    for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        code = np.unique(pre[a:b].astype(np.int64) * n + post[a:b])
        counts += np.bincount(code // n, minlength=n)
        found.append((code % n).astype(np.int32))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.concatenate(found or [np.zeros(0, np.int32)])


def rates(n: int, seed: int) -> npt.NDArray[np.float64]:
    """Log-normal firing rates, median 5 and mean 7.5, as measured in cortex (Buzsaki and Mizuseki 2014); spikes per (long) step."""
    return np.random.default_rng([seed, 1]).lognormal(np.log(5.0), 0.9, n)


def uniform(seed: int = 1, n: int = 10_000, degree: int = 100) -> Reference:
    """Each neuron has ``degree`` distinct targets at random."""
    rng = np.random.default_rng(seed)
    post = np.concatenate([rng.choice(n, degree, replace=False) for _ in range(n)])
    return _single("uniform", n, np.repeat(np.arange(n), degree), post, None)


def spatial(seed: int = 1, side: int = 316, sigma: float = 8.0, degree: int = 100, tiles: int = 16) -> Reference:
    """``degree`` draws of a target at a Gaussian distance on a torus; itself and what is drawn twice is dropped."""
    rng = np.random.default_rng(seed)
    n = side * side
    indptr, indices = [np.zeros(1, np.int64)], []
    total = 0
    for row in range(side):
        pre = np.repeat(np.arange(row * side, (row + 1) * side), degree)
        dy, dx = np.rint(rng.normal(0.0, sigma, (2, len(pre)))).astype(np.int64)
        post = (row + dy) % side * side + (pre % side + dx) % side
        code = np.unique((pre * n + post)[pre != post])
        indices.append((code % n).astype(np.int32))
        counts = np.bincount(code // n - row * side, minlength=side)
        indptr.append(total + np.cumsum(counts))
        total += len(code)
    y, x = np.divmod(np.arange(n), side)
    planted = (y * tiles // side * tiles + x * tiles // side).astype(np.int32)
    return Reference(
        name="spatial",
        indptr=np.concatenate(indptr),
        indices=np.concatenate(indices),
        planted=planted,
        population=np.zeros(n, np.int32),
        population_names=("all",),
    )


def spatial_1m(seed: int = 1) -> Reference:
    """A million neurons, 96 million synapses."""
    return spatial(seed, side=1000, sigma=10.0, degree=100, tiles=32)


def modular(seed: int = 1, communities: int = 256, size: int = 250, degree: int = 100, inside: float = 0.8) -> Reference:
    """``degree`` draws of a target, each with probability ``inside`` in the own community, else anywhere."""
    rng = np.random.default_rng(seed)
    n = communities * size
    pre = np.repeat(np.arange(n), degree)
    own = rng.random(len(pre)) < inside
    post = np.where(own, pre // size * size + rng.integers(0, size, len(pre)), rng.integers(0, n, len(pre)))
    keep = pre != post
    return _single("modular", n, pre[keep], post[keep], (np.arange(n) // size).astype(np.int32))


CONV_LAYERS = ((3, 32, 1), (8, 32, 1), (16, 32, 1), (32, 16, 2), (64, 8, 2), (64, 8, 1))
"""(channels, side, stride) of the input and of five 3 x 3 convolutions with padding 1."""
CONV_DENSE = 276


def conv(
    seed: int = 1,  # noqa: ARG001 - every network has the same signature; there is nothing random in this one
    layers: tuple[tuple[int, int, int], ...] = CONV_LAYERS,
    dense: int = CONV_DENSE,
) -> Reference:
    """Convolutions and a dense layer, neurons channel by channel."""
    start, pre, post, population = 0, [], [], []
    for layer, (channels, side, stride) in enumerate(layers):
        n = channels * side * side
        population.append(np.full(n, layer))
        if layer:
            before, width, _ = layers[layer - 1]
            first = start - before * width * width
            _, y, x = np.unravel_index(np.arange(n), (channels, side, side))
            for b in range(before):
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        sy, sx = y * stride + dy, x * stride + dx
                        ok = (sy >= 0) & (sy < width) & (sx >= 0) & (sx < width)
                        pre.append((first + b * width * width + sy * width + sx)[ok])
                        post.append((start + np.arange(n))[ok])
        start += n
    last = layers[-1][0] * layers[-1][1] ** 2
    pre.append(np.repeat(np.arange(start - last, start), dense))
    post.append(np.tile(np.arange(start, start + dense), last))
    population.append(np.full(dense, len(layers)))
    names = ("input", *(f"conv{i}" for i in range(1, len(layers))), "dense")
    made = _single("conv", start + dense, np.concatenate(pre), np.concatenate(post), None)
    return Reference(
        name="conv",
        indptr=made.indptr,
        indices=made.indices,
        planted=None,
        population=np.concatenate(population).astype(np.int32),
        population_names=names,
    )


def _single(name: str, n: int, pre: Int64, post: Int64, planted: Int32 | None) -> Reference:
    indptr, indices = _csr(n, pre, post)
    return Reference(
        name=name, indptr=indptr, indices=indices, planted=planted, population=np.zeros(n, np.int32), population_names=("all",)
    )


def larva(seed: int = 1) -> Reference:  # noqa: ARG001
    """The connectome, multiple synapses of a pair as one, neurons in the order of their numbers.

    Raises
    ------
    MissingError
        The file is not here.
    """
    file = SHARED / "connectomes" / "drosophila_larva_edges.csv"
    if not file.exists():
        raise MissingError(f"{file.name} is not in ../shared/data/connectomes")
    pre, post, _ = np.loadtxt(file, dtype=np.int64, delimiter=",", unpack=True)
    names, ends = np.unique(np.concatenate([pre, post]), return_inverse=True)
    return _single("larva", len(names), ends[: len(pre)], ends[len(pre) :], None)


def describe_microcircuit(scale: float = 0.05) -> str:
    """Description of the cortical column: populations of ``scale`` x their size, connection probabilities as they are."""
    sizes = [max(10, round(scale * n)) for n in SIZES]
    populations = [f"  {p}: " + CELL % n for p, n in zip(MICROCIRCUIT, sizes, strict=True)]
    projections = [
        f"  - {{pre: {pre}, post: {post}, connect: {{fixed_probability: {PROBABILITIES[j][i]}}}, "
        f"weight: {-0.04 if pre.endswith('I') else 0.01}, delay: 1 ms}}"
        for j, post in enumerate(MICROCIRCUIT)
        for i, pre in enumerate(MICROCIRCUIT)
        if PROBABILITIES[j][i] > 0
    ]
    return "\n".join(["name: microcircuit", "dt: 1 ms", "seed: 1", "populations:", *populations, "projections:", *projections]) + "\n"


def microcircuit(seed: int = 1) -> Reference:
    """The synapses of :func:`describe_microcircuit`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "microcircuit.yaml"
        file.write_text(describe_microcircuit(), "utf-8")
        return _described("microcircuit", file, seed)


def cnn(seed: int = 1) -> Reference:
    """The convolutional network of the NIR paper; its input is a population like the others.

    Raises
    ------
    MissingError
        The file is not here.
    """
    file = SHARED / "networks" / "nir" / "cnn_sinabs.nir"
    if not file.exists():
        raise MissingError(f"{file.name} is not in ../shared/data/networks/nir")
    return replace(_described("cnn", file, seed), file=file)


def _described(name: str, file: Path, seed: int) -> Reference:
    network = read_network(file, dt=1e-3, seed=seed) if file.suffix == ".nir" else read_network(file, seed=seed)
    connections = realise_all(network)
    synaptic = network.synaptic_projections
    pre = np.concatenate([connections[p.name].pre.astype(np.int64) + network.offsets[p.pre] for p in synaptic])
    post = np.concatenate([connections[p.name].post.astype(np.int64) + network.offsets[p.post] for p in synaptic])
    names = tuple(network.offsets)
    starts = np.array([*network.offsets.values(), network.n_neurons])
    indptr, indices = _csr(network.n_neurons, pre, post)
    return Reference(
        name=name,
        indptr=indptr,
        indices=indices,
        planted=None,
        population=np.repeat(np.arange(len(names)), np.diff(starts)).astype(np.int32),
        population_names=names,
    )


NETWORKS = {
    "uniform": uniform,
    "spatial": spatial,
    "modular": modular,
    "conv": conv,
    "spatial_1m": spatial_1m,
    "larva": larva,
    "microcircuit": microcircuit,
    "cnn": cnn,
}


def shuffled(reference: Reference, seed: int = 1) -> tuple[Reference, Int32]:
    """The same network with its neurons in random order, and the new number of each neuron. Populations are shuffled too."""
    n = reference.n_neurons
    new = np.random.default_rng([seed, 2]).permutation(n).astype(np.int32)
    old = np.empty(n, np.int32)
    old[new] = np.arange(n, dtype=np.int32)
    counts = np.diff(reference.indptr)[old]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    indices = np.empty_like(reference.indices)
    for i in range(n):
        source = old[i]
        targets = new[reference.indices[reference.indptr[source] : reference.indptr[source + 1]]]
        targets.sort()
        indices[indptr[i] : indptr[i + 1]] = targets
    made = Reference(
        name=reference.name,
        indptr=indptr,
        indices=indices,
        planted=None if reference.planted is None else reference.planted[old],
        population=reference.population[old],
        population_names=reference.population_names,
    )
    return made, new


def problem_of(
    reference: Reference,
    cores: int,
    *,
    slack: float = 0.05,
    balance: str = "neurons",
    rate: npt.NDArray[np.float64] | None = None,
    axons_in: float | None = None,
) -> MappingProblem:
    """A problem with synthetic limits: a core holds (1 + slack) / cores of all neurons, of all synapses, or of both (``balance``)."""
    n = reference.n_neurons
    limits = []
    if balance in {"neurons", "both"}:
        limits.append(Resource(name="neurons", unit="neuron", limit=float(np.ceil(n / cores * (1 + slack))), per_neuron=np.ones(n)))
    if balance in {"synapses", "both"}:
        in_degree = np.bincount(reference.indices, minlength=n).astype(np.float64)
        room = float(np.ceil(in_degree.sum() / cores * (1 + slack)))
        limits.append(Resource(name="synapses", unit="synapse", limit=room, per_neuron=in_degree))
    if axons_in is not None:
        limits.append(Resource(name="axons_in", unit="axon", limit=axons_in, per_neuron=np.zeros(n), per_axon_in=1.0))
    return MappingProblem(
        n_neurons=n,
        population=reference.population,
        population_names=reference.population_names,
        external=np.zeros(n, bool),
        indptr=reference.indptr,
        indices=reference.indices,
        resources=tuple(limits),
        core_width=np.ones(len(reference.population_names), np.int32),
        rate=rate,
    )
