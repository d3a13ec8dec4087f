"""Growth: what ingest and reads cost at 100,000 stored events and at many more, with memory for a few of them only."""

import asyncio
import hashlib
import itertools
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import psutil

from service.app import open_app, prepare_schema
from service.formant.events import Event, EventDecoder
from service.server.process import serve_in_background
from service.settings import read_settings
from service.store.database import Database, load_queries, open_database
from service.store.embedded import CONFIGURATION
from tests.bench.load import AGENT_ID, REF_TOKEN, START, make_bodies
from tests.bench.machine import read_cpu_seconds
from tests.bench.sizes import SIZES
from tests.conftest import create_database, drop_database
from tests.postgres import PostgresServer

DAY = timedelta(days=1)
BASE = 100_000
DAYS = 730
BATCH_RECIPIENTS = 2_000
BATCH_EVENTS = 2_500  # a quarter of the recipients are called twice
RECIPIENTS = 100_000
GROUP = 100
GROUPS = 400
WARM_UP_GROUPS = 100
READS = 200
STEPS = 20
FILLING = ("autovacuum=off", "wal_level=minimal", "max_wal_senders=0", "maintenance_work_mem=1GB")
SMALL = ("autovacuum=off", "shared_buffers=128MB", "debug_io_direct=data")
FILLED = ("events", "facts", "recipients", "outcomes")
COUNTERS = (
    "batch_activity", "outcome_counts", "attempt_counts", "result_counts", "result_totals", "talk_time_counts",
    "contact_counts", "retry_counts", "call_counts",
)  # fmt: skip

