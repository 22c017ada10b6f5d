"""``deploy``: run a build's program at a place with hardware: by ssh, through a job service, or on boards that a server allocates."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from neurocompile.build_check import check_build
from neurocompile.cli.common import Output, common_options, printable
from neurocompile.cli.deploy_options import destination_options
from neurocompile.deploy.destination import ConnectionLost, Destination, check_file, file_digest, sums_text
from neurocompile.deploy.driver import Deployment, Tempo, order_of
from neurocompile.deploy.registry import KINDS, Kind, Settings
from neurocompile.deploy.runnable import BINARIES, check_runnable
from neurocompile.deploy.state import PHASES, RESULTS, STATE, RunFolder, State, locked
from neurocompile.ir.errors import InputError, NeurocompileError, SdkMissingError

_FILE_OPTIONS = ("--input", "--signal", "--target")
"""Options of program/run.py that name local files, NAME=FILE."""
_SETTLED = ("NC523", "NC526", "NC528")
"""Errors after which nothing need be said about how to go on: they say it, or the job is over."""


@click.command()
@click.argument("build", type=click.Path(path_type=Path), required=False)
@click.argument("run_args", nargs=-1, type=click.UNPROCESSED)
@click.option("--to", type=click.Choice(list(KINDS)), default="inrc", show_default=True, help="Destination.")
@destination_options
@click.option("--poll", type=click.FloatRange(0.05, 3600), default=3.0, show_default=True, help="Seconds between two looks at the log.")
@click.option("--patience", type=click.FloatRange(0), default=60.0, show_default=True, help="Minutes to try to reach the place again.")
@click.option("--dry-run", is_flag=True, help="Show every command, script, request and file; connect to nothing, write nothing.")
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
    to: str,
    poll: float,
    patience: float,
    dry_run: bool,
    detach: bool,
    resume: bool,
    cancel: bool,
    out: Path,
    output: Output,
    **options: Any,
) -> None:
    """Bring the program of a BUILD to a place with hardware, run it there with RUN_ARGS (behind `--`: those of program/run.py), show its
    log, fetch its results.

    Ctrl-C and a lost connection leave the job alone: --resume goes on, --cancel ends it. Tokens and passwords come from the environment
    or the keyring, and are never written or printed.
    """
    if resume + cancel + dry_run > 1 or (detach and (cancel or dry_run)):
        raise InputError.of("NC160", "--resume, --cancel, --dry-run and --detach do not go together", help="--resume --detach does")
    given = {name: value for name, value in options.items() if context.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    stored = RunFolder.open(out).state if resume or cancel else None
    if stored is None:
        kind = KINDS[to]
        settings = kind.settings.of_options(_of_kind(kind, given))
        state = _new_state(build, run_args, kind, settings)
    else:
        kind = _stored_kind(stored, to if context.get_parameter_source("to") == ParameterSource.COMMANDLINE else stored.to)
        settings, state = _stored_settings(stored, kind, _of_kind(kind, given), cancel=cancel), stored
        if build is not None:
            _must_be_same(stored, kind, build, run_args, out)
    destination = kind.make(settings, state, out, cancel)
    if dry_run:
        _show_plan(state, kind, destination, out, output)
    elif cancel:
        RunFolder(out, state).mark_cancelled()
        with _connected(destination):
            before = destination.cancel(state.run, state.job)
        _show(state, destination, out, output, f"cancelled; its state was {before}")
    elif state.phase == "done":
        _show(state, destination, out, output, f"{out / RESULTS} is there already")
    else:
        tempo = Tempo(poll=poll, slowest=kind.slowest, patience=60.0 * patience)
        _run(state, kind, destination, out, output, tempo, new=stored is None, detach=detach)


def _run(state: State, kind: Kind, destination: Destination, out: Path, output: Output, tempo: Tempo, *, new: bool, detach: bool) -> None:
    """Take a deployment as far as it goes."""
    log = _LogStream(output)
    deployment = None
    try:
        with _connected(destination), locked(out, make=new):
            # read again: another process may have gone on before the lock was free
            folder = RunFolder.create(out, state) if new else RunFolder.open(out)
            deployment = Deployment(folder, destination, tempo, tell=lambda line: _note(output, line), show=log.write)
            deployment.begin(lambda: order_of(folder.state, _program_files(Path(folder.state.build), kind, folder.state.digest)))
            if detach:
                _show(folder.state, destination, out, output, deployment.way_on())
                return
            summary = deployment.finish()
            log.end()
            _show(folder.state, destination, out, output, f"wrote {out / RESULTS}", summary=summary)
    except (KeyboardInterrupt, NeurocompileError) as error:
        settled = isinstance(error, NeurocompileError) and error.diagnostics[0].code in _SETTLED
        if deployment is not None and not settled:
            click.echo(f"{'' if isinstance(error, NeurocompileError) else os.linesep}{deployment.way_on()}", err=True)
        raise


@contextmanager
def _connected(destination: Destination) -> Iterator[None]:
    """Log in for the time of the block; the first try must succeed (NC520)."""
    try:
        try:
            destination.connect()
        except ConnectionLost as lost:
            raise SdkMissingError.of("NC520", f"{destination.place} cannot be reached: {lost}") from None
        yield
    finally:
        destination.close()


def _of_kind(kind: Kind, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options that were given; InputError NC160 if one of them is another destination's."""
    for name in given:
        if name not in kind.settings.OPTIONS:
            others = [other.name for other in KINDS.values() if name in other.settings.OPTIONS]
            raise InputError.of(
                "NC160", f"--{name.replace('_', '-')} is not an option of --to {kind.name}, but of --to {' and '.join(others)}"
            )
    return given


