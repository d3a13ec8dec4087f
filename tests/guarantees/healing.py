"""A provider whose webhooks are lost, and time that passes instantly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from service.formant.client import open_http
from service.reconciliation.budget import Budget
from service.reconciliation.healer import Healer
from service.reconciliation.reconciler import Reconciler
from service.sandbox import RunningSandbox, Sandbox, sample_contacts
from service.sandbox.calls import Call, draw_call
from service.sandbox.events import EventWriter
from service.sandbox.records import Attempt
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.eventually import eventually
from tests.guarantees.recount import find_differences
from tests.provider import KEY, upload

RECIPIENTS = 150


def now() -> datetime:
    return datetime.now(UTC)


class Hours:
    """A clock that advances only by sleeping: for the reconciler, its budget and the provider's rate limit."""

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
    hours: Hours,
    database: Database,
    sandbox: RunningSandbox,
    hook: Callable[[Any], Awaitable[None]] | None = None,
    *,
    grace_seconds: float = 0,
) -> AsyncIterator[Reconciler]:
    """Opens a replica's reconciler that never really waits; calls ``hook`` with each answer of the provider."""
    sandbox.sandbox.real_time = hours.timestamp
    metrics = Metrics()
    writer = Writer(database.url, database.queries, metrics)

    async def forget_date(answer: httpx.Response) -> None:
        answer.headers.pop("date", None)  # the server uses another clock

    try:
        async with open_http(sandbox.base_url, KEY) as http:
            http.event_hooks["response"] = [forget_date, *([] if hook is None else [hook])]
            budget = Budget(database, "sandbox", now=hours.now, sleep=hours.sleep)
            yield Reconciler(
                database, http, metrics, budget, budget, Healer(database, writer, metrics, hours.now),
                grace_seconds=grace_seconds, interval_seconds=30, now=hours.now,
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
    """Plays a batch from its upload to its last call, losing a share of the webhooks; returns its id."""
    sandbox.sandbox.faults.drop = drop
    answer = await upload(service, sample_contacts(recipients, seed=seed), force="true")
    batch_id: int = answer.json()["data"]["id"]
    async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=60) as witness:
        answer = await witness.get("/sandbox/wait", params={"batch_id": batch_id, "timeout": 50})
        assert answer.json()["data"]["done"]
    return batch_id


async def read_truth(sandbox: RunningSandbox, batch_id: int) -> list[dict[str, Any]]:
    """The true result of each recipient, in the order of the rows."""
    async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=60) as witness:
        answer = await witness.get(f"/sandbox/batches/{batch_id}/recipients", params={"limit": 10_000})
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def assert_healed(database: Database, sandbox: RunningSandbox, batch_id: int, *, is_whole: bool = True) -> None:
    """Asserts that each recipient's state and attempts are the provider's, and that counters equal a recount."""
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


async def write_all_webhooks(sandbox: RunningSandbox, batch_id: int) -> list[bytes]:
    """The bodies of all webhooks of a batch, including lost ones."""
    playing = sandbox.sandbox
    writer = EventWriter(playing.options, playing.seed)
    return [
        writer.write(attempt, recall(playing, attempt), playing.options.targets[0])
        for attempts in playing.records.batches[batch_id].attempts.values()
        for attempt in attempts
    ]


def recall(playing: Sandbox, attempt: Attempt) -> Call:
    """The call of an attempt."""
    share = playing.options.completed_share
    return draw_call(playing.seed, attempt.batch.ordinal, attempt.row, attempt.number, completed_share=share)


async def wait_until(database: Database, question: str, *, seconds: float = 30) -> None:
    """Waits until a query returns true."""
    await eventually(lambda: database.pool.fetchval(question), seconds=seconds)
