"""Batches that are seen in the provider's list."""

from typing import Any

from service.store.database import Database


async def note(database: Database, *batches: dict[str, Any]) -> int:
    names = ("batch_id", "agent_id", "name", "status", "total_recipients", "created_at")
    columns = {name: [batch.get(name) for batch in batches] for name in names}
    changed: int = await database.queries.note_batches(database.pool, **columns)
    return changed
