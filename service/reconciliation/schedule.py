"""When a batch is compared again, the lease of the worker that compares it, and how long comparisons are overdue."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog

from service.background import every
from service.errors import OutcomesError
from service.reconciliation.drift import Assessment
from service.store.database import Database
from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

QUIET_SHARE = 0.25
"""A batch is compared again after this share of the time since its last change."""
MAX_INTERVAL = timedelta(hours=1)
CLOSED_AFTER = timedelta(days=1)
REPEAT_HEALING = timedelta(hours=6)
SKEW_SECONDS = 60.0
"""The most by which replica clocks may differ."""
WATCH_SECONDS = 15.0
FOREVER = datetime.max.replace(tzinfo=UTC)
"""Stored as infinity in Postgres."""


def correct_change_time(changed_at: datetime, *, now: datetime, grace_seconds: float) -> datetime:
    """The time of a change, corrected when it lies in the future by more than the grace period. Such a time was
    recorded before the clock was set back. It is taken as long ago, since grace would otherwise run until then."""
    is_possible = changed_at <= now + timedelta(seconds=max(grace_seconds, SKEW_SECONDS))
    return changed_at if is_possible else now - CLOSED_AFTER


def plan_next(assessment: Assessment, *, now: datetime, changed_at: datetime, interval: timedelta) -> datetime:
    """When to compare a batch again: the longer nothing changed, the later. ``FOREVER``: only after an event."""
    quiet = now - changed_at
    if assessment.verdict == "complete" and quiet >= CLOSED_AFTER:
        return FOREVER
    due_at = now + min(max(quiet * QUIET_SHARE, interval), max(MAX_INTERVAL, interval))
    if assessment.settles_at is not None:
        due_at = min(due_at, max(assessment.settles_at, now + timedelta(seconds=1)))
    return due_at


def may_heal_again(walked_at: datetime | None, *, now: datetime, changed_at: datetime, grace_seconds: float) -> bool:
    """Whether a batch may be healed again: a grace period after the last walk, or much later when that walk came after
    the grace period and nothing has changed since. A walk in the future was recorded before the clock was set back, and
    does not delay healing."""
    if walked_at is None or walked_at > now + MAX_INTERVAL:
        return True
    grace = timedelta(seconds=grace_seconds)
    return now - walked_at >= (grace if walked_at < changed_at + grace else REPEAT_HEALING)


LEASE_SECONDS = 30.0
RENEWALS = 3
"""Renewals within the length of a lease."""


class LeaseLostError(OutcomesError):
    """Another worker has taken over, or may have. Nothing more may be written."""


@asynccontextmanager
async def keep_lease(renew: Callable[[], Awaitable[bool]], *, seconds: float) -> AsyncIterator[None]:
    """Renews a lease that was just taken, for as long as the block lasts. ``renew`` returns whether it is still held.

    Raises LeaseLostError out of the block when the lease is lost, or when no renewal succeeds for its full length.
    """
    worker = asyncio.current_task()
    assert worker is not None
    is_lost = False

    async def keep() -> None:
        nonlocal is_lost
        await _renew_until_lost(renew, seconds)
        is_lost = True
        worker.cancel()

    keeper = asyncio.create_task(keep())
    try:
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
    except asyncio.CancelledError:
        if is_lost and worker.uncancel() == 0:
            raise LeaseLostError("The lease was lost") from None
        raise


async def _renew_until_lost(renew: Callable[[], Awaitable[bool]], seconds: float) -> None:
    clock = asyncio.get_running_loop().time
    ends_at = clock() + seconds
    while clock() < ends_at:
        await asyncio.sleep(seconds / RENEWALS)
        began = clock()
        try:
            async with asyncio.timeout_at(ends_at):
                if not await renew():
                    return
            ends_at = began + seconds
        except TimeoutError:
            return
        except Exception:
            logger.warning("lease_renewal_failed", exc_info=True)


class ProgressWatch:
    """Sets the metrics of progress: the end of the feed, and how long a comparison has been overdue.

    They are read from the database, so every replica reports the same values, even an idle one.
    """

    def __init__(
        self, database: Database, metrics: Metrics, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._now = now

    async def run(self) -> None:
        await every(WATCH_SECONDS, self.refresh, "progress_not_read")

    async def refresh(self) -> None:
        now = self._now()
        queries, pool = self._database.queries, self._database.pool
        self._metrics.feed_position.set(await queries.get_last_position(pool))
        due_at: datetime | None = await queries.get_oldest_due(pool, now=now)
        self._metrics.reconciliation_overdue_seconds.set((now - due_at).total_seconds() if due_at else 0)
