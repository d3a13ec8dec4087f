"""``outcomes verify``: rows per second and peak memory of its process; and the time for an answer as of the past."""

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import asyncpg

from service.app import prepare_schema
from service.outcomes.as_of import PastReader
from service.store.database import open_database
from tests.bench.machine import ROOT
from tests.bench.reads import fill
from tests.conftest import create_database
from tests.postgres import PostgresServer


async def prepare(server: PostgresServer, recipients: int) -> str:
    """Makes a database with one batch whose recipients were all called; returns its URL."""
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    await fill(url, 1, recipients)
    connection = await asyncpg.connect(url)
    await connection.execute("ANALYZE")
    await connection.close()
    return url


async def measure_as_of(url: str) -> float:
    """Seconds for recounting the outcomes of the batch as of now."""
    async with open_database(url, allow_unsafe=False) as database:
        started = time.perf_counter()
        await PastReader(database).read_counts(1, "UTC", datetime.now(UTC))
        return time.perf_counter() - started


def bench_verify(server: PostgresServer, events: int) -> None:
    """Verifies a database with ``events`` events in a separate process, and prints the figures."""
    recipients = events * 4 // 5
    url = asyncio.run(prepare(server, recipients))
    environ = {**os.environ, "OUTCOMES_DATABASE_URL": url, "FORMANT_WEBHOOK_SECRET": "s"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "verify", "--full", "--json"],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    rows = events + recipients
    print(f"Verify: {events:,} events of {recipients:,} recipients; {report['count']} differences")
    print(f"rows per second (facts and recipients) {rows / seconds:10,.0f}   ({seconds:.0f} s)")
    print(f"events a second                      {events / seconds:10,.0f}")
    print(f"peak memory of the process, MB       {usage.ru_maxrss / 1024:10,.0f}")
    print(f"outcomes as of an earlier time, s    {asyncio.run(measure_as_of(url)):10.1f}")
