"""The command line: one file a verb. Results on stdout, progress and logs on stderr; docs/cli.md has verbs, options, keys, exit codes.

This module imports nothing slow, so that Ctrl-C while the rest is being imported ends like Ctrl-C at any other moment.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells use it."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; never raises."""
    try:
        from neurocompile.cli.app import execute

        return execute(arguments)
    except KeyboardInterrupt:  # during the import, or a second time while the first is being reported
        sys.stderr.write("interrupted\n")
        return INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
