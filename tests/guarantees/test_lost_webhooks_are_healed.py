"""Healing recovers lost webhooks: afterwards each recipient is as the provider has it, and nothing counts twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.formant.client import open_http
from service.reconciliation.budget import Budget
from service.reconciliation.healer import Healer
from service.reconciliation.reconciler import Reconciler
from service.reconciliation.schedule import LEASE_SECONDS
from service.sandbox import RunningSandbox
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.conftest import StartService
from tests.factories import post_webhook
from tests.guarantees.healing import RECIPIENTS, assert_healed, now, play, read_outcomes, wait_until, write_all_webhooks
from tests.provider import KEY, connect_provider

ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}  # the test reconciles instead of the service


@asynccontextmanager
async def open_reconciler(
    database: Database, sandbox: RunningSandbox, *, clock: Callable[[], datetime] = now, grace_seconds: float = 900,
    metrics: Metrics | None = None,
) -> AsyncIterator[Reconciler]:  # fmt: skip
    """A replica's reconciler that works only on request."""
    metrics = metrics or Metrics()
    writer = Writer(database.url, database.queries, metrics)
    try:
        async with open_http(sandbox.base_url, KEY) as http:
            yield Reconciler(
                database, http, metrics, Budget(database, "sandbox"), Budget(database, "sandbox", reserved=0.0),
                Healer(database, writer, metrics, clock),
                grace_seconds=grace_seconds, interval_seconds=30, now=clock,
            )  # fmt: skip
    finally:
        writer.close()


@pytest.mark.parametrize("ids", ["per-attempt", "per-recipient"])
@pytest.mark.parametrize("unanswered", ["full", "absent"])
async def test_a_batch_that_lost_a_third_of_its_webhooks_is_complete_after_healing(
    start_service: StartService, database: Database, ids: str, unanswered: str
) -> None:
    options = {"conversation_ids": ids, "unanswered": unanswered}
    async with connect_provider(start_service, plays=True, options=options, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox)
        answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        assert (answer.status_code, answer.json()["data"]["verdict"]) == (200, "complete")
        await assert_healed(database, sandbox, batch_id)
        outcomes = await read_outcomes(service, batch_id)
        assert outcomes["verdict"] == "complete"
        assert outcomes["sources"]["healed"] > 10
        assert outcomes["last_reconciled_at"] is not None
        history = (await service.get(f"/v1/batch-calls/{batch_id}/reconciliations")).json()["data"]
        assert history[0]["verdict"] == "complete"
        assert history[0]["healed"] > 10


async def test_webhooks_that_arrive_after_healing_count_nothing_twice(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox)
        await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        lost = await write_all_webhooks(sandbox, batch_id)
        assert len(lost) > RECIPIENTS
        for body in lost:
            assert (await post_webhook(service, body)).status_code == 204
        await assert_healed(database, sandbox, batch_id)
        assert (await read_outcomes(service, batch_id))["sources"] == {"webhook": RECIPIENTS, "healed": 0}
        answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        assert answer.json()["data"]["verdict"] == "complete"


async def test_healing_by_a_dead_worker_resumes_where_it_stopped_after_the_lease_expires(
    start_service: StartService, database: Database
) -> None:
    moment = now() + timedelta(days=1)
    options = {"completed_share": 0.2}  # many attempts, so several pages of conversations
    async with connect_provider(start_service, plays=True, options=options, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=200)
        async with (
            open_reconciler(database, sandbox, grace_seconds=0, clock=lambda: moment) as first,
            open_reconciler(database, sandbox, grace_seconds=0, clock=lambda: moment) as second,
            open_reconciler(
                database, sandbox, grace_seconds=0, clock=lambda: moment + timedelta(seconds=LEASE_SECONDS + 1)
            ) as third,
        ):
            task = asyncio.create_task(first.reconcile_due())
            await wait_until(database, "SELECT bool_or((healing->>'offset')::int > 0) FROM batch_schedules")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await database.pool.fetchval("SELECT count(*) FROM facts WHERE source = 'healed'") > 0
            outcomes = await read_outcomes(service, batch_id)
            assert outcomes["verdict"] == "settling"
            healing = outcomes["reconciliation"]["reasons"][0]
            assert (healing["code"], 0 < healing["done"] <= healing["total"]) == ("healing", True)
            assert datetime.fromisoformat(healing["expected_at"]) >= moment
            assert not await second.reconcile_due()
            assert await third.reconcile_due()
        reasons = (await read_outcomes(service, batch_id))["reconciliation"]["reasons"]
        assert "healing" not in {reason["code"] for reason in reasons}
        assert (await read_outcomes(service, batch_id))["verdict"] == "complete"
        await assert_healed(database, sandbox, batch_id)


