"""What webhooks lose, healing brings: afterwards each recipient is what the provider says, and nothing counts twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.formant.client import open_http
from service.reconciliation.budget import Budget
from service.reconciliation.healer import Healer
from service.reconciliation.reconciler import Reconciler
from service.reconciliation.schedule import LEASE_SECONDS
from service.sandbox import RunningSandbox, Sandbox, sample_contacts
from service.sandbox.calls import Call, draw_call
from service.sandbox.events import EventWriter
from service.sandbox.records import Attempt
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import post_webhook
from tests.guarantees.recount import find_differences
from tests.http.provider import KEY, connect_provider, upload

RECIPIENTS = 150
ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}  # the service leaves it to the test


def now() -> datetime:
    return datetime.now(UTC)


class Hours:
    """Time that passes only while somebody sleeps: for the reconciler, its budget, and the provider's rate limit."""

    def __init__(self) -> None:
        self.moment = now()

    def now(self) -> datetime:
        return self.moment

    def timestamp(self) -> float:
        return self.moment.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def open_reconciler_in(
    hours: Hours, database: Database, sandbox: RunningSandbox, hook: Callable[[Any], Awaitable[None]] | None = None
) -> AsyncIterator[Reconciler]:
    """A replica's reconciler that never really waits; ``hook`` is called with each answer of the provider."""
    sandbox.sandbox.real_time = hours.timestamp
    metrics = Metrics()
    writer = Writer(database.url, database.queries, metrics)

    async def forget_date(answer: httpx.Response) -> None:
        answer.headers.pop("date", None)  # the server's clock is another one

    try:
        async with open_http(sandbox.base_url, KEY) as http:
            http.event_hooks["response"] = [forget_date, *([] if hook is None else [hook])]
            budget = Budget(database, "sandbox", now=hours.now, sleep=hours.sleep)
            yield Reconciler(
                database, http, metrics, budget, budget, Healer(database, writer, metrics, hours.now),
                grace_seconds=0, interval_seconds=30, now=hours.now,
            )  # fmt: skip
    finally:
        writer.close()


@asynccontextmanager
async def open_reconciler(
    database: Database, sandbox: RunningSandbox, *, clock: Callable[[], datetime] = now, grace_seconds: float = 900,
    metrics: Metrics | None = None,
) -> AsyncIterator[Reconciler]:  # fmt: skip
    """A replica's reconciler, which does nothing until it is asked to."""
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


async def play(
    service: httpx.AsyncClient,
    sandbox: RunningSandbox,
    *,
    drop: float = 0.3,
    recipients: int = RECIPIENTS,
    seed: int = 3,
) -> int:
    """A batch from its upload to its last call, with a share of the webhooks lost; returns its id."""
    sandbox.sandbox.faults.drop = drop
    answer = await upload(service, sample_contacts(recipients, seed=seed), force="true")
    batch_id: int = answer.json()["data"]["id"]
    async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=60) as witness:
        answer = await witness.get("/sandbox/wait", params={"batch_id": batch_id, "timeout": 50})
        assert answer.json()["data"]["done"]
    return batch_id


async def read_truth(sandbox: RunningSandbox, batch_id: int) -> list[dict[str, Any]]:
    """What really became of each recipient, by row."""
    async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=60) as witness:
        answer = await witness.get(f"/sandbox/batches/{batch_id}/recipients", params={"limit": 10_000})
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def assert_healed(database: Database, sandbox: RunningSandbox, batch_id: int, *, is_whole: bool = True) -> None:
    """Each recipient's state and attempts are the provider's, and a recount finds every counter right."""
    truth = {row["row"] + 1: (row["state"], len(row["attempts"])) for row in await read_truth(sandbox, batch_id)}
    rows = await database.pool.fetch(
        "SELECT o.recipient_no, o.state, o.attempts FROM outcomes AS o JOIN batches AS b USING (batch_key) "
        "WHERE b.batch_id = $1",
        batch_id,
    )
    ours = {row["recipient_no"]: (row["state"], row["attempts"]) for row in rows}
    assert ours == truth if is_whole else {n: s for n, (s, _) in ours.items()} == {n: s for n, (s, _) in truth.items()}
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def read_outcomes(service: httpx.AsyncClient, batch_id: int) -> dict[str, Any]:
    data: dict[str, Any] = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
    return data


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


async def test_webhooks_that_come_after_their_calls_were_healed_count_nothing_twice(
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


async def write_all_webhooks(sandbox: RunningSandbox, batch_id: int) -> list[bytes]:
    """The bodies of all webhooks of a batch, those that were lost among them."""
    playing = sandbox.sandbox
    writer = EventWriter(playing.options, playing.seed)
    return [
        writer.write(attempt, recall(playing, attempt), playing.options.targets[0])
        for attempts in playing.records.batches[batch_id].attempts.values()
        for attempt in attempts
    ]


def recall(playing: Sandbox, attempt: Attempt) -> Call:
    """How an attempt went."""
    share = playing.options.completed_share
    return draw_call(playing.seed, attempt.batch.ordinal, attempt.row, attempt.number, completed_share=share)


async def test_a_healing_whose_worker_died_is_taken_up_where_it_stopped_once_the_lease_has_run_out(
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
            assert (await read_outcomes(service, batch_id))["verdict"] == "unverified"
            assert not await second.reconcile_due()
            assert await third.reconcile_due()
        assert (await read_outcomes(service, batch_id))["verdict"] == "complete"
        await assert_healed(database, sandbox, batch_id)


async def wait_until(database: Database, question: str, *, seconds: float = 30) -> None:
    """Waits for the database to say true."""
    await eventually(lambda: database.pool.fetchval(question))


async def test_two_replicas_that_heal_at_once_count_nothing_twice(
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


async def test_the_loop_waits_for_grace_and_then_heals_by_itself(
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


async def test_the_service_heals_by_itself_without_being_asked(start_service: StartService, database: Database) -> None:
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


async def test_what_healing_cannot_explain_is_told_with_the_recipients_it_lies_in(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=20, drop=0)
        batch = sandbox.sandbox.records.batches[batch_id]
        del batch.attempts[4]  # the provider forgets a call, and counts it no more
        for shown in (sandbox.sandbox.records._all, sandbox.sandbox.records._by_agent[123]):
            shown[:] = [attempt for attempt in shown if attempt.row != 4]
        status = await database.pool.fetchval("SELECT state FROM outcomes WHERE recipient_no = 5")
        batch.finished[status] -= 1
        batch.finished["unreachable" if status != "unreachable" else "busy"] += 1
        data = (await service.post(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]
        assert data["verdict"] == "drifted"
        assert {"code": "healed", "count": 0} in data["reasons"]
        assert {"code": "calls_unknown_there", "recipients": [5]} in data["reasons"]
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
        )  # fmt: skip
        assert kept is False
        assert await database.pool.fetchrow("SELECT * FROM batch_schedules") == before
