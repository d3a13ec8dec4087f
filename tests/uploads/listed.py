"""Batches to register."""

from datetime import datetime

from service.store.database import Database
from tests.factories import AGENT_ID, BEGAN


async def note(database: Database, batch_id: int, total: int, created_at: datetime = BEGAN) -> int:
    """Takes a batch down as discovery does; returns its key."""
    await database.queries.note_batches(
        database.pool, batch_id=[batch_id], agent_id=[AGENT_ID], name=["Dashboard"], status=["pending"],
        total_recipients=[total], created_at=[created_at],
    )  # fmt: skip
    key: int = await database.pool.fetchval("SELECT batch_key FROM batches WHERE batch_id = $1", batch_id)
    return key
