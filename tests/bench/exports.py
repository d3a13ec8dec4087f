"""Exports a large batch over HTTP: the time against psql's own COPY of the same query, and the memory."""

import asyncio
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import asyncpg
import psutil

from service.app import prepare_schema
from service.store.database import connect, load_queries
from tests.bench.machine import Memory, find_port, run_process
from tests.conftest import create_database
from tests.postgres import PostgresServer, find_programs

KEY = "bench-key"
BATCH_ID = 456
ROUNDS = 3
PARAMETERS = ["customer_name", "loan_id", "due_amount", "city"]


async def fill(url: str, rows: int) -> None:
    """Stores a batch whose recipients were all called, every fourth one twice."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"""
        INSERT INTO batches (batch_id, agent_id, name, upload_state, columns, recipient_count)
        VALUES ({BATCH_ID}, 1, 'bench', 'uploaded', '{{customer_phone,{",".join(PARAMETERS)}}}', {rows});
        INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
        SELECT 1, n, '+91' || 7000000000 + n, jsonb_build_object(
            'customer_name', 'Customer ' || n, 'loan_id', 'LN-' || n, 'due_amount', (n % 50000)::text, 'city', 'Pune')
        FROM generate_series(1, {rows}) AS n;
        INSERT INTO facts (batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status,
                           is_final, occurred_at, started_at, ended_at, duration_seconds, results, event_id, source,
                           method, recorded_at, from_phone)
        SELECT 1, 1 + n % {rows}, n, 'e36853de-9cbb-441e-ad75-' || n || '_1', 1 + n / {rows}, 3, 'completed', true,
               now(), now(), now(), 62, '{{"intent": "promise_to_pay", "sentiment": "neutral"}}', 'event-' || n,
               'webhook', 'reference', now(), '+918000000000'
        FROM generate_series(0, {rows * 5 // 4 - 1}) AS n;
        INSERT INTO outcomes
        SELECT DISTINCT ON (recipient_no) batch_key, recipient_no, 'completed', attempt_number, arrival_id,
               nextval('feed_positions'), 1, now()
        FROM facts ORDER BY recipient_no, attempt_number DESC;
        INSERT INTO attempt_counts VALUES (1, now(), 'completed', {rows * 5 // 4});
        """
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def write_copy(url: str, rows: int) -> list[str]:
    """The statements for psql: the export's query under the export's planner settings."""
    connection = await connect(url)
    query = await load_queries().write_export_query(
        connection,
        rows="recipient_rows",
        arguments=["1", "0", str(rows), None],
        format="csv",
        parameters=PARAMETERS,
        escape=True,
        has_other_parameters=False,
        results=None,
    )
    await connection.close()
    return ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", load_queries().begin_export.sql.replace("$1", "'UTC'"),
            f"\\copy ({query}) TO '/dev/null' CSV"]  # fmt: skip


def measure(run: Callable[[], object]) -> float:
    """Median seconds over a few rounds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def bench_exports(server: PostgresServer, rows: int) -> None:
    """Measures each format, and prints the times, the ratios to psql's, and the memory."""
    if shutil.which("curl") is None:
        sys.exit("curl is missing: apt-get install curl")
    url = asyncio.run(create_database(server, "template0"))
    asyncio.run(prepare_schema(url, may_migrate=True))
    asyncio.run(fill(url, rows))
    commands = asyncio.run(write_copy(url, rows))
    psql = [str(find_programs() / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", url, *(f"-c{one}" for one in commands)]
    print(
        f"Exports: {rows:,} recipients of {len(PARAMETERS)} parameters, every fourth called twice; median of {ROUNDS}"
    )
    copy = measure(lambda: subprocess.run(psql, check=True, stdout=subprocess.DEVNULL))
    print(f"psql \\copy of the same query, CSV   {copy:8.2f} s")
    port = find_port()
    environ = {
        "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": str(port), "FORMANT_WEBHOOK_SECRET": "s",
        "OUTCOMES_API_KEY": KEY,
    }  # fmt: skip
    with run_process(["-m", "service", "serve"], port, environ) as service:
        for kind, file_format in (
            ("recipients", "csv"), ("recipients", "ndjson"), ("recipients", "parquet"), ("attempts", "csv"),
        ):  # fmt: skip
            address = f"http://127.0.0.1:{port}/v1/batch-calls/{BATCH_ID}/{kind}.{file_format}"
            seconds, peak = _fetch(service, address)
            goal = "   (goal: at most 1.5)" if kind == "recipients" and file_format != "ndjson" else ""
            print(
                f"{kind + '.' + file_format:<20} {seconds:8.2f} s {seconds / copy:6.2f} times psql's, "
                f"{peak:4.0f} MB above the idle service{goal}"
            )


def _fetch(service: psutil.Process, address: str) -> tuple[float, float]:
    curl = ["curl", "-sS", "--fail", "-o", "/dev/null", "-H", f"Authorization: Bearer {KEY}", address]
    memory = Memory(service)
    seconds = measure(lambda: subprocess.run(curl, check=True))
    return seconds, memory.end()
