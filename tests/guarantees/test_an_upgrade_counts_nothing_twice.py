"""The ledger's key has the week of an event: what comes again after that upgrade, or in the next week, counts once."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.formant.events import Event
from service.store.database import Database, connect, load_queries
from tests.factories import BEGAN, decode, make_payload, store_batch
from tests.guarantees.oracle import expect
from tests.guarantees.recount import find_differences, read_state
from tests.guarantees.test_counted_once import RECIPIENTS, build_event, complete, ingest, normalise
from tests.webhooks.ingesting import Counted, get_event
from tests.webhooks.ingesting import ingest as ingest_group

MONDAY = datetime(2026, 3, 23, tzinfo=UTC)
TIMES = (
    MONDAY - timedelta(microseconds=1), MONDAY, MONDAY + timedelta(days=7), datetime(2000, 1, 1, tzinfo=UTC),
    datetime(2100, 1, 1, tzinfo=UTC) - timedelta(microseconds=1), None,
)  # fmt: skip
WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'event_conflicts'::regclass AND NOT granted"
_numbers = itertools.count(1)

# As the version before left it: one row for each id, the others in event_conflicts, and no weeks.
GO_BACK = """
WITH later AS (
    DELETE FROM events AS e USING events AS f
    WHERE e.event_id = f.event_id AND e.arrival_id > f.arrival_id
    RETURNING e.*
)
INSERT INTO event_conflicts (event_id, arrival_id, digest, event_type, target, received_at, recorded_at)
SELECT DISTINCT ON (arrival_id) event_id, arrival_id, digest, event_type, target, received_at, recorded_at FROM later;
UPDATE events SET week = '-infinity';
DELETE FROM repairs WHERE name = 'event_weeks';
"""
STORED = """
SELECT event_id, digest FROM events WHERE event_id LIKE $1 UNION ALL
SELECT event_id, digest FROM event_conflicts WHERE event_id LIKE $1
"""


async def date_events(connection: Any) -> None:
    while await load_queries().date_events_step(connection, pages=1) is not None:
        pass


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    derandomize=True,
)
@given(
    # Each a body: its id, its time and its recipient.
    bodies=st.lists(
        st.tuples(st.sampled_from("aab"), st.sampled_from(TIMES), st.integers(1, RECIPIENTS)), min_size=1, max_size=6
    ),
    order=st.randoms(use_true_random=False),
)
def test_a_delivery_repeated_across_the_upgrade_or_the_turn_of_a_week_counts_once(
    runner: asyncio.Runner, connection: asyncpg.Connection, database_url: str,
    bodies: list[tuple[str, datetime | None, int]], order: Any,
) -> None:  # fmt: skip
    number = next(_numbers)
    token = f"token{number}"
    events = [
        build_event(complete(recipient=recipient, conversation="new"), f"event-{number}-{name}", token)._replace(
            occurred_at=time
        )
        for name, time, recipient in bodies
    ]

    async def deliver() -> None:
        deliveries = [event for event in events for _ in range(order.randint(0, 2))]
        order.shuffle(deliveries)
        while deliveries:
            size = order.randint(1, 4)
            await ingest(connection, deliveries[:size])
            deliveries = deliveries[size:]

    async def play() -> None:
        batch_key = await store_batch(database_url, RECIPIENTS, batch_id=number, ref_token=token)
        await deliver()
        await connection.execute(GO_BACK)
        await deliver()
        await load_queries().date_events_step(connection, pages=1)
        await deliver()
        await date_events(connection)
        await ingest(connection, events)
        await ingest(connection, events)
        stored = sorted(tuple(row) for row in await connection.fetch(STORED, f"event-{number}-%"))
        assert stored == sorted((event.event_id, event.digest) for event in events)
        assert await read_state(connection, batch_key) == normalise(expect(events))

    runner.run(play())


async def test_the_events_of_an_older_version_get_their_weeks_and_stay_known(
    database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    placed, waiting, single = decode(*(make_payload(recipient=n, phone="+919000000000") for n in (1, None, None)))
    undated = decode(make_payload(recipient=2))[0]._replace(occurred_at=None)
    events = [placed, waiting._replace(agent_id=9), single._replace(kind="single"), undated]
    assert await ingest_group(database, *events) == Counted(applied=2, unattributed=1, other_calls=1)
    await database.pool.execute(GO_BACK)
    assert (await ingest_group(database, *events)).duplicates == len(events)
    await date_events(database.pool)
    rows = await database.pool.fetch("SELECT event_id, week FROM events WHERE week > '-infinity'")
    assert {row["event_id"]: row["week"] for row in rows} == {
        event.event_id: BEGAN.date() for event in events if event.occurred_at is not None
    }
    assert (await ingest_group(database, *events)).duplicates == len(events)
    await database.pool.execute("UPDATE events SET week = '-infinity'")
    assert await database.queries.date_events_step(database.pool, pages=1) is None  # once is enough
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_an_event_that_has_conflicts_from_before_stays_known_by_its_id_alone(
    database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    known = decode(make_payload(recipient=1))[0]
    other = decode(make_payload(recipient=2, event_id=known.event_id))[0]._replace(occurred_at=MONDAY)
    await ingest_group(database, known, other)
    await database.pool.execute(GO_BACK)
    await date_events(database.pool)
    assert await ingest_group(database, known, other) == Counted(duplicates=2)


async def test_bodies_of_one_id_in_different_weeks_are_both_counted_and_shown_as_a_conflict(
    database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    known = decode(make_payload(recipient=1))[0]
    other = decode(make_payload(recipient=2, event_id=known.event_id))[0]._replace(occurred_at=MONDAY)
    for _ in range(2):
        await ingest_group(database, known, other)
    assert (await get_event(database, known.event_id))["conflicts"] == 1
    assert await database.pool.fetchval("SELECT count(*) FROM facts") == 2


async def test_a_body_that_conflicts_with_an_event_that_is_dated_meanwhile_is_written_again(
    database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    known = decode(make_payload(recipient=1))[0]
    other = decode(make_payload(recipient=2, event_id=known.event_id))[0]._replace(occurred_at=MONDAY)
    await ingest_group(database, known)
    await database.pool.execute(GO_BACK)
    dating = await connect(database_url)
    async with asyncio.TaskGroup() as tasks, dating.transaction():
        assert await database.queries.date_events_step(dating, pages=1) == 1
        writing = tasks.create_task(refuse(database, other))
        while not await dating.fetchval(WAITING):
            assert not writing.done(), "the conflict did not wait for the step"
    await dating.close()
    assert await ingest_group(database, known, other) == Counted(applied=1, duplicates=1)
    assert await ingest_group(database, known, other) == Counted(duplicates=2)


async def refuse(database: Database, event: Event) -> None:
    """Ingests the event, which the database must refuse for now."""
    with pytest.raises(asyncpg.SerializationError):
        await ingest_group(database, event)
