"""Faults on purpose. They can be changed at any time while a sandbox runs, by a test or over HTTP.

Rates are shares between 0 and 1. The events they hit follow from seed, event and target, whatever the timing.
"""

import asyncio
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.sandbox.options import OptionError

UploadFault = Literal[
    "400", "401", "404", "408", "409", "425", "429", "499", "500", "proxy_429",
    "accepted_408", "accepted_409", "accepted_499", "accepted_500", "lost_answer", "hang", "refused_after_body",
]  # fmt: skip
"""Hits the next upload only. A number: answered so, not dialled. ``proxy_429``: answered by a proxy, not dialled.
``accepted_N``: dialled, yet answered N. ``lost_answer``: dialled, then the connection closes without an answer.
``hang``: dialled, no answer until released. ``refused_after_body``: not dialled; the connection closes without an
answer once the whole body has been read."""

_Share = Annotated[float, Meta(ge=0, le=1)]
_Seconds = Annotated[float, Meta(ge=0)]


class FaultChanges(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /sandbox/faults``: fields left out stay as they are."""

    drop: _Share | UnsetType = UNSET
    duplicate: _Share | UnsetType = UNSET
    delay: _Share | UnsetType = UNSET
    longest_delay_seconds: _Seconds | UnsetType = UNSET
    reorder_seconds: _Seconds | UnsetType = UNSET
    bad_signature: _Share | UnsetType = UNSET
    hang: _Share | UnsetType = UNSET
    api_500: _Share | UnsetType = UNSET
    api_429: _Share | UnsetType = UNSET
    next_upload: UploadFault | UnsetType | None = UNSET
    ignore_offset: bool | UnsetType = UNSET
    always_more: bool | UnsetType = UNSET
    odd_entries: bool | UnsetType = UNSET
    oldest_first: bool | UnsetType = UNSET
    no_results: bool | UnsetType = UNSET
    outage_seconds: _Seconds | UnsetType = UNSET
    release: bool | UnsetType = UNSET


@dataclass(slots=True, eq=False)
class Faults:
    """Plain attributes: assign to them. ``FaultChanges`` lists those that can be set over HTTP."""

    drop: float = 0.0
    """Events that are never sent."""
    duplicate: float = 0.0
    """Events that are delivered again later, with the same bytes."""
    delay: float = 0.0
    """Events that are sent late, by up to ``longest_delay_seconds``."""
    longest_delay_seconds: float = 900.0
    reorder_seconds: float = 0.0
    """Every event is sent late by a random part of this, so that events within this window change places."""
    bad_signature: float = 0.0
    """Events that get a forged copy. The genuine one is still sent."""
    hang: float = 0.0
    """Recipients whose call, once dialled, never ends: they stay in progress, and no webhook comes."""
    api_500: float = 0.0
    api_429: float = 0.0
    ignore_offset: bool = False
    """Lists begin at their first entry, whatever the offset."""
    always_more: bool = False
    """Lists say has_more on every page."""
    odd_entries: bool = False
    """The list of batches has entries that the contract does not allow, and its batches have odd types."""
    oldest_first: bool = False
    """The list of conversations begins with the oldest."""
    no_results: bool = False
    """Conversations have no results yet."""
    next_upload: UploadFault | None = None
    outage: tuple[float, float] | None = None
    """(after, seconds): no delivery arrives for ``seconds``, starting ``after`` seconds after the run's first dial."""
    _windows: list[tuple[float, float]] = field(default_factory=list)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        try:
            msgspec.convert({name: value for name, value in self.describe().items() if name != "outage"}, FaultChanges)
        except msgspec.ValidationError as error:
            raise OptionError(str(error)) from error

    def describe(self) -> dict[str, Any]:
        """The current settings by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if not item.name.startswith("_")}

    def change(self, changes: FaultChanges, now: float) -> None:
        """Applies the fields that are set; ``outage_seconds`` starts an outage, ``release`` answers hanging uploads."""
        for name, value in msgspec.structs.asdict(changes).items():
            if value is not UNSET and name not in ("outage_seconds", "release"):
                setattr(self, name, value)
        if changes.outage_seconds is not UNSET:
            self.begin_outage(now, changes.outage_seconds)
        if changes.release is True:
            self.release()

    def take_next_upload(self) -> UploadFault | None:
        fault, self.next_upload = self.next_upload, None
        return fault

    def begin_outage(self, start: float, seconds: float) -> None:
        """Makes the receiver unreachable for a window of virtual time."""
        self._windows.append((start, start + seconds))

    def note_first_dial(self, now: float) -> None:
        if self.outage is not None:
            after, seconds = self.outage
            self.begin_outage(now + after, seconds)

    def is_out(self, now: float) -> bool:
        return any(start <= now < end for start, end in self._windows)

    def release(self) -> None:
        """Answers every hanging upload."""
        self._released.set()
        self._released = asyncio.Event()

    async def wait_for_release(self) -> None:
        await self._released.wait()
