"""A slip in the name of a field that guards against calls must not call people."""

import httpx
import pytest

from service.spelling import MEANT, find_near, reduce, split_joined, split_words
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
    "accept_columns", "forced": "force",
    "testmode": "test_recipients", "samplesize": "test_recipients", "checkonly": "dry_run", "validateonly": "dry_run",
    "maxcalls": "test_recipients", "countrycode": "region", "phonefield": "phone_column", "skiperrors": "invalid",
    "sheetname": "sheet", "skipcalled": "skip_called_within", "TESTMODE": "test_recipients", "is_testrun":
    "test_recipients", "callsmax": "test_recipients", "dedupefile": "duplicates", "skipbad": "skip_called_within",
    "checkcount": "dry_run", "sandbox": "dry_run", "what_if": "dry_run", "whatIf": "dry_run", "no_call": "dry_run",
    "noCalls": "dry_run", "dont_call": "dry_run", "do_not_call": "dry_run", "nosend": "dry_run", "use_sandbox":
    "dry_run", "subset": "test_recipients", "canary": "test_recipients", "percent": "test_recipients", "batch_size":
    "test_recipients", "batchSize": "test_recipients", "rows": "test_recipients", "row_limit": "test_recipients",
    "exclude": "skip_called_within", "suppress": "skip_called_within", "blocklist": "skip_called_within",
    "skip": "skip_called_within", "exclude_list": "skip_called_within",
    "idempotency_key": "Idempotency-Key", "idempotencyKey": "Idempotency-Key",
}  # fmt: skip
NOBODYS = dict.fromkeys((
    "crm_id", "source", "latest", "contest", "first_name", "last_name", "created_at", "updated_at", "notes", "team",
    "department", "cost_center", "project", "client", "account", "account_id", "invoice", "invoice_date", "due_date",
    "file_date", "time_zone", "timezone", "locale", "currency", "amount", "budget", "tags", "label", "title",
    "description", "comment", "author", "uploaded_by", "uploader", "email", "contact", "callback_url", "webhook",
    "reference", "external_id", "request_id", "trace_id", "correlation_id", "session", "token", "csrf_token", "version",
    "channel", "brand", "product", "segment", "list_name", "list_id", "lead_source", "utm_campaign", "utm_medium",
    "filename", "attestation", "discount", "greatest", "fastest", "checkpoint", "dataset",
    "protester", "calls", "last_call_at", "runner", "campaign_window_id", "format", "size", "mode",
), "x") | {
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
    "field",
    ["scheduled_for", "schedule", "start_at", "delay_seconds", "callLater", "send_at", "not_before", "hold", "call_at",
     "run_at", "sendat", "callat", "runAt", "start_time", "when", "at", "date", "time", "datetime", "call_date",
     "delayed", "calling_hours", "window", "callwindow", "call_time", "pause", "pause_until"],
)  # fmt: skip
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


@pytest.mark.parametrize(
    "value",
    ['{"dry_run":true}', '{"dryRun": true}', "x=1;dry_run=true", "a&test_recipients=20", "DRY-RUN",
     "?skip-called-within=7d", "[['phone_column', 'Mobile']]", "dry_run", "dryrun",
     '{"options": {"Idempotency-Key": "a"}}',
     "x" * 9000 + " dry_run"],
)  # fmt: skip
async def test_a_field_within_the_value_of_another_is_refused_and_calls_nobody(
    start_service: StartService, value: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for answer in (await upload(service, options=value), await send(service, params={"x": value[-200:]})):
            assert (answer.status_code, "has to be sent by itself" in answer.json()["error"]["message"]) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


@pytest.mark.parametrize("value", ["a laundry running late", "Dry, run 7", "sundry_runs", "the region of the sheet"])
async def test_a_value_that_names_no_field_is_ignored(start_service: StartService, value: str) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service, notes=value)).status_code == 200


@pytest.mark.parametrize(
    ("fraction", "percent"), [("0.95", "95"), ("1", "100"), ("1.0", "100"), ("0.005", "0.5"), ("1e-3", "0.1")]
)
async def test_a_fraction_is_no_percentage_to_promote_at(
    start_service: StartService, fraction: str, percent: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await upload(service, test_recipients="1", promote_at_success_rate=fraction)
        message = f"promote_at_success_rate: is a percentage: send {percent} for {percent} %"
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)
        assert count_uploads(sandbox) == (0, 0)


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
    assert split_joined("testMode", {"test", "mode"}) == ["test", "mode"]
    assert split_joined("maxcalls", {"max", "call", "calls", "s"}) == ["max", "calls"]
    assert split_joined("latest", {"test", "mode", "at"}) == split_joined("", {"test"}) == []
    assert find_near("metadata", ["test_recipients", "force"], MEANT) is None


async def send(service: httpx.AsyncClient, **how: object) -> httpx.Response:
    how.setdefault("files", {"file": ("contacts.csv", CONTACTS, "text/csv")})
    return await service.post("/v1/batch-call", data={"agent_id": "123", "name": "March Follow Ups"}, **how)  # type: ignore[arg-type]
