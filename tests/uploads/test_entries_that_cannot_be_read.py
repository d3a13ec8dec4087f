"""An entry of the provider's list that cannot be read could be an unknown upload, unless it says that it is not."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from service.sandbox import RunningSandbox
from service.store.database import Database
from tests.conftest import StartService
from tests.factories import decode, make_payload
from tests.provider import CONTACTS, connect_provider, count_uploads, upload
from tests.uploads.lost_uploads import OTHERS, look_again, lose, make_elsewhere, read, shift
from tests.webhooks.ingesting import ingest

Reshape = Callable[[dict[str, Any]], Any]

UNREADABLE: dict[str, Reshape] = {
    "nothing": lambda batch: None,
    "a text": lambda batch: "batch",
    "no id": lambda batch: batch | {"id": None},
    "an id that is none": lambda batch: batch | {"id": "b-1"},
    "no id and no agent": lambda batch: batch | {"id": None, "agent_id": None},
    "no id and another name": lambda batch: batch | {"id": None, "name": "April"},
    "no id and no time": lambda batch: {"name": "April", "total_recipients": 900},
    "no id and its name alone": lambda batch: {"name": "march follow ups", "created_at": "2001-01-01T00:00:00Z"},
}
OTHER: dict[str, Reshape] = {
    "another agent": lambda batch: {"agent_id": 124},
    "made before, under another name": lambda batch: (
        batch | {"id": None, "name": "April", "created_at": shift(batch["created_at"], hours=-48)}
    ),
}


def reshape(sandbox: RunningSandbox, batch_id: int, odd: Reshape) -> None:
    """From now on the provider shows a batch like this."""
    sandbox.sandbox.records.reshape = lambda batch: odd(batch) if batch["id"] == batch_id else batch


async def resolve(service: httpx.AsyncClient, **word: Any) -> httpx.Response:
    return await service.post("/v1/uploads/1/resolve", json=word)


@pytest.mark.parametrize("odd", UNREADABLE)
async def test_not_sent_is_refused_while_such_an_entry_could_be_the_upload(
    start_service: StartService, database: Database, odd: str
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        reshape(sandbox, 456, UNREADABLE[odd])
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await upload(service)).status_code == 504
        assert count_uploads(sandbox) == (1, 0)
        shown = await read(service, 1)
        assert shown["state"] == "unknown"
        assert "1 entry of the provider's list cannot be read and could be it" in str(shown["detail"])
        for word in ({"not_sent": True}, {"not_sent": True, "not_these": [456]}):
            refused = await resolve(service, **word)
            error = refused.json()["error"]
            assert (refused.status_code, error["details"]["unreadable_entries"]) == (409, 1)
            assert "1 entry of the provider's list cannot be read and could be it" in error["message"]
            assert "look in the provider's dashboard" in error["message"]
            assert '{"not_sent": true, "accept_unreadable": true}' in error["message"]
        assert (await read(service, 1))["state"] == "unknown"
        reshape(sandbox, 456, lambda batch: batch)
        found = await resolve(service, batch_id=456)
        assert (found.status_code, found.json()["data"]["batch_id"]) == (200, 456)


async def test_a_person_who_has_looked_says_so_and_it_is_in_the_audit_log(start_service: StartService) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        await lose(service, sandbox)
        sandbox.sandbox.faults.odd_entries = True
        error = (await resolve(service, not_sent=True)).json()["error"]
        assert (error["details"]["not_these"], error["details"]["unreadable_entries"]) == ([900001, 900002], 8)
        assert "8 entries of the provider's list cannot be read" in error["message"]
        assert '"not_these": [900001, 900002], "accept_unreadable": true}' in error["message"]
        for word in ({"not_these": [900001, 900002]}, {"accept_unreadable": True}):
            assert (await resolve(service, not_sent=True, **word)).status_code == 409, word
        answer = await resolve(service, not_sent=True, not_these=[900001, 900002], accept_unreadable=True)
        assert (answer.status_code, answer.json()["data"]["state"]) == (200, "failed")
        (line, *_) = (await service.get("/v1/audit")).json()["data"]
        assert line["details"] == {"not_these": [900001, 900002], "unreadable_entries": 8}


@pytest.mark.parametrize("odd", OTHER)
async def test_an_entry_that_says_enough_to_be_another_speaks_against_nothing(
    start_service: StartService, database: Database, odd: str
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        reshape(sandbox, await make_elsewhere(sandbox), OTHER[odd])
        await lose(service, sandbox)
        await look_again(database, sandbox)
        assert "cannot be read" not in str((await read(service, 1))["detail"])
        assert (await resolve(service, not_sent=True)).status_code == 200


async def test_an_upload_is_not_recovered_by_a_list_with_such_an_entry_until_its_calls_prove_it(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        reshape(sandbox, await make_elsewhere(sandbox, "April"), UNREADABLE["nothing"])
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await upload(service)).status_code == 504
        await look_again(database, sandbox)
        shown = await read(service, 1)
        assert (shown["state"], shown["batch_id"]) == ("unknown", None)
        assert "1 entry of the provider's list cannot be read" in str(shown["detail"])
        assert "the provider's list holds 457: a person must decide" in str(shown["detail"])

        token = await database.pool.fetchval("SELECT ref_token FROM batches WHERE ref_token IS NOT NULL")
        await ingest(database, *decode(make_payload(ref_token=token, began=datetime.now(UTC))))
        await look_again(database, sandbox)
        assert (await read(service, 1))["batch_id"] == 457


async def test_recovery_goes_on_with_an_odd_list_and_adopts_once_the_list_can_be_read(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        sandbox.sandbox.faults.odd_entries = True
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await upload(service)).status_code == 504
        other = await lose(service, sandbox, name="May")
        await look_again(database, sandbox)
        for upload_id in (1, other):
            shown = await read(service, upload_id)
            assert shown["state"] == "unknown"
            assert "8 entries of the provider's list cannot be read and could be it" in str(shown["detail"])
        sandbox.sandbox.faults.odd_entries = False
        await look_again(database, sandbox)
        assert [(await read(service, key))["batch_id"] for key in (1, other)] == [456, None]


async def test_phones_of_calls_prove_it_too(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, start=time.time(), OUTCOMES_REF_COLUMN="") as (service, sandbox):
        reshape(sandbox, await make_elsewhere(sandbox, "April", OTHERS), UNREADABLE["nothing"])
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await upload(service)).status_code == 504
        assert (await read(service, 1))["batch_id"] is None
        await sandbox.sandbox.advance(3600)
        await look_again(database, sandbox)
        assert (await read(service, 1))["batch_id"] == 457


async def test_calls_do_not_decide_which_of_two_batches_of_its_name_it_is(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        reshape(sandbox, 456, UNREADABLE["no id"])
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await upload(service)).status_code == 504
        await make_elsewhere(sandbox)  # the same file again, by hand
        await sandbox.sandbox.advance(3600)
        await look_again(database, sandbox)
        shown = await read(service, 1)
        assert (shown["state"], "its webhooks come in" in str(shown["detail"])) == ("unknown", True)
        found = await resolve(service, batch_id=456)
        assert (found.status_code, found.json()["data"]["batch_id"]) == (200, 456)


async def test_calls_of_one_upload_do_not_give_it_the_batch_of_another_while_its_own_cannot_be_read(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        for content in (CONTACTS, OTHERS):
            reshape(sandbox, 456, UNREADABLE["nothing"])
            sandbox.sandbox.faults.next_upload = "lost_answer"
            assert (await upload(service, content, force="true")).status_code == 504
        token = await database.pool.fetchval("SELECT ref_token FROM batches WHERE batch_key = 1")
        await ingest(database, *decode(make_payload(ref_token=token, began=datetime.now(UTC))))
        for _ in range(2):
            await look_again(database, sandbox)
        assert [(await read(service, key))["batch_id"] for key in (1, 2)] == [None, None]
