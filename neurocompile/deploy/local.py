"""A shell on this machine, in a folder: what `shell_host.py` needs where ssh is not between."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from neurocompile.deploy.destination import ConnectionLost
from neurocompile.deploy.shell import Answer, answered, framed, private_folder, run_alone, tail
from neurocompile.ir.errors import InputError, SdkMissingError

_SCRIPT_SECONDS = 120.0


class LocalShell:
    """``sh`` in a folder that exists when the first script runs; ``environment`` is added to that of this process, for all it starts."""

    def __init__(self, place: Path, environment: Mapping[str, str]) -> None:
        self._place, self.environment = place, dict(environment)
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """A private folder, which goes with the shell."""
        if self._folder is None:
            raise ConnectionLost("not open")
        return self._folder

    def open(self) -> None:
        """Make the private folder (SdkMissingError NC501: there is no ``sh``)."""
        self.close()
        if shutil.which("sh") is None:
            raise SdkMissingError.of("NC501", "there is no `sh` on this machine", help="programs are started by POSIX shell scripts")
        self._folder = private_folder()

    def close(self) -> None:
        """Remove the private folder; what was started goes on."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def script(self, body: str) -> Answer:
        """Run a script in the folder (SdkMissingError NC524: it does not come to its end)."""
        mark = secrets.token_hex(8)
        done = run_alone(
            ["sh", "-s"],
            framed(body, mark).encode("utf-8", "surrogateescape"),
            seconds=_SCRIPT_SECONDS,
            folder=self._place,
            env={**os.environ, **self.environment},
        )
        errors = tail(done.stderr)
        answer = answered(done.stdout, mark, errors)
        if answer is None:
            raise SdkMissingError.of("NC524", f"a script did not come to its end: {errors or f'exit code {done.returncode}'}")
        return answer

    def upload(self, folder: Path, tree: str, remote: str, *, rsync: bool) -> None:  # noqa: ARG002 - copied in any case
        """Copy ``folder/tree`` to ``remote/tree`` (InputError NC701)."""
        target = self._place / remote / tree
        try:
            shutil.rmtree(target, ignore_errors=True)  # of a copy that was broken off
            shutil.copytree(folder / tree, target)
        except (OSError, shutil.Error) as error:
            raise InputError.of("NC701", f"cannot be written: {error}", file=str(target)) from None

    def download(self, remote: str, local: Path, *, rsync: bool) -> None:  # noqa: ARG002
        """Copy a file to ``local`` (SdkMissingError NC524: it cannot be read; InputError NC701)."""
        try:
            shutil.copyfile(self._place / remote, local)
        except FileNotFoundError:
            raise SdkMissingError.of("NC524", f"{self._place / remote} is gone") from None
        except OSError as error:
            raise InputError.of("NC701", f"cannot be written: {error.strerror}", file=str(local)) from None
