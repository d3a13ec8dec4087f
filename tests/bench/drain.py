"""Draining the spill stream beside live webhooks: what is left of their rate."""

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from service.formant.events import EventDecoder
from service.spill.codec import split_group
from service.spill.stream import Stream
from tests.bench.load import SECRET, make_bodies, write_requests
from tests.bench.machine import find_port
from tests.bench.write_path import CONNECTIONS, RECIPIENTS, REQUESTS, Measured, measure, prepare_database, settle
from tests.nats import NatsCluster, run_nats
from tests.postgres import PostgresServer

PAIRS = 2
GROUP_EVENTS = 500


async def fill(cluster: NatsCluster, events: int, seed: int) -> None:
    """Puts so many new events into the stream, in groups as the service does."""
    stream = Stream([cluster.url], max_body_bytes=2**20)
    await stream.open()
    decoder, now = EventDecoder("outcome_ref"), datetime.now(UTC)
    items = [decoder.decode_event(body, "default", now, None) for body in make_bodies(events, RECIPIENTS, seed)]
    for first in range(0, events, GROUP_EVENTS):
        for part in split_group(items[first : first + GROUP_EVENTS], stream.max_message_bytes):
            await stream.publish(part)
    await stream.close()


async def count_events(cluster: NatsCluster) -> int:
    """The number of events that wait in the stream."""
    stream = Stream([cluster.url], max_body_bytes=2**20)
    await stream.open()
    events = (await stream.read_state()).events
    await stream.close()
    return events


async def _measure(cluster: NatsCluster, server: PostgresServer, seconds: int, requests: Path) -> Measured:
    url, port = await prepare_database(server), find_port()
    environ = {
        "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": str(port), "FORMANT_WEBHOOK_SECRET": SECRET,
        "OUTCOMES_SPILL_URL": cluster.url,
    }  # fmt: skip
    arguments = ["-m", "service", "serve"]
    return await asyncio.to_thread(measure, "", arguments, port, environ, seconds, requests, server, url)


async def _bench(server: PostgresServer, seconds: int, events: int) -> None:
    alone = beside = 0.0
    print(f"Drain: {CONNECTIONS} connections, {seconds} s each; {events:,} events of 1 KB wait in the spill stream")
    with tempfile.TemporaryDirectory(prefix="outcomes-bench-") as folder:
        requests = Path(folder) / "requests"
        write_requests(requests, REQUESTS, RECIPIENTS)
        await settle(server)
        for pair in range(PAIRS):
            async with run_nats(size="4GB") as cluster:
                quiet = await _measure(cluster, server, seconds, requests)
                await fill(cluster, events, seed=2 + pair)
                busy = await _measure(cluster, server, seconds, requests)
                left = await count_events(cluster)
            alone, beside = alone + quiet.per_second, beside + busy.per_second
            drained = f"{events - left:,} drained" if left else "the drain ended too early: raise --waiting"
            print(
                f"live webhooks/s alone, beside a drain  {quiet.per_second:8,.0f} {busy.per_second:8,.0f}   "
                f"p99 {quiet.p99_ms:.1f}, {busy.p99_ms:.1f} ms   failed {quiet.failed + busy.failed}   {drained}"
            )
    print(f"beside a drain / alone                 {beside / alone:8.2f}   (goal: at least 0.67)")


def bench_drain(server: PostgresServer, seconds: int, events: int) -> None:
    """Measures live webhooks alone and beside a drain, in pairs; prints the figures and the ratio."""
    asyncio.run(_bench(server, seconds, events))
