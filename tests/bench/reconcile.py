"""Reconciliation: what healing costs in calls to the provider, and how long a pass over quiet batches takes."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx

from service.app import prepare_schema
from service.formant.client import open_http
from service.formant.events import Event, EventDecoder
from service.reconciliation.budget import Budget
from service.reconciliation.healer import Healer
from service.reconciliation.reconciler import Reconciler
from service.sandbox import RunningSandbox, SandboxOptions, SteppedClock, WebhookTarget, serve_sandbox
from service.sandbox.events import EventWriter
from service.store.database import Database, load_queries, open_database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.bench.load import AGENT_ID
from tests.conftest import create_database
from tests.guarantees.healing import recall
from tests.postgres import PostgresServer

KEY = "bench-key"
CALLS_A_MINUTE = 40
"""The documented limit, less the share that background work leaves to others."""
GROUP = 500


class Clock:
    """The reconciler's clock, set by hand so that batches fall due."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC) + timedelta(days=1)

    def now(self) -> datetime:
        return self.moment


def make_contacts(count: int, first: int) -> tuple[str, list[str]]:
    """A CSV and its phones; ``first`` keeps the phones of different batches apart."""
    phones = [f"+91{7_000_000_000 + first + number}" for number in range(count)]
    return "customer_phone,loan_id\n" + "".join(f"{phone},LN\n" for phone in phones), phones


async def call(sandbox: RunningSandbox, content: str) -> int:
    """Uploads a batch to the provider and plays it to its end; returns its id."""
    async with httpx.AsyncClient(
        base_url=sandbox.base_url, headers={"authorization": f"Bearer {KEY}"}, timeout=600
    ) as http:
        form = {"agent_id": str(AGENT_ID), "name": "bench"}
        answer = await http.post("/v1/batch-call", data=form, files={"file": ("c.csv", content, "text/csv")})
    answer.raise_for_status()
    batch_id: int = answer.json()["data"]["id"]
    await sandbox.sandbox.wait_until_done(batch_id)
    return batch_id


async def store(database: Database, batch_id: int, phones: list[str], began_at: datetime) -> None:
    """Stores the batch as its upload would have left it."""
    await database.pool.execute(
        """
        WITH made AS (
            INSERT INTO batches (batch_id, agent_id, name, upload_state, columns, recipient_count, prepared_at)
            VALUES ($1, $2, 'bench', 'uploaded', '{}', cardinality($3::text[]), $4) RETURNING batch_key
        )
        INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
        SELECT batch_key, n, phone, '{"loan_id": "LN"}'
        FROM made CROSS JOIN unnest($3::text[]) WITH ORDINALITY AS r (phone, n)
        """,
        batch_id, AGENT_ID, phones, began_at,
    )  # fmt: skip


async def deliver(database: Database, sandbox: RunningSandbox, batch_id: int, lost_share: float) -> int:
    """Ingests the batch's webhooks except for a lost share; returns how many were lost."""
    playing, dice, decoder = sandbox.sandbox, random.Random(1), EventDecoder("")
    writer = EventWriter(playing.options, playing.seed)
    events, lost = [], 0
    for attempts in playing.records.batches[batch_id].attempts.values():
        for attempt in attempts:
            if dice.random() < lost_share:
                lost += 1
                continue
            body = writer.write(attempt, recall(playing, attempt), playing.options.targets[0])
            event = decoder.decode_event(body, "default", datetime.now(UTC), None)
            assert isinstance(event, Event)
            events.append(event)
    for first in range(0, len(events), GROUP):
        columns = zip(*events[first : first + GROUP], strict=True)
        await load_queries().ingest(database.pool, **dict(zip(Event._fields, columns, strict=True)))
    return lost


@asynccontextmanager
async def open_reconciler(database: Database, sandbox: RunningSandbox, clock: Clock) -> AsyncIterator[Reconciler]:
    """A replica's reconciler."""
    metrics = Metrics()
    writer = Writer(database.url, database.queries, metrics)
    try:
        async with open_http(sandbox.base_url, KEY) as http:
            budget = Budget(database, "bench")
            yield Reconciler(
                database, http, metrics, budget, budget, Healer(database, writer, metrics, clock.now),
                grace_seconds=0, interval_seconds=30, now=clock.now,
            )  # fmt: skip
    finally:
        writer.close()


