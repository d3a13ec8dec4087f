"""Retention: each kind of data goes after its time, what is still needed stays, and nothing that is counted changes."""

from datetime import timedelta

import asyncpg
import pytest

from service.formant.events import EventDecoder
from service.privacy.retention import Retention
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Verifier
from tests.factories import decode, make_payload, store_batch
from tests.guarantees.recount import find_differences
from tests.privacy.retaining import MONTHS_AGO, NOW, ingest_then, list_partitions
from tests.webhooks.ingesting import ingest


def keep(database: Database, **days: int) -> Retention:
    return Retention(database, Metrics(), days)


async def check_sound(database: Database) -> None:
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []
    assert [finding async for finding in Verifier(database, EventDecoder("outcome_ref"), BodyCheck({})).verify()] == []


async def test_old_bodies_go_by_the_month_and_what_waits_unattributed_keeps_its_own(database: Database) -> None:
    await store_batch(database.url)
    stray = make_payload(recipient=None, phone="+19999999999", event_id="stray")
    await ingest_then(database, make_payload(recipient=1), make_payload(recipient=2), stray)
    await ingest(database, *decode(make_payload(recipient=3)))
    old = f"event_bodies_{MONTHS_AGO:%Y_%m}"
    assert old in await list_partitions(database)

    retention = keep(database, bodies=30)
    assert await retention.forget_all() == {"bodies": 3}  # detached, one moved, dropped
    assert old not in await list_partitions(database)
    bodies = await database.pool.fetch("SELECT arrival_id, recorded_at = $1 AS is_old FROM event_bodies", MONTHS_AGO)
    waiting = await database.pool.fetchval("SELECT arrival_id FROM unattributed")
    assert [row["arrival_id"] for row in bodies if row["is_old"]] == [waiting]
    assert len(bodies) == 2
    await check_sound(database)

    await database.pool.execute("DELETE FROM unattributed")  # it has found its place
    assert await retention.forget_all() == {"bodies": 1}
    assert await database.pool.fetchval("SELECT count(*) FROM event_bodies") == 1
    assert await retention.forget_all() == {}


async def test_who_was_killed_after_detaching_a_month_is_followed_by_another(database: Database) -> None:
    await store_batch(database.url)
    stray = make_payload(recipient=None, phone="+19999999999")
    await ingest_then(database, make_payload(recipient=1), stray)
    assert await database.queries.forget_bodies(database.pool, days=30, rows=10, now=NOW) == 1
    await ingest(database, *decode(make_payload(recipient=3)))  # nothing is in the way of webhooks
    assert await keep(database, bodies=30).forget_all() == {"bodies": 2}
    assert await database.pool.fetchval("SELECT count(*) FROM event_bodies") == 2


async def test_months_that_are_not_wholly_old_stay(database: Database) -> None:
    await store_batch(database.url)
    await ingest_then(database, make_payload(recipient=1))
    end = (MONTHS_AGO.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=31)).replace(day=1)
    days_since = (NOW - end).days
    assert await keep(database, bodies=days_since + 1).forget_all() == {}
    await database.pool.execute("DELETE FROM leases")
    assert await keep(database, bodies=days_since - 1).forget_all() == {"bodies": 2}


async def test_phones_and_parameters_of_quiet_batches_go_and_every_count_stays(database: Database) -> None:
    old = await store_batch(database.url, 1200, prepared_at=NOW - timedelta(days=100))
    busy = await store_batch(
        database.url, 3, batch_id=457, ref_token="b0b", prepared_at=NOW - timedelta(days=100), first_phone=5000
    )
    new = await store_batch(database.url, 3, batch_id=458, ref_token="c0c", prepared_at=NOW, first_phone=6000)
    held = await store_batch(
        database.url, 3, batch_id=None, ref_token="d0d", prepared_at=NOW - timedelta(days=100), first_phone=7000
    )
    await database.pool.execute("UPDATE batches SET upload_state = 'held' WHERE batch_key = $1", held)
    await ingest(database, *decode(make_payload(recipient=1), make_payload(recipient=2, ref_token="b0b")))
    long_ago = NOW - timedelta(days=91)
    await database.pool.execute("UPDATE batch_activity SET last_event_at = $1 WHERE batch_key = $2", long_ago, old)
    await database.pool.execute("UPDATE batch_activity SET last_event_at = $1 WHERE batch_key = $2", NOW, busy)
    counted = "SELECT * FROM outcome_counts, result_counts ORDER BY 1, 2, 3, 8, 9"
    before = await database.pool.fetch(counted)

    retention = keep(database, people=90)
    assert await retention.forget_all() == {"people": 1200}
    left = await database.pool.fetch(
        "SELECT batch_key, count(phone) AS phones, count(*) FILTER (WHERE parameters <> '{}') AS parameters "
        "FROM recipients GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in left] == [(old, 0, 0), (busy, 3, 3), (new, 3, 3), (held, 3, 3)]
    assert await database.pool.fetch(counted) == before
    assert await retention.forget_all() == {}
    await check_sound(database)


@pytest.mark.parametrize("kind", ["quarantine", "audit", "snapshots"])
async def test_rows_go_once_they_are_older_than_their_days(database: Database, kind: str) -> None:
    await store_batch(database.url)
    await database.pool.execute(
        """
        INSERT INTO quarantine (target, reason, detail, digest, body, received_at, last_received_at)
        SELECT '', '', '', n::text::bytea, '', now(), now() - make_interval(days => n) FROM generate_series(1, 9) AS n;
        INSERT INTO audit_log (recorded_at, actor, action, subject, outcome)
        SELECT now() - make_interval(days => n), '', '', '', '' FROM generate_series(1, 9) AS n;
        INSERT INTO provider_metrics (batch_key, taken_at, last_seen_at)
        SELECT 1, now() - make_interval(days => n), now() - make_interval(days => n) FROM generate_series(1, 9) AS n;
        INSERT INTO provider_metrics (batch_key, taken_at, last_seen_at)
        VALUES (2, now() - interval '99 d', now() - interval '99 d');
        """
    )
    retention = keep(database, **{kind: 5})
    assert await retention.forget_all() == {kind: 5}
    assert await retention.forget_all() == {}
    left = [
        await database.pool.fetchval(f"SELECT count(*) FROM {table}")
        for table in ("quarantine", "audit_log", "provider_metrics")
    ]
    assert left == [9 - 5 * (kind == "quarantine"), 9 - 5 * (kind == "audit"), 10 - 5 * (kind == "snapshots")]


async def test_zero_keeps_data_forever_and_one_replica_at_a_time_deletes(database: Database) -> None:
    await store_batch(database.url, 3, prepared_at=NOW - timedelta(days=100))
    assert await keep(database, people=0, bodies=0).forget_all() == {}
    await database.queries.claim_lease(database.pool, name="retention", holder="another", seconds=60)
    assert await keep(database, people=90).forget_all() == {}
    assert await database.pool.fetchval("SELECT count(phone) FROM recipients") == 3


async def test_the_audit_log_cannot_be_emptied_by_way_of_its_retention(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="for a day at least"):
        await database.queries.forget_audit(database.pool, days=0, rows=1, now=NOW)
