"""One command proves that the counters equal a recount, and another repairs them, while webhooks keep arriving."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime

import httpx
import pytest

from service.formant.signature import read_signatures, sign
from service.outcomes.goals import Subject, set_goal
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from tests.conftest import SECRET
from tests.factories import AGENT_ID, decode, make_payload, post_webhook, store_batch
from tests.guarantees.ambiguous_calls import note_dashboard_batch, settle
from tests.guarantees.recount import find_differences, verify, verify_all
from tests.processes import OUTCOMES, run
from tests.webhooks.ingesting import ingest

RECIPIENTS = 40

DAMAGE = {
    "a counter of outcomes": ("UPDATE outcome_counts SET recipients = recipients + 1", "outcome_counts"),
    "talk time": ("UPDATE outcome_counts SET talk_seconds = talk_seconds + 7", "outcome_counts"),
    "a counter that is missing": ("DELETE FROM outcome_counts", "outcome_counts"),
    "a counter too many": (
        "INSERT INTO outcome_counts SELECT batch_key, 'busy', 9, 'healed', 3, 0, 0 FROM batches",
        "outcome_counts",
    ),
    "a counter of results": ("UPDATE result_counts SET recipients = recipients - 1", "result_counts"),
    "a total of results": ("UPDATE result_totals SET recipients = recipients - 1", "result_totals"),
    "a counter of attempts": ("UPDATE attempt_counts SET attempts = attempts + 5", "attempt_counts"),
    "a counter of talk time": ("UPDATE talk_time_counts SET recipients = recipients + 2", "talk_time_counts"),
    "a talk time that is missing": ("DELETE FROM talk_time_counts", "talk_time_counts"),
    "contacts": ("UPDATE contact_counts SET recipients = recipients - 1", "contact_counts"),
    "connects": ("UPDATE contact_counts SET connects = connects + 1", "contact_counts"),
    "a counter of calls": ("UPDATE call_counts SET attempts = attempts + 1", "call_counts"),
    "connects of a number": ("UPDATE call_counts SET connects = connects - 1", "call_counts"),
    "calls that are missing": ("DELETE FROM call_counts", "call_counts"),
    "a counter of a goal": ("UPDATE goal_counts SET recipients = recipients + 1", "goal_counts"),
    "a counter of retries": ("UPDATE retry_counts SET recipients = recipients + 1", "retry_counts"),
    "an outcome's state": ("UPDATE outcomes SET state = 'unreachable' WHERE recipient_no = 3", "outcome"),
    "an outcome's attempts": ("UPDATE outcomes SET attempts = 99 WHERE recipient_no = 3", "outcome"),
    "an outcome's deciding fact": ("UPDATE outcomes SET arrival_id = 0 WHERE recipient_no = 3", "outcome"),
    "an outcome that is missing": ("DELETE FROM outcomes WHERE recipient_no = 3", "outcome"),
    "an outcome without a recipient": (
        "INSERT INTO outcomes SELECT batch_key, 40, 'busy', 1, 0, 10000, 1, now() FROM batches",
        "outcome",
    ),
}
IRREPARABLE = {
    "a fact": ("UPDATE facts SET status = 'unreachable' WHERE recipient_no = 3", "fact"),
    "results of a fact": ('UPDATE facts SET results = \'{"intent": "other"}\' WHERE recipient_no = 3', "fact"),
    "a byte of a body": ("UPDATE event_bodies SET body = set_byte(body, 20, 65) WHERE arrival_id = 1", "body"),
    "an event": ("DELETE FROM events WHERE arrival_id = 1", "event"),
    "a recipient": ("DELETE FROM recipients WHERE recipient_no = 5", "recipients"),
}


async def fill(database: Database) -> int:
    """Stores a batch with calls of several attempts; its last recipient was never called."""
    key = await store_batch(database.url, RECIPIENTS)
    await set_goal(database, Subject(AGENT_ID), {"intent": ["promise_to_pay"]})
    for number in range(1, RECIPIENTS):
        first = make_payload(recipient=number, attempt=1, status="busy", final=number % 6 == 3)
        second = make_payload(recipient=number, attempt=2, status="completed" if number % 2 else "no_answer")
        await ingest(database, *decode(*([first] if number % 3 == 0 else [second, first])))
    return key


async def rebuild(database: Database) -> tuple[int, int]:
    """The number of repaired outcomes and counters."""
    rebuilt = [batch async for batch in Rebuilder(database).rebuild()]
    return sum(batch.outcomes for batch in rebuilt), sum(batch.counters for batch in rebuilt)


async def test_correct_data_is_found_correct_and_left_unchanged(database: Database) -> None:
    await fill(database)
    before = await database.pool.fetch("SELECT * FROM outcomes ORDER BY 1, 2")
    assert await verify(database) == []
    assert await rebuild(database) == (0, 0)
    assert await database.pool.fetch("SELECT * FROM outcomes ORDER BY 1, 2") == before


@pytest.mark.parametrize("name", DAMAGE)
async def test_damage_to_derived_data_is_found_and_repaired(database: Database, name: str) -> None:
    statement, what = DAMAGE[name]
    await fill(database)
    await database.pool.execute(statement)
    assert set(await verify(database)) == {what}
    assert await rebuild(database) != (0, 0)
    assert await verify(database) == []
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []
    positions = await database.pool.fetch("SELECT position FROM outcomes")
    assert len({row["position"] for row in positions}) == len(positions)


@pytest.mark.parametrize("name", IRREPARABLE)
async def test_damage_to_the_facts_themselves_is_found(database: Database, name: str) -> None:
    statement, what = IRREPARABLE[name]
    await fill(database)
    await database.pool.execute(statement)
    assert what in await verify(database)


async def test_webhooks_that_arrive_during_a_rebuild_cause_no_findings(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    await database.pool.execute("UPDATE outcome_counts SET recipients = recipients + 1")
    await database.pool.execute("DELETE FROM outcomes WHERE recipient_no % 5 = 0")
    stopped = asyncio.Event()

    async def keep_calling() -> int:
        count = 0
        while not stopped.is_set():
            count += 1
            payload = make_payload(recipient=count % (RECIPIENTS - 1) + 1, attempt=2 + count // RECIPIENTS)
            assert (await post_webhook(service, payload)).status_code == 204
        return count

    calling = [asyncio.create_task(keep_calling()) for _ in range(4)]
    for _ in range(3):
        await rebuild(database)
        assert await verify(database) == []
    stopped.set()
    assert sum(await asyncio.gather(*calling)) > 20
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_an_interrupted_rebuild_is_completed_by_another(database: Database) -> None:
    key = await fill(database)
    await database.pool.execute("UPDATE outcome_counts SET recipients = recipients + 1")
    await database.pool.execute("UPDATE outcomes SET state = 'busy'")
    await database.queries.rebuild_outcomes(database.pool, batch_key=key, after=0, limit=10)  # and then stops
    assert await verify(database) != []
    await rebuild(database)
    assert await verify(database) == []


async def test_the_commands_report_what_they_found_and_repaired(database: Database) -> None:
    await fill(database)
    settings = {"OUTCOMES_DATABASE_URL": database.url}
    clean = await run(OUTCOMES, "verify", **settings)
    assert clean.status == 0
    assert clean.output.splitlines() == [
        "0 differences", "Without a signature: 65 webhooks, unsigned or from before signatures were kept",
        "Verified 1 batch and a sample of everything else (everything: outcomes verify --full)",
    ]  # fmt: skip
    await database.pool.execute("UPDATE outcomes SET attempts = 99 WHERE recipient_no = 3")
    found = await run(OUTCOMES, "verify", "--batch", "456", "--json", **settings)
    report = json.loads(found.output)
    assert (found.status, report["count"], report["findings"][0]["what"]) == (1, 1, "outcome")
    unknown = await run(OUTCOMES, "verify", "--batch", "999", **settings)
    assert (unknown.status, "There is no batch 999" in unknown.errors) == (2, True)
    rebuilt = await run(OUTCOMES, "rebuild", "--batch", "456", **settings)
    assert (rebuilt.status, "1 outcome and 0 counters corrected" in rebuilt.output) == (0, True)
    assert (await run(OUTCOMES, "verify", **settings)).status == 0


PAYLOADS_OF_EVERY_KIND = [
    make_payload(recipient=1),
    make_payload(recipient=None, phone="+15550000000"),  # fits no recipient
    {"event_id": "strange", "event_type": "call.sung", "data": {"call": {"conversation_id": "c"}}},  # to quarantine
]


async def test_the_signature_of_each_body_is_kept_and_checked_again(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url)
    for payload in PAYLOADS_OF_EVERY_KIND:
        assert (await post_webhook(service, payload)).status_code == 204
    for table in ("event_bodies", "quarantine"):
        for row in await database.pool.fetch(f"SELECT body, signature FROM {table}"):
            assert [row["signature"]] == read_signatures(sign(row["body"], SECRET).encode())
    assert (await verify_all(database))[0] == []
    assert (await verify_all(database, "new", SECRET))[0] == []

    findings, _ = await verify_all(database, "new")
    assert [(finding.what, finding.batch_key is None) for finding in findings] == [
        ("signature", False), ("signature", True), ("signature", True),
    ]  # fmt: skip
    assert all("FORMANT_WEBHOOK_SECRET=new,old" in finding.expected for finding in findings)

    # Anyone who changes a body and its digest still cannot sign the body.
    await database.pool.execute("UPDATE event_bodies SET body = body || ' '")
    await database.pool.execute(
        "UPDATE events SET digest = sha256(body) FROM event_bodies AS b WHERE b.arrival_id = events.arrival_id"
    )
    assert [finding.what for finding in (await verify_all(database))[0]] == ["signature", "signature"]


async def test_bodies_whose_signature_cannot_be_checked_are_counted(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)  # without signatures
    assert (await post_webhook(service, make_payload(recipient=40))).status_code == 204
    await database.pool.execute(
        "UPDATE events SET target = 'gone' WHERE arrival_id = (SELECT max(arrival_id) FROM facts)"
    )
    findings, bodies = await verify_all(database)
    assert (findings, bodies.unsigned, bodies.unchecked) == ([], 65, 1)


async def test_a_replayed_body_keeps_its_signature(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    payload = make_payload(recipient=1)
    body = json.dumps(payload).encode()
    (signature,) = read_signatures(sign(body, SECRET).encode())
    await database.queries.quarantine_bodies(
        database.pool, event_id=[None], digest=[hashlib.sha256(body).digest()], target=["default"], body=[body],
        received_at=[datetime.now(UTC)], reason=["refused_by_database"], detail=["22000"], signature=[signature],
        numbers=["[]"],
    )  # fmt: skip
    waiting = (await service.get("/v1/quarantine")).json()["data"][0]["quarantine_id"]
    assert (await service.post(f"/v1/quarantine/{waiting}/replay")).status_code == 200
    assert await database.pool.fetchval("SELECT signature FROM event_bodies") == signature
    assert (await verify_all(database))[0] == []


async def test_signatures_move_with_their_bodies_into_the_partition_of_their_month(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url)
    assert (await post_webhook(service, make_payload(recipient=1))).status_code == 204
    month = datetime.now(UTC).strftime("event_bodies_%Y_%m")
    await database.pool.execute(f"ALTER TABLE event_bodies DETACH PARTITION {month}")
    await database.pool.execute(f"INSERT INTO event_bodies SELECT * FROM {month}")
    await database.pool.execute(f"DROP TABLE {month}")
    await database.queries.create_body_partitions(database.pool)
    assert await database.pool.fetchval(f"SELECT octet_length(signature) FROM {month}") == 32
    assert (await verify_all(database))[0] == []


async def test_verify_exits_with_0_while_events_are_about_to_be_attributed_and_says_to_run_it_again(
    database: Database,
) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database.url, "FORMANT_WEBHOOK_SECRET": SECRET}
    for name in ("one", "other"):
        await ingest(database, *decode(make_payload(recipient=None, event_id=name, conversation_id=name)))
    await note_dashboard_batch(database, 21, 0, 100)
    pending = await run(OUTCOMES, "verify", **settings)
    assert pending.status == 0
    assert "0 differences" in pending.output
    assert "To be attributed: 2 events" in pending.output
    report = json.loads((await run(OUTCOMES, "verify", "--json", **settings)).output)
    assert (report["count"], report["pending"]) == (0, 2)
    assert [finding["is_pending"] for finding in report["findings"]] == [True, True]

    await store_batch(database.url, agent_id=AGENT_ID + 1)
    await ingest(database, *decode(make_payload(recipient=1, event_id="counted", agent_id=AGENT_ID + 1)))
    await database.pool.execute("UPDATE outcome_counts SET recipients = recipients + 1")
    both = await run(OUTCOMES, "verify", "--json", **settings)
    assert both.status == 1
    assert json.loads(both.output)["count"] >= 1

    await settle(database)
    placed = await run(OUTCOMES, "verify", "--json", **settings)
    assert json.loads(placed.output)["pending"] == 0
