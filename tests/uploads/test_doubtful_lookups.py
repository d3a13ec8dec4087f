"""A lookup's guess is taken back where something speaks against it, as long as nothing has proved it."""

import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.store.database import Database
from service.store.migrations import read_migrations
from tests.conftest import StartService
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, decode, make_payload, store_batch
from tests.provider import CONTACTS, connect_provider
from tests.uploads.listed import NAMESAKE, call, note
from tests.uploads.lost_uploads import OTHERS, adopt_wrongly, look_again, lose, make_elsewhere, read, states
from tests.webhooks.ingesting import ingest

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


async def upgrade(database: Database) -> None:
    """What the upgrade from a version makes of its data that did not keep how a batch is known."""
    (migration,) = (file for file in read_migrations() if file.name == "0028_earlier_lookups")
    await database.pool.execute(migration.text)


async def guess_earlier(database: Database, lookups: int = 1) -> None:
    """What the lookup of such a version adopted."""
    await guess(database)
    await database.pool.execute("UPDATE batches SET known_by = NULL, lookups = $1", lookups)


@pytest.mark.parametrize(("lookups", "is_open"), [(1, True), (0, False)])
async def test_strangers_reopen_what_the_lookup_of_an_earlier_version_adopted(
    database: Database, lookups: int, *, is_open: bool
) -> None:
    await guess_earlier(database, lookups)
    await call(database, "+917900000001")
    await note(database, OWN)
    assert await state(database) == ("uploaded", BATCH_ID)
    await upgrade(database)
    await note(database, OWN)
    assert await state(database) == (("unknown", None) if is_open else ("uploaded", BATCH_ID))


async def test_what_a_person_resolved_in_an_earlier_version_is_not_taken_for_a_guess(database: Database) -> None:
    await guess_earlier(database)
    await database.pool.execute(
        "INSERT INTO audit_log (actor, action, subject, outcome) "
        "VALUES ('command line', 'resolution', 'upload 1', 'uploaded'), ('service', 'upload', 'upload 2', 'uploaded')"
    )
    await store_batch(database.url, batch_id=BATCH_ID + 1, ref_token="another")
    await database.pool.execute("UPDATE batches SET lookups = 1")
    for _ in range(2):
        await upgrade(database)
        rows = await database.pool.fetch("SELECT known_by FROM batches ORDER BY batch_key")
        assert [row["known_by"] for row in rows] == ["person", "lookup"]


async def test_the_true_owner_of_what_an_earlier_version_adopted_for_another_upload_is_found_and_resolved(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        wrong = await lose(service, sandbox, CONTACTS)
        owner = await lose(service, sandbox, OTHERS, is_taken=True)
        await adopt_wrongly(database, "lookup")
        await database.pool.execute("UPDATE batches SET known_by = NULL, lookups = 1 WHERE batch_id = 456")
        word = {"batch_id": 456}
        assert (await service.post(f"/v1/uploads/{owner}/resolve", json=word)).status_code == 409
        await upgrade(database)

        runbook = (Path(__file__).parents[2] / "docs" / "operate" / "runbook.md").read_text()
        (statement,) = (block for block in re.findall(r"```sql\n(.*?)```", runbook, re.S) if "known_by" in block)
        found = await database.pool.fetch(statement)
        assert [(row["upload_id"], row["batch_id"]) for row in found] == [(wrong, 456)]
        answer = await service.post(f"/v1/uploads/{owner}/resolve", json=word)
        assert (answer.status_code, answer.json()["data"]["batch_id"]) == (200, 456)
        assert await states(service) == {wrong: ("unknown", None), owner: ("uploaded", 456)}
