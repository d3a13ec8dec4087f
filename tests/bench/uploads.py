"""A large upload: how fast its rows are checked and stored, in how much memory, and how much it slows the receiver."""

import asyncio
import csv
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx

from tests.bench.load import SECRET, write_requests
from tests.bench.machine import ROOT, Memory, find_port, run_process
from tests.bench.write_path import RECIPIENTS, prepare_database, settle
from tests.postgres import PostgresServer

ROWS = 500_000
PER_SECOND = 300  # webhooks during the upload, as from a busy provider
QUIET_SECONDS = 15
KEY = "bench-key"


def write_contacts(path: Path, rows: int) -> None:
    """Writes a campaign's file: five columns, with a unique phone in each row."""
    dice = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("customer_phone", "customer_name", "loan_id", "due_amount", "city"))
        for number in range(rows):
            city = dice.choice(("Pune", "Mumbai", "Delhi", "Chennai"))
            writer.writerow(
                (f"+91{9_000_000_000 + number}", f"Customer {number}", f"LN-{number}", number % 50_000, city)
            )


async def upload(port: int, path: Path, url: str) -> tuple[float, float, float]:
    """Uploads the file; returns the Unix times of the first byte sent, of the storing, and of the answer."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=300) as client:
        began = time.time()
        with path.open("rb") as file:
            files = {"file": ("contacts.csv", file, "text/csv")}
            answer = await client.post("/v1/batch-call", data={"agent_id": "124", "name": "Large"}, files=files)
        answered = time.time()
        answer.raise_for_status()
    connection = await asyncpg.connect(url)
    stored: float = await connection.fetchval(
        "SELECT extract(epoch FROM sent_at)::float8 FROM batches WHERE agent_id = 124"
    )
    await connection.close()
    return began, stored, answered


def find_p99(path: Path, begin: float, end: float) -> tuple[float, int]:
    """The 99th percentile in ms of the answers to requests due in a time span, and how many failed."""
    rows = [line.split() for line in path.read_text().splitlines()]
    within = [row for row in rows if begin <= float(row[0]) < end]
    times = sorted(float(row[1]) for row in within)
    failed = sum(row[2] != "204" for row in within)
    return 1000 * times[int(0.99 * len(times))], failed


def bench_uploads(server: PostgresServer) -> None:
    """Measures the upload of a large file during a steady stream of webhooks, and prints the figures."""
    with tempfile.TemporaryDirectory(prefix="outcomes-bench-") as folder:
        contacts, requests, output = (Path(folder) / name for name in ("contacts.csv", "requests", "output"))
        write_contacts(contacts, ROWS)
        write_requests(requests, 60 * PER_SECOND, RECIPIENTS)
        asyncio.run(settle(server))
        url = asyncio.run(prepare_database(server))
        sandbox_port, port = find_port(), find_port()
        sandbox = ["-m", "service", "sandbox", "--port", str(sandbox_port), "--api-key", KEY, "--speed", "0.001"]
        environ = {
            "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": str(port), "FORMANT_WEBHOOK_SECRET": SECRET,
            "OUTCOMES_API_KEY": KEY, "FORMANT_API_KEY": KEY, "FORMANT_BASE_URL": f"http://127.0.0.1:{sandbox_port}",
        }  # fmt: skip
        with run_process(sandbox, sandbox_port), run_process(["-m", "service", "serve"], port, environ) as service:
            stream = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.steady", str(port), str(PER_SECOND), "45", requests, output],
                cwd=ROOT,
            )
            time.sleep(5 + QUIET_SECONDS)  # the first seconds warm up
            memory = Memory(service)
            began, stored, answered = asyncio.run(upload(port, contacts, url))
            peak = memory.end()
            stream.wait(timeout=60)
        quiet, failed = find_p99(output, began - QUIET_SECONDS, began)
        during, failed_during = find_p99(output, began, stored)
    print(f"Upload: {ROWS:,} rows of 5 columns during {PER_SECOND} webhooks a second")
    print(f"rows per second, first byte to stored  {ROWS / (stored - began):10,.0f}   (goal: over 40,000)")
    print(f"seconds to the provider's answer     {answered - began:10.1f}")
    print(f"memory above the idle service, MB    {peak:10,.0f}   (goal: under 250)")
    print(f"receiver p99 ms: quiet, during it    {quiet:6.1f} {during:6.1f}   failed {failed + failed_during}")
    print(f"p99 during it / quiet                {during / quiet:10.2f}   (goal: at most 2)")
