"""Reconciliation with many faults at once still completes, within the provider's limits."""

import itertools
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx

from service.reconciliation.schedule import LEASE_SECONDS
from service.sandbox import (
    Faults,
    RunningSandbox,
    SandboxOptions,
    SteppedClock,
    WebhookTarget,
    sample_contacts,
    serve_sandbox,
)
from service.store.database import Database
from tests.conftest import SECRET, StartService
from tests.guarantees.healing import Hours, assert_healed, open_reconciler_in, play, read_outcomes, wait_until
from tests.processes import serve
from tests.provider import KEY, connect_provider, find_free_port, upload

BY_HAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}
CONTRACT: dict[str, Any] = {"rate_limit": 50}
OTHER_KEY = "another-callers-key"
BY_ITSELF: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "1", "OUTCOMES_GRACE_SECONDS": "0"}
ALL_COMPLETE = "SELECT bool_and(verdict = 'complete') FROM batch_schedules HAVING count(*) = {count}"


Hook = Callable[[httpx.Response], Awaitable[None]]


async def reconcile_until_complete(
    database: Database, sandbox: RunningSandbox, batch_id: int, *, hook: Hook | None = None, is_whole: bool = True
) -> None:
    """Runs the loop without really waiting, and asserts that each recipient is then as the provider has it and that no
    call exceeded its limit. ``is_whole``: no walk is cut off, so earlier attempts are found too."""
    hours = Hours()
    async with open_reconciler_in(hours, database, sandbox, hook) as reconciler:
        for _ in range(200):
            await reconciler.reconcile_due()
            if await database.pool.fetchval(
                "SELECT bool_and(verdict = 'complete') AND NOT EXISTS (SELECT FROM outstanding_details) "
                "FROM batch_schedules"
            ):
                break
            await hours.sleep(31)
    assert await database.pool.fetchval("SELECT verdict FROM batch_schedules") == "complete"
    assert not await database.pool.fetchval("SELECT count(*) FROM outstanding_details")
    await assert_healed(database, sandbox, batch_id, is_whole=is_whole)
    assert_within_limit(sandbox)


def assert_within_limit(sandbox: RunningSandbox) -> None:
    """Asserts by the provider's own count that no call exceeded its limit."""
    made = sandbox.sandbox.journal.api
    assert (made["within_limit"] > 0, made["over_limit"]) == (True, 0)


async def test_a_third_of_all_webhooks_lost_at_random_is_healed_within_the_limit(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, options=CONTRACT, **BY_HAND) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=120)
        assert sandbox.sandbox.journal.deliveries["dropped"] > 30
        await reconcile_until_complete(database, sandbox, batch_id)
        assert sandbox.sandbox.journal.api["within_limit"] > 50


async def test_an_outage_that_outlasts_the_last_delivery_is_healed(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, options=CONTRACT, **BY_HAND) as (service, sandbox):
        sandbox.sandbox.faults.outage = (60.0, 3600.0)  # for an hour, from the first minute on
        batch_id = await play(service, sandbox, drop=0.0, recipients=100)
        assert sandbox.sandbox.journal.deliveries["given_up"] > 50
        before = await read_outcomes(service, batch_id)
        assert before["recipients"]["processed"] < 100
        await reconcile_until_complete(database, sandbox, batch_id)


