"""Asking for the same upload twice: one batch, whoever asks, however often, at whatever instant."""

import asyncio

import httpx
import pytest

from service.store.database import Database
from tests.conftest import StartService
from tests.http.provider import CONTACTS, connect_provider, count_uploads, upload

OTHER = CONTACTS.replace("Rahul", "Rohan")


async def test_a_request_with_the_same_key_is_answered_as_the_first_was_and_sends_nothing(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        first = await upload(service, key='"8e03978e-40d5-43dd-bc93-6894a57f9324"')
        for key in ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"):
            again = await upload(service, key=key)
            assert (again.status_code, again.json()) == (200, first.json())
            assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        assert count_uploads(sandbox) == (1, 0)


@pytest.mark.parametrize(
    "change", [{"content": OTHER}, {"name": "April"}, {"agent_id": "124"}, {"duplicates": "all"}, {"force": "true"}]
)
async def test_the_same_key_with_another_request_is_refused(
    start_service: StartService, change: dict[str, str]
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, key="campaign-1")).status_code == 200
        answer = await upload(service, key="campaign-1", **change)
        assert (answer.status_code, answer.json()["error"]["type"]) == (422, "invalid_request")
        assert answer.json()["error"]["message"].startswith("Idempotency-Key: ")
        assert count_uploads(sandbox) == (1, 0)


async def test_two_requests_with_one_key_at_the_same_instant_make_one_batch(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "hang"
        first = asyncio.create_task(upload(service, key="campaign-1"))
        async with asyncio.timeout(20):
            while not sandbox.sandbox.records.batches:
                await asyncio.sleep(0.01)
        meanwhile = await upload(service, key="campaign-1")
        assert (meanwhile.status_code, meanwhile.json()["error"]["type"]) == (409, "duplicate_request")
        assert "retry-after" in meanwhile.headers
        sandbox.sandbox.faults.release()
        assert (await first).status_code == 200
        assert (await upload(service, key="campaign-1")).json() == (await first).json()
        assert count_uploads(sandbox) == (1, 0)


async def test_a_key_is_free_again_once_its_upload_has_failed(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "429"
        assert (await upload(service, key="campaign-1")).status_code == 429
        assert (await upload(service, "customer_phone\n12", key="campaign-1")).status_code == 400
        assert (await upload(service, key="campaign-1")).status_code == 200
        assert count_uploads(sandbox) == (1, 1)


async def test_the_same_key_after_a_lost_answer_is_told_the_same_and_sends_nothing(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "refused_after_body"
        for _ in range(2):
            answer = await upload(service, key="campaign-1")
            assert (answer.status_code, answer.json()["error"]["type"]) == (504, "upload_unknown")
        assert count_uploads(sandbox) == (0, 1)


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, '"unclosed', "caf\u00e9"])
async def test_a_key_that_is_none_is_refused(start_service: StartService, key: str) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await service.post(
            "/v1/batch-call",
            data={"agent_id": "123", "name": "March"},
            files={"file": ("contacts.csv", CONTACTS, "text/csv")},
            headers={b"idempotency-key": key.encode()},
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith("Idempotency-Key: ")
        assert count_uploads(sandbox) == (0, 0)


async def test_a_key_serves_for_another_request_after_a_day(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service, key="campaign-1")).status_code == 200
        await database.pool.execute("UPDATE batches SET prepared_at = prepared_at - interval '25 hours'")
        answer = await upload(service, OTHER, key="campaign-1")
        assert (answer.status_code, answer.json()["data"]["id"]) == (200, 457)


async def test_without_a_key_the_same_agent_name_and_file_are_refused_and_the_earlier_batch_named(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service)).status_code == 200
        answer = await upload(service)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (409, "duplicate_request")
        assert "batch 456" in error["message"]
        assert "force=true" in error["message"]
        assert error["details"] == {"upload_id": 1, "state": "uploaded", "batch_id": 456}
        assert (await upload(service, OTHER)).status_code == 200
        assert (await upload(service, name="April")).status_code == 200
        assert (await upload(service, agent_id="124")).status_code == 200
        assert (await upload(service, force="true")).status_code == 200
        assert count_uploads(sandbox)[0] == 5


async def test_the_same_file_may_be_uploaded_again_after_a_day_or_a_failure(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "400"
        assert (await upload(service)).status_code == 400
        assert (await upload(service)).status_code == 200
        assert (await upload(service)).status_code == 409
        await database.pool.execute("UPDATE batches SET prepared_at = prepared_at - interval '25 hours'")
        assert (await upload(service)).status_code == 200


async def test_of_two_callers_with_the_same_file_at_the_same_instant_one_wins(start_service: StartService) -> None:
    async with (
        connect_provider(start_service) as (service, sandbox),
        start_service(FORMANT_BASE_URL=sandbox.base_url, FORMANT_API_KEY="sandbox-key") as replica,
    ):
        callers: list[httpx.AsyncClient] = [service, replica] * 5
        answers = await asyncio.gather(*(upload(caller) for caller in callers))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
        assert count_uploads(sandbox) == (1, 0)
