"""The cost of a BI query depends on the batches that it asks for, not on all stored batches.

The tables hold two hundred batches and a query names one of them, or those of one agent. As in ``test_plans.py``, the
cost is what the server itself counts as read, under the role of BI tools, with analysed and unanalysed tables.
"""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.store.database import connect
from tests.bi.playing import as_role, roles_set_up
from tests.factories import AGENT_ID

BATCHES, RECIPIENTS = 200, 150
ROWS = BATCHES * RECIPIENTS
TABLES = ["batches", "recipients", "outcomes", "facts", "outcome_counts", "result_counts", "result_totals",
          "attempt_counts", "reconciliations", "provider_metrics"]  # fmt: skip
VIEWS = ["batches", "batch_outcomes", "batch_results", "recipient_outcomes", "call_attempts", "hourly_attempts",
         "reconciliations", "provider_metrics"]  # fmt: skip
SMALL = {"batches"}
"""Tables with one row per batch, which may be read whole."""
OF_A_BATCH = 20 * RECIPIENTS
"""The limit for reads in any one table or index: a batch's rows a few times over, a tenth of all rows."""


async def fill(connection: asyncpg.Connection, *, is_analysed: bool) -> None:
    await connection.execute("".join(f"ALTER TABLE {table} SET (autovacuum_enabled = off);" for table in TABLES))
    await connection.execute(
        f"""
        INSERT INTO batches (batch_id, agent_id, name, total_recipients, created_at, upload_state, columns,
                             recipient_count)
        SELECT 1000 + n, {AGENT_ID} + n % 50, 'Batch', {RECIPIENTS}, '2026-01-01Z'::timestamptz + n * interval '1 day',
               'uploaded', '{{}}', {RECIPIENTS}
        FROM generate_series(1, {BATCHES}) AS n;
        INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
        SELECT batch_key, n, '+91' || 7000000000 + n + batch_key * 1000, '{{"city": "Pune"}}'
        FROM batches, generate_series(1, {RECIPIENTS}) AS n;
        INSERT INTO facts (batch_key, recipient_no, arrival_id, conversation_id, attempt_number, status, is_final,
                           started_at, results, event_id, source, method, recorded_at)
        SELECT batch_key, recipient_no, nextval('arrival_ids'), batch_key || '-' || recipient_no || '-' || n, n,
               'completed', true, now(), '{{"intent": "pay"}}', 'e', 'webhook', 'reference', now()
        FROM recipients, generate_series(1, 2) AS n;
        INSERT INTO outcomes
        SELECT batch_key, recipient_no, 'completed', CASE WHEN recipient_no % 10 = 0 THEN 1 ELSE 2 END, max(arrival_id),
               nextval('feed_positions'), 1, now()
        FROM facts GROUP BY batch_key, recipient_no ORDER BY 1, 2;
        INSERT INTO outcome_counts
        SELECT batch_key, 'completed', n, 'webhook', {RECIPIENTS} / 50, 0, 0 FROM batches, generate_series(1, 50) AS n;
        INSERT INTO attempt_counts
        SELECT batch_key, '2026-01-01Z'::timestamptz + n * interval '15 minutes', 'completed', 2
        FROM batches, generate_series(1, {RECIPIENTS}) AS n;
        INSERT INTO result_totals SELECT batch_key, CASE n WHEN 1 THEN 'intent' ELSE 'r' || n END, {RECIPIENTS}
        FROM batches, generate_series(1, 50) AS n;
        INSERT INTO result_counts
        SELECT batch_key, 'intent', n::text, 1 FROM batches, generate_series(1, {RECIPIENTS}) AS n;
        INSERT INTO reconciliations (batch_key, compared_at, last_compared_at, verdict, reasons, differences,
                                     inconsistencies, calls_spent, healed)
        SELECT batch_key, now(), now(), 'complete', '[]', '[]', '[]', 1, 0 FROM batches, generate_series(1, 50);
        INSERT INTO provider_metrics (batch_key, taken_at, last_seen_at)
        SELECT batch_key, now() + n * interval '1 s', now() FROM batches, generate_series(1, 50) AS n;
        """
    )
    if is_analysed:
        await connection.execute("ANALYZE")


