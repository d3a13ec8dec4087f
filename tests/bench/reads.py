"""Reads: how long GET …/outcomes takes at 1,000 to 1,000,000 recipients: idle, during writes, unchanged, and sliced."""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import httpx

from service.app import open_app, prepare_schema
from service.formant.events import Event, EventDecoder
from service.server.process import serve_in_background
from service.settings import read_settings
from service.store.database import load_queries
from tests.bench.load import AGENT_ID, REF_TOKEN, make_bodies
from tests.conftest import create_database
from tests.postgres import PostgresServer

SIZES = (1_000, 100_000, 1_000_000)
REQUESTS = 400
GROUP = 500
WRITES_PER_SECOND = 300
WRITES_GROUP = 10


async def fill(url: str, batch_id: int, recipients: int) -> None:
    """Stores a batch whose recipients were all called, through ``ingest``."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, ref_token, ref_column, columns, recipient_count) "
        "VALUES ($1, $2, 'bench', 'uploaded', $3, 'outcome_ref', '{customer_phone,loan_id}', $4)",
        batch_id, AGENT_ID, REF_TOKEN, recipients,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO recipients "
        "SELECT batch_key, n, '+91' || 7000000000 + n, jsonb_build_object('loan_id', 'LN-' || n) FROM batches "
        "CROSS JOIN generate_series(1, $2) AS n WHERE batch_id = $1",
        batch_id, recipients,
    )  # fmt: skip
    decoder, received_at = EventDecoder("outcome_ref"), datetime.now(UTC)
    group: list[Event] = []
    for body in make_bodies(recipients * 5 // 4, recipients, seed=batch_id):
        event = decoder.decode_event(body, "default", received_at, None)
        assert isinstance(event, Event)
        group.append(event)
        if len(group) == GROUP:
            await _ingest(connection, group)
            group = []
    if group:
        await _ingest(connection, group)
    # Frees the references for the next batch.
    await connection.execute("UPDATE batches SET ref_token = NULL WHERE batch_id = $1", batch_id)
    await connection.close()


async def _ingest(connection: asyncpg.Connection, group: list[Event]) -> None:
    await load_queries().ingest(connection, **dict(zip(Event._fields, zip(*group, strict=True), strict=True)))


async def bench_reads(server: PostgresServer, sizes: tuple[int, ...] = SIZES) -> None:
    """Fills the batches, reads each, and prints the times and their ratio."""
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    for batch_id, recipients in enumerate(sizes, start=1):
        started = time.perf_counter()
        await fill(url, batch_id, recipients)
        print(f"  {recipients:,} recipients stored and counted in {time.perf_counter() - started:.0f} s", flush=True)
    configured = read_settings({"OUTCOMES_DATABASE_URL": url, "OUTCOMES_API_KEY": "k", "FORMANT_WEBHOOK_SECRET": "s"})
    headers = {"authorization": "Bearer k"}
    async with (
        open_app(configured, url) as service,
        serve_in_background(service, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=60) as client,
    ):
        print(f"Reads: GET /v1/batch-calls/ID/outcomes, {REQUESTS} one after the other")
        medians = await measure(client, sizes, "quiet")
        ratio = medians[sizes[-1]] / medians[sizes[0]]
        print(f"p50 at {sizes[-1]:,} / p50 at {sizes[0]:,}: {ratio:.2f}   (goal: under 1.3)")
        print(f"The same during {WRITES_PER_SECOND} events a second, a third to each batch")
        async with writing(url, sizes):
            await measure(client, sizes, "during writes")
        print("The same for a client that already has the answer: 304")
        await measure(client, sizes, "304", is_known=True)
        print("Sliced by a call parameter")
        for batch_id, recipients in enumerate(sizes, start=1):
            answer = await client.get(f"/v1/batch-calls/{batch_id}/outcomes", params={"by": "loan_id"})
            content = answer.json()
            took = content["data"]["slices"]["computed"]["seconds"] if answer.status_code == 200 else content["error"]
            print(f"  {recipients:>9,} recipients, as many values: {took} s")


async def measure(
    client: httpx.AsyncClient, sizes: tuple[int, ...], what: str, *, is_known: bool = False
) -> dict[int, float]:
    """Reads the batches in turn, prints p50 and p99 of each, and returns the medians in milliseconds."""
    samples: dict[int, list[float]] = {size: [] for size in sizes}
    known: dict[int, str] = {}
    for number in range(REQUESTS + 20):
        for batch_id, recipients in enumerate(sizes, start=1):
            headers = {"if-none-match": known[batch_id]} if batch_id in known else {}
            started = time.perf_counter()
            answer = await client.get(f"/v1/batch-calls/{batch_id}/outcomes", headers=headers)
            taken = time.perf_counter() - started
            assert answer.status_code in {200, 304}, answer.text
            if is_known:
                known[batch_id] = answer.headers["etag"]
            if number >= 20:
                samples[recipients].append(1000 * taken)
    for recipients, taken_ms in samples.items():
        p99 = statistics.quantiles(taken_ms, n=100)[98]
        print(f"  {recipients:>9,} recipients, {what}: p50 {statistics.median(taken_ms):.2f} ms, p99 {p99:.2f} ms")
    return {recipients: statistics.median(taken_ms) for recipients, taken_ms in samples.items()}


@asynccontextmanager
async def writing(url: str, sizes: tuple[int, ...]) -> AsyncIterator[None]:
    """Writes events for each batch in turn, in small groups at a steady rate, while the block runs."""
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE batches SET ref_token = $1 || batch_id", REF_TOKEN)
    decoder, received_at = EventDecoder("outcome_ref"), datetime.now(UTC)
    due = time.perf_counter()

    async def write() -> None:
        nonlocal due
        streams = [make_bodies(size, size, seed=1000 + batch_id) for batch_id, size in enumerate(sizes, start=1)]
        for number in itertools.cycle(range(len(sizes))):
            group: list[Event] = []
            for body in itertools.islice(streams[number], WRITES_GROUP):
                event = decoder.decode_event(body, "default", received_at, None)
                assert isinstance(event, Event)
                group.append(event._replace(ref_token=f"{REF_TOKEN}{number + 1}"))
            if group:
                await _ingest(connection, group)
            due += WRITES_GROUP / WRITES_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        connection.terminate()
