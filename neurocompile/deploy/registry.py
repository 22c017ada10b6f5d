"""The destinations by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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

    def confirm(self, given: Collection[str], *, begun: bool) -> None:
        """A deployment goes on that may be somebody else's: InputError NC160 if secrets would go to a place that only its file
        names. ``begun``: the job runs already, or is to be cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of destination.

    target : whose builds run there; settings : class of its settings; make : destination of (settings, state, local folder, whether only to
    cancel);
    slowest : seconds that the pauses between looks may grow to, while nothing is new; example : of its options.
    """

    name: str
    target: str
    settings: Any
    make: Callable[[Any, State, Path, bool], Destination]
    slowest: float = 0.0
    example: str


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="inrc",
            target="loihi2",
            settings=InrcSettings,
            make=lambda settings, _state, _folder, _cancel: Inrc(settings),
            example="--host USER@HOST",
        ),
        Kind(
            name="spinnaker-cloud",
            target="spinnaker",
            settings=CloudSettings,
            make=lambda settings, _state, _folder, _cancel: SpinnakerCloud(settings),
            slowest=30.0,
            example="--collab NAME",
        ),
        Kind(
            name="spalloc",
            target="spinnaker",
            settings=SpallocSettings,
            make=lambda settings, state, folder, cancel: Spalloc(settings, folder, state.run, begun=cancel or state.phase in PHASES[2:]),
            example="--server HOST --user NAME",
        ),
    )
}