async def test_two_replicas_that_heal_at_the_same_time_count_nothing_twice(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batches = [await play(service, sandbox), await play(service, sandbox, recipients=50, seed=4)]
        later = now() + timedelta(days=1)
        async with (
            open_reconciler(database, sandbox, grace_seconds=0, clock=lambda: later) as first,
            open_reconciler(database, sandbox, grace_seconds=0, clock=lambda: later) as second,
        ):
            while True:
                done = await asyncio.gather(first.reconcile_due(), second.reconcile_due(), first.reconcile_due())
                if not any(done):
                    break
        for batch_id in batches:
            assert (await read_outcomes(service, batch_id))["verdict"] == "complete"
            await assert_healed(database, sandbox, batch_id)


async def test_the_loop_waits_for_the_grace_time_and_then_heals(
    start_service: StartService, database: Database
) -> None:
    moment = [now()]
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=60)
        async with open_reconciler(database, sandbox, clock=lambda: moment[0]) as reconciler:
            moment[0] = now() + timedelta(minutes=10)
            assert await reconciler.reconcile_due()
            assert (await read_outcomes(service, batch_id))["verdict"] == "settling"
            assert not await reconciler.reconcile_due()
            moment[0] += timedelta(minutes=16)
            assert await reconciler.reconcile_due()
            assert (await read_outcomes(service, batch_id))["verdict"] == "complete"
        await assert_healed(database, sandbox, batch_id)


async def test_the_service_heals_by_itself(start_service: StartService, database: Database) -> None:
    settings: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "1", "OUTCOMES_GRACE_SECONDS": "0"}
    async with connect_provider(start_service, plays=True, **settings) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=40)
        await wait_until(database, "SELECT bool_and(verdict = 'complete') FROM batch_schedules")
        await assert_healed(database, sandbox, batch_id)


async def test_a_campaign_that_calls_the_same_people_again_is_healed_batch_by_batch(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batches = []
        for _ in range(2):
            batches.append(await play(service, sandbox, recipients=60))
            answer = await service.post(f"/v1/batch-calls/{batches[-1]}/reconcile")
            assert answer.json()["data"]["verdict"] == "complete"
        for batch_id in batches:
            await assert_healed(database, sandbox, batch_id, is_whole=False)


async def test_drift_that_healing_cannot_explain_is_reported_with_its_recipients(
    start_service: StartService, database: Database
) -> None:
    settings = ON_DEMAND | {"OUTCOMES_GRACE_SECONDS": "0"}
    async with connect_provider(start_service, plays=True, **settings) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=20, drop=0)
        batch = sandbox.sandbox.records.batches[batch_id]
        del batch.attempts[4]  # the provider forgets a call and no longer counts it
        for shown in (sandbox.sandbox.records._all, sandbox.sandbox.records._by_agent[123]):
            shown[:] = [attempt for attempt in shown if attempt.row != 4]
        status = await database.pool.fetchval("SELECT state FROM outcomes WHERE recipient_no = 5")
        batch.finished[status] -= 1
        batch.finished["unreachable" if status != "unreachable" else "busy"] += 1
        data = (await service.post(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]
        assert data["verdict"] == "drifted"
        codes = [{name: value for name, value in reason.items() if name != "text"} for reason in data["reasons"]]
        assert {"code": "healed", "count": 0} in codes
        assert {"code": "calls_unknown_there", "recipients": [5]} in codes
        again = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]["reconciliation"]
        assert again["reasons"] == data["reasons"]


async def test_a_worker_that_lost_its_lease_writes_nothing(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=5, drop=0)
        async with open_reconciler(database, sandbox) as reconciler:
            assert (await reconciler.reconcile_now(batch_id)).verdict == "complete"
        before = await database.pool.fetchrow("SELECT * FROM batch_schedules")
        assert before is not None
        kept = await database.queries.record_reconciliation(
            database.pool, batch_key=before["batch_key"], fence=before["fence"] - 1, at=now(), verdict="open",
            reasons="[]", differences="[]", inconsistencies="[]", calls_spent=0, healed=0, due_at=now(),
            verdict_text=None,
        )  # fmt: skip
        assert kept is False
        assert await database.pool.fetchrow("SELECT * FROM batch_schedules") == before
