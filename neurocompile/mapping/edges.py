"""Mapping problems of bare graphs: who talks to whom, K equal cores, nothing of any target."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurocompile.ir.connectivity import check_ends
from neurocompile.ir.edge_files import pre_and_post
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import load_npz
from neurocompile.mapping.problem import BoolArray, FloatArray, Int32Array, MappingProblem, Resource
from neurocompile.mapping.targets import Ints, distinct_targets

BALANCES = ("neurons", "synapses")


def read_edge_file(path: Path) -> tuple[int, Int32Array, Int32Array, FloatArray | None]:
    """Return (n, pre, post, rate) of an edge file.

    Parameters
    ----------
    path
        ``.npz`` with 1-D integers ``pre`` and ``post``; optional ``n`` (number of neurons, default: the largest index + 1) and ``rate``
        (float (n,), spikes per step, >= 0).

    Raises
    ------
    InputError
        NC105, NC106, NC107 (file, arrays), NC201 .. NC204 (values).
    """
    arrays = load_npz(path)
    ends = pre_and_post(arrays, path, "np.savez(path, pre=..., post=...), optionally with rate and n")
    check_ends(*ends, path.name)
    pre, post = (end.astype(np.int32) for end in ends)  # check_ends: they fit
    largest = int(max(pre.max(initial=-1), post.max(initial=-1)))
    n = largest + 1
    if "n" in arrays:
        given = arrays["n"]
        if given.size != 1 or given.dtype.kind not in "iu":
            raise InputError.of("NC202", f"'n' must be one integer, it holds {given.dtype} of shape {given.shape}", file=str(path))
        n = int(given.reshape(-1)[0])
        if n <= largest:
            raise InputError.of(
                "NC204", f"neuron {largest} has an edge, but n is {n}", file=str(path), help="neurons count from 0 to n - 1"
            )
    elif "rate" in arrays:
        n = max(n, arrays["rate"].size)
    if n > 2**31 - 1:
        raise InputError.of("NC201", f"{n} neurons, at most 2^31 - 1 are possible", file=str(path))
    rate = arrays.get("rate")
    if rate is not None:
        if rate.shape != (n,) or rate.dtype.kind not in "iuf":
            raise InputError.of("NC202", f"'rate' holds {rate.dtype} of shape {rate.shape}, expected numbers ({n},)", file=str(path))
        rate = rate.astype(np.float64)
        wrong = ~(np.isfinite(rate) & (rate >= 0))
        if wrong.any():
            raise InputError.of("NC203", f"'rate' holds {rate[wrong][0]:g}, must be finite and >= 0", file=str(path))
    return n, pre, post, rate


def graph_problem(
    n: int,
    pre: Ints,
    post: Ints,
    *,
    rate: FloatArray | None,
    cores: int,
    slack: float,
    balance: str = "neurons",
    external: BoolArray | None = None,
) -> MappingProblem:
    """Return the problem of putting n neurons on ``cores`` equal cores.

    Each core holds at most max(1 + slack) x its even share, of neurons or of synapses (``balance``), but never less than what one neuron
    needs or an even split gives. Repeated edges count once in traffic, each for itself in synapses. External neurons take no core.
    """
    outside = np.zeros(n, np.bool_) if external is None else external
    cost = np.bincount(post, minlength=n).astype(np.float64) if balance == "synapses" else np.ones(n)
    cost[outside] = 0.0
    share = cost.sum() / cores
    limit = max(np.floor((1.0 + slack) * share * (1 + 1e-12)), np.ceil(share), cost.max(initial=0.0), 1.0)
    indptr, indices = distinct_targets(n, [(pre, post, 0, 0)])
    return MappingProblem(
        n_neurons=n,
        population=np.zeros(n, np.int32),
        population_names=("neurons",),
        external=outside,
        indptr=indptr,
        indices=indices,
        resources=(Resource(name=balance, unit=balance[:-1], limit=float(limit), per_neuron=cost, confidence="given"),),
        core_width=np.ones(1, np.int32),
        rate=rate,
    )
