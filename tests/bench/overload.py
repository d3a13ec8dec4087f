"""Overload: ten times what can be stored, for half a minute. Measures what is refused and how fast, and what is kept.

No generator on the same two cores could send ten times what the whole machine stores, so the database is slowed down:
each group takes ``GROUP_SECONDS`` longer to write, which limits the service to 500 events in that time.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from tests.bench.load import SECRET, write_requests
from tests.bench.machine import ROOT, Memory, find_port, run_process
from tests.bench.steady import read_requests
from tests.bench.write_path import RECIPIENTS, prepare_database, settle
from tests.guarantees.recount import find_differences
from tests.postgres import PostgresServer

GROUP_SECONDS = 2.0
GROUP_EVENTS = 500
CONNECTIONS = 1_800
REQUESTS = 600_000
PROBES = 100
WARM_UP_SECONDS = 3
CALM_SECONDS = 15
SLOW = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(%s); RETURN NULL; END $$;
CREATE TRIGGER be_slow BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
"""


def run_storm(port: int, connections: int, seconds: float, requests: Path, skipped: int, output: Path) -> Any:
    """Runs ``tests.bench.storm``; returns the figures that it prints."""
    printed = subprocess.run(
        [sys.executable, "-m", "tests.bench.storm", str(port), str(connections), str(seconds), requests, str(skipped),
         output],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return json.loads(printed)


async def execute(url: str, statement: str) -> None:
    """Runs one statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def count_lost(url: str, acknowledged: Path) -> tuple[int, int]:
    """The number of acknowledged events that are not stored, and of counters that differ from a recount."""
    connection = await asyncpg.connect(url)
    ids = [line.decode() for line in acknowledged.read_bytes().splitlines()]
    lost = await connection.fetchval(
        "SELECT count(*) FROM unnest($1::text[]) AS id WHERE NOT EXISTS (SELECT FROM events WHERE event_id = id)", ids
    )
    differences = await find_differences(connection)
    await connection.close()
    return lost, len(differences)


async def send_until_prompt(port: int, requests: Path, skipped: int) -> None:
    """Sends webhooks one at a time until one is stored without queueing."""
    for request in read_requests(requests, skipped):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        if head[9:12] == b"204" and time.perf_counter() - began < 1.5 * GROUP_SECONDS:
            return
    raise RuntimeError("It did not recover")


def print_answers(figures: Any) -> None:
    """Prints a storm's answers by status."""
    for status, row in figures["answers"].items():
        print(
            f"  {status}: {row['count']:9,d}   p50 {row['p50_ms']:8,.0f} ms   p99 {row['p99_ms']:8,.0f} ms   "
            f"longest {row['longest_ms']:8,.0f} ms"
        )
    print(f"  without an answer {figures['unanswered']}, 503 without Retry-After {figures['without_retry_after']}")


def bench_overload(server: PostgresServer, seconds: int) -> None:
    """Measures the capacity, sends ten times that for ``seconds``, and prints the result."""
    with tempfile.TemporaryDirectory(prefix="outcomes-bench-") as folder:
        requests, acknowledged = Path(folder) / "requests", Path(folder) / "acknowledged"
        write_requests(requests, REQUESTS, RECIPIENTS)
        asyncio.run(settle(server))
        url, port = asyncio.run(prepare_database(server)), find_port()
        environ = {
            "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": str(port), "FORMANT_WEBHOOK_SECRET": SECRET,
        }  # fmt: skip
        with run_process(["-m", "service", "serve"], port, environ) as service:
            run_storm(port, 128, WARM_UP_SECONDS, requests, 0, acknowledged)
            asyncio.run(execute(url, SLOW % GROUP_SECONDS))
            calm = run_storm(port, 2 * GROUP_EVENTS, CALM_SECONDS, requests, REQUESTS // 4, acknowledged)
            capacity = calm["answers"]["204"]["count"] / calm["seconds"]
            memory = Memory(service)
            began = time.perf_counter()
            storm = run_storm(port, CONNECTIONS, seconds, requests, REQUESTS // 2, acknowledged)
            peak = memory.end()
            asyncio.run(send_until_prompt(port, requests, REQUESTS - PROBES))
            recovered = time.perf_counter() - began - seconds
        lost, differences = asyncio.run(count_lost(url, acknowledged))
    offered = storm["sent"] / seconds
    print(f"Overload: {CONNECTIONS:,} connections for {seconds} s; a group takes {GROUP_SECONDS:.0f} s longer to write")
    print(f"what can be stored, events/s         {capacity:10,.0f}")
    print(f"what was sent, webhooks/s            {offered:10,.0f}   {offered / capacity:.1f} times (goal: 10)")
    print_answers(storm)
    print(f"memory above the idle service, MB    {peak:10,.0f}")
    print(f"seconds until it answers promptly    {recovered:10.1f}")
    print(f"acknowledged but not stored          {lost:10,d}   counters that differ from a recount: {differences}")
