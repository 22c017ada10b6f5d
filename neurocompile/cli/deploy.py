"""``deploy``: run a build's program at a place with hardware, through the user's own ssh."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from neurocompile.build_check import check_build
from neurocompile.cli.common import Output, common_options, printable
from neurocompile.deploy.destination import ConnectionLost, check_file, file_digest, sums_text
from neurocompile.deploy.driver import Deployment, Tempo, order_of
from neurocompile.deploy.inrc import COPIES, GENERATIONS, LAUNCHES, TARGET, Inrc, InrcSettings
from neurocompile.deploy.state import RESULTS, STATE, RunFolder, State, locked
from neurocompile.ir.errors import InputError, NeurocompileError, SdkMissingError

_FILE_OPTIONS = ("--input", "--signal")
"""Options of program/run.py that name local files, NAME=FILE."""
_SETTLED = ("NC523", "NC526", "NC528")
"""Errors after which nothing need be said about how to go on: they say it, or the job is over."""
_SETTINGS = tuple(f.name for f in fields(InrcSettings))
_WAY_THERE = ("host", "port", "ssh_config")


@click.command()
@click.argument("build", type=click.Path(path_type=Path), required=False)
@click.argument("run_args", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--to", type=click.Choice(["inrc"]), default="inrc", show_default=True, help="Destination: inrc, a host with slurm and lava-loihi."
)
@click.option("--host", metavar="USER@HOST", help="Where to log in: a name that your ssh knows.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the host's ssh; default: that of your configuration.")
@click.option("--ssh-config", type=click.Path(path_type=Path), help="Configuration of ssh instead of ~/.ssh/config.")
@click.option("--partition", metavar="NAME", help="Slurm partition.")
@click.option("--board", metavar="NAME", help="Slurm node, instead of a partition.")
@click.option("--loihi-gen", type=click.Choice(GENERATIONS), default="N3B3", show_default=True, help="Generation of the chip.")
@click.option("--no-hw", is_flag=True, help="Run in Lava's CPU models on the host.")
@click.option(
    "--python", metavar="PATH", default="python3", show_default=True, help="Python on the host that has Lava; ~/ is the home folder there."
)
@click.option(
    "--launch", type=click.Choice(LAUNCHES), default="sbatch", show_default=True, help="As a job of slurm, or on the host itself."
)
@click.option(
    "--copy", type=click.Choice(COPIES), default="auto", show_default=True, help="How files travel; auto: rsync where both ends have it."
)
@click.option(
    "--remote-dir",
    metavar="PATH",
    default=".neurocompile",
    show_default=True,
    help="Folder on the host, below the home folder or absolute.",
)
@click.option("--poll", type=click.FloatRange(0.05, 3600), default=3.0, show_default=True, help="Seconds between two looks at the log.")
@click.option("--patience", type=click.FloatRange(0), default=60.0, show_default=True, help="Minutes to try to reach the host again.")
@click.option("--dry-run", is_flag=True, help="Show every command, script and file; connect to nothing, write nothing.")
@click.option("--detach", is_flag=True, help="End when the job is submitted.")
@click.option("--resume", is_flag=True, help="Go on with the deployment of the folder (-o).")
@click.option("--cancel", is_flag=True, help="End the job of the folder (-o).")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Local folder: state, log, results.npz.")
@common_options
@click.pass_context
def deploy(
    context: click.Context,
    /,
    build: Path | None,
    run_args: tuple[str, ...],
    poll: float,
    patience: float,
    dry_run: bool,
    detach: bool,
    resume: bool,
    cancel: bool,
    out: Path,
    output: Output,
    **given: Any,
) -> None:
    """Copy the program of a BUILD to a host, run it there under slurm with RUN_ARGS (behind `--`: those of program/run.py), show its log,
    fetch its results.

    Ctrl-C and a lost connection leave the job alone: --resume goes on, --cancel ends it. Only your own ssh logs in, without questions.
    """
    if resume + cancel + dry_run > 1 or (detach and (cancel or dry_run)):
        raise InputError.of("NC160", "--resume, --cancel, --dry-run and --detach do not go together", help="--resume --detach does")
    explicit = {name for name in given if context.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    stored = RunFolder.open(out).state if resume or cancel else None
    if stored is None:
        settings = _settings(given)
        state = _new_state(build, run_args, settings)
    else:
        settings, state = _stored_settings(stored, given, explicit), stored
        if build is not None:
            _must_be_same(stored, build, run_args, out)
    destination = Inrc(settings)
    if dry_run:
        _show_plan(state, destination, out, output)
    elif cancel:
        with _connected(destination, settings):
            before = destination.cancel(state.run)
        _show(state, out, output, f"cancelled; its state was {before}")
    elif state.phase == "done":
        _show(state, out, output, f"{out / RESULTS} is there already")
    else:
        _run(state, destination, out, output, Tempo(poll=poll, patience=60.0 * patience), new=stored is None, detach=detach)


def _run(state: State, destination: Inrc, out: Path, output: Output, tempo: Tempo, *, new: bool, detach: bool) -> None:
    """Take a deployment as far as it goes."""
    log = _LogStream(output)
    deployment = None
    try:
        with _connected(destination, destination.settings), locked(out, make=new):
            # read again: another process may have gone on before the lock was free
            folder = RunFolder.create(out, state) if new else RunFolder.open(out)
            deployment = Deployment(folder, destination, tempo, tell=lambda line: _note(output, line), show=log.write)
            deployment.begin(lambda: order_of(folder.state, _program_files(Path(folder.state.build), folder.state.digest)))
            if detach:
                _show(folder.state, out, output, deployment.way_on())
                return
            summary = deployment.finish()
            log.end()
            _show(folder.state, out, output, f"wrote {out / RESULTS}", summary=summary)
    except (KeyboardInterrupt, NeurocompileError) as error:
        settled = isinstance(error, NeurocompileError) and error.diagnostics[0].code in _SETTLED
        if deployment is not None and not settled:
            click.echo(f"{'' if isinstance(error, NeurocompileError) else os.linesep}{deployment.way_on()}", err=True)
        raise


@contextmanager
def _connected(destination: Inrc, settings: InrcSettings) -> Iterator[None]:
    """Log in for the time of the block; the first try must succeed (NC520)."""
    try:
        try:
            destination.connect()
        except ConnectionLost as lost:
            raise SdkMissingError.of("NC520", f"{settings.host} cannot be reached: {lost}") from None
        yield
    finally:
        destination.close()


def _settings(given: Mapping[str, Any]) -> InrcSettings:
    """Settings of a new deployment."""
    if given["host"] is None:
        raise InputError.of("NC160", "--host is needed", help="--host USER@HOST, or a name of your ssh configuration")
    if given["partition"] is not None and given["board"] is not None:
        raise InputError.of("NC160", "--partition and --board do not go together", help="a board is in a partition")
    return InrcSettings(**_as_settings(given))


def _as_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: given[name] for name in _SETTINGS if name in given}
    found["hardware"] = not given["no_hw"]
    found["ssh_config"] = None if given["ssh_config"] is None else os.path.abspath(given["ssh_config"])
    return found


def _stored_settings(state: State, given: Mapping[str, Any], explicit: set[str]) -> InrcSettings:
    """Settings of the state file; how to reach the host may change (another login node), the rest must be as it was (NC711)."""
    wanted = _as_settings(given)
    named = {"hardware" if name == "no_hw" else name for name in explicit}
    for name in sorted(named & set(_SETTINGS) - set(_WAY_THERE)):
        if wanted[name] != state.settings.get(name):
            raise InputError.of(
                "NC711",
                f"the deployment began with {name} {state.settings.get(name)!r}, not {wanted[name]!r}",
                help="leave the option out, or begin anew in another folder",
            )
    try:
        return InrcSettings(**{**state.settings, **{name: wanted[name] for name in named & set(_WAY_THERE)}})
    except TypeError as error:
        raise InputError.of("NC721", f"the settings of {STATE} cannot be read: {error}") from None


def _new_state(build: Path | None, run_args: Sequence[str], settings: InrcSettings) -> State:
    if build is None:
        raise InputError.of("NC160", "a BUILD folder is needed", help="neurocompile deploy BUILD --host USER@HOST -o FOLDER -- --steps 100")
    args, inputs = _split_inputs(run_args)
    return State(
        to="inrc",
        settings=settings.as_json(),
        build=os.path.abspath(build),
        digest=_digest(_program_files(build)),
        inputs=inputs,
        args=args,
        run=secrets.token_hex(8),
    )


def _must_be_same(state: State, build: Path, run_args: Sequence[str], out: Path) -> None:
    """InputError NC711 if a resumed deployment is given another build or other arguments than it began with."""
    if _digest(_program_files(build)) != state.digest:
        raise InputError.of(
            "NC711", f"the deployment of {out} began with another program", file=str(build), help="begin anew in another folder"
        )
    args, inputs = _split_inputs(run_args)
    if run_args and (args != state.args or {k: v[1] for k, v in inputs.items()} != {k: v[1] for k, v in state.inputs.items()}):
        raise InputError.of("NC711", f"the deployment of {out} began with other arguments or inputs", help="begin anew in another folder")


def _program_files(build: Path, digest: str | None = None) -> dict[str, Path]:
    """Return path in the build -> file of all that runs, checked; InputError NC711 if it is not what a deployment began with."""
    manifest, _report = check_build(build)
    if manifest["target"] != TARGET:
        raise InputError.of("NC160", f"--to inrc runs builds for {TARGET}, not for {manifest['target']}", file=str(build))
    files = {check_file(name, str(build)): build / name for name in sorted(manifest["files"]) if name.startswith("program/")}
    if "program/run.py" not in files:
        raise InputError.of("NC703", "it has no program/run.py", file=str(build))
    if digest is not None and _digest(files) != digest:
        raise InputError.of("NC711", "was built anew since the deployment began", file=str(build), help="begin anew in another folder")
    return files


def _digest(files: Mapping[str, Path]) -> str:
    text = sums_text({name: file_digest(path) for name, path in files.items()})
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _split_inputs(run_args: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return (arguments for the host, name there -> [absolute path, digest]) of RUN_ARGS: files of --input and --signal travel along."""
    args: list[str] = []
    inputs: dict[str, list[str]] = {}
    for before, word in zip(["", *run_args], run_args, strict=False):
        if word == "--out" or word.startswith("--out="):
            raise InputError.of("NC160", f"{word!r}: results come into the folder of the deployment", help="leave --out away; -o FOLDER")
        option = next((f"{o}=" for o in _FILE_OPTIONS if word.startswith(f"{o}=")), "")
        name, equals, file = word[len(option) :].partition("=")
        if (option or before in _FILE_OPTIONS) and equals:
            try:
                digest = file_digest(Path(file))
            except OSError as error:
                raise InputError.of("NC105", f"{word!r}: cannot be read: {error.strerror}", file=file) from None
            there = f"{len(inputs)}-{digest[:16]}.npz"
            inputs[there] = [os.path.abspath(file), digest]
            word = f"{option}{name}=inputs/{there}"  # noqa: PLW2901
        args.append(word)
    return args, inputs