def _stored_kind(state: State, to: str) -> Kind:
    if to != state.to:
        raise InputError.of("NC711", f"the deployment began with --to {state.to}, not {to}", help="begin anew in another folder")
    if to not in KINDS:
        raise InputError.of("NC721", f"{STATE} names a destination {to!r} that is not known")
    return KINDS[to]


def _stored_settings(state: State, kind: Kind, given: Mapping[str, Any], *, cancel: bool) -> Settings:
    """Settings of the state file; how to reach the place may change (another login node), the rest must be as it was (NC711)."""
    try:
        stored = kind.settings(**state.settings)
    except TypeError as error:
        raise InputError.of("NC721", f"the settings of {STATE} cannot be read: {error}") from None
    before = stored.as_json()
    shown = {option: before[field] for option, field in kind.settings.OPTIONS.items() if field == option and before[field] is not None}
    wanted = kind.settings.of_options({**shown, **given}).as_json() if given else before
    named = {kind.settings.OPTIONS[name] for name in given}
    for name in sorted(named - set(kind.settings.WAY_THERE)):
        if wanted[name] != before[name]:
            raise InputError.of(
                "NC711",
                f"the deployment began with {name} {before[name]!r}, not {wanted[name]!r}",
                help="leave the option out, or begin anew in another folder",
            )
    stored.confirm(given, begun=cancel or state.phase in PHASES[2:])
    found: Settings = kind.settings(**{**before, **{name: wanted[name] for name in named & set(kind.settings.WAY_THERE)}})
    return found


def _new_state(build: Path | None, run_args: Sequence[str], kind: Kind, settings: Settings) -> State:
    if build is None:
        raise InputError.of(
            "NC160",
            "a BUILD folder is needed",
            help=f"neurocompile deploy BUILD --to {kind.name} {kind.example} -o FOLDER -- --steps 100",
        )
    args, inputs = _split_inputs(run_args)
    files = _program_files(build, kind)
    if kind.target == "spinnaker":
        check_runnable(files, str(build))
    return State(
        to=kind.name,
        settings=settings.as_json(),
        build=os.path.abspath(build),
        digest=_digest(files),
        inputs=inputs,
        args=args,
        run=secrets.token_hex(8),
    )


def _must_be_same(state: State, kind: Kind, build: Path, run_args: Sequence[str], out: Path) -> None:
    """InputError NC711 if a resumed deployment is given another build or other arguments than it began with."""
    if _digest(_program_files(build, kind)) != state.digest:
        raise InputError.of(
            "NC711", f"the deployment of {out} began with another program", file=str(build), help="begin anew in another folder"
        )
    args, inputs = _split_inputs(run_args)
    if run_args and (args != state.args or {k: v[1] for k, v in inputs.items()} != {k: v[1] for k, v in state.inputs.items()}):
        raise InputError.of("NC711", f"the deployment of {out} began with other arguments or inputs", help="begin anew in another folder")


def _program_files(build: Path, kind: Kind, digest: str | None = None) -> dict[str, Path]:
    """Return path in the build -> file of all that runs, checked; InputError NC711 if it is not what a deployment began with."""
    manifest, _report = check_build(build)
    if manifest["target"] != kind.target:
        raise InputError.of("NC160", f"--to {kind.name} runs builds for {kind.target}, not for {manifest['target']}", file=str(build))
    files = {check_file(name, str(build)): build / name for name in sorted(manifest["files"]) if name.startswith("program/")}
    built = sorted((build / BINARIES).glob("*.aplx"))
    files |= {check_file(f"{BINARIES}/{path.name}", str(build)): path for path in built if path.is_file()}
    if "program/run.py" not in files:
        raise InputError.of("NC703", "it has no program/run.py", file=str(build))
    if digest is not None and _digest(files) != digest:
        raise InputError.of("NC711", "was built anew since the deployment began", file=str(build), help="begin anew in another folder")
    return files


def _digest(files: Mapping[str, Path]) -> str:
    text = sums_text({name: file_digest(path) for name, path in files.items()})
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _split_inputs(run_args: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return (arguments for the host, name there -> [absolute path, digest]) of RUN_ARGS: files of _FILE_OPTIONS travel along."""
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


def _show_plan(state: State, kind: Kind, destination: Destination, out: Path, output: Output) -> None:
    """Print what a deployment would do: files with their sizes, then commands, scripts and requests in the order of their use."""
    state = replace(state, run="RUN")
    order = order_of(state, _program_files(Path(state.build), kind, state.digest))
    sizes = {name: path.stat().st_size for name, path in destination.places(order).items()}
    steps = destination.describe(order)
    rows = [f"--- files for {destination.place}, with their bytes"]
    rows += [f"{name} {size}" for name, size in sizes.items()]
    texts = [f"--- {heading}\n{text}" for heading, text in steps]
    _show(
        state, destination, out, output, "nothing was done",
        above=[*rows, *texts], phase="planned", steps=[{"heading": h, "text": t} for h, t in steps], files=sizes,
    )  # fmt: skip


def _show(
    state: State, destination: Destination, out: Path, output: Output, last: str, *, above: Sequence[Any] = (), phase: str | None = None,
    summary: Mapping[str, Any] | None = None, steps: Sequence[Mapping[str, str]] = (), files: Mapping[str, int] | None = None,
) -> None:  # fmt: skip
    """Print the result of the command."""
    phase = state.phase if phase is None else phase
    payload = {
        "to": state.to,
        "host": destination.place,
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
    lines = [f"job {state.job} at {destination.place}: run {state.run}"] if state.job else []
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
