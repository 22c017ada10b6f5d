"""One login to a host through the user's own OpenSSH, shared by all commands and copies; nothing of it asks for, reads or keeps a secret.

A master connection (``ControlMaster``, its socket in a private folder) logs in once; scripts, rsync and sftp go through it. It runs
``cat`` on the host, whose input ends with this process, however that ends, so that no connection stays behind.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from neurocompile.deploy.destination import ConnectionLost, check_remote_path
from neurocompile.deploy.shell import MESSAGE_BYTES, Answer, answered, framed, private_folder, run_alone, tail
from neurocompile.ir.errors import InputError, SdkMissingError

LOGIN_SECONDS = 120.0
"""A login may wait for a finger on a security key."""
SCRIPT_SECONDS = 300.0
_CONNECT_SECONDS = 20
KEEP_ALIVE_SECONDS = 15
_GREETING = "neurocompile-ready"
_RSYNC_LOST = (10, 12, 20, 30, 35, 255)
"""Exit codes of rsync that a lost connection can cause: socket, protocol stream, signal, timeouts, and ssh's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where to log in; everything else is up to the user's ssh configuration. ``config``: a file instead of ~/.ssh/config."""

    host: str
    port: int | None = None
    config: str | None = None

    def options(self, socket: str, *, master: bool) -> list[str]:
        """Options for ssh and sftp. Host keys are checked as the user's configuration says: nothing is said about them here."""
        chosen = {
            "BatchMode": "yes",  # never a prompt: a question that nobody sees would wait for ever
            "ConnectTimeout": str(_CONNECT_SECONDS),
            "ServerAliveInterval": str(KEEP_ALIVE_SECONDS),
            "ServerAliveCountMax": "3",
            "RequestTTY": "no",
            "RemoteCommand": "none",
            "PermitLocalCommand": "no",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "ControlPath": socket,
            "ControlMaster": "yes" if master else "no",
            "ControlPersist": "no",
        }
        if not master:
            chosen["ProxyCommand"] = "false"  # without the master a command fails, instead of logging in once more
        if self.port is not None:
            chosen["Port"] = str(self.port)
        config = [] if self.config is None else ["-F", self.config]
        return config + [word for key, value in chosen.items() for word in ("-o", f"{key}={value}")]

    def master(self, socket: str) -> list[str]:
        """The command that logs in."""
        return ["ssh", *self.options(socket, master=True), "--", self.host, f"echo {_GREETING}; exec cat"]

    def shell(self, socket: str) -> list[str]:
        """The command that runs a script, given on stdin, whatever the login shell is."""
        return ["ssh", *self.options(socket, master=False), "--", self.host, "exec sh -s"]

    def rsync_up(self, socket: str, tree: str, remote: str) -> list[str]:
        """The command that copies a folder into a remote folder."""
        return [*self._rsync(socket), "--", tree, f"{self.host}:{check_remote_path('remote path', remote)}/"]

    def rsync_down(self, socket: str, remote: str, local: str) -> list[str]:
        """The command that copies a remote file."""
        return [*self._rsync(socket), "--inplace", "--", f"{self.host}:{check_remote_path('remote path', remote)}", local]

    def _rsync(self, socket: str) -> list[str]:
        remote_shell = shlex.join(["ssh", *self.options(socket, master=False)])
        return ["rsync", "--recursive", "--times", "--protect-args", "--partial", "--timeout=120", "-e", remote_shell]

    def sftp(self, socket: str) -> list[str]:
        """The command that copies what a batch on stdin says."""
        return ["sftp", "-q", "-b", "-", *self.options(socket, master=False), "--", self.host]


def sftp_up(tree: str, remote: str) -> str:
    """The batch for `Login.sftp` that copies the folder ``tree`` of the working folder into a remote folder."""
    return f"put -r {tree} {check_remote_path('remote path', remote)}/\n"


def sftp_down(remote: str, local: str) -> str:
    """The batch for `Login.sftp` that copies a remote file to ``local`` in the working folder, going on where it ends."""
    return f"get -a {check_remote_path('remote path', remote)} {local}\n"


