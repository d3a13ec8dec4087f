"""Unknown uploads: adopted when one batch of the provider fits, else left to a person, whose word is checked."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.store.database import Database
from tests.conftest import StartService
from tests.factories import decode, make_payload
from tests.provider import CONTACTS, connect_provider, count_uploads, upload
from tests.uploads.lost_uploads import look_again, lose, make_elsewhere, read, shift
from tests.webhooks.ingesting import ingest


async def test_a_word_on_an_upload_that_is_no_word_but_a_file_is_cut_off(service: httpx.AsyncClient) -> None:
    for size, status in ((2**14, 400), (2**14 + 1, 413), (2**24, 413)):
        answer = await service.post("/v1/uploads/1/resolve", content=b" " * size)
        assert answer.status_code == status, size


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
        for word, status, expected in (
            ({}, 400, "batch_id"),
            ({"batch_id": 1, "not_sent": True}, 400, "batch_id"),
            ({"batch": 1}, 400, "batch_id"),
            ({"not_sent": True, "accept_difference": True}, 400, "accept_difference: "),
            ({"batch_id": other, "not_these": [1]}, 400, "not_these: "),
            ({"batch_id": other, "accept_unreadable": True}, 400, "accept_unreadable: "),
            ({"not_sent": True, "not_these": ["x"]}, 400, "not_these"),
            ({"not_sent": True, "not_these": list(range(1001))}, 400, "not_these"),
            ({"batch_id": 999}, 404, "no such batch"),
            ({"batch_id": other}, 400, "3 recipients"),
        ):
            answer = await service.post(path, json=word)
            assert (answer.status_code, expected in answer.json()["error"]["message"]) == (status, True), word
        await make_elsewhere(sandbox)
        answer = await service.post(path, json={"not_sent": True})
        assert (answer.status_code, "457" in answer.json()["error"]["message"]) == (409, True)
        assert (await service.post("/v1/uploads/999/resolve", json={"not_sent": True})).status_code == 404
        assert (await read(service, upload_id))["state"] == "unknown"


ODD: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "one recipient fewer": lambda batch: batch | {"total_recipients": batch["total_recipients"] - 1},
    "all recipients but one dropped": lambda batch: batch | {"total_recipients": 1},
    "one recipient more": lambda batch: batch | {"total_recipients": batch["total_recipients"] + 1},
    "a name in capitals": lambda batch: batch | {"name": batch["name"].upper()},
    "a name with other blanks": lambda batch: batch | {"name": f" {batch['name'].replace(' ', '  ')}\t"},
    "another name": lambda batch: batch | {"name": "Untitled batch", "total_recipients": 2000},
    "no name": lambda batch: batch | {"name": ""},
    "no count": lambda batch: batch | {"total_recipients": 0},
    "a time in another zone": lambda batch: batch | {"created_at": shift(batch["created_at"], hours=-11)},
    "no time": lambda batch: batch | {"created_at": None},
    "no time, another name and size": lambda batch: (
        batch | {"created_at": None, "name": "April", "total_recipients": 2000}
    ),
    "its name alone": lambda batch: (
        batch
        | {"total_recipients": 7000, "name": "march follow ups", "created_at": shift(batch["created_at"], hours=-999)}
    ),
}


@pytest.mark.parametrize("odd", ODD)
async def test_what_could_be_an_upload_is_shown_and_not_adopted_and_speaks_against_not_sent(
    start_service: StartService, database: Database, odd: str
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        sandbox.sandbox.records.reshape = ODD[odd]
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await upload(service)).status_code == 504
        await look_again(database, sandbox)
        assert (await read(service, 1))["state"] == "unknown"
        refused = await service.post("/v1/uploads/1/resolve", json={"not_sent": True})
        error = refused.json()["error"]
        assert (refused.status_code, error["details"]["not_these"]) == (409, [456])
        assert error["details"]["candidates"][0]["batch_id"] == 456
        for part in ("456 (", "recipients, made ", '"not_these": [456]'):
            assert part in error["message"]
        word = {"batch_id": 456, "accept_difference": True}
        resolved = await service.post("/v1/uploads/1/resolve", json=word)
        assert (resolved.status_code, resolved.json()["data"]["batch_id"]) == (200, 456), resolved.text
        assert count_uploads(sandbox) == (1, 0)


async def test_a_near_fit_is_shown_in_detail(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        sandbox.sandbox.records.reshape = ODD["one recipient fewer"]
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await upload(service)).status_code == 504
        detail = str((await read(service, 1))["detail"])
        assert "the provider's list holds 456: a person must decide" in detail
        assert "(456 (“March Follow Ups”, 1 recipients, made " in detail


async def test_a_count_that_differs_is_refused_with_both_counts_unless_it_is_accepted(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        sandbox.sandbox.records.reshape = ODD["one recipient fewer"]
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await upload(service)).status_code == 504
        refused = await service.post("/v1/uploads/1/resolve", json={"batch_id": 456})
        message = refused.json()["error"]["message"]
        assert (refused.status_code, "has 1 recipients, the upload 2" in message) == (400, True)
        assert '"accept_difference": true' in message
        word = {"batch_id": 456, "accept_difference": True}
        assert (await service.post("/v1/uploads/1/resolve", json=word)).status_code == 200
        (line, *_) = (await service.get("/v1/audit")).json()["data"]
        assert (line["action"], line["subject"], line["outcome"]) == ("resolution", "upload 1", "uploaded")
        assert line["details"] == {
            "batch_id": 456, "known_by": "person", "recipients": 2, "provider_recipients": 1,
        }  # fmt: skip


async def test_not_sent_is_accepted_from_a_person_who_names_all_that_could_be_it(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        for name in ("April", "May"):
            await make_elsewhere(sandbox, name=name)
        path = f"/v1/uploads/{upload_id}/resolve"
        for denied in ([], [456], [457], [1, 2]):
            answer = await service.post(path, json={"not_sent": True, "not_these": denied})
            assert (answer.status_code, answer.json()["error"]["details"]["not_these"]) == (409, [456, 457]), denied
        answer = await service.post(path, json={"not_sent": True, "not_these": [457, 456, 7]})
        assert (answer.status_code, answer.json()["data"]["state"]) == (200, "failed")
        (line, *_) = (await service.get("/v1/audit")).json()["data"]
        assert (line["action"], line["outcome"], line["details"]) == (
            "resolution", "failed", {"not_these": [7, 456, 457]},
        )  # fmt: skip


async def test_batches_that_are_surely_another_uploads_do_not_speak_against_not_sent(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        assert (await upload(service, force="true")).json()["data"]["id"] == 456
        answer = await service.post(f"/v1/uploads/{upload_id}/resolve", json={"not_sent": True})
        assert (answer.status_code, answer.json()["data"]["state"]) == (200, "failed")


async def test_a_batch_that_another_upload_was_only_guessed_to_be_speaks_against_not_sent(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        assert (await upload(service, force="true")).json()["data"]["id"] == 456
        for known_by, lookups, status in (("lookup", 1, 409), ("person", 1, 409), (None, 1, 409), (None, 0, 200)):
            await database.pool.execute(
                "UPDATE batches SET known_by = $1, lookups = $2 WHERE batch_id = 456", known_by, lookups
            )
            answer = await service.post(f"/v1/uploads/{upload_id}/resolve", json={"not_sent": True})
            assert answer.status_code == status, known_by


async def test_people_who_were_called_since_speak_against_not_sent(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time(), OUTCOMES_REF_COLUMN="") as (service, sandbox):
        upload_id = await lose(service, sandbox)
        await make_elsewhere(sandbox)
        await sandbox.sandbox.advance(600)
        sandbox.sandbox.records.batches.clear()  # a list that does not show it
        await database.pool.execute("DELETE FROM facts")
        path = f"/v1/uploads/{upload_id}/resolve"
        answer = await service.post(path, json={"not_sent": True})
        assert (answer.status_code, "have been called since" in answer.json()["error"]["message"]) == (409, True)
        answer = await service.post(path, json={"not_sent": True, "not_these": []})
        assert answer.status_code == 200


async def test_without_a_key_for_the_provider_nobody_can_say_that_it_was_not_sent(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        async with start_service() as keyless:
            for word in ({"not_sent": True}, {"batch_id": 456}):
                answer = await keyless.post(f"/v1/uploads/{upload_id}/resolve", json=word)
                assert (answer.status_code, "FORMANT_API_KEY" in answer.json()["error"]["message"]) == (409, True)
        assert (await read(service, upload_id))["state"] == "unknown"


async def test_an_upload_whose_webhooks_came_in_cannot_be_declared_not_sent(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        token = await database.pool.fetchval("SELECT ref_token FROM batches")
        await ingest(database, *decode(make_payload(ref_token=token)))
        word = {"not_sent": True, "not_these": []}
        answer = await service.post(f"/v1/uploads/{upload_id}/resolve", json=word)
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
