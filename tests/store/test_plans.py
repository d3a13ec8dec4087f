"""What a query costs does not grow with the tables: look-ups read a few index entries and never a whole table.

Measured from the server's own counts of scans and of rows read, so plans inside functions are seen as they really run;
and in each state that a table may be in when a plan is made: analysed, never analysed, and still empty.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.outcomes.filters import Filters
from service.store.database import connect
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, decode, make_payload, phone_of
from tests.store.plans import OCCURRED, QUERIES, ROWS, fill, reading_little

NOW = datetime.now(UTC) + timedelta(days=1)  # as of then all of it is known
NARROW = Filters(
    states=("completed", "busy"), statuses=("completed",), sources=("webhook",), min_attempts=1, max_attempts=3,
    changed_since=BEGAN, results={"intent": ["refused"]}, result_times={"promise_date": (BEGAN, None)}, time_zone="UTC",
    parameters={"city": ["Pune"]}, failure_reasons=("busy",), phone=phone_of(777),
).to_json()  # fmt: skip


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service uses them."""
    opened = await connect(database_url)
    yield opened
    await opened.close()


async def fill_windows(connection: asyncpg.Connection) -> None:
    """20,000 finished batches from the dashboard, of an agent of their own."""
    await connection.execute(
        f"""
        INSERT INTO batches (batch_id, agent_id, name, upload_state, columns, origin, is_registered, created_at,
                             prepared_at, closed_at)
        SELECT 1000 + n, 777, '', 'uploaded', '{{}}', 'provider', false, t.at, t.at, t.at + interval '1 hour'
        FROM generate_series(1, {ROWS}) AS n
        CROSS JOIN LATERAL (SELECT timestamptz '2020-01-01' + n * interval '1 hour' AS at) AS t;
        """
    )


async def look_up(connection: asyncpg.Connection) -> None:
    """Every query that a reader calls."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("get_event", {"event_id": "old-777"}),
        ("get_event", {"event_id": "bad-777"}),
        ("get_event", {"event_id": "stray-777"}),
        ("get_event", {"event_id": "unknown"}),
        ("get_batch", {"batch_id": BATCH_ID}),
        (
            "get_batch_counts",
            {
                "batch_id": BATCH_ID,
                "time_zone": "Asia/Kolkata",
                "names": 100,
                "values": 50,
                "step": "hour",
                "hours": 337,
            },
        ),
        ("list_batches", {"agent_id": AGENT_ID, "campaign_id": None, "verdict": None, "limit": 20, "offset": 0}),
        ("list_batches", {"agent_id": None, "campaign_id": None, "verdict": None, "limit": 20, "offset": 0}),
        ("count_batches", {"agent_id": AGENT_ID, "campaign_id": None, "verdict": None}),
        ("list_uploads", {"state": None, "before": 2**62, "limit": 20}),
        ("list_unattributed", {"after": 0, "limit": 100}),
        ("list_alarms", {"counted": 100, "shown": 20}),
        ("list_unreached_agents", {"counted": 100}),
        *(
            (
                "list_other_calls",
                {
                    "kinds": ["single", "inbound"],
                    "agent_id": agent_id,
                    "since": BEGAN - timedelta(days=70),
                    "until": NOW,
                    "after_called_at": BEGAN - timedelta(days=70),
                    "after_arrival": 0,
                    "limit": 100,
                },
            )
            for agent_id in (None, AGENT_ID)
        ),
        (
            "count_other_calls_by_status",
            {"kinds": ["single"], "agent_id": AGENT_ID, "since": BEGAN.date(), "until": NOW.date()},
        ),
        ("list_unreferenced_bodies", {"after": 0, "limit": 100}),
        ("list_unreferenced_bodies", {"after": ROWS, "limit": 100}),
        ("get_event", {"event_id": "other-777"}),
        ("forget_people", {"days": 3650, "rows": 100, "now": NOW}),
        ("list_stuck_calls", {"counted": 100, "shown": 20}),
        ("count_expected_retries", {"batch_key": 1, "after": BEGAN}),
        ("get_work_waiting", {"counted": 100}),
        ("list_last_webhooks", {"sampled": 100}),
        ("list_unverified_batches", {"full_run_id": None, "after": 0, "limit": 100}),
        ("get_batch_revision", {"batch_key": 1}),
        ("get_sample_bounds", {}),
        ("sample_facts", {"last_arrival": 4 * ROWS, "size": 100}),
        ("find_place_key", {"after": ROWS}),
        ("find_batch_as_of", {"batch_id": BATCH_ID, "as_of": NOW}),
        (
            "list_recipients_as_of",
            {
                "batch_id": BATCH_ID,
                "after": ROWS // 4,
                "until": ROWS // 4 + 100,
                "filters": None,
                "limit": 100,
                "as_of": NOW,
            },
        ),
        ("list_recipient_facts_as_of", {"batch_id": BATCH_ID, "recipient_no": 777, "as_of": NOW}),
        ("find_last_event_as_of", {"batch_key": 1, "after": 700, "limit": 100, "as_of": NOW, "since": None}),
        ("count_states_as_of", {"batch_key": 1, "after": 700, "limit": 100, "as_of": NOW}),
        ("read_feed", {"after": 0, "limit": 99, "bytes": 2**20}),
        ("read_feed", {"after": ROWS // 2, "limit": 99, "bytes": 2**20}),
        ("read_feed", {"after": ROWS, "limit": 99, "bytes": 2**20}),
        ("get_last_position", {}),
        ("get_last_taken_position", {}),
        ("get_feed_consumer", {"name": "crm", "counted": 100}),
        ("list_feed_consumers", {"counted": 100}),
        ("count_feed", {"after": 0, "counted": 100}),
        ("count_feed", {"after": ROWS, "counted": 100}),
        ("acknowledge_feed", {"name": "crm", "position": ROWS // 2, "is_reset": False, "limit": 100, "tag": "a"}),
        ("acknowledge_feed", {"name": "crm", "position": 2 * ROWS, "is_reset": True, "limit": 100, "tag": None}),
        ("list_fields", {"agent_id": None, "after": None, "limit": 100, "batches": 200, "names": 1000}),
        (
            "list_recipients",
            {"batch_id": BATCH_ID, "after": ROWS // 4, "until": ROWS // 4 + 100, "filters": None, "limit": 100},
        ),
        (
            "list_recipients",
            {"batch_id": BATCH_ID, "after": ROWS // 4, "until": ROWS // 4 + 200, "filters": NARROW, "limit": 100},
        ),
        ("list_recipients", {"batch_id": BATCH_ID, "after": 0, "until": ROWS, "filters": None, "limit": 100}),
        ("get_batch_agent", {"batch_id": BATCH_ID}),
        ("find_recipient_by_phone", {"batch_id": BATCH_ID, "after": 0, "phone": phone_of(777)}),
        ("get_batch_version", {"batch_id": BATCH_ID}),
        ("get_batch_figures", {"batch_id": BATCH_ID}),
        ("list_slice_names", {"batch_id": BATCH_ID, "sampled": 400}),
        ("list_result_names", {"batch_id": BATCH_ID, "names": 100}),
        ("list_unattributed", {"after": ROWS + ROWS // 2, "limit": 100}),
        ("list_quarantine", {"after": 0, "limit": 100}),
        ("preview_erasure", {"phone": phone_of(777)}),
        ("list_audit", {"before": 2**62, "action": "upload", "actor": None, "searched": 100, "limit": 100}),
        ("find_audit_end", {"before": 2**62, "searched": 100}),
        ("read_quarantined", {"quarantine_id": 777}),
        ("list_erasures", {"before": 2**62, "limit": 100}),
        ("list_unfinished_erasures", {"limit": 100}),
        ("list_quarantine", {"after": ROWS // 2, "limit": 100}),
        ("get_quarantined", {"quarantine_id": 777}),
        (
            "find_called_recipients",
            {
                "agent_id": AGENT_ID,
                "phone": [phone_of(777), "+1", None],
                "conversation_id": ["old-777", "x", "y"],
                "status": ["completed", "busy", "busy"],
                "started_at": [BEGAN, BEGAN, None],
                "called_at": [BEGAN, BEGAN, None],
                "until": [BEGAN, BEGAN, None],
                "is_completed": [True, False, False],
            },
        ),
        ("count_called", {"phones": [phone_of(777), phone_of(778), "+1"], "since": BEGAN}),
        ("find_called", {"phones": [phone_of(777), phone_of(778), "+1"], "since": BEGAN}),
        ("find_suppressed", {"phones": [phone_of(777), phone_of(778), "+1"]}),
        ("get_last_suppression", {}),
        ("get_suppression", {"phone": phone_of(777)}),
        ("list_suppressions", {"before": 2**62, "limit": 100}),
        ("list_suppressions", {"before": ROWS // 2, "limit": 100}),
        ("mark_suppressed", {"batch_keys": [1], "after": 2**62}),
        (
            "suppress_people",
            {
                "phones": [phone_of(777), "+1"],
                "reasons": ["r", "r"],
                "source": "crm",
                "actor": "me",
                "key_id": None,
                "request_id": None,
            },
        ),
        (
            "learn_suppressions",
            {
                "phone": [phone_of(779), None],
                "ref_token": [None, "feedc0de"],
                "ref_no": [None, 780],
                "agent_id": [AGENT_ID, AGENT_ID],
                "reason": ["r", "r"],
                "called_at": [BEGAN, BEGAN],
            },
        ),
        (
            "lift_suppression",
            {"phone": phone_of(777), "reason": "r", "actor": "me", "key_id": None, "request_id": None},
        ),
        ("list_reconciliations", {"batch_id": BATCH_ID, "before": 2**62, "limit": 20}),
        ("get_snapshot_before", {"batch_key": 1, "at": BEGAN}),
        ("get_snapshot_after", {"batch_key": 1, "at": BEGAN}),
        ("has_event", {"event_id": "old-777", "occurred_at": OCCURRED}),
        ("list_outstanding_details", {"batch_key": 1007, "now": NOW, "limit": 50}),
        ("count_outstanding_details", {"batch_key": 1007, "now": NOW}),
        ("defer_details", {"arrival_id": 1, "due_at": NOW}),
        ("finish_details", {"arrival_id": 1}),
        ("get_healing", {"batch_id": BATCH_ID}),
        ("get_oldest_due", {"now": NOW}),
    ]
    for name, arguments in calls:
        async with reading_little(connection, f"{name}({arguments})"):
            found = getattr(QUERIES, name)(connection, **arguments)
            if hasattr(found, "__aiter__"):
                assert len([row async for row in found]) <= 100
            else:
                await found


async def ingest_every_kind(connection: asyncpg.Connection) -> None:
    """Groups that take every way through ``ingest``."""
    await connection.execute(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, columns, origin, is_registered, created_at) "
        "VALUES (900, 777, '', 'uploaded', '{}', 'provider', false, $1) ON CONFLICT DO NOTHING", BEGAN,
    )  # fmt: skip
    new = decode(make_payload(recipient=777), make_payload(recipient=778, attempt=2, status="busy", final=False))
    retried = decode(make_payload(recipient=777, attempt=2))
    by_phone = decode(make_payload(recipient=None, phone=phone_of(779), began=BEGAN + timedelta(days=1)))
    stray = decode(make_payload(recipient=None, phone="+19999999999"))
    elsewhere = decode(*(make_payload(recipient=None, phone=f"+1888888888{n}", agent_id=777) for n in (1, 1, 2)))
    await connection.execute(
        "INSERT INTO erased_phones VALUES (hash_person('phone', $1), now()) ON CONFLICT DO NOTHING", phone_of(782)
    )
    await connection.execute(
        "INSERT INTO erased_recipients SELECT min(batch_key), 782, hash_person('phone', $1) FROM batches "
        "ON CONFLICT DO NOTHING", phone_of(782),
    )  # fmt: skip
    erased = decode(make_payload(recipient=782), make_payload(recipient=None, phone=phone_of(782)))
    conflict = decode(make_payload(recipient=780, event_id=new[0].event_id))
    healed = [retried[0]._replace(event_id=f"healed-{retried[0].event_id}", source="healed", attempt_number=None)]
    earlier = elsewhere[0]._replace(
        event_id="earlier", conversation_id="earlier", source="healed", attempt_number=None, parameters="{}",
        status="busy", is_final=False, started_at=BEGAN, ended_at=BEGAN, occurred_at=BEGAN,
    )  # fmt: skip
    ruled, bare = (
        event._replace(conversation_id="ruled")
        for event in decode(*(make_payload(recipient=None, phone=phone_of(784)) for _ in range(2)))
    )
    groups = {
        "a conversation before its call": [bare], "a call outside batches": [ruled._replace(kind="single")],
        "a conversation after its call": [bare._replace(event_id=f"{bare.event_id} again")],
        "new": new, "a retry": retried, "found by phone": by_phone, "stray": stray, "found by window": elsewhere,
        "found by window, earlier": [earlier],
        "a duplicate": new,
        "a waiting duplicate": stray, "a conflict": conflict, "healed": healed, "erased": erased,
        "all at once": [*new, *by_phone, *stray, *conflict, *decode(make_payload(recipient=781))],
    }  # fmt: skip
    for name, events in groups.items():
        columns = dict(zip(events[0]._fields, zip(*events, strict=True), strict=True))
        async with reading_little(connection, f"ingest of {name}"):
            await QUERIES.ingest(connection, **columns)
        named = {name: columns[name] for name in ("event_id", "digest", "occurred_at")}
        async with reading_little(connection, f"names of {name}"):
            found = QUERIES.name_events(connection, **named, conflicts=3, unattributed=3)
            assert len([row async for row in found]) <= 6
    await connection.execute("SELECT place_again(batch_key, NULL) FROM batches WHERE batch_id = 900")
    job = await connection.fetchval("SELECT max(job_id) FROM placement_jobs")
    async with reading_little(connection, "a step that places a window's earlier call and not its later one"):
        await QUERIES.placement_step(connection, job_id=job, rows=1)


async def test_tables_that_were_never_analysed_are_read_by_their_indexes(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection, database_url)
    await fill_windows(connection)
    await look_up(connection)
    await ingest_every_kind(connection)


async def test_analysed_tables_are_read_by_their_indexes(connection: asyncpg.Connection, database_url: str) -> None:
    await fill(connection, database_url)
    await fill_windows(connection)
    await connection.execute("ANALYZE")
    await look_up(connection)
    await ingest_every_kind(connection)


async def test_plans_of_ingest_made_while_the_tables_were_empty_stay_good_when_they_have_grown(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await connection.execute("ANALYZE")
    for _ in range(6):  # the server keeps a plan from the sixth call on, where it may choose
        await ingest_every_kind(connection)
    await fill(connection, database_url)
    await fill_windows(connection)
    await ingest_every_kind(connection)


@pytest.mark.parametrize("is_analysed", [True, False])
async def test_a_step_that_dates_events_reads_its_own_pages(
    connection: asyncpg.Connection, database_url: str, is_analysed: bool
) -> None:
    await fill(connection, database_url)
    if is_analysed:
        await connection.execute("ANALYZE")
    await connection.execute("UPDATE events SET week = '-infinity'; DELETE FROM repairs; TRUNCATE event_conflicts")
    await QUERIES.date_events_step(connection, pages=10_000)
    await connection.execute("UPDATE events SET week = '-infinity'")
    pages = await connection.fetchval("SELECT pg_relation_size('events') / current_setting('block_size')::int")
    await connection.execute("UPDATE repairs SET cursor = $1 WHERE name = 'event_weeks'", pages - 8)
    async with reading_little(connection, "date_events_step"):
        assert await QUERIES.date_events_step(connection, pages=4) > 100


async def test_the_measure_sees_a_scan_of_a_whole_table_and_of_a_whole_index(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection, database_url)
    with pytest.raises(AssertionError, match="scans the whole of facts"):
        async with reading_little(connection, "it"):
            await connection.execute("SELECT count(*) FROM facts WHERE status = 'busy'")
    with pytest.raises(AssertionError, match="entries of events_pkey"):
        async with reading_little(connection, "it"):
            await connection.execute("SET LOCAL enable_seqscan = off; SELECT count(*) FROM events WHERE event_id > 'a'")
