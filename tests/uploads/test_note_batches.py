"""A field that the provider's list omits never replaces a known value."""

from datetime import UTC, datetime
from typing import Any

from service.store.database import Database
from tests.factories import AGENT_ID, BATCH_ID, store_batch
from tests.uploads.listed import note

CREATED = datetime(2026, 3, 16, 10, 30, tzinfo=UTC)


async def read(database: Database) -> list[tuple[Any, ...]]:
    rows = await database.pool.fetch(
        "SELECT batch_id, agent_id, name, status, total_recipients, created_at FROM batches ORDER BY batch_id"
    )
    return [tuple(row) for row in rows]


async def test_a_field_that_is_null_keeps_what_is_known_and_one_that_is_not_replaces_it(database: Database) -> None:
    known = {"name": "March", "status": "pending", "total_recipients": 7, "created_at": CREATED}
    assert await note(database, {"batch_id": 1, "agent_id": AGENT_ID, **known}) == 1
    assert await note(database, {"batch_id": 1}) == 0
    assert await read(database) == [(1, AGENT_ID, "March", "pending", 7, CREATED)]
    for name, value in {"name": "April", "status": "done", "total_recipients": 8}.items():
        known[name] = value
        assert await note(database, {"batch_id": 1, name: value}) == 1
        assert await read(database) == [(1, AGENT_ID, *known.values())]


async def test_a_batch_without_an_agent_is_new_to_nobody_and_the_others_are_noted(database: Database) -> None:
    assert await note(database, {"batch_id": 1, "name": "?"}, {"batch_id": 2, "agent_id": AGENT_ID}) == 1
    assert await read(database) == [(2, AGENT_ID, "", None, None, None)]


async def test_a_batch_that_says_neither_name_nor_size_may_be_an_unknown_upload_and_is_not_taken_for_anothers(
    database: Database,
) -> None:
    await store_batch(database.url, batch_id=None)
    await database.pool.execute("UPDATE batches SET upload_state = 'unknown'")
    for said in ({}, {"name": "Another"}, {"total_recipients": 99}):
        assert await note(database, {"batch_id": BATCH_ID, "agent_id": AGENT_ID, **said}) == 0
    assert await note(database, {"batch_id": 1, "agent_id": AGENT_ID, "name": "Another", "total_recipients": 99}) == 1
