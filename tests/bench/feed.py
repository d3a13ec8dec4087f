"""The feed: how fast a reader gets from 0 to the end over HTTP, and how long a page takes at any position."""

import statistics
import time

import asyncpg
import httpx

from service.app import prepare_schema
from tests.bench.machine import find_port, run_process
from tests.bench.reads import fill
from tests.conftest import create_database
from tests.postgres import PostgresServer

PAGE = 1000
SAMPLES = 100
SMALL_PAGE = 100
KEY = "bench-key"


async def bench_feed(server: PostgresServer, changes: int) -> None:
    """Fills a batch through ``ingest``, reads its feed, and prints the rate and the times."""
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    # A fifth of the events are second attempts, which move their recipient in the feed; a fifth of the recipients are
    # never called.
    await fill(url, 1, changes * 5 // 4)
    connection = await asyncpg.connect(url)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    port = find_port()
    environ = {
        "OUTCOMES_DATABASE_URL": url,
        "OUTCOMES_API_KEY": KEY,
        "FORMANT_WEBHOOK_SECRET": "s",
        "OUTCOMES_PORT": str(port),
        "OUTCOMES_LOG_LEVEL": "error",
    }
    with run_process(["-m", "service", "serve"], port, environ):
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"authorization": f"Bearer {KEY}"},
            trust_env=False,
            timeout=60.0,
        ) as client:
            await _read_all(client)
            await _sample_pages(client)


async def _read_all(client: httpx.AsyncClient) -> None:
    entries = size_bytes = after = 0
    has_more = True
    started = time.perf_counter()
    while has_more:
        answer = await client.get("/v1/feed", params={"after": after, "limit": PAGE})
        answer.raise_for_status()
        page = answer.json()
        size_bytes += len(answer.content)
        entries += len(page["data"])
        after, has_more = page["next"], page["has_more"]
    taken = time.perf_counter() - started
    print(
        f"Feed: {entries:,} entries from 0 in pages of {PAGE:,}: {entries / taken:,.0f}/s "
        f"({taken:.1f} s, {size_bytes / 2**20 / taken:.0f} MB/s; the reader decodes each page)",
        flush=True,
    )


async def _sample_pages(client: httpx.AsyncClient) -> None:
    last = (await client.put("/v1/feed/consumers/bench", json={"position": 0})).json()["data"]["last_position"]
    starts = {"the beginning": 0, "the middle": last // 2, "the end": last - SMALL_PAGE, "an empty page": last}
    samples: dict[str, list[float]] = {name: [] for name in starts}
    for number in range(SAMPLES + 5):
        for name, after in starts.items():
            started = time.perf_counter()
            answer = await client.get("/v1/feed", params={"after": after, "limit": SMALL_PAGE})
            taken = time.perf_counter() - started
            answer.raise_for_status()
            if number >= 5:
                samples[name].append(1000 * taken)
    print(f"A page of {SMALL_PAGE}, {SAMPLES} times each:")
    for name, times in samples.items():
        print(f"  {name}: p50 {statistics.median(times):.2f} ms, p99 {statistics.quantiles(times, n=100)[98]:.2f} ms")
    started = time.perf_counter()
    for _ in range(SAMPLES):
        (await client.get("/v1/feed/consumers/bench")).raise_for_status()
    print(f"  the lag of a consumer at 0: {1000 * (time.perf_counter() - started) / SAMPLES:.2f} ms")
