"""The destinations by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from neurocompile.deploy.destination import Destination
from neurocompile.deploy.inrc import Inrc, InrcSettings
from neurocompile.deploy.spalloc import Spalloc, SpallocSettings
from neurocompile.deploy.spinnaker_cloud import CloudSettings, SpinnakerCloud
from neurocompile.deploy.state import PHASES, State


class Settings(Protocol):
    """What a destination must be told; all of it ends up in the state file, so none of it may be a secret."""

    OPTIONS: ClassVar[Mapping[str, str]]
    WAY_THERE: ClassVar[tuple[str, ...]]

    @property
    def place(self) -> str:
        """Name of the destination in messages."""

    def as_json(self) -> dict[str, Any]:
        """For the state file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of destination.

    target : whose builds run there; settings : class of its settings; make : destination of (settings, state, local folder);
    slowest : seconds that the pauses between looks may grow to, while nothing is new; example : of its options.
    """

    name: str
    target: str
    settings: Any
    make: Callable[[Any, State, Path], Destination]
    slowest: float = 0.0
    example: str


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="inrc",
            target="loihi2",
            settings=InrcSettings,
            make=lambda settings, _state, _folder: Inrc(settings),
            example="--host USER@HOST",
        ),
        Kind(
            name="spinnaker-cloud",
            target="spinnaker",
            settings=CloudSettings,
            make=lambda settings, _state, _folder: SpinnakerCloud(settings),
            slowest=30.0,
            example="--collab NAME",
        ),
        Kind(
            name="spalloc",
            target="spinnaker",
            settings=SpallocSettings,
            make=lambda settings, state, folder: Spalloc(settings, folder, begun=state.phase in PHASES[2:]),
            example="--server HOST --user NAME",
        ),
    )
}
