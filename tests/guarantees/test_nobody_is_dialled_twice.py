"""An upload whose answer was lost is looked up, is unknown until it is found, and is never resent automatically."""

import asyncio
import time
from collections import Counter

import pytest

from service.app import prepare_schema
from service.sandbox.faults import UploadFault
from tests.conftest import StartService, create_database
from tests.eventually import eventually
from tests.postgres import PostgresServer
from tests.provider import CONTACTS, connect_provider, count_uploads, upload

DIALLED: tuple[UploadFault, ...] = ("lost_answer", "accepted_500")
NOT_DIALLED: tuple[UploadFault, ...] = ("refused_after_body", "500")


@pytest.mark.parametrize("fault", DIALLED)
async def test_an_upload_whose_answer_was_lost_is_found_in_the_providers_list(
    start_service: StartService, fault: UploadFault
) -> None:
    async with connect_provider(start_service, plays=True, start=time.time()) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = fault
        answer = await upload(service)
        assert (answer.status_code, answer.json()["data"]["id"]) == (200, 456)
        await sandbox.sandbox.wait_until_done(456)
        dialled = Counter(
            (recipient["phone"], attempt["number"])
            for recipient in sandbox.sandbox.recipients(456)
            for attempt in recipient["attempts"]
        )
        assert set(dialled.values()) == {1}
        assert (await upload(service)).status_code == 409
        assert list(sandbox.sandbox.records.batches) == [456]


@pytest.mark.parametrize("fault", NOT_DIALLED)
async def test_an_upload_that_is_not_found_stays_unknown_and_is_not_repeated(
    start_service: StartService, fault: UploadFault
) -> None:
    async with connect_provider(start_service, plays=True, start=time.time()) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = fault
        answer = await upload(service)
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "upload_unknown")
        assert (await upload(service)).status_code == 409
        async with start_service(FORMANT_BASE_URL=sandbox.base_url, FORMANT_API_KEY="sandbox-key") as restarted:
            uploads = (await restarted.get("/v1/uploads", params={"state": "unknown"})).json()["data"]
            assert [upload["recipients"] for upload in uploads] == [2]
        assert count_uploads(sandbox) == (0, 1)


async def test_an_answer_that_arrives_while_the_database_is_away_is_recorded_once_it_is_back(
    start_service: StartService, own_postgres: PostgresServer
) -> None:
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    async with connect_provider(start_service, OUTCOMES_DATABASE_URL=url) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "hang"
        upload = asyncio.create_task(
            service.post(
                "/v1/batch-call",
                data={"agent_id": "123", "name": "March Follow Ups"},
                files={"file": ("contacts.csv", CONTACTS, "text/csv")},
            )
        )
        await eventually(lambda: sandbox.sandbox.records.batches)  # until the provider has accepted it
        await asyncio.to_thread(own_postgres.stop)
        assert (await service.get("/v1/uploads")).status_code == 503
        sandbox.sandbox.faults.release()
        await asyncio.to_thread(own_postgres.start)
        answer = await upload
        assert answer.status_code == 200
        listed = (await service.get("/v1/uploads")).json()["data"]
        assert [(row["state"], row["batch_id"]) for row in listed] == [("uploaded", answer.json()["data"]["id"])]
        assert len(sandbox.sandbox.records.batches) == 1
