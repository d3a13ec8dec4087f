"""The write path: webhooks a second of the service, the framework's ceiling and a plain receiver, in one run."""

import asyncio
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from service.app import prepare_schema
from tests.bench.load import AGENT_ID, REF_TOKEN, SECRET, write_requests
from tests.bench.machine import find_port, read_cpu_seconds, run_process
from tests.conftest import create_database
from tests.guarantees.recount import find_differences
from tests.postgres import PostgresServer

CONNECTIONS = 128
WARM_UP_SECONDS = 3
RECIPIENTS = 250_000
REQUESTS = 400_000


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One subject's figures."""

    name: str
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    service_cpu: float
    postgres_cpu: float
    wal_bytes: float


async def prepare_database(server: PostgresServer) -> str:
    """Makes a database with one large batch; returns its URL."""
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    connection = await asyncpg.connect(url)
    key = await connection.fetchval(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, ref_token, ref_column, columns, recipient_count) "
        "VALUES (1, $1, 'bench', 'uploaded', $2, 'outcome_ref', '{}', $3) RETURNING batch_key",
        AGENT_ID, REF_TOKEN, RECIPIENTS,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO recipients SELECT $1, n, '+91' || 7000000000 + n, '{}' FROM generate_series(1, $2) AS n",
        key, RECIPIENTS,
    )  # fmt: skip
    await connection.close()
    return url


async def settle(server: PostgresServer) -> None:
    """Brings a new server to the state it has after some hours: with write-ahead log files to recycle.

    A server writes its first two gigabytes of log twice, once as zeros; a service spends only its first minute there.
    """
    connection = await asyncpg.connect(server.url("postgres"))
    await connection.execute(
        "CREATE TABLE filler AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 2000000) AS n"
    )
    await connection.execute("DROP TABLE filler")
    await connection.execute("CHECKPOINT")
    await connection.close()


def run_wrk(port: int, seconds: int, requests: Path, offset: int = 0) -> dict[str, float]:
    """Runs the load generator once; returns its figures."""
    output = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s",
         str(Path(__file__).with_name("replay.lua")), f"http://127.0.0.1:{port}"],
        check=True, capture_output=True, text=True,
        env={**os.environ, "REQUESTS": str(requests), "REQUESTS_FROM": str(offset)},
    ).stdout  # fmt: skip
    figures: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return figures


def find_offset(requests: Path, count: int) -> int:
    """The byte offset of the request after the first ``count``."""
    with requests.open("rb") as file:
        for _ in range(count):
            file.seek(int(file.read(8)), os.SEEK_CUR)
        return file.tell()


def measure(
    name: str, arguments: list[str], port: int, environ: dict[str, str], seconds: int, requests: Path,
    server: PostgresServer, url: str | None,
) -> Measured:  # fmt: skip
    """Warms up a subject, loads it, and measures what it cost."""
    postgres = psutil.Process(server.pid)
    with run_process(arguments, port, environ) as process:
        warm = run_wrk(port, WARM_UP_SECONDS, requests)
        # Requests in flight when wrk stops would be sent again later, so a few more are skipped.
        offset = find_offset(requests, int(warm["requests"]) + CONNECTIONS)
        cpu, postgres_cpu, wal = read_cpu_seconds(process), read_cpu_seconds(postgres), _read_wal(url)
        figures = run_wrk(port, seconds, requests, offset)
        count = figures["requests"]
        return Measured(
            name=name,
            per_second=count / figures["seconds"],
            p50_ms=figures["p50_ms"],
            p99_ms=figures["p99_ms"],
            failed=int(figures["not_2xx"] + figures["failed"]),
            service_cpu=1000 * (read_cpu_seconds(process) - cpu) / count,
            postgres_cpu=1000 * (read_cpu_seconds(postgres) - postgres_cpu) / count,
            wal_bytes=(_read_wal(url) - wal) / count,
        )


def _read_wal(url: str | None) -> float:
    async def read() -> float:
        if url is None:
            return 0.0
        connection = await asyncpg.connect(url)
        position = await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        await connection.close()
        return float(position)

    return asyncio.run(read())


def _check_counters(url: str) -> int:
    """The number of counters that differ from a recount after the load."""

    async def check() -> int:
        connection = await asyncpg.connect(url)
        differences = await find_differences(connection)
        await connection.close()
        return len(differences)

    return asyncio.run(check())


def bench_write_path(server: PostgresServer, seconds: int) -> None:
    """Measures all three; prints the figures and the two ratios."""
    with tempfile.TemporaryDirectory(prefix="outcomes-bench-") as folder:
        requests = Path(folder) / "requests"
        size = write_requests(requests, REQUESTS, RECIPIENTS)
        asyncio.run(settle(server))
        print(f"Write path: {CONNECTIONS} connections, {seconds} s each, bodies of {size:.0f} bytes, signed and unique")
        port = find_port()
        noop = measure("no-op Starlette route", ["-m", "tests.bench.baselines", "noop", str(port)], port, {}, seconds,
                       requests, server, None)  # fmt: skip
        port, url = find_port(), asyncio.run(prepare_database(server))
        plain = measure("plain receiver", ["-m", "tests.bench.baselines", "plain", str(port), url], port, {}, seconds,
                        requests, server, url)  # fmt: skip
        port, url = find_port(), asyncio.run(prepare_database(server))
        environ = {
            "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": str(port), "FORMANT_WEBHOOK_SECRET": SECRET,
        }  # fmt: skip
        ours = measure("this service", ["-m", "service", "serve"], port, environ, seconds, requests, server, url)
        differences = _check_counters(url)
    print(f"{'':24}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}{'CPU s/1000 events':>20}{'WAL bytes':>11}")
    print(f"{'':71}{'service + Postgres':>18}{'an event':>13}")
    for row in (noop, plain, ours):
        cpu = f"{row.service_cpu:.3f} + {row.postgres_cpu:.3f}"
        print(
            f"{row.name:24}{row.per_second:10,.0f}{row.p50_ms:9.1f}{row.p99_ms:9.1f}{row.failed:8d}{cpu:>20}"
            f"{row.wal_bytes:11,.0f}"
        )
    print(f"this service / no-op ceiling   {ours.per_second / noop.per_second:6.2f}   (goal: at least 0.40)")
    print(f"this service / plain receiver  {ours.per_second / plain.per_second:6.2f}   (goal: at least 3)")
    print(f"counters that differ from a recount afterwards: {differences}")
