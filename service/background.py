"""Work that runs beside the requests for as long as the service does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 10.0
SOUND_SECONDS = 60.0
"""A task that ran for longer has got over what it died of before."""


async def every(
    seconds: float, step: Callable[[], Awaitable[object]], failure: str, *, is_due_at_once: bool = True
) -> None:
    """Takes ``step``, then waits ``seconds``, until it is cancelled. One that fails is logged as ``failure``, and taken
    again the next time."""
    if not is_due_at_once:
        await asyncio.sleep(seconds)
    while True:
        try:
            await step()
        except Exception:
            logger.warning(failure, exc_info=True)
        await asyncio.sleep(seconds)


class Background:
    """Tasks under supervision: one that dies is logged, counted and started again, later each time in a row."""

    def __init__(self, group: asyncio.TaskGroup, metrics: Metrics, first_wait_seconds: float) -> None:
        self._group = group
        self._metrics = metrics
        self._first_wait_seconds = first_wait_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self.stopped: set[str] = set()
        """The names of those that have died and are not started again yet."""

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Starts ``run()``; when the block of ``open_background`` ends, it is cancelled if it has not returned."""
        task = self._group.create_task(self._supervise(name, run), name=name)
        self._tasks.append(task)
        return task

    def cancel(self) -> None:
        """Cancels all that runs."""
        for task in self._tasks:
            task.cancel()

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        clock = asyncio.get_running_loop().time
        wait = self._first_wait_seconds
        while True:
            began = clock()
            try:
                return await run()
            except Exception:
                self.stopped.add(name)
                self._metrics.background_failures.labels(name).inc()
                logger.error("background_task_died", task=name, exc_info=True)
            if clock() - began > SOUND_SECONDS:
                wait = self._first_wait_seconds
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            self.stopped.discard(name)


@asynccontextmanager
async def open_background(
    metrics: Metrics, *, first_wait_seconds: float = FIRST_WAIT_SECONDS
) -> AsyncIterator[Background]:
    """Runs what is started in it for as long as the block lasts."""
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        background = Background(group, metrics, first_wait_seconds)
        try:
            yield background
        except BaseException as error:  # raised below: the group would wrap it
            failure = error
        background.cancel()
    if failure is not None:
        raise failure