class Connection:
    """A login that can be renewed. All methods raise ConnectionLost when the host cannot be reached."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._master: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """A private folder, which goes with the connection."""
        if self._folder is None:
            raise ConnectionLost("not connected")
        return self._folder

    @property
    def socket(self) -> str:
        """Path of the master's socket."""
        return str(self.folder / "m")

    def open(self) -> None:
        """Log in.

        Raises
        ------
        SdkMissingError
            NC501: no ssh here; NC521: login refused; NC522: host key not known, or another one.
        InputError
            NC160: ssh does not take its configuration.
        """
        self.close()
        if shutil.which("ssh") is None:
            raise SdkMissingError.of("NC501", "there is no `ssh` on this machine", help="install the OpenSSH client")
        self._folder = private_folder()
        messages = self._folder / "messages"
        with messages.open("wb") as errors:
            self._master = subprocess.Popen(
                self.login.master(self.socket), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
                env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},  # nor a window, of a host on the way (ProxyJump)
            )  # fmt: skip
        if self._master.stdout is None or not _greeted(self._master.stdout, LOGIN_SECONDS):
            self._master.kill()
            self._master.wait()
            said = tail(messages.read_bytes())
            self.close()
            raise _refusal(self.login, said)

    def alive(self) -> bool:
        """Whether the login still stands."""
        return self._master is not None and self._master.poll() is None

    def close(self) -> None:
        """Log out, and remove the private folder."""
        master, folder = self._master, self._folder
        self._master = self._folder = None
        if master is not None:
            for stream in (master.stdin, master.stdout):
                if stream is not None:
                    stream.close()
            try:
                master.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                master.kill()
                master.wait()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def script(self, body: str, *, seconds: float = SCRIPT_SECONDS) -> Answer:
        """Run a POSIX shell script on the host and return what it said (`framed`)."""
        mark = secrets.token_hex(8)
        done = self._run(self.login.shell(self.socket), framed(body, mark).encode(), seconds=seconds)
        errors = tail(done.stderr)
        answer = answered(done.stdout, mark, errors)
        if answer is None:
            if "refused by peer" in errors:
                raise SdkMissingError.of("NC524", f"the host allows too few sessions in one login (MaxSessions of its sshd): {errors}")
            if self._stands():
                raise SdkMissingError.of(
                    "NC524", f"the host runs no scripts: {errors or 'no answer'}", help="try `ssh HOST sh -c true`; it must do nothing"
                )
            raise ConnectionLost(errors or "the connection ended")
        return answer

    def upload(self, folder: Path, tree: str, remote: str, *, rsync: bool) -> None:
        """Copy ``folder/tree`` to ``remote/tree``; SdkMissingError NC524 if the host does not take it."""
        if rsync:
            self._copy(self.login.rsync_up(self.socket, tree, remote), "", folder)
        else:
            self._copy(self.login.sftp(self.socket), sftp_up(tree, remote), folder)

    def download(self, remote: str, local: Path, *, rsync: bool) -> None:
        """Copy a remote file to ``local``, of which a first part may be there; SdkMissingError NC524 if it cannot be read or written."""
        if rsync:
            self._copy(self.login.rsync_down(self.socket, remote, local.name), "", local.parent)
        else:
            self._copy(self.login.sftp(self.socket), sftp_down(remote, local.name), local.parent)

    def _copy(self, command: Sequence[str], batch: str, folder: Path) -> None:
        done = self._run(command, batch.encode(), folder=folder)
        if done.returncode == 0:
            return
        errors = tail(done.stderr)
        unclean = "shell clean" in errors or "Received message too long" in errors
        if not unclean and (command[0] != "rsync" or done.returncode in _RSYNC_LOST) and not self._stands():
            raise ConnectionLost(errors or "the connection ended")
        raise SdkMissingError.of(
            "NC524",
            f"copying with {command[0]} failed: {errors or f'exit code {done.returncode}'}",
            help="the login shell prints something: make its start-up files silent for logins without a terminal" if unclean else None,
        )

    def _stands(self) -> bool:
        """Whether the login stands after something failed, which may have been the first to notice that it does not."""
        try:
            done = self._run(self.login.shell(self.socket), b"echo stands\n", seconds=30.0)
        except ConnectionLost:
            return False
        return b"stands" in done.stdout

    def _run(
        self, command: Sequence[str], given: bytes, *, seconds: float | None = None, folder: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        if not self.alive():
            raise ConnectionLost("the connection ended")
        return run_alone(command, given, seconds=seconds, folder=folder)


def _greeted(stream: IO[bytes], seconds: float) -> bool:
    """Whether the greeting of the master's command arrives (before it, a login may print what it likes)."""
    until, seen = time.monotonic() + seconds, b""
    while (left := until - time.monotonic()) > 0:
        if not select.select([stream], [], [], left)[0]:
            return False
        piece = os.read(stream.fileno(), 65536)
        if not piece:
            return False
        seen = (seen + piece)[-MESSAGE_BYTES - 65536 :]
        if f"{_GREETING}\n".encode() in seen:
            return True
    return False


def _refusal(login: Login, said: str) -> Exception:
    """What a failed login is, by ssh's own words."""
    place = f"{login.host}: {said or 'no answer'}"
    if re.search(r"Host key verification failed|IDENTIFICATION HAS CHANGED|host key is known", said):
        return SdkMissingError.of(
            "NC522",
            place,
            help=f"log in once by hand (`ssh {login.host}`) and compare the key's fingerprint with the one that the host's "
            "operators publish; if it has changed, ask them before you remove the old key",
        )
    if re.search(r"Permission denied|Too many authentication failures|authentication methods", said):
        return SdkMissingError.of(
            "NC521",
            place,
            help=f"`ssh {login.host}` must log in without a question: a key that the host accepts, its passphrase in your ssh agent "
            "(`ssh-add`); passwords are never asked for here",
        )
    if re.search(r"[Bb]ad configuration option|Can't open user config|bad configuration options|Bad owner or permissions", said):
        return InputError.of("NC160", f"ssh does not take its configuration: {said}", help="--ssh-config, or ~/.ssh/config")
    return ConnectionLost(said or "no answer")