_SERIES = f"""
    SELECT n AS arrival_id, (n - 1) / {BATCH_EVENTS} + 1 AS batch_key, k.place % {BATCH_RECIPIENTS} + 1 AS recipient_no,
           k.place / {BATCH_RECIPIENTS} + 1 AS attempt_number, md5('event' || n)::uuid::text AS event_id,
           $1::timestamptz + n * (interval '{DAYS} days' / $2::bigint) AS at
    FROM generate_series(1, $2::bigint) AS n
    CROSS JOIN LATERAL (SELECT (n - 1) % {BATCH_EVENTS} AS place) AS k
"""
# Each takes the time of the first event and the number of events.
_BATCHES = f"""
    INSERT INTO batches (batch_id, agent_id, name, status, total_recipients, created_at, prepared_at, upload_state,
                         ref_token, columns, recipient_count, closed_at, people_forgotten_at)
    SELECT n, {AGENT_ID}, 'stored', 'completed', {BATCH_RECIPIENTS}, t.at, t.at, 'uploaded', 'stored' || n, '{{}}',
           {BATCH_RECIPIENTS}, t.at + interval '1 day', t.at
    FROM generate_series(1, $2::bigint / {BATCH_EVENTS}) AS n
    CROSS JOIN LATERAL (
        SELECT $1::timestamptz + n * (interval '{DAYS} days' / ($2::bigint / {BATCH_EVENTS})) AS at
    ) AS t
"""
_ROWS = {
    "events": f"""
        INSERT INTO events (week, event_id, arrival_id, digest, event_type, target, received_at, recorded_at)
        SELECT event_week(at), event_id, arrival_id, sha256(int8send(arrival_id)), 'call.completed', 'default', at, at
        FROM ({_SERIES}) AS s
    """,
    "facts": f"""
        INSERT INTO facts (batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status,
                           is_final, occurred_at, started_at, ended_at, duration_seconds, results, event_id, source,
                           method, recorded_at)
        SELECT batch_key, recipient_no, arrival_id, event_id || '_1', attempt_number, 3,
               CASE WHEN recipient_no % 4 = 0 AND attempt_number = 1 THEN 'busy' ELSE 'completed' END,
               recipient_no % 4 <> 0 OR attempt_number = 2, at, at - interval '1 minute', at, 60,
               '{{"intent": "promise_to_pay"}}', event_id, 'webhook', 'reference', at
        FROM ({_SERIES}) AS s
    """,
    "recipients": f"""
        INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
        SELECT batch_key, recipient_no, '+91' || 6000000000 + abs(hashint8(arrival_id)), '{{}}' FROM ({_SERIES}) AS s
        WHERE attempt_number = 1
    """,
    "outcomes": f"""
        INSERT INTO outcomes (batch_key, recipient_no, state, attempts, arrival_id, position, version, changed_at)
        SELECT batch_key, recipient_no, 'completed', 1, arrival_id, arrival_id, 1, at FROM ({_SERIES}) AS s
        WHERE attempt_number = 1
    """,
}
_COUNTS = """
    INSERT INTO batch_activity SELECT batch_key, closed_at, 2, closed_at, closed_at FROM batches;
    INSERT INTO outcome_counts SELECT batch_key, 'completed', a, 'webhook', 1000, 1000, 60000
    FROM batches, generate_series(1, 2) AS a;
    INSERT INTO attempt_counts SELECT batch_key, created_at + n * interval '15 minutes', s, 40
    FROM batches, generate_series(1, 30) AS n, unnest('{completed,busy}'::text[]) AS s;
    INSERT INTO result_counts SELECT batch_key, 'intent', 'value ' || n, 200 FROM batches, generate_series(1, 10) AS n;
    INSERT INTO result_totals SELECT batch_key, 'intent', 2000 FROM batches;
    INSERT INTO talk_time_counts SELECT batch_key, n * 30, 200 FROM batches, generate_series(1, 10) AS n;
    INSERT INTO contact_counts SELECT batch_key, 2000, 2000 FROM batches;
    INSERT INTO retry_counts SELECT batch_key, created_at + n * interval '15 minutes', 0
    FROM batches, generate_series(1, 30) AS n;
    INSERT INTO call_counts SELECT batch_key, 'from_phone', v, 2500, 2000
    FROM batches, unnest(ARRAY['', '+918000000000']) AS v;
    INSERT INTO batch_schedules (batch_key, due_at, verdict, verdict_since, last_reconciled_at, compared_revision)
    SELECT batch_key, 'infinity', 'complete', closed_at, closed_at, 2 FROM batches;
    INSERT INTO provider_metrics (batch_key, taken_at, last_seen_at, total_recipients, completed_count)
    SELECT batch_key, created_at + n * interval '1 hour', created_at + n * interval '1 hour', 2000, 2000
    FROM batches, generate_series(1, 5) AS n;
    -- A service that starts has nothing to repair.
    INSERT INTO repairs (name, cursor)
    SELECT n, (SELECT max(arrival_id) FROM facts) FROM unnest('{implausible_facts,call_details}'::text[]) AS n;
    UPDATE phone_repairs SET due_at = 'infinity';
    SELECT setval('arrival_ids', (SELECT max(arrival_id) FROM facts)),
           setval('feed_positions', (SELECT max(arrival_id) FROM facts))
"""
_INDEXES = """
SELECT i.indexrelid::regclass::text AS name, c.oid IS NOT NULL AS is_constraint,
       coalesce(pg_get_constraintdef(c.oid), pg_get_indexdef(i.indexrelid)) AS definition
FROM pg_index AS i LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u')
WHERE i.indrelid = $1::regclass
"""


@dataclass
class Costs:
    """What was measured at one size; the figures by their name, in the order in which they are printed."""

    events: int
    figures: dict[str, float] = field(default_factory=dict)
    bytes_per_event: dict[str, tuple[float, float]] = field(default_factory=dict)


async def _fill_table(connection: asyncpg.Connection, table: str, events: int) -> None:
    """Fills a table without its indexes, and builds them as full as they are after years of random inserts."""
    indexes = await connection.fetch(_INDEXES, table)
    async with connection.transaction():
        await connection.execute(f"TRUNCATE {table}")  # so that nothing of it goes through the write-ahead log
        for row in indexes:
            what = f"ALTER TABLE {table} DROP CONSTRAINT" if row["is_constraint"] else "DROP INDEX"
            await connection.execute(f"{what} {row['name']}")
        await connection.execute(_ROWS[table], START - DAYS * DAY, events)
        for row in indexes:
            if row["is_constraint"]:
                definition = f"ALTER TABLE {table} ADD CONSTRAINT {row['name']} {row['definition']}"
                await connection.execute(definition + (" WITH (fillfactor = 70)" if table == "events" else ""))
            else:
                await connection.execute(row["definition"])


