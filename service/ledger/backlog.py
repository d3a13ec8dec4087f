"""The bound on what the receiver holds in memory: requests being read and events that wait for their commit."""

from service.errors import OverloadedError
from service.metrics import Metrics

MAX_EVENTS = 20_000
MAX_BYTES = 128 * 2**20


class Backlog:
    """Counts requests and bytes in; refuses when full, so that memory stays bounded while the database is away."""

    def __init__(self, metrics: Metrics, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
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
