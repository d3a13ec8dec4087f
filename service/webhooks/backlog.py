"""The bound on what the receiver holds in memory: requests being read and events waiting for commit."""

from dataclasses import dataclass

from service.errors import OverloadedError
from service.telemetry.metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class BacklogLimits:
    """How much may wait, and for how long. ``hold_seconds`` bounds the wait of a webhook; it is below the provider's
    time-out of 10 s, to leave time for the answer."""

    events: int = 20_000
    body_bytes: int = 128 * 2**20
    hold_seconds: float = 8.0


class Backlog:
    """Counts held requests and bytes. Refuses more when full, so memory stays bounded while the database is away."""

    def __init__(self, metrics: Metrics, limits: BacklogLimits) -> None:
        self._max_events = limits.events
        self._max_bytes = limits.body_bytes
        self._events = 0
        self._bytes = 0
        metrics.backlog_events.set_function(lambda: self._events)
        metrics.backlog_bytes.set_function(lambda: self._bytes)

    def enter(self) -> None:
        """Adds a request; raises OverloadedError when the backlog is full."""
        if self._events >= self._max_events:
            raise OverloadedError(f"{self._max_events} events are already waiting")
        self._events += 1

    def grow(self, size_bytes: int) -> None:
        """Adds bytes of a request's body; raises OverloadedError when they do not fit."""
        if self._bytes + size_bytes > self._max_bytes:
            raise OverloadedError(f"{self._max_bytes} bytes are already waiting")
        self._bytes += size_bytes

    def leave(self, size_bytes: int) -> None:
        """Removes a request and all the bytes added for it."""
        self._events -= 1
        self._bytes -= size_bytes
