"""The first upload of an agent fixes its columns; later files must have them, or ask to change them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.database import Database
from service.uploads.columns import compare_columns
from tests.conftest import StartService
from tests.provider import CONTACTS, connect_provider, count_uploads, upload

COLUMNS = ["customer_phone", "customer_name", "loan_id", "due_amount"]
RENAMED = CONTACTS.replace("loan_id", "Loan_ID")
WIDER = "customer_phone,customer_name,loan_id,due_amount,city\n+919876543210,Rahul,LN-1,29000,Pune\n"


async def test_a_file_that_differs_is_refused_with_the_difference(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service)).status_code == 200
        for content, expected in (
            (RENAMED, "'Loan_ID': did you mean 'loan_id'?"),
            (WIDER, "'city' is new"),
            ("customer_phone,customer_name,loan_id\n+919876543210,Rahul,LN-1\n", "'due_amount' is missing"),
        ):
            answer = await upload(service, content)
            error = answer.json()["error"]
            assert (answer.status_code, error["type"]) == (400, "invalid_request")
            assert error["message"].startswith("file: ")
            assert expected in error["message"]
            assert "accept_columns=true" in error["message"]
        assert error["details"] == {"columns": {"renamed": {}, "missing": ["due_amount"], "added": []}}
        assert await database.pool.fetchval("SELECT count(*) FROM batches") == 1
        assert count_uploads(sandbox) == (1, 0)


async def test_another_order_or_another_agent_is_no_difference(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service)).status_code == 200
        reordered = "loan_id,due_amount,customer_name,customer_phone\nLN-1,2,Rahul,+919876543210\n"
        assert (await upload(service, reordered)).status_code == 200
        assert (await upload(service, RENAMED, agent_id="124")).status_code == 200


async def test_columns_that_are_accepted_bind_from_then_on_and_the_history_shows_both(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await service.get("/v1/agents/123/columns")).status_code == 404
        assert (await upload(service)).status_code == 200
        assert (await upload(service, WIDER, accept_columns="true")).status_code == 200
        assert (await upload(service, CONTACTS, name="April")).status_code == 400
        shown = (await service.get("/v1/agents/123/columns")).json()["data"]
        assert (shown["agent_id"], shown["version"], shown["columns"]) == (123, 2, [*COLUMNS, "city"])
        assert [(row["version"], row["columns"], row["batch_id"]) for row in shown["history"]] == [
            (2, [*COLUMNS, "city"], 457),
            (1, COLUMNS, 456),
        ]


async def test_an_upload_that_was_never_stored_fixes_nothing(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service, "customer_phone,colour\n12,red\n")).status_code == 400
        assert (await service.get("/v1/agents/123/columns")).status_code == 404


async def test_an_upload_that_the_provider_refused_fixes_nothing(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "400"
        assert (await upload(service, WIDER)).status_code == 400
        assert (await service.get("/v1/agents/123/columns")).status_code == 404
        assert (await upload(service, CONTACTS)).status_code == 200
        sandbox.sandbox.faults.next_upload = "400"
        assert (await upload(service, WIDER, accept_columns="true", name="April")).status_code == 400
        shown = (await service.get("/v1/agents/123/columns")).json()["data"]
        assert (shown["columns"], len(shown["history"])) == (COLUMNS, 1)
        assert (await upload(service, CONTACTS, name="May")).status_code == 200


async def test_columns_bind_while_any_upload_that_used_them_has_not_failed(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service)).status_code == 200
        assert (await upload(service, name="April")).status_code == 200
        await database.pool.execute("UPDATE batches SET upload_state = 'failed' WHERE batch_key = 1")
        assert (await upload(service, WIDER, name="May")).status_code == 400
        await database.pool.execute("UPDATE batches SET upload_state = 'failed' WHERE batch_key = 2")
        assert (await upload(service, WIDER, name="June")).status_code == 200


async def test_two_first_uploads_at_once_agree_on_one_set_of_columns(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        answers = await asyncio.gather(*(upload(service, content) for content in (CONTACTS, RENAMED, WIDER)))
        assert sorted(answer.status_code for answer in answers) == [200, 400, 400]
        assert len((await service.get("/v1/agents/123/columns")).json()["data"]["history"]) == 1


BINDING = ["customer_phone", "customer_name", "loan_id", "due_amount"]


def test_the_same_columns_in_another_order_do_not_differ() -> None:
    assert not compare_columns(BINDING, BINDING[::-1])


@pytest.mark.parametrize("found", ["Loan_ID", "loan id", "LoanId", "loan-id", "loan_ids", "lone_id"])
def test_a_column_under_nearly_its_name_is_recognised(found: str) -> None:
    difference = compare_columns(BINDING, ["customer_phone", "customer_name", found, "due_amount"])
    assert (difference.renamed, difference.missing, difference.added) == ({found: "loan_id"}, [], [])
    assert difference.describe() == f"{found!r}: did you mean 'loan_id'?"


def test_a_missing_and_a_new_column_are_reported() -> None:
    difference = compare_columns(BINDING, ["customer_phone", "customer_name", "loan_id", "city"])
    assert difference.describe() == "'due_amount' is missing; 'city' is new"


def test_two_columns_that_come_near_to_one_are_not_both_taken_for_it() -> None:
    difference = compare_columns(["customer_phone", "loan_id"], ["customer_phone", "Loan_ID", "loan-id"])
    assert (difference.renamed, difference.missing, difference.added) == ({"Loan_ID": "loan_id"}, [], ["loan-id"])


@given(st.lists(st.text(max_size=12), unique=True), st.lists(st.text(max_size=12), unique=True))
def test_every_difference_is_reported_once(binding: list[str], columns: list[str]) -> None:
    difference = compare_columns(binding, columns)
    assert sorted([*difference.renamed.values(), *difference.missing]) == sorted(set(binding) - set(columns))
    assert sorted([*difference.renamed, *difference.added]) == sorted(set(columns) - set(binding))
    assert bool(difference) == (set(binding) != set(columns))
