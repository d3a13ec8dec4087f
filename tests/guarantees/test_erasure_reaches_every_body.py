"""An erasure reaches every body that names the person, in any spelling and encoding, in steps that survive a kill."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.formant.events import Unreadable
from service.privacy import erasure
from service.privacy.erasure import Eraser
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.eventually import eventually
from tests.factories import RECEIVED, decode, encode, make_payload, store_batch
from tests.guarantees.recount import find_differences
from tests.guarantees.whole_database import find_everywhere

PHONE, NATIONAL, NAME = "+917000000001", "7000000001", "Rahul-the-customer"
WRITTEN = [
    "70000 00001", "70000-00001", "+91.7000.000.001", "0091 7000000001", "07000000001", "７０００００００01",
    "tel:+91-7000-000-001", "7000000001",
]  # fmt: skip


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    made = Writer(database.url, database.queries, Metrics())
    yield made
    made.close()


def name_in(field: str, written: str) -> dict[str, Any]:
    """An event without a recipient that names the person only in its call parameters or results."""
    payload = make_payload(recipient=None, parameters={"note": NAME})
    payload["data"]["call"]["to_phone"] = None
    place = payload["data"]["results"] if field == "results" else payload["data"]["call"]["call_parameters"]
    place["mobile"] = written
    return payload


def make_unreadable(body: bytes) -> Unreadable:
    return Unreadable(None, hashlib.sha256(body).digest(), "default", body, RECEIVED, "not_json", "body")


def make_unusable() -> list[bytes]:
    """Unusable signed bodies that name the person."""
    whole = [f'{{"to": "{written}", "name": "{NAME}"' for written in WRITTEN]
    escaped = f'{{"to": "700000000\\u0031", "name": "{NAME}"'
    return [*(text.encode() for text in whole), escaped.encode()] + [
        text.encode(encoding) for text in (whole[0], escaped) for encoding in ("utf-16", "utf-16-be", "utf-16-le")
    ]


async def erase(database: Database) -> dict[str, Any]:
    eraser = Eraser(database)
    return await eraser.finish(await eraser.begin(PHONE))


async def count_left(database: Database) -> int:
    """The number of bodies that name the person in UTF-8 or UTF-16."""
    in_utf16 = [NAME.encode(encoding).decode("latin-1") for encoding in ("utf-16-le", "utf-16-be")]
    rows = await database.pool.fetch("SELECT body FROM event_bodies UNION ALL SELECT body FROM quarantine")
    return sum(any(text.encode("latin-1") in row["body"] for text in (NAME, *in_utf16)) for row in rows)


@pytest.mark.parametrize("field", ["parameters", "results"])
async def test_a_waiting_event_that_names_the_person_only_in_its_body_is_erased(
    database: Database, writer: Writer, field: str
) -> None:
    other = name_in(field, "70000 00002")
    await writer.write(decode(*[name_in(field, written) for written in WRITTEN], other))
    assert await count_left(database) == len(WRITTEN) + 1
    erased = await erase(database)
    assert (erased["state"], erased["unattributed"], erased["bodies"]) == ("done", len(WRITTEN), len(WRITTEN))
    assert await database.pool.fetchval("SELECT array_agg(event_id) FROM unattributed") == [other["event_id"]]
    assert await count_left(database) == 1


async def test_a_waiting_event_with_a_phone_spelled_by_an_older_version_is_erased(
    database: Database, writer: Writer
) -> None:
    await writer.write(decode(make_payload(recipient=None, phone=PHONE, parameters={"note": NAME})))
    await database.pool.execute("UPDATE unattributed SET phone = '91 70000-00001'")
    assert (await erase(database))["unattributed"] == 1
    assert await find_everywhere(database, NATIONAL, NAME, "70000-00001") == []


async def test_bodies_of_other_recipients_that_name_the_person_are_erased_and_still_count(
    database: Database, writer: Writer
) -> None:
    await store_batch(database.url, 5)
    named = [make_payload(recipient=3, attempt=1, status="busy", final=False, phone=PHONE, conversation_id="c")]
    named += [
        make_payload(recipient=3, attempt=2 + nth, parameters={"guarantor": written}, status="busy", final=False)
        for nth, written in enumerate(WRITTEN)
    ]
    await writer.write(decode(*named, make_payload(recipient=4, phone="+917000000004")))
    erased = await erase(database)
    assert (erased["state"], erased["bodies"], erased["bodies_read"] >= len(named)) == ("done", len(named), True)
    bodies = await database.pool.fetch("SELECT body FROM event_bodies")
    assert [json.loads(row["body"])["data"]["call"]["to_phone"] for row in bodies] == ["+917000000004"]
    assert await database.pool.fetchval("SELECT attempts FROM outcomes WHERE recipient_no = 3") == len(named)
    assert await find_everywhere(database, NATIONAL) == []
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_quarantined_bodies_in_any_spelling_are_erased_and_do_not_come_back(
    database: Database, writer: Writer
) -> None:
    bodies = make_unusable()
    other = make_unreadable(b'{"to": "70000 00002"')
    await writer.write([*map(make_unreadable, bodies), other])
    erased = await erase(database)
    assert (erased["state"], erased["quarantined"]) == ("done", len(bodies))
    assert await count_left(database) == 0
    await writer.write([make_unreadable(body + b" " * (2 + len(body) % 2)) for body in bodies])
    assert await count_left(database) == 0
    waiting = await database.pool.fetch("SELECT body FROM quarantine WHERE replayed_at IS NULL")
    assert [row["body"] for row in waiting] == [other.body]


@pytest.mark.parametrize("steps", range(0, 36, 5))
async def test_an_erasure_killed_after_any_step_is_finished_by_another(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(erasure, "SEARCH_ROWS", 2)
    await store_batch(database.url, 3)
    await writer.write(decode(*[name_in("results", written) for written in WRITTEN]))
    other = make_payload(recipient=2, phone=PHONE, conversation_id="c")
    await writer.write(decode(make_payload(recipient=1, parameters={"n": NAME}, conversation_id="d"), other))
    await writer.write([make_unreadable(body) for body in make_unusable()])
    first = Eraser(database)
    erasure_id = await first.begin(PHONE)
    for _ in range(steps):
        await first.take_step(erasure_id)
    await asyncio.gather(*[Eraser(database).finish(erasure_id) for _ in range(3)])
    erased = await first.read(erasure_id)
    assert (erased["state"], erased["unattributed"], erased["quarantined"]) == (
        "done", len(WRITTEN), len(make_unusable()),
    )  # fmt: skip
    assert await count_left(database) == 0
    assert await find_everywhere(database, NATIONAL) == []


async def test_reading_bodies_does_not_wait_for_the_ingest_lock(database: Database, writer: Writer) -> None:
    await writer.write(decode(*[make_payload(recipient=None, phone="+917000000009") for _ in range(5)]))
    eraser = Eraser(database)
    erasure_id = await eraser.begin(PHONE)
    await eraser.take_step(erasure_id)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT lock_ingest()")
        steps = []
        while (step := (await eraser.read(erasure_id))["step"]) not in {"late", "done"}:
            steps.append(step)
            await asyncio.wait_for(eraser.take_step(erasure_id), 10)
    assert list(dict.fromkeys(steps)) == ["unattributed", "quarantine", "held", "bodies"]
    assert (await eraser.finish(erasure_id))["state"] == "done"


async def test_a_page_of_large_bodies_is_bounded(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "SEARCH_BYTES", 5000)
    large = [make_payload(recipient=None, phone="+917000000009", parameters={"text": "x" * 4000}) for _ in range(4)]
    await writer.write(decode(*large, name_in("parameters", PHONE)))
    for step in ("unattributed", "bodies"):
        rows = database.queries.read_unsearched(database.pool, step=step, after=0, rows=500, bytes=5000)
        assert len([row async for row in rows]) == 1
    assert (await erase(database))["bodies"] == 1


async def test_the_service_finishes_the_erasure_of_a_killed_process(
    service: httpx.AsyncClient, database: Database
) -> None:
    await database.pool.execute(
        "INSERT INTO event_bodies (arrival_id, recorded_at, body) "
        "SELECT nextval('arrival_ids'), now(), convert_to(repeat('no phone ', 100), 'UTF8') "
        "FROM generate_series(1, 60000)"
    )
    last = encode(name_in("parameters", PHONE))
    await database.pool.execute("INSERT INTO event_bodies VALUES (nextval('arrival_ids'), now(), $1)", last)
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "erase", PHONE], env={**os.environ, "OUTCOMES_DATABASE_URL": database.url},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    await eventually(lambda: database.pool.fetchval("SELECT max(bodies_read) FROM erasures"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    erasure_id = await database.pool.fetchval("SELECT erasure_id FROM erasures WHERE step <> 'done'")

    async def read_erasure() -> dict[str, Any]:
        data: dict[str, Any] = (await service.get(f"/v1/erasures/{erasure_id}")).json()["data"]
        return data

    shown = await eventually(read_erasure, lambda data: data["state"] == "done")
    assert (shown["bodies_read"], shown["bodies"], shown["step"]) == (60_001, 1, "done")
    assert await find_everywhere(database, NATIONAL) == []