async def fill_history(url: str, events: int) -> None:
    """Stores events of the two years before the load's, in batches that are finished."""
    await prepare_schema(url, may_migrate=True)
    connection = await asyncpg.connect(url)
    await connection.execute("SET timezone = 'UTC'")
    started = time.perf_counter()
    await connection.execute(_BATCHES, START - DAYS * DAY, events)
    for table in FILLED:
        await _fill_table(connection, table, events)
    await connection.execute(_COUNTS)
    await connection.execute(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, ref_token, ref_column, columns, recipient_count) "
        "VALUES (1000000, $1, 'bench', 'uploaded', $2, 'outcome_ref', '{}', $3)",
        AGENT_ID, REF_TOKEN, RECIPIENTS,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO recipients SELECT batch_key, n, '+91' || 7000000000 + n, '{}' "
        "FROM batches CROSS JOIN generate_series(1, $1) AS n WHERE batch_id = 1000000",
        RECIPIENTS,
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()
    print(f"  {events:,} events stored in {time.perf_counter() - started:.0f} s", flush=True)


def _postgres_ms(postgres: psutil.Process) -> float:
    return 1000 * read_cpu_seconds(postgres)


async def _measure_ingest(url: str, postgres: psutil.Process, figures: dict[str, float]) -> None:
    """Ingests new events in groups as the writer makes them, once the memory has what such events need."""
    connection = await asyncpg.connect(url)
    ingest = load_queries().ingest
    decoder, received_at = EventDecoder("outcome_ref"), datetime.now(UTC)
    bodies = make_bodies((WARM_UP_GROUPS + GROUPS) * GROUP, RECIPIENTS)
    seconds: list[float] = []
    read, cpu = 0, 0.0
    while group := [
        decoder.decode_event(body, "default", received_at, None) for body in itertools.islice(bodies, GROUP)
    ]:
        if len(seconds) == WARM_UP_GROUPS:
            read, cpu = await _count_read_blocks(connection), _postgres_ms(postgres)
        started = time.perf_counter()
        counts = await ingest(connection, **dict(zip(Event._fields, zip(*group, strict=True), strict=True)))
        seconds.append(time.perf_counter() - started)
        assert counts["applied"] == len(group)
    figures["ingest: blocks read an event"] = (await _count_read_blocks(connection) - read) / (GROUPS * GROUP)
    figures["ingest: CPU µs an event"] = 1000 * (_postgres_ms(postgres) - cpu) / (GROUPS * GROUP)
    figures["ingest: µs an event, p50"] = 1e6 * statistics.median(seconds[WARM_UP_GROUPS:]) / GROUP
    figures["ingest: µs an event, mean"] = 1e6 * statistics.mean(seconds[WARM_UP_GROUPS:]) / GROUP
    await connection.close()


async def _count_read_blocks(connection: asyncpg.Connection) -> int:
    await connection.execute("SELECT pg_stat_force_next_flush()")
    count: int = await connection.fetchval("SELECT blks_read FROM pg_stat_database WHERE datname = current_database()")
    return count


async def _measure_upkeep(url: str, figures: dict[str, float]) -> None:
    """Vacuum after the ingested events: of the counters, with their dead rows, and of the ledger."""
    connection = await asyncpg.connect(url)
    dead = "SELECT sum(n_dead_tup) FROM pg_stat_user_tables WHERE relname = ANY ($1::text[])"
    figures["dead rows of counters"] = float(await connection.fetchval(dead, COUNTERS))
    for name, tables in (("counters", COUNTERS), ("events", ("events",)), ("facts", ("facts",))):
        started = time.perf_counter()
        await connection.execute(f"VACUUM {', '.join(tables)}")
        figures[f"vacuum of {name}, ms"] = 1000 * (time.perf_counter() - started)
    await connection.close()


async def _measure_calls(
    what: str,
    call: Callable[[], Awaitable[Any]],
    postgres: psutil.Process,
    figures: dict[str, float],
    times: int,
) -> None:
    for _ in range(times // 10):
        await call()
    cpu, seconds = _postgres_ms(postgres), []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - started)
    figures[f"{what}: ms, p50"] = 1000 * statistics.median(seconds)
    figures[f"{what}: CPU ms"] = (_postgres_ms(postgres) - cpu) / times


