"""``make soak MINUTES=60 RATE=500``: runs service and Postgres under a steady load. Prints a line every few
seconds, and at the end how memory grew and whether anything was lost. Ctrl-C ends it early with the same report."""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import httpx
import psutil

from service.app import prepare_schema
from service.sandbox import Faults, SandboxOptions, SteppedClock, WebhookTarget, sample_contacts, serve_sandbox
from service.store.embedded import CONFIGURATION
from service.telemetry.logs import configure_logs
from tests.bench.load import AGENT_ID, SECRET
from tests.bench.machine import describe_machine, find_port, run_process
from tests.conftest import API_KEY, create_database
from tests.exposition import read_metric
from tests.factories import store_batch
from tests.guarantees.checker import find_lost
from tests.postgres import PostgresServer, find_programs
from tests.processes import OUTCOMES, run
from tests.soak.stream import ACKNOWLEDGED, BATCH_RECIPIENTS, PREFIX, REFUSED, UNKNOWN, Stream, ref_token
from tests.soak.watch import Growth, Sample, Watch, find_growth

FIRST_BATCH = 1_000_000
UPLOAD_SECONDS = 30.0
EXPORT_SECONDS = 20.0
SANDBOX_AGENT = AGENT_ID + 1
JUDGED_MINUTES = 30.0
"""In a soak of at least this length, growing memory is no longer warm-up and fails the soak."""


