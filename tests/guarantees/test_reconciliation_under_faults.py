"""Reconciliation where everything goes wrong at once: it still ends complete, and within the provider's limits."""

import asyncio
import signal
import time
from typing import Any

import httpx

from service.sandbox import Faults, RunningSandbox, SandboxOptions, SteppedClock, Target, sample_contacts, serve_sandbox
from service.store.database import Database
from tests.conftest import SECRET, StartService
from tests.guarantees.test_lost_webhooks_are_healed import assert_healed, play, read_outcomes, wait_until
from tests.http.exposition import read_metric
from tests.http.processes import serve
from tests.http.provider import KEY, connect_provider, find_free_port, upload

ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "3600"}
BY_ITSELF: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "1", "OUTCOMES_GRACE_SECONDS": "0"}
ALL_COMPLETE = "SELECT bool_and(verdict = 'complete') FROM batch_schedules HAVING count(*) = {count}"


async def test_an_outage_that_outlasts_the_last_delivery_is_healed(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        sandbox.sandbox.faults.outage = (60.0, 3600.0)  # an hour from the first minute on
        batch_id = await play(service, sandbox, drop=0.0, recipients=100)
        assert sandbox.sandbox.journal.deliveries["given_up"] > 50
        before = await read_outcomes(service, batch_id)
        assert before["recipients"]["processed"] < 100
        answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        assert answer.json()["data"]["verdict"] == "complete"
        await assert_healed(database, sandbox, batch_id)


async def test_a_service_that_is_killed_while_healing_goes_on_with_it_after_its_restart(
    database_url: str, database: Database
) -> None:
    port = find_free_port()
    target = Target(url=f"http://127.0.0.1:{port}/webhooks/formant", secret=SECRET)
    options = SandboxOptions(api_keys=(KEY,), targets=(target,), seed=1, rate_limit=10_000, first_batch_id=456)
    faults = Faults(drop=0.5)
    async with serve_sandbox(options, port=0, faults=faults, clock=SteppedClock(time.time() - 86_400)) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_PORT": str(port), "FORMANT_API_KEY": KEY,
            "FORMANT_BASE_URL": sandbox.base_url, **BY_ITSELF,
        }  # fmt: skip
        async with serve(**settings) as serving:
            assert (await upload(serving.client, sample_contacts(300, seed=2))).status_code == 200
            await wait_until(database, "SELECT count(*) > 20 FROM facts WHERE source = 'healed'")
            serving.process.kill()
            await serving.process.wait()
        await sandbox.sandbox.wait_until_done(456)
        assert await database.pool.fetchval("SELECT verdict FROM batch_schedules") != "complete"
        await database.pool.execute("UPDATE batch_schedules SET leased_until = now()")
        async with serve(**settings) as again:
            await wait_until(database, ALL_COMPLETE.format(count=1))
            assert await again.end(signal.SIGTERM) == 0
        await assert_healed(database, sandbox, 456, is_whole=False)


async def test_two_replicas_reconcile_fifty_batches_within_the_providers_limit(
    start_service: StartService, database: Database
) -> None:
    options: dict[str, Any] = {"rate_limit": 400, "rate_window_real_seconds": 1.0}
    async with connect_provider(start_service, plays=True, options=options, **BY_ITSELF) as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.3
        provider: dict[str, Any] = {"FORMANT_BASE_URL": sandbox.base_url, "FORMANT_API_KEY": KEY}
        async with start_service(**provider, **BY_ITSELF) as replica:
            batches = []
            for number in range(50):
                contacts = sample_contacts(4, seed=number)
                answer = await upload(service, contacts, agent_id=str(200 + number % 10), name=f"Batch {number}")
                batches.append(answer.json()["data"]["id"])
            for batch_id in batches:
                await sandbox.sandbox.wait_until_done(batch_id)
            await wait_until(database, ALL_COMPLETE.format(count=50))
            refused = [await count_calls(each, "429") for each in (service, replica)]
        for batch_id in batches:
            await assert_healed(database, sandbox, batch_id, is_whole=False)
        assert refused == [0, 0]


async def count_calls(service: httpx.AsyncClient, status: str) -> float:
    """Calls to the provider that were answered so."""
    text = (await service.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("outcomes_provider_calls_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'status="{status}"' in line)


async def test_a_provider_that_fails_two_thirds_of_the_time_is_read_all_the_same(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **BY_ITSELF) as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.4
        assert (await upload(service, sample_contacts(8, seed=5))).status_code == 200
        sandbox.sandbox.faults.api_500 = sandbox.sandbox.faults.api_429 = 1 / 3
        await sandbox.sandbox.wait_until_done(456)
        await wait_until(database, ALL_COMPLETE.format(count=1), seconds=90)
        assert await read_metric(service, "outcomes_provider_calls_total", operation="get_metrics", status="200") >= 1
        assert await count_calls(service, "500") > 0
        await assert_healed(database, sandbox, 456, is_whole=False)


async def test_pages_that_shift_while_they_are_read_hide_nothing(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=200)
        sandbox.sandbox.faults.drop = 0.0
        shifting = asyncio.create_task(keep_calling(service, sandbox))
        answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        shifting.cancel()
        assert answer.json()["data"]["verdict"] == "complete"
        await assert_healed(database, sandbox, batch_id)


async def keep_calling(service: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    """More and more calls of the same agent, to other people."""
    for number in range(1000):
        assert (
            await upload(service, sample_contacts(30, seed=100 + number), name=f"Other {number}")
        ).status_code == 200
        await asyncio.sleep(0)
