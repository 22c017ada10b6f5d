"""``simulate``: run a network in the reference engine on given spikes and signals."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import click

import neurocompile
from neurocompile.backends.reference import RecordOptions, Simulator
from neurocompile.backends.reference.engine import Choice, learns_kappa
from neurocompile.backends.reference.engine_anchored import LOST_DIGITS
from neurocompile.backends.reference.simulator import ALGORITHMS, choose
from neurocompile.cli import INTERRUPTED
from neurocompile.cli.check import network_numbers
from neurocompile.cli.common import (
    Output,
    common_options,
    connect,
    named_files,
    network_argument,
    network_options,
    numbered,
    open_network,
    table,
)
from neurocompile.cli.numerics import numerics_of, numerics_options, refuse_options, simulate_in_integers
from neurocompile.ir import Network
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.npz import AnyArray, stream_npz
from neurocompile.ir.realise import Connections, realise
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.pipeline import load_kappas
from neurocompile.simulation import memory
from neurocompile.simulation.checkpoint import CheckpointFile
from neurocompile.simulation.engines import RECORDABLE, ReferenceEngine
from neurocompile.simulation.identity import identity_of
from neurocompile.simulation.run import Plan, Run
from neurocompile.tasks.checkpoint import arrays_digest
from neurocompile.tasks.progress import interruptible, track


def result_arrays(run: Run, simulator: Simulator, connections: Mapping[str, Connections] | None) -> Iterator[tuple[str, AnyArray]]:
    """Yield the arrays of out.npz: ``weight:``, ``pre:``, ``post:``, a learnt ``kappa:`` per projection, ``spike_step:``,
    ``spike_neuron:`` per population, ``output:`` per readout, and what else was recorded. Synapses that are not at hand are realised,
    one projection at a time."""
    for projection in simulator.network.synaptic_projections:
        name = projection.name
        yield f"weight:{name}", simulator.weight(name)
        if name in learns_kappa(simulator.network):
            yield f"kappa:{name}", simulator.kappa(name)
        if name in simulator.rewired:
            ends = simulator.connections(name)
        else:
            ends = realise(simulator.network, projection) if connections is None else connections[name]
        yield f"pre:{name}", ends.pre
        yield f"post:{name}", ends.post
        del ends
    yield from run.arrays()


def _record_options(values: tuple[str, ...], every: int, populations: set[str], projections: set[str]) -> RecordOptions:
    asked: dict[str, dict[str, None]] = {}
    for value in values:
        kind, colon, name = value.partition(":")
        if not colon or kind not in RECORDABLE:
            raise InputError.of("NC160", f"--record {value!r} is not of the form KIND:NAME", help=f"kinds: {', '.join(RECORDABLE)}")
        known = projections if kind in {"traces", "weights"} else populations
        if name not in known:
            raise InputError.of("NC207", f"--record {value!r}: there is no '{name}'", help=f"known: {', '.join(sorted(known))}")
        asked.setdefault(kind, {})[name] = None
    chosen = {kind: tuple(names) if kind in {"traces", "weights"} else names for kind, names in asked.items()}
    return RecordOptions(every=every, **chosen)  # type: ignore[arg-type]


def _check_memory(network: Network, choice: Choice, plan: Plan, *, precision: str, ranges: int, given: bool) -> None:
    """Raise DoesNotFitError NC410 before anything large is allocated."""
    later = memory.recording_needs(network, plan.record, plan.n_steps, kept=plan.kept)
    if plan.kept:
        later += memory.saving_needs(network, given=given)

    def needs(precision: str) -> list[memory.Need]:
        return memory.network_needs(network, algorithm=choice.algorithm, precision=precision, ranges=ranges, given=given)

    def total(needed: list[memory.Need]) -> float:
        return sum(x.n_bytes for x in needed)

    now = needs(precision)
    ways_out = {}
    if choice.algorithm == "anchored" and precision == "float64":
        ways_out["--precision float32"] = total(needs("float32") + later)
    if plan.kept:
        ways_out["no --save"] = total(now)
    memory.check_fits(f"simulating '{network.name}' ({choice.algorithm}, {precision})", now + later, ways_out=ways_out)


@click.command()
@network_argument
@click.option("--steps", required=True, type=click.IntRange(1), help="Update steps 0 .. N-1.")
@click.option("--input", "inputs", multiple=True, metavar="POP=FILE", help="Spikes of a source, by name or number (npz: neuron, step).")
@click.option("--signal", "signals", multiple=True, metavar="READOUT=FILE", help="Target of a readout (npz: target, window; reward).")
@numerics_options
@click.option("--weights", type=click.Path(path_type=Path), help="Start from these weights (npz: weight:NAME).")
@click.option("--save", type=click.Path(path_type=Path), help="Write spikes, outputs and final weights (npz).")
@click.option("--record", multiple=True, metavar="KIND:NAME", help=f"Record more into --save; kinds: {', '.join(RECORDABLE)}.")
@click.option("--no-learn", is_flag=True, help="Keep all weights as they are.")
@click.option("--record-every", type=click.IntRange(1), default=1, show_default=True, help="Steps between recorded traces and weights.")
@click.option("--flush", is_flag=True, help="Apply gradients that wait for their source's next spike at the end.")
@click.option("--algorithm", type=click.Choice(ALGORITHMS), default="auto", show_default=True, help="How e-prop is computed.")
@click.option(
    "--precision", type=click.Choice(list(LOST_DIGITS)), default="float64", show_default=True, help="Of plastic synapses (anchored)."
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads (anchored); results do not depend on them.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Write checkpoints to this file (and FILE.part...).")
@click.option("--checkpoint-every", type=click.IntRange(1), metavar="STEPS", help="Default: every 30 s.")
@click.option("--resume", is_flag=True, help="Go on from --checkpoint, bit-identically.")
@network_options
@common_options
def simulate(
    net: Path,
    steps: int,
    inputs: tuple[str, ...],
    signals: tuple[str, ...],
    numerics: str | None,
    allow_approximation: bool,
    settings: tuple[str, ...],
    weights: Path | None,
    save: Path | None,
    record: tuple[str, ...],
    record_every: int,
    no_learn: bool,
    flush: bool,
    algorithm: str,
    precision: str,
    threads: int,
    checkpoint: Path | None,
    checkpoint_every: int | None,
    resume: bool,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> int:
    """Run NET in the reference engine, or with --numerics in a target's integers.

    A spike at step s reaches a target behind delay d in update step s+d. Row t of a signal is compared with the readout in update step
    t. A weight changes when its source spikes, and the spike travels with the new weight.

    With --checkpoint, Ctrl-C writes a checkpoint and ends with exit code 130; --resume goes on from it.
    """
    if checkpoint is None and (resume or checkpoint_every is not None):
        raise InputError.of("NC160", f"{'--resume' if resume else '--checkpoint-every'} has no effect without --checkpoint")
    integers = numerics_of(numerics, settings, allow_approximation=allow_approximation)
    if integers is not None:
        refuse_options(
            {
                "--record": bool(record),
                "--record-every": record_every != 1,
                "--flush": flush,
                "--algorithm": algorithm != "auto",
                "--precision": precision != "float64",
                "--threads": threads != 1,
            }
        )
    opened = open_network(net, dt=dt, seed=seed, output=output)
    network = opened.network
    sources = {p.name: p.size for p in network.spike_sources}
    readouts = {p.name: p.size for p in network.readouts}
    memory.check_steps(steps, sum(readouts.values()))
    memory.check_neurons(network)
    files, signal_files = named_files(numbered(inputs, list(sources)), "--input", sources), named_files(signals, "--signal", readouts)
    memory.check_fits("reading the inputs", memory.file_needs([*files.values(), *signal_files.values()]))
    spikes = {name: Spikes.load(file, size=sources[name]) for name, file in files.items()}
    given_signals = {name: Signal.load(file, size=readouts[name]) for name, file in signal_files.items()}
    if integers is not None:
        return simulate_in_integers(
            opened,
            integers,
            spikes,
            given_signals,
            steps=steps,
            weights=weights,
            save=save,
            no_learn=no_learn,
            file=None if checkpoint is None else CheckpointFile(checkpoint),
            every=checkpoint_every,
            resume=resume,
            output=output,
        )
    plan = Plan(
        n_steps=steps,
        spikes=spikes,
        signals=given_signals,
        learn=not no_learn,
        record=_record_options(record, record_every, {p.name for p in network.populations}, {p.name for p in network.synaptic_projections}),
        kept=save is not None,
    )
    if record and save is None and checkpoint is None:
        raise InputError.of("NC160", "--record has no effect without --save")
    choice = choose(network, algorithm, precision, threads)
    given = weights is not None or opened.connections is not None
    file = None if checkpoint is None else CheckpointFile(checkpoint)
    meta = file.read() if file is not None and resume else None
    ranges = threads if meta is None else meta.ranges  # what was saved lies by them
    _check_memory(network, choice, plan, precision=precision, ranges=ranges, given=given)
    try:
        with track(None if output.verbosity >= 0 else False) as bar:
            connections = connect(opened, weights) if given else None
            kappas = load_kappas(network, weights)
            identity = {}
            if file is not None:
                options = {
                    "--no-learn": "on" if no_learn else "off",
                    "--record": " ".join(record) or "nothing",
                    "--record-every": str(record_every),
                    "the algorithm": choice.algorithm,
                    "--precision": precision,
                    "the version": neurocompile.__version__,
                }
                identity = identity_of(network, connections, plan, options)
                if kappas:
                    identity["the kappas"] = arrays_digest(kappas)
            if file is not None:
                file.enter(meta, identity, steps)
            began = time.perf_counter()
            simulator = Simulator(
                network, connections, algorithm=algorithm, precision=precision, threads=threads, ranges=ranges, progress=bar.update
            )
            simulator.set_kappas(kappas)
            build_s = time.perf_counter() - began - simulator.compile_s
            run = Run(ReferenceEngine(simulator), plan, file, identity)
            if meta is not None:
                run.resume(meta)
            with interruptible() if file is not None else nullcontext(lambda: False) as stopped:
                finished = run.go(checkpoint_every, stopped, bar)
        if finished and flush:
            simulator.flush()
        if finished and save is not None:
            stream_npz(save, result_arrays(run, simulator, connections))
    except MemoryError as error:
        raise DoesNotFitError.of(
            "NC410",
            f"simulating '{network.name}' needs more memory than there is: {error}",
            help="make the network smaller, or record less",
        ) from None
    n_spikes = {p.name: run.n_spikes.get(p.name, 0) for p in network.populations if p.model.spikes}
    n_bytes = simulator.bytes_per_plastic_synapse()
    payload = {
        "name": network.name,
        "steps": steps,
        "steps_done": run.step,
        "interrupted": not finished,
        "learning": not no_learn,
        "seed": network.seed,
        **network_numbers(network, simulator.n_synapses),
        "n_spikes": n_spikes,
        "n_synaptic_events": simulator.n_synaptic_events,
        "mean_reward": None if network.actor_critic is None else run.reward / max(run.step, 1),
        "n_rewired": simulator.n_rewired,
        "n_stuck": simulator.n_stuck,
        "algorithm": simulator.algorithm,
        "algorithm_reason": simulator.reason,
        "precision": precision,
        "threads": simulator.threads,
        "ranges": simulator.ranges,
        "bytes_per_plastic_synapse": n_bytes,
        "wall_s": run.wall_s,
        "compile_s": simulator.compile_s,
        "build_s": build_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "save": str(save) if save is not None and finished else None,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }
    rows = table(f"{network.name}: {run.step} steps of {network.dt * 1e3:g} ms", "population", "spikes", "Hz per neuron")
    for name, count in n_spikes.items():
        rows.add_row(name, str(count), f"{count / (network.population(name).size * max(run.step, 1) * network.dt):.2f}")
    lines = [
        f"{simulator.algorithm} algorithm ({simulator.reason}), {precision}, {simulator.threads} thread{'s' * (simulator.threads > 1)}"
        + (f", {n_bytes:.1f} bytes a plastic synapse" if n_bytes else ""),
        f"{simulator.n_synaptic_events} synaptic events in {run.wall_s:.3f} s of stepping "
        f"({build_s:.1f} s of building, {simulator.compile_s:.1f} s of compiling)",
    ]
    if simulator.threads < threads:
        split = f"neurons are split into {simulator.threads} range{'s' * (simulator.threads > 1)}" + (
            " in the checkpoint" if resume else ""
        )
        lines.append(f"{threads - simulator.threads} of {threads} threads had nothing to do: {split}")
    if network.actor_critic is not None:
        lines.append(f"mean reward {run.reward / max(run.step, 1):.6g} a step")
    for name, moved in simulator.n_rewired.items():
        lines.append(f"{name}: {moved} times a synapse moved, {simulator.n_stuck[name]} times no pair was free")
    if finished and save is not None:
        lines.append(f"wrote {save}")
    if not finished:
        lines.append(f"interrupted after {run.step} of {steps} steps; run the same command with --resume to go on from {checkpoint}")
    output.result("simulate", payload, rows, *lines)
    return 0 if finished else INTERRUPTED
