"""Healing takes two steps: the figures agree after pages of the list alone, and the details of each call follow."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.reconciliation.details import READ_AGAIN
from service.sandbox import RunningSandbox
from service.sandbox.calls import Call
from service.sandbox.dialler import Dialler
from service.sandbox.records import Attempt
from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import post_webhook
from tests.guarantees.healing import (
    Hours,
    assert_healed,
    open_reconciler_in,
    play,
    read_outcomes,
    write_all_webhooks,
)
from tests.provider import connect_provider

ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}  # the test reconciles instead of the service


class Requests:
    """The provider's answers: how many pages and which conversations were asked for, in order."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.pages = 0
        self.conversations: list[str] = []
        self.is_stopped = asyncio.Event()
        self._stop_at = stop_at

    async def note(self, answer: httpx.Response) -> None:
        path = answer.request.url.path
        if path == "/v1/conversations":
            self.pages += 1
        elif path.startswith("/v1/conversations/"):
            if len(self.conversations) == self._stop_at:
                self.is_stopped.set()
                await asyncio.Event().wait()  # as if its process had been stopped
            self.conversations.append(path.rpartition("/")[2])


def count_results(sandbox: RunningSandbox, batch_id: int) -> Counter[str]:
    """The intents of the calls that decide the recipients' outcomes, as the provider knows them."""
    playing = sandbox.sandbox
    batch = playing.records.batches[batch_id]
    latest = [attempts[-1] for attempts in batch.attempts.values() if attempts[-1].status == "completed"]
    return Counter(playing.writer.draw_results(attempt)["intent"] for attempt in latest)


def shown_results(outcomes: dict[str, Any]) -> Counter[str]:
    return Counter(outcomes["results"].get("intent", {"values": {}})["values"])


async def read_feed(service: httpx.AsyncClient, after: int = 0) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    while True:
        page = (await service.get("/v1/feed", params={"after": after, "limit": 500})).json()
        entries += page["data"]
        if not page["has_more"]:
            return entries
        after = page["next"]


async def test_the_figures_agree_after_pages_alone_and_results_follow_completed_calls_first(
    start_service: StartService, database: Database
) -> None:
    hours, requests = Hours(), Requests()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.5)
        statuses = {
            attempt.conversation_id: attempt.status
            for attempts in sandbox.sandbox.records.batches[batch_id].attempts.values()
            for attempt in attempts
        }
        async with open_reconciler_in(hours, database, sandbox, requests.note) as reconciler:
            assert await reconciler.reconcile_due()
            assert (requests.conversations, requests.pages < 10) == ([], True)
            await assert_healed(database, sandbox, batch_id)
            outcomes = await read_outcomes(service, batch_id)
            assert (outcomes["verdict"], outcomes["details_outstanding"]) == ("complete", outcomes_of_healed(outcomes))
            assert datetime.fromisoformat(outcomes["details_expected_at"]) > hours.now()
            assert shown_results(outcomes).total() < count_results(sandbox, batch_id).total()
            entry = (await service.get(f"/v1/batch-calls/{batch_id}/reconciliations")).json()["data"][0]
            assert entry["details_outstanding"] == outcomes["details_outstanding"]
            assert entry["details_expected_at"] == outcomes["details_expected_at"]
            position = (await read_feed(service))[-1]["position"]

            await reconcile_all(reconciler.reconcile_due)
        outcomes = await read_outcomes(service, batch_id)
        assert (outcomes["verdict"], outcomes["details_outstanding"], outcomes["details_expected_at"]) == (
            "complete", 0, None,
        )  # fmt: skip
        assert shown_results(outcomes) == count_results(sandbox, batch_id)
        is_completed = [statuses[conversation] == "completed" for conversation in requests.conversations]
        assert is_completed == sorted(is_completed, reverse=True)
        assert len(set(requests.conversations)) == len(requests.conversations)
        again = [entry for entry in await read_feed(service, position) if entry["state"] == "completed"]
        assert again
        assert all(entry["results"]["intent"] for entry in again)
        (entry,) = (await service.get(f"/v1/batch-calls/{batch_id}/reconciliations", params={"limit": 1})).json()[
            "data"
        ]
        assert entry["details_outstanding"] == 0
        await assert_healed(database, sandbox, batch_id)


