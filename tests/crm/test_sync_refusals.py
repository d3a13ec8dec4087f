"""What the sync job refuses, as a process: it says why, exits with 2 and acknowledges nothing."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.crm.hubspot_server import LocalHubSpot, problem
from tests.crm.sync_process import FAILURES, Sync, call, get_acknowledged
from tests.factories import phone_of, store_batch
from tests.processes import Finished


@pytest.fixture
async def hubspot() -> AsyncIterator[LocalHubSpot]:
    async with LocalHubSpot().serve() as serving:
        yield serving


@pytest.fixture
async def sync(tmp_path: Path, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str) -> Sync:
    """The job, on a service that has a batch of thirty."""
    await store_batch(database_url, 30)
    return Sync(tmp_path, str(service.base_url), hubspot)


async def set_parameters(database_url: str, parameters: dict[str, Any], batch_id: int = 456) -> None:
    """Gives all recipients of a batch these call parameters."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE recipients SET parameters = $1 WHERE batch_key = (SELECT batch_key FROM batches WHERE batch_id = $2)",
        json.dumps(parameters), batch_id,
    )  # fmt: skip
    await connection.execute("UPDATE batches SET columns = $1 WHERE batch_id = $2", list(parameters), batch_id)
    await connection.close()


def assert_refused(finished: Finished, *parts: str) -> None:
    assert finished.status == 2, finished
    assert "Traceback" not in finished.errors
    assert [part for part in parts if part not in finished.errors] == [], finished.errors


async def get_tag(service: httpx.AsyncClient) -> str | None:
    tag: str | None = (await service.get("/v1/feed/consumers/hubspot")).json()["data"]["tag"]
    return tag


async def test_a_key_that_no_recipient_has_is_refused_with_the_nearest_column(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str
) -> None:
    await call(service, 1, 2)
    await set_parameters(database_url, {"customer_name": "Asha", "loan_id": "LN-1", "due_amount": 5})
    sync.edit('parameter = "loan_id"', 'parameter = "loan"')
    for arguments in (["--once"], ["--dry-run"], []):
        assert_refused(
            await sync.run(*arguments),
            "key.parameter: no recipient has 'loan' (did you mean 'loan_id'?)",
            "columns: customer_name, due_amount, loan_id",
        )
    assert hubspot.objects == {}
    assert await get_acknowledged(service) is None


async def test_a_batch_without_the_key_beside_others_that_have_it_stops_the_job_before_it_acknowledges(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str
) -> None:
    await call(service, 1, 2)
    await store_batch(database_url, 3, batch_id=457, ref_token="cafe0001", first_phone=50)
    await set_parameters(database_url, {"loan": "LN-1", "name": "Asha"}, 457)
    await call(service, 1, 2, 3, ref_token="cafe0001")
    finished = await sync.run("--once")
    assert_refused(finished, "no recipient of batch 457 has 'loan_id' (did you mean 'loan'?); columns: loan, name")
    assert "unsettled" in finished.output
    assert await get_acknowledged(service) is None
    assert hubspot.objects == {}
    accepted = await sync.run("--once", "--accept-unknown")
    assert accepted.status == 0, accepted
    (line,) = (line for line in accepted.output.splitlines() if "without the key" in line)
    assert " 3 " in line
    assert hubspot.objects.keys() == {"ln-1", "ln-2"}


async def test_a_result_that_no_call_has_had_is_refused_unless_it_is_accepted(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1, results={"intent": "pay", "mood": "good"})
    sync.edit('"results.intent"', '"results.intnet"')
    for argument in ("--once", "--dry-run"):
        assert_refused(
            await sync.run(argument),
            "properties.intent: no call has had a result 'intnet' (did you mean 'intent'?); results: intent, mood",
            "--accept-unknown",
        )
    assert (hubspot.objects, await get_acknowledged(service)) == ({}, None)
    assert (await sync.run("--once", "--accept-unknown")).status == 0
    assert "intent" not in hubspot.objects["ln-1"]


async def test_every_unknown_field_is_named_at_once(sync: Sync, service: httpx.AsyncClient) -> None:
    await call(service, 1)
    sync.edit('"results.intent"', '"results.intnet"')
    sync.edit('phone = "phone"', 'phone = "parameters.phone"')
    sync.edit('parameter = "loan_id"', 'parameter = "loanid"')
    assert_refused(await sync.run("--once"), "key.parameter: ", "properties.intent: ", "properties.phone: ")


async def test_fields_are_checked_as_soon_as_there_is_anything_to_compare_with(
    tmp_path: Path, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str
) -> None:
    sync = Sync(tmp_path, str(service.base_url), hubspot)
    sync.edit('"results.intent"', '"results.intnet"')
    assert (await sync.run("--once")).status == 0  # no batch yet, and nothing to send
    async with sync.start() as process:
        await store_batch(database_url, 1)
        await call(service, 1)
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"'intnet'" in errors
    assert (hubspot.objects, await get_acknowledged(service)) == ({}, None)


async def test_a_changed_mapping_asks_what_to_do(sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot) -> None:
    await call(service, 1, 2)
    assert (await sync.run("--once")).status == 0
    end = await get_acknowledged(service)
    sync.edit('attempts = "attempts"', 'attempts = "attempts"\nx = "state"')
    for argument in ("--once", "--dry-run"):
        assert_refused(await sync.run(argument), "The mapping has changed", "--from-start", "--accept")
    assert await get_acknowledged(service) == end
    assert len(hubspot.requests) == 1
    assert (await sync.run("--once", "--from-start")).status == 0
    assert {stored["x"] for stored in hubspot.objects.values()} == {"completed"}
    assert (await sync.run("--once")).status == 0
    assert len(hubspot.requests) == 2


