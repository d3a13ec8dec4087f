"""A large export takes no more memory than a small one: measured on the service as a process of its own."""

import asyncpg
import psutil

from tests.factories import BATCH_ID, store_batch
from tests.processes import serve

ROWS = 200_000
MEGABYTE = 2**20
BOUNDS = (
    ("csv", 140 * MEGABYTE, 20 * MEGABYTE),
    ("ndjson", 140 * MEGABYTE, 20 * MEGABYTE),
    ("parquet", 10 * MEGABYTE, 60 * MEGABYTE),
)


async def store_large_batch(url: str) -> None:
    """200,000 recipients, every second one called: 150 MB and more in each text format."""
    key = await store_batch(url, ROWS)
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"""
        SET synchronous_commit = off;
        UPDATE batches SET columns = '{{customer_phone,text}}';
        DELETE FROM recipients;
        INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
        SELECT {key}, n, '+91' || 7000000000 + n,
               jsonb_build_object('text', md5(n::text) || md5('a' || n) || repeat(md5('b' || n), 18))
        FROM generate_series(1, {ROWS}) AS n;
        INSERT INTO facts (batch_key, recipient_no, arrival_id, conversation_id, attempt_number, status, is_final,
                           started_at, results, event_id, source, method, recorded_at)
        SELECT {key}, n, n, 'conversation-' || n, 1, 'completed', true, now(), '{{"intent": "pay"}}', 'event-' || n,
               'webhook', 'reference', now()
        FROM generate_series(1, {ROWS}, 2) AS n;
        INSERT INTO outcomes
        SELECT batch_key, recipient_no, 'completed', 1, arrival_id, nextval('feed_positions'), 1, now() FROM facts;
        ANALYZE
        """
    )
    await connection.close()


async def test_memory_stays_bounded_however_large_an_export_is(database_url: str) -> None:
    await store_large_batch(database_url)
    async with serve(OUTCOMES_DATABASE_URL=database_url, OUTCOMES_RECONCILE_SECONDS="0") as serving:
        process = psutil.Process(serving.process.pid)
        for file_format, least_bytes, most_growth_bytes in BOUNDS:
            path = f"/v1/batch-calls/{BATCH_ID}/recipients.{file_format}"
            assert (await serving.client.get(path, params={"until": 1000})).status_code == 200  # loads what it needs
            before = peak = process.memory_info().rss
            size = 0
            async with serving.client.stream("GET", path) as answer:
                assert answer.headers["x-outcomes-rows"] == str(ROWS)
                async for chunk in answer.aiter_raw(MEGABYTE):
                    size += len(chunk)
                    peak = max(peak, process.memory_info().rss)
            assert size > least_bytes
            assert peak - before < most_growth_bytes
