"""Failures in the middle of an upload: nothing is half-stored, and nobody is dialled."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.app import prepare_schema
from service.sandbox import sample_contacts
from service.store.database import Database, connect
from tests.conftest import API_KEY, StartService, create_database
from tests.eventually import eventually
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run
from tests.provider import CONTACTS, KEY, connect_provider, count_uploads, upload


async def test_a_caller_that_hangs_up_in_the_middle_of_the_file_leaves_nothing(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        reader, writer = await asyncio.open_connection(service.base_url.host, service.base_url.port)
        head = (
            f"POST /v1/batch-call HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        )
        part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\ncustomer_phone\r\n'
        writer.write((head + part).encode() + b"+919876543210\r\n" * 1000)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await upload(service)).status_code == 200  # the service goes on
        assert await database.pool.fetchval("SELECT count(*) FROM batches") == 1
        assert count_uploads(sandbox) == (1, 0)
        del reader


async def test_a_body_that_goes_on_past_the_limit_is_cut_off(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.uploads.files.MAX_FORM_BYTES", 100_000)
    async with connect_provider(start_service) as (service, sandbox):

        async def endless() -> AsyncIterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\ncustomer_phone\r\n'
            for _ in range(1000):
                yield b"+919876543210\r\n" * 100

        answer = await service.post(
            "/v1/batch-call", content=endless(), headers={"content-type": "multipart/form-data; boundary=b"}
        )
        assert answer.status_code == 413
        assert answer.json()["error"]["message"].startswith("file: ")
        assert count_uploads(sandbox) == (0, 0)


async def test_a_full_disk_while_recipients_are_stored_leaves_nothing_and_says_so(
    start_service: StartService, own_postgres: PostgresServer, small_disk: Path
) -> None:
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    connection = await connect(url)
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    await connection.execute("ALTER TABLE recipients SET TABLESPACE small")
    await connection.execute("ALTER TABLE recipients SET (autovacuum_enabled = off)")
    large = sample_contacts(120_000, seed=1)
    async with connect_provider(start_service, OUTCOMES_DATABASE_URL=url) as (service, sandbox):
        answer = await upload(service, large)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable")
        assert "no room" in answer.json()["error"]["message"]
        assert "nothing was sent" in answer.json()["error"]["message"]
        assert await connection.fetchval("SELECT count(*) FROM batches") == 0
        assert await connection.fetchval("SELECT count(*) FROM recipients") == 0
        assert count_uploads(sandbox) == (0, 0)
        await connection.execute("VACUUM recipients")
        assert (await upload(service)).status_code == 200
    await connection.close()


async def test_the_state_of_a_long_upload_shows_how_far_it_is(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "hang"
        trying = asyncio.create_task(upload(service, sample_contacts(3000, seed=1)))
        await eventually(lambda: sandbox.sandbox.records.batches)
        (row,) = (await service.get("/v1/uploads")).json()["data"]
        shown = (await service.get(f"/v1/uploads/{row['upload_id']}")).json()["data"]
        assert (shown["state"], shown["rows_checked"], shown["recipients"]) == ("uploading", 3000, 3000)
        assert await database.pool.fetchval("SELECT leased_until > now() FROM batches")
        sandbox.sandbox.faults.release()
        assert (await trying).status_code == 200
        assert (await service.get("/v1/uploads/999")).status_code == 404


async def test_an_unknown_upload_is_resolved_on_the_command_line(
    start_service: StartService, database_url: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "refused_after_body"
        assert (await upload(service)).status_code == 504
        settings = {
            "OUTCOMES_DATABASE_URL": database_url,
            "FORMANT_BASE_URL": sandbox.base_url,
            "FORMANT_API_KEY": KEY,
        }
        neither = await run(OUTCOMES, "batches", "resolve", "1", **settings)
        assert (neither.status, "either --batch-id N or --not-sent" in neither.errors) == (2, True)
        wrong = await run(OUTCOMES, "batches", "resolve", "1", "--batch-id", "999", **settings)
        assert (wrong.status, "There is no such batch" in wrong.errors) == (2, True)
        for wrong_flags, expected in (
            (("--batch-id", "1", "--not-these", "2"), "--not-these goes with --not-sent"),
            (("--batch-id", "1", "--accept-unreadable"), "--accept-unreadable goes with --not-sent"),
            (("--not-sent", "--accept-difference"), "--accept-difference goes with --batch-id"),
            (("--not-sent", "--not-these", "2,x"), "--not-these takes numbers of batches"),
        ):
            refused = await run(OUTCOMES, "batches", "resolve", "1", *wrong_flags, **settings)
            assert (refused.status, expected in refused.errors) == (2, True), wrong_flags
        files = {"file": ("contacts.csv", CONTACTS, "text/csv")}
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=sandbox.base_url, headers=headers) as dashboard:
            await dashboard.post("/v1/batch-call", data={"agent_id": "123", "name": "March Follow Ups"}, files=files)
        doubted = await run(OUTCOMES, "batches", "resolve", "1", "--not-sent", **settings)
        assert (doubted.status, '"not_these": [456]' in doubted.errors) == (2, True), doubted.errors
        sandbox.sandbox.records.reshape = lambda batch: batch | {"id": None}
        hidden = await run(OUTCOMES, "batches", "resolve", "1", "--not-sent", "--not-these", "456", **settings)
        assert (hidden.status, "1 entry of the provider's list cannot be read" in hidden.errors) == (2, True)
        done = await run(OUTCOMES, "batches", "resolve", "1", "--not-sent", "--accept-unreadable", **settings)
        assert (done.status, done.output) == (0, "Upload 1 was not sent.\n")
        assert (await service.get("/v1/uploads/1")).json()["data"]["state"] == "failed"


async def test_without_a_key_for_the_provider_nothing_is_stored(service: httpx.AsyncClient, database: Database) -> None:
    answer = await upload(service)
    assert (answer.status_code, "FORMANT_API_KEY" in answer.json()["error"]["message"]) == (503, True)
    assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0
