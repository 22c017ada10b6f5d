"""The documentation says what the program does: commands parse, cheap ones run, options and keys are all there, links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from neurocompile.cli import INTERRUPTED, run
from neurocompile.cli.app import VERBS, cli
from neurocompile.ir.codes import CODES
from neurocompile.ir.errors import ExitCode
from neurocompile.ir.yaml_reader import network_from_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every `neurocompile ...` in a console block, an indented line, or inline code that has a NET or BUILD."""
    for page in PAGES:
        text = page.read_text()
        found = [line for kind, block in BLOCK.findall(text) if kind == "console" for line in block.splitlines()]
        found += re.findall(r"^ {4}(.* neurocompile .*)$", text, re.MULTILINE)
        found += re.findall(r"`(neurocompile [a-z]+ [^-`][^`]*)`", text)
        for command in found:
            _, name, rest = command.partition("neurocompile ")
            if name:
                yield page.name, name + re.sub(r"\s+[#>|].*", "", rest)  # without comments, pipes and redirections


COMMANDS = sorted(set(commands()))
STAND_INS = {"N": "1", "T": "nest"}


def parse(command: str) -> click.Context:
    """Parse a command as click would, without running it; placeholders such as N stand for what fits."""
    words = [STAND_INS.get(word, word) for word in shlex.split(command)[1:]]
    verb = cli.get_command(click.Context(cli), words[0])
    assert verb is not None, f"there is no verb {words[0]}"
    return verb.make_context(words[0], words[1:])


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) >= 8
    assert {"build", "train", "evaluate", "validate", "check"} <= {c.split()[1] for _, c in COMMANDS}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_of_the_pages_parse(page: str, command: str) -> None:
    parse(command)


def test_a_command_with_a_wrong_option_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        parse("neurocompile build net.yaml --target nest --otu x")
    with pytest.raises(click.UsageError):
        parse("neurocompile validate")
    with pytest.raises(AssertionError):
        parse("neurocompile biuld net.yaml")


def cheap(command: str) -> bool:
    """Whether a command answers at once and needs only what the checkout has."""
    words = shlex.split(command)[1:]
    files = [w for w in words if w.endswith((".yaml", ".nir"))]
    return (
        words[0] in {"check", "explain", "targets", "schema"}
        and all((ROOT / f).exists() for f in files)
        and not set(words) & {"NET", "NAME", "CODE"}
    )


@pytest.mark.parametrize("command", sorted({c for _, c in COMMANDS if cheap(c)}))
def test_cheap_commands_of_the_pages_run(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out


def test_the_first_build_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = [x for x in (ROOT / "README.md").read_text().splitlines() if x.strip().startswith("pip install uv && uv run neurocompile")]
    words = shlex.split(line.split("uv run ")[1])[1:]
    words[words.index("examples/digits.yaml")] = str(ROOT / "examples" / "digits.yaml")
    monkeypatch.chdir(tmp_path)
    assert run(words) == 0
    assert (tmp_path / "build" / "digits-loihi2" / "program" / "run.py").is_file()


def test_the_description_of_the_readme_is_one(tmp_path: Path) -> None:
    (block,) = [text for kind, text in BLOCK.findall((ROOT / "README.md").read_text()) if kind == "yaml"]
    network = network_from_text(block, "README.md", tmp_path)
    assert (network.name, network.n_neurons) == ("pattern", 201)


def test_the_task_of_the_tasks_page_is_one() -> None:
    (block, *_) = [text for kind, text in BLOCK.findall((ROOT / "docs" / "tasks.md").read_text()) if kind == "yaml"]
    digits = (ROOT / "examples" / "digits.yaml").read_text()
    network = network_from_text(digits[: digits.index("task:")] + block, "tasks.md", ROOT / "examples")
    assert network.task is not None
    assert (network.task.sample_steps, network.task.learning_window_steps, network.task.epochs) == (100, 50, 8)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_and_codes_that_pages_name_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"`((?:docs|examples|hw_configs|benchmarks|tests)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name
    assert set(re.findall(r"\bNC\d{3}\b", text)) <= set(CODES)


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    lost = [p.name for p in (ROOT / "docs").glob("*.md") if f"docs/{p.name}" not in readme]
    assert set(lost) <= {"status.md"}  # for those who work on it


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md"])
def test_the_table_of_exit_codes_is_that_of_the_program(page: str) -> None:
    text = (ROOT / page).read_text()
    section = text[text.index("## Exit codes") :].split("\n## ")[0]
    assert [int(n) for n in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)] == [*sorted(map(int, ExitCode)), INTERRUPTED]


# --- docs/cli.md --------------------------------------------------------------------------------------------------------------

CLI_PAGE = (ROOT / "docs" / "cli.md").read_text()


