"""Virtual time, in seconds since the Unix epoch: what "now" is for the emulated provider.

``RunningClock`` passes by itself, faster than the real one. ``SteppedClock`` passes only as far as it is let, and then
in jumps from one thing to do to the next: nothing ever waits for real, and every run takes the same course.
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol


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


_STEPS_PER_TURN = 20
"""How many callbacks run before everybody else gets a turn: some milliseconds, so the API never stalls."""

_Entry = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Timeline:
    """Runs callbacks in the order of their virtual times; those of the same time in the order they were asked for.

    ``may_pass`` holds the timeline while it is not set: webhooks wait to be sent, and more would only pile up.
    """

    def __init__(self, clock: Clock, may_pass: asyncio.Event) -> None:
        self._clock = clock
        self._may_pass = may_pass
        self._entries: list[_Entry] = []
        self._order = itertools.count()
        self._woken = asyncio.Event()
        self.standing = asyncio.Event()
        """Set while everything that was due has been done, and nothing held the timeline up."""

    def now(self) -> float:
        """The present virtual time; it never is past something that is due and not done yet."""
        present = self._clock.now()
        return min(present, self._entries[0][0]) if self._entries else present

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Has ``callback(when, *arguments)`` called at the virtual time ``when``."""
        heapq.heappush(self._entries, (when, next(self._order), callback, arguments))
        self.wake()

    def wake(self) -> None:
        """Makes the timeline look again: something was added, or the clock may pass further."""
        self.standing.clear()
        self._woken.set()

    async def run(self) -> None:
        """Runs callbacks until it is cancelled."""
        steps = 0
        while True:
            await self._may_pass.wait()
            due = self._entries[0][0] if self._entries else None
            if not self._clock.reach(due):
                await self._sleep(due)
                continue
            when, _, callback, arguments = heapq.heappop(self._entries)
            callback(when, *arguments)
            steps += 1
            if steps % _STEPS_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _sleep(self, due: float | None) -> None:
        self._woken.clear()
        self.standing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._clock.real_seconds_until(due)):
                await self._woken.wait()
        self.standing.clear()