def outcomes_of_healed(outcomes: dict[str, Any]) -> int:
    """All attempts here are the only ones of their conversations, so each healed one has details of its own."""
    healed: int = outcomes["reconciliation"]["healed"]
    return healed


async def test_another_replica_fetches_the_details_that_a_killed_one_has_left(
    start_service: StartService, database: Database
) -> None:
    hours, stopped, rest = Hours(), Requests(stop_at=10), Requests()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.5, recipients=60)
        async with (
            open_reconciler_in(hours, database, sandbox, stopped.note) as killed,
            open_reconciler_in(hours, database, sandbox, rest.note) as other,
        ):
            assert await killed.reconcile_due()
            task = asyncio.create_task(killed.reconcile_due())
            await stopped.is_stopped.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            left = (await read_outcomes(service, batch_id))["details_outstanding"]
            assert left > 0
            hours.moment += timedelta(minutes=1)
            await reconcile_all(other.reconcile_due)
        assert not set(stopped.conversations) & set(rest.conversations)
        assert len(rest.conversations) == left
        outcomes = await read_outcomes(service, batch_id)
        assert (outcomes["details_outstanding"], shown_results(outcomes)) == (0, count_results(sandbox, batch_id))
        await assert_healed(database, sandbox, batch_id)


async def test_the_details_of_a_call_are_not_fetched_once_its_webhook_has_come(
    start_service: StartService, database: Database
) -> None:
    hours, requests = Hours(), Requests()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.5, recipients=40)
        async with open_reconciler_in(hours, database, sandbox, requests.note) as reconciler:
            assert await reconciler.reconcile_due()
            assert (await read_outcomes(service, batch_id))["details_outstanding"] > 0
            for body in await write_all_webhooks(sandbox, batch_id):
                await post_webhook(service, body)
            assert (await read_outcomes(service, batch_id))["details_outstanding"] == 0
            await reconcile_all(reconciler.reconcile_due)
        assert requests.conversations == []
        await assert_healed(database, sandbox, batch_id)


async def test_nothing_is_fetched_of_a_person_who_has_been_erased(
    start_service: StartService, database: Database
) -> None:
    hours, requests = Hours(), Requests()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=1.0, recipients=5)
        async with open_reconciler_in(hours, database, sandbox, requests.note) as reconciler:
            assert await reconciler.reconcile_due()
            phone = await database.pool.fetchval("SELECT phone FROM recipients WHERE recipient_no = 1")
            erased = {attempt.conversation_id for attempt in sandbox.sandbox.records.batches[batch_id].attempts[0]}
            assert (await service.post("/v1/erasures", json={"phone": phone})).status_code in (200, 202)
            await eventually(
                lambda: database.pool.fetchval("SELECT phone IS NULL FROM recipients WHERE recipient_no = 1")
            )
            await reconcile_all(reconciler.reconcile_due)
        assert requests.conversations
        assert not erased & set(requests.conversations)
        assert (await read_outcomes(service, batch_id))["details_outstanding"] == 0


async def test_a_completed_call_without_results_is_read_once_more_later(
    start_service: StartService, database: Database
) -> None:
    hours, requests = Hours(), Requests()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, options={"completed_share": 1.0}, **ON_DEMAND) as (
        service, sandbox,
    ):  # fmt: skip
        batch_id = await play(service, sandbox, drop=1.0, recipients=5)
        sandbox.sandbox.faults.no_results = True
        async with open_reconciler_in(hours, database, sandbox, requests.note) as reconciler:
            await reconcile_all(reconciler.reconcile_due)
            outcomes = await read_outcomes(service, batch_id)
            assert (len(requests.conversations), outcomes["details_outstanding"], outcomes["results"]) == (5, 5, {})
            assert datetime.fromisoformat(outcomes["details_expected_at"]) >= hours.now() + READ_AGAIN
            hours.moment += READ_AGAIN / 2
            await reconcile_all(reconciler.reconcile_due)
            assert len(requests.conversations) == 5
            sandbox.sandbox.faults.no_results = False
            hours.moment += READ_AGAIN
            await reconcile_all(reconciler.reconcile_due)
        outcomes = await read_outcomes(service, batch_id)
        assert (len(requests.conversations), outcomes["details_outstanding"]) == (10, 0)
        assert shown_results(outcomes) == count_results(sandbox, batch_id)


