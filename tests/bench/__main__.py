"""``make bench``: prints the figures and ratios of one run. Nothing else should run at the same time."""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Callable

from service.store.embedded import CONFIGURATION
from service.telemetry.logs import configure_logs
from tests.bench.console import bench_console
from tests.bench.drain import bench_drain
from tests.bench.exports import bench_exports
from tests.bench.feed import bench_feed
from tests.bench.flood import bench_flood
from tests.bench.growth import bench_growth
from tests.bench.machine import describe_machine
from tests.bench.overload import bench_overload
from tests.bench.reads import bench_reads
from tests.bench.reconcile import bench_reconcile
from tests.bench.sizes import bench_sizes
from tests.bench.uploads import bench_uploads
from tests.bench.verify import bench_verify
from tests.bench.write_path import bench_write_path
from tests.postgres import PostgresServer, find_programs

PARTS: dict[str, Callable[[PostgresServer, argparse.Namespace], None]] = {
    "write": lambda server, arguments: bench_write_path(server, arguments.seconds),
    "drain": lambda server, arguments: bench_drain(server, arguments.seconds, arguments.waiting),
    "overload": lambda server, arguments: bench_overload(server, arguments.storm_seconds),
    "flood": lambda server, arguments: bench_flood(server, arguments.storm_seconds),
    "read": lambda server, arguments: asyncio.run(bench_reads(server)),
    "upload": lambda server, arguments: bench_uploads(server),
    "reconcile": lambda server, arguments: asyncio.run(
        bench_reconcile(server, arguments.recipients, arguments.lost, arguments.others, arguments.batches)
    ),
    "verify": lambda server, arguments: bench_verify(server, arguments.events),
    "feed": lambda server, arguments: asyncio.run(bench_feed(server, arguments.changes)),
    "console": lambda server, arguments: asyncio.run(bench_console(server)),
    "size": lambda server, arguments: bench_sizes(server, arguments.stored),
    "growth": lambda server, arguments: bench_growth(server, arguments.stored),
    "export": lambda server, arguments: bench_exports(server, arguments.rows),
}


def main() -> None:
    """Runs all parts, or the one given by ``--only``."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="length of each measurement of the write path")
    parser.add_argument("--storm-seconds", type=int, default=30, help="length of the overload and of the flood")
    parser.add_argument("--waiting", type=int, default=100_000, help="events that wait in the spill stream")
    parser.add_argument("--recipients", type=int, default=10_000, help="recipients in the batch that is healed")
    parser.add_argument("--lost", type=float, default=1.0, help="share of its webhooks that are lost")
    parser.add_argument("--others", type=int, default=100_000, help="conversations of the agent with other people")
    parser.add_argument("--batches", type=int, default=1_000, help="quiet batches in one reconciliation pass")
    parser.add_argument("--events", type=int, default=1_000_000, help="events to verify")
    parser.add_argument("--rows", type=int, default=1_000_000, help="recipients in the batch that is exported")
    parser.add_argument("--only", choices=tuple(PARTS), help="one part only")
    parser.add_argument("--stored", type=int, default=100_000, help="events to store for sizes and growth")
    parser.add_argument("--changes", type=int, default=1_000_000, help="feed entries to read")
    arguments = parser.parse_args()
    if arguments.only not in {"reconcile", "verify", "size", "growth"} and shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk, or brew install wrk")
    configure_logs("error")
    server = PostgresServer(find_programs())
    # The configuration of the embedded server; fsync stays on.
    server.start(*(f"-c {line.replace(' ', '')}" for line in CONFIGURATION.splitlines()))
    try:
        print(f"Machine: {describe_machine()}, shared by load generator, service and Postgres", flush=True)
        for name, run in PARTS.items():
            if arguments.only in (None, name):
                run(server, arguments)
    finally:
        server.remove()


main()
