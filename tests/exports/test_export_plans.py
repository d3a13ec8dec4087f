"""An export reads its own batch alone and each part of that once, by index, whatever the statistics say."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from service.outcomes.filters import Filters
from service.store.database import connect, load_queries
from tests.factories import BATCH_ID, REF_TOKEN, store_batch
from tests.store.plans import ROWS, TABLES, count_reads, fill

QUERIES = load_queries()
OTHER_ID = BATCH_ID + 1
OTHER_ROWS = 1000
EVERY_ONE = Filters(sources=("webhook",), changed_since=datetime(2020, 1, 1, tzinfo=UTC)).to_json()
PER_ROW = 4  # entries of one index for each row that is given


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction as an export has it, beside a batch of 20,000 recipients and one of 1,000."""
    opened = await connect(database_url)
    await fill(opened, database_url)
    await opened.execute("UPDATE batches SET ref_token = NULL WHERE ref_token = $1", REF_TOKEN)
    key = await store_batch(database_url, OTHER_ROWS, batch_id=OTHER_ID, first_phone=ROWS + 1)
    await opened.execute(
        f"""
        INSERT INTO facts (batch_key, recipient_no, arrival_id, conversation_id, attempt_number, status, is_final,
                           started_at, results, event_id, source, method, recorded_at)
        SELECT {key}, n, nextval('arrival_ids'), 'c' || n, 1, 'busy', true, now(), '{{}}', 'e' || n, 'webhook',
               'reference', now()
        FROM generate_series(1, {OTHER_ROWS}) AS n;
        INSERT INTO outcomes
        SELECT batch_key, recipient_no, 'busy', 1, arrival_id, nextval('feed_positions'), 1, now()
        FROM facts WHERE batch_key = {key};
        """
    )
    yield opened
    await opened.close()


async def count_entries(connection: asyncpg.Connection, rows: str, arguments: list[str | None]) -> tuple[int, int]:
    """How many rows an export's query gives, and the most that it reads of any index; none of a whole table."""
    async with connection.transaction():
        await QUERIES.begin_export(connection, time_zone="UTC")
        query = await QUERIES.write_export_query(
            connection,
            rows=rows,
            arguments=arguments,
            format="json",
            parameters=None,
            escape=False,
            has_other_parameters=False,
            results=None,
        )
        before = await count_reads(connection)
        given = len(await connection.fetch(query))
        after = await count_reads(connection)
    most = 0
    for (table, name), (scans, read) in after.items():
        if table == name:
            assert scans == before[table, name][0], f"{rows}{arguments} scans the whole of {table}"
        else:
            most = max(most, read - before[table, name][1])
    return given, most


@pytest.mark.parametrize("is_analysed", [False, True])
@pytest.mark.parametrize("filters", [None, EVERY_ONE])
@pytest.mark.parametrize("rows", ["recipient_rows", "attempt_rows"])
async def test_an_export_reads_no_more_than_its_own_batch(
    connection: asyncpg.Connection, rows: str, filters: str | None, is_analysed: bool
) -> None:
    if is_analysed:
        await connection.execute("ANALYZE")
    keys = {row["batch_id"]: str(row["batch_key"]) for row in await connection.fetch("SELECT * FROM batches")}
    for key, first, last in (
        (keys[OTHER_ID], 0, OTHER_ROWS),
        (keys[OTHER_ID], 400, 500),
        (keys[BATCH_ID], ROWS // 2, ROWS // 2 + 500),
        (keys[BATCH_ID], ROWS - 500, ROWS),
    ):
        given, read = await count_entries(connection, rows, [key, str(first), str(last), filters])
        assert given == last - first
        assert read <= PER_ROW * given


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_the_count_of_a_state_reads_each_outcome_of_its_range_once(
    connection: asyncpg.Connection, is_analysed: bool
) -> None:
    if is_analysed:
        await connection.execute("ANALYZE")
    for after, until, state, matching in (
        (0, 2**31 - 1, "busy", OTHER_ROWS),
        (400, 500, "busy", 100),
        (400, 500, "in_progress", 0),
        (0, 2**31 - 1, None, None),
    ):
        async with connection.transaction():
            await QUERIES.begin_export(connection, time_zone="UTC")
            before = await count_reads(connection)
            batch = await QUERIES.get_exported_batch(
                connection, batch_id=OTHER_ID, after=after, until=until, states=state and [state]
            )
            reads = await count_reads(connection)
        assert batch["matching"] == matching
        expected = {"outcomes": min(until, OTHER_ROWS) - after} if state else {}
        read: Counter[str] = Counter()
        for (table, name), (_, entries) in reads.items():
            if table != name:
                read[table] += entries - before[table, name][1]
        assert +read == expected


async def test_the_figures_of_batches_come_from_counters_alone(connection: asyncpg.Connection) -> None:
    given, read = await count_entries(connection, "batch_rows", [None, None, None, "0", str(2**62)])
    assert (given, read) == (2, 0)
    assert {"facts", "outcomes", "recipients"} <= set(TABLES)


@pytest.mark.parametrize("rows", ["recipient_rows", "attempt_rows", "batch_rows"])
async def test_the_planner_sees_through_the_functions_that_give_rows(connection: asyncpg.Connection, rows: str) -> None:
    arguments = {"recipient_rows": "'1', '0', '10', NULL", "attempt_rows": "'1', '0', '10', NULL"}
    plan = await connection.fetch(f"EXPLAIN SELECT * FROM {rows}({arguments.get(rows, 'NULL, NULL, NULL, 0, 1')})")
    assert not [line[0] for line in plan if f"Function Scan on {rows}" in line[0]]


@pytest.mark.parametrize("rows", ["recipient_rows", "attempt_rows", "upload_rows"])
async def test_filters_cost_nothing_where_none_is_asked_and_only_what_is_asked_remains(
    connection: asyncpg.Connection, rows: str
) -> None:
    for filters, remaining in ((None, []), ('{"sources": ["healed"]}', ["sources"])):
        arguments = f"'1', '0', '10', {'NULL' if filters is None else repr(filters)}"
        plan = "\n".join(line[0] for line in await connection.fetch(f"EXPLAIN SELECT * FROM {rows}({arguments})"))
        assert "meets_filters" not in plan
        assert plan.count("healed") == len(remaining)
