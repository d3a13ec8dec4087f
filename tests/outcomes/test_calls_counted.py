"""Calls by the number they were made from and by the reason of their failure: kept, counted, shown, and filled in for
calls from before they were kept."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.formant.events import EventDecoder
from service.outcomes.figures import find_wilson_interval
from service.outcomes.summary import read_counts, summarise
from service.store.database import Database
from service.webhooks.repair import Repairer
from tests.conftest import StartService
from tests.eventually import eventually
from tests.exposition import read_alarms
from tests.factories import BATCH_ID, decode, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.recount import find_differences, verify
from tests.provider import connect_provider, upload
from tests.webhooks.ingesting import heal, ingest, read_state

FIRST, SECOND = "+918047100001", "+918047100002"
RECIPIENTS = 12


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(count: int, of: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert find_wilson_interval(count, of) == pytest.approx((low, high), abs=5e-5)
    assert find_wilson_interval(of - count, of) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def call_from(number: str | None, /, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    payload = make_payload(**fields)
    payload["data"]["call"] |= {"from_phone": number, "failure_reason": reason}
    return payload


async def fill(database: Database) -> None:
    """Each recipient is called twice, the second time from the second number; one in three ends on the first call."""
    await store_batch(database.url, RECIPIENTS)
    for n in range(1, RECIPIENTS + 1):
        first = call_from("+91 80-4710-0001", recipient=n, attempt=1, status="completed" if n % 3 == 0 else "busy",
                          reason=None if n % 3 == 0 else "User busy", final=n % 3 == 0)  # fmt: skip
        second = call_from(SECOND, "x" * 100, recipient=n, attempt=2, status="failed")
        await ingest(database, *decode(*([first] if n % 3 == 0 else [first, second])))


async def read_outcomes(service: httpx.AsyncClient) -> dict[str, Any]:
    data: dict[str, Any] = (await service.get(f"/v1/batch-calls/{BATCH_ID}/outcomes")).json()["data"]
    return data


async def test_attempts_are_counted_by_caller_number_and_by_reason(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    await post_webhook(service, call_from(None, recipient=3, attempt=3, status="no_answer"))
    shown = await read_outcomes(service)
    assert shown["callers"] == {
        "is_counted": True,
        "values": [
            {"from_phone": FIRST, "attempts": 12, "connects": 4,
             "connect_rate": {"percent": 33.3, "low_percent": 13.8, "high_percent": 60.9, "attempts": 12}},
            {"from_phone": SECOND, "attempts": 8, "connects": 0,
             "connect_rate": {"percent": 0.0, "low_percent": 0.0, "high_percent": 32.4, "attempts": 8}},
        ],
        "other": {"attempts": 0, "connects": 0},
        "without_number": 1,
    }  # fmt: skip
    assert shown["failure_reasons"] == {
        "is_counted": True, "total": 16, "values": {"(long text)": 8, "User busy": 8}, "other": 0,
    }  # fmt: skip
    past = (await service.get(f"/v1/batch-calls/{BATCH_ID}/outcomes", params={"as_of": shown["as_of"]})).json()["data"]
    assert (past["callers"], past["failure_reasons"]) == (shown["callers"], shown["failure_reasons"])
    (row,) = await database.pool.fetch("SELECT * FROM bi_full.caller_numbers WHERE from_phone = $1", FIRST)
    assert [round(row[f"connect_rate_{end}"], 1) for end in ("percent", "low", "high")] == [33.3, 13.8, 60.9]
    assert (await database.pool.fetchval("SELECT sum(attempts) FROM bi.failure_reasons")) == 16
    assert await verify(database) == []


async def test_a_value_beyond_the_limit_is_in_other(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 60)
    await ingest(database, *decode(*(call_from(f"+9180471{n:05}", recipient=n, status="busy") for n in range(1, 61))))
    callers = (await read_outcomes(service))["callers"]
    assert (len(callers["values"]), callers["other"], callers["without_number"]) == (
        50,
        {"attempts": 10, "connects": 0},
        0,
    )


async def test_a_recipient_shows_the_number_and_the_trace_of_its_latest_attempt(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    path = f"/v1/batch-calls/{BATCH_ID}/recipients"
    shown = (await service.get(f"{path}/1")).json()["data"]
    facts = [(fact["from_phone"], fact["trace_id"]) for fact in shown["history"]]
    assert [number for number, _ in facts] == [FIRST, SECOND]
    assert (shown["from_phone"], shown["trace_id"]) == facts[1]
    listed = (await service.get(path)).json()["data"]
    assert [row["from_phone"] for row in listed[:3]] == [SECOND, SECOND, FIRST]
    now = (await read_outcomes(service))["as_of"]
    assert (await service.get(path, params={"as_of": now})).json()["data"][0]["trace_id"] == facts[1][1]


async def test_text_that_is_no_number_is_cut(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 2)
    await ingest(database, *decode(call_from("sales desk " * 50, recipient=1), call_from("  ", recipient=2)))
    numbers = [row["from_phone"] for row in (await read_outcomes(service))["callers"]["values"]]
    assert numbers == ["sales desk sales desk sales desk sales d"]


async def test_a_conversation_that_wins_keeps_the_number_of_its_webhook(database: Database) -> None:
    await store_batch(database.url, 2)
    said = call_from(FIRST, recipient=1, attempt=1, status="busy", conversation_id="c-1")
    (webhook,) = decode(said)
    assert webhook.occurred_at is not None
    healed = heal(status="completed", conversation_id="c-1", trace_id="from the conversation")
    later = healed._replace(
        attempt_number=1,
        occurred_at=webhook.occurred_at + timedelta(seconds=1),
        started_at=webhook.started_at,
        ended_at=webhook.ended_at,
    )
    await ingest(database, webhook)
    await ingest(database, later)
    counts = await database.pool.fetch("SELECT value, attempts, connects FROM call_counts WHERE name = 'from_phone'")
    assert sorted(tuple(row) for row in counts) == [("", 1, 1), (FIRST, 1, 1)]
    assert await database.pool.fetchval("SELECT trace_id FROM facts WHERE source = 'healed'") == "from the conversation"
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_erasure_takes_the_trace_and_the_reason_and_leaves_the_number(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 2)
    await ingest(database, *decode(call_from(FIRST, "Blocked by Asha", recipient=1, status="failed")))
    assert (await service.post("/v1/erasures", json={"phone": phone_of(1)})).json()["data"]["state"] == "done"
    assert [tuple(row) for row in await database.pool.fetch("SELECT from_phone, trace_id FROM facts")] == [
        (FIRST, None)
    ]
    assert await database.pool.fetch("SELECT * FROM call_counts WHERE name = 'failure_reason'") == []
    again = call_from(FIRST, "Blocked by Asha", recipient=1, attempt=2, status="failed")
    await ingest(database, *decode(again))
    assert await database.pool.fetch("SELECT * FROM facts WHERE trace_id IS NOT NULL") == []
    assert await verify(database) == []


async def forget(database: Database) -> None:
    """The database as the version before would have left it, with its functions replaced."""
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE facts SET from_phone = NULL, trace_id = NULL; "
            "UPDATE unattributed SET from_phone = NULL, trace_id = NULL; "
            "DELETE FROM call_counts; DELETE FROM repairs"
        )
        await database.queries.backfill_counters(connection)


async def test_calls_from_before_are_counted_and_filled_from_their_bodies(
    start_service: StartService, database: Database
) -> None:
    await fill(database)
    await ingest(database, *decode(call_from(FIRST, recipient=None, phone="+919999999999")))
    kept, versions = await read_state(database), await database.pool.fetch("SELECT * FROM outcomes ORDER BY 1, 2")
    waiting = await database.pool.fetchrow("SELECT from_phone, trace_id FROM unattributed")
    await forget(database)
    async with start_service() as service:
        shown = await eventually(
            lambda: read_outcomes(service),
            lambda data: data["callers"]["is_counted"] and data["callers"]["without_number"] == 0,
        )
    assert shown["callers"]["values"][0]["attempts"] == 12
    assert await read_state(database) == kept
    assert await database.pool.fetchrow("SELECT from_phone, trace_id FROM unattributed") == waiting
    assert await database.pool.fetch("SELECT * FROM outcomes ORDER BY 1, 2") == versions, "no reader sees them again"
    assert await verify(database) == []


async def test_until_all_are_counted_nothing_is_shown_and_events_are_counted_once(database: Database) -> None:
    await fill(database)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM call_counts; DELETE FROM repairs WHERE name = 'call_counts'")
        await database.queries.backfill_counters(connection)
    steps = 0
    while await database.queries.count_calls_step(database.pool, recipients=5) is not None:
        steps += 1
        assert await verify(database) == []
        counts = await read_counts(database, BATCH_ID, "UTC")
        assert counts is not None
        shown = summarise(counts)
        assert shown["callers"]["is_counted"] == shown["failure_reasons"]["is_counted"] == (steps == 3)
        assert bool(shown["callers"]["values"]) == (steps == 3)
        # One recipient that is counted already, and one that is not.
        for recipient in (2, 11):
            await ingest(database, *decode(call_from(SECOND, recipient=recipient, attempt=2 + steps, status="busy")))
    assert steps == 3
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_a_repair_that_is_killed_at_any_point_is_finished_by_the_next(database: Database) -> None:
    await fill(database)
    kept = await read_state(database)
    await forget(database)
    for passes in range(1, 40):  # each is cancelled a little later than the one before
        repair = asyncio.ensure_future(Repairer(database, EventDecoder("outcome_ref")).repair())
        for _ in range(passes * 3):
            await asyncio.sleep(0)
        repair.cancel()
        with suppress(asyncio.CancelledError):
            await repair
        assert await verify(database) == []
    await Repairer(database, EventDecoder("outcome_ref")).repair()
    assert await read_state(database) == kept


async def test_a_number_marked_as_spam_raises_an_alarm_and_the_others_do_not(
    start_service: StartService, database: Database
) -> None:
    options = {"caller_numbers": 4, "weak_caller": True, "completed_share": 0.7, "max_attempts": 2}
    rows = "".join(f"+91{9_100_000_000 + n},LN-{n}\n" for n in range(1500))
    async with connect_provider(start_service, plays=True, start=time.time(), options=options) as (service, sandbox):
        batch_id = (await upload(service, f"customer_phone,loan_id\n{rows}")).json()["data"]["id"]
        await sandbox.sandbox.records.batches[batch_id].settled.wait()
        shown = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
        calls = [call for calls in sandbox.sandbox.records.batches[batch_id].attempts.values() for call in calls]
        made = Counter(sandbox.sandbox.writer.name_caller(call) for call in calls)
        alarm = (await read_alarms(service))["caller_number_weak"]
    callers = shown["callers"]["values"]
    assert {row["from_phone"]: row["attempts"] for row in callers} == made
    worst = min(callers, key=lambda row: row["connects"] / row["attempts"])
    assert worst["connect_rate"]["high_percent"] < min(
        row["connect_rate"]["low_percent"] for row in callers if row is not worst
    )
    assert (alarm["count"], alarm["batches"], alarm["severity"]) == (1, [batch_id], "ticket")
    assert [(each["from_phone"], each["attempts"], each["connects"]) for each in alarm["callers"]] == [
        (worst["from_phone"], worst["attempts"], worst["connects"])
    ]
