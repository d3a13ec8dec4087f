"""The bound on what the receiver holds in memory: requests being read and events that wait for their commit."""

from dataclasses import dataclass

from service.errors import OverloadedError
from service.store.database import STATEMENT_SECONDS
from service.telemetry.metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may wait, and for how long. ``hold_seconds`` of a webhook lie inside the provider's 10 s, with some left
    for the answer; ``statement_seconds`` are for all others that ask the database."""

    events: int = 20_000
    body_bytes: int = 128 * 2**20
    hold_seconds: float = 8.0
    statement_seconds: float = STATEMENT_SECONDS
    feed_waiters: int = 1000


class Backlog:
    """Counts requests and bytes in; refuses when full, so that memory stays bounded while the database is away."""

    def __init__(self, metrics: Metrics, limits: Limits) -> None:
        self._max_events = limits.events
        self._max_bytes = limits.body_bytes
        self._events = 0
        self._bytes = 0
        metrics.backlog_events.set_function(lambda: self._events)
        metrics.backlog_bytes.set_function(lambda: self._bytes)

    def enter(self) -> None:
        """Counts a request in; raises OverloadedError when there is no room for one more."""
        if self._events >= self._max_events:
            raise OverloadedError(f"{self._max_events} events wait already")
        self._events += 1

    def grow(self, size_bytes: int) -> None:
        """Counts bytes of its body in; raises OverloadedError when there is no room for them."""
        if self._bytes + size_bytes > self._max_bytes:
            raise OverloadedError(f"{self._max_bytes} bytes wait already")
        self._bytes += size_bytes

    def leave(self, size_bytes: int) -> None:
        """Counts a request and all the bytes that it grew by out again."""
        self._events -= 1
        self._bytes -= size_bytes
