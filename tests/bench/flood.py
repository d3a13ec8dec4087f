"""A flood of webhooks with bad signatures: what each one costs, and how much it delays genuine ones."""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from tests.bench.load import SECRET, write_requests
from tests.bench.machine import ROOT, find_port, read_cpu_seconds, run_process
from tests.bench.uploads import find_p99
from tests.bench.write_path import CONNECTIONS, RECIPIENTS, prepare_database, run_wrk, settle
from tests.postgres import PostgresServer

PER_SECOND = 300  # genuine webhooks: a busy provider's
WARM_UP_SECONDS = 5
FORGED = 20_000  # distinct bodies, sent again and again


async def read_database(url: str) -> tuple[int, int]:
    """The number of rows written to the database so far, and the number of stored events."""
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_stat_force_next_flush()")
    written = await connection.fetchval(
        "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = current_database()"
    )
    stored = await connection.fetchval("SELECT count(*) FROM events")
    await connection.close()
    return written, stored


def bench_flood(server: PostgresServer, seconds: int) -> None:
    """Measures a flood alone and a flood alongside a steady stream of genuine webhooks; prints the figures."""
    with tempfile.TemporaryDirectory(prefix="outcomes-bench-") as folder:
        genuine, forged, output = (Path(folder) / name for name in ("genuine", "forged", "output"))
        write_requests(genuine, (2 * seconds + 10) * PER_SECOND, RECIPIENTS)
        write_requests(forged, FORGED, RECIPIENTS, secret="another sender")
        asyncio.run(settle(server))
        url, port = asyncio.run(prepare_database(server)), find_port()
        environ = {
            "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": str(port), "FORMANT_WEBHOOK_SECRET": SECRET,
        }  # fmt: skip
        with run_process(["-m", "service", "serve"], port, environ) as service:
            run_wrk(port, WARM_UP_SECONDS, forged)
            before, cpu = asyncio.run(read_database(url)), read_cpu_seconds(service)
            alone = run_wrk(port, seconds, forged)
            cpu = 1000 * (read_cpu_seconds(service) - cpu) / alone["requests"]
            after = asyncio.run(read_database(url))
            duration = WARM_UP_SECONDS + 2 * seconds
            steady = ["-m", "tests.bench.steady", str(port), str(PER_SECOND), str(duration), str(genuine), str(output)]
            stream = subprocess.Popen([sys.executable, *steady], cwd=ROOT)
            time.sleep(WARM_UP_SECONDS + seconds)
            began = time.time()
            beside = run_wrk(port, seconds, forged)
            stream.wait(timeout=60)
        stored = asyncio.run(read_database(url))[1]
        sent = len(output.read_text().splitlines())
        quiet_p99, failed = find_p99(output, began - seconds, began)
        p99, failed_beside = find_p99(output, began, began + seconds)
    print(f"Flood: {CONNECTIONS} connections, {seconds} s, bodies of 1 KB with bad signatures")
    print(f"refused a second, alone              {alone['requests'] / alone['seconds']:10,.0f}   {cpu:.3f} CPU s/1,000")
    print(f"rows written, events stored by it    {after[0] - before[0]:10,d} {after[1] - before[1]:d}")
    print(f"refused a second beside {PER_SECOND} genuine  {beside['requests'] / beside['seconds']:10,.0f}")
    print(f"p99 ms of genuine ones: quiet, flood {quiet_p99:10.1f} {p99:.1f}   failed {failed + failed_beside}")
    print(f"genuine sent and stored              {sent} {stored}")
