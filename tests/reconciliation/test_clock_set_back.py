"""A clock that was ahead and is set right again leaves times in the future behind: none of them holds anything up until
that time has come, and one that runs ahead throws nothing away."""

from datetime import UTC, datetime, timedelta

import pytest

from service.errors import ProviderError
from service.privacy.retention import Retention
from service.reconciliation.schedule import FOREVER, correct_change_time, may_heal_again
from service.store.database import Database
from service.telemetry.metrics import Metrics
from tests.factories import BEGAN, decode, make_payload, store_batch
from tests.privacy.retaining import NOW, ingest_then, list_partitions
from tests.reconciliation.budgeting import BEGIN, Clock, answer, call, limits, open_budget, wait_of
from tests.reconciliation.scheduling import claim, record, schedule
from tests.webhooks.ingesting import ingest

JUMPS = [timedelta(hours=3), timedelta(days=1), timedelta(days=730)]


@pytest.mark.parametrize("ahead", JUMPS, ids=str)
async def test_a_batch_is_compared_at_once_though_it_was_put_off_in_the_future(
    database: Database, ahead: timedelta
) -> None:
    await store_batch(database.url)
    await schedule(database, BEGAN + ahead)
    (lease,) = await claim(database, "first", BEGAN + ahead)
    assert await record(database, lease, BEGAN + ahead)
    assert await schedule(database, BEGAN) == 1
    (lease,) = await claim(database, "second", BEGAN)
    assert await record(database, lease, BEGAN)
    assert await schedule(database, BEGAN) == 0  # and from then on as ever
    assert await claim(database, "second", BEGAN) == []


async def test_a_closed_batch_of_a_comparison_in_the_future_is_looked_at_once_more(database: Database) -> None:
    await store_batch(database.url)
    await schedule(database, BEGAN + timedelta(days=1))
    (lease,) = await claim(database, "first", BEGAN + timedelta(days=1))
    assert await record(database, lease, BEGAN + timedelta(days=1), verdict="complete", due_at=FOREVER)
    assert await schedule(database, BEGAN) == 1  # or no event of today would ever wake it
    (lease,) = await claim(database, "first", BEGAN)
    assert await record(database, lease, BEGAN, verdict="complete", due_at=FOREVER)
    assert await schedule(database, BEGAN) == 0


@pytest.mark.parametrize("ahead", JUMPS, ids=str)
async def test_a_lease_from_the_future_holds_up_neither_the_loop_nor_a_person(
    database: Database, ahead: timedelta
) -> None:
    await store_batch(database.url)
    await schedule(database, BEGAN)
    (late,) = await claim(database, "killed", BEGAN + ahead)
    (lease,) = await claim(database, "loop", BEGAN)
    assert not await record(database, late, BEGAN)
    assert await claim(database, "other", BEGAN) == []  # the loop's own lease holds
    (late,) = await claim(database, "killed", BEGAN + ahead)
    found = await database.queries.claim_batch(
        database.pool, batch_id=456, holder="person", lease_seconds=300.0, now=BEGAN
    )
    assert found["fence"] > late["fence"] > lease["fence"]


async def test_a_lease_of_one_replica_for_all_is_given_on(database: Database) -> None:
    async def take(holder: str) -> bool:
        claimed = await database.queries.claim_lease(database.pool, name="retention", holder=holder, seconds=120.0)
        return bool(claimed)

    assert await take("first")
    assert not await take("second")
    await database.pool.execute("UPDATE leases SET expires_at = expires_at + interval '1 day'")
    assert await take("second")


@pytest.mark.parametrize("ahead", JUMPS, ids=str)
async def test_the_provider_is_called_again_within_the_hour(database: Database, ahead: timedelta) -> None:
    clock = Clock()
    clock.now = BEGIN + ahead
    budget = open_budget(database, clock)
    await call(budget, answer(200, limits(0, clock.now + timedelta(seconds=20)), now=clock.now))
    clock.now = BEGIN
    assert await wait_of(budget) == 0  # the window that was spent lies in the future
    clock.now = BEGIN + ahead
    await call(budget, answer(429, {"retry-after": "30"}, now=clock.now))
    clock.now = BEGIN
    assert await wait_of(budget) == 0
    clock.now = BEGIN + ahead
    for _ in range(6):
        clock.now += timedelta(minutes=11)
        await call(budget)
    clock.now += timedelta(minutes=11)
    assert await wait_of(budget) == 0  # the probe of somebody who dies
    clock.now = BEGIN
    assert await wait_of(budget) == 0


async def test_nothing_that_the_provider_answers_delays_calls_for_more_than_an_hour(database: Database) -> None:
    clock = Clock()
    budget = open_budget(database, clock)
    await call(budget, answer(429, {"retry-after": "999999999"}))
    for _ in range(2):
        with pytest.raises(ProviderError, match="are paused"):
            await wait_of(budget)
        clock.now += timedelta(hours=1, seconds=1)
        await call(budget, answer(200, limits(0, clock.now + timedelta(days=30)), now=clock.now))