class Clients:
    """Everything that runs alongside the stream of webhooks."""

    def __init__(self, client: httpx.AsyncClient, url: str, stream: Stream) -> None:
        self._client = client
        self._url = url
        self._stream = stream

    async def prepare_batch(self, number: int) -> None:
        """Stores the batch for the next events."""
        await store_batch(
            self._url, BATCH_RECIPIENTS, batch_id=FIRST_BATCH + number, ref_token=ref_token(number), agent_id=AGENT_ID,
            prepared_at=datetime(2026, 3, 16, tzinfo=UTC),
        )  # fmt: skip

    async def read_outcomes(self) -> None:
        """Reads twice a second, as a dashboard does."""
        while True:
            batch_id = FIRST_BATCH + max(0, len(self._stream.results) - 1) // (2 * BATCH_RECIPIENTS)
            for path in ("outcomes", "metrics", "recipients?state=completed&limit=100"):
                await self._expect("GET", f"/v1/batch-calls/{batch_id}/{path}", 200, 404)
            await asyncio.sleep(0.5)

    async def follow_feed(self) -> None:
        """Follows the feed as a consumer that keeps up."""
        await self._expect("PUT", "/v1/feed/consumers/soak", 200, json={"position": 0})
        while True:
            answer = await self._expect("GET", "/v1/feed?consumer=soak&limit=1000&wait=5", 200)
            if answer is not None and answer.json()["data"]:
                await self._expect("PUT", "/v1/feed/consumers/soak", 200, json={"position": answer.json()["next"]})

    async def export(self) -> None:
        """Exports a batch as a file, in each format in turn."""
        count = 0
        while True:
            await asyncio.sleep(EXPORT_SECONDS)
            batch_id = FIRST_BATCH + count % (1 + len(self._stream.results) // (2 * BATCH_RECIPIENTS))
            kind = ("csv", "ndjson", "parquet")[count % 3]
            await self._expect("GET", f"/v1/batch-calls/{batch_id}/recipients.{kind}", 200, 404)
            count += 1

    async def upload(self) -> None:
        """Uploads a small batch to the sandbox, which calls at once and loses some webhooks, to be healed."""
        count = 0
        while True:
            count += 1
            files = {"file": ("soak.csv", sample_contacts(50, seed=count), "text/csv")}
            data = {"agent_id": str(SANDBOX_AGENT), "name": f"Soak {count}"}
            await self._expect("POST", "/v1/batch-call", 200, data=data, files=files)
            await asyncio.sleep(UPLOAD_SECONDS)

    async def _expect(self, method: str, path: str, *statuses: int, **sent: object) -> httpx.Response | None:
        """Returns the answer if its status is expected; any other one but 503 is reported at the end."""
        try:
            answer = await self._client.request(method, path, **sent)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            self._stream.unexpected.append(f"{method} {path}: {error!r}")
            return None
        if answer.status_code in statuses:
            return answer
        if answer.status_code != 503:
            self._stream.unexpected.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        await asyncio.sleep(1.0)
        return None


@asynccontextmanager
async def serve(url: str, stack: AsyncExitStack) -> AsyncIterator[tuple[psutil.Process, int]]:
    """Runs the service as a process, with a sandbox as its provider; yields the process and its port."""
    port, provider_port = find_port(), find_port()
    target = WebhookTarget(url=f"http://127.0.0.1:{port}/webhooks/formant", secret=SECRET)
    options = SandboxOptions(seed=1, rate_limit=10_000, first_batch_id=1, targets=(target,), api_keys=("sandbox-key",))
    await stack.enter_async_context(
        serve_sandbox(options, port=provider_port, clock=SteppedClock(), faults=Faults(drop=0.1, duplicate=0.1))
    )
    environ = {
        "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": str(port), "OUTCOMES_API_KEY": API_KEY,
        "FORMANT_WEBHOOK_SECRET": SECRET, "FORMANT_BASE_URL": f"http://127.0.0.1:{provider_port}",
        "FORMANT_API_KEY": "sandbox-key", "OUTCOMES_RECONCILE_SECONDS": "10", "OUTCOMES_GRACE_SECONDS": "30",
    }  # fmt: skip
    with run_process(["-m", "service", "serve"], port, environ) as process:
        yield process, port


async def soak(server: PostgresServer, url: str, minutes: float, rate: float, every_seconds: float) -> bool:
    """Runs the soak; returns whether all was well."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    samples: list[Sample] = []
    async with AsyncExitStack() as stack:
        process, port = await stack.enter_async_context(serve(url, stack))
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=60.0, headers={"authorization": f"Bearer {API_KEY}"}
            )
        )
        connection = await asyncpg.connect(url)
        stack.push_async_callback(connection.close)
        watch, stream = Watch(process, psutil.Process(server.pid), connection), Stream(port, rate)
        clients = Clients(client, url, stream)
        running = [
            asyncio.create_task(each)
            for each in (
                stream.run(clients.prepare_batch), clients.read_outcomes(), clients.follow_feed(), clients.export(),
                clients.upload(),
            )
        ]  # fmt: skip
        print(Sample.head(), flush=True)
        last = time.monotonic() + 60 * minutes
        while not ended.is_set() and time.monotonic() < last and not any(task.done() for task in running):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), min(every_seconds, max(0.1, last - time.monotonic())))
            backlog = await read_metric(client, "outcomes_backlog_events")
            stored = stream.results.count(ACKNOWLEDGED)
            samples.append(await watch.measure(stored, stream.take_latencies(), int(backlog)))
            print(samples[-1], flush=True)
        for task in running:
            task.cancel()
        for result in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(result, Exception):
                stream.unexpected.append(f"the soak itself failed: {result!r}")
    lost = await find_lost(url, PREFIX, stream.results, stream.unusable)
    verified = await run(OUTCOMES, "verify", "--full", OUTCOMES_DATABASE_URL=url, FORMANT_WEBHOOK_SECRET=SECRET)
    return print_report(
        stream, samples, find_growth(samples), lost, verified.status == 0, verified.output + verified.errors
    )


def print_report(
    stream: Stream, samples: list[Sample], growth: Growth | None, lost: list[str], is_verified: bool, verified: str
) -> bool:
    """Prints the result; returns whether all was well."""
    results = stream.results
    print(
        f"{results.count(ACKNOWLEDGED):,} events acknowledged, {results.count(REFUSED):,} refused, "
        f"{results.count(UNKNOWN):,} without an answer; {stream.unusable:,} unusable bodies"
    )
    has_grown = False
    if growth is None:
        print("Memory: the soak was too short to judge it")
    else:
        is_judged = samples[-1].seconds >= 60 * JUDGED_MINUTES
        has_grown = growth.is_grown and is_judged
        word = "GREW" if growth.is_grown else "did not grow"
        note = "" if is_judged else f"; judged only from {JUDGED_MINUTES:.0f} minutes on"
        print(
            f"Memory of the service {word}: {growth.mb_per_hour:+.1f} MB/h over the second half "
            f"({growth.risen_mb:+.1f} MB{note})"
        )
    print(f"Unexpected answers: {len(stream.unexpected)}")
    for line in stream.unexpected[:10]:
        print(f"  {line}")
    print(f"Lost or stored twice: {len(lost)}")
    for line in lost[:10]:
        print(f"  {line}")
    print(f"outcomes verify: {'finds nothing' if is_verified else verified[-2000:]}", flush=True)
    return not (lost or stream.unexpected or has_grown) and is_verified


def main() -> None:
    """Runs the soak; exits with 1 if anything was lost or unexpected, or if memory grew."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=200.0, help="webhooks a second")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two lines")
    arguments = parser.parse_args()
    configure_logs("error")
    server = PostgresServer(find_programs())
    server.start(*(f"-c {line.replace(' ', '')}" for line in CONFIGURATION.splitlines()))
    try:
        print(f"Machine: {describe_machine()}, shared by load, service and Postgres")
        is_well = asyncio.run(_prepare_and_soak(server, arguments.minutes, arguments.rate, arguments.every))
    finally:
        server.remove()
    sys.exit(0 if is_well else 1)


async def _prepare_and_soak(server: PostgresServer, minutes: float, rate: float, every_seconds: float) -> bool:
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    return await soak(server, url, minutes, rate, every_seconds)


main()
