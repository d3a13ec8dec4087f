"""The same upload requested again: one batch, for any caller, any number of requests, at any time."""

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from service.sandbox import RunningSandbox
from service.store.database import Database
from service.uploads.storing import UploadRequest
from tests.conftest import StartService
from tests.eventually import eventually
from tests.provider import CONTACTS, connect_provider, count_uploads, upload

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
        await eventually(lambda: sandbox.sandbox.records.batches)
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


async def test_the_same_key_after_a_lost_answer_gets_the_same_answer_and_sends_nothing(
    start_service: StartService,
) -> None:
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


async def test_a_file_with_its_rows_and_columns_in_another_order_is_the_same_file(start_service: StartService) -> None:
    header, *rows = [line.split(",") for line in CONTACTS.splitlines()]
    again = "".join(f"{','.join(reversed(row))}\n" for row in (header, *reversed(rows)))
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service)).status_code == 200
        assert (await upload(service, again)).status_code == 409
        swapped = "".join(
            f"{','.join(row)}\n" for row in (header, [rows[0][0], *rows[1][1:]], [rows[1][0], *rows[0][1:]])
        )
        assert (await upload(service, swapped)).status_code == 200
        assert (await upload(service, CONTACTS + CONTACTS.splitlines()[1] + "\n", duplicates="all")).status_code == 200
        assert count_uploads(sandbox)[0] == 3


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


async def lose(service: httpx.AsyncClient, sandbox: RunningSandbox, **form: str) -> None:
    """An upload, number 1, whose answer was lost."""
    sandbox.sandbox.faults.next_upload = "refused_after_body"
    assert (await upload(service, **form)).status_code == 504


OTHERS = CONTACTS.replace("9876543210", "9876543211").replace("9812345678", "9812345679")
REVERSED = "\n".join([CONTACTS.split("\n")[0], *reversed(CONTACTS.strip().split("\n")[1:])]) + "\n"
REPEATS: dict[str, dict[str, Any]] = {
    "the same": {},
    "a new key": {"key": "another"},
    "a name with a blank": {"name": "March Follow Ups "},
    "a name in another case": {"name": "MARCH  follow ups", "key": "another"},
    "the same name with other people": {"content": OTHERS, "key": "another"},
    "other line ends": {"content": CONTACTS.replace("\n", "\r\n"), "name": "April"},
    "a byte order mark": {"content": "\ufeff" + CONTACTS, "name": "April"},
    "another delimiter": {"content": CONTACTS.replace(",", ";"), "name": "April"},
    "blank lines": {"content": CONTACTS.replace("\n", "\n\n"), "name": "April", "key": "another"},
    "phones in another spelling": {"content": CONTACTS.replace("+91", "0091 "), "name": "April"},
    "another order": {"content": REVERSED, "name": "April"},
    "other parameters": {"content": OTHER, "name": "April"},
    "a test batch of it": {"name": "April", "test_recipients": "1"},
}


@pytest.mark.parametrize("repeat", REPEATS)
async def test_while_an_upload_is_in_doubt_its_name_and_its_people_are_not_sent_again_unless_it_is_meant(
    start_service: StartService, repeat: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await lose(service, sandbox, key="first")
        answer = await upload(service, **REPEATS[repeat])
        assert answer.status_code == 409, answer.text
        error = answer.json()["error"]
        assert (error["type"], error["details"]["upload_id"]) == ("duplicate_request", 1)
        assert "GET /v1/uploads/1" in error["message"]
        assert "force=true" in error["message"]
        assert count_uploads(sandbox) == (0, 1)
        assert len((await service.get("/v1/uploads")).json()["data"]) == 1
        assert (await upload(service, force="true", **REPEATS[repeat])).status_code == 200


@pytest.mark.parametrize("file", [{"agent_id": "124"}, {"content": OTHERS, "name": "April"}])
async def test_another_agents_upload_and_one_of_another_name_and_people_are_sent_while_one_is_in_doubt(
    start_service: StartService, file: dict[str, Any]
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await lose(service, sandbox)
        assert (await upload(service, **file)).status_code == 200


async def test_a_test_batch_in_doubt_holds_back_the_whole_file(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await lose(service, sandbox, test_recipients="1")
        for name in ("March Follow Ups", "April"):
            assert (await upload(service, name=name, key=name[:5])).status_code == 409


@pytest.mark.parametrize("repeat", ["a new key", "other line ends", "phones in another spelling"])
async def test_a_file_that_is_being_sent_is_not_sent_beside_it(start_service: StartService, repeat: str) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "hang"
        first = asyncio.create_task(upload(service, key="first"))
        await eventually(lambda: sandbox.sandbox.records.batches)
        assert (await upload(service, **REPEATS[repeat])).status_code == 409
        sandbox.sandbox.faults.release()
        assert (await first).status_code == 200
        assert count_uploads(sandbox) == (1, 0)


@pytest.mark.parametrize(
    "content",
    [CONTACTS.replace("\n", "\r\n"), "\ufeff" + CONTACTS, CONTACTS.replace(",", ";"), CONTACTS.replace("+91", "0091 ")],
)
async def test_the_same_rows_are_the_same_file_however_they_are_written(
    start_service: StartService, content: str
) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service)).status_code == 200
        for name in ("March Follow Ups", "march follow ups "):
            answer = await upload(service, content, name=name)
            assert (answer.status_code, answer.json()["error"]["details"]["batch_id"]) == (409, 456)
        assert (await upload(service, content, key="meant")).status_code == 200


async def test_of_two_spellings_of_a_file_at_the_same_instant_one_is_sent(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        spellings = [CONTACTS, CONTACTS.replace("\n", "\r\n"), CONTACTS.replace("+91", "0091 ")] * 3
        answers = await asyncio.gather(*(upload(service, content) for content in spellings))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 8
        assert count_uploads(sandbox) == (1, 0)


def test_a_request_without_later_fields_has_the_digest_that_earlier_versions_stored() -> None:
    request = UploadRequest(agent_id=1, name="March", path=Path("x"), file_digest=b"1")
    stored = (1, "March", b"1".hex(), "reject", False, False, 0, None)
    assert request.digest() == hashlib.sha256(msgspec.json.encode(stored)).digest()
    more: list[dict[str, Any]] = [
        {"region": "IN"}, {"invalid": "skip"}, {"phone_column": "x"}, {"sheet": "x"},
        {"skip_called_within": timedelta(days=7)}, {"skip_called_within": timedelta(days=1)},
    ]  # fmt: skip
    digests = {msgspec.structs.replace(request, **fields).digest() for fields in more}
    assert len(digests | {request.digest()}) == 7
