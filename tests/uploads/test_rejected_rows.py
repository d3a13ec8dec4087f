"""Rows with errors: the file is refused, or with ``invalid=skip`` they are left out, counted, and given back."""

import csv
import io
from datetime import UTC, datetime, timedelta

import httpx

from service.privacy.erasure import Eraser
from service.privacy.retention import Retention
from service.privacy.tombstones import Tombstones
from service.store.database import Database
from service.telemetry.metrics import Metrics
from tests.conftest import StartService
from tests.provider import connect_provider, count_uploads, upload
from tests.uploads.sampling import phones_of

FILE = (
    "name,customer_phone,note\n"
    "Asha,+919876543210,good\n"
    "Ravi,98765,\"too short, says\nsomebody\"\n"
    "Anita,+91 98765-43211,good\n"
    "Dev,+919876543212\n"
    "Rahul,,no phone\n"
    "Asha,+919876543210,again\n"
    "José,+14155550100,good\n"
)  # fmt: skip
ASHA_QUOTED = '+919876543210,"Asha\n'
CALLED = ["+919876543210", "+919876543211", "+14155550100"]


def read_csv(answer: httpx.Response) -> list[list[str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


async def test_rows_with_errors_refuse_the_file_unless_they_are_to_be_skipped(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, FILE)).status_code == 400
        assert (await upload(service, FILE, dry_run="true")).json()["data"]["valid"] is False
        assert count_uploads(sandbox) == (0, 0)
        report = (await upload(service, FILE, dry_run="true", invalid="skip")).json()["data"]
        assert (report["valid"], report["recipients"], report["skipped"], report["error_count"]) == (True, 3, 3, 3)
        assert report["error_kinds"] == {"phone_country": 1, "cells": 1, "phone_missing": 1}
        assert (report["duplicate_count"], report["repeated"]) == (1, 1)
        assert report["countries"] == {"IN": 2, "US": 1}
        assert count_uploads(sandbox) == (0, 0)
        answer = (await upload(service, FILE, invalid="skip")).json()["data"]
        assert phones_of(sandbox, answer["id"]) == CALLED
        file = answer["file"]
        assert (file["recipients"], file["skipped"], file["countries"]) == (3, 3, {"IN": 2, "US": 1})
        assert (await service.get(f"/v1/uploads/{answer['upload_id']}")).json()["data"]["file"] == file
        assert (await service.get("/v1/uploads")).json()["data"][0]["file"] == file


async def test_skipped_rows_come_back_as_they_were_with_their_errors(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        answer = (await upload(service, FILE, invalid="skip")).json()["data"]
        header, *rows = read_csv(await service.get(f"/v1/uploads/{answer['upload_id']}/rejected.csv"))
        assert header == ["name", "customer_phone", "note", "outcome_error"]
        assert [row[:3] for row in rows] == [
            ["Ravi", "98765", "too short, says\nsomebody"], ["Dev", "+919876543212", ""], ["Rahul", "", "no phone"],
        ]  # fmt: skip
        for row, line in zip(rows, (3, 6, 7), strict=True):
            assert row[3].startswith(f"file: line {line}")


async def test_a_test_batch_and_its_main_batch_share_the_rows_that_were_left_out(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        test = (await upload(service, FILE, invalid="skip", test_recipients="1")).json()["data"]
        rest = (await service.post(f"/v1/batch-calls/{test['id']}/promote")).json()["data"]
        assert sorted(phones_of(sandbox, test["id"]) + phones_of(sandbox, rest["id"])) == sorted(CALLED)
        files = [await service.get(f"/v1/uploads/{one['upload_id']}/rejected.csv") for one in (test, rest)]
        assert read_csv(files[0]) == read_csv(files[1])
        assert test["file"] == rest["file"]


async def test_a_repeated_request_is_answered_with_the_same_counts(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        first = await upload(service, FILE, key="march", invalid="skip")
        second = await upload(service, FILE, key="march", invalid="skip")
        assert (second.headers["idempotency-replayed"], second.json()) == ("true", first.json())
        assert (await upload(service, FILE, key="march")).status_code == 422
        assert count_uploads(sandbox) == (1, 0)


async def test_a_file_without_a_row_to_call_is_refused_though_rows_are_skipped(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await upload(service, "customer_phone,name\n12,Asha\n,Ravi\n", invalid="skip")
        message = answer.json()["error"]["message"]
        assert (answer.status_code, message.startswith("file: no row is left to call; file: line 2")) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


async def test_an_upload_that_left_out_nothing_has_no_rejected_rows(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        answer = (await upload(service, invalid="skip")).json()["data"]
        assert answer["file"]["skipped"] == 0
        assert (await service.get(f"/v1/uploads/{answer['upload_id']}/rejected.csv")).status_code == 404
        assert (await service.get("/v1/uploads/999/rejected.csv")).status_code == 404


async def test_more_rows_than_a_page_are_all_given_back(start_service: StartService) -> None:
    rows = "".join(f"{number},+91{9_800_000_000 + number}\n{number},12\n" for number in range(2500))
    async with connect_provider(start_service) as (service, _):
        answer = (await upload(service, "id,customer_phone\n" + rows, invalid="skip")).json()["data"]
        found = read_csv(await service.get(f"/v1/uploads/{answer['upload_id']}/rejected.csv"))
        assert [row[0] for row in found[1:]] == [str(number) for number in range(2500)]


async def test_skipped_rows_are_deleted_after_thirty_days(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, _):
        answer = (await upload(service, FILE, invalid="skip")).json()["data"]
        path = f"/v1/uploads/{answer['upload_id']}/rejected.csv"
        clock = [datetime.now(UTC)]
        retention = Retention(database, Metrics(), {}, now=lambda: clock[0])
        await database.pool.execute("DELETE FROM leases")  # that of the service's own retention
        assert await retention.forget_all() == {}
        await database.pool.execute("UPDATE upload_reports SET created_at = created_at - interval '31 days'")
        clock[0] -= timedelta(days=365)
        assert await retention.forget_all() == {}
        assert (await service.get(path)).status_code == 200
        clock[0] += timedelta(days=365)
        assert await retention.forget_all() == {"rejected_rows": 4}
        assert (await service.get(path)).status_code == 404


async def test_an_erasure_reaches_the_rows_that_were_left_out(start_service: StartService) -> None:
    content = (
        "name,customer_phone,note\nAsha,+919876543210,good\nRavi,+919876543299 x5,extension\n"
        "Dev,12,call (+91) 98765-43299 instead\nAnita,13,other\n"
    )
    async with connect_provider(start_service) as (service, _):
        answer = (await upload(service, content, invalid="skip")).json()["data"]
        path = f"/v1/uploads/{answer['upload_id']}/rejected.csv"
        assert [row[0] for row in read_csv(await service.get(path))[1:]] == ["Ravi", "Dev", "Anita"]
        assert (await service.post("/v1/erasures", json={"phone": "+919876543299"})).status_code in {200, 202}
        assert [row[0] for row in read_csv(await service.get(path))[1:]] == ["Anita"]


async def test_an_erasure_waits_for_files_that_are_being_checked(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, _):
        answer = (await upload(service, FILE, invalid="skip")).json()["data"]
        await database.pool.execute(
            "INSERT INTO batches (agent_id, name, upload_state, columns, leased_until) "
            "VALUES (9, 'x', 'preparing', '{customer_phone}', now() + interval '5 minutes')"
        )
        erased = (await service.post("/v1/erasures", json={"phone": "+919876543212"})).json()["data"]
        assert (erased["state"], erased["step"]) == ("running", "held")
        await database.pool.execute("UPDATE batches SET upload_state = 'failed' WHERE agent_id = 9")
        await Eraser(database).finish_all()
        assert (await service.get(f"/v1/erasures/{erased['erasure_id']}")).json()["data"]["state"] == "done"
        rows = read_csv(await service.get(f"/v1/uploads/{answer['upload_id']}/rejected.csv"))
        assert [row[0] for row in rows[1:]] == ["Ravi", "Rahul"]


async def test_an_erasure_that_is_repeated_after_a_restore_reaches_them_too(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, _):
        answer = (await upload(service, FILE, invalid="skip")).json()["data"]
    tombstones = Tombstones(database)
    mark, header = [line async for line in tombstones.list()]
    phone_hash = await database.pool.fetchval("SELECT encode(hash_person('phone', '+919876543212'), 'hex')")
    erased_at = datetime.now(UTC).isoformat()
    assert await tombstones.repeat([mark, header, f"{phone_hash},{erased_at}"]) == 1
    left = await database.pool.fetch("SELECT line FROM rejected_rows ORDER BY row_no")
    assert (answer["file"]["skipped"], [row["line"].split(",")[0] for row in left]) == (3, ["Ravi", "Rahul", "Asha"])


async def test_a_quote_that_is_not_closed_refuses_the_file_since_it_takes_in_the_rows_behind_it(
    start_service: StartService,
) -> None:
    rows = "".join(f"+91{9_800_000_000 + number},A\n" for number in range(100))
    async with connect_provider(start_service) as (service, sandbox):
        answer = await upload(service, f"customer_phone,name\n+919700000000,B\n{ASHA_QUOTED}{rows}", invalid="skip")
        assert (answer.status_code, "is not valid CSV" in answer.json()["error"]["message"]) == (400, True)
        assert count_uploads(sandbox) == (0, 0)
