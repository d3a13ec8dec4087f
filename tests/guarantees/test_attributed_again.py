"""Attribution by phone alone is evidence, not proof: it is checked, and corrected if the event belongs elsewhere."""

import json
from datetime import timedelta
from typing import Any

import httpx

from service.formant.events import EventDecoder
from service.formant.targets import load_targets
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.registration import Registrar
from service.webhooks.reattribution import Reattributor
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Verifier
from service.webhooks.writer import Writer
from tests.conftest import SECRET
from tests.factories import BEGAN, decode, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.recount import find_differences
from tests.processes import OUTCOMES, run
from tests.uploads.listed import note_batch
from tests.webhooks.ingesting import Counted, get_event, heal, ingest

WEEK = timedelta(days=7)


async def verify(database: Database, batch_id: int | None = None) -> list[tuple[str, str, str]]:
    bodies = BodyCheck(load_targets((SECRET,), allow_unsigned=False, path=None))
    verifier = Verifier(database, EventDecoder("outcome_ref"), bodies)
    return [(found.what, found.stored, found.expected) async for found in verifier.verify(batch_id)]


async def reattribute(database: Database) -> int:
    writer = Writer(database.url, database.queries, Metrics())
    targets = load_targets((), allow_unsigned=True, path=None)
    worker = Reattributor(database, targets, EventDecoder("outcome_ref"), writer)
    found = [finding async for finding in worker.reattribute()]
    writer.close()
    return len(found)


async def read_states(database: Database) -> dict[tuple[int, int], tuple[str, int]]:
    rows = await database.pool.fetch(
        "SELECT batch_id, recipient_no, state, attempts FROM outcomes JOIN batches USING (batch_key) WHERE attempts > 0"
    )
    return {(row["batch_id"], row["recipient_no"]): (row["state"], row["attempts"]) for row in rows}


async def make_finished_week(database: Database) -> None:
    """Stores last week's batch of three, uploaded here: every call had a reference, and everyone was reached."""
    await store_batch(database.url, 3, prepared_at=BEGAN - timedelta(hours=1))
    await ingest(database, *decode(*[make_payload(recipient=n, began=BEGAN) for n in (1, 2, 3)]))


def call_again(number: int, **fields: Any) -> dict[str, Any]:
    """A webhook of a call to the same people a week later, from the dashboard."""
    return make_payload(
        recipient=None, phone=phone_of(number), began=BEGAN + WEEK, attempt=2, status="no_answer",
        conversation_id=f"again-{number}",
        **({"parameters": {"loan_id": f"LN-{number}"}} | fields),
    )  # fmt: skip


async def test_calls_that_an_earlier_version_attributed_to_a_finished_batch_are_found_and_moved(
    database: Database,
) -> None:
    await make_finished_week(database)
    await ingest(database, *decode(*[call_again(n) for n in (1, 2, 3)]))
    assert await verify(database) == []
    await place_wrongly(database)
    assert {state for state, _ in (await read_states(database)).values()} == {"no_answer"}
    await store_batch(database.url, 3, batch_id=457, ref_token="other", first_phone=50)
    for batch_id, count in ((None, 3), (456, 3), (457, 0)):
        assert [what for what, *_ in await verify(database, batch_id)] == ["placement"] * count, batch_id

    assert await reattribute(database) == 3
    assert await read_states(database) == {(456, n): ("completed", 1) for n in (1, 2, 3)}
    assert await verify(database) == []
    assert await reattribute(database) == 0
    waiting = await database.pool.fetch("SELECT reason FROM unattributed")
    assert [row["reason"] for row in waiting] == ["no_batch"] * 3


