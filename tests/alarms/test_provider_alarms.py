"""Alarms about what the provider does: webhooks that never come, and calls that never end."""

import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.doctor.findings import Level
from service.sandbox import RunningSandbox, sample_contacts
from service.store.database import Database
from tests.conftest import StartService
from tests.doctor.examining import examine, find_one
from tests.exposition import read_alarms
from tests.factories import post_webhook
from tests.guarantees.healing import Hours, open_reconciler_in, play, read_outcomes, write_all_webhooks
from tests.provider import connect_provider, upload

ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}


async def test_an_agent_whose_calls_are_all_healed_pages_until_a_webhook_comes(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=1.0, recipients=20)
        assert "webhooks_missing" not in await read_alarms(service)
        answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        assert answer.json()["data"]["verdict"] == "complete"
        alarm = (await read_alarms(service))["webhooks_missing"]
        assert (alarm["severity"], alarm["count"], alarm["agents"], alarm["batches"]) == ("page", 20, [123], [batch_id])
        found = find_one(await examine(database.url), "work.alarms", Level.PROBLEM)
        assert found.message.startswith("webhooks_missing (20, agents 123, since ")

        assert (await post_webhook(service, (await write_all_webhooks(sandbox, batch_id))[0])).status_code == 204
        assert "webhooks_missing" not in await read_alarms(service)


async def test_a_few_healed_calls_that_did_not_connect_prove_no_missing_webhooks(start_service: StartService) -> None:
    """The target may not select their events."""
    options = {"completed_share": 0.0, "max_attempts": 1}
    async with connect_provider(start_service, plays=True, options=options, **ON_DEMAND) as (service, sandbox):
        for recipients, seed, is_on in ((4, 3, False), (1, 4, True)):
            batch_id = await play(service, sandbox, drop=1.0, recipients=recipients, seed=seed)
            await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
            assert ("webhooks_missing" in await read_alarms(service)) == is_on


async def test_one_agents_missing_webhooks_page_while_anothers_come(start_service: StartService) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        reported = await play(service, sandbox, drop=0.3, recipients=20)
        sandbox.sandbox.faults.drop = 1.0
        answer = await upload(service, sample_contacts(20, seed=9), agent_id="7")
        missing = answer.json()["data"]["id"]
        await sandbox.sandbox.wait_until_done(missing)
        for batch_id in (reported, missing):
            await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        assert (await read_alarms(service))["webhooks_missing"]["agents"] == [7]


async def reconcile(service: httpx.AsyncClient, batch_id: int) -> dict[str, int]:
    """Compares the batch; the reasons' codes and counts."""
    answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
    assert answer.status_code == 200
    reasons = (await read_outcomes(service, batch_id))["reconciliation"]["reasons"]
    return {reason["code"]: reason.get("count") for reason in reasons}


async def stand_still(database: Database, hours: int) -> None:
    """Moves what was recorded of both sides back in time."""
    for table, column in (("provider_metrics", "taken_at"), ("batch_activity", "last_webhook_at")):
        await database.pool.execute(f"UPDATE {table} SET {column} = {column} - make_interval(hours => $1)", hours)


async def play_with_hanging_calls(
    service: httpx.AsyncClient, sandbox: RunningSandbox, *, recipients: int = 40
) -> tuple[int, list[int]]:
    """Plays a batch in which some calls never end; its id, and the recipients on whom it hangs."""
    sandbox.sandbox.faults.hang = 0.2
    batch_id = await play(service, sandbox, drop=0.0, recipients=recipients)
    batch = sandbox.sandbox.find_batch(batch_id)
    hanging = [row + 1 for row, calls in sorted(batch.attempts.items()) if calls[-1].status is None]
    assert 1 < len(hanging) == batch.hanging < recipients
    return batch_id, hanging


