"""When batches are compared: scheduled, claimed and recorded."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg

from service.store.database import Database
from tests.factories import BEGAN


async def claim(database: Database, holder: str, now: datetime = BEGAN, limit: int = 1) -> list[asyncpg.Record]:
    claimed = database.queries.claim_due_batches(
        database.pool, holder=holder, limit=limit, lease_seconds=300.0, now=now
    )
    return [row async for row in claimed]


async def schedule(database: Database, now: datetime = BEGAN) -> int:
    count: int = await database.queries.schedule_batches(database.pool, now=now, interval_seconds=30.0)
    return count


async def record(database: Database, lease: asyncpg.Record, now: datetime, **changes: Any) -> bool:
    given: dict[str, Any] = {
        "verdict": "open", "reasons": "[]", "differences": "[]", "inconsistencies": "[]", "calls_spent": 2,
        "healed": 0, "due_at": now + timedelta(seconds=60), "verdict_text": None, **changes,
    }  # fmt: skip
    kept: bool = await database.queries.record_reconciliation(
        database.pool, batch_key=lease["batch_key"], fence=lease["fence"], at=now, **given
    )
    return kept