async def bench_reconcile(
    server: PostgresServer, recipients: int, lost_share: float, others: int, batches: int
) -> None:
    """Prints both figures."""
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    options = SandboxOptions(
        api_keys=(KEY,), seed=1, rate_limit=1_000_000, first_batch_id=1,
        targets=(WebhookTarget(url="http://127.0.0.1:1/nowhere", secret="s"),),
    )  # fmt: skip
    start = time.time() - 30 * 86_400
    async with (
        serve_sandbox(options, clock=SteppedClock(start)) as sandbox,
        open_database(url, allow_unsafe=False) as database,
    ):
        sandbox.sandbox.faults.drop = 1.0  # ``deliver`` delivers them
        await measure_healing(database, sandbox, recipients, lost_share, others)
        await measure_pass(database, sandbox, batches)


async def measure_healing(
    database: Database, sandbox: RunningSandbox, recipients: int, lost_share: float, others: int
) -> None:
    """Prints how many calls to the provider it takes until the figures agree, and until results are there."""
    before, beside, after = (
        make_contacts(others // 3, 100_000_000 * number)[0] for number in (1, 2, 3)
    )  # calls of other batches: before this one, at the same time, and since
    content, phones = make_contacts(recipients, 0)
    await call(sandbox, before)
    began_at = datetime.fromtimestamp(sandbox.sandbox.clock.now(), UTC)
    batch_id, _ = await asyncio.gather(call(sandbox, content), call(sandbox, beside))
    await store(database, batch_id, phones, began_at)
    ended_at = datetime.fromtimestamp(sandbox.sandbox.clock.now(), UTC)
    await call(sandbox, after)
    lost = await deliver(database, sandbox, batch_id, lost_share)
    await database.pool.execute("UPDATE batches SET closed_at = $1", ended_at)  # compared as soon as it had finished
    journal = sandbox.sandbox.journal
    conversations = len(sandbox.sandbox.records._by_agent[AGENT_ID])
    print(f"Healing: {recipients:,} recipients, {lost:,} webhooks lost, {conversations:,} conversations of the agent")
    made, started = journal.api["within_limit"], time.perf_counter()

    def show(what: str) -> None:
        calls = journal.api["within_limit"] - made
        seconds = time.perf_counter() - started
        print(f"{what:<28} {calls:>7,} requests, {calls / CALLS_A_MINUTE:>6.0f} min by the limit, {seconds:.1f} s here")

    async with open_reconciler(database, sandbox, Clock()) as reconciler:
        assessment = await reconciler.reconcile_now(batch_id)
        show(f"figures: {assessment.verdict}")
        await reconciler.read_details_now(batch_id)
        show("details")
    healed = await database.pool.fetchval("SELECT count(DISTINCT conversation_id) FROM facts WHERE source = 'healed'")
    print(f"{healed:,} calls healed")


async def measure_pass(database: Database, sandbox: RunningSandbox, batches: int) -> None:
    """Prints the seconds for comparing quiet batches."""
    began_at = datetime.fromtimestamp(sandbox.sandbox.clock.now(), UTC)
    for number in range(batches):
        content, phones = make_contacts(2, 300_000_000 + 2 * number)
        batch_id = await call(sandbox, content)
        await store(database, batch_id, phones, began_at)
        await deliver(database, sandbox, batch_id, 0.0)
    clock = Clock()
    async with open_reconciler(database, sandbox, clock) as reconciler:
        await _pass(reconciler)
        clock.moment += timedelta(hours=2)
        started = time.perf_counter()
        compared = await _pass(reconciler)
        seconds = time.perf_counter() - started
    verdicts = await database.pool.fetch("SELECT verdict, count(*) FROM batch_schedules GROUP BY 1 ORDER BY 1")
    counts = ", ".join(f"{row['count']:,} {row['verdict']}" for row in verdicts)
    print(
        f"A pass over {compared:,} quiet batches ({counts}): {seconds:.1f} s, "
        f"{1000 * seconds / compared:.1f} ms a batch"
    )


async def _pass(reconciler: Reconciler) -> int:
    """Compares all due batches as two workers of one replica do; returns their number."""

    async def work() -> int:
        count = 0
        while await reconciler.reconcile_due():
            count += 1
        return count

    return sum(await asyncio.gather(work(), work()))
