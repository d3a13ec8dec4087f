"""Large tables, and what a query reads of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg

from service.store.database import load_queries
from tests.factories import AGENT_ID, store_batch

ROWS = 20_000
WEEKS = 30
OCCURRED = datetime(2026, 5, 1, 12, tzinfo=UTC)
"""The time of some of the events; the others are of the weeks before it."""
FEW = 500  # index entries; a scan of anything whole would read 20,000
TABLES = [
    "events", "facts", "past_facts", "outcomes", "recipients", "unattributed", "event_conflicts", "quarantine",
    "retry_counts", "unreferenced_events", "reference_contradictions", "suppressions", "outstanding_details",
    "other_events", "other_call_counts",
]  # fmt: skip
QUERIES = load_queries()


async def fill(connection: asyncpg.Connection, url: str) -> None:
    """A batch with 20,000 recipients, each with an outcome; as many events that wait, and as many in quarantine."""
    await connection.execute("".join(f"ALTER TABLE {table} SET (autovacuum_enabled = off);" for table in TABLES))
    key = await store_batch(url, ROWS)
    await connection.execute(
        f"""
        INSERT INTO events
        SELECT 'old-' || n, nextval('arrival_ids'), '', 'call.completed', 'default', now(), now(), w.week
        FROM generate_series(1, {ROWS}) AS n
        CROSS JOIN LATERAL (SELECT event_week('{OCCURRED}') - 7 * (n % {WEEKS}) AS week) AS w;
        INSERT INTO facts (batch_key, recipient_no, arrival_id, conversation_id, attempt_number, status, is_final,
                           occurred_at, started_at, results, event_id, source, method, recorded_at)
        SELECT {key}, row_number() OVER (), arrival_id, event_id, 1, 'completed', true, week, now(),
               '{{"intent": "pay"}}', event_id, 'webhook', 'reference', now()
        FROM events WHERE event_id LIKE 'old-%';
        INSERT INTO past_facts (batch_key, recipient_no, arrival_id, conversation_id, attempt_number, status, is_final,
                                started_at, results, event_id, source, method, recorded_at, withdrawn_at)
        SELECT batch_key, recipient_no, arrival_id, conversation_id, attempt_number, status, is_final, started_at,
               results, event_id, source, method, recorded_at, now()
        FROM facts WHERE batch_key = {key};
        INSERT INTO outcomes
        SELECT batch_key, recipient_no, 'completed', 1, arrival_id, nextval('feed_positions'), 1, now()
        FROM facts WHERE batch_key = {key};
        INSERT INTO unattributed
        SELECT nextval('arrival_ids'), 'stray-' || n, {AGENT_ID}, '+1', 'no_batch', now()
        FROM generate_series(1, {ROWS}) AS n;
        INSERT INTO unreferenced_events
        SELECT arrival_id, {AGENT_ID}, '+9198' || 10000000 + arrival_id, event_id, 1, false, now(), now(), now(), now(),
               '{{"a": 1}}'
        FROM unattributed ON CONFLICT DO NOTHING;
        INSERT INTO reference_contradictions
        SELECT arrival_id, {AGENT_ID}, '+9198' || 10000000 + arrival_id, {key}, 1, event_id, now()
        FROM unattributed ON CONFLICT DO NOTHING;
        DELETE FROM placement_jobs;
        INSERT INTO outstanding_details
        SELECT arrival_id, 1000 + arrival_id % 200, event_id, now(), true FROM unattributed;
        INSERT INTO other_events (arrival_id, event_id, kind, is_ruled, is_counted, agent_id, phone, conversation_id,
                                  status, source, called_at, results, received_at, recorded_at)
        SELECT nextval('arrival_ids'), 'other-' || n, 'single', true, true, {AGENT_ID}, '+9197' || 10000000 + n,
               'other-' || n, 'completed', 'webhook', timestamptz '2026-01-01' + n * interval '1 minute', '{{}}', now(),
               now()
        FROM generate_series(1, {ROWS}) AS n;
        INSERT INTO event_conflicts
        SELECT 'old-' || n, 'c', nextval('arrival_ids'), 'call.busy', 'default', now(), now()
        FROM generate_series(1, {ROWS}) AS n;
        INSERT INTO quarantine (event_id, target, reason, detail, digest, body, received_at, last_received_at)
        SELECT 'bad-' || n, 'default', 'not_json', 'body', n::text::bytea, '', now(), now()
        FROM generate_series(1, {ROWS}) AS n;
        ANALYZE quarantine;  -- off the hot path; without statistics its index of what waits is read whole for one event
        INSERT INTO suppressions (phone_hash, reason, source, actor)
        SELECT sha256(n::text::bytea), 'asked by letter', 'crm', 'me' FROM generate_series(1, {ROWS}) AS n;
        ANALYZE suppressions;  -- likewise for a page of the list
        INSERT INTO feed_consumers (name, position) VALUES ('crm', 0);
        INSERT INTO outcome_counts VALUES ({key}, 'completed', 1, 'webhook', {ROWS}, 0, 0);
        INSERT INTO retry_counts SELECT {key}, now() - n * interval '1 minute', 0 FROM generate_series(1, {ROWS}) AS n;
        """
    )


async def count_reads(connection: asyncpg.Connection, *others: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Scans begun and rows or entries read so far, by table and index."""
    rows = await connection.fetch(
        """
        SELECT t.relname AS table, c.relname AS name, c.relkind = 'r' AS is_table,
               coalesce(pg_stat_get_xact_numscans(c.oid), 0) AS scans,
               coalesce(pg_stat_get_xact_tuples_returned(c.oid), 0) AS read
        FROM pg_class AS t
        JOIN pg_class AS c ON c.oid = t.oid OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = t.oid)
        WHERE t.relname = ANY ($1)
        """,
        [*TABLES, *others],
    )
    return {(row["table"], row["name"]): (row["scans"], row["read"]) for row in rows}


@asynccontextmanager
async def reading_little(connection: asyncpg.Connection, what: str) -> AsyncIterator[None]:
    """Fails when what happens inside scans a whole table, or reads more than a few entries of an index."""
    async with connection.transaction():
        before = await count_reads(connection, "batches")
        yield
        after = await count_reads(connection, "batches")
    for (table, name), (scans, read) in after.items():
        scanned, entries = scans - before[table, name][0], read - before[table, name][1]
        assert table != name or scanned == 0, f"{what} scans the whole of {table}"
        assert entries <= FEW, f"{what} reads {entries} entries of {name}"
