"""Ingest, attribution: which recipient an event belongs to, and that nothing is ever guessed."""

from datetime import timedelta
from typing import Any

import pytest

from service.store.database import Database
from tests.factories import AGENT_ID, BEGAN, decode, make_payload, phone_of, store_batch
from tests.webhooks.ingesting import Counted, get_event, ingest


async def attribute(database: Database, **fields: Any) -> dict[str, Any]:
    """What becomes of one event without a reference, unless ``recipient`` is given."""
    (event,) = decode(make_payload(**({"recipient": None, "began": BEGAN, "parameters": {}} | fields)))
    await ingest(database, event)
    return await get_event(database, event.event_id)


def place(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["disposition"], event["batch_id"], event["recipient"], event["method"], event["reason"]


NO_BATCH = ("unattributed", None, None, None, "no_batch")
AMBIGUOUS = ("unattributed", None, None, None, "ambiguous")


async def test_a_reference_names_batch_and_recipient_whatever_phone_was_called(database: Database) -> None:
    await store_batch(database.url)
    event = await attribute(database, recipient=7, phone="+919999999999", parameters={"changed": "since"})
    assert place(event) == ("applied", 456, 7, "reference", None)


async def test_a_reference_beyond_the_batchs_recipients_is_not_trusted(database: Database) -> None:
    await store_batch(database.url, 10)
    for recipient, row in ((0, 4), (11, 5), (999_999_999, 6)):
        assert place(await attribute(database, recipient=recipient, phone="+919999999999")) == NO_BATCH
        by_phone = place(
            await attribute(database, recipient=recipient, phone=phone_of(row), parameters={"loan_id": f"LN-{row}"})
        )
        assert by_phone == ("applied", 456, row, "recipient", None)


async def test_a_reference_under_another_agent_is_not_trusted(database: Database) -> None:
    await store_batch(database.url)
    assert place(await attribute(database, recipient=3, agent_id=999)) == NO_BATCH


async def test_a_reference_to_a_recipient_that_was_withdrawn_meanwhile_is_not_trusted(database: Database) -> None:
    await store_batch(database.url)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT withdraw_recipients(array_agg(batch_key), array[7]) FROM batches")
        await connection.execute("UPDATE batches SET withdrawn_count = 1")
    assert place(await attribute(database, recipient=7, phone=phone_of(7))) == NO_BATCH
    assert place(await attribute(database, recipient=6, phone=phone_of(6))) == ("applied", 456, 6, "reference", None)


async def test_a_reference_of_no_batch_is_not_trusted(database: Database) -> None:
    await store_batch(database.url)
    foreign = await attribute(database, recipient=3, ref_token="0ther", parameters={"loan_id": "LN-3"})
    assert place(foreign) == ("applied", 456, 3, "recipient", None)
    assert place(await attribute(database, recipient=3, ref_token="0ther", phone="+919999999999")) == NO_BATCH


async def test_without_a_reference_the_agent_and_the_phone_find_the_recipient(database: Database) -> None:
    await store_batch(database.url)
    assert place(await attribute(database, phone=phone_of(5))) == ("applied", 456, 5, "recipient", None)
    assert place(await attribute(database, phone=phone_of(5), agent_id=999)) == NO_BATCH
    assert place(await attribute(database, phone=phone_of(11))) == NO_BATCH


async def test_call_parameters_that_are_absent_or_odd_are_no_hindrance(database: Database) -> None:
    await store_batch(database.url)
    odd: list[object] = [None, [], "text", 7, {}]
    for recipient, parameters in enumerate(odd, start=1):
        payload = make_payload(recipient=None, phone=phone_of(recipient))
        payload["data"]["call"]["call_parameters"] = parameters
        (event,) = decode(payload)
        assert await ingest(database, event) == Counted(applied=1)
        assert place(await get_event(database, event.event_id)) == ("applied", 456, recipient, "recipient", None)


async def test_an_event_without_agent_or_phone_fits_nothing(database: Database) -> None:
    await store_batch(database.url)
    for field in ("agent_id", "to_phone"):
        payload = make_payload(recipient=None, phone=phone_of(5))
        payload["data"]["call"][field] = None
        (event,) = decode(payload)
        await ingest(database, event)
        assert place(await get_event(database, event.event_id)) == NO_BATCH


async def test_a_batch_takes_only_calls_that_began_once_it_existed(database: Database) -> None:
    await store_batch(database.url, prepared_at=BEGAN)
    expected = {
        timedelta(days=30): "applied",
        timedelta(0): "applied",
        timedelta(minutes=-5): "applied",
        timedelta(minutes=-5, seconds=-1): "unattributed",
        timedelta(days=-1): "unattributed",
    }
    found = {
        later: (await attribute(database, phone=phone_of(number), began=BEGAN + later))["disposition"]
        for number, later in enumerate(expected, start=1)
    }
    assert found == expected


async def test_the_time_of_the_event_stands_in_for_a_missing_time_of_the_call(database: Database) -> None:
    await store_batch(database.url, prepared_at=BEGAN)
    for recipient, timestamp, expected in (
        (5, None, "applied"),
        (6, "2026-03-01T00:00:00Z", "unattributed"),
        (7, BEGAN.isoformat(), "applied"),
    ):
        payload = make_payload(recipient=None, phone=phone_of(recipient), parameters={})
        payload["timestamp"] = timestamp
        payload["data"]["call"] |= {"started_at": None, "ended_at": None}
        (event,) = decode(payload)
        await ingest(database, event)
        assert (await get_event(database, event.event_id))["disposition"] == expected


async def test_only_batches_that_may_have_been_sent_are_looked_at(database: Database) -> None:
    await store_batch(database.url)
    found = {}
    for number, state in enumerate(("prepared", "uploading", "uploaded", "unknown", "failed"), start=1):
        await database.pool.execute("UPDATE batches SET upload_state = $1", state)
        found[state] = (await attribute(database, phone=phone_of(number)))["disposition"] == "applied"
    assert found == {"prepared": False, "uploading": True, "uploaded": True, "unknown": True, "failed": False}


async def test_equal_call_parameters_decide_between_several_recipients(database: Database) -> None:
    await store_batch(database.url, batch_id=456, ref_token="a", first_phone=1)
    await store_batch(database.url, batch_id=457, ref_token="b", first_phone=3)
    phone = phone_of(5)  # LN-5 of the one batch, LN-3 of the other
    assert place(await attribute(database, phone=phone, parameters={"loan_id": "LN-5"}))[1:4] == (456, 5, "recipient")
    assert place(await attribute(database, phone=phone, parameters={"loan_id": "LN-3"}))[1:4] == (457, 3, "recipient")
    other_reference = {"loan_id": "LN-3", "outcome_ref": "lost-1"}
    assert place(await attribute(database, phone=phone, parameters=other_reference))[1:4] == (457, 3, "recipient")


async def test_several_recipients_that_nothing_decides_between_are_ambiguous(database: Database) -> None:
    await store_batch(database.url, batch_id=456, ref_token="a")
    await store_batch(database.url, batch_id=457, ref_token="b")
    assert place(await attribute(database, phone=phone_of(5), parameters={"loan_id": "LN-5"})) == AMBIGUOUS
    assert place(await attribute(database, phone=phone_of(5), parameters={"loan_id": "LN-6"})) == AMBIGUOUS
    payload = make_payload(recipient=None, phone=phone_of(5))
    payload["data"]["call"]["call_parameters"] = None
    (event,) = decode(payload)
    await ingest(database, event)
    assert place(await get_event(database, event.event_id)) == AMBIGUOUS


async def test_of_two_batches_only_the_one_that_existed_when_the_call_began_is_looked_at(database: Database) -> None:
    await store_batch(database.url, batch_id=456, ref_token="a", prepared_at=BEGAN - timedelta(days=1))
    await store_batch(database.url, batch_id=457, ref_token="b", prepared_at=BEGAN + timedelta(days=1))
    assert place(await attribute(database, phone=phone_of(5)))[1:4] == (456, 5, "recipient")


async def test_an_unattributed_event_delivered_again_after_its_batch_is_stored_is_attributed(
    database: Database,
) -> None:
    by_reference, by_phone, stray = decode(
        make_payload(recipient=3, status="busy"),
        make_payload(recipient=None, phone=phone_of(4), parameters={}),
        make_payload(recipient=None, phone="+919999999999"),
    )
    events = (by_reference, by_phone, stray)
    assert await ingest(database, *events) == Counted(unattributed=3)
    await store_batch(database.url)
    assert await ingest(database, *events) == Counted(applied=2, duplicates=3)
    assert place(await get_event(database, by_reference.event_id)) == ("applied", 456, 3, "reference", None)
    assert place(await get_event(database, by_phone.event_id)) == ("applied", 456, 4, "recipient", None)
    rows = [row["event_id"] async for row in database.queries.list_unattributed(database.pool, after=0, limit=10)]
    assert rows == [stray.event_id]
    assert await ingest(database, *events) == Counted(duplicates=3)


async def test_an_unattributed_event_may_be_delivered_again_several_times_in_one_group(database: Database) -> None:
    (event,) = decode(make_payload(recipient=None, phone=phone_of(5), parameters={}))
    await ingest(database, event)
    assert await ingest(database, event, event) == Counted(duplicates=2)
    await store_batch(database.url)
    assert await ingest(database, event, event) == Counted(applied=1, duplicates=2)


async def test_an_unattributed_event_whose_reason_changed_is_listed_with_the_new_one(database: Database) -> None:
    (event,) = decode(make_payload(recipient=None, phone=phone_of(5), parameters={}))
    await ingest(database, event)
    for number in (1, 2):
        await store_batch(database.url, batch_id=number, ref_token=str(number))
    await ingest(database, event)
    (row,) = [row async for row in database.queries.list_unattributed(database.pool, after=0, limit=10)]
    assert (row["reason"], row["agent_id"], row["phone"]) == ("ambiguous", AGENT_ID, phone_of(5))


async def test_events_of_one_group_find_their_recipients_each_by_its_own_way(database: Database) -> None:
    await store_batch(database.url)
    events = decode(
        make_payload(recipient=None, phone=phone_of(2), parameters={}),
        make_payload(recipient=9),
        make_payload(recipient=None, phone="+919999999999"),
        make_payload(recipient=1),
    )
    assert await ingest(database, *events) == Counted(applied=3, unattributed=1)
    places = [place(await get_event(database, event.event_id)) for event in events]
    assert [found[2:4] for found in places] == [(2, "recipient"), (9, "reference"), (None, None), (1, "reference")]


DIGITS = phone_of(3)[1:]
SPELLINGS = [
    DIGITS, f"00{DIGITS}", f"+{DIGITS[:2]} {DIGITS[2:7]}-{DIGITS[7:]}", f"tel:+{DIGITS};ext=1", f"sip:+{DIGITS}@host",
    "+" + "".join("०१२३४५६७८९"[int(digit)] for digit in DIGITS), f"+{DIGITS[:2]}\u00a0{DIGITS[2:]}\u200b",
]  # fmt: skip


@pytest.mark.parametrize("said", SPELLINGS)
async def test_a_webhook_without_a_reference_finds_its_recipient(database: Database, said: str) -> None:
    await store_batch(database.url)
    (event,) = decode(make_payload(recipient=None, phone=said, began=BEGAN, parameters={"loan_id": "LN-3"}))
    await ingest(database, event)
    state = await get_event(database, event.event_id)
    assert (state["disposition"], state["recipient"]) == ("applied", 3)
    assert await database.pool.fetchval("SELECT body FROM event_bodies") == event.body


async def test_one_person_is_one_recipient_of_a_batch_whose_file_is_not_known(database: Database) -> None:
    await database.pool.execute(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, columns, origin, is_registered, created_at) "
        "VALUES (900, 123, '', 'uploaded', '{}', 'provider', false, $1)", BEGAN,
    )  # fmt: skip
    for attempt, said in enumerate(SPELLINGS, 1):
        await ingest(database, *decode(make_payload(recipient=None, phone=said, attempt=attempt, began=BEGAN)))
    rows = await database.pool.fetch(
        "SELECT phone, attempts FROM recipients JOIN outcomes USING (batch_key, recipient_no)"
    )
    assert [tuple(row) for row in rows] == [(phone_of(3), len(SPELLINGS))]


async def test_what_waits_is_listed_under_the_phone_that_is_compared(database: Database) -> None:
    await ingest(database, *decode(*[make_payload(recipient=None, phone=said) for said in SPELLINGS]))
    rows = await database.pool.fetch("SELECT DISTINCT phone FROM unattributed")
    assert [row["phone"] for row in rows] == [phone_of(3)]
