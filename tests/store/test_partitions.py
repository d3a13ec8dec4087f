"""Raw bodies lie in one partition per month, made ahead; a missing month refuses nothing."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from service.store.database import Database, connect
from service.store.migrations import migrate
from tests.factories import decode, make_payload
from tests.webhooks.ingesting import ingest

FAR = datetime(2031, 7, 15, 12, tzinfo=UTC)


async def list_partitions(connection: Any) -> dict[str, str]:
    """The partitions of event_bodies with their bounds as the server shows them in UTC."""
    return dict(
        await connection.fetch(
            """
            SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)
            FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'event_bodies'::regclass ORDER BY 1
            """
        )
    )


async def where_bodies_lie(connection: Any) -> list[tuple[int, str]]:
    rows = await connection.fetch("SELECT arrival_id, tableoid::regclass::text FROM event_bodies ORDER BY 1")
    return [tuple(row) for row in rows]


async def add_body(connection: Any, arrival_id: int, recorded_at: datetime) -> None:
    await connection.execute("INSERT INTO event_bodies VALUES ($1, $2, '{}')", arrival_id, recorded_at)


async def wait_for_blocked(connection: Any, count: int) -> None:
    """Returns once so many statements wait for a lock in this database."""
    async with asyncio.timeout(10):
        while count > await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await connection.execute("SELECT pg_stat_clear_snapshot()")


def months_from(start: datetime, count: int) -> list[datetime]:
    first = start.year * 12 + start.month - 1
    return [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in range(first, first + count)]


async def test_this_month_and_two_more_exist_once_the_schema_is_migrated(database: Database) -> None:
    expected = [f"event_bodies_{month:%Y_%m}" for month in months_from(datetime.now(UTC), 3)]
    assert sorted(await list_partitions(database.pool)) == sorted(["event_bodies_default", *expected])


async def test_a_body_lands_in_the_partition_of_the_month_in_which_it_was_recorded(database: Database) -> None:
    await ingest(database, *decode(make_payload()))
    recorded_at = await database.pool.fetchval("SELECT recorded_at FROM events")
    assert [name for _, name in await where_bodies_lie(database.pool)] == [f"event_bodies_{recorded_at:%Y_%m}"]


async def test_months_join_without_a_gap_across_the_turn_of_the_year(database: Database) -> None:
    await database.pool.execute("SELECT create_body_partitions($1, 3)", datetime(2031, 11, 30, 23, 59, tzinfo=UTC))
    bounds = await list_partitions(database.pool)
    assert [bounds[f"event_bodies_{month}"] for month in ("2031_11", "2031_12", "2032_01")] == [
        "FOR VALUES FROM ('2031-11-01 00:00:00+00') TO ('2031-12-01 00:00:00+00')",
        "FOR VALUES FROM ('2031-12-01 00:00:00+00') TO ('2032-01-01 00:00:00+00')",
        "FOR VALUES FROM ('2032-01-01 00:00:00+00') TO ('2032-02-01 00:00:00+00')",
    ]


async def test_months_begin_at_midnight_utc_whatever_time_zone_the_session_is_in(database: Database) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute("SET timezone = 'America/New_York'")  # its summer time begins in March
        await connection.execute("SELECT create_body_partitions('2031-03-10', 2)")
        await connection.execute("SET timezone = 'UTC'")
        bounds = await list_partitions(connection)
    assert bounds["event_bodies_2031_03"] == "FOR VALUES FROM ('2031-03-01 00:00:00+00') TO ('2031-04-01 00:00:00+00')"
    assert bounds["event_bodies_2031_04"] == "FOR VALUES FROM ('2031-04-01 00:00:00+00') TO ('2031-05-01 00:00:00+00')"


async def test_bodies_of_a_missing_month_wait_in_the_default_partition_and_move_when_it_is_made(
    database: Database,
) -> None:
    august = datetime(2031, 8, 1, tzinfo=UTC)
    await add_body(database.pool, 1, FAR)
    await add_body(database.pool, 2, datetime(2031, 7, 1, tzinfo=UTC))
    await add_body(database.pool, 3, august)
    assert {name for _, name in await where_bodies_lie(database.pool)} == {"event_bodies_default"}
    await database.pool.execute("SELECT create_body_partitions($1, 1)", FAR)
    assert await where_bodies_lie(database.pool) == [
        (1, "event_bodies_2031_07"),
        (2, "event_bodies_2031_07"),
        (3, "event_bodies_default"),
    ]


async def test_making_months_again_changes_nothing(database: Database) -> None:
    await database.pool.execute("SELECT create_body_partitions($1, 2)", FAR)
    await add_body(database.pool, 1, FAR)
    before = await list_partitions(database.pool)
    await database.pool.execute("SELECT create_body_partitions($1, 2)", FAR)
    assert await list_partitions(database.pool) == before
    assert await where_bodies_lie(database.pool) == [(1, "event_bodies_2031_07")]


async def test_several_may_make_the_same_months_while_bodies_arrive(database: Database) -> None:
    async def make() -> None:
        await database.pool.execute("SELECT create_body_partitions($1, 4)", FAR)

    async def add(number: int) -> None:
        await add_body(database.pool, number, datetime(2031, 7 + number % 4, 3, tzinfo=UTC))

    await asyncio.gather(*[make() for _ in range(4)], *[add(number) for number in range(20)])
    assert await where_bodies_lie(database.pool) == [
        (number, f"event_bodies_2031_{7 + number % 4:02}") for number in range(20)
    ]


async def test_a_body_on_its_way_to_the_default_partition_is_not_refused_when_its_month_is_made_meanwhile(
    database: Database,
) -> None:
    async with database.pool.acquire() as connection, asyncio.TaskGroup() as tasks, connection.transaction():
        await add_body(connection, 1, FAR)
        tasks.create_task(database.pool.execute("SELECT create_body_partitions($1, 1)", FAR))
        await wait_for_blocked(connection, 1)
        tasks.create_task(add_body(database.pool, 2, FAR))
        await wait_for_blocked(connection, 2)
    assert await where_bodies_lie(database.pool) == [(1, "event_bodies_2031_07"), (2, "event_bodies_2031_07")]


async def test_every_partition_is_indexed_like_the_first_and_compressed_as_well_as_the_server_can(
    empty_database_url: str,
) -> None:
    connection = await connect(empty_database_url)
    try:
        await migrate(connection)
        has_lz4 = await connection.fetchval(
            "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )
        rows = await connection.fetch(
            """
            SELECT attrelid::regclass::text AS name, attcompression::text AS compression,
                   (SELECT count(*) FROM pg_index WHERE indrelid = attrelid AND indisprimary) AS keys
            FROM pg_attribute
            WHERE attname = 'body' AND attrelid::regclass::text LIKE 'event\\_bodies%'
              AND attrelid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p'))
            """
        )
        assert len(rows) == 5
        assert {row["compression"] for row in rows} == {"l" if has_lz4 else ""}
        assert {row["keys"] for row in rows} == {1}
    finally:
        await connection.close()
