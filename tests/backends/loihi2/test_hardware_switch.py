"""``run.py --hw``: what it asks of Lava, with a stand-in for the closed lava-loihi (Lava's own code looks whether it is there)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lava")

from neurocompile.cli import run as cli

NET = """\
name: tiny
dt: 1 ms
populations:
  in: {model: spike_source, size: 2}
  out: {model: lif, size: 3, params: {tau_mem: 20 ms, v_threshold: 1.0}}
projections:
  - {pre: in, post: out, connect: all_to_all, weight: 0.7, delay: 1 ms}
"""
NAMES = ("SLURM", "NOSLURM", "PARTITION", "BOARD", "LOIHI_GEN")
CALL = f"""
import json, os, sys
sys.path.insert(0, os.getcwd())
import run
from lava.magma.core import run_configs
from lava.utils import loihi
run_configs.CLoihiProcessModel = type("CLoihiProcessModel", (), {{}})  # lava-loihi brings it; without other models Python's run
run.main(sys.argv[1:])
print(json.dumps([{{name: os.environ.get(name) for name in {NAMES}}}, loihi.host]))
"""
SINFO = {
    "as slurm prints it": (
        '#!/bin/sh\necho "PARTITION AVAIL TIMELIMIT NODES STATE NODELIST"\necho "oheogulch up infinite 1 idle ncl-og-01"\n'
    ),
    "without the last newline": (
        '#!/bin/sh\n[ "$1" = -N ] && printf "NODELIST NODES PARTITION STATE\\nncl-og-01 1 oheogulch idle" && exit\n'
        'printf "PARTITION AVAIL TIMELIMIT NODES STATE NODELIST\\noheogulch up infinite 1 idle ncl-og-01"\n'
    ),
    "slurm is down": "#!/bin/sh\nexit 1\n",
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hw")
    (folder / "net.yaml").write_text(NET)
    assert cli(["build", str(folder / "net.yaml"), "--target", "loihi2", "-o", str(folder / "out"), "-q"]) == 0
    return folder / "out" / "program"


@pytest.fixture
def call(program: Path, tmp_path: Path):
    """Run the program with a stand-in for lava-loihi and one for sinfo ('' : neither)."""

    def go(sinfo: str, *flags: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in NAMES} | {"NOSLURM": "1"}
        if sinfo:
            (tmp_path / "lava" / "utils").mkdir(parents=True, exist_ok=True)
            (tmp_path / "lava" / "utils" / "loihi2_profiler.py").touch()
            (tmp_path / "sinfo").write_text(sinfo)
            (tmp_path / "sinfo").chmod(0o755)
            environment |= {"PYTHONPATH": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{environment['PATH']}"}
        words = [sys.executable, "-c", CALL, "--steps", "3", *flags]
        return subprocess.run(words, cwd=program, env=environment, capture_output=True, text=True, timeout=120)

    return go


@pytest.mark.parametrize(("sinfo", "noted"), [("as slurm prints it", True), ("without the last newline", False), ("slurm is down", True)])
def test_the_environment_of_lava_loihi_is_set_in_every_case(call, sinfo: str, noted: bool) -> None:
    """Lava's own function fails on the newline at the end of what sinfo prints: the environment is then set without it."""
    done = call(SINFO[sinfo], "--hw", "--partition", "oheogulch", "--loihi-gen", "N3C1")
    assert done.returncode == 0, done.stderr
    summary, (environment, host) = (json.loads(line) for line in done.stdout.splitlines())
    assert environment == {"SLURM": "1", "NOSLURM": None, "PARTITION": "oheogulch", "BOARD": None, "LOIHI_GEN": "N3C1"}
    assert host == "SLURM"
    assert summary["on_chip"] is True
    assert ("is set without it" in done.stderr) == noted


def test_a_board_instead_of_a_partition(call) -> None:
    done = call(SINFO["without the last newline"], "--hw", "--board", "ncl-og-01")
    assert done.returncode == 0, done.stderr
    environment, _ = json.loads(done.stdout.splitlines()[-1])
    assert environment == {"SLURM": "1", "NOSLURM": None, "PARTITION": None, "BOARD": "ncl-og-01", "LOIHI_GEN": "N3B3"}


def test_without_lava_loihi_nothing_runs(call) -> None:
    done = call("", "--hw", "--partition", "oheogulch")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("error: --hw needs lava-loihi")
    done = call("")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["on_chip"] is False


@pytest.mark.parametrize(
    "flags", [("--partition", "a"), ("--hw", "--partition", "a", "--board", "b"), ("--hw", "--float"), ("--hw", "--loihi-gen", "N9")]
)
def test_options_that_do_not_go_together(call, flags: tuple[str, ...]) -> None:
    assert call("", *flags).returncode == 2
