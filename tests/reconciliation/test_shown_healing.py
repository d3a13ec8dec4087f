"""What is shown while a batch is healed, and after: the provider's present word and ours, at every moment."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.sandbox import RunningSandbox
from service.store.database import Database
from tests.conftest import StartService
from tests.guarantees.healing import Hours, open_reconciler_in, play, read_outcomes
from tests.provider import connect_provider

ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}  # the test reconciles instead of the service
FINALS = ("completed", "busy", "no_answer", "failed", "socket_failure", "unreachable")


def find_healing(outcomes: dict[str, Any]) -> dict[str, Any] | None:
    reasons = outcomes["reconciliation"]["reasons"]
    return next((reason for reason in reasons if reason["code"] == "healing"), None)


class Watcher:
    """Reads the outcomes whenever the provider has listed conversations, and moves the clock on by a minute."""

    def __init__(self, service: httpx.AsyncClient, hours: Hours) -> None:
        self._service = service
        self._hours = hours
        self.batch_id = 0
        self.pages = 0
        self.seen: list[dict[str, Any]] = []
        self.after_page: Callable[[int], Awaitable[None]] | None = None

    async def note(self, answer: httpx.Response) -> None:
        if answer.request.url.path != "/v1/conversations":
            return
        self.pages += 1
        self.seen.append(await read_outcomes(self._service, self.batch_id))
        if self.after_page is not None:
            await self.after_page(self.pages)
        self._hours.moment += timedelta(minutes=1)


def end_hanging_calls(sandbox: RunningSandbox, batch_id: int) -> None:
    """The provider finishes the recipients that are in progress."""
    batch = sandbox.sandbox.find_batch(batch_id)
    batch.finished["failed"] += batch.hanging


async def test_a_batch_that_the_provider_finishes_while_it_is_healed_is_not_shown_as_open(
    start_service: StartService, database: Database
) -> None:
    hours = Hours()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        sandbox.sandbox.faults.hang = 0.1
        watcher = Watcher(service, hours)
        watcher.batch_id = batch_id = await play(service, sandbox, drop=0.6, recipients=300)
        hanging = sandbox.sandbox.find_batch(batch_id).hanging

        async def finish(page: int) -> None:
            if page == 1:
                end_hanging_calls(sandbox, batch_id)

        watcher.after_page = finish
        async with open_reconciler_in(hours, database, sandbox, watcher.note) as reconciler:
            await reconciler.reconcile_due()
        assert len(watcher.seen) > 3
        assert watcher.seen[0]["verdict"] == "open"
        assert watcher.seen[0]["reconciliation"]["reasons"][1]["count"] == hanging
        for outcomes in watcher.seen[2:]:  # compared again after a minute
            assert outcomes["verdict"] == "settling"
            assert "in_progress" not in {reason["code"] for reason in outcomes["reconciliation"]["reasons"]}
        totals = [healing["total"] for each in watcher.seen if (healing := find_healing(each))]
        assert totals[2] == totals[0] + hanging  # more turned out to be missing


@pytest.mark.parametrize("drop", [0.3, 1.0])
async def test_done_and_total_are_the_recipients_that_the_figures_beside_them_lack(
    start_service: StartService, database: Database, drop: float
) -> None:
    hours = Hours()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        watcher = Watcher(service, hours)
        watcher.batch_id = batch_id = await play(service, sandbox, drop=drop, recipients=250)
        async with open_reconciler_in(hours, database, sandbox, watcher.note) as reconciler:
            await reconciler.reconcile_due()
        after = await read_outcomes(service, batch_id)
        assert after["verdict"] == "complete"
        assert (find_healing(after), len(watcher.seen) > 3) == (None, True)
        for outcomes in watcher.seen:
            healing = find_healing(outcomes)
            assert healing is not None
            # A healed call that may be retried waits here until the provider's figures say that it is final.
            lacking = after["recipients"]["processed"] - outcomes["recipients"]["processed"]
            assert healing["total"] - healing["done"] == lacking
            assert "expected_at" not in healing or datetime.fromisoformat(healing["expected_at"]) > hours.moment - (
                timedelta(minutes=2)
            )


async def test_outstanding_results_are_said_while_the_batch_is_healed_and_when_it_is_complete(
    start_service: StartService, database: Database
) -> None:
    hours = Hours()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        goal = {"results": {"intent": ["promise_to_pay"]}}
        assert (await service.put("/v1/agents/123/goal", json=goal)).status_code == 200
        watcher = Watcher(service, hours)
        watcher.batch_id = batch_id = await play(service, sandbox, drop=1.0, recipients=250)
        async with open_reconciler_in(hours, database, sandbox, watcher.note) as reconciler:
            await reconciler.reconcile_due()
            outstanding = [outcomes for outcomes in watcher.seen if outcomes["details_outstanding"]]
            outcomes = await read_outcomes(service, batch_id)
            for each in (*outstanding[1:], outcomes):
                assert datetime.fromisoformat(each["details_expected_at"]) > hours.moment - timedelta(hours=1)
            assert len(outstanding) > 1
            said = f"the results of {outcomes['details_outstanding']} calls are still being fetched (final about "
            assert outcomes["verdict"] == "complete"
            assert outcomes["verdict_text"].startswith("Final: ")
            assert said in outcomes["verdict_text"]
            assert outcomes["goal"]["note"].startswith(said[:1].upper() + said[1:].split(" (", maxsplit=1)[0])
            assert await database.pool.fetchval("SELECT verdict_text FROM bi.batches") == outcomes["verdict_text"]
            while await reconciler.reconcile_due():
                pass
        outcomes = await read_outcomes(service, batch_id)
        assert (outcomes["goal"]["note"], "being fetched" in outcomes["verdict_text"]) == (None, False)


async def test_calls_that_earlier_healings_added_stay_counted(start_service: StartService, database: Database) -> None:
    hours = Hours()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.5, recipients=50)
        # No conversation explains that, so it stays drifted and is healed again.
        sandbox.sandbox.find_batch(batch_id).finished["busy"] += 1
        async with open_reconciler_in(hours, database, sandbox) as reconciler:
            seen = []
            for _ in range(3):
                await reconciler.reconcile_now(batch_id)
                outcomes = await read_outcomes(service, batch_id)
                assert outcomes["verdict"] == "drifted"
                seen += [r["count"] for r in outcomes["reconciliation"]["reasons"] if r["code"] == "healed"]
                hours.moment += timedelta(hours=7)
                await reconciler.reconcile_due()
        assert seen[0] > 0
        assert seen == [seen[0]] * 3


async def test_fetching_details_does_not_make_a_drifted_batch_settle_again(
    start_service: StartService, database: Database
) -> None:
    """Neither does it count as movement of a batch that stands still."""
    hours = Hours()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.5, recipients=50)
        sandbox.sandbox.find_batch(batch_id).finished["busy"] += 1
        verdicts = []
        async with open_reconciler_in(hours, database, sandbox, grace_seconds=900) as reconciler:
            while await reconciler.reconcile_due():
                verdicts.append((await read_outcomes(service, batch_id))["verdict"])
            for _ in range(6):
                # As if events were received by the reconciler's clock.
                await database.pool.execute("UPDATE batch_activity SET last_event_at = $1", hours.moment)
                hours.moment += timedelta(minutes=11)
                while await reconciler.reconcile_due():
                    verdicts.append((await read_outcomes(service, batch_id))["verdict"])
        assert (await read_outcomes(service, batch_id))["details_outstanding"] == 0
        assert "drifted" in verdicts
        assert set(verdicts[verdicts.index("drifted") :]) == {"drifted"}
