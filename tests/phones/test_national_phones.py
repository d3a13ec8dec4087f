"""The running service reads phones without a country code, by the region that a target names for its agents."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox import RunningSandbox, sample_contacts
from service.sandbox.contacts import Contacts
from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import BATCH_ID, BEGAN, make_payload, phone_of, store_batch
from tests.guarantees.healing import assert_healed, read_outcomes
from tests.guarantees.whole_database import find_everywhere
from tests.processes import OUTCOMES, run
from tests.provider import CONTACTS, connect_provider, upload
from tests.uploads.dashboard import discover, hold_discovery, list_waiting, make_elsewhere, put
from tests.uploads.lost_uploads import OTHERS, lose, states
from tests.uploads.repairing import ask_for_repair, ingest_as_before

TARGETS = """
[targets.india]
secrets = ["india"]
agents = [123]
region = "IN"
"""


class NationalContacts(Contacts):
    """A provider that says phones without the country code, in webhooks and conversations."""

    def read(self, row: int) -> tuple[str, dict[str, str]]:
        phone, parameters = super().read(row)
        assert phone.startswith("+91")
        return f"0{phone[3:8]} {phone[8:]}", parameters


@asynccontextmanager
async def connect(
    start_service: StartService, folder: Path, **fields: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, RunningSandbox]]:
    path = folder / "targets.toml"
    path.write_text(TARGETS)
    settings: dict[str, Any] = {
        "OUTCOMES_TARGETS_FILE": str(path),
        "OUTCOMES_REF_COLUMN": "",
        "OUTCOMES_RECONCILE_SECONDS": "0",
    }
    async with connect_provider(start_service, **settings, **fields) as connected:
        yield connected


def say_nationally(sandbox: RunningSandbox) -> None:
    for batch in sandbox.sandbox.records.batches.values():
        batch.contacts = NationalContacts(batch.contacts.columns, batch.contacts.text, batch.contacts.starts)


async def test_webhooks_and_healing_find_their_recipients_and_an_erasure_the_person(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    async with connect(start_service, tmp_path) as (service, sandbox):
        content = sample_contacts(40, seed=1).replace("\n+91", "\n0")
        answer = await upload(service, content)
        batch_id = answer.json()["data"]["id"]
        say_nationally(sandbox)
        sandbox.sandbox.faults.drop = 0.4
        await sandbox.sandbox.advance(7 * 86_400)
        assert await list_waiting(service) == []
        heard = (await read_outcomes(service, batch_id))["sources"]["webhook"]
        assert 10 < heard < 40
        reconciled = (await service.post(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]
        assert reconciled["verdict"] == "complete"
        assert (await read_outcomes(service, batch_id))["sources"]["healed"] > 5
        await assert_healed(database, sandbox, batch_id)

        said, *_ = sandbox.sandbox.records.batches[batch_id].contacts.read(0)
        digits = said.replace(" ", "")[1:]
        assert {column for _, column, _ in await find_everywhere(database, said)} == {"body"}
        assert await find_everywhere(database, digits) != []
        erased = await service.post("/v1/erasures", json={"phone": said})
        assert (erased.status_code, erased.json()["data"]["recipients"]) == (200, 1), erased.text
        assert await find_everywhere(database, said, digits) == []


async def test_calls_show_whose_batch_it_is(start_service: StartService, database: Database, tmp_path: Path) -> None:
    async with connect(start_service, tmp_path, start=time.time()) as (service, sandbox):
        made_nothing = await lose(service, sandbox, CONTACTS)
        owner = await lose(service, sandbox, OTHERS, is_taken=True)
        assert set((await states(service)).values()) == {("unknown", None)}
        say_nationally(sandbox)
        await sandbox.sandbox.advance(3600)
        await database.pool.execute("UPDATE batches SET next_lookup_at = now() WHERE upload_state = 'unknown'")
        await eventually(lambda: states(service), lambda shown: shown[owner][0] != "unknown")  # by the service itself
        assert await states(service) == {made_nothing: ("unknown", None), owner: ("uploaded", 456)}


async def test_a_csv_that_is_registered_later_may_be_national_too(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    await hold_discovery(database)
    async with connect(start_service, tmp_path) as (service, sandbox):
        content = sample_contacts(10, seed=1)
        await make_elsewhere(sandbox, content)
        say_nationally(sandbox)
        await sandbox.sandbox.advance(7 * 86_400)
        await discover(database, sandbox)
        answer = await put(service, content.replace("\n+91", "\n0"))
        assert (answer.status_code, answer.json()["data"]["matched"]) == (200, 10), answer.text


async def test_what_an_earlier_version_stored_as_it_was_said_is_repaired(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    await store_batch(database.url, 2, ref_token=None)
    said = f"0{phone_of(1).removeprefix('+91')}"
    await ingest_as_before(database, make_payload(recipient=None, phone=said, parameters={}, began=BEGAN))
    await ask_for_repair(database)
    async with connect(start_service, tmp_path) as (service, _):
        await eventually(lambda: read_outcomes(service, BATCH_ID), lambda shown: shown["recipients"]["processed"] == 1)
        assert await list_waiting(service) == []


@pytest.mark.parametrize(
    ("settings", "status"),
    [({}, 0), ({"OUTCOMES_DEFAULT_REGION": "IN"}, 0), ({"OUTCOMES_DEFAULT_REGION": "US"}, 2)],
)
async def test_the_region_of_an_erasure_is_the_default_or_else_the_only_one(
    database: Database, tmp_path: Path, settings: dict[str, str], status: int
) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(TARGETS)
    database_url = {"OUTCOMES_DATABASE_URL": database.url}
    done = await run(OUTCOMES, "erase", "098765 43210", **database_url, OUTCOMES_TARGETS_FILE=str(path), **settings)
    assert done.status == status, done
    if not status:
        international = await run(OUTCOMES, "erase", "--dry-run", "+919876543210", **database_url)
        assert international.status == 0
        assert await database.pool.fetchval("SELECT count(*) FROM erased_phones") == 1
