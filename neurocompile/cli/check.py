"""``check``: read a description and say what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from neurocompile.cli.common import Opened, Output, common_options, network_argument, network_options, open_network, table
from neurocompile.ir import Network, Projection
from neurocompile.ir.realise import iter_chunks, require_memory


def network_numbers(network: Network, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return n_neurons, n_synapses and n_plastic_synapses; ``sizes``: synapses of each projection."""
    plastic = {p.name for p in network.synaptic_projections if p.learning is not None}
    return {
        "n_neurons": network.n_neurons,
        "n_synapses": sum(sizes.values()),
        "n_plastic_synapses": sum(size for name, size in sizes.items() if name in plastic),
    }


def _measured(opened: Opened, projection: Projection) -> tuple[int, tuple[int, int]]:
    """Return the number of synapses, and the shortest and longest delay: drawn chunk by chunk, each forgotten when it is counted."""
    if opened.connections is not None:
        parts = [opened.connections[projection.name].delay]
    else:
        parts = (chunk.connections.delay for chunk in iter_chunks(opened.network, projection))  # type: ignore[assignment]
    found = [(len(delay), int(delay.min()), int(delay.max())) for delay in parts if len(delay)]
    if not found:
        return 0, (1, 1)
    counts, shortest, longest = zip(*found, strict=True)
    return sum(counts), (min(shortest), max(longest))


@click.command()
@network_argument
@network_options
@common_options
def check(net: Path, dt: str | None, seed: int | None, output: Output) -> None:
    """Read and verify NET; show its populations and projections."""
    opened = open_network(net, dt=dt, seed=seed, output=output)
    network = opened.network
    if opened.connections is None:
        require_memory(network, network.synaptic_projections)  # what the other verbs need at least; nothing is kept here
    populations = table(f"{network.name}: dt {network.dt * 1e3:g} ms, seed {network.seed}", "population", "model", "neurons")
    for p in network.populations:
        populations.add_row(p.name, p.model.kind, str(p.size))
    projections = table("", "projection", "synapses", "delay", "learning")
    rows, sizes = [], {}
    for q in network.synaptic_projections:
        sizes[q.name], delays = _measured(opened, q)
        rows.append(
            {"name": q.name, "pre": q.pre, "post": q.post, "n_synapses": sizes[q.name], "delay_steps": list(delays), "learning": q.learning}
        )
        projections.add_row(q.name, str(sizes[q.name]), "..".join(str(d) for d in sorted(set(delays))), q.learning or "-")
    numbers = network_numbers(network, sizes)
    payload = {
        "name": network.name,
        "dt": network.dt,
        "seed": network.seed,
        "populations": [{"name": p.name, "model": p.model.kind, "size": p.size} for p in network.populations],
        "projections": rows,
        "notes": list(network.notes),
        **numbers,
    }
    summary = f"ok: {numbers['n_neurons']} neurons, {numbers['n_synapses']} synapses, {numbers['n_plastic_synapses']} of them plastic"
    output.result("check", payload, populations, projections, summary)
