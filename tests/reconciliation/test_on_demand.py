"""A comparison on demand heals at once, and its verdict is that of any other comparison at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.sandbox import RunningSandbox
from service.store.database import Database
from tests.conftest import StartService
from tests.factories import post_webhook
from tests.guarantees.healing import Hours, open_reconciler_in, play, read_outcomes, write_all_webhooks
from tests.provider import connect_provider

ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}  # the test reconciles instead of the service
GRACE = timedelta(seconds=900)


@contextmanager
def hide_conversations(sandbox: RunningSandbox) -> Iterator[None]:
    """The provider does not list its calls yet."""
    listed = sandbox.sandbox.records._by_agent.pop(123)
    yield
    sandbox.sandbox.records._by_agent[123] = listed


async def ask(service: httpx.AsyncClient, batch_id: int) -> dict[str, Any]:
    data: dict[str, Any] = (await service.post(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]
    return data


async def test_while_webhooks_may_still_arrive_a_batch_settles_and_says_until_when(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.5, recipients=20)
        with hide_conversations(sandbox):
            asked = await ask(service, batch_id)
        assert asked["verdict"] == "settling"
        ends_at = datetime.fromisoformat(asked["settles_at"])
        assert timedelta(0) < ends_at - datetime.now(UTC) <= GRACE
        differing = [reason for reason in asked["reasons"] if "figure" in reason]
        assert {(reason["code"], reason["expected_at"]) for reason in differing} == {
            ("within_grace", asked["settles_at"])
        }
        assert f"(final about {ends_at:%Y-%m-%d %H:%M} UTC)" in asked["verdict_text"]
        shown = await read_outcomes(service, batch_id)
        assert (shown["verdict"], shown["reconciliation"]["reasons"]) == ("settling", asked["reasons"])
        assert await database.pool.fetchval("SELECT due_at FROM batch_schedules") <= ends_at
        for body in await write_all_webhooks(sandbox, batch_id):
            assert (await post_webhook(service, body)).status_code == 204
        assert (await ask(service, batch_id))["verdict"] == "complete"
        assert (await read_outcomes(service, batch_id))["sources"]["healed"] == 0


async def test_a_batch_that_is_still_called_is_healed_on_demand_and_stays_open(start_service: StartService) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        sandbox.sandbox.faults.hang = 0.2
        batch_id = await play(service, sandbox, drop=1.0, recipients=40)
        asked = await ask(service, batch_id)
        hanging = sandbox.sandbox.find_batch(batch_id).hanging
        assert (asked["verdict"], [reason["code"] for reason in asked["reasons"]]) == (
            "open", ["in_progress", "healed", "details_outstanding"],
        )  # fmt: skip
        assert (await read_outcomes(service, batch_id))["recipients"]["processed"] == 40 - hanging


@pytest.mark.parametrize(("waits", "verdict"), [(0, "settling"), (899, "settling"), (901, "drifted")])
async def test_on_demand_and_by_itself_the_verdict_is_the_same(
    start_service: StartService, database: Database, waits: int, verdict: str
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0, recipients=20)
        hours = Hours()
        sandbox.sandbox.find_batch(batch_id).finished["busy"] += 1  # no conversation explains that
        async with open_reconciler_in(hours, database, sandbox, grace_seconds=900) as reconciler:
            await reconciler.reconcile_now(batch_id)
            hours.moment += timedelta(seconds=waits)
            asked = await reconciler.reconcile_now(batch_id)
            before = await read_outcomes(service, batch_id)
            await database.pool.execute("UPDATE batch_schedules SET due_at = $1", hours.moment)
            assert await reconciler.reconcile_due()
        after = await read_outcomes(service, batch_id)
        assert {asked.verdict, before["verdict"], after["verdict"]} == {verdict}
        assert before["reconciliation"]["reasons"] == after["reconciliation"]["reasons"]


async def test_healing_that_was_asked_for_too_early_is_repeated_when_no_webhook_is_expected_any_more(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.5, recipients=20)
        hours = Hours()
        async with open_reconciler_in(hours, database, sandbox, grace_seconds=900) as reconciler:
            with hide_conversations(sandbox):
                assert (await reconciler.reconcile_now(batch_id)).verdict == "settling"
            hours.moment += 2 * GRACE
            assert await reconciler.reconcile_due()
        assert (await read_outcomes(service, batch_id))["verdict"] == "complete"
