"""A batch that may be an unknown upload is withheld, and its calls are placed nowhere else."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.store.database import Database
from tests.factories import AGENT_ID, BEGAN, decode, make_payload, phone_of, store_batch
from tests.guarantees.ambiguous_calls import settle
from tests.uploads.listed import NAMESAKE, call, note
from tests.webhooks.ingesting import ingest

OTHER = {"batch_id": 2, "agent_id": AGENT_ID, "name": "Wednesday", "total_recipients": 50, "created_at": BEGAN}
STRANGER = "+917900000001"


async def lose(database: Database, *, began: timedelta = timedelta(hours=-1)) -> int:
    key = await store_batch(database.url, batch_id=None, prepared_at=BEGAN + began)
    await database.pool.execute("UPDATE batches SET upload_state = 'unknown' WHERE batch_key = $1", key)
    return key


async def find(database: Database, name: str = "call") -> tuple[Any, Any]:
    event = await database.queries.get_event(database.pool, event_id=name)
    return event["reason"], event["batch_id"]


@pytest.mark.parametrize("is_called_first", [False, True])
@pytest.mark.parametrize("said", [{}, {"name": None, "total_recipients": 11}, {"name": None, "total_recipients": None}])
async def test_a_call_that_fits_a_withheld_batch_and_a_window_is_ambiguous(
    database: Database, said: dict[str, Any], *, is_called_first: bool
) -> None:
    key = await lose(database)
    await note(database, OTHER)
    if is_called_first:
        await call(database, STRANGER)
        assert await find(database) == (None, 2)
    assert await note(database, NAMESAKE | said) == 0
    await settle(database)
    if not is_called_first:
        await call(database, STRANGER)
    assert await find(database) == ("ambiguous", None)
    assert (await database.queries.get_upload(database.pool, batch_key=key))["withheld_batches"] == [1]


async def test_a_call_that_fits_a_withheld_batch_alone_is_ambiguous_and_makes_nobody(database: Database) -> None:
    await lose(database)
    await note(database, NAMESAKE)
    await call(database, STRANGER)
    assert await find(database) == ("ambiguous", None)
    assert await database.pool.fetchval("SELECT count(*) FROM recipients WHERE phone = $1", STRANGER) == 0


async def test_a_call_to_the_people_of_the_upload_is_counted_there(database: Database) -> None:
    await lose(database)
    await note(database, NAMESAKE)
    await call(database, "+917000000001", loan_id="LN-1")
    assert await database.pool.fetchval("SELECT batch_key FROM facts") == 1


async def test_a_call_from_before_the_withheld_batch_is_not_its(database: Database) -> None:
    await lose(database)
    await note(database, OTHER, NAMESAKE | {"created_at": BEGAN + timedelta(hours=5)})
    await call(database, STRANGER)
    assert await find(database) == (None, 2)


@pytest.mark.parametrize("end", ["failed", "uploaded"])
async def test_its_calls_are_placed_once_the_upload_is_settled(database: Database, end: str) -> None:
    await lose(database)
    await note(database, OTHER | {"created_at": BEGAN + timedelta(hours=9)}, NAMESAKE)
    await call(database, STRANGER)
    assert await find(database) == ("ambiguous", None)
    await database.pool.execute("UPDATE batches SET upload_state = $1, batch_id = CASE $1 WHEN 'uploaded' THEN 3 END "
                                "WHERE upload_state = 'unknown'", end)  # fmt: skip
    assert await note(database, NAMESAKE) == 1
    await settle(database)
    assert await find(database) == (None, 1)
    assert await database.pool.fetchval("SELECT count(*) FROM withheld_batches") == 0


async def test_a_withheld_batch_is_named_with_the_upload_that_it_may_be_until_that_is_settled(
    service: httpx.AsyncClient, database: Database
) -> None:
    key = await lose(database)
    await note(database, NAMESAKE)
    for answer in (
        await service.get("/v1/batch-calls/1"),
        await service.put("/v1/batch-calls/1/recipients", content=b"customer_phone\n+917900000001\n"),
    ):
        assert (answer.status_code, f"may be upload {key}" in answer.json()["error"]["message"]) == (404, True)
    assert (await service.get(f"/v1/uploads/{key}")).json()["data"]["withheld_batches"] == [1]
    alarms = {alarm["name"]: alarm["batches"] for alarm in (await service.get("/v1/alarms")).json()["data"]}
    assert alarms["uploads_unknown"] == [1]

    await database.pool.execute("UPDATE batches SET upload_state = 'failed' WHERE batch_key = $1", key)
    await note(database, NAMESAKE)
    assert (await service.get("/v1/batch-calls/1")).status_code == 200
    assert (await service.get(f"/v1/uploads/{key}")).json()["data"]["withheld_batches"] == []
    assert (await service.get("/v1/alarms")).json()["data"] == []


@pytest.mark.parametrize("is_bare", [False, True])
async def test_a_call_to_somebody_of_the_upload_itself_counts_there(database: Database, *, is_bare: bool) -> None:
    await lose(database)
    await note(database, NAMESAKE)
    payload = make_payload(recipient=None, phone=phone_of(1), parameters={"loan_id": "LN-1"}, event_id="call")
    if is_bare:
        payload["data"]["call"]["call_parameters"] = None
    await ingest(database, *decode(payload))
    event = await database.queries.get_event(database.pool, event_id="call")
    assert (event["disposition"], event["recipient"]) == ("applied", 1)
