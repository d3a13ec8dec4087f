"""Reads: what GET …/outcomes takes at 1,000, 100,000 and 1,000,000 recipients."""

import asyncio
import statistics
import time
from datetime import UTC, datetime

import asyncpg
import httpx

from service.app import open_app, prepare_schema
from service.formant.events import Event, EventDecoder
from service.server import serve_in_background
from service.settings import read_settings
from service.store.database import load_queries
from tests.bench.load import AGENT_ID, REF_TOKEN, make_bodies
from tests.conftest import create_database
from tests.postgres import PostgresServer

SIZES = (1_000, 100_000, 1_000_000)
REQUESTS = 400
GROUP = 500


async def fill(url: str, batch_id: int, recipients: int) -> None:
    """A batch of which every recipient was called, through the one way in."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, ref_token, ref_column, columns, recipient_count) "
        "VALUES ($1, $2, 'bench', 'uploaded', $3, 'outcome_ref', '{}', $4)",
        batch_id, AGENT_ID, REF_TOKEN, recipients,
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
    # The next batch takes the same references.
    await connection.execute("UPDATE batches SET ref_token = NULL WHERE batch_id = $1", batch_id)
    await connection.close()


async def _ingest(connection: asyncpg.Connection, group: list[Event]) -> None:
    await load_queries().ingest(connection, **dict(zip(Event._fields, zip(*group, strict=True), strict=True)))


async def bench_reads(server: PostgresServer) -> None:
    """Fills the batches, reads each, and prints the times and their ratio."""
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    for batch_id, recipients in enumerate(SIZES, start=1):
        started = time.perf_counter()
        await fill(url, batch_id, recipients)
        print(f"  {recipients:,} recipients stored and counted in {time.perf_counter() - started:.0f} s", flush=True)
    configured = read_settings({"OUTCOMES_DATABASE_URL": url, "OUTCOMES_API_KEY": "k", "FORMANT_WEBHOOK_SECRET": "s"})
    headers = {"authorization": "Bearer k"}
    print(f"Reads: GET /v1/batch-calls/ID/outcomes, {REQUESTS} one after the other")
    medians: dict[int, float] = {}
    async with (
        open_app(configured, url) as app,
        serve_in_background(app, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client,
    ):
        samples: dict[int, list[float]] = {size: [] for size in SIZES}
        for number in range(REQUESTS + 20):
            for batch_id, recipients in enumerate(SIZES, start=1):
                started = time.perf_counter()
                answer = await client.get(f"/v1/batch-calls/{batch_id}/outcomes")
                taken = time.perf_counter() - started
                answer.raise_for_status()
                if number >= 20:
                    samples[recipients].append(1000 * taken)
    for recipients in SIZES:
        medians[recipients] = statistics.median(samples[recipients])
        p99 = statistics.quantiles(samples[recipients], n=100)[98]
        print(f"  {recipients:>9,} recipients: p50 {medians[recipients]:.2f} ms, p99 {p99:.2f} ms")
    ratio = medians[SIZES[-1]] / medians[SIZES[0]]
    print(f"p50 at {SIZES[-1]:,} / p50 at {SIZES[0]:,}: {ratio:.2f}   (goal: under 1.3)")


def run_reads(server: PostgresServer) -> None:
    """``bench_reads`` on a loop of its own."""
    asyncio.run(bench_reads(server))
