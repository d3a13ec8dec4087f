"""A slip in the name of a field that guards against calls must not call people."""

import httpx
import pytest

from service.spelling import MEANT, find_near, reduce, split_words
from service.store.database import Database
from tests.conftest import StartService
from tests.provider import CONTACTS, connect_provider, count_uploads, upload

SLIPS = {
    "dryrun": "dry_run", "dry-run": "dry_run", "dryRun": "dry_run", "DRY_RUN": "dry_run", "Dry Run": "dry_run",
    "dry_run ": "dry_run", "dryrn": "dry_run", "dry": "dry_run", "is_dry_run": "dry_run", "dry_run_only": "dry_run",
    "isDryRun": "dry_run", "simulate": "dry_run", "validate_only": "dry_run", "previewOnly": "dry_run",
    "ｄｒｙ＿ｒｕｎ": "dry_run", "verify_only": "dry_run", "draft": "dry_run", "tests": "test_recipients",
    "max_recipients": "test_recipients", "skip_recent": "skip_called_within",
    "test_recipient": "test_recipients", "testRecipients": "test_recipients", "test-recipients": "test_recipients",
    "test": "test_recipients", "test_mode": "test_recipients", "sample_size": "test_recipients",
    "testrecipents": "test_recipients", "duplicate": "duplicates", "dedupe": "duplicates", "dupplicates": "duplicates",
    "promote_at": "promote_at_success_rate", "promoteAtSuccessRate": "promote_at_success_rate", "country": "region",
    "regions": "region", "region_code": "region", "Invalid": "invalid", "on_errors": "invalid", "accept_column":
    "accept_columns", "forced": "force", "idempotency_key": "Idempotency-Key", "idempotencyKey": "Idempotency-Key",
}  # fmt: skip
NOBODYS = {
    "campaign": "spring", "note": "first", "source": "crm", "owner": "sales", "metadata": "{}", "webhook_url": "x",
    "tenant": "7", "priority": "high", "language": "hi", "user_id": "5", "file_name": "a.csv", "agent_name": "Asha",
}  # fmt: skip


async def test_a_near_miss_of_a_field_is_refused_in_the_form_and_in_the_query_and_calls_nobody(
    start_service: StartService, database: Database, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for slip, meant in SLIPS.items():
            with subtests.test(slip):
                in_form = await upload(service, **{slip: "true"})
                in_query = await send(service, params={slip: "true"})
                for answer in (in_form, in_query):
                    message = answer.json()["error"]["message"]
                    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
                    assert message.startswith(f"{slip}: is not a field of this call; did you mean ")
                    assert meant in message
        assert count_uploads(sandbox) == (0, 0)
        assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0


async def test_an_empty_field_or_one_that_is_a_file_is_refused_and_calls_nobody(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    optional = ["dry_run", "duplicates", "accept_columns", "force", "test_recipients", "promote_at_success_rate",
                "region", "invalid"]  # fmt: skip
    async with connect_provider(start_service) as (service, sandbox):
        for field in optional:
            with subtests.test(field):
                for answer in (
                    await upload(service, **{field: ""}),
                    await upload(service, **{field: "  "}),
                    await send(service, params={field: ""}),
                ):
                    assert answer.status_code == 400
                    assert answer.json()["error"]["message"].startswith(f"{field}: is empty; it takes ")
                attached = {field: ("x.txt", b"true", "text/plain"), "file": ("contacts.csv", CONTACTS, "text/csv")}
                assert (await send(service, files=attached)).status_code == 400
        assert count_uploads(sandbox) == (0, 0)


@pytest.mark.parametrize(
    "header",
    ["X-Dry-Run", "Dry-Run", "dry_run", "X-Outcomes-Dry-Run", "test_recipients", "Test-Recipients", "X-Idempotency-Key",
     "Idempotent-Key", "Idempotence-Key"],
)  # fmt: skip
async def test_a_field_sent_as_a_header_is_refused_and_calls_nobody(start_service: StartService, header: str) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await send(service, headers={header: "true"})
        assert (answer.status_code, "did you mean" in answer.json()["error"]["message"]) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


@pytest.mark.parametrize(
    "field", ["scheduled_for", "schedule", "start_at", "delay_seconds", "callLater", "send_at", "not_before", "hold"]
)
async def test_a_wish_to_call_later_is_refused_because_nobody_would_heed_it(
    start_service: StartService, field: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await upload(service, **{field: "2030-01-01T10:00:00Z"})
        assert (answer.status_code, "sent at once" in answer.json()["error"]["message"]) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


async def test_a_field_that_is_nobodys_near_miss_is_ignored_as_the_provider_does(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, **NOBODYS)).status_code == 200
        assert count_uploads(sandbox) == (1, 0)


async def test_a_promotion_that_asks_for_anything_is_refused_and_calls_nobody(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        test = (await upload(service, test_recipients="1")).json()["data"]["id"]
        path = f"/v1/batch-calls/{test}/promote"
        for answer in (
            await service.post(path, data={"dry_run": "true"}),
            await service.post(path, files={"dry_run": (None, "true")}),
            await service.post(path, json={"dry_run": True}),
            await service.post(path, params={"dry_run": "true"}),
            await service.post(path, params={"dryRun": "1"}),
            await service.post(path, content=b"x" * 2**20),
            await service.post(path, headers={"Dry-Run": "true"}),
            await service.post(path, headers={"x-dry-run": "true"}),
            await service.post(path, headers={"dry_run": "true"}),
        ):
            assert answer.status_code == 400
        assert count_uploads(sandbox) == (1, 0)
        assert (await service.post(path, json={})).status_code == 200
        assert count_uploads(sandbox) == (2, 0)


async def test_a_file_is_sent_under_our_own_name_whatever_its_name_ends_in(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for number, name in enumerate(("leads.txt", "contacts.tsv", "contacts", "kontakte.CSV.bak", "a/b\\c.xlsx"), 1):
            assert (await upload(service, file_name=name, name=f"Batch {number}")).status_code == 200
            assert count_uploads(sandbox) == (number, 0)


def test_names_are_compared_by_their_letters_and_split_into_words() -> None:
    assert {reduce(name) for name in ("dryRun", "DRY-RUN", "dry_run", " dry run")} == {"dryrun"}
    assert [split_words(name) for name in ("dryRun", "DRYRun", "dry_run2", "X-Dry-Run")] == [
        ["dry", "run"], ["dry", "run"], ["dry", "run", "2"], ["x", "dry", "run"],
    ]  # fmt: skip
    assert find_near("test_recipient", ["test_recipients", "force"], MEANT) == "test_recipients"
    assert find_near("metadata", ["test_recipients", "force"], MEANT) is None


async def send(service: httpx.AsyncClient, **how: object) -> httpx.Response:
    how.setdefault("files", {"file": ("contacts.csv", CONTACTS, "text/csv")})
    return await service.post("/v1/batch-call", data={"agent_id": "123", "name": "March Follow Ups"}, **how)  # type: ignore[arg-type]
