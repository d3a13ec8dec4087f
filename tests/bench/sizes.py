"""Storage: the bytes that each table and its indexes take for an event, and the write-ahead log for storing it."""

import asyncio
from typing import Any

import asyncpg

from service.app import prepare_schema
from tests.bench.reads import fill
from tests.conftest import create_database
from tests.postgres import PostgresServer

LEAST_BYTES = 1.0
SIZES = """
SELECT coalesce(p.relname, c.relname) AS name, sum(pg_table_size(c.oid))::bigint AS rows, sum(pg_indexes_size(c.oid))::bigint AS indexes
FROM pg_class AS c
LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
LEFT JOIN pg_class AS p ON p.oid = i.inhparent
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
GROUP BY 1 ORDER BY sum(pg_total_relation_size(c.oid)) DESC
"""  # noqa: E501
_POSITION = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"


async def _measure(server: PostgresServer, events: int) -> tuple[float, list[Any], list[Any]]:
    """Fills a database with as many events; returns the log's bytes per event, and the sizes before and after."""
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    connection = await asyncpg.connect(url)
    before, position = await connection.fetch(SIZES), await connection.fetchval(_POSITION)
    await fill(url, 1, events * 4 // 5)
    written = await connection.fetchval(_POSITION) - position
    await connection.execute("VACUUM ANALYZE")
    after = await connection.fetch(SIZES)
    await connection.close()
    return written / events, before, after


def bench_sizes(server: PostgresServer, events: int) -> None:
    """Prints the bytes per event, four fifths of which are a recipient's first, by table."""
    log, before, after = asyncio.run(_measure(server, events))
    empty = {row["name"]: (row["rows"], row["indexes"]) for row in before}
    print(f"{events:,} events of {events * 4 // 5:,} recipients, in one batch: bytes per event")
    print(f"{'':28}{'rows':>8}{'indexes':>9}{'both':>8}")
    totals = [0.0, 0.0]
    for row in after:
        rows, indexes = ((row[key] - empty[row["name"]][n]) / events for n, key in enumerate(("rows", "indexes")))
        totals = [totals[0] + rows, totals[1] + indexes]
        if rows + indexes >= LEAST_BYTES:
            print(f"{row['name']:28}{rows:8,.0f}{indexes:9,.0f}{rows + indexes:8,.0f}")
    print(f"{'all tables':28}{totals[0]:8,.0f}{totals[1]:9,.0f}{sum(totals):8,.0f}")
    print(f"{'write-ahead log, with the recipients':45}{log:8,.0f}")
