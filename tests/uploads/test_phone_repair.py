"""Phones that older versions stored as they were written are repaired in steps; what they misled is tried again."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from service.formant.regions import Regions
from service.privacy.erasure import Eraser
from service.store.database import Database
from service.uploads import phone_repair
from service.uploads.phone_repair import PhoneRepair
from service.uploads.registration import Registrar
from tests.factories import AGENT_ID, BEGAN, decode, make_payload, phone_of, store_batch
from tests.guarantees.recount import find_differences
from tests.guarantees.whole_database import find_everywhere
from tests.uploads.repairing import ask_for_repair, ingest_as_before
from tests.webhooks.ingesting import get_event, ingest

PHONE = phone_of(3)
REGIONS = Regions("US", {AGENT_ID: "IN"})


@pytest.fixture
async def registrar(database: Database) -> Registrar:
    return Registrar(database)


def call(phone: str, attempt: int = 1, **given: Any) -> dict[str, Any]:
    return make_payload(
        recipient=None, phone=phone, attempt=attempt, began=BEGAN + attempt * timedelta(hours=1), **given
    )


async def open_window(database: Database) -> None:
    await database.pool.execute(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, columns, origin, is_registered, created_at, "
        "prepared_at) VALUES (900, $1, '', 'uploaded', '{}', 'provider', false, $2, $2)", AGENT_ID, BEGAN,
    )  # fmt: skip


async def read_recipients(database: Database) -> list[tuple[Any, ...]]:
    rows = await database.pool.fetch(
        "SELECT recipient_no, phone, coalesce(o.state, '') AS state, coalesce(o.attempts, 0) AS attempts "
        "FROM recipients LEFT JOIN outcomes AS o USING (batch_key, recipient_no) ORDER BY batch_key, recipient_no"
    )
    return [tuple(row) for row in rows]


async def check_counters(database: Database) -> None:
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


@pytest.mark.parametrize("said", [PHONE[1:], "70000 00003", "070000-00003", f"tel:{PHONE};ext=1"])
async def test_a_recipient_made_on_the_fly_keeps_its_number_and_the_feed_shows_its_phone(
    database: Database, registrar: Registrar, said: str
) -> None:
    await open_window(database)
    await ingest_as_before(database, call(said, final=False, status="busy"))
    position = await database.pool.fetchval("SELECT max(position) FROM outcomes")
    await ask_for_repair(database)
    assert await PhoneRepair(database, REGIONS, registrar).finish() == 1
    assert await read_recipients(database) == [(1, PHONE, "pending_retry", 1)]
    assert await database.pool.fetchval("SELECT max(position) FROM outcomes") > position
    await ingest(database, *decode(call(PHONE, 2)))
    assert await read_recipients(database) == [(1, PHONE, "completed", 2)]
    await check_counters(database)


async def test_one_person_who_was_several_recipients_for_several_spellings_is_one(
    database: Database, registrar: Registrar
) -> None:
    await open_window(database)
    for attempt, said in enumerate([PHONE[1:], PHONE, "70000 00003"], 1):
        await ingest_as_before(database, call(said, attempt, final=attempt == 3))
    await ingest_as_before(database, call("70000 00003", 4, parameters={"loan_id": "another"}))
    assert len(await read_recipients(database)) == 4
    await ask_for_repair(database)
    await PhoneRepair(database, REGIONS, registrar).finish()
    assert await read_recipients(database) == [
        (1, PHONE, "completed", 3), (2, PHONE, "withdrawn", 0), (3, PHONE, "withdrawn", 0), (4, PHONE, "completed", 1),
    ]  # fmt: skip
    assert await database.pool.fetchval("SELECT withdrawn_count FROM batches") == 2
    assert await database.pool.fetchval("SELECT count(*) FROM unattributed") == 0
    await check_counters(database)


async def test_what_waited_for_its_spelling_finds_its_recipient(database: Database, registrar: Registrar) -> None:
    await store_batch(database.url)
    payload = call("070000 00003", parameters={"loan_id": "LN-3"})
    await ingest_as_before(database, payload, call("anonymous"))
    assert (await get_event(database, payload["event_id"]))["reason"] == "no_batch"
    await ask_for_repair(database)
    await PhoneRepair(database, REGIONS, registrar).finish()
    event = await get_event(database, payload["event_id"])
    assert (event["disposition"], event["recipient"]) == ("applied", 3)
    assert await database.pool.fetchval("SELECT array_agg(phone) FROM unattributed") == ["anonymous"]
    await check_counters(database)


async def test_whom_an_erasure_missed_for_their_spelling_is_erased(database: Database, registrar: Registrar) -> None:
    await open_window(database)
    parameters = {"name": "Rahul"}
    await ingest_as_before(database, call("70000 00003", parameters=parameters, conversation_id="of-rahul"))
    await ingest_as_before(
        database, call("070000 00003", agent_id=99, parameters=parameters, conversation_id="of-rahul")
    )
    await database.pool.execute(  # as the version before finished it: it found nothing
        "INSERT INTO erased_phones VALUES (hash_person('phone', $1), clock_timestamp())", PHONE
    )
    await ask_for_repair(database)
    await PhoneRepair(database, REGIONS, registrar).finish()
    await Eraser(database).finish_all()
    assert await find_everywhere(database, "70000", "Rahul", "of-rahul") == []
    await check_counters(database)


async def test_an_erasure_waits_for_the_repair(database: Database, registrar: Registrar) -> None:
    await open_window(database)
    await ingest_as_before(database, call("70000 00003", parameters={"name": "Rahul"}, conversation_id="of-rahul"))
    await ask_for_repair(database)
    eraser = Eraser(database)
    erasure_id = await eraser.begin(PHONE)
    assert (await eraser.finish(erasure_id))["step"] == "late"
    await PhoneRepair(database, REGIONS, registrar).finish()
    assert (await eraser.finish(erasure_id))["state"] == "done"
    assert await find_everywhere(database, "70000", "Rahul", "of-rahul") == []


@pytest.mark.parametrize("steps", range(6))
async def test_it_goes_on_where_it_was_killed_and_two_do_no_harm(
    database: Database, registrar: Registrar, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(phone_repair, "STEP_ROWS", 2)
    await open_window(database)
    await ingest_as_before(database, *[call(phone_of(n)[1:]) for n in range(1, 6)])
    await ingest_as_before(database, *[call(phone_of(n)[1:], agent_id=99) for n in range(1, 6)])
    await ask_for_repair(database)
    for _ in range(steps):
        await PhoneRepair(database, REGIONS).take_step()
    await asyncio.gather(*[PhoneRepair(database, REGIONS, registrar).finish() for _ in range(3)])
    assert [row[1] for row in await read_recipients(database)] == [phone_of(n) for n in range(1, 6)]
    assert await database.pool.fetchval("SELECT count(*) FROM unattributed WHERE phone ~ '^[+]917'") == 5
    await check_counters(database)


async def test_it_runs_once_more_a_day_later_and_then_never_again(database: Database, registrar: Registrar) -> None:
    await open_window(database)
    await ask_for_repair(database)
    repair = PhoneRepair(database, REGIONS, registrar)
    await repair.finish()
    await ingest_as_before(database, call(PHONE[1:]))  # by a replica of the version before
    assert await repair.finish() == 0
    await database.pool.execute("UPDATE phone_repairs SET due_at = due_at - interval '1 day'")
    assert await repair.finish() == 1
    assert await database.pool.fetchval("SELECT due_at = 'infinity' FROM phone_repairs")
    assert await repair.take_step() is None


async def test_a_database_without_people_needs_no_repair(database: Database) -> None:
    assert await PhoneRepair(database, REGIONS).take_step() is None
