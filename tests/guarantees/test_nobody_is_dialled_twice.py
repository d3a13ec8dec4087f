"""An upload whose answer was lost is told to be unknown, and is never sent again by itself."""

import asyncio
from collections import Counter

import pytest

from service.app import prepare_schema
from service.sandbox.faults import UploadFault
from tests.conftest import StartService, create_database
from tests.http.provider import CONTACTS, connect_provider
from tests.postgres import PostgresServer

LOST: tuple[UploadFault, ...] = ("lost_answer", "accepted_500", "refused_after_body", "500")


@pytest.mark.parametrize("fault", LOST)
async def test_an_upload_without_an_answer_is_unknown_and_not_repeated(
    start_service: StartService, fault: UploadFault
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = fault
        answer = await service.post(
            "/v1/batch-call",
            data={"agent_id": "123", "name": "March Follow Ups"},
            files={"file": ("contacts.csv", CONTACTS, "text/csv")},
        )
        assert answer.status_code == 504
        assert answer.json()["error"]["type"] == "upload_unknown"
        taken = list(sandbox.sandbox.records.batches)
        for batch_id in taken:
            await sandbox.sandbox.wait_until_done(batch_id)
        assert len(taken) == (1 if fault in {"lost_answer", "accepted_500"} else 0)

        # A restart finds it, and leaves it alone; what was dialled meanwhile is counted by reference.
        async with start_service(FORMANT_BASE_URL=sandbox.base_url, FORMANT_API_KEY="sandbox-key") as restarted:
            uploads = (await restarted.get("/v1/uploads", params={"state": "unknown"})).json()["data"]
            assert [upload["recipients"] for upload in uploads] == [2]
            assert list(sandbox.sandbox.records.batches) == taken
            dialled = Counter(
                (recipient["phone"], attempt["number"])
                for batch_id in taken
                for recipient in sandbox.sandbox.recipients(batch_id)
                for attempt in recipient["attempts"]
            )
            assert set(dialled.values()) <= {1}
            for batch_id in taken:
                for recipient in sandbox.sandbox.recipients(batch_id):
                    event = (await restarted.get(f"/v1/events/{recipient['attempts'][-1]['event_id']}")).json()["data"]
                    assert (event["disposition"], event["method"]) == ("applied", "reference")


async def test_an_answer_that_comes_while_the_database_is_away_is_taken_down_once_it_is_back(
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
        async with asyncio.timeout(20):
            while not sandbox.sandbox.records.batches:  # until the provider has taken it
                await asyncio.sleep(0.01)
        await asyncio.to_thread(own_postgres.stop)
        assert (await service.get("/v1/uploads")).status_code == 503
        sandbox.sandbox.faults.release()
        await asyncio.to_thread(own_postgres.start)
        answer = await upload
        assert answer.status_code == 200
        listed = (await service.get("/v1/uploads")).json()["data"]
        assert [(row["state"], row["batch_id"]) for row in listed] == [("uploaded", answer.json()["data"]["id"])]
        assert len(sandbox.sandbox.records.batches) == 1
