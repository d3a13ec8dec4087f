"""How far everything is, for the metrics: the end of the feed, and for how long a comparison has been due.

It is the database that tells, so every replica tells the same, and one that does nothing else tells it too.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from service.background import every
from service.store.database import Database
from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

INTERVAL_SECONDS = 15.0


class ProgressWatch:
    """Reads it now and then, for as long as it runs."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._now = now

    async def run(self) -> None:
        """Until it is cancelled."""
        await every(self._interval_seconds, self.look, "progress_not_read")

    async def look(self) -> None:
        """One reading."""
        now = self._now()
        queries, pool = self._database.queries, self._database.pool
        self._metrics.feed_position.set(await queries.get_last_position(pool))
        due_at: datetime | None = await queries.get_oldest_due(pool, now=now)
        self._metrics.reconciliation_overdue_seconds.set((now - due_at).total_seconds() if due_at else 0)
