"""The lease on a batch that is being compared: renewed while its worker lives, free soon after it was killed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.errors import UnavailableError
from service.reconciliation.budget import Budget
from service.reconciliation.healer import Healer
from service.reconciliation.reconciler import Reconciler
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.eventually import eventually
from tests.factories import BATCH_ID, store_batch

SHORT = 0.3


def now() -> datetime:
    return datetime.now(UTC)


class SlowProvider:
    """Answers nothing until it may; says then that it does not know the batch."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Event()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.set()
        await self.may_answer.wait()
        return httpx.Response(404)


@asynccontextmanager
async def open_worker(
    database: Database, provider: SlowProvider, clock: Callable[[], datetime] = now, lease_seconds: float = SHORT
) -> AsyncIterator[Reconciler]:
    metrics = Metrics()
    writer = Writer(database.url, database.queries, metrics)
    transport = httpx.MockTransport(provider.answer)
    budget = Budget(database, "account")
    try:
        async with httpx.AsyncClient(transport=transport, base_url="https://provider.test") as http:
            yield Reconciler(
                database, http, metrics, budget, budget, Healer(database, writer, metrics, clock),
                grace_seconds=0, interval_seconds=30, lease_seconds=lease_seconds, now=clock,
            )  # fmt: skip
    finally:
        writer.close()


async def read_lease(database: Database) -> datetime:
    until: datetime = await database.pool.fetchval("SELECT leased_until FROM batch_schedules")
    return until


async def wait_for_renewals(database: Database, count: int) -> None:
    until = {await read_lease(database)}
    for _ in range(count):
        until.add(await eventually(lambda: read_lease(database), lambda renewed: renewed not in until))


async def test_a_worker_that_waits_for_longer_than_its_lease_keeps_the_batch(database: Database) -> None:
    await store_batch(database.url)
    provider = SlowProvider()
    async with open_worker(database, provider) as first, open_worker(database, provider) as second:
        working = asyncio.create_task(first.reconcile_due())
        await provider.asked.wait()
        await wait_for_renewals(database, 4)
        assert not await second.reconcile_due()
        assert not working.done()
        provider.may_answer.set()
        assert await working


async def test_another_takes_a_killed_workers_batch_once_its_lease_is_over(database: Database) -> None:
    await store_batch(database.url)
    provider, moment = SlowProvider(), now()
    async with (
        open_worker(database, provider, lambda: moment, 30.0) as killed,
        open_worker(database, provider, lambda: moment + timedelta(seconds=29), 30.0) as early,
        open_worker(database, provider, lambda: moment + timedelta(seconds=31), 30.0) as late,
    ):
        working = asyncio.create_task(killed.reconcile_due())
        await provider.asked.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert not await early.reconcile_due()
        provider.may_answer.set()
        assert await late.reconcile_due()


async def test_work_on_a_batch_that_was_taken_over_stops_and_writes_nothing(database: Database) -> None:
    await store_batch(database.url)
    provider = SlowProvider()
    async with open_worker(database, provider) as worker:
        working = asyncio.create_task(worker.reconcile_now(BATCH_ID))
        await provider.asked.wait()
        await database.pool.execute("UPDATE batch_schedules SET fence = fence + 1, holder = 'another'")
        with pytest.raises(UnavailableError):
            await working
    assert await database.pool.fetchval("SELECT holder FROM batch_schedules") == "another"


async def test_a_failure_of_one_batch_is_its_own(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await store_batch(database.url)
    await store_batch(database.url, batch_id=BATCH_ID + 1, ref_token="other", first_phone=100)
    provider = SlowProvider()
    provider.may_answer.set()
    compared: list[int] = []

    async def fail(comparer: object, client: object, lease: object) -> None:
        compared.append(lease.batch_id)  # type: ignore[attr-defined]
        raise TypeError("odd")

    monkeypatch.setattr("service.reconciliation.comparison.Comparer.compare", fail)
    async with open_worker(database, provider) as worker:
        while await worker.reconcile_due():
            pass
    assert sorted(compared) == [BATCH_ID, BATCH_ID + 1]
