"""Retention: deletes data that is older than its setting allows, kind by kind, in small committed steps.

One replica at a time does this, under a lease. It pauses between steps, so that webhooks go first.

Transcripts and recording URLs are stored only in the raw bodies and are deleted with them. They have no shorter
retention of their own: a body is what was signed, byte for byte, and an edited one would prove nothing.

Deleted data cannot be restored, so no single clock decides: the earlier of the database's time and this process's own
counts. A clock that is years ahead deletes nothing.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from service.background import every
from service.store.database import Database
from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

LEASE_SECONDS = 120.0
STEP_ROWS = 500
PAUSE_SECONDS = 0.05
INTERVAL_SECONDS = 60.0
REJECTED_DAYS = 30


class Retention:
    """Deletes old data. ``keep_days`` by kind: bodies, people, quarantine, audit, snapshots; 0 keeps forever. Rejected
    rows of uploads are kept for ``REJECTED_DAYS``."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        keep_days: Mapping[str, int],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._metrics = metrics
        self.keep_days = {**keep_days, "rejected_rows": REJECTED_DAYS}
        self._now = now
        self._holder = secrets.token_hex(8)

    async def run(self) -> None:
        await every(INTERVAL_SECONDS, self.forget_all, "retention_failed")

    async def forget_all(self) -> dict[str, int]:
        """One pass, while this process holds the lease. Returns the number of rows (of bodies: steps) by kind."""
        gone: dict[str, int] = {}
        for kind, days in self.keep_days.items():
            while days and await self._hold_lease():
                step = getattr(self._database.queries, f"forget_{kind}")
                count = await step(self._database.pool, days=days, rows=STEP_ROWS, now=self._now())
                if not count:
                    break
                gone[kind] = gone.get(kind, 0) + count
                self._metrics.retention_deleted.labels(kind).inc(count)
                await asyncio.sleep(PAUSE_SECONDS)
            if kind in gone:
                logger.info("retention_deleted", kind=kind, count=gone[kind])
                await self._database.queries.note_deletion(
                    self._database.pool, kind=kind, deleted=gone[kind], now=datetime.now(UTC)
                )
        return gone

    async def list_deletions(self) -> dict[str, Any]:
        """By kind, the row of the last pass that deleted anything."""
        rows = self._database.queries.list_deletions(self._database.pool)
        return {row["kind"]: row async for row in rows}

    async def _hold_lease(self) -> bool:
        held = await self._database.queries.claim_lease(
            self._database.pool, name="retention", holder=self._holder, seconds=LEASE_SECONDS
        )
        return bool(held)
