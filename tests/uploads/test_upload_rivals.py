"""Uploads that look alike: evidence decides whose batch it is; the provider's own answer beats every guess."""

import asyncio
import time
from typing import Any

import httpx

from service.sandbox import RunningSandbox
from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import decode, make_payload
from tests.provider import CONTACTS, connect_provider, upload
from tests.uploads.lost_uploads import OTHERS, adopt_wrongly, look_again, lose, make_elsewhere, read, states
from tests.webhooks.ingesting import ingest


async def begin(service: httpx.AsyncClient, sandbox: RunningSandbox, content: str) -> asyncio.Task[httpx.Response]:
    """An upload that the provider has taken, and whose answer is slow."""
    taken = len(sandbox.sandbox.records.batches)
    sandbox.sandbox.faults.next_upload = "hang"
    trying = asyncio.create_task(upload(service, content, force="true"))
    await eventually(lambda: len(sandbox.sandbox.records.batches) != taken)
    return trying


async def test_an_upload_that_made_nothing_does_not_take_the_batch_of_one_that_is_being_sent(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        lost = await lose(service, sandbox, CONTACTS)
        trying = await begin(service, sandbox, OTHERS)
        await look_again(database, sandbox)
        shown = await read(service, lost)
        assert (shown["state"], "is being sent" in str(shown["detail"])) == ("unknown", True)
        sandbox.sandbox.faults.release()
        assert (await trying).json()["data"]["id"] == 456
        await look_again(database, sandbox)
        assert await states(service) == {lost: ("unknown", None), lost + 1: ("uploaded", 456)}


async def test_people_who_are_called_decide_whose_batch_it_is(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, start=time.time(), OUTCOMES_REF_COLUMN="") as (service, sandbox):
        made_nothing = await lose(service, sandbox, CONTACTS)
        owner = await lose(service, sandbox, OTHERS, is_taken=True)
        await look_again(database, sandbox)
        assert set((await states(service)).values()) == {("unknown", None)}
        assert "no calls tell them apart" in str((await read(service, owner))["detail"])
        await sandbox.sandbox.advance(3600)
        await look_again(database, sandbox)
        await look_again(database, sandbox)
        assert await states(service) == {made_nothing: ("unknown", None), owner: ("uploaded", 456)}


async def test_a_webhook_with_a_reference_decides_whose_batch_it_is(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        made_nothing = await lose(service, sandbox, CONTACTS)
        owner = await lose(service, sandbox, CONTACTS, is_taken=True)  # the very same people
        await look_again(database, sandbox)
        assert set((await states(service)).values()) == {("unknown", None)}
        await sandbox.sandbox.advance(3600)
        await look_again(database, sandbox)
        await look_again(database, sandbox)
        assert await states(service) == {made_nothing: ("unknown", None), owner: ("uploaded", 456)}


async def test_two_batches_of_two_uploads_are_distinguished_by_who_was_called_before_the_second_was_made(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time(), OUTCOMES_REF_COLUMN="") as (service, sandbox):
        first = await lose(service, sandbox, CONTACTS, is_taken=True)
        await database.pool.execute("UPDATE batches SET batch_id = NULL, upload_state = 'unknown', known_by = NULL")
        await sandbox.sandbox.advance(3600)
        second = await lose(service, sandbox, OTHERS, is_taken=True)
        await database.pool.execute("UPDATE batches SET batch_id = NULL, upload_state = 'unknown', known_by = NULL")
        for _ in range(3):
            await look_again(database, sandbox)
        assert await states(service) == {first: ("uploaded", 456), second: ("uploaded", 457)}


async def test_a_batch_of_strangers_is_not_adopted_while_none_of_its_own_people_is_called(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time(), OUTCOMES_REF_COLUMN="") as (service, sandbox):
        lost = await lose(service, sandbox, CONTACTS)
        await make_elsewhere(sandbox, content=OTHERS)
        await sandbox.sandbox.advance(600)
        await database.pool.execute("DELETE FROM unattributed")
        await look_again(database, sandbox)
        shown = await read(service, lost)
        assert (shown["state"], "none of them to its people" in str(shown["detail"])) == ("unknown", True)


async def test_the_providers_own_answer_takes_a_batch_back_from_a_guess_and_says_so(
    start_service: StartService, database: Database
) -> None:
    for known_by, contents in (("lookup", CONTACTS), ("person", CONTACTS.replace("Rahul", "Rohan"))):
        await database.pool.execute(
            "DELETE FROM batches; DELETE FROM audit_log; DELETE FROM outcomes; DELETE FROM facts"
        )
        async with connect_provider(start_service, start=time.time()) as (service, sandbox):
            lost = await lose(service, sandbox, contents, is_taken=False)
            trying = await begin(service, sandbox, OTHERS)
            assert await adopt_wrongly(database, known_by) == lost
            token = await database.pool.fetchval("SELECT ref_token FROM batches WHERE batch_key = $1", lost)
            await ingest(database, *decode(make_payload(ref_token=token, event_id=f"called-{known_by}")))
            before = (await service.get("/v1/feed")).json()["data"]
            assert before[-1]["batch_id"] == 456
            sandbox.sandbox.faults.release()
            answer = await trying
            assert (answer.status_code, answer.json()["data"]["id"]) == (200, 456)
            assert await states(service) == {lost: ("unknown", None), lost + 1: ("uploaded", 456)}
            assert f"is upload {lost + 1}" in str((await read(service, lost))["detail"])
            assert (await service.get("/v1/feed", params={"after": before[-1]["position"]})).json()["data"][0][
                "batch_id"
            ] is None
            alarms = (await service.get("/v1/alarms")).json()["data"]
            assert [alarm["name"] for alarm in alarms if alarm["name"] == "uploads_unknown"] == ["uploads_unknown"]
            lines = (await service.get("/v1/audit")).json()["data"]
            audited = {(line["subject"], line["outcome"]) for line in lines}
            assert {(f"upload {lost + 1}", "uploaded"), (f"upload {lost}", "unknown")} <= audited
            await database.pool.execute("UPDATE batches SET next_lookup_at = now() + interval '1 hour'")


async def test_a_guess_takes_no_batch_from_anything_that_is_known_better(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        lost = await lose(service, sandbox, CONTACTS)
        assert (await upload(service, OTHERS, force="true")).json()["data"]["id"] == 456
        answer = await service.post(f"/v1/uploads/{lost}/resolve", json={"batch_id": 456})
        assert (answer.status_code, "known already" in answer.json()["error"]["message"]) == (409, True)
        assert await states(service) == {lost: ("unknown", None), lost + 1: ("uploaded", 456)}


async def test_a_person_corrects_what_a_lookup_guessed(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        first = await lose(service, sandbox, CONTACTS)
        second = await lose(service, sandbox, OTHERS, is_taken=True)
        await adopt_wrongly(database, "lookup")
        answer = await service.post(f"/v1/uploads/{second}/resolve", json={"batch_id": 456})
        assert (answer.status_code, answer.json()["data"]["batch_id"]) == (200, 456)
        assert await states(service) == {first: ("unknown", None), second: ("uploaded", 456)}


async def test_an_answer_that_comes_late_corrects_what_was_decided_of_its_own_upload(
    start_service: StartService, database: Database
) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("declared not sent", {"upload_state": "failed", "known_by": "person", "batch_id": None}),
        ("another batch", {"upload_state": "uploaded", "known_by": "lookup", "batch_id": 999}),
    ]
    for name, values in wrong:
        await database.pool.execute("DELETE FROM batches")
        async with connect_provider(start_service, start=time.time()) as (service, sandbox):
            trying = await begin(service, sandbox, CONTACTS)
            await database.pool.execute(
                "UPDATE batches SET upload_state = $1, known_by = $2, batch_id = $3", *values.values()
            )
            sandbox.sandbox.faults.release()
            answer = await trying
            assert (answer.status_code, answer.json()["data"]["id"]) == (200, 456), name
            assert list((await states(service)).values()) == [("uploaded", 456)], name


async def test_an_answer_to_an_attempt_that_is_over_changes_nothing_of_the_next_one(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        trying = await begin(service, sandbox, CONTACTS)
        # Resolved as not sent and promoted again meanwhile: the same upload is being sent a second time.
        await database.pool.execute("UPDATE batches SET sent_at = sent_at + interval '1 minute'")
        sandbox.sandbox.faults.release()
        answer = await trying
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "upload_unknown")
        assert list((await states(service)).values()) == [("uploading", None)]


async def test_a_batch_that_was_taken_for_one_made_elsewhere_is_given_back_to_its_upload(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        lost = await lose(service, sandbox, CONTACTS)
        await make_elsewhere(sandbox, name="April", content=CONTACTS + "+919812345679,Eve,LN-1,1\n" * 2)
        await database.pool.execute("UPDATE batches SET recipient_count = 2")
        await database.queries.note_batches(
            database.pool, batch_id=[456], agent_id=[123], name=["April"], status=[""], total_recipients=[4],
            created_at=[None],
        )  # fmt: skip
        assert (await service.get("/v1/batch-calls/456")).status_code == 200
        word = {"batch_id": 456, "accept_difference": True}
        answer = await service.post(f"/v1/uploads/{lost}/resolve", json=word)
        assert (answer.status_code, answer.json()["data"]["batch_id"]) == (200, 456), answer.text
        listed = (await service.get("/v1/batch-calls")).json()["data"]
        assert [batch["id"] for batch in listed] == [456]


async def test_a_batch_that_may_be_an_unknown_upload_is_not_taken_for_one_made_elsewhere(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        await lose(service, sandbox, CONTACTS)
        for batch_id, (name, total, is_held_back) in enumerate(
            [
                ("March Follow Ups", 2, True), (" march  FOLLOW ups ", 900, True), ("", 1, True), ("April", 3, True),
                ("April", 2, True), ("April", 4, False),
            ],
            start=456,
        ):  # fmt: skip
            await database.queries.note_batches(
                database.pool, batch_id=[batch_id], agent_id=[123], name=[name], status=[""], total_recipients=[total],
                created_at=[None],
            )  # fmt: skip
            known = await database.pool.fetchval("SELECT count(*) FROM batches WHERE batch_id = $1", batch_id)
            assert (known == 0) == is_held_back, (name, total)


async def test_a_promotion_that_was_displaced_and_has_no_file_any_more_is_not_held_again(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        test = (await upload(service, test_recipients="1")).json()["data"]["id"]
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await service.post(f"/v1/batch-calls/{test}/promote")).status_code == 200
        main = await database.pool.fetchval("SELECT batch_key FROM batches WHERE campaign_role = 'main'")
        await database.pool.execute(
            "UPDATE batches SET upload_state = 'unknown', batch_id = NULL WHERE batch_key = $1", main
        )
        word = {"not_sent": True, "not_these": [457]}
        answer = await service.post(f"/v1/uploads/{main}/resolve", json=word)
        assert (answer.status_code, answer.json()["data"]["state"]) == (200, "failed"), answer.text
