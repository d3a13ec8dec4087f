"""A recipient is found by its phone however it is written; what was said stays in the body."""

import pytest

from service.store.database import Database
from tests.factories import BEGAN, decode, make_payload, phone_of, store_batch
from tests.webhooks.ingesting import get_event, ingest

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
