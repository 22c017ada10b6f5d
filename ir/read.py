"""One door for all formats of a description: the suffix decides."""

from __future__ import annotations

from pathlib import Path

from neurocompile.ir.errors import InputError
from neurocompile.ir.network import Network

YAML_SUFFIXES = (".yaml", ".yml")
SUFFIXES = (*YAML_SUFFIXES, ".nir", ".net")


def read_network(path: str | Path, *, dt: float | None = None, seed: int | None = None) -> Network:
    """Read a network from ``.yaml``, ``.yml``, ``.nir`` or ``.net`` (lava-dl netx).

    Parameters
    ----------
    path : str or Path
    dt : float, optional
        Step in s; for .nir, which has none of its own, and for .net instead of the file's. Refused for YAML, where it stands in the file.
    seed : int, optional
        Used instead of the description's.

    Raises
    ------
    InputError
        NC121 unknown suffix, NC122 ``dt`` with YAML, and all that the readers find.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in YAML_SUFFIXES:
        if dt is not None:
            raise InputError.of(
                "NC122", "the time step of a YAML description stands in it", file=str(path), help="leave out --dt; edit `dt:`"
            )
        from neurocompile.ir.yaml_reader import read_yaml

        return read_yaml(path, seed=seed)
    if suffix == ".nir":
        from neurocompile.ir.nir_reader import read_nir

        return read_nir(path, dt=dt, seed=seed)
    if suffix == ".net":
        from neurocompile.ir.netx_reader import read_netx

        return read_netx(path, dt=dt, seed=seed)
    what = f"suffix '{suffix}' is not known" if suffix else "a file without suffix is not known"
    raise InputError.of("NC121", what, file=str(path), help=f"known: {', '.join(SUFFIXES)}")
