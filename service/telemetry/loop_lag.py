"""Looks how late the event loop is: the first sign of overload, before anything is refused."""

import asyncio
from collections.abc import Awaitable, Callable

from service.telemetry.metrics import Metrics

INTERVAL_SECONDS = 0.25


class LoopLag:
    """Sets itself a timer again and again, and notes by how much it came late."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._metrics = metrics
        self._sleep = sleep
        self._clock = clock or asyncio.get_running_loop().time

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            began = self._clock()
            await self._sleep(INTERVAL_SECONDS)
            self._metrics.loop_lag_seconds.observe(max(0.0, self._clock() - began - INTERVAL_SECONDS))
