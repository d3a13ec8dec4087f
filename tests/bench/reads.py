"""Reads: how long GET …/outcomes takes at 1,000 to 1,000,000 recipients, and the CPU time of both sides: idle,
unchanged, during writes, and sliced. The client's own time is that of a request that reads nothing."""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import httpx
import psutil

from service.app import prepare_schema
from service.formant.events import Event, EventDecoder
from service.store.database import load_queries
from tests.bench.load import AGENT_ID, REF_TOKEN, make_bodies
from tests.bench.machine import find_port, read_cpu_seconds, run_process
from tests.conftest import create_database
from tests.postgres import PostgresServer

SIZES = (1_000, 100_000, 1_000_000)
REQUESTS = 400
WARM_UP = 20
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
    port = find_port()
    environ = {
        "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": str(port), "OUTCOMES_API_KEY": "k",
        "FORMANT_WEBHOOK_SECRET": "s",
    }  # fmt: skip
    headers = {"authorization": "Bearer k"}
    with run_process(["-m", "service", "serve"], port, environ) as service:
        processes = {"service": service, "Postgres": psutil.Process(server.pid)}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=60
        ) as client:
            await read(client, processes, url, sizes)


async def read(
    client: httpx.AsyncClient, processes: dict[str, psutil.Process], url: str, sizes: tuple[int, ...]
) -> None:
    """Reads the batches in each way, and prints the times and their ratio."""
    print(f"Reads: GET /v1/batch-calls/ID/outcomes, {REQUESTS} one after the other")
    medians = await measure(client, processes, sizes, "quiet")
    ratio = medians[sizes[-1]] / medians[sizes[0]]
    print(f"p50 at {sizes[-1]:,} / p50 at {sizes[0]:,}: {ratio:.2f}   (goal: under 1.3)")
    print("The same for a client that already has the answer: 304")
    await measure(client, processes, sizes, "304", is_known=True)
    print("GET /healthz, which reads nothing")
    await measure(client, processes, (0,), "nothing", path="/healthz")
    print(f"GET …/outcomes during {WRITES_PER_SECOND} events a second, a third to each batch")
    async with writing(url, sizes):
        await measure(client, {}, sizes, "during writes")
    print("Sliced by a call parameter, and by a result")
    for batch_id, recipients in enumerate(sizes, start=1):
        for by in ("loan_id", "results.intent"):
            answer = await client.get(f"/v1/batch-calls/{batch_id}/outcomes", params={"by": by})
            content = answer.json()
            took = content["data"]["slices"]["computed"]["seconds"] if answer.status_code == 200 else content["error"]
            print(f"  {recipients:>9,} recipients by {by}: {took} s")


async def measure(
    client: httpx.AsyncClient,
    processes: dict[str, psutil.Process],
    sizes: tuple[int, ...],
    what: str,
    *,
    is_known: bool = False,
    path: str = "/v1/batch-calls/{}/outcomes",
) -> dict[int, float]:
    """Reads the batches in turn, prints p50 and p99 of each and the CPU time of the processes, and returns the medians
    in milliseconds."""
    samples: dict[int, list[float]] = {size: [] for size in sizes}
    known: dict[int, str] = {}
    began: dict[str, float] = {}
    for number in range(REQUESTS + WARM_UP):
        if number == WARM_UP:
            began = {name: read_cpu_seconds(process) for name, process in processes.items()}
        for batch_id, recipients in enumerate(sizes, start=1):
            headers = {"if-none-match": known[batch_id]} if batch_id in known else {}
            started = time.perf_counter()
            answer = await client.get(path.format(batch_id), headers=headers)
            taken = time.perf_counter() - started
            assert answer.status_code in {200, 304}, answer.text
            if is_known:
                known[batch_id] = answer.headers["etag"]
            if number >= WARM_UP:
                samples[recipients].append(1000 * taken)
    for recipients, taken_ms in samples.items():
        p99 = statistics.quantiles(taken_ms, n=100)[98]
        print(f"  {recipients:>9,} recipients, {what}: p50 {statistics.median(taken_ms):.2f} ms, p99 {p99:.2f} ms")
    used = [
        f"{name} {1000 * (read_cpu_seconds(process) - began[name]) / REQUESTS / len(sizes):.2f} ms"
        for name, process in processes.items()
    ]
    if used:
        print(f"  CPU for each: {', '.join(used)}")
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
