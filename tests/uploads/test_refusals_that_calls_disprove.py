"""Calls that bear an upload's own references prove that it was sent, whatever the answer or a person said of it."""

import time
from datetime import UTC, datetime

import httpx
import pytest

from service.sandbox.faults import UploadFault
from service.store.database import Database
from service.uploads.lookup import UploadFinder, UploadRecovery
from service.uploads.results import record_failure
from tests.conftest import StartService
from tests.factories import decode, make_payload
from tests.provider import CONTACTS, connect_provider, count_uploads, upload
from tests.uploads.lost_uploads import lose, read
from tests.uploads.sampling import upload_test
from tests.webhooks.ingesting import ingest

REFUSALS: tuple[UploadFault, ...] = ("400", "401", "404", "429")


async def call(database: Database, upload_id: int = 1, *, source: str = "webhook") -> None:
    """A webhook of the upload's first recipient, with the reference that only the file that was sent holds."""
    token = await database.pool.fetchval("SELECT ref_token FROM batches WHERE batch_key = $1", upload_id)
    (event,) = decode(make_payload(ref_token=token, began=datetime.now(UTC)))
    await ingest(database, event._replace(source=source))


async def list_alarms(service: httpx.AsyncClient) -> set[str]:
    return {alarm["name"] for alarm in (await service.get("/v1/alarms")).json()["data"]}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_an_upload_that_was_refused_and_whose_calls_come_in_is_unknown_and_not_sent_again(
    start_service: StartService, database: Database, refusal: UploadFault
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = refusal
        assert (await upload(service)).status_code in {int(refusal), 502}
        assert (await read(service, 1))["state"] == "failed"
        await call(database)
        shown = await read(service, 1)
        assert (shown["state"], "calls with its references" in str(shown["detail"])) == ("unknown", True)
        assert "uploads_unknown" in await list_alarms(service)
        again = await upload(service)
        assert (again.status_code, again.json()["error"]["details"]["upload_id"]) == (409, 1)
        assert count_uploads(sandbox) == (0, 1)


async def test_an_upload_that_a_person_declared_not_sent_is_unknown_again_once_its_calls_come_in(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        await lose(service, sandbox)
        path = "/v1/uploads/1/resolve"
        assert (await service.post(path, json={"not_sent": True})).json()["data"]["state"] == "failed"
        await call(database)
        assert (await read(service, 1))["state"] == "unknown"
        assert (await upload(service)).status_code == 409
        denied = await service.post(path, json={"not_sent": True, "not_these": []})
        assert (denied.status_code, "was sent" in denied.json()["error"]["message"]) == (409, True)


@pytest.mark.parametrize("states", [["uploading"], ["uploading", "unknown"]])
async def test_a_refusal_that_comes_after_its_calls_leaves_the_upload_unknown(
    start_service: StartService, database: Database, states: list[str]
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        await lose(service, sandbox)
        await call(database)
        await database.pool.execute("UPDATE batches SET upload_state = 'uploading'")
        assert await record_failure(database, 1, states, "refused") == "unknown"
        assert (await read(service, 1))["state"] == "unknown"


async def test_a_main_batch_that_was_refused_and_whose_calls_come_in_is_not_promoted_again(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        await upload_test(service)
        sandbox.sandbox.faults.next_upload = "429"
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 429
        await call(database)
        assert (await read(service, 1))["state"] == "unknown"
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 409
        assert count_uploads(sandbox) == (1, 1)


async def test_what_was_prepared_and_is_seen_to_have_been_sent_is_not_sent(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        await lose(service, sandbox)
        await call(database)
        await database.pool.execute(
            "UPDATE batches SET upload_state = 'prepared', leased_until = now() - interval '1 s'"
        )
        assert await database.queries.begin_sending(database.pool, batch_key=1, seconds=60) is None
        await UploadRecovery(database, UploadFinder(database, None)).settle()
        assert (await read(service, 1))["state"] == "unknown"


async def test_what_was_healed_is_no_proof_and_neither_is_a_call_of_another_upload(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "400"
        assert (await upload(service)).status_code == 400
        await call(database, source="healed")
        assert (await upload(service, CONTACTS.replace("Rahul", "Rohan"))).status_code == 200
        await call(database, 2)
        assert [(await read(service, key))["state"] for key in (1, 2)] == ["failed", "uploaded"]


async def test_a_webhook_waits_for_nobody_who_holds_the_row_of_its_upload(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "400"
        assert (await upload(service)).status_code == 400
        async with database.pool.acquire() as other, other.transaction():
            await other.execute("SELECT FROM batches WHERE batch_key = 1 FOR UPDATE")
            await call(database)
        again = await upload(service)
        assert (again.status_code, again.json()["error"]["details"]["upload_id"]) == (409, 1)
