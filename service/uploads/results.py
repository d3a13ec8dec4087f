"""Results of uploads: the batch that an upload became, that it dialled nobody, or that its outcome is unknown."""

import json
from datetime import datetime
from typing import Any

import asyncpg
import structlog

from service.access.audit import record_audit
from service.errors import ConflictError
from service.formant.batches import ProviderBatch
from service.store.database import Database
from service.telemetry.context import current_actor, current_request_id

logger = structlog.get_logger()

FIRST_WAIT_SECONDS = 5.0
"""Until the first lookup; doubled with every lookup, up to about six hours."""
MAX_MOVED = 1000
"""Feed entries moved in one commit: a few hundredths of a second in which webhooks wait."""


async def record_batch(
    database: Database,
    batch_key: int,
    batch: ProviderBatch,
    *,
    known_by: str = "answer",
    sent_at: datetime | None = None,
    details: dict[str, Any] | None = None,
) -> bool:
    """Records which batch an upload became; False when the upload no longer waits for that.

    An upload that held the batch by a weaker guess becomes unknown again. Raises ConflictError when the batch belongs
    to another upload that does not give way.
    """
    actor = current_actor()
    try:
        adopted = await database.queries.adopt_batch(
            database.pool,
            batch_key=batch_key,
            batch_id=batch.id,
            status=batch.status,
            total_recipients=batch.total_recipients,
            created_at=batch.created_at,
            rows=MAX_MOVED,
            known_by=known_by,
            sent_at=sent_at,
            actor=actor.name,
            key_id=actor.key_id,
            request_id=current_request_id(),
            action=_name_action(known_by),
            details=json.dumps(details or {}),
        )
    except asyncpg.UniqueViolationError as error:
        raise ConflictError(f"Batch {batch.id} is known already, and not as upload {batch_key}") from error
    if adopted["displaced_key"] is not None:
        logger.error("batch_reassigned", batch_id=batch.id, upload_id=adopted["displaced_key"], reason=known_by)
    return adopted["batch_key"] is not None


async def record_failure(
    database: Database,
    batch_key: int,
    states: list[str],
    detail: str,
    *,
    known_by: str = "answer",
    sent_at: datetime | None = None,
    details: dict[str, Any] | None = None,
) -> str | None:
    """Records that nobody was dialled. Returns the resulting state: ``unknown`` when calls disprove it, None when the
    upload was in none of ``states`` or was sent again after ``sent_at``."""
    async with database.pool.acquire() as connection, connection.transaction():
        state: str | None = await database.queries.fail_upload(
            connection, batch_key=batch_key, states=states, detail=detail, known_by=known_by, sent_at=sent_at
        )
        if state is not None:
            await record_audit(
                database, connection, _name_action(known_by), f"upload {batch_key}", state, **(details or {})
            )
    return state


async def record_unknown(database: Database, batch_key: int, detail: str, sent_at: datetime | None) -> None:
    """Records that an upload was sent and no answer came. Lookups start from here."""
    async with database.pool.acquire() as connection, connection.transaction():
        await database.queries.record_unknown(
            connection, batch_key=batch_key, detail=detail, seconds=FIRST_WAIT_SECONDS, sent_at=sent_at
        )
        await record_audit(database, connection, "upload", f"upload {batch_key}", "unknown")


async def move_entries(database: Database) -> None:
    """Moves the feed entries of batches whose id was found late to the end of the feed, ``MAX_MOVED`` at a time."""
    while await database.queries.move_feed_entries(database.pool, rows=MAX_MOVED):
        pass


def _name_action(known_by: str) -> str:
    return "resolution" if known_by == "person" else "upload"
