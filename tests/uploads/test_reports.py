"""A dry run says how the file was read and what it would repeat, and an upload with its digest does nothing else."""

import io

import openpyxl

from service.store.database import Database
from tests.conftest import StartService
from tests.provider import CONTACTS, connect_provider, count_uploads, upload

CHANGED = "report_digest: the file, the choices or the people to call are not those of the report"


def make_workbook(*titles: str) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    for title in titles:
        sheet = book.create_sheet(title)
        sheet.append(["customer_phone", "name"])
        sheet.append(["+919876543210", title])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


async def test_the_report_says_how_the_file_was_read(start_service: StartService) -> None:
    async with connect_provider(start_service, OUTCOMES_DEFAULT_REGION="IN") as (service, _):
        content = "Customer Phone;name\n9876543210;José\n".encode("cp1252")
        report = (await upload(service, content, dry_run="true")).json()["data"]
        assert report["reading"] == {
            "phone_column": "Customer Phone", "region": "IN", "encoding": "windows-1252", "is_encoding_guessed": True,
            "delimiter": "semicolon", "sheet": None, "sheets": [],
        }  # fmt: skip
        report = (await upload(service, make_workbook("One", "Two"), dry_run="true", sheet="Two")).json()["data"]
        assert report["reading"] == {
            "phone_column": "customer_phone", "region": "IN", "encoding": None, "is_encoding_guessed": False,
            "delimiter": None, "sheet": "Two", "sheets": ["One", "Two"],
        }  # fmt: skip


async def test_a_file_is_read_with_the_encoding_and_the_delimiter_that_are_stated(
    start_service: StartService, database: Database
) -> None:
    content = "customer_phone;name\n+919876543210;Nikolić\n".encode("cp1250")
    async with connect_provider(start_service) as (service, _):
        asked = {"encoding": "windows-1250", "delimiter": "semicolon"}
        report = (await upload(service, content, dry_run="true", **asked)).json()["data"]
        assert (report["reading"]["encoding"], report["warnings"]) == ("windows-1250", [])
        assert (await upload(service, content, **asked)).status_code == 200
        assert await database.pool.fetchval("SELECT parameters->>'name' FROM recipients") == "Nikolić"
        wrong = await upload(service, content, dry_run="true", delimiter="comma")
        assert wrong.status_code == 400
        unused = (await upload(service, make_workbook("One"), dry_run="true", **asked)).json()["data"]
        assert "encoding: is not used, since the file is a workbook" in unused["warnings"]


async def test_what_can_be_chosen_comes_with_the_refusal_of_a_header_or_a_sheet(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        refused = (await upload(service, "name,Mobile No\nAsha,+919876543210\n", dry_run="true")).json()["error"]
        assert refused["details"] == {"columns": ["name", "Mobile No"]}
        refused = (await upload(service, make_workbook("One", "Two"), dry_run="true", sheet="Three")).json()["error"]
        assert refused["details"] == {"sheets": ["One", "Two"]}


async def test_an_upload_with_the_digest_of_its_report_is_sent(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        digest = (await upload(service, dry_run="true")).json()["data"]["report_digest"]
        first = await upload(service, report_digest=digest, key="form-1")
        assert first.status_code == 200
        again = await upload(service, report_digest=digest, key="form-1")
        assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
        assert count_uploads(sandbox) == (1, 0)


async def test_an_upload_is_refused_if_anything_changed_since_its_report(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        digest = (await upload(service, dry_run="true")).json()["data"]["report_digest"]
        more = CONTACTS + "+919900000003,Ravi,LN-3,1\n"
        for content, form in ((more, {}), (CONTACTS, {"name": "Other"}), (CONTACTS, {"duplicates": "first"})):
            refused = await upload(service, content, report_digest=digest, **form)
            assert (refused.status_code, refused.json()["error"]["message"].startswith(CHANGED)) == (409, True)
        suppressed = {"phones": ["+919876543210"], "reason": "asked", "source": "crm"}
        assert (await service.post("/v1/suppressions", json=suppressed)).status_code == 200
        assert (await upload(service, report_digest=digest)).status_code == 409
        assert (await upload(service, report_digest="no digest")).status_code == 400
        assert count_uploads(sandbox) == (0, 0)
        assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0


async def test_a_report_names_the_upload_that_would_be_repeated_which_a_new_key_does_not_excuse(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        report = (await upload(service, dry_run="true")).json()["data"]
        assert report["earlier_upload"] is None
        assert (await upload(service, key="form-1")).status_code == 200
        refused = await upload(service, report_digest=report["report_digest"], key="form-2")
        assert (refused.status_code, refused.json()["error"]["type"]) == (409, "duplicate_request")
        earlier = (await upload(service, dry_run="true")).json()["data"]["earlier_upload"]
        assert (earlier["state"], earlier["batch_id"], earlier["name"]) == ("uploaded", 456, "March Follow Ups")
        forced = (await upload(service, dry_run="true", force="true")).json()["data"]["report_digest"]
        assert (await upload(service, report_digest=forced, force="true", key="form-3")).status_code == 200
        assert count_uploads(sandbox) == (2, 0)


async def test_the_rows_with_errors_of_a_check_can_be_downloaded_and_nothing_is_stored(
    start_service: StartService, database: Database
) -> None:
    content = 'customer_phone,name\n+919876543210,Asha\n12,Ravi\n+919876543210,Again\nnone,"a, b"\n'
    form = {"agent_id": "123", "name": "March"}
    async with connect_provider(start_service) as (service, sandbox):
        file = {"file": ("contacts.csv", content, "text/csv")}
        answer = await service.post("/v1/batch-call/rejected.csv", data=form, files=file)
        lines = answer.text.removeprefix("\ufeff").splitlines()
        assert (answer.status_code, lines[0], len(lines)) == (200, "customer_phone,name,outcome_error", 3)
        assert lines[1].startswith("12,Ravi,")
        assert lines[2].startswith('none,"a, b",')
        good = {"file": ("contacts.csv", CONTACTS, "text/csv")}
        assert (await service.post("/v1/batch-call/rejected.csv", data=form, files=good)).status_code == 404
        assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0
        assert count_uploads(sandbox) == (0, 0)