async def test_a_service_killed_while_healing_continues_after_its_restart(
    database_url: str, database: Database
) -> None:
    port = find_free_port()
    target = WebhookTarget(url=f"http://127.0.0.1:{port}/webhooks/formant", secret=SECRET)
    options = SandboxOptions(api_keys=(KEY,), targets=(target,), seed=1, rate_limit=400, first_batch_id=456)
    faults = Faults(drop=0.5)
    async with serve_sandbox(options, port=0, faults=faults, clock=SteppedClock(time.time() - 86_400)) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_PORT": str(port), "FORMANT_API_KEY": KEY,
            "FORMANT_BASE_URL": sandbox.base_url, **BY_ITSELF,
        }  # fmt: skip
        async with serve(**settings) as serving:
            assert (await upload(serving.client, sample_contacts(150, seed=2))).status_code == 200
            await wait_until(database, "SELECT count(*) > 20 FROM facts WHERE source = 'healed'", seconds=60)
            serving.process.kill()
            await serving.process.wait()
        await sandbox.sandbox.wait_until_done(456)
        assert await database.pool.fetchval("SELECT verdict FROM batch_schedules") != "complete"
        # A service would wait no longer than that; the test does not wait at all.
        ahead = await database.pool.fetchval("SELECT max(leased_until) - clock_timestamp() FROM batch_schedules")
        assert ahead <= timedelta(seconds=LEASE_SECONDS)
        await database.pool.execute("UPDATE batch_schedules SET leased_until = now()")
        async with serve(**settings) as again:
            await wait_until(database, ALL_COMPLETE.format(count=1), seconds=60)
            assert await again.end(signal.SIGTERM) == 0
        await assert_healed(database, sandbox, 456, is_whole=False)
        assert_within_limit(sandbox)


async def test_two_replicas_reconcile_fifty_batches_within_the_providers_limit(
    start_service: StartService, database: Database
) -> None:
    options: dict[str, Any] = {"rate_limit": 400, "rate_window_real_seconds": 1.0}
    async with connect_provider(start_service, plays=True, options=options, **BY_ITSELF) as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.3
        provider: dict[str, Any] = {"FORMANT_BASE_URL": sandbox.base_url, "FORMANT_API_KEY": KEY}
        async with start_service(**provider, **BY_ITSELF):
            batches = []
            for number in range(50):
                contacts = sample_contacts(4, seed=number)
                answer = await upload(service, contacts, agent_id=str(200 + number % 10), name=f"Batch {number}")
                batches.append(answer.json()["data"]["id"])
            for batch_id in batches:
                await sandbox.sandbox.wait_until_done(batch_id)
            await wait_until(database, ALL_COMPLETE.format(count=50), seconds=90)
        for batch_id in batches:
            await assert_healed(database, sandbox, batch_id, is_whole=False)
        assert_within_limit(sandbox)


async def test_a_provider_that_fails_two_thirds_of_the_time_is_still_read(
    start_service: StartService, database: Database
) -> None:
    answers: Counter[int] = Counter()

    async def count(answer: httpx.Response) -> None:
        answers[answer.status_code] += 1

    async with connect_provider(start_service, plays=True, options=CONTRACT, **BY_HAND) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.4, recipients=20)
        sandbox.sandbox.faults.api_500 = sandbox.sandbox.faults.api_429 = 1 / 3
        await reconcile_until_complete(database, sandbox, batch_id, hook=count, is_whole=False)
        assert answers[500] > 10 < answers[429]


async def test_pages_that_shift_during_reading_hide_nothing(start_service: StartService, database: Database) -> None:
    options = {**CONTRACT, "api_keys": (KEY, OTHER_KEY)}
    async with connect_provider(start_service, plays=True, options=options, **BY_HAND) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=200)
        total = len(sandbox.sandbox.records._by_agent[123])
        sandbox.sandbox.faults.drop = 0.0
        pages = itertools.count()

        async def shift(answer: httpx.Response) -> None:
            """After each page, adds calls of the same agent in front of those already read."""
            if answer.url.path == "/v1/conversations" and (number := next(pages)) < 6:
                await call_others(sandbox, number)

        await reconcile_until_complete(database, sandbox, batch_id, hook=shift)
        assert next(pages) > 6
        assert len(sandbox.sandbox.records._by_agent[123]) > total + 6 * 30


async def call_others(sandbox: RunningSandbox, number: int) -> None:
    """Plays a batch of the same agent, made by another caller for other people, to its end."""
    headers = {"authorization": f"Bearer {OTHER_KEY}"}
    async with httpx.AsyncClient(base_url=sandbox.base_url, headers=headers) as provider:
        answer = await provider.post(
            "/v1/batch-call",
            data={"agent_id": "123", "name": f"Other {number}"},
            files={"file": ("c.csv", sample_contacts(30, seed=100 + number), "text/csv")},
        )
    await sandbox.sandbox.wait_until_done(answer.json()["data"]["id"])