async def test_a_call_that_an_earlier_version_healed_for_a_completed_recipient_is_found_and_moved(
    database: Database,
) -> None:
    await make_finished_week(database)
    inbound = heal(status="busy", began=BEGAN + WEEK, conversation_id="inbound")
    await ingest(database, inbound)
    await place_wrongly(database)
    assert (await read_states(database))[456, 1] == ("busy", 2)
    settings = {"OUTCOMES_DATABASE_URL": database.url}
    for batch in ([], ["--batch", "456"]):
        found = await run(OUTCOMES, "verify", "--json", *batch, **settings)
        findings = json.loads(found.output)["findings"]
        assert (found.status, [(finding["what"], finding["stored"]) for finding in findings]) == (
            1, [("placement", "without its evidence")],
        )  # fmt: skip

    moved = await run(OUTCOMES, "reattribute", **settings)
    assert (moved.status, "1 event moved" in moved.output) == (0, True), moved
    assert await read_states(database) == {(456, n): ("completed", 1) for n in (1, 2, 3)}
    assert (await get_event(database, inbound.event_id))["reason"] == "no_batch"
    assert (await run(OUTCOMES, "verify", **settings)).status == 0
    again = await run(OUTCOMES, "reattribute", **settings)
    assert (again.status, "0 events moved" in again.output) == (0, True), again


async def place_wrongly(database: Database) -> None:
    """Moves waiting events into last week's batch, as versions did that compared only agent and phone."""
    await database.pool.execute("DELETE FROM unreferenced_events")
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            """
            INSERT INTO facts (
                batch_key, recipient_no, arrival_id, event_id, source, method, conversation_id, attempt_number,
                max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds,
                failure_reason, results, recorded_at)
            SELECT r.batch_key, r.recipient_no, arrival_id, event_id, source, 'recipient', conversation_id,
                   attempt_number, max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at,
                   duration_seconds, failure_reason, results, clock_timestamp()
            FROM unattributed AS u JOIN recipients AS r ON r.phone = u.phone
            """
        )
        await connection.execute(
            "SELECT apply_facts(array_agg(f.batch_key), array_agg(f.recipient_no), array_agg(f.arrival_id)) "
            "FROM facts AS f JOIN unattributed AS u USING (arrival_id)"
        )
        await connection.execute("DELETE FROM unattributed")


async def test_events_that_waited_in_an_earlier_version_are_attributed_from_their_bodies(database: Database) -> None:
    await ingest(database, *decode(make_payload(recipient=None, phone=phone_of(1), parameters={}, began=BEGAN)))
    await database.pool.execute("DELETE FROM unreferenced_events")
    await database.pool.execute("UPDATE unattributed SET source = NULL, conversation_id = NULL, status = NULL")
    await store_batch(database.url, 3)
    await reattribute(database)
    assert await read_states(database) == {(456, 1): ("completed", 1)}
    assert await verify(database) == []


async def test_a_final_call_known_by_reference_takes_back_a_later_call_attributed_by_phone(
    database: Database,
) -> None:
    await store_batch(database.url, 3)
    later = make_payload(
        recipient=None, phone=phone_of(1), parameters={}, began=BEGAN + WEEK, conversation_id="inbound"
    )
    assert await ingest(database, *decode(later)) == Counted(applied=1)
    assert await ingest(database, *decode(make_payload(recipient=1, began=BEGAN, status="busy"))) == Counted(applied=1)
    assert await read_states(database) == {(456, 1): ("busy", 1)}
    assert (await get_event(database, later["event_id"]))["disposition"] == "unattributed"
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_a_recipient_whose_only_call_is_taken_back_is_in_progress_again_in_the_feed(
    database: Database,
) -> None:
    await store_batch(database.url, 3, ref_token=None)
    await ingest(database, *decode(make_payload(recipient=None, phone=phone_of(1), parameters={}, began=BEGAN)))
    await note_batch(database, 900, 5, created_at=BEGAN - timedelta(hours=1))  # its window was open too
    await Registrar(database).finish_all()
    assert await read_states(database) == {}
    feed = [row async for row in database.queries.read_feed(database.pool, after=0, limit=10, bytes=2**20)]
    entries = [(row["recipient"], row["state"], row["attempts"], row["version"]) for row in feed if row["recipient"]]
    assert entries == [(1, "in_progress", 0, 2)]
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []
    # Once the other batch is known not to contain the phone, the call moves back.
    await database.pool.execute("UPDATE batches SET is_registered = true WHERE batch_id = 900")
    await Registrar(database).finish_all()
    assert await read_states(database) == {(456, 1): ("completed", 1)}
    feed = [row async for row in database.queries.read_feed(database.pool, after=0, limit=10, bytes=2**20)]
    assert [(row["recipient"], row["state"], row["version"]) for row in feed if row["recipient"]] == [
        (1, "completed", 3)
    ]
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_a_reference_that_contradicts_the_phone_decides_and_is_shown(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url, 5)
    await post_webhook(service, make_payload(recipient=2, phone=phone_of(4), event_id="crossed"))
    await post_webhook(service, make_payload(recipient=3, phone=phone_of(3), event_id="straight"))
    found = {name: (await service.get(f"/v1/events/{name}")).json()["data"] for name in ("crossed", "straight")}
    assert [(event["recipient"], event["contradicts_phone"]) for event in found.values()] == [(2, True), (3, False)]
    listed = (await service.get("/v1/contradictions")).json()["data"]
    assert [(row["event_id"], row["batch_id"], row["recipient"], row["phone"]) for row in listed] == [
        ("crossed", 456, 2, phone_of(4))
    ]
    alarms = {alarm["name"]: alarm for alarm in (await service.get("/v1/alarms")).json()["data"]}
    assert (alarms["references_contradicted"]["count"], alarms["references_contradicted"]["batches"]) == (1, [456])