def section(title: str) -> str:
    (found,) = re.findall(rf"^###? {re.escape(title)}\n(.*?)(?=^##)", CLI_PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def first_column(text: str) -> list[str]:
    return [name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])]


SECTIONS = {
    "map": "map",
    "minimise": "minimise",
    "build": "build, plan",
    "plan": "build, plan",
    "simulate": "simulate",
    "train": "train, evaluate",
    "evaluate": "train, evaluate",
    "sweep": "sweep",
    "validate": "validate",
    "report": "report",
    "deploy": "deploy",
}
TAKES_NET = ("build", "plan", "check", "simulate", "train", "evaluate", "sweep")
ONLY = {"build": {"--out"}, "train": {"--out", "--epochs", "--resume", "--overwrite", "--checkpoint-every"}, "evaluate": {"--part"}}


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_has_every_option_of_a_verb_and_no_other(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    options = [p for p in command.params if isinstance(p, click.Option)]
    actual = {next(name for name in p.opts if name.startswith("--")) for p in options}
    stated = set(first_column(section("All verbs")))
    if verb in TAKES_NET:
        stated |= set(first_column(CLI_PAGE[CLI_PAGE.index("## Options by verb") : CLI_PAGE.index("### build, plan")]))
    if verb in SECTIONS:
        stated |= {o for o in first_column(section(SECTIONS[verb])) if o.startswith("--")}
    others = {o for name, options in ONLY.items() if name != verb and SECTIONS.get(name) == SECTIONS.get(verb) for o in options}
    assert actual == stated - (others - ONLY.get(verb, set()))
    assert verb in {name.split()[0] for name in first_column(CLI_PAGE[: CLI_PAGE.index("## All verbs")])}


NET = """\
name: tiny
dt: 1 ms
populations:
  in: {model: spike_source, size: 64}
  hidden: {model: lif, size: 5, params: {tau_mem: 20 ms, v_threshold: 0.6}}
  out: {model: leaky_readout, size: 10, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: all_to_all, weight: {normal: [0.1, 0.1]}, delay: 1 ms, learning: rule}
  - {pre: hidden, post: out, connect: all_to_all, weight: {normal: [0, 0.1]}, delay: 1 ms, learning: rule}
learning:
  rule: {rule: eprop, kappa: 0.9, feedback: {random: {normal: [0, 1]}}}
task: {readout: out, sample: 20 ms, learning_window: 10 ms, data: {digits: {}}}
"""

CALLS = {
    "check": "check net.yaml",
    "plan": "plan net.yaml --target nest",
    "build": "build net.yaml --target nest -o built",
    "simulate": "simulate net.yaml --steps 5",
    "train": "train net.yaml --out run --epochs 1 --limit-train 3 --limit-test 3 --no-baseline",
    "evaluate": "evaluate net.yaml --limit-train 3 --limit-test 3 --no-baseline",
    "sweep": "sweep net.yaml --numerics loihi2 --vary weight_bits=8 --limit-test 3 -o swept",
    "report": "report built",
    "validate": "validate built --steps 3",
    "deploy": "deploy chip --host nobody@example.invalid --dry-run -o there",
    "map": "map net.yaml --cores 2 -o map.npz",
    "minimise": "minimise tables.bin -o short.bin",
    "targets": "targets",
    "targets NAME": "targets nest",
    "explain": "explain",
    "explain CODE": "explain NC101",
    "schema": "schema",
}


def test_the_page_has_the_json_keys_of_every_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from neurocompile.backends.base import Check
    from neurocompile.backends.nest import TARGET

    monkeypatch.setattr(type(TARGET), "validate", lambda *_a, **_o: [Check(name="a", ok=True, detail="b")])  # it takes seconds
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "tables.bin").write_bytes(bytes(4))
    table = CLI_PAGE[CLI_PAGE.index("## JSON keys by verb") :]
    rows = {
        re.findall(r"`([^`]+)`", left)[0]: re.findall(r"`([^`]+)`", right)
        for left, right in re.findall(r"^\| (`[^|]*) \| (.*) \|$", table, re.MULTILINE)
    }
    assert set(rows) == set(CALLS)
    assert run(["build", "net.yaml", "--target", "loihi2", "-o", "chip", "-q"]) == 0
    capsys.readouterr()
    answers: dict[str, Any] = {}
    for name, call in CALLS.items():
        assert run([*shlex.split(call), "--format", "json"]) == 0, capsys.readouterr().err
        answers[name] = json.loads(capsys.readouterr().out)
        assert set(answers[name]) == {"format_version", "command", *rows[name]}, name
    report = set(answers["report"]["report"]) | {"routing"}  # where there are cores
    described = set(re.findall(r"`([^`]+)`", table[table.index("`report` (also report.json)") :]))
    assert report <= described
