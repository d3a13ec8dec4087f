"""What reports across batches and slices read is what they are about, however much else there is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.store.database import connect, load_queries
from tests.factories import BEGAN, store_batch
from tests.store import plans
from tests.store.plans import reading_little

BATCHES = 20_000
AGENTS = 100
RECIPIENTS = 20_000
QUERIES = load_queries()
COUNTERS = ["batches", "outcome_counts", "contact_counts", "call_counts", "batch_schedules", "batch_activity"]


async def store_many_batches(connection: asyncpg.Connection) -> None:
    """One for each minute, of many agents, some in campaigns, each with a few counters."""
    await connection.execute("".join(f"ALTER TABLE {table} SET (autovacuum_enabled = off);" for table in COUNTERS))
    await connection.execute(
        """
        INSERT INTO batches (batch_id, agent_id, name, created_at, upload_state, columns, recipient_count, campaign_key,
                             campaign_role)
        SELECT n, n % $2, 'name ' || n % 10, $3::timestamptz + n * interval '1 minute', 'uploaded', '{}', 9,
               CASE WHEN n % 10 < 2 THEN n / 10 * 10 + 1 END, CASE n % 10 WHEN 0 THEN 'test' WHEN 1 THEN 'main' END
        FROM generate_series(1, $1) AS n
        """,
        BATCHES, AGENTS, BEGAN,
    )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO outcome_counts SELECT batch_key, 'completed', n, 'webhook', 2, 0, 0
        FROM batches CROSS JOIN generate_series(1, 2) AS n;
        INSERT INTO contact_counts SELECT batch_key, 4, 4 FROM batches;
        INSERT INTO call_counts
        SELECT batch_key, 'from_phone', v, 4, 2
        FROM batches CROSS JOIN unnest('{"",+918047100001,+918047100002}'::text[]) AS v;
        INSERT INTO batch_activity SELECT batch_key, now() FROM batches;
        INSERT INTO batch_schedules (batch_key, due_at) SELECT batch_key, now() FROM batches;
        """
    )


async def report(connection: asyncpg.Connection) -> None:
    """Every grouping over an hour, of all agents and of one over its whole time; and what the metrics ask."""
    async with reading_little(connection, "get_oldest_due"):
        assert await QUERIES.get_oldest_due(connection, now=datetime.now(UTC))
    since = datetime.now(UTC) - (BEGAN + timedelta(minutes=BATCHES - 60))
    async with reading_little(connection, "list_caller_counts"):
        numbers = QUERIES.list_caller_counts(connection, period=since, batches=1000, numbers=50)
        assert len([row async for row in numbers]) >= 118
    hour: dict[str, Any] = {"start": BEGAN + timedelta(days=1), "until": BEGAN + timedelta(days=1, hours=1)}
    for scope in (
        {**hour, "agent_id": None},
        {**hour, "agent_id": 45},
        {"start": BEGAN, "until": BEGAN + timedelta(days=30), "agent_id": 45},
    ):
        async with reading_little(connection, f"count_batches_made({scope})"):
            assert await QUERIES.count_batches_made(connection, **scope, most=5001) > 0
        for group_by in ("agent", "day", "name", "campaign"):
            async with reading_little(connection, f"list_outcomes_across({scope}, {group_by})"):
                page = QUERIES.list_outcomes_across(
                    connection, **scope, group_by=group_by, time_zone="UTC", after_no=-(2**63), after_text="", limit=51
                )
                rows = [row async for row in page]
                assert 0 < len(rows) <= 51
                assert all(row["attempted"] == 4 * row["batches"] for row in rows)


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_a_report_reads_the_batches_of_its_time_and_agent(
    database_url: str, monkeypatch: pytest.MonkeyPatch, is_analysed: bool
) -> None:
    monkeypatch.setattr(plans, "TABLES", COUNTERS)
    connection = await connect(database_url)
    await store_many_batches(connection)
    if is_analysed:
        await connection.execute("ANALYZE")
    await report(connection)
    await connection.close()


@pytest.mark.parametrize("is_analysed", [False, True])
@pytest.mark.parametrize("is_result", [False, True])
async def test_a_slice_reads_its_batch_and_no_other(database_url: str, is_result: bool, is_analysed: bool) -> None:
    connection = await connect(database_url)
    await plans.fill(connection, database_url)
    await store_batch(database_url, 50, batch_id=457, ref_token=None, first_phone=RECIPIENTS * 2)
    if is_analysed:
        await connection.execute("ANALYZE")
    async with reading_little(connection, "slice_batch"):
        await QUERIES.begin_slice(connection, milliseconds="10000")
        sliced = QUERIES.slice_batch(connection, batch_id=457, name="loan_id", is_result=is_result, values=50)
        rows = [row async for row in sliced]
        assert sum(row["recipients"] for row in rows) == 50
    await connection.close()


async def test_a_report_shows_one_instant(database_url: str) -> None:
    connection = await connect(database_url)
    await store_batch(database_url, 5, batch_id=1, ref_token=None)
    page = QUERIES.list_outcomes_across(
        connection, start=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2027, 1, 1, tzinfo=UTC), agent_id=None,
        group_by="agent", time_zone="UTC", after_no=-(2**63), after_text="", limit=2,
    )  # fmt: skip
    rows = [row async for row in page]
    assert [(row["total"], row["in_progress"], row["attempted"]) for row in rows] == [(5, 5, 0)]
    await connection.close()