async def test_results_that_never_come_are_asked_for_twice_and_no_more(
    start_service: StartService, database: Database
) -> None:
    hours, requests = Hours(), Requests()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, options={"completed_share": 1.0}, **ON_DEMAND) as (
        service, sandbox,
    ):  # fmt: skip
        batch_id = await play(service, sandbox, drop=1.0, recipients=3)
        sandbox.sandbox.faults.no_results = True
        async with open_reconciler_in(hours, database, sandbox, requests.note) as reconciler:
            for _ in range(4):
                await reconcile_all(reconciler.reconcile_due)
                hours.moment += 2 * READ_AGAIN
        assert len(requests.conversations) == 6
        assert (await read_outcomes(service, batch_id))["details_outstanding"] == 0


@pytest.mark.parametrize("is_completed", [True, False])
async def test_the_trace_of_a_healed_call_is_kept_though_it_has_neither_results_nor_a_reason(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch, is_completed: bool
) -> None:
    hours, requests = Hours(), Requests()
    hours.moment += timedelta(days=1)
    options = {"completed_share": float(is_completed), "max_attempts": 1}
    monkeypatch.setattr("service.sandbox.dialler.Dialler.recall", forget_reason(Dialler.recall))
    async with connect_provider(start_service, plays=True, options=options, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=1.0, recipients=8)
        sandbox.sandbox.faults.no_results = True
        async with open_reconciler_in(hours, database, sandbox, requests.note) as reconciler:
            await reconcile_all(reconciler.reconcile_due)
            hours.moment += 2 * READ_AGAIN
            await reconcile_all(reconciler.reconcile_due)
        rows = (await service.get(f"/v1/batch-calls/{batch_id}/recipients")).json()["data"]
        writer = sandbox.sandbox.writer
        attempts = sandbox.sandbox.records.batches[batch_id].attempts
        assert [row["trace_id"] for row in rows] == [
            writer.name_trace(attempts[row["recipient"] - 1][-1]) for row in rows
        ]
        assert {row["failure_reason"] for row in rows} == {None}
        assert len(requests.conversations) == 8 * (2 if is_completed else 1)  # and no more
        assert (await read_outcomes(service, batch_id))["details_outstanding"] == 0
        await assert_healed(database, sandbox, batch_id)


def forget_reason(recall: Callable[[Dialler, Attempt], Call]) -> Callable[[Dialler, Attempt], Call]:
    """The provider's record of a call, without why it failed."""
    return lambda dialler, attempt: replace(recall(dialler, attempt), failure_reason=None)


async def reconcile_all(reconcile_due: Callable[[], Awaitable[bool]]) -> None:
    while await reconcile_due():
        pass


@pytest.mark.parametrize("results", [{}, None])
async def test_a_webhook_without_results_takes_known_ones_from_nobody(
    start_service: StartService, database: Database, results: dict[str, Any] | None
) -> None:
    hours = Hours()
    hours.moment += timedelta(days=1)
    async with connect_provider(start_service, plays=True, options={"completed_share": 1.0}, **ON_DEMAND) as (
        service, sandbox,
    ):  # fmt: skip
        batch_id = await play(service, sandbox, drop=1.0, recipients=5)
        async with open_reconciler_in(hours, database, sandbox) as reconciler:
            await reconcile_all(reconciler.reconcile_due)
        for body in await write_all_webhooks(sandbox, batch_id):
            payload = json.loads(body)
            payload["data"]["results"] = results
            assert (await post_webhook(service, payload)).status_code == 204
        outcomes = await read_outcomes(service, batch_id)
        assert shown_results(outcomes) == count_results(sandbox, batch_id)
        assert outcomes["attempts"]["total"] == 5
        await assert_healed(database, sandbox, batch_id)
