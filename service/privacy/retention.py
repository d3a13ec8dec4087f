"""Retention: what has been kept for as long as its setting says goes, kind by kind, in small committed steps.

One replica at a time does it, by a lease. Between steps it stands back, so that webhooks go first.

Transcripts and recording URLs stand in the raw bodies alone and go with them. They have no shorter time of their own: a
body is what was signed, byte for byte, and one that was cut would prove nothing.

What is gone cannot be brought back, so no clock alone decides that time has passed: the earlier of the database's and
this process's own counts. One that is years ahead drops nothing.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog

from service.background import every
from service.store.database import Database
from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

LEASE_SECONDS = 120.0
STEP_ROWS = 500
PAUSE_SECONDS = 0.05


class Retention:
    """Forgets. ``keep_days`` by kind: bodies, people, quarantine, audit, snapshots; 0 keeps for ever."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        keep_days: Mapping[str, int],
        *,
        interval_seconds: float = 60.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._keep_days = keep_days
        self._interval_seconds = interval_seconds
        self._now = now
        self._holder = secrets.token_hex(8)

    async def run(self) -> None:
        """Until it is cancelled."""
        await every(self._interval_seconds, self.forget_all, "retention_failed")

    async def forget_all(self) -> dict[str, int]:
        """One pass, while the lease is ours: how much went, by kind."""
        gone: dict[str, int] = {}
        for kind, days in self._keep_days.items():
            while days and await self._hold_lease():
                step = getattr(self._database.queries, f"forget_{kind}")
                count = await step(self._database.pool, days=days, rows=STEP_ROWS, now=self._now())
                if not count:
                    break
                gone[kind] = gone.get(kind, 0) + count
                self._metrics.forgotten.labels(kind).inc(count)
                await asyncio.sleep(PAUSE_SECONDS)
            if kind in gone:
                logger.info("forgotten", kind=kind, count=gone[kind])
        return gone

    async def _hold_lease(self) -> bool:
        held = await self._database.queries.claim_lease(
            self._database.pool, name="retention", holder=self._holder, seconds=LEASE_SECONDS
        )
        return bool(held)
