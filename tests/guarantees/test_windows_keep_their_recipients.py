"""A batch without a CSV keeps its recipients while their calls are placed again, in steps of whatever size."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from service.formant.events import Event
from service.store.database import Database
from service.uploads.registration import Registrar
from tests.factories import BEGAN, decode, make_payload, phone_of
from tests.guarantees.recount import find_differences
from tests.uploads.listed import note, note_batch
from tests.webhooks.ingesting import heal, ingest, list_outcomes

HOUR = timedelta(hours=1)


def call(number: int, attempt: int = 1, **fields: Any) -> Event:
    """The webhook of a call: without a reference, with the parameters of the row."""
    (event,) = decode(make_payload(
        recipient=None, phone=phone_of(number), parameters={"loan_id": f"LN-{number}"}, attempt=attempt,
        began=BEGAN + attempt * HOUR, **fields,
    ))  # fmt: skip
    return event


async def place_all(database: Database, placed_events: int) -> None:
    async with asyncio.timeout(20):  # or events are moved to and fro for ever
        await Registrar(database, placed_events=placed_events).finish_all()


async def read_window(database: Database) -> tuple[int, int, int]:
    """How many recipients are there, were withdrawn, and wait for a place."""
    row = await database.pool.fetchrow(
        "SELECT recipient_count - withdrawn_count, withdrawn_count, (SELECT count(*) FROM unattributed) FROM batches"
    )
    assert row is not None
    return tuple(row)


@pytest.mark.parametrize("placed_events", [1, 2, 50])
async def test_a_healed_call_stays_with_the_recipient_whose_later_webhook_says_who_it_is(
    database: Database, placed_events: int
) -> None:
    await note_batch(database, 456, total=3)
    await ingest(database, call(1, attempt=2), call(2, attempt=2), call(3))
    await place_all(database, placed_events)
    # A conversation has no parameters. The window is full, so these make all events be placed again.
    healed = [heal(contact_number=phone_of(n), conversation_id=f"lost-{n}", began=BEGAN + HOUR) for n in (1, 2)]
    await ingest(database, *healed)
    before = await list_outcomes(database)
    assert [row["attempts"] for row in before] == [2, 2, 1]
    key = await database.pool.fetchval("SELECT batch_key FROM batches")
    await database.pool.execute("SELECT place_again($1, NULL)", key)
    await place_all(database, placed_events)
    assert await list_outcomes(database) == before
    assert await read_window(database) == (3, 0, 0)


async def test_a_total_that_shrinks_withdraws_only_those_who_are_too_many(database: Database) -> None:
    await note_batch(database, 456, total=10)
    await ingest(database, *[call(n) for n in range(1, 11)])
    await place_all(database, 50)
    await note(database, {"batch_id": 456, "agent_id": 123, "name": "Dashboard", "total_recipients": 8})
    await place_all(database, 50)
    assert await read_window(database) == (8, 2, 2)
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []
