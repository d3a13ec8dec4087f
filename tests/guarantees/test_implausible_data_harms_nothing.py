"""Times and numbers that cannot be true are dropped from new events, and repaired in rows that an older version stored.

Every export, the feed, the views, answers as of earlier times and ``outcomes verify`` work with such rows, before and
after their repair; the repair can be killed at any line.
"""

import asyncio
import json
import math
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.formant.conversations import decode_conversation, to_event
from service.formant.events import Event, EventDecoder
from service.formant.plausible import EARLIEST, LATEST
from service.store.database import Database
from service.webhooks import repair, verification
from service.webhooks.repair import Repairer
from tests.conftest import StartService, create_database, drop_database
from tests.eventually import eventually
from tests.exports.exported import export, read_csv, read_ndjson, read_parquet_by_duckdb, read_parquet_by_pyarrow
from tests.factories import BATCH_ID, decode, encode, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.backups import back_up, restore
from tests.guarantees.recount import find_differences, verify, verify_all
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run, start
from tests.webhooks.ingesting import ingest

YEAR_1, YEAR_9999 = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
EPOCH = 1764000000
BATCH = f"/v1/batch-calls/{BATCH_ID}"
IMPLAUSIBLE = """
SELECT arrival_id FROM facts
WHERE NOT is_plausible_fact(
    next_retry_at, occurred_at, started_at, ended_at, duration_seconds, attempt_number, max_attempts)
UNION ALL
SELECT arrival_id FROM past_facts
WHERE NOT is_plausible_fact(
    next_retry_at, occurred_at, started_at, ended_at, duration_seconds, attempt_number, max_attempts)
UNION ALL SELECT batch_key FROM batches WHERE created_at IS DISTINCT FROM plausible_time(created_at)
UNION ALL SELECT batch_key FROM batch_versions WHERE created_at IS DISTINCT FROM plausible_time(created_at)
"""
TABLES = ("attempts", "recipients")
VIEWS = ("batches", "batch_outcomes", "hourly_attempts", "call_attempts", "recipient_outcomes", "provider_metrics")

PATHS = {
    "occurred_at": ("timestamp",),
    "started_at": ("data", "call", "started_at"),
    "ended_at": ("data", "call", "ended_at"),
    "next_retry_at": ("data", "retry", "next_retry_at"),
    "duration_seconds": ("data", "call", "duration_seconds"),
    "attempt_number": ("data", "retry", "attempt_number"),
    "max_attempts": ("data", "retry", "max_attempts"),
}


def put(payload: dict[str, Any], field: str, value: Any) -> None:
    *parents, name = PATHS[field]
    inner = payload
    for parent in parents:
        inner = inner[parent]
    inner[name] = value.isoformat() if isinstance(value, datetime) else value


def decode_as_before(payload: dict[str, Any], **values: Any) -> Event:
    """An event with these fields, as earlier versions decoded it."""
    for field, value in values.items():
        put(payload, field, value)
    return decode(payload)[0]._replace(**values)


async def fill_as_before(database: Database) -> int:
    """Stores a batch as an older version did, with odd facts: counting, superseded, healed, erased and withdrawn."""
    key = await store_batch(database.url, 12)
    usual = [make_payload(recipient=number) for number in (1, 2)]
    await ingest(database, *decode(*usual))
    retry = make_payload(recipient=5, status="busy", final=False)
    retry["data"]["retry"]["is_final_attempt"] = None
    odd = [
        decode_as_before(make_payload(recipient=3), duration_seconds=EPOCH),
        decode_as_before(make_payload(recipient=4), started_at=YEAR_1, ended_at=YEAR_1, occurred_at=YEAR_1),
        decode_as_before(retry, next_retry_at=YEAR_9999)._replace(is_final=False),
        decode_as_before(
            make_payload(recipient=6, status="no_answer", final=False), next_retry_at=YEAR_1, attempt_number=EPOCH
        ),
        decode_as_before(
            make_payload(recipient=7, attempt=2), max_attempts=EPOCH, started_at=datetime(1970, 1, 1, tzinfo=UTC)
        ),
        decode_as_before(make_payload(recipient=8, status="busy", final=False), occurred_at=YEAR_1),
        decode_as_before(make_payload(recipient=9), ended_at=YEAR_9999, duration_seconds=2**31 - 1),
        decode_as_before(make_payload(recipient=10), ended_at=datetime(2300, 1, 1, tzinfo=UTC), duration_seconds=EPOCH),
        make_healed(11)._replace(started_at=YEAR_1, ended_at=YEAR_9999, occurred_at=YEAR_9999, duration_seconds=EPOCH),
        decode_as_before(make_payload(recipient=12), started_at=YEAR_1),
    ]
    await ingest(database, *odd)
    await ingest(database, *decode(make_payload(recipient=8, attempt=2)))  # supersedes the odd one
    await database.pool.execute("SELECT erase_recipients($1, $2, 'x')", [key], [9])
    await database.pool.execute(
        "DELETE FROM event_bodies WHERE arrival_id IN (SELECT arrival_id FROM facts WHERE recipient_no = 10)"
    )
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT withdraw_recipients($1, $2)", [key], [12])
        await connection.execute("UPDATE batches SET withdrawn_count = 1")
    await database.pool.execute("UPDATE batches SET created_at = '-infinity'")
    await database.pool.execute("TRUNCATE unreferenced_events, placement_jobs")  # older versions kept no evidence
    return key


def make_healed(recipient: int) -> Event:
    record = {
        "conversation_id": f"healed-{recipient}", "agent_id": 123, "contact_number": phone_of(recipient),
        "status": "completed", "start_timestamp": -62135596800000,
        "end_timestamp": 253402300799999, "duration_seconds": EPOCH,
    }  # fmt: skip
    conversation = decode_conversation(encode({"data": record}))
    event = to_event(conversation, received_at=datetime.now(UTC), may_retry=False)
    assert event is not None
    return event


async def is_sound(database: Database) -> bool:
    """Whether verification finds nothing, counters equal a recount, and nothing implausible is stored."""
    async with database.pool.acquire() as connection:
        differences = await find_differences(connection)
    implausible = await database.pool.fetch(IMPLAUSIBLE)
    return (await verify(database), differences, implausible) == ([], [], [])


async def repair_all(database: Database) -> int:
    return await Repairer(database, EventDecoder("outcome_ref")).repair()


async def test_implausible_rows_of_older_versions_are_repaired_and_verification_finds_nothing(
    database: Database,
) -> None:
    await fill_as_before(database)
    before = {row["recipient_no"]: row for row in await database.pool.fetch("SELECT * FROM outcomes")}
    assert not await is_sound(database)
    assert await repair_all(database) > 0
    assert await is_sound(database)
    after = {row["recipient_no"]: row for row in await database.pool.fetch("SELECT * FROM outcomes")}
    assert {number for number in before if before[number] == after[number]} >= {1, 2, 8, 12}
    for number in (3, 4, 5, 10):  # readers saw wrong values of these, so they are published again
        assert after[number]["position"] > max(row["position"] for row in before.values())
        assert after[number]["version"] == before[number]["version"] + 1
    assert (after[9]["state"], after[5]["state"], after[6]["state"]) == ("erased", "busy", "pending_retry")
    assert await repair_all(database) == 0
    assert {row["recipient_no"]: row for row in await database.pool.fetch("SELECT * FROM outcomes")} == after


async def test_a_repair_continues_wherever_it_stopped(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "PAGE_FACTS", 3)
    monkeypatch.setattr(repair, "FACTS_PER_COMMIT", 1)
    await fill_as_before(database)
    for name in ("correct_stored_times", "correct_facts", "save_repair"):
        query, calls = getattr(database.queries, name), 0

        async def fail_second(*args: Any, query: Any = query, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise ConnectionError
            return await query(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(database.queries, name, fail_second)
            with pytest.raises(ConnectionError):
                await repair_all(database)
    assert await repair_all(database) > 0
    assert await is_sound(database)


async def test_a_repair_killed_while_writing_changes_nothing(database: Database) -> None:
    await fill_as_before(database)
    waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%correct_%'"
    environ = {"OUTCOMES_DATABASE_URL": database.url}
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT lock_ingest()")
        process = await start(OUTCOMES, "repair", settings=environ)
        await eventually(lambda: database.pool.fetchval(waits), seconds=60)
        process.kill()
        await process.wait()
        await transaction.rollback()
    done = await run(OUTCOMES, "repair", OUTCOMES_DATABASE_URL=database.url)
    assert (done.status, "rows corrected" in done.output) == (0, True), done
    assert await is_sound(database)
    assert (await run(OUTCOMES, "repair", OUTCOMES_DATABASE_URL=database.url)).output == "Nothing to repair\n"


async def test_the_service_repairs_when_it_starts(database: Database, start_service: StartService) -> None:
    await fill_as_before(database)
    async with start_service(), asyncio.timeout(30):
        await eventually(lambda: database.pool.fetchval("SELECT count(*) FROM repairs WHERE name = 'call_details'"))
    assert await is_sound(database)


async def read_everything(service: httpx.AsyncClient, folder: Path) -> str:
    """The text of all answers and files that show stored times and numbers."""
    shown = []
    for table in TABLES:
        csv = await export(service, f"{BATCH}/{table}.csv", formulas="keep")
        rows = read_ndjson((await export(service, f"{BATCH}/{table}.ndjson")).content)
        parquet = await export(service, f"{BATCH}/{table}.parquet")
        assert len(read_csv(csv.content)) == len(rows) == len(read_parquet_by_pyarrow(parquet.content))
        assert len(read_parquet_by_duckdb(parquet.content, folder)) == len(rows)
        shown += [csv.text, str(rows)]
    for file_format in ("csv", "ndjson", "parquet"):
        shown.append(str((await export(service, f"/v1/exports/batches.{file_format}")).content))
    now = datetime.now(UTC).isoformat()
    reads: list[tuple[str, dict[str, str]]] = [
        (BATCH, {}), (f"{BATCH}/outcomes", {}), (f"{BATCH}/outcomes", {"as_of": now}),
        (f"{BATCH}/recipients", {}), (f"{BATCH}/recipients", {"as_of": now}), ("/v1/feed", {"after": "0"}),
        ("/v1/batch-calls", {}),
        *[("/v1/outcomes", {"group_by": group}) for group in ("agent", "day", "name", "campaign")],
        *[(f"{BATCH}/recipients/{number}", {}) for number in range(1, 13)],
    ]  # fmt: skip
    for path, params in reads:
        answer = await service.get(path, params=params)
        assert answer.status_code == 200, (path, answer.text)
        shown.append(answer.text)
    return "\n".join(shown)


def find_implausible(text: str) -> list[str]:
    return [word for word in ("infinity", "0001-01-01", "9999-12-31", "2300-01-01", "1970-01-01") if word in text]


async def test_everything_can_be_read_before_and_after_the_repair_of_implausible_rows(
    database: Database, start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill_as_before(database)

    async def wait_forever(repairer: Repairer) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Repairer, "run", wait_forever)
        async with start_service() as service:
            assert find_implausible(await read_everything(service, tmp_path)) == []
    assert await read_views(database) == []
    await repair_all(database)
    async with start_service() as service:
        shown = await read_everything(service, tmp_path)
    assert find_implausible(shown) == []
    assert str(EPOCH) not in shown
    assert await read_views(database) == []


async def read_views(database: Database) -> list[str]:
    """The implausible values in the BI views."""
    rows = [row for view in VIEWS for row in await database.pool.fetch(f"SELECT * FROM bi.{view}")]
    return find_implausible(str([[str(value) for value in row.values()] for row in rows]))


@pytest.fixture
async def new_url(postgres: PostgresServer) -> AsyncIterator[str]:
    url = await create_database(postgres, "template0")
    yield url
    await drop_database(postgres, url)


@pytest.mark.timeout(300)  # the scripts start many processes
async def test_a_backup_with_implausible_rows_is_restored(database: Database, new_url: str, tmp_path: Path) -> None:
    await fill_as_before(database)
    await restore(await back_up(database.url, tmp_path), new_url)
    connection = await asyncpg.connect(new_url)
    try:
        assert await connection.fetch(IMPLAUSIBLE) == []
    finally:
        await connection.close()


def draw_time(rng: random.Random) -> Any:
    extremes = [
        YEAR_1, YEAR_9999, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00", "0001-01-01T00:00:00",
        EARLIEST, LATEST, "1969-12-31T23:59:59Z", "", "never", 0, -1, EPOCH, EPOCH * 1000, 1e300, None, True, [], {},
    ]  # fmt: skip
    anywhere = datetime.fromtimestamp(rng.uniform(-6.2e10, 2.5e11), UTC)
    return rng.choice([rng.choice(extremes), anywhere, anywhere.replace(tzinfo=None).isoformat()])


def draw_number(rng: random.Random) -> Any:
    return rng.choice(
        [rng.randint(-(2**70), 2**70), rng.uniform(-1e9, 1e9), rng.randint(-5, 2000), 10 ** rng.randint(0, 300), EPOCH,
         2**31, 2**31 - 1, 2**63, "1764000000", "1e400", None, True, [], -0.5]
    )  # fmt: skip


DRAW: dict[str, Callable[[random.Random], Any]] = {
    field: draw_time if field.endswith("_at") else draw_number for field in PATHS
}


@pytest.mark.parametrize("seed", range(3))
async def test_everything_works_with_any_times_and_numbers(
    database: Database, start_service: StartService, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    await store_batch(database.url, 12)
    async with start_service() as service:
        for _ in range(60):
            payload = make_payload(
                recipient=rng.randint(1, 12),
                attempt=rng.randint(1, 3),
                status=rng.choice(["completed", "busy"]),
                final=rng.random() < 0.5,
            )
            for field in rng.sample(sorted(PATHS), rng.randint(1, len(PATHS))):
                put(payload, field, DRAW[field](rng))
            assert (await post_webhook(service, json.dumps(payload).encode())).status_code == 204
        await read_everything(service, tmp_path)
    assert await is_sound(database)
    assert await read_views(database) == []
    assert await database.pool.fetchval("SELECT count(*) FROM quarantine") == 0


@pytest.mark.parametrize(
    "number",
    ["1e400", "-1e400", "1e-400", "1e99999", "1" * 400, "123456789012345678901234567890.5", "1e23", "1.1e22", "-1e300"],
)
async def test_a_result_too_large_for_a_float_breaks_no_reader_and_no_verification(
    database: Database, start_service: StartService, tmp_path: Path, number: str
) -> None:
    await store_batch(database.url, 12)
    payload = make_payload(recipient=1)
    payload["data"]["results"] = {"score": "NUMBER"}
    async with start_service() as service:
        body = json.dumps(payload).replace('"NUMBER"', number).encode()
        assert (await post_webhook(service, body)).status_code == 204
        shown = await read_everything(service, tmp_path)
        feed = (await service.get("/v1/feed", params={"after": "0"})).json()["data"]
    score = feed[0]["results"]["score"]
    assert score == number if isinstance(score, str) else float(score) == float(number)
    assert isinstance(score, str) == (math.isinf(float(number)) or float(number) == 0)
    assert "0" * 310 not in shown
    assert await database.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    assert await verify(database) == []
    await database.pool.execute("""UPDATE facts SET results = '{"score": 1e401}'""")
    assert "fact" in await verify(database)  # a difference is still found


async def test_a_row_that_cannot_be_checked_is_reported_and_does_not_end_the_run(
    database: Database, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_batch(database.url, 3)
    async with start_service() as service:
        for number in (1, 2, 3):
            payload = make_payload(recipient=number, event_id=f"event-{number}")
            payload["data"]["results"] = {"number": number}
            assert (await post_webhook(service, json.dumps(payload).encode())).status_code == 204
    compare = verification._are_same

    def fail(stored: str, received: str) -> bool:
        if '"number": 2' in received:
            raise RecursionError
        return compare(stored, received)

    monkeypatch.setattr(verification, "_are_same", fail)
    await database.pool.execute("UPDATE facts SET status = 'busy' WHERE recipient_no = 3")
    found = {finding.key: finding.stored for finding in (await verify_all(database))[0] if finding.what == "fact"}
    assert found == {"event-2": "cannot be checked (RecursionError)", "event-3": "status"}
