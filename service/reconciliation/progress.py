"""Progress metrics: the end of the feed, and how long a comparison has been overdue.

They are read from the database, so every replica reports the same values, even an idle one.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from service.background import every
from service.store.database import Database
from service.telemetry.metrics import Metrics

INTERVAL_SECONDS = 15.0


class ProgressWatch:
    """Reads the metrics at an interval."""

    def __init__(
        self, database: Database, metrics: Metrics, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._now = now

    async def run(self) -> None:
        await every(INTERVAL_SECONDS, self.refresh, "progress_not_read")

    async def refresh(self) -> None:
        now = self._now()
        queries, pool = self._database.queries, self._database.pool
        self._metrics.feed_position.set(await queries.get_last_position(pool))
        due_at: datetime | None = await queries.get_oldest_due(pool, now=now)
        self._metrics.reconciliation_overdue_seconds.set((now - due_at).total_seconds() if due_at else 0)
