"""After a restore or failover the feed continues far beyond all that was read; readers of lost entries get an error."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog.testing

from service.errors import ConflictError
from service.feed.consumers import Consumers
from service.feed.feed import read_feed
from service.store.database import Database, load_queries, open_database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.conftest import create_database, drop_database
from tests.factories import decode, make_payload, store_batch
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run

EXACT_IN_JSON = 2**53
OPENED = "SELECT reason, previous_end, first_position FROM feed_timelines ORDER BY timeline_id"


async def write(database: Database, *recipients: int, attempt: int = 1) -> None:
    """Changes recipients as the service does."""
    writer = Writer(database.url, database.queries, Metrics())
    await writer.write(decode(*(make_payload(recipient=n, attempt=attempt) for n in recipients)))
    writer.close()


async def read_all(database: Database, after: int = 0) -> list[tuple[int, int]]:
    """Positions and recipients."""
    return [(entry["position"], entry["recipient"]) for entry in (await read_feed(database, after, 1000)).entries]


@pytest.fixture
async def copied(postgres: PostgresServer, database_url: str) -> AsyncIterator[str]:
    """Three changes, as they were when a backup was made; the test's own database has gone on by two."""
    await store_batch(database_url)
    async with open_database(database_url, allow_unsafe=False) as database:
        await write(database, 1, 2, 3)
        await Consumers(database).acknowledge("crm", 3, is_reset=False)
    url = await create_database(postgres, urlsplit(database_url).path[1:])
    async with open_database(database_url, allow_unsafe=False) as database:
        await write(database, 4, 5)
        assert len(await read_all(database)) == 5
    yield url
    await drop_database(postgres, url)


async def test_a_database_that_stays_where_it_is_has_one_timeline(database: Database) -> None:
    await store_batch(database.url)
    for recipient in (1, 2):
        await write(database, recipient)
    assert [row["reason"] for row in await database.pool.fetch(OPENED)] == ["begun"]
    assert [position for position, _ in await read_all(database)] == [1, 2]


async def test_a_reader_of_lost_entries_always_gets_an_error_and_all_others_continue(copied: str) -> None:
    before = int(datetime.now(UTC).timestamp() * 1e6)
    with structlog.testing.capture_logs() as logs:
        async with open_database(copied, allow_unsafe=False) as database:
            await write(database, 6, 7)
            (_, opened) = await database.pool.fetch(OPENED)
            assert (opened["reason"], opened["previous_end"]) == ("moved", 3)
            assert before < opened["first_position"] < EXACT_IN_JSON
            new = [(opened["first_position"], 6), (opened["first_position"] + 1, 7)]
            for after, expected in (
                (0, [(1, 1), (2, 2), (3, 3), *new]),
                (2, [(3, 3), *new]),
                (3, new),
                (new[0][0], new[1:]),
            ):
                assert await read_all(database, after) == expected
            for lost in (4, 5, 1000, opened["first_position"] - 1):
                with pytest.raises(ConflictError, match=r"after 3 is gone: discard .+, and read again from 0"):
                    await read_feed(database, lost, 10)
                with pytest.raises(ConflictError, match="beyond the end"):
                    await Consumers(database).acknowledge("other", lost, is_reset=False)
            with pytest.raises(ConflictError, match="beyond the end"):
                await read_feed(database, new[1][0] + 1, 10)
    assert [line["reason"] for line in logs if line["event"] == "feed_timeline_opened"] == ["moved"]


async def test_a_consumer_of_a_restored_database_continues_after_a_reset(copied: str) -> None:
    async with open_database(copied, allow_unsafe=False) as database:
        consumers = Consumers(database)
        for refused in (consumers.get_position("crm"), consumers.acknowledge("crm", 3, is_reset=False)):
            with pytest.raises(ConflictError, match=r"crm may have read what is gone.*\"reset\": true"):
                await refused
        await consumers.acknowledge("crm", 0, is_reset=True)
        assert await consumers.get_position("crm") == 0
        await consumers.acknowledge("crm", 3, is_reset=False)