async def test_a_batch_whose_calls_never_end_is_stuck_after_hours_and_names_them(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id, hanging = await play_with_hanging_calls(service, sandbox)
        assert await reconcile(service, batch_id) == {"in_progress": len(hanging)}
        await stand_still(database, 5)
        assert "stuck" not in await reconcile(service, batch_id)
        await stand_still(database, 2)
        assert (await reconcile(service, batch_id))["stuck"] == len(hanging)
        outcomes = await read_outcomes(service, batch_id)
        assert outcomes["verdict"] == "open"
        (stuck,) = (reason for reason in outcomes["reconciliation"]["reasons"] if reason["code"] == "stuck")
        assert stuck["recipients"] == hanging
        alarm = (await read_alarms(service))["batch_stuck"]
        assert (alarm["severity"], alarm["count"], alarm["batches"]) == ("ticket", 1, [batch_id])
        assert [(each["batch_id"], each["recipient"]) for each in alarm["recipients"]] == [
            (batch_id, recipient) for recipient in hanging
        ]
        known = {
            row + 1: calls[-2].conversation_id if len(calls) > 1 else None
            for row, calls in sandbox.sandbox.find_batch(batch_id).attempts.items()
        }
        assert [each["conversation_id"] for each in alarm["recipients"]] == [known[recipient] for recipient in hanging]
        traces = {
            row["recipient"]: row["trace_id"]
            for row in (await service.get(f"/v1/batch-calls/{batch_id}/recipients")).json()["data"]
        }
        assert [each["trace_id"] for each in alarm["recipients"]] == [traces[recipient] for recipient in hanging]
        assert [trace is not None for trace in map(traces.get, hanging)] == [
            known[recipient] is not None for recipient in hanging
        ]


async def test_a_batch_is_no_longer_stuck_once_a_figure_moves(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id, hanging = await play_with_hanging_calls(service, sandbox)
        await reconcile(service, batch_id)
        await stand_still(database, 7)
        assert "stuck" in await reconcile(service, batch_id)
        sandbox.sandbox.find_batch(batch_id).finished["failed"] += 1
        assert (await reconcile(service, batch_id))["in_progress"] == len(hanging) - 1
        assert "batch_stuck" not in await read_alarms(service)


async def test_a_retry_that_is_still_due_is_not_stuck(start_service: StartService, database: Database) -> None:
    options = {"completed_share": 0.0, "retry_seconds": 48 * 3600.0}
    async with connect_provider(start_service, options=options, start=time.time(), **ON_DEMAND) as (service, sandbox):
        answer = await upload(service, sample_contacts(5, seed=3))
        batch_id = answer.json()["data"]["id"]
        await sandbox.sandbox.advance(3600)
        assert "waiting_for_retry" in await reconcile(service, batch_id)
        await stand_still(database, 7)
        assert "stuck" not in await reconcile(service, batch_id)
        await database.pool.execute("UPDATE retry_counts SET due_at = due_at - interval '120 hours'")
        await database.pool.execute("UPDATE facts SET next_retry_at = next_retry_at - interval '120 hours'")
        assert (await reconcile(service, batch_id))["stuck"] == 5


async def test_stuck_batches_raise_no_alarm_where_it_is_turned_off(
    start_service: StartService, database: Database
) -> None:
    settings = {**ON_DEMAND, "OUTCOMES_STUCK_SECONDS": "0"}
    async with connect_provider(start_service, plays=True, **settings) as (service, sandbox):
        batch_id, hanging = await play_with_hanging_calls(service, sandbox)
        await reconcile(service, batch_id)
        await stand_still(database, 700)
        assert await reconcile(service, batch_id) == {"in_progress": len(hanging)}


@pytest.mark.parametrize(
    ("finished_after", "last_webhook_after", "compared_after", "is_silent"),
    [
        # Minutes after the batch was first compared, with a grace period of 15 minutes.
        pytest.param(50, 0, (49, 51, 70), True, id="finished long after the last webhook"),
        pytest.param(50, 0, (49, 51, 60), False, id="webhooks may still be late"),
        pytest.param(1, 0, (1, 20, 60), False, id="finished when webhooks came, and a few were lost"),
        pytest.param(50, 48, (49, 51, 70, 120), False, id="the last webhook came shortly before"),
        pytest.param(50, 90, (49, 51, 120), False, id="a webhook came since"),
        pytest.param(50, 70, (200, 230), False, id="webhooks came while nobody compared"),
    ],
)
async def test_webhooks_are_silent_only_if_the_provider_finished_recipients_since_the_last_one(
    start_service: StartService,
    database: Database,
    finished_after: int,
    last_webhook_after: int,
    compared_after: tuple[int, ...],
    is_silent: bool,
) -> None:
    hours = Hours()
    began_at = hours.moment
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id, hanging = await play_with_hanging_calls(service, sandbox)
        assert len(hanging) > 3
        failed = sandbox.sandbox.find_batch(batch_id).finished["failed"]
        async with open_reconciler_in(hours, database, sandbox, grace_seconds=900) as reconciler:
            await reconciler.reconcile_due()
            for minutes in compared_after:
                if minutes >= finished_after:
                    sandbox.sandbox.find_batch(batch_id).finished["failed"] = failed + len(hanging) - 1
                hours.moment = began_at + timedelta(minutes=minutes)
                if minutes >= last_webhook_after:
                    await database.pool.execute(
                        "UPDATE batch_activity SET last_webhook_at = $1",
                        began_at + timedelta(minutes=last_webhook_after),
                    )
                await database.pool.execute("UPDATE batch_schedules SET due_at = '-infinity'")
                assert await reconciler.reconcile_due()
        codes = {reason["code"] for reason in (await read_outcomes(service, batch_id))["reconciliation"]["reasons"]}
        assert ("webhooks_silent" in codes) == ("webhooks_silent" in await read_alarms(service)) == is_silent
