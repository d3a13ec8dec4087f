"""A CSV that is registered late has the same result as one that was there from the start."""

import io
import json
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.formant.events import STATUSES, Event
from service.store.database import Database
from service.uploads.registration import Registrar
from tests.factories import AGENT_ID, BEGAN, decode, make_payload, phone_of
from tests.guarantees.oracle import expect
from tests.guarantees.recount import find_differences, read_state
from tests.uploads.listed import note_batch
from tests.webhooks.ingesting import Counted, get_event, ingest

Row = tuple[str, dict[str, str]]


def make_rows(dice: random.Random) -> list[Row]:
    """Recipients of a CSV, some of which share a phone, and some share everything."""
    return [(phone_of(dice.randrange(1, 9)), {"loan_id": dice.choice(["A", "B"])}) for _ in range(9)]


def to_csv(rows: list[Row]) -> io.BytesIO:
    lines = ["customer_phone,loan_id", *(f"{phone},{parameters['loan_id']}" for phone, parameters in rows)]
    return io.BytesIO("\n".join(lines).encode())


def place(event: Event, rows: list[Row]) -> int | None:
    """The row that an event belongs to by the rules of design.md, had the CSV been there from the start."""
    parameters = json.loads(event.parameters)
    held = [
        n
        for n, row in enumerate(rows, start=1)
        if row[0] == event.phone and (not parameters or row[1].items() <= parameters.items())
    ]
    equal = [n for n in held if rows[n - 1][1] == parameters]
    return held[0] if len(held) == 1 else equal[0] if len(equal) == 1 else None


def make_events(dice: random.Random) -> list[Event]:
    payloads = []
    for n in range(30):
        parameters: dict[str, Any] = dice.choice([{}, {"loan_id": "A"}, {"loan_id": "B"}, {"loan_id": "other"}])
        payloads.append(
            make_payload(
                recipient=None, phone=phone_of(dice.randrange(1, 11)), parameters=parameters,
                attempt=dice.randrange(1, 4), status=dice.choice(STATUSES), final=False, conversation_id=f"c-{n}",
                results={"intent": dice.choice("abc")},
            )
        )  # fmt: skip
    return decode(*payloads)


