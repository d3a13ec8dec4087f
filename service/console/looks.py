"""Shared looks: an answer that many viewers ask for at once is made once.

Two hundred people who watch a batch poll every few seconds. Each look is kept for about a second, and while it is being
made everyone waits for the same task, so the database is asked as often as for one viewer.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

KEPT_SECONDS = 1.0
MAX_LOOKS = 500


class Looks:
    """Answers by key, each made at most once per ``KEPT_SECONDS``. A failure is shared by those who wait for it, and
    is not kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, asyncio.Task[Any]]] = OrderedDict()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of ``key``, made now unless it is fresh or being made. A caller that goes away ends nothing."""
        began, task = self._kept.get(key, (0.0, None))
        if task is None or (task.done() and self._is_over(began, task)):
            task = asyncio.ensure_future(_run(make))
            self._kept[key] = (self._clock(), task)
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_LOOKS:
                self._kept.popitem(last=False)
        return await asyncio.shield(task)

    def _is_over(self, began: float, task: asyncio.Task[Any]) -> bool:
        return task.cancelled() or task.exception() is not None or self._clock() - began > KEPT_SECONDS


async def _run(make: Callable[[], Awaitable[Any]]) -> Any:
    return await make()