async def count_reads(connection: asyncpg.Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """Scans started and rows or entries read in this transaction, by table and index."""
    rows = await connection.fetch(
        """
        SELECT t.relname AS table, c.relname AS name, coalesce(pg_stat_get_xact_numscans(c.oid), 0) AS scans,
               coalesce(pg_stat_get_xact_tuples_returned(c.oid), 0) AS read
        FROM pg_class AS t
        JOIN pg_class AS c ON c.oid = t.oid OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = t.oid)
        WHERE t.relname = ANY ($1) AND t.relnamespace = 'public'::regnamespace
        """,
        TABLES,
    )
    return {(row["table"], row["name"]): (row["scans"], row["read"]) for row in rows}


async def read_as(url: str, role: str, query: str) -> int:
    """Runs a query as ``role`` and returns its number of rows; fails if it reads more than ``OF_A_BATCH``."""
    async with as_role(url, role) as connection, connection.transaction():
        before = await count_reads(connection)
        rows = await connection.fetch(query)
        after = await count_reads(connection)
    for (table, name), (scans, read) in after.items():
        if table not in SMALL:
            assert table != name or scans == before[table, name][0], f"{query} scans the whole of {table}"
            assert read - before[table, name][1] <= OF_A_BATCH, f"{query} reads {read} entries of {name}"
    return len(rows)


@pytest.fixture(params=[True, False], ids=["analysed", "never analysed"])
async def url(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The filled database."""
    connection = await connect(database_url)
    await fill(connection, is_analysed=request.param)
    await connection.close()
    async with roles_set_up(database_url):
        yield database_url


@pytest.mark.parametrize("role", ["bi_reader", "bi_reader_full"])
async def test_one_batch_is_found_by_its_id_in_every_view(url: str, role: str) -> None:
    for view in VIEWS:
        assert await read_as(url, role, f"SELECT * FROM {view} WHERE batch_id = 1100") > 0, view
        await read_as(url, role, f"SELECT count(*), max(as_of) FROM {view} WHERE batch_id IN (1100, 1101, 1102)")


async def test_batches_are_found_by_agent_and_days(url: str) -> None:
    for view in VIEWS:
        query = (
            f"SELECT * FROM {view} WHERE agent_id = {AGENT_ID + 7} "
            "AND batch_created_at >= '2026-02-01Z' AND batch_created_at < '2026-04-01Z'"
        )
        assert await read_as(url, "bi_reader", query) > 0, view


async def test_one_recipient_is_found_by_its_number(url: str) -> None:
    for view in ("recipient_outcomes", "call_attempts"):
        query = f"SELECT * FROM {view} WHERE batch_id = 1100 AND recipient = 7"
        assert await read_as(url, "bi_reader", query) == (1 if view == "recipient_outcomes" else 2)


# Before autovacuum first analyses a table, after a minute or so, the planner may merge two whole indexes here.
@pytest.mark.parametrize("url", [True], indirect=True)
async def test_changes_are_read_from_a_position_on(url: str) -> None:
    for begin in (0, ROWS // 2, ROWS - 100):
        query = f"SELECT * FROM recipient_outcomes WHERE position > {begin} ORDER BY position LIMIT 100"
        assert await read_as(url, "bi_reader", query) == 100
    assert await read_as(url, "bi_reader_full", query) == 100


async def test_one_person_is_found_by_phone_where_phones_are_shown(url: str) -> None:
    phone = f"+91{7_000_000_000 + 7 + 77 * 1000}"
    assert await read_as(url, "bi_reader_full", f"SELECT * FROM recipient_outcomes WHERE phone = '{phone}'") == 1


async def test_attempts_with_a_single_fact_are_not_computed_one_by_one(url: str) -> None:
    """A tenth of the recipients have two facts for one attempt; the order of facts is computed only for them."""
    connection = await connect(url)
    try:
        await connection.execute("SET track_functions = 'all'")
        async with connection.transaction():
            await connection.fetch("SELECT * FROM bi_full.call_attempts WHERE batch_id = 1100")
            calls = await connection.fetchval(
                "SELECT calls FROM pg_stat_xact_user_functions WHERE funcname = 'bi_winning_arrivals'"
            )
    finally:
        await connection.close()
    assert calls == RECIPIENTS // 10


async def test_a_query_that_reads_all_batches_is_detected(url: str) -> None:
    with pytest.raises(AssertionError, match=r"scans the whole of|entries of"):
        await read_as(url, "bi_reader", "SELECT * FROM recipient_outcomes WHERE changed_at > 'yesterday'")
