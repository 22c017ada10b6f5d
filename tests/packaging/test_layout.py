"""The layout: real code in ir/, backends/, hw_configs/, one import name, and a package list that equals what is on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def packages_on_disk(root: Path) -> set[str]:
    found = set()
    for folder, _subfolders, files in os.walk(root / "neurocompile", followlinks=True):
        if "__init__.py" in files:
            found.add(".".join(Path(folder).relative_to(root).parts))
    return found


def test_package_list_equals_what_is_on_disk(root: Path) -> None:
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    assert set(settings["tool"]["setuptools"]["packages"]) == packages_on_disk(root)


@pytest.mark.parametrize("name", ["ir", "backends", "hw_configs"])
def test_links_are_folders(root: Path, name: str) -> None:
    link = root / "neurocompile" / name
    assert link.is_symlink()
    assert link.resolve() == (root / name).resolve()
    assert str(link.readlink()) == f"../{name}"


def test_the_short_names_are_never_imported(root: Path) -> None:
    program = (
        "import sys, importlib, json\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print([n for n in ('ir', 'backends', 'hw_configs', 'nest', 'pickle5') if n in sys.modules])"
    )
    import json

    names = json.dumps(sorted(packages_on_disk(root)))
    done = subprocess.run([sys.executable, "-c", program, names], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_arrows_go_one_way(root: Path) -> None:
    """ir imports nothing of the others; no backend imports another backend (the reference engine excepted); mapping knows no target."""
    forbidden = {
        "ir": [
            "neurocompile.backends",
            "neurocompile.mapping",
            "neurocompile.machine",
            "neurocompile.pipeline",
            "neurocompile.cli",
            "neurocompile.tasks",
        ],
        "neurocompile/mapping": ["neurocompile.backends", "neurocompile.cli", "neurocompile.pipeline"],
        "neurocompile/deploy": [
            "neurocompile.backends",
            "neurocompile.build_check",
            "neurocompile.build_folder",
            "neurocompile.cli",
            "neurocompile.mapping",
            "neurocompile.pipeline",
        ],
        "backends/loihi2": ["neurocompile.backends.spinnaker", "neurocompile.backends.nest", "neurocompile.cli", "neurocompile.pipeline"],
        "backends/spinnaker": ["neurocompile.backends.loihi2", "neurocompile.backends.nest", "neurocompile.cli", "neurocompile.pipeline"],
        "backends/nest": ["neurocompile.backends.loihi2", "neurocompile.backends.spinnaker", "neurocompile.cli", "neurocompile.pipeline"],
        "backends/reference": [
            "neurocompile.backends.loihi2",
            "neurocompile.backends.spinnaker",
            "neurocompile.backends.nest",
            "neurocompile.cli",
        ],
    }
    found = []
    for room, names in forbidden.items():
        for file in (root / room).rglob("*.py"):
            if "templates" in file.parts:
                continue
            for number, line in enumerate(file.read_text().splitlines(), 1):
                words = line.split()
                if words[:1] in (["import"], ["from"]) and any(words[1] == n or words[1].startswith(n + ".") for n in names):
                    found.append(f"{file.relative_to(root)}:{number}: {line.strip()}")
    assert found == []


@pytest.mark.slow
def test_a_built_wheel_runs_in_a_clean_environment(root: Path, tmp_path: Path) -> None:
    """The wheel holds every room, its data files included, and the command line runs from another folder without the checkout."""
    subprocess.run(["uv", "build", "--wheel", "--quiet", "--out-dir", str(tmp_path / "dist"), str(root)], check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", str(site), str(wheel)],
        check=True,
        capture_output=True,
    )
    (tmp_path / "net.yaml").write_text(
        "name: tiny\ndt: 1 ms\nseed: 1\n"
        "populations:\n  in: {model: spike_source, size: 4}\n  out: {model: lif, size: 3, params: {tau_mem: 20 ms, v_threshold: 1.0}}\n"
        "projections:\n  - {pre: in, post: out, connect: all_to_all, weight: 0.5, delay: 1 ms}\n"
    )
    purelib = sysconfig.get_paths()["purelib"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV"))} | {
        "PYTHONPATH": f"{site}{os.pathsep}{purelib}"
    }
    program = (
        "import sys, pathlib, neurocompile; assert pathlib.Path(neurocompile.__file__).is_relative_to(sys.argv[1]), neurocompile.__file__;"
        "from neurocompile.cli import run; sys.exit(run(['build', 'net.yaml', '--target', 'loihi2', '-o', 'out', '--allow-approximation']))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, str(site)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()