async def test_the_lag_of_a_consumer_does_not_count_what_lies_between_two_timelines(copied: str) -> None:
    async with open_database(copied, allow_unsafe=False) as database:
        await write(database, 6, 7)
        counting = Consumers(database, counted=1)
        (crm,) = await counting.list()
        assert (crm["lag"], crm["is_lag_exact"]) == (2, False)
        await counting.acknowledge("crm", 1, is_reset=True)
        (crm,) = await counting.list()
        assert (crm["lag"], crm["is_lag_exact"]) == (4, False)


async def test_an_answer_that_was_kept_from_before_a_restore_is_not_taken_for_the_present_one(copied: str) -> None:
    connection = await asyncpg.connect(copied)
    tags = []
    for _ in range(2):
        tags.append(await connection.fetchval("SELECT batch_version(batch_key, '2026-01-01') FROM batches"))
        await load_queries().note_server(connection)
    await connection.close()
    assert tags[0] != tags[1]


async def test_replicas_that_come_together_open_one_timeline(copied: str) -> None:
    connections = [await asyncpg.connect(copied) for _ in range(6)]
    notes = await asyncio.gather(*(load_queries().note_server(connection) for connection in connections))
    assert sorted(notes, key=str) == [None] * 5 + ["moved"]
    assert await load_queries().note_server(connections[0]) is None
    for connection in connections:
        await connection.close()


async def test_a_second_restore_of_the_same_backup_refuses_the_readers_of_the_first(
    postgres: PostgresServer, copied: str
) -> None:
    again = await create_database(postgres, urlsplit(copied).path[1:])
    async with open_database(copied, allow_unsafe=False) as first:
        await write(first, 6, 7)
        (_, _, _, read, further) = [position for position, _ in await read_all(first)]
    async with open_database(again, allow_unsafe=False) as second:
        await write(second, 8)
        for lost in (read, further):
            with pytest.raises(ConflictError, match="after 3 is gone"):
                await read_feed(second, lost, 10)
    await drop_database(postgres, again)


async def test_a_feed_without_entries_begins_where_it_is(postgres: PostgresServer, database_url: str) -> None:
    async with open_database(database_url, allow_unsafe=False) as database:
        await database.pool.fetchval("SELECT 1")
    url = await create_database(postgres, urlsplit(database_url).path[1:])
    await store_batch(url)
    async with open_database(url, allow_unsafe=False) as database:
        await write(database, 1)
        assert await read_all(database) == [(1, 1)]
        assert [row["reason"] for row in await database.pool.fetch(OPENED)] == ["begun"]
    await drop_database(postgres, url)


async def test_a_person_can_say_that_commits_were_lost(database: Database) -> None:
    await store_batch(database.url)
    await write(database, 1, 2)
    await Consumers(database).acknowledge("crm", 2, is_reset=False)
    done = await run(OUTCOMES, "restart-feed", OUTCOMES_DATABASE_URL=database.url)
    assert (done.status, done.output.startswith("The feed ended at 2 and continues at ")) == (0, True)
    with pytest.raises(ConflictError, match="crm may have read what is gone"):
        await Consumers(database).get_position("crm")
    assert await database.pool.fetchval("SELECT action FROM audit_log") == "feed restart"
    assert [row["reason"] for row in await database.pool.fetch(OPENED)] == ["begun", "restored"]


async def test_the_service_without_rights_to_the_schema_sees_the_move_and_cannot_say_that_there_was_one(
    copied: str,
) -> None:
    role = f"served_{urlsplit(copied).path[1:]}"
    owner = await asyncpg.connect(copied)
    await owner.execute(f"CREATE ROLE {role} LOGIN")
    await owner.execute(f"SELECT grant_service('{role}')")
    url = copied.replace("//postgres@", f"//{role}@")
    async with open_database(url, allow_unsafe=False) as database:
        assert [row["reason"] for row in await database.pool.fetch(OPENED)] == ["begun", "moved"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.pool.execute("SELECT open_feed_timeline('restored', true)")
    refused = await run(OUTCOMES, "restart-feed", OUTCOMES_DATABASE_URL=url)
    assert (refused.status, "run it as the owner of the schema" in refused.errors) == (2, True)
    await owner.execute(f"DROP OWNED BY {role}")
    await owner.execute(f"DROP ROLE {role}")
    await owner.close()