async def test_a_changed_mapping_that_is_accepted_continues_from_there(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1)
    assert (await sync.run("--once")).status == 0
    sync.edit('attempts = "attempts"', 'attempts = "attempts"\nx = "state"')
    assert (await sync.run("--once", "--accept")).status == 0  # and nothing new, so it is kept all the same
    await call(service, 2)
    assert (await sync.run("--once")).status == 0
    assert ["x" in hubspot.objects[key] for key in ("ln-1", "ln-2")] == [False, True]
    refused = await sync.run("--once", "--accept", "--from-start")
    assert refused.status == 2
    assert "give only one" in refused.errors


async def test_a_change_is_not_accepted_before_all_else_is_checked(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1)
    assert (await sync.run("--once")).status == 0
    tag, end = await get_tag(service), await get_acknowledged(service)
    sync.edit('attempts = "attempts"', 'attempts = "attempts"\nnowhere = "state"')
    for argument in ("--accept", "--from-start"):
        assert_refused(await sync.run("--once", argument), "no property 'nowhere'")
    assert (await get_tag(service), await get_acknowledged(service)) == (tag, end)


async def test_a_position_of_an_earlier_version_is_adopted_with_the_mapping(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1)
    end = (await service.get("/v1/feed")).json()["next"]
    await service.put("/v1/feed/consumers/hubspot", json={"position": end})
    assert (await sync.run("--once")).status == 0
    assert (hubspot.objects, await get_acknowledged(service)) == ({}, end)
    assert await get_tag(service)
    sync.edit("[constants]", '[constants]\nx = "y"')
    assert_refused(await sync.run("--once"), "The mapping has changed")


async def test_properties_that_hubspot_lacks_are_named_before_anything_is_sent(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1)
    del hubspot.properties["attempts"], hubspot.properties["channel"]
    for argument in ("--once", "--dry-run"):
        assert_refused(await sync.run(argument), "no property 'attempts'", "no property 'channel'")
    assert hubspot.requests == []
    assert hubspot.paths == ["/crm/v3/properties/contacts"] * 2
    assert await get_acknowledged(service) is None


async def test_a_property_that_is_deleted_midway_stops_it_at_the_last_page_that_was_settled(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, *range(1, 31))
    first = (await service.get("/v1/feed", params={"limit": 10})).json()["next"]

    def delete(content: object) -> None:
        hubspot.properties.pop("attempts", None)

    hubspot.edit = delete
    finished = await sync.run("--once", "--page", "10")
    assert_refused(finished, "no property 'attempts' (any more)")
    assert await get_acknowledged(service) == first
    assert len(hubspot.requests) == 2
    assert not (sync.folder / FAILURES).exists()
    hubspot.properties["attempts"] = {"name": "attempts"}
    hubspot.edit = lambda content: None
    assert (await sync.run("--once")).status == 0
    assert len(hubspot.objects) == 30


async def test_a_hubspot_that_is_being_moved_puts_no_record_into_the_failures_file(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1, 2)
    hubspot.faults.append(lambda: problem(477, "Migration in progress", headers={"Retry-After": "86400"}))
    finished = await sync.run("--once")
    assert_refused(finished, "answered 477: Migration in progress", "asks to wait for 86400 s")
    assert await get_acknowledged(service) is None
    hubspot.faults.append(lambda: problem(477, "Migration in progress", headers={"Retry-After": "0.01"}))
    assert (await sync.run("--once")).status == 0
    assert not (sync.folder / FAILURES).exists()
    assert hubspot.objects.keys() == {"ln-1", "ln-2"}


async def test_a_row_of_refusals_stops_it_before_they_are_acknowledged_and_says_what_was_sent(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, *range(1, 16))
    await call(service, *range(16, 31), status="busy")
    hubspot.options["outcome"] = {"CONNECTED"}
    finished = await sync.run("--once")
    assert_refused(finished, "refused 10 records in a row for one reason", "busy was not one of the allowed options")
    assert await get_acknowledged(service) is None
    assert not (sync.folder / FAILURES).exists()
    rows = {line.split()[1]: line for line in finished.output.splitlines() if line.startswith("│")}
    assert [rows[name].split()[3] for name in ("read", "sent", "failed", "unsettled")] == ["30", "15", "0", "15"]
    finished = await sync.run("--once", "--give-up-after", "0")
    assert finished.status == 1
    assert (
        "15 × VALIDATION_ERROR: Property values were not valid: busy was not one of the allowed options of outcome"
        in (finished.output)
    )
    assert "(recipient 456-16, 456-17, 456-18, …)" in finished.output
    assert len(sync.read_failures()) == 15


async def test_printed_reasons_name_no_person(sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot) -> None:
    await call(service, *range(1, 10))
    hubspot.faults += [
        lambda n=n: problem(400, f"{phone_of(n)} of LN-{n} is nobody")  # type: ignore[misc]
        for n in range(1, 10)
    ]
    finished = await sync.run("--once", "--page", "1")
    assert finished.status == 1
    assert "9 × 400: … of … is nobody (recipient 456-1, 456-2, 456-3, …)" in finished.output
    for number in range(1, 10):
        assert phone_of(number) not in finished.output + finished.errors
    assert phone_of(1) in sync.read_failures()[0]["reason"]  # the file is for its owner alone


async def test_what_an_answer_does_not_confirm_is_not_counted_as_sent(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1, 2, 3)

    def forget(content: dict[str, Any]) -> None:
        content["results"] = [each for each in content["results"] if each["properties"]["loan_id"] != "LN-2"]

    hubspot.edit = forget
    finished = await sync.run("--once")
    assert finished.status == 1
    assert "1 × the CRM's answer does not confirm this record (recipient 456-2)" in finished.output
    assert [line["key"] for line in sync.read_failures()] == ["LN-2"]
