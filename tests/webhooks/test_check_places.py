"""What is placed wrongly, or waits and has a place, is found for one batch as for all of them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.privacy.erasure import Eraser
from service.store.database import Database
from tests.factories import BATCH_ID, BEGAN, decode, make_payload, phone_of, store_batch
from tests.uploads.listed import note_batch
from tests.webhooks.ingesting import ingest

STRANGER = "+917900000001"
OTHER = 457
HOUR = timedelta(hours=1)


async def check(database: Database, batch_id: int | None) -> list[tuple[Any, ...]]:
    """The events that are elsewhere: their ids, where they are and where they belong."""
    batch = await database.pool.fetchrow("SELECT batch_key, agent_id FROM batches WHERE batch_id = $1", batch_id)
    query = database.queries.check_places(
        database.pool,
        agent_id=batch["agent_id"] if batch else -(2**63),
        phone="",
        keys=100,
        batch_key=batch["batch_key"] if batch else None,
    )
    columns = ("event_id", "at_batch", "at_recipient", "batch_key", "recipient_no")
    return [tuple(row[name] for name in columns) async for row in query if row["event_id"] is not None]


async def call(database: Database, phone: str, *, hours: float = 0, **fields: Any) -> None:
    """A call without a reference."""
    await ingest(
        database,
        *decode(make_payload(recipient=None, phone=phone, parameters={}, began=BEGAN + hours * HOUR, **fields)),
    )


async def make_recipient(database: Database) -> None:
    await call(database, phone_of(1))
    await store_batch(database.url, 3)


async def make_window(database: Database) -> None:
    await call(database, STRANGER)
    await note_batch(database, BATCH_ID, total=5)


async def make_contradiction(database: Database) -> None:
    await store_batch(database.url, 3)
    await ingest(database, *decode(make_payload(recipient=2, phone=STRANGER, conversation_id="crossed", began=BEGAN)))
    await database.pool.execute("UPDATE batches SET upload_state = 'failed' WHERE batch_id = $1", BATCH_ID)
    await call(database, STRANGER, conversation_id="crossed")
    await database.pool.execute("UPDATE batches SET upload_state = 'uploaded'")


async def make_erased(database: Database) -> None:
    await store_batch(database.url, 3, ref_token=None)
    await call(database, phone_of(1), status="busy", final=False)
    eraser = Eraser(database)
    await eraser.finish(await eraser.begin(phone_of(1)))
    await database.pool.execute("UPDATE batches SET upload_state = 'failed' WHERE batch_id = $1", BATCH_ID)
    await call(database, phone_of(1), attempt=2, hours=(datetime.now(UTC) - BEGAN) / HOUR + 1)
    await database.pool.execute("UPDATE batches SET upload_state = 'uploaded'")


@pytest.mark.parametrize("make", [make_recipient, make_window, make_contradiction, make_erased])
async def test_what_waits_and_belongs_to_a_batch_is_found_by_it_alone(
    database: Database, make: Callable[[Database], Awaitable[None]]
) -> None:
    # The same people, later.
    await store_batch(database.url, 2, batch_id=OTHER, ref_token="other", prepared_at=BEGAN + timedelta(days=9999))
    await make(database)
    await database.pool.execute("DELETE FROM placement_jobs")  # as if nobody had seen the change
    (found,) = await check(database, None)
    assert found[1] is None
    assert found[3] == await database.pool.fetchval("SELECT batch_key FROM batches WHERE batch_id = $1", BATCH_ID)
    assert await check(database, BATCH_ID) == [found]
    assert await check(database, OTHER) == []


async def test_what_is_in_a_batch_that_does_not_hold_its_phone_is_found_by_it(database: Database) -> None:
    for batch_id in (BATCH_ID, OTHER):
        await store_batch(database.url, 3, batch_id=batch_id, ref_token=f"token-{batch_id}")
    await call(database, STRANGER)
    await database.pool.execute(
        "INSERT INTO facts (batch_key, recipient_no, arrival_id, event_id, source, method, conversation_id, status, "
        "is_final, results, recorded_at) SELECT b.batch_key, 1, u.arrival_id, u.event_id, u.source, 'recipient', "
        "u.conversation_id, u.status, u.is_final, u.results, now() FROM unattributed AS u, batches AS b "
        "WHERE b.batch_id = $1",
        BATCH_ID,
    )
    await database.pool.execute("DELETE FROM unattributed")
    (found,) = await check(database, None)
    assert (found[2], found[3]) == (1, None)
    assert await check(database, BATCH_ID) == [found]
    assert await check(database, OTHER) == []
