"""What the overview reads: one small row for each batch, and counters only of those that it shows."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.outcomes.overview import SORTS
from service.store.database import connect, load_queries
from tests.factories import BEGAN
from tests.outcomes.test_plans_of_reports import AGENTS, BATCHES, store_many_batches
from tests.store import plans
from tests.store.plans import count_reads

QUERIES = load_queries()
COUNTERS = [
    "outcome_counts", "attempt_counts", "retry_counts", "call_counts", "contact_counts", "reconciliations",
    "outstanding_details",
]  # fmt: skip
EVENTS = ["events", "facts", "past_facts", "outcomes", "recipients"]
EVERYTHING: dict[str, Any] = {
    "q": None, "q_id": None, "agent_id": None, "campaign_id": None, "verdict": None, "is_running": None, "start": None,
    "until": None, "sort": "created", "is_descending": True, "most": 5000, "limit": 10, "offset": 0,
}  # fmt: skip


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service uses them."""
    opened = await connect(database_url)
    yield opened
    await opened.close()


async def fill(connection: asyncpg.Connection) -> None:
    """20,000 batches of 100 agents, with counters; 40 of them are running."""
    await store_many_batches(connection)
    await connection.execute(
        """
        INSERT INTO attempt_counts SELECT batch_key, now() - n * interval '1 hour', 'completed', 2
        FROM batches CROSS JOIN generate_series(1, 2) AS n;
        INSERT INTO retry_counts SELECT batch_key, now() + interval '1 hour', 1 FROM batches;
        INSERT INTO reconciliations (batch_key, compared_at, last_compared_at, verdict, reasons, differences,
                                     inconsistencies, calls_spent, healed)
        SELECT batch_key, now(), now(), 'open', '[]', '[]', '[]', 1, 0 FROM batches;
        INSERT INTO outstanding_details SELECT batch_key, batch_key, batch_key, now(), true FROM batches;
        UPDATE batch_activity SET last_event_at = timestamptz '2026-03-20';
        UPDATE batch_schedules SET verdict = CASE WHEN batch_key % 500 = 0 THEN 'open' ELSE 'complete' END;
        """
    )


async def read(connection: asyncpg.Connection, **chosen: Any) -> list[asyncpg.Record]:
    return [row async for row in QUERIES.list_overview(connection, **EVERYTHING | chosen)]


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_a_page_reads_the_counters_of_its_own_batches(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, is_analysed: bool
) -> None:
    monkeypatch.setattr(plans, "TABLES", COUNTERS + EVENTS)
    await fill(connection)
    if is_analysed:
        await connection.execute("ANALYZE")
    for chosen in (
        {}, {"offset": BATCHES // 2}, {"is_descending": False}, {"sort": "name"}, {"sort": "last_event"},
        {"q": "name 7", "q_id": None}, {"agent_id": 45}, {"verdict": "open"}, {"is_running": True},
        {"start": BEGAN, "until": BEGAN.replace(hour=14)}, {"sort": "reached"},  # refused: too many
    ):  # fmt: skip
        async with connection.transaction():
            before = await count_reads(connection)
            rows = await read(connection, **chosen)
            after = await count_reads(connection)
        assert len(rows) == (1 if chosen.get("sort") == "reached" else 10), chosen
        for (table, name), (scans, entries) in after.items():
            scanned, entries_read = scans - before[table, name][0], entries - before[table, name][1]
            assert table not in EVENTS or scanned == 0, f"{chosen} reads {table}"
            assert table != name or scanned == 0, f"{chosen} scans the whole of {table}"
            assert entries_read <= plans.FEW, f"{chosen} reads {entries_read} entries of {name}"


async def test_to_sort_by_a_counter_reads_that_of_the_batches_that_match(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "TABLES", COUNTERS + EVENTS)
    await fill(connection)
    for sort in SORTS:
        async with connection.transaction():
            before = await count_reads(connection)
            rows = await read(connection, sort=sort, agent_id=45)
            after = await count_reads(connection)
        assert rows[0]["matching"] == BATCHES // AGENTS
        for (table, name), (scans, entries) in after.items():
            assert table != name or scans == before[table, name][0], f"{sort} scans the whole of {table}"
            assert entries - before[table, name][1] <= 3 * BATCHES // AGENTS, f"{sort} reads much of {name}"


async def test_agents_and_todays_figures_read_few_counters(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "TABLES", COUNTERS + EVENTS)
    await fill(connection)
    today = await connection.fetchval("SELECT now()") - timedelta(minutes=90)
    await connection.execute("UPDATE batch_activity SET last_event_at = now() WHERE batch_key % 500 = 1")
    before = await count_reads(connection)
    agents = [row async for row in QUERIES.list_agents(connection, after=40, limit=10, batches=5, numbers=5)]
    assert [(row["agent_id"], row["batches"], len(row["callers"])) for row in agents] == [
        (agent, BATCHES // AGENTS, 2) for agent in range(41, 51)
    ]
    summary = await QUERIES.get_summary(connection, since=today, counted=100)
    assert (summary["running"], summary["batches"], summary["calls"]) == (BATCHES // 500, BATCHES // 500, 80)
    for (table, name), (scans, entries) in (await count_reads(connection)).items():
        assert table != name or scans == before[table, name][0], f"scans {table}"
        assert entries - before[table, name][1] <= plans.FEW, f"reads much of {name}"
