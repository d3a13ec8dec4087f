"""What is to happen, and when: one heap over virtual time instead of a task per recipient.

Callbacks get the time they were due at, not the time at which the machine came round to them. So a machine that
cannot keep up makes the emulation slower, but does not change what happens in it.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable
from typing import Any

from service.sandbox.clock import Clock

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
