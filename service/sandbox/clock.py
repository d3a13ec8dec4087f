"""The provider's virtual time, in seconds since the Unix epoch, and the callbacks planned on it.

``RunningClock`` runs by itself, faster than the real one. ``SteppedClock`` jumps from one callback to the next, as far
as it is allowed: nothing waits for real, and every run is the same. Both have three methods:

- ``now()``: the current virtual time
- ``reach(when)``: whether ``when`` has come; None never comes
- ``real_seconds_until(when)``: how long to sleep before asking again; None: until woken
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any


class RunningClock:
    """Starts at ``start`` (default: the real time) and runs ``speed`` times as fast as the real clock. With ``pauses``
    it stands still while nothing is planned; otherwise it would soon be days ahead."""

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
    """Starts at ``start`` (default: the real time) and runs for ``allowance`` seconds; None: without end.

    With an allowance of 0 it stands still until ``allow()`` adds some seconds.
    """

    def __init__(self, start: float | None = None, allowance: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._limit = None if allowance is None else self._now + allowance

    def now(self) -> float:
        return self._now

    def allow(self, seconds: float) -> None:
        """Adds to the allowance; the timeline has to be woken."""
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


Clock = RunningClock | SteppedClock


def format_time(when: float) -> str:
    """ISO 8601 in UTC with milliseconds: ``2026-03-16T10:30:00.250Z``."""
    return datetime.fromtimestamp(round(when, 3), UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def format_optional(when: float | None) -> str | None:
    """As ``format_time``; None for None."""
    return None if when is None else format_time(when)


def format_second(when: float) -> str:
    """ISO 8601 in UTC with whole seconds, as in the provider's example: ``2026-03-16T10:30:00Z``."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_STEPS_PER_TURN = 20
"""Callbacks run before other tasks get a turn: some milliseconds, so that the API never stalls."""

_Entry = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Timeline:
    """Runs callbacks by their virtual time, those of the same time in the order in which they were planned.

    One heap replaces a task per recipient. A callback gets the time it was due at, not the time at which it runs, so a
    slow machine makes the emulation slower without changing what happens in it. The timeline stops while ``may_pass``
    is not set: webhooks are waiting to be sent, and more would pile up.
    """

    def __init__(self, clock: Clock, may_pass: asyncio.Event) -> None:
        self._clock = clock
        self._may_pass = may_pass
        self._entries: list[_Entry] = []
        self._order = itertools.count()
        self._woken = asyncio.Event()
        self.standing = asyncio.Event()
        """Set while everything due has run."""

    def now(self) -> float:
        """The current virtual time; never past a callback that is due and has not run."""
        now = self._clock.now()
        return min(now, self._entries[0][0]) if self._entries else now

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Plans ``callback(when, *arguments)`` for the virtual time ``when``."""
        heapq.heappush(self._entries, (when, next(self._order), callback, arguments))
        self.wake()

    def wake(self) -> None:
        """Has the timeline check again: a callback was added, or the clock's allowance has grown."""
        self.standing.clear()
        self._woken.set()

    async def run(self) -> None:
        """Runs callbacks until cancelled."""
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
