"""What the feed costs does not grow with it: pages and moves go by their indexes, whenever their plans were made."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.store.database import connect
from tests.factories import BATCH_ID
from tests.store.plans import QUERIES, ROWS, fill, reading_little

PAGE = {"limit": 99, "bytes": 2**20}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service uses them."""
    opened = await connect(database_url)
    yield opened
    await opened.close()


async def read_pages(connection: asyncpg.Connection) -> None:
    """Pages from the beginning, the middle and the end of the feed."""
    for after in (0, ROWS // 2, ROWS - 10, ROWS):
        async with reading_little(connection, f"a page after {after}"):
            rows = [row async for row in QUERIES.read_feed(connection, after=after, **PAGE)]
        assert len(rows) in {0, min(99, ROWS - after)}


async def test_pages_planned_while_the_feed_was_empty_go_by_the_index_when_it_has_grown(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await connection.execute("ANALYZE")
    for _ in range(6):  # the server keeps a plan from the sixth call on, where it may choose
        assert [row async for row in QUERIES.read_feed(connection, after=0, **PAGE)] == []
    await fill(connection, database_url)
    await read_pages(connection)


async def test_pages_go_by_the_index_when_positions_are_spread_over_the_whole_table(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection, database_url)
    await connection.execute("UPDATE outcomes SET position = position + 1000000")
    await connection.execute(
        "UPDATE outcomes SET position = o.nth "
        "FROM (SELECT recipient_no, row_number() OVER (ORDER BY md5(recipient_no::text)) AS nth FROM outcomes) AS o "
        "WHERE outcomes.recipient_no = o.recipient_no"
    )
    await connection.execute("VACUUM ANALYZE")
    await read_pages(connection)


async def test_repeating_entries_with_a_late_id_reads_only_what_it_moves(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection, database_url)
    key = await connection.fetchval("UPDATE batches SET batch_id = NULL, upload_state = 'unknown' RETURNING batch_key")
    answer = {"batch_id": BATCH_ID, "status": "", "total_recipients": ROWS, "created_at": None,
              "known_by": "answer", "sent_at": None, "details": "{}",
              "actor": "test", "key_id": None, "request_id": None, "action": "upload"}  # fmt: skip
    async with reading_little(connection, "the answer"):
        assert await QUERIES.adopt_batch(connection, batch_key=key, rows=100, **answer) == (key, None)
    for _ in range(3):
        async with reading_little(connection, "a step"):
            assert await QUERIES.move_feed_entries(connection, rows=100)
    assert await connection.fetchval("SELECT count(*) FROM outcomes WHERE version = 2") == 400
    assert await connection.fetchval("SELECT cursor FROM feed_moves") == 400
