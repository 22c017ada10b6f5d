"""Secrets: read from the environment or the keyring, held in memory, sent where they belong; never written, printed or put into argv."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from neurocompile.ir.errors import NeurocompileError, SdkMissingError

_PLAIN = re.compile(r"[\x21-\x7e]+")
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Secret:
    """A token or password, with where it came from; its text is in no repr."""

    text: str = field(repr=False)
    source: str

    def hide(self, text: str) -> str:
        """Return a text of others without the secret."""
        return text.replace(self.text, HIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a secret is looked for: the environment variables first, then ``user`` of ``service`` in the keyring."""

    variables: tuple[str, ...]
    service: str
    user: str

    def find(self) -> Secret | None:
        """Return the secret, None if there is none (SdkMissingError NC529 if it cannot be one: it is not shown)."""
        for name in self.variables:
            text = os.environ.get(name, "").strip()
            if text:
                return self._checked(text, f"environment variable {name}")
        text = (_of_keyring(self.service, self.user) or "").strip()
        return self._checked(text, f"keyring, service {self.service}, user {self.user}") if text else None

    def need(self, what: str) -> Secret:
        """Return the secret (SdkMissingError NC529)."""
        found = self.find()
        if found is None:
            raise SdkMissingError.of("NC529", f"there is no {what}", help=self.way_to_give())
        return found

    def way_to_give(self) -> str:
        """How a user can give it."""
        return (
            f"set the environment variable {self.variables[0]}, or store it in the keyring: `keyring set {self.service} {self.user}` "
            "(pip install 'neurocompile[deploy]')"
        )

    def _checked(self, text: str, source: str) -> Secret:
        if not _PLAIN.fullmatch(text):
            raise _odd(source)
        return Secret(text, source)


def _odd(source: str) -> NeurocompileError:
    return SdkMissingError.of("NC529", f"what the {source} holds is no token: it has spaces or characters beyond ASCII in it")


def _of_keyring(service: str, user: str) -> str | None:
    """Ask the user's keyring; a keyring that is missing, locked or broken has nothing."""
    try:
        import keyring
    except ImportError:
        return None
    try:
        return keyring.get_password(service, user)
    except Exception:  # keyring.errors.KeyringError, and what else backends (D-Bus) raise
        return None
