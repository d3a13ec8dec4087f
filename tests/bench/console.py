"""The console: how long its pages take while webhooks arrive, and what two hundred viewers of a batch cost."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx
import psutil

from service.app import prepare_schema
from tests.bench.load import SECRET, write_requests
from tests.bench.machine import find_port, read_cpu_seconds, run_process
from tests.bench.reads import fill
from tests.conftest import create_database
from tests.postgres import PostgresServer

KEY = "bench-key"
PER_SECOND = 300
RECIPIENTS = 20_000
SAMPLES = 100
VIEWERS = 200
POLL_SECONDS = 3.0
WATCHED_SECONDS = 15.0
BATCH = "/console/batches/1"
PAGES = (
    "/console", BATCH, f"{BATCH}/live", f"{BATCH}/people", f"{BATCH}/people?state=completed", f"{BATCH}/people/1",
    "/console/callbacks", "/console/compare?left=batch:1&right=batch:2", "/console/health",
)  # fmt: skip


async def bench_console(server: PostgresServer) -> None:
    """Prints the time and size of each page beside a stream of webhooks, and the cost of viewers."""
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    await fill(url, 2, RECIPIENTS)
    await fill(url, 1, RECIPIENTS)
    connection = await asyncpg.connect(url)
    await connection.execute("VACUUM ANALYZE")
    port = find_port()
    environ = {
        "OUTCOMES_DATABASE_URL": url,
        "OUTCOMES_API_KEY": KEY,
        "FORMANT_WEBHOOK_SECRET": SECRET,
        "OUTCOMES_PORT": str(port),
        "OUTCOMES_LOG_LEVEL": "error",
    }
    with tempfile.TemporaryDirectory() as folder, run_process(["-m", "service", "serve"], port, environ) as process:
        requests = Path(folder) / "requests"
        write_requests(requests, PER_SECOND * 600, RECIPIENTS)
        stream = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.steady", str(port), str(PER_SECOND), "600", requests,
             Path(folder) / "answers"]
        )  # fmt: skip
        try:
            base_url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=60.0) as client:
                answer = await client.post("/console/sign-in", data={"key": KEY})
                assert answer.status_code == 303
                print(f"The console's pages, beside {PER_SECOND} webhooks a second:")
                for path in PAGES:
                    await _sample(client, path)
                costs = [await _watch(client, connection, process, viewers) for viewers in (0, 1, VIEWERS)]
                _compare(costs)
        finally:
            stream.kill()
            stream.wait()
    await connection.close()


async def _sample(client: httpx.AsyncClient, path: str) -> None:
    seconds = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        answer = await client.get(path)
        seconds.append(time.perf_counter() - began)
        assert answer.status_code == 200, (path, answer.status_code)
    middle, worst = statistics.median(seconds) * 1000, sorted(seconds)[-2] * 1000
    print(f"  {path:<50} p50 {middle:6.1f} ms  p99 {worst:6.1f} ms  {len(answer.content) / 1000:6.1f} kB", flush=True)


async def _watch(
    client: httpx.AsyncClient, connection: asyncpg.Connection, process: psutil.Process, viewers: int
) -> tuple[int, float, float, float]:
    """The cost of viewers: transactions a second, and the shares of a core of Postgres and of the service."""
    ends = time.monotonic() + WATCHED_SECONDS

    async def view(number: int) -> None:
        await asyncio.sleep(number * POLL_SECONDS / max(viewers, 1))
        while time.monotonic() < ends:
            (await client.get(f"{BATCH}/live", headers={"hx-request": "true"})).raise_for_status()
            await asyncio.sleep(POLL_SECONDS)

    postgres = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).parent()
    assert postgres is not None
    counted = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    before: int = await connection.fetchval(counted)
    cpu = [read_cpu_seconds(process), read_cpu_seconds(postgres)]
    await asyncio.gather(asyncio.sleep(WATCHED_SECONDS), *(view(number) for number in range(viewers)))
    transactions = await connection.fetchval(counted) - before
    service, database = read_cpu_seconds(process) - cpu[0], read_cpu_seconds(postgres) - cpu[1]
    return viewers, transactions / WATCHED_SECONDS, database / WATCHED_SECONDS, service / WATCHED_SECONDS


def _compare(costs: list[tuple[int, float, float, float]]) -> None:
    print("Viewers of a running batch, who ask every three seconds:")
    for viewers, transactions, database, service in costs:
        print(
            f"  {viewers:3} viewers: {transactions:6.1f} transactions/s, Postgres {database:5.1%} of a core, "
            f"service {service:5.1%}"
        )
