"""Leases, fences and history: each batch is at one worker at a time, and a late one writes nothing."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from service.reconciliation.schedule import FOREVER
from service.store.database import Database
from tests.factories import BATCH_ID, BEGAN, decode, make_payload, store_batch
from tests.reconciliation.scheduling import claim, record, schedule
from tests.webhooks.ingesting import ingest

FIGURES = {"total_recipients": 500, "busy_count": 15, "success_rate": 84.0, "unreachable_count": None}


async def snapshot(database: Database, lease: asyncpg.Record, at: datetime, **changes: Any) -> datetime | None:
    since: datetime | None = await database.queries.record_snapshot(
        database.pool, batch_key=lease["batch_key"], fence=lease["fence"], at=at, figures=json.dumps(FIGURES | changes)
    )
    return since


async def release(database: Database, lease: asyncpg.Record, due_at: datetime, *, retry_at: datetime = BEGAN) -> None:
    await database.queries.release_batch(
        database.pool, batch_key=lease["batch_key"], fence=lease["fence"], due_at=due_at, retry_at=retry_at
    )


async def test_workers_at_once_lease_every_batch_once(database: Database) -> None:
    for number in range(12):
        await store_batch(database.url, 1, batch_id=number + 1, ref_token=f"t{number}")
    await store_batch(database.url, 1, batch_id=None, ref_token="not uploaded")
    assert await schedule(database) == 12
    assert await schedule(database) == 0
    claims = await asyncio.gather(*[claim(database, f"worker {number}", limit=3) for number in range(6)])
    keys = [row["batch_key"] for rows in claims for row in rows]
    assert (len(keys), len(set(keys))) == (12, 12)


async def test_a_lease_that_ran_out_goes_to_the_next_and_its_late_holder_writes_nothing(database: Database) -> None:
    await store_batch(database.url)
    await schedule(database)
    (late,) = await claim(database, "first")
    assert await claim(database, "second", BEGAN + timedelta(seconds=299)) == []
    (lease,) = await claim(database, "second", BEGAN + timedelta(seconds=300))
    assert not await record(database, late, BEGAN)
    assert await snapshot(database, late, BEGAN) is None
    saved = database.queries.save_healing
    assert await saved(database.pool, batch_key=late["batch_key"], fence=late["fence"], healing="{}",
                       leased_until=BEGAN + timedelta(days=1)) is None  # fmt: skip
    await release(database, late, BEGAN)
    assert await database.pool.fetchval("SELECT holder FROM batch_schedules") == "second"
    for table in ("reconciliations", "provider_metrics"):
        assert await database.pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await record(database, lease, BEGAN)
    assert not await record(database, late, BEGAN)


async def test_a_batch_is_not_due_before_its_time(database: Database) -> None:
    await store_batch(database.url)
    await schedule(database)
    (lease,) = await claim(database, "first")
    await record(database, lease, BEGAN)
    assert await claim(database, "first", BEGAN + timedelta(seconds=59)) == []
    assert len(await claim(database, "first", BEGAN + timedelta(seconds=60))) == 1


async def test_a_failed_comparison_waits_until_it_is_due_or_a_while_if_the_batch_changes(
    database: Database,
) -> None:
    key = await store_batch(database.url)
    await schedule(database)
    (lease,) = await claim(database, "first")
    await record(database, lease, BEGAN, due_at=FOREVER)
    await database.pool.execute("INSERT INTO batch_activity VALUES ($1, $2)", key, BEGAN + timedelta(minutes=1))
    failed_at = BEGAN + timedelta(hours=1)
    assert await schedule(database, failed_at) == 1
    (lease,) = await claim(database, "first", failed_at)
    due_at = failed_at + timedelta(hours=1)
    await release(database, lease, due_at, retry_at=failed_at + timedelta(minutes=10))
    for minutes in (0, 9, 59):
        now = failed_at + timedelta(minutes=minutes)
        assert (await schedule(database, now), await claim(database, "first", now)) == (0, [])
    await database.pool.execute("UPDATE batch_activity SET revision = revision + 1")
    assert await schedule(database, failed_at) == 1  # but not to be tried before retry_at
    assert await claim(database, "first", failed_at + timedelta(minutes=9)) == []
    (lease,) = await claim(database, "first", failed_at + timedelta(minutes=10))
    await record(database, lease, due_at, due_at=FOREVER)
    assert await database.pool.fetchval("SELECT retry_at FROM batch_schedules") is None


async def test_a_batch_that_was_closed_is_due_again_after_an_event(database: Database) -> None:
    key = await store_batch(database.url)
    await schedule(database)
    (lease,) = await claim(database, "first")
    await record(database, lease, BEGAN, verdict="complete", due_at=datetime.max.replace(tzinfo=BEGAN.tzinfo))
    later = BEGAN + timedelta(days=300)
    assert await schedule(database, later) == 0
    assert await claim(database, "first", later) == []
    await database.pool.execute("INSERT INTO batch_activity VALUES ($1, $2)", key, BEGAN + timedelta(days=200))
    assert await schedule(database, later) == 1
    assert len(await claim(database, "first", later)) == 1


async def test_figures_that_stay_as_they_are_make_one_row_and_a_change_makes_another(database: Database) -> None:
    await store_batch(database.url)
    await schedule(database)
    (lease,) = await claim(database, "first")
    times = [BEGAN + timedelta(seconds=seconds) for seconds in (0, 30, 60, 90)]
    assert await snapshot(database, lease, times[0]) == times[0]
    assert await snapshot(database, lease, times[1]) == times[0]
    assert await snapshot(database, lease, times[2], unreachable_count=0) == times[2]
    assert await snapshot(database, lease, times[3]) == times[3]
    rows = await database.pool.fetch(
        "SELECT taken_at, last_seen_at, busy_count, unreachable_count, failed_count FROM provider_metrics ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [
        (times[0], times[1], 15, None, None), (times[2], times[2], 15, 0, None), (times[3], times[3], 15, None, None),
    ]  # fmt: skip
    row = await database.queries.get_snapshot_before(database.pool, batch_key=lease["batch_key"], at=times[1])
    assert row["taken_at"] == times[0]


async def test_history_holds_each_change_once_and_counts_what_stayed_the_same(database: Database) -> None:
    await store_batch(database.url)
    await schedule(database)
    times = [BEGAN + timedelta(minutes=minute) for minute in range(5)]
    steps: list[dict[str, Any]] = [
        {},
        {},
        {"verdict": "settling"},
        {"verdict": "settling", "healed": 7},
        {"verdict": "complete"},
    ]
    for now, changes in zip(times, steps, strict=True):
        (lease,) = await claim(database, "first", now)
        assert await record(database, lease, now, **changes)
    listed = database.queries.list_reconciliations(database.pool, batch_id=BATCH_ID, before=2**62, limit=10)
    rows = [row async for row in listed]
    assert [(row["verdict"], row["comparisons"], row["calls_spent"], row["healed"]) for row in rows] == [
        ("complete", 1, 2, 0), ("settling", 1, 2, 7), ("settling", 1, 2, 0), ("open", 2, 4, 0),
    ]  # fmt: skip
    assert (rows[-1]["compared_at"], rows[-1]["last_compared_at"]) == (times[0], times[1])
    row = await database.pool.fetchrow("SELECT verdict, verdict_since, last_reconciled_at FROM batch_schedules")
    assert row is not None
    assert tuple(row) == ("complete", times[4], times[4])


async def test_on_demand_a_batch_is_leased_due_or_not_but_never_from_under_a_worker(database: Database) -> None:
    await store_batch(database.url)

    async def ask(now: datetime = BEGAN) -> asyncpg.Record | None:
        row: asyncpg.Record | None = await database.queries.claim_batch(
            database.pool, batch_id=BATCH_ID, holder="person", lease_seconds=300.0, now=now
        )
        return row

    first = await ask()
    assert first is not None
    assert await ask() is None
    assert await claim(database, "worker") == []
    assert await record(database, first, BEGAN)
    second = await ask()
    assert second is not None
    assert second["fence"] == first["fence"] + 1


async def test_the_providers_fields_of_a_batch_are_recorded_and_missing_ones_are_kept(
    database: Database,
) -> None:
    await store_batch(database.url)
    await schedule(database)
    (lease,) = await claim(database, "first")
    for fence, status, total, kept in (
        (1, "completed", 12, ("completed", 12)), (1, "", None, ("completed", 12)), (0, "late", 1, ("completed", 12)),
    ):  # fmt: skip
        await database.queries.record_batch_state(
            database.pool, batch_key=lease["batch_key"], fence=fence, status=status, total_recipients=total
        )
        assert tuple(await database.pool.fetchrow("SELECT status, total_recipients FROM batches") or ()) == kept


async def test_any_change_of_a_closed_batch_makes_it_due_again_however_old_it_is(database: Database) -> None:
    await store_batch(database.url)
    compared_at = BEGAN + timedelta(days=400)
    await schedule(database, compared_at)
    (lease,) = await claim(database, "a", compared_at)
    await database.queries.record_batch_state(
        database.pool, batch_key=lease["batch_key"], fence=lease["fence"], status="completed", total_recipients=10
    )
    assert await record(database, lease, compared_at, verdict="complete", due_at=FOREVER)
    assert await schedule(database, compared_at + timedelta(minutes=1)) == 0
    await ingest(database, *decode(make_payload(recipient=1)))  # received long before, as one that was in quarantine
    assert await schedule(database, compared_at + timedelta(minutes=1)) == 1
    (lease,) = await claim(database, "a", compared_at + timedelta(minutes=1))
    await database.queries.record_batch_state(
        database.pool, batch_key=lease["batch_key"], fence=lease["fence"], status="completed", total_recipients=10
    )
    assert await record(database, lease, compared_at + timedelta(minutes=1), verdict="complete", due_at=FOREVER)
    assert await schedule(database, compared_at + timedelta(minutes=2)) == 0