@pytest.mark.parametrize("seed", range(12))
async def test_events_before_during_and_after_a_registration_come_to_what_they_would_have_with_the_csv_there(
    database: Database, seed: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    rows, events = make_rows(dice), make_events(dice)
    key = await note_batch(database, 900, len(rows))
    registrar = Registrar(database)
    waiting = list(events)

    async def deliver(most: int) -> None:
        while waiting and most > 0:
            size = min(dice.randrange(1, 5), most)
            group = [waiting.pop() for _ in range(min(size, len(waiting)))]
            most -= size
            await ingest(database, *group)
            assert await find_differences_now(database) == []

    await deliver(dice.randrange(20))
    path = tmp_path / "contacts.csv"
    path.write_bytes(to_csv(rows).read())
    await registrar._stage(await registrar._get(900), path, b"digest", force=False)
    while await database.queries.register_step(database.pool, batch_key=key, rows=dice.randrange(1, 5)) != "retry":
        assert await find_differences_now(database) == []
        await deliver(dice.randrange(3))
    counts = await registrar.finish(900)
    await deliver(100)

    placed = [event._replace(ref_no=place(event, rows)) for event in events if place(event, rows)]
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []
        state = await read_state(connection, key)
    held = await database.pool.fetch("SELECT * FROM recipients WHERE withdrawn_at IS NULL ORDER BY recipient_no")
    found = [(row["phone"], json.loads(row["parameters"])) for row in held]
    assert Counter(map(repr, found)) == Counter(map(repr, rows))
    row_of = {r["recipient_no"]: rows.index(pair) + 1 for r, pair in zip(held, found, strict=True)}
    expected = expect(placed)
    assert {row_of[n]: outcome for n, outcome in state.outcomes.items()} == {
        rows.index(rows[n - 1]) + 1: outcome for n, outcome in expected.outcomes.items()
    }
    assert state[1:] == expected[1:]
    strays = {event.event_id for event in events if not place(event, rows)}
    assert {row["event_id"] for row in await database.pool.fetch("SELECT event_id FROM unattributed")} == strays
    assert counts["recipients"] == len(rows)
    batch = await database.pool.fetchrow("SELECT * FROM batches")
    assert batch is not None
    assert batch["recipient_count"] - batch["withdrawn_count"] == len(rows)
    assert await database.pool.fetchval("SELECT count(*) FROM staged_recipients") == 0


async def find_differences_now(database: Database) -> list[tuple[object, ...]]:
    async with database.pool.acquire() as connection:
        return await find_differences(connection)


def stray(phone: str = "+15550001", **fields: Any) -> Event:
    return decode(make_payload(**({"recipient": None, "phone": phone, "began": BEGAN} | fields)))[0]


async def test_two_events_of_a_new_phone_in_one_group_make_one_recipient(database: Database) -> None:
    await note_batch(database, 900, 5)
    first = stray(parameters={"a": "1"})
    second = stray(parameters={"a": "1"}, conversation_id="second")
    assert await ingest(database, first, second) == Counted(applied=2)
    found = await get_event(database, second.event_id)
    assert (found["method"], found["recipient"], found["batch_id"]) == ("window", 1, 900)
    assert await ingest(database, first, stray(parameters={"a": "2"}, conversation_id="third")) == Counted(
        applied=1, duplicates=1
    )
    assert await database.pool.fetchval("SELECT recipient_count FROM batches") == 2


async def test_a_recipient_known_by_its_phone_alone_gets_its_parameters_from_a_later_event(database: Database) -> None:
    await note_batch(database, 900, 5)
    await ingest(database, stray(parameters={}))
    await ingest(database, stray(parameters={"a": "1"}))
    await ingest(database, stray(parameters={}))
    (row,) = await database.pool.fetch("SELECT parameters FROM recipients")
    assert json.loads(row["parameters"]) == {"a": "1"}


async def test_windows_that_overlap_leave_an_event_ambiguous_and_one_without_a_phone_fits_none(
    database: Database,
) -> None:
    await note_batch(database, 900, 5)
    await note_batch(database, 901, 5)
    event, no_phone = stray(), stray()._replace(phone=None)
    assert await ingest(database, event, no_phone) == Counted(unattributed=2)
    assert (await get_event(database, event.event_id))["reason"] == "ambiguous"
    assert (await get_event(database, no_phone.event_id))["reason"] == "no_batch"


async def test_a_call_outside_the_window_fits_no_batch(database: Database) -> None:
    await note_batch(database, 900, 5)
    early = stray(began=datetime(2026, 3, 16, 10, 24, tzinfo=UTC))
    await database.pool.execute("UPDATE batches SET closed_at = '2026-03-16 11:00Z'")
    late = stray(began=datetime(2026, 3, 16, 11, 6, tzinfo=UTC))
    assert await ingest(database, early, late) == Counted(unattributed=2)
    assert await ingest(database, stray(began=datetime(2026, 3, 16, 11, 4, tzinfo=UTC))) == Counted(applied=1)


@pytest.mark.parametrize(("state", "name", "is_foreign"), [
    ("uploading", "Other", False), ("unknown", "Dashboard", False), ("unknown", "Other", True),
    ("failed", "Dashboard", True),
])  # fmt: skip
async def test_a_batch_that_an_upload_of_ours_may_have_made_is_not_taken_for_one_made_elsewhere(
    database: Database, state: str, name: str, is_foreign: bool
) -> None:
    await database.pool.execute(
        "INSERT INTO batches (agent_id, name, upload_state, columns, recipient_count, prepared_at) "
        "VALUES ($1, $2, $3, '{}', 3, $4)", AGENT_ID, name, state, BEGAN,
    )  # fmt: skip
    await note_batch(database, 900, 7)
    assert await database.pool.fetchval("SELECT count(*) FROM batches WHERE batch_id = 900") == int(is_foreign)


async def test_a_lease_is_held_by_one_until_it_runs_out(database: Database) -> None:
    async def claim(holder: str, seconds: float) -> bool:
        return bool(await database.queries.claim_lease(database.pool, name="x", holder=holder, seconds=seconds))

    assert [await claim("a", 60), await claim("b", 60), await claim("a", -1), await claim("b", 60)] == [
        True, False, True, True,
    ]  # fmt: skip
