"""A lookup's guess is taken back where something speaks against it, as long as nothing has proved it."""

import time
from datetime import timedelta
from typing import Any

import pytest

from service.store.database import Database
from tests.conftest import StartService
from tests.database.ingesting import ingest
from tests.database.test_note_batches import note
from tests.database.test_withheld_batches import NAMESAKE, call
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, decode, make_payload, store_batch
from tests.http.provider import connect_provider
from tests.http.test_upload_lookup import look_again, lose, make_elsewhere, read

OWN = {"batch_id": BATCH_ID, "agent_id": AGENT_ID}
TWIN = NAMESAKE | {"total_recipients": 10}


async def guess(database: Database, known_by: str = "lookup") -> None:
    await store_batch(database.url)
    await database.pool.execute("UPDATE batches SET known_by = $1, sent_at = prepared_at, lookups = 1", known_by)


async def state(database: Database) -> tuple[Any, ...]:
    (row,) = await database.pool.fetch("SELECT upload_state, batch_id FROM batches WHERE batch_key = 1")
    return tuple(row)


@pytest.mark.parametrize("known_by", ["lookup", "answer", "person"])
@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ({}, True),
        ({"total_recipients": 11}, True),
        ({"name": None}, True),
        ({"created_at": None}, True),
        ({"total_recipients": 12}, False),
        ({"name": "Other"}, False),
        ({"created_at": BEGAN + timedelta(days=2)}, False),
        ({"agent_id": AGENT_ID + 1}, False),
    ],
)
async def test_another_batch_that_fits_reopens_a_guess(
    database: Database, said: dict[str, Any], *, fits: bool, known_by: str
) -> None:
    await guess(database, known_by)
    await note(database, TWIN | said)
    is_open = fits and known_by == "lookup"
    assert await state(database) == (("unknown", None) if is_open else ("uploaded", BATCH_ID))


async def test_a_call_from_before_the_other_batch_proves_the_guess(database: Database) -> None:
    await guess(database)
    await ingest(database, *decode(make_payload(began=BEGAN)))
    await note(database, TWIN | {"created_at": BEGAN + timedelta(hours=2)})
    assert await state(database) == ("uploaded", BATCH_ID)


@pytest.mark.parametrize("is_its_own_called", [False, True])
async def test_strangers_alone_reopen_a_guess(database: Database, *, is_its_own_called: bool) -> None:
    await guess(database)
    await call(database, "+917900000001")
    if is_its_own_called:
        await ingest(database, *decode(make_payload()))
    await note(database, OWN)
    assert await state(database) == (("uploaded", BATCH_ID) if is_its_own_called else ("unknown", None))


async def test_a_person_corrects_a_guess_with_another_batch(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        await lose(service, sandbox)
        await make_elsewhere(sandbox)
        await look_again(database, sandbox)
        assert (await read(service, 1))["batch_id"] == 456
        true = await make_elsewhere(sandbox)
        answer = await service.post("/v1/uploads/1/resolve", json={"batch_id": true})
        assert (answer.status_code, answer.json()["data"]["batch_id"]) == (200, true)
        again = await service.post("/v1/uploads/1/resolve", json={"batch_id": 456})
        assert again.status_code == 409