async def test_an_event_received_in_the_future_does_not_count_as_the_last_forever(database: Database) -> None:
    await store_batch(database.url)
    ahead = datetime.now(UTC) + timedelta(days=730)
    first, second = decode(make_payload(recipient=1), make_payload(recipient=2))
    await ingest(database, first._replace(received_at=ahead))
    is_past = "SELECT last_event_at <= clock_timestamp() AND last_webhook_at <= clock_timestamp() FROM batch_activity"
    assert await database.pool.fetchval(is_past)
    await database.pool.execute(
        "UPDATE batch_activity SET last_event_at = $1, last_webhook_at = $1", ahead
    )  # the database's own clock was ahead
    await ingest(database, second._replace(received_at=datetime.now(UTC)))
    assert await database.pool.fetchval(is_past)


async def test_an_upload_whose_sender_died_in_the_future_is_settled_now(database: Database) -> None:
    async def settle(state: str, ahead: timedelta) -> tuple[int, int]:
        await database.pool.execute(
            "UPDATE batches SET upload_state = $1, batch_id = NULL, leased_until = clock_timestamp() + $2", state, ahead
        )
        return tuple(await database.queries.settle_abandoned_uploads(database.pool))

    await store_batch(database.url)
    assert await settle("uploading", timedelta(seconds=50)) == (0, 0)
    assert await settle("uploading", timedelta(days=1)) == (0, 1)
    assert await settle("preparing", timedelta(seconds=50)) == (0, 0)
    assert await settle("preparing", timedelta(days=1)) == (1, 0)


@pytest.mark.parametrize(("ahead", "is_found"), [(timedelta(hours=6), False), (timedelta(days=2), True)])
async def test_an_upload_that_is_to_be_looked_for_in_the_future_is_looked_for_now(
    database: Database, ahead: timedelta, is_found: bool
) -> None:
    await store_batch(database.url, batch_id=None)
    await database.pool.execute(
        "UPDATE batches SET upload_state = 'unknown', sent_at = prepared_at, next_lookup_at = clock_timestamp() + $1",
        ahead,
    )
    found = await database.queries.claim_lookup(database.pool, batch_key=None, seconds=5.0)
    assert (found is not None) == is_found


def test_a_change_in_the_future_counts_as_old_and_a_walk_in_the_future_delays_nothing() -> None:
    now = datetime(2026, 3, 16, tzinfo=UTC)
    for seconds in (-5000, 0, 60, 900):  # clocks of replicas differ a little
        changed_at = now + timedelta(seconds=seconds)
        assert correct_change_time(changed_at, now=now, grace_seconds=900) == changed_at
    for ahead in JUMPS:
        assert correct_change_time(now + ahead, now=now, grace_seconds=900) <= now - timedelta(seconds=900)
        assert may_heal_again(now + ahead, now=now, changed_at=now, grace_seconds=900)
    assert not may_heal_again(now + timedelta(seconds=30), now=now, changed_at=now, grace_seconds=900)


@pytest.mark.parametrize("kind", ["bodies", "people", "quarantine", "snapshots"])
async def test_one_clock_that_is_years_ahead_forgets_nothing(database: Database, kind: str) -> None:
    await store_batch(database.url, prepared_at=NOW - timedelta(days=100))
    await ingest_then(database, make_payload(recipient=1))
    await database.pool.execute("UPDATE batch_activity SET last_event_at = $1", NOW - timedelta(days=100))
    await database.pool.execute(
        "INSERT INTO quarantine (target, reason, detail, digest, body, received_at, last_received_at) "
        "VALUES ('default', 'not_json', '', '', '', $1, $1)", NOW - timedelta(days=100),
    )  # fmt: skip
    await database.pool.execute(
        "INSERT INTO provider_metrics (batch_key, taken_at, last_seen_at) VALUES (1, $1, $1), (1, $2, $2)",
        NOW - timedelta(days=100), NOW,
    )  # fmt: skip
    before = await list_partitions(database)
    clock = [NOW - timedelta(days=730)]  # so is the database's ahead, seen from there
    retention = Retention(database, Metrics(), {kind: 30}, now=lambda: clock[0])
    assert await retention.forget_all() == {}
    clock[0] = NOW + timedelta(days=3000)
    await database.pool.execute("DELETE FROM leases")
    assert await Retention(database, Metrics(), {kind: 1000}, now=lambda: clock[0]).forget_all() == {}
    assert await list_partitions(database) == before
    await database.pool.execute("DELETE FROM leases")
    assert await retention.forget_all() != {}
