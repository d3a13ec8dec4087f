"""Batches that are seen in the provider's list."""

from datetime import datetime
from typing import Any

from service.store.database import Database
from tests.factories import AGENT_ID, BEGAN, decode, make_payload
from tests.guarantees.ambiguous_calls import settle
from tests.webhooks.ingesting import ingest

NAMESAKE = {
    "batch_id": 1,
    "agent_id": AGENT_ID,
    "name": "march follow ups",
    "total_recipients": 50,
    "created_at": BEGAN,
}
"""A batch that may be an upload's whose answer was lost."""


async def note(database: Database, *batches: dict[str, Any]) -> int:
    """Returns how many batches changed."""
    names = ("batch_id", "agent_id", "name", "status", "total_recipients", "created_at")
    columns = {name: [batch.get(name) for batch in batches] for name in names}
    changed: int = await database.queries.note_batches(database.pool, **columns)
    return changed


async def note_batch(database: Database, batch_id: int, total: int, created_at: datetime = BEGAN) -> int:
    """Records a batch as discovery does; returns its key."""
    batch = NAMESAKE | {"batch_id": batch_id, "name": "Dashboard", "status": "pending"}
    await note(database, batch | {"total_recipients": total, "created_at": created_at})
    key: int = await database.pool.fetchval("SELECT batch_key FROM batches WHERE batch_id = $1", batch_id)
    return key


async def call(database: Database, phone: str, name: str = "call", **parameters: Any) -> None:
    payload = make_payload(recipient=None, phone=phone, parameters=parameters or {"loan_id": "x"}, event_id=name)
    await ingest(database, *decode(payload))
    await settle(database)