async def _measure_reads(url: str, events: int, postgres: psutil.Process, figures: dict[str, float]) -> None:
    configured = read_settings({"OUTCOMES_DATABASE_URL": url, "OUTCOMES_API_KEY": "k", "FORMANT_WEBHOOK_SECRET": "s"})
    numbers = itertools.count(1)
    async with (
        open_app(configured, url) as service,
        serve_in_background(service, "127.0.0.1", 0) as port,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": "Bearer k"}, trust_env=False, timeout=120
        ) as client,
        open_database(url, allow_unsafe=False) as database,
    ):

        async def get(path: str, **params: Any) -> None:
            answer = await client.get(path, params=params)
            assert answer.status_code == 200, answer.text

        gets = {
            "outcomes of a batch": lambda: get("/v1/batch-calls/1000000/outcomes"),
            "page of the feed": lambda: get("/v1/feed", after=next(numbers) * (events // 500), limit=100),
            "list of batches": lambda: get("/v1/batch-calls", agent_id=AGENT_ID),
            "one event": lambda: get(f"/v1/events/{_name_event(next(numbers) * (events // 500))}"),
            "alarms": lambda: get("/v1/alarms"),
        }
        steps = {"reconciliation's pass": lambda: _pass(database), "retention's pass": lambda: _forget(database)}
        await _wait_until_quiet(database)
        for what, call in gets.items():
            await _measure_calls(what, call, postgres, figures, READS)
        for what, call in steps.items():
            await _measure_calls(what, call, postgres, figures, STEPS)


async def _wait_until_quiet(database: Database) -> None:
    """Returns once what the service does at its start is done."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend'"
    quiet = 0
    for _ in range(1200):
        quiet = quiet + 1 if await database.pool.fetchval(others) == 1 else 0
        if quiet == 20:
            return
        await asyncio.sleep(0.1)
    print("  the service is still busy with its start", flush=True)


def _name_event(number: int) -> str:
    return str(uuid.UUID(hashlib.md5(f"event{number}".encode(), usedforsecurity=False).hexdigest()))


async def _pass(database: Database) -> None:
    """Finds the batches that are due. Comparing one is a batch's own matter."""
    now = datetime.now(UTC)
    await database.queries.schedule_batches(database.pool, interval_seconds=30.0, now=now)
    claimed = database.queries.claim_due_batches(database.pool, holder="bench", limit=10, lease_seconds=1.0, now=now)
    assert len([row async for row in claimed]) <= 1


async def _forget(database: Database) -> None:
    """One step of each kind; only snapshots are old enough."""
    for kind in ("bodies", "people", "audit", "quarantine", "snapshots", "rejected_rows"):
        await getattr(database.queries, f"forget_{kind}")(database.pool, days=90, rows=5, now=datetime.now(UTC))


async def _measure_sizes(url: str, costs: Costs) -> None:
    connection = await asyncpg.connect(url)
    for row in await connection.fetch(SIZES):
        if row["name"] in FILLED:
            costs.bytes_per_event[row["name"]] = row["rows"] / costs.events, row["indexes"] / costs.events
    await connection.close()


async def _measure(url: str, costs: Costs, postgres: psutil.Process) -> None:
    await _measure_sizes(url, costs)
    await _measure_ingest(url, postgres, costs.figures)
    await _measure_upkeep(url, costs.figures)
    await _measure_reads(url, costs.events, postgres, costs.figures)


def _start(server: PostgresServer, *options: str) -> None:
    server.stop()
    server.start(*(f"-c {line.replace(' ', '')}" for line in CONFIGURATION.splitlines()), *(f"-c {o}" for o in options))


def bench_growth(server: PostgresServer, stored: int) -> None:
    """Prints the costs at 100,000 events and at ``stored``, and their ratios."""
    measured = []
    for events in sorted({BASE, stored - stored % BATCH_EVENTS}):
        _start(server, *FILLING)
        url = asyncio.run(create_database(server, "template0"))
        asyncio.run(fill_history(url, events))
        _start(server, *SMALL)
        costs = Costs(events)
        asyncio.run(_measure(url, costs, psutil.Process(server.pid)))
        measured.append(costs)
        asyncio.run(drop_database(server, url))
    base, last = measured[0], measured[-1]
    print(f"Growth: {', '.join(SMALL)}; groups of {GROUP}")
    print(f"{'':34}{base.events:>12,}{last.events:>12,}{'ratio':>8}")
    for name, value in base.figures.items():
        grown = last.figures[name]
        print(f"{name:34}{value:12,.2f}{grown:12,.2f}" + (f"{grown / value:8.2f}" if value else ""))
    for name, (rows, indexes) in last.bytes_per_event.items():
        print(f"{f'bytes an event, {name}':34}{rows:12,.0f}{indexes:12,.0f}  (rows, indexes at {last.events:,})")