def _show_plan(state: State, destination: Inrc, out: Path, output: Output) -> None:
    """Print what a deployment would do: files with their sizes, then commands and scripts in the order of their use."""
    run = "RUN"
    state = replace(state, run=run)
    order = order_of(state, _program_files(Path(state.build), state.digest))
    sizes = {f"builds/{order.digest}/{name}": path.stat().st_size for name, path in order.files.items()}
    sizes |= {f"runs/{run}/inputs/{name}": path.stat().st_size for name, path in order.inputs.items()}
    steps = destination.describe(order)
    rows = [f"--- files for {destination.settings.host}, below {destination.settings.remote_dir}, with their bytes"]
    rows += [f"{name} {size}" for name, size in sizes.items()]
    texts = [f"--- {heading}\n{text}" for heading, text in steps]
    _show(
        state, out, output, "nothing was done",
        above=[*rows, *texts], phase="planned", steps=[{"heading": h, "text": t} for h, t in steps], files=sizes,
    )  # fmt: skip


def _show(
    state: State, out: Path, output: Output, last: str, *, above: Sequence[Any] = (), phase: str | None = None,
    summary: Mapping[str, Any] | None = None, steps: Sequence[Mapping[str, str]] = (), files: Mapping[str, int] | None = None,
) -> None:  # fmt: skip
    """Print the result of the command."""
    phase = state.phase if phase is None else phase
    payload = {
        "to": state.to,
        "host": state.settings["host"],
        "build": state.build,
        "run": state.run,
        "job": state.job,
        "phase": phase,
        "out": str(out),
        "results": str(out / RESULTS) if phase == "done" else None,
        "summary": summary or {},
        "steps": list(steps),
        "files": dict(files or {}),
    }
    lines = [f"job {state.job} at {state.settings['host']}: run {state.run}"] if state.job else []
    if summary:
        lines.append(json.dumps(summary, sort_keys=True))
    output.result("deploy", payload, *above, *lines, last)


def _note(output: Output, line: str) -> None:
    output.err.print(printable(line), highlight=False)


class _LogStream:
    """The job's log on stderr, line by line as it comes."""

    def __init__(self, output: Output) -> None:
        self._output, self._decoder, self._open = output, codecs.getincrementaldecoder("utf-8")("replace"), ""

    def write(self, piece: bytes) -> None:
        """Print the lines that are complete."""
        *lines, self._open = (self._open + self._decoder.decode(piece)).split("\n")
        if lines:
            _note(self._output, "\n".join(line.rstrip("\r") for line in lines))

    def end(self) -> None:
        """Print what is left."""
        if self._open:
            _note(self._output, self._open)
            self._open = ""
