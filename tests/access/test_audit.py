"""The audit log: who did what to what, and the outcome; in the same commit, append-only, without people."""

from typing import Any

import asyncpg
import httpx
import pytest

from service.access.keys import Keys
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from tests.conftest import StartService
from tests.factories import encode, make_payload, store_batch
from tests.provider import CONTACTS, connect_provider, upload
from tests.uploads.dashboard import make_elsewhere
from tests.uploads.lost_uploads import lose
from tests.webhooks.quarantining import quarantine


async def read_audit(client: httpx.AsyncClient) -> list[tuple[str, str, str, str]]:
    """All lines, oldest first: actor, action, subject, outcome."""
    lines = (await client.get("/v1/audit", params={"limit": 1000})).json()["data"]
    return [tuple(line[name] for name in ("actor", "action", "subject", "outcome")) for line in reversed(lines)]


async def test_an_upload_its_columns_and_its_promotion_are_audited_with_the_key_used(
    start_service: StartService, database: Database
) -> None:
    made = await Keys(database).create("campaigns", ("upload", "read"), None)
    async with connect_provider(start_service) as (service, _):
        admin = dict(service.headers)
        service.headers["authorization"] = f"Bearer {made.key}"
        assert (await upload(service, test_recipients="1")).status_code == 200
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 409
        service.headers.update(admin)
        lines = await read_audit(service)
    by_key = "key: campaigns"
    assert lines == [
        ("service", "key_created", "key 1", "created"),
        (by_key, "columns_changed", "agent 123", "changed"),
        (by_key, "upload", "upload 1", "held"),
        (by_key, "upload", "upload 2", "prepared"),
        (by_key, "upload", "upload 2", "uploaded"),
        (by_key, "promotion", "upload 1", "begun"),
        (by_key, "upload", "upload 1", "uploaded"),
    ]


async def test_uploads_that_fail_or_are_lost_and_their_manual_resolution_are_audited(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        answer = await service.post(f"/v1/uploads/{upload_id}/resolve", json={"not_sent": True})
        assert answer.status_code == 200
        lines = [line for line in await read_audit(service) if line[1] != "columns_changed"]
    assert lines == [
        ("setting", "upload", f"upload {upload_id}", "prepared"),
        ("setting", "upload", f"upload {upload_id}", "unknown"),
        ("setting", "resolution", f"upload {upload_id}", "failed"),
    ]


async def test_registrations_replays_and_rebuilds_are_audited(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await make_elsewhere(sandbox, CONTACTS)
        answer = await service.put(
            "/v1/batch-calls/456/recipients", content=CONTACTS, headers={"content-type": "text/csv"}
        )
        assert answer.status_code == 200
        quarantine_id = await quarantine(database, encode(make_payload(recipient=1)))
        assert (await service.post(f"/v1/quarantine/{quarantine_id}/replay")).status_code == 200
        assert [batch async for batch in Rebuilder(database).rebuild()]
        assert await read_audit(service) == [
            ("setting", "registration", "batch 456", "staged"),
            ("setting", "replay", f"quarantined {quarantine_id}", "event"),
            ("service", "rebuild", "upload 1", "unchanged"),
        ]


async def test_what_cannot_be_audited_is_not_done(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await database.pool.execute("ALTER TABLE audit_log ADD CONSTRAINT none CHECK (false)")
        assert (await upload(service)).status_code == 500
        assert sandbox.sandbox.journal.uploads == {}
        assert await database.pool.fetchval("SELECT count(*) FROM recipients") == 0


async def test_lines_cannot_be_changed_or_cut_off(database: Database) -> None:
    await Keys(database).create("one", ("read",), None)
    for statement in ("UPDATE audit_log SET actor = 'somebody else'", "TRUNCATE audit_log"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="insert-only"):
            await database.pool.execute(statement)


async def test_no_line_names_a_person(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, _):
        await upload(service, name="Rahul and Anita")
        lines: list[dict[str, Any]] = (await service.get("/v1/audit")).json()["data"]
    assert lines
    for secret in ("Rahul", "9876543210", "LN-12345", "contacts.csv"):
        assert secret not in str(lines)


async def test_a_rebuild_that_corrects_counters_reports_how_many(database: Database, database_url: str) -> None:
    key = await store_batch(database_url)
    await database.pool.execute("INSERT INTO outcome_counts VALUES ($1, 'completed', 1, 'webhook', 5, 0, 0)", key)
    assert [batch.counters async for batch in Rebuilder(database).rebuild()] == [1, 0]
    row = await database.pool.fetchrow("SELECT outcome, details::json ->> 'counters' AS counters FROM audit_log")
    assert row is not None
    assert tuple(row) == ("corrected", "1")
