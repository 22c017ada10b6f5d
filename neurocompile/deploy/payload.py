"""A build as one Python script: job services that take a script, but no folder, run it so.

The script unpacks the program and its inputs beside itself, runs ``program/run.py``, removes them again (so that only results are new
files), and prints as its last line how the program ended, with the SHA-256 of results.npz. It is ASCII, and says ``import`` (by that
the service at Manchester tells scripts from addresses).
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Sequence
from importlib import resources

from neurocompile.deploy.destination import Order, file_digest, sums_text
from neurocompile.ir.errors import SdkMissingError

_LINE = 120
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def end_line(run: str) -> re.Pattern[str]:
    """What the script prints last: exit code, SHA-256 and size of results.npz (``- -``: there is none)."""
    return re.compile(rf"^@neurocompile {re.escape(run)} ended (\d{{1,3}}) (?:([0-9a-f]{{64}}) (\d{{1,18}})|- -)\r?$", re.MULTILINE)


def archive(order: Order) -> bytes:
    """Return the program and its inputs as a zip file, the same bytes for the same order (SdkMissingError NC704: a file was changed)."""
    digest = hashlib.sha256(sums_text({name: file_digest(path) for name, path in order.files.items()}).encode("ascii")).hexdigest()
    if digest != order.digest:
        raise SdkMissingError.of("NC704", "a file of the build was changed while it was being packed", help="run the command again")
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, path in sorted({**order.files, **{f"inputs/{n}": p for n, p in order.inputs.items()}}.items()):
            file.writestr(zipfile.ZipInfo(name, _LONG_AGO), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return found.getvalue()


def script(order: Order, arguments: Sequence[str], packed: bytes) -> str:
    """Return the script for a packed order; arguments may hold anything but surrogates and NUL, and stand in it as Python literals."""
    text = base64.b64encode(packed).decode("ascii")
    lines = "\n".join(text[i : i + _LINE] for i in range(0, len(text), _LINE))
    values = {
        "RUN": order.run,
        "SHA256": hashlib.sha256(packed).hexdigest(),
        "ARGUMENTS": f"[{', '.join(ascii(argument) for argument in arguments)}]",
        "ARCHIVE": lines,
    }
    template = resources.files("neurocompile.deploy").joinpath("loader.py.txt").read_text(encoding="ascii")
    return re.sub(r"@([A-Z0-9]+)@", lambda found: values[found[1]], template)
