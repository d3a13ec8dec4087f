"""Group commit: while one group is being written, the next gathers; it leaves as soon as the writer is free.

An idle service therefore commits an event at once, and a busy one commits hundreds together; no timer is involved.
A future is resolved only after its group's COMMIT. A group that cannot be written is tried again until its oldest
event has waited ``hold_seconds``; then its callers are told to send again, which is safe: a group is idempotent.

While more comes in than can be written, whoever would wait too long is refused at once. Without that every event would
wait for almost ``hold_seconds``, and be told so late that the database had been kept busy for senders who have left.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import stamina
import structlog

from service.errors import OverloadedError
from service.formant.events import Event, Unreadable
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Span, span

logger = structlog.get_logger()

Item = Event | Unreadable

MAX_GROUP_EVENTS = 500
MAX_GROUP_BYTES = 8 * 2**20
PATIENCE = 0.5  # of the hold time: who would wait for longer, as groups took lately, is refused at once
DEAD = "Nothing is being written: the task that commits has died"
SMOOTHING = 0.3  # the weight of the latest group in how long they take: ten fast ones outweigh a slow one


class _Group:
    def __init__(self, deadline: float) -> None:
        self.items: list[Item] = []
        self.futures: list[asyncio.Future[None]] = []
        self.size_bytes = 0
        self.deadline = deadline

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
    """Gathers items into groups and has them written, one group at a time.

    ``write`` commits a group and raises when it could not; it is called again with the same group until the deadline.
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
        """Raises OverloadedError when what waits already will take too long to write."""
        if len(self._groups) * self._group_seconds > PATIENCE * self._hold_seconds:
            raise OverloadedError(f"{len(self._groups)} groups of {self._group_seconds:.1f} s wait already")

    def submit(self, item: Item) -> asyncio.Future[None]:
        """The future that is done once ``item`` is committed, or has failed with OverloadedError."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if self._is_dead:
            future.set_exception(OverloadedError(DEAD))
            return future
        if not self._groups or self._groups[-1].is_full():
            self._groups.append(_Group(loop.time() + self._hold_seconds))
            self._arrived.set()
        group = self._groups[-1]
        group.items.append(item)
        group.futures.append(future)
        group.size_bytes += len(item.body)
        return future

    async def run(self) -> None:
        """Writes groups until ``drain`` was called and none is left. When it dies, all that waits is refused, and all
        that comes until it runs again."""
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
        """Lets ``run`` end once everything submitted so far is written."""
        self._draining = True
        self._arrived.set()

    async def _commit(self, group: _Group, traced: Span) -> None:
        started = self._clock()
        remaining = group.deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(remaining, 0.0)):
                async for attempt in stamina.retry_context(
                    on=Exception, attempts=None, timeout=None, wait_initial=0.05, wait_max=1.0, wait_jitter=0.05
                ):
                    with attempt:
                        await self._write_once(group)
        except Exception:
            logger.error("group_not_committed", events=len(group.items), exc_info=True)
            group.resolve(OverloadedError("The database did not answer in time"))
            traced.fail("not committed in time")
            return
        group.resolve()
        taken = self._clock() - started
        self._group_seconds += SMOOTHING * (taken - self._group_seconds)
        self._metrics.groups.inc()
        self._metrics.last_commit.set_to_current_time()
        self._metrics.commit_seconds.observe(taken)

    async def _write_once(self, group: _Group) -> None:
        try:
            await self._write(group.items)
        except Exception:
            self._metrics.group_failures.inc()
            logger.warning("group_write_failed", group_events=len(group.items), exc_info=True)
            raise

    async def _expire_waiting(self) -> None:
        """Answers the callers of groups that have waited too long for their turn behind one that cannot be written."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.2)
            while self._groups and self._groups[0].deadline <= loop.time():
                self._groups.popleft().resolve(OverloadedError("The database did not answer in time"))
