"""Virtual time, in seconds since the Unix epoch: what "now" is for the emulated provider.

``RunningClock`` passes by itself, faster than the real one. ``SteppedClock`` passes only as far as it is let, and then
in jumps from one thing to do to the next: nothing ever waits for real, and every run takes the same course.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the timeline asks of a clock."""

    is_stepped: bool
    """Whether time has to stand still while a webhook is under way."""

    def now(self) -> float:
        """The present virtual time."""

    def reach(self, when: float | None) -> bool:
        """Whether ``when`` has come; None never comes."""

    def real_seconds_until(self, when: float | None) -> float | None:
        """How long to sleep before asking again; None: until somebody wakes the sleeper."""


class RunningClock:
    """Starts at ``start`` (default: the real time) and runs ``speed`` times as fast as the real clock. With ``pauses``
    it stands while nothing is to be done, since it would soon be days ahead."""

    is_stepped = False

    def __init__(self, speed: float, start: float | None = None, *, pauses: bool = False) -> None:
        self._speed = speed
        self._start = time.time() if start is None else start
        self._began: float | None = time.monotonic()
        self._pauses = pauses

    def now(self) -> float:
        return self._start if self._began is None else self._start + (time.monotonic() - self._began) * self._speed

    def reach(self, when: float | None) -> bool:
        if when is None and self._pauses:
            self._start, self._began = self.now(), None
        elif self._began is None:
            self._began = time.monotonic()
        return when is not None and when <= self.now()

    def real_seconds_until(self, when: float | None) -> float | None:
        return None if when is None else max(0.0, (when - self.now()) / self._speed)


class SteppedClock:
    """Starts at ``start`` (default: the real time) and may pass for ``allowance`` seconds; None means: without end.

    With an allowance of 0 it stands until ``allow()`` lets it pass for some more seconds.
    """

    is_stepped = True

    def __init__(self, start: float | None = None, allowance: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._limit = None if allowance is None else self._now + allowance

    def now(self) -> float:
        return self._now

    def allow(self, seconds: float) -> None:
        """Lets the clock pass for ``seconds`` more; whoever sleeps has to be woken."""
        if self._limit is not None:
            self._limit += seconds

    def reach(self, when: float | None) -> bool:
        if when is not None and (self._limit is None or when <= self._limit):
            self._now = max(self._now, when)
            return True
        if self._limit is not None:
            self._now = self._limit
        return False

    def real_seconds_until(self, when: float | None) -> float | None:
        return None


def format_time(when: float) -> str:
    """ISO 8601 in UTC with milliseconds: ``2026-03-16T10:30:00.250Z``."""
    return datetime.fromtimestamp(round(when, 3), UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def format_second(when: float) -> str:
    """ISO 8601 in UTC with whole seconds, as in the provider's example: ``2026-03-16T10:30:00Z``."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
