"""Counters that a migration adds are right for what was there before it, and for what comes while it runs."""

import asyncio
from datetime import timedelta

from service.formant.events import STATUSES
from service.store.database import Connection, Database, connect
from tests.factories import BEGAN, decode, make_payload, store_batch
from tests.guarantees.recount import find_differences
from tests.locks import WAITING
from tests.webhooks.ingesting import ingest, read_state

RECIPIENTS = 30
NEW = ("talk_time_counts", "contact_counts", "retry_counts")


async def fill(database: Database) -> None:
    """A batch with calls that were reached at first, at last, never, and by a word that a later one took back."""
    await store_batch(database.url, RECIPIENTS)
    for number in range(1, RECIPIENTS):
        status = STATUSES[number % len(STATUSES)]
        first = make_payload(recipient=number, attempt=1, status=status, final=False, duration_seconds=7 * number)
        second = make_payload(recipient=number, attempt=2, status=STATUSES[number % 3], final=number % 2 == 0)
        taken_back = make_payload(recipient=number, attempt=2, status="completed", began=BEGAN)
        await ingest(database, *decode(first, second, *([taken_back] if number % 5 == 0 else [])))


async def forget(connection: Connection) -> None:
    """The database as an older version would have left it."""
    for table in NEW:
        await connection.execute(f"DELETE FROM {table}")


async def test_a_backfill_gives_what_the_counters_would_be_had_they_always_been_kept(database: Database) -> None:
    await fill(database)
    kept = await read_state(database)
    assert all(kept[table] for table in NEW)
    async with database.pool.acquire() as connection:
        await forget(connection)
        assert await find_differences(connection) != []
        for _ in range(2):  # to run it again changes nothing
            await database.queries.backfill_counters(connection)
            assert await read_state(database) == kept
        assert await find_differences(connection) == []


async def test_events_that_come_during_a_backfill_are_counted_once(database: Database) -> None:
    await fill(database)
    other = await connect(database.url)
    async with database.pool.acquire() as connection:
        await forget(connection)
        late = decode(*(make_payload(recipient=n, attempt=3, began=BEGAN + timedelta(days=1)) for n in range(1, 31)))
        async with connection.transaction():
            await database.queries.backfill_counters(connection)
            writing = asyncio.create_task(ingest(database, *late))
            while not await other.fetchval(WAITING):
                assert not writing.done(), "an event did not wait for the backfill"
        assert (await writing).applied == len(late)
        assert await find_differences(connection) == []
    await other.close()