async def test_a_total_below_the_number_of_known_recipients_gives_no_share_above_100_percent(
    service: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    await store_batch(database_url, 4)
    for number in (1, 2, 3, 4):
        await post_webhook(service, make_payload(recipient=number))
    await database.pool.execute("UPDATE batches SET total_recipients = 1")
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert outcomes["recipients"] == {"total": 4, "processed": 4, "in_progress": 0, "pending_retry": 0}
    assert outcomes["rates"]["success_rate"]["percent"] == 100
    across = (
        await service.get("/v1/outcomes", params={"from": "2026-03-01", "to": "2026-03-31", "group_by": "agent"})
    ).json()["data"][0]
    assert across["rates"]["success_rate"]["percent"] == 100
    assert await database.pool.fetchval("SELECT success_rate_percent FROM bi.batch_outcomes") == 100
    assert await database.pool.fetchval("SELECT success_rate FROM batch_rows(NULL, NULL, NULL, 0, 1000)") == 100
    metrics = (await service.get("/v1/batch-calls/456/metrics")).json()["data"]
    assert metrics["success_rate"] == 100


async def test_a_call_made_ambiguous_by_room_in_a_window_is_attributed_once_the_window_is_full(
    database: Database,
) -> None:
    await store_batch(database.url, 2)
    await note_batch(database, 900, total=1)
    own = make_payload(
        recipient=None, phone=phone_of(1), parameters={}, began=BEGAN, conversation_id="own", event_id="own"
    )
    await ingest(database, *decode(own))
    assert (await get_event(database, "own"))["reason"] == "ambiguous"  # its recipient, or a new one of the window

    stranger = make_payload(recipient=None, phone=phone_of(9), parameters={"loan_id": "X"}, began=BEGAN)
    await ingest(database, *decode(stranger))
    await Registrar(database).finish_all()
    placed = await get_event(database, "own")
    assert (placed["batch_id"], placed["recipient"]) == (456, 1)
    assert await verify(database) == []


async def test_calls_without_any_time_are_attributed_the_same_in_any_order(database: Database) -> None:
    calls = [make_payload(recipient=None, phone=phone_of(n), parameters={"loan_id": f"LN-{n}"} | more, attempt=None,
                          status=status, conversation_id="same")
             for n in (1, 2) for status, more in (("completed", {}), ("no_answer", {"x": "y"}))]  # fmt: skip
    for payload in calls:
        payload["timestamp"] = payload["data"]["call"]["started_at"] = payload["data"]["call"]["ended_at"] = None
    await store_batch(database.url, 2, ref_token=None)
    for payload in (calls[0], calls[1], calls[3], calls[2]):  # one person's final call arrives first, the other's last
        await ingest(database, *decode(payload))
    await Registrar(database).finish_all()
    placed = await database.pool.fetch("SELECT recipient_no, count(*) FROM facts GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in placed] == [(1, 2), (2, 2)]
    assert await verify(database) == []
