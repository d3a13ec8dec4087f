"""``make bench``: prints figures and ratios of one run. Nothing else should run beside it."""

import argparse
import shutil
import sys

from service.logs import configure_logs
from service.store.embedded import CONFIGURATION
from tests.bench.machine import describe_machine
from tests.bench.reads import run_reads
from tests.bench.write_path import bench_write_path
from tests.postgres import PostgresServer, find_programs


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="length of each measurement of the write path")
    parser.add_argument("--only", choices=("write", "read"), help="one part only")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk, or brew install wrk")
    configure_logs("error")
    server = PostgresServer(find_programs())
    # As the embedded server is configured; fsync stays on.
    server.start(*(f"-c {line.replace(' ', '')}" for line in CONFIGURATION.splitlines()))
    try:
        print(f"Machine: {describe_machine()}, shared by load generator, service and Postgres", flush=True)
        if arguments.only != "read":
            bench_write_path(server, arguments.seconds)
        if arguments.only != "write":
            run_reads(server)
    finally:
        server.remove()


main()
