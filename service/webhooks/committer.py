"""Group commit: while one group is being written, the next one fills; it is written as soon as the writer is free.

An idle service therefore commits an event at once, and a busy one commits hundreds together, without a timer.
A future resolves only after its group's COMMIT. A group that cannot be written is retried until its oldest event has
waited ``hold_seconds``. Its callers are then asked to send again, which is safe: writing a group is idempotent.

Under overload, an event that would wait too long is refused at once. Otherwise every event would wait for almost
``hold_seconds``, and the database would work for senders that have already given up.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog
from opentelemetry.trace import Span

from service.errors import OverloadedError
from service.formant.events import Event, Unreadable
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import fail, span

logger = structlog.get_logger()

Item = Event | Unreadable

MAX_GROUP_EVENTS = 500
MAX_GROUP_BYTES = 8 * 2**20
MAX_WAIT_SHARE = 0.5  # of the hold time: an event expected to wait longer is refused at once
DEAD = "Nothing is being written: the committer task has died"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0  # before a group is written again
SMOOTHING = 0.3  # the weight of the latest group in the moving average of commit times


class _Group:
    def __init__(self, loop: asyncio.AbstractEventLoop, hold_seconds: float) -> None:
        self.items: list[Item] = []
        self.futures: list[asyncio.Future[None]] = []
        self.size_bytes = 0
        self.deadline = loop.time() + hold_seconds
        self._loop = loop

    def add(self, item: Item) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self.items.append(item)
        self.futures.append(future)
        self.size_bytes += len(item.body)
        return future

    def is_full(self) -> bool:
        return len(self.items) >= MAX_GROUP_EVENTS or self.size_bytes >= MAX_GROUP_BYTES

    def resolve(self, error: OverloadedError | None = None) -> None:
        for future in self.futures:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


class Committer:
    """Collects items into groups and writes one group at a time.

    ``write`` commits a group and raises when it fails; it is called again with the same group until the deadline.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[None]],
        metrics: Metrics,
        *,
        hold_seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._write = write
        self._metrics = metrics
        self._hold_seconds = hold_seconds
        self._clock = clock
        self._groups: deque[_Group] = deque()
        self._arrived = asyncio.Event()
        self._draining = False
        self._is_dead = False
        self._group_seconds = 0.0

    def refuse_if_behind(self) -> None:
        """Raises OverloadedError when writing the waiting groups would take too long."""
        if len(self._groups) * self._group_seconds > MAX_WAIT_SHARE * self._hold_seconds:
            raise OverloadedError(f"{len(self._groups)} groups of {self._group_seconds:.1f} s are already waiting")

    def submit(self, item: Item) -> asyncio.Future[None]:
        """A future that resolves once ``item`` is committed, or fails with OverloadedError."""
        if self._is_dead:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(OverloadedError(DEAD))
            return future
        if not self._groups or self._groups[-1].is_full():
            # Asked for once a group, because finding the running loop takes a system call.
            self._groups.append(_Group(asyncio.get_running_loop(), self._hold_seconds))
            self._arrived.set()
        return self._groups[-1].add(item)

    async def run(self) -> None:
        """Writes groups until ``drain`` is called and none is left. When it dies, everything waiting is refused, and so
        is everything submitted until it runs again."""
        self._is_dead = False
        writing: list[_Group] = []
        expiry = asyncio.create_task(self._expire_waiting())
        try:
            while True:
                await self._arrived.wait()
                if not self._groups:
                    if self._draining:
                        return
                    self._arrived.clear()
                    continue
                writing[:] = [group := self._groups.popleft()]
                with span("commit", events=len(group.items)) as traced:
                    await self._commit(group, traced)
        except Exception:
            self._is_dead = True
            for waiting in [*writing, *self._groups]:
                waiting.resolve(OverloadedError(DEAD))
            self._groups.clear()
            raise
        finally:
            expiry.cancel()

    def drain(self) -> None:
        """Lets ``run`` return once everything submitted so far is written."""
        self._draining = True
        self._arrived.set()

    async def _commit(self, group: _Group, traced: Span) -> None:
        started = self._clock()
        remaining = group.deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(remaining, 0.0)):
                pause_seconds = FIRST_PAUSE_SECONDS
                while not await self._write_once(group):
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
        except Exception:
            logger.error("group_commit_failed", events=len(group.items), exc_info=True)
            group.resolve(OverloadedError("The database did not answer in time"))
            fail(traced, "not committed in time")
            return
        group.resolve()
        taken = self._clock() - started
        self._group_seconds += SMOOTHING * (taken - self._group_seconds)
        self._metrics.groups.inc()
        self._metrics.last_commit.set_to_current_time()
        self._metrics.commit_seconds.observe(taken)

    async def _write_once(self, group: _Group) -> bool:
        try:
            await self._write(group.items)
        except Exception:
            self._metrics.group_failures.inc()
            logger.warning("group_write_failed", group_events=len(group.items), exc_info=True)
            return False
        return True

    async def _expire_waiting(self) -> None:
        """Fails the groups that have waited past their deadline behind a group that cannot be written."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.2)
            while self._groups and self._groups[0].deadline <= loop.time():
                self._groups.popleft().resolve(OverloadedError("The database did not answer in time"))
