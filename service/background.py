"""Tasks that run in the background as long as the service does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 10.0
CANCEL_SECONDS = 5.0
"""A task that has not ended by then is cancelled again."""
HEALTHY_SECONDS = 60.0
"""A task that ran longer starts again with the first wait."""


async def every(
    seconds: float, step: Callable[[], Awaitable[object]], failure: str, *, is_due_at_once: bool = True
) -> None:
    """Runs ``step`` and waits ``seconds``, until it is cancelled. A step that fails is logged as ``failure``; the loop
    continues."""
    if not is_due_at_once:
        await asyncio.sleep(seconds)
    while True:
        try:
            await step()
        except Exception:
            logger.warning(failure, exc_info=True)
        await asyncio.sleep(seconds)


class Background:
    """Supervised tasks: one that dies is logged, counted and restarted, with a longer wait each time in a row."""

    def __init__(self, group: asyncio.TaskGroup, metrics: Metrics, first_wait_seconds: float) -> None:
        self._group = group
        self._metrics = metrics
        self._first_wait_seconds = first_wait_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self.stopped: set[str] = set()
        """The names of tasks that have died and wait for their restart."""

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Starts ``run()``. It is cancelled at the end of the ``open_background`` block if it is still running."""
        task = self._group.create_task(self._supervise(name, run), name=name)
        self._tasks.append(task)
        return task

    async def stop(self) -> None:
        """Cancels all tasks until they have ended: before Python 3.12, ``asyncio.wait_for()``, which libraries use, may
        swallow a cancellation."""
        running = {task for task in self._tasks if not task.done()}
        while running:
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=CANCEL_SECONDS)

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
            if clock() - began > HEALTHY_SECONDS:
                wait = self._first_wait_seconds
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            self.stopped.discard(name)


@asynccontextmanager
async def open_background(
    metrics: Metrics, *, first_wait_seconds: float = FIRST_WAIT_SECONDS
) -> AsyncIterator[Background]:
    """Runs the tasks started in the block until the block ends."""
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        background = Background(group, metrics, first_wait_seconds)
        try:
            yield background
        except BaseException as error:  # raised below: the group would wrap it
            failure = error
        await background.stop()
    if failure is not None:
        raise failure
