"""Unknown uploads: adopted when one batch of the provider fits, else left to a person, whose word is checked."""

import time

import httpx

from service.batches.lookup import UploadFinder, UploadRecovery
from service.formant.client import FormantClient, open_http
from service.metrics import Metrics
from service.sandbox import RunningSandbox
from service.store.database import Database
from tests.conftest import StartService
from tests.database.ingesting import ingest
from tests.factories import decode, make_payload
from tests.http.provider import CONTACTS, KEY, connect_provider, count_uploads, upload


async def make_elsewhere(sandbox: RunningSandbox, name: str = "March Follow Ups", content: str = CONTACTS) -> int:
    """A batch that somebody made in the provider's dashboard."""
    async with httpx.AsyncClient(base_url=sandbox.base_url, headers={"authorization": f"Bearer {KEY}"}) as dashboard:
        files = {"file": ("contacts.csv", content, "text/csv")}
        answer = await dashboard.post("/v1/batch-call", data={"agent_id": "123", "name": name}, files=files)
        batch_id: int = answer.json()["data"]["id"]
        return batch_id


async def lose(service: httpx.AsyncClient, sandbox: RunningSandbox) -> int:
    """An upload that the provider never took, and whose answer was lost; gives its id."""
    sandbox.sandbox.faults.next_upload = "refused_after_body"
    assert (await upload(service, force="true")).status_code == 504
    (row, *_) = (await service.get("/v1/uploads")).json()["data"]
    assert row["state"] == "unknown"
    return int(row["upload_id"])


async def look_again(database: Database, sandbox: RunningSandbox) -> None:
    """The next lookup, as if its time had come."""
    await database.pool.execute("UPDATE batches SET next_lookup_at = now() WHERE upload_state = 'unknown'")
    async with open_http(sandbox.base_url, KEY) as http:
        await UploadRecovery(database, UploadFinder(database, FormantClient(http, Metrics()))).settle()


async def test_a_word_on_an_upload_that_is_no_word_but_a_file_is_cut_off(service: httpx.AsyncClient) -> None:
    for size, status in ((2**14, 400), (2**14 + 1, 413), (2**24, 413)):
        answer = await service.post("/v1/uploads/1/resolve", content=b" " * size)
        assert answer.status_code == status, size


async def read(service: httpx.AsyncClient, upload_id: int) -> dict[str, object]:
    shown: dict[str, object] = (await service.get(f"/v1/uploads/{upload_id}")).json()["data"]
    return shown


async def test_a_batch_that_turns_up_later_in_the_providers_list_is_adopted(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        assert "holds no batch that fits" in str((await read(service, upload_id))["detail"])
        await make_elsewhere(sandbox)
        await look_again(database, sandbox)
        shown = await read(service, upload_id)
        assert (shown["state"], shown["batch_id"], shown["detail"]) == ("uploaded", 456, None)
        assert (await service.get("/v1/batch-calls/456")).status_code == 200


async def test_a_batch_of_another_name_size_or_time_is_not_taken_for_it(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time() - 3600) as (service, sandbox):
        await make_elsewhere(sandbox)
        upload_id = await lose(service, sandbox)
        await make_elsewhere(sandbox, name="April")
        await make_elsewhere(sandbox, content=CONTACTS + "+919812345679,Eve,LN-1,1\n")
        await look_again(database, sandbox)
        assert (await read(service, upload_id))["state"] == "unknown"


async def test_where_two_batches_fit_a_person_decides(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        for _ in range(2):
            await make_elsewhere(sandbox)
        await look_again(database, sandbox)
        shown = await read(service, upload_id)
        assert shown["state"] == "unknown"
        assert "456, 457" in str(shown["detail"])
        assert f"POST /v1/uploads/{upload_id}/resolve" in str(shown["detail"])
        resolved = await service.post(f"/v1/uploads/{upload_id}/resolve", json={"batch_id": 457})
        assert (resolved.json()["data"]["state"], resolved.json()["data"]["batch_id"]) == ("uploaded", 457)


async def test_two_unknown_uploads_that_are_alike_do_not_race_for_one_batch(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        uploads = [await lose(service, sandbox) for _ in range(2)]
        await make_elsewhere(sandbox)
        await look_again(database, sandbox)
        for upload_id in uploads:
            shown = await read(service, upload_id)
            assert (shown["state"], "another unknown upload is like it" in str(shown["detail"])) == ("unknown", True)


async def test_lookups_wait_longer_and_longer(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        await lose(service, sandbox)
        waits = []
        for _ in range(3):
            await look_again(database, sandbox)
            waits.append(await database.pool.fetchval("SELECT extract(epoch FROM next_lookup_at - now()) FROM batches"))
        assert [round(float(wait)) for wait in waits] == [10, 20, 40]


async def test_a_word_that_the_evidence_contradicts_is_refused(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        other = await make_elsewhere(sandbox, content=CONTACTS + "+919812345679,Eve,LN-1,1\n")
        path = f"/v1/uploads/{upload_id}/resolve"
        for word, status, told in (
            ({}, 400, "batch_id"),
            ({"batch_id": 1, "not_sent": True}, 400, "batch_id"),
            ({"batch": 1}, 400, "batch_id"),
            ({"batch_id": 999}, 404, "no such batch"),
            ({"batch_id": other}, 400, "3 recipients"),
        ):
            answer = await service.post(path, json=word)
            assert (answer.status_code, told in answer.json()["error"]["message"]) == (status, True), word
        await make_elsewhere(sandbox)
        answer = await service.post(path, json={"not_sent": True})
        assert (answer.status_code, "457" in answer.json()["error"]["message"]) == (409, True)
        assert (await service.post("/v1/uploads/999/resolve", json={"not_sent": True})).status_code == 404
        assert (await read(service, upload_id))["state"] == "unknown"


async def test_an_upload_whose_webhooks_came_in_cannot_be_declared_not_sent(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        token = await database.pool.fetchval("SELECT ref_token FROM batches")
        await ingest(database, *decode(make_payload(ref_token=token)))
        answer = await service.post(f"/v1/uploads/{upload_id}/resolve", json={"not_sent": True})
        assert (answer.status_code, "was sent" in answer.json()["error"]["message"]) == (409, True)


async def test_an_upload_that_was_declared_not_sent_has_failed_and_may_be_made_again(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        path = f"/v1/uploads/{upload_id}/resolve"
        assert (await service.post(path, json={"not_sent": True})).json()["data"]["state"] == "failed"
        assert (await service.post(path, json={"not_sent": True})).status_code == 409
        assert (await upload(service)).status_code == 200
        assert count_uploads(sandbox) == (1, 1)
