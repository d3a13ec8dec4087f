"""Erasure and files: an erased person is not dialled from a held file, and a CSV registered later restores nobody."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.store.database import Database
from service.uploads.storing import remove_phones
from tests.conftest import StartService
from tests.factories import make_payload, post_webhook
from tests.guarantees.recount import find_differences
from tests.guarantees.whole_database import find_everywhere
from tests.provider import connect_provider, upload
from tests.uploads.dashboard import discover, hold_discovery, make_elsewhere, put
from tests.uploads.sampling import FILE, phones_of

HEADER, *ROWS = FILE.splitlines()
PHONES = [row.split(",")[0] for row in ROWS]


async def erase(service: httpx.AsyncClient, phone: str) -> dict[str, object]:
    answer = await service.post("/v1/erasures", json={"phone": phone})
    assert answer.status_code in {200, 202}, answer.text
    erased: dict[str, object] = answer.json()["data"]
    return erased


async def check_counters(database: Database) -> None:
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_who_is_erased_is_not_dialled_when_the_held_batch_is_promoted(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await upload(service, FILE, test_recipients="10")
        await sandbox.sandbox.wait_until_done(456)
        held = next(phone for phone in PHONES if phone not in phones_of(sandbox, 456))
        erased = await erase(service, held)
        assert (erased["state"], erased["held_rows"]) == ("done", 1)
        assert await find_everywhere(database, held[1:]) == []
        (shown,) = (await service.get("/v1/uploads", params={"state": "held"})).json()["data"]
        assert shown["recipients"] == 39

        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        await sandbox.sandbox.wait_until_done(457)
        called = phones_of(sandbox, 456) + phones_of(sandbox, 457)
        assert sorted(called) == sorted(set(PHONES) - {held})
        outcomes = (await service.get("/v1/batch-calls/457/outcomes")).json()["data"]
        assert outcomes["recipients"]["total"] == outcomes["recipients"]["processed"] == 39
        assert (await service.get("/v1/unattributed")).json()["data"] == []
    await check_counters(database)


async def test_while_the_held_batch_is_being_promoted_the_erasure_waits(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await upload(service, FILE, test_recipients="10")
        await sandbox.sandbox.wait_until_done(456)
        held = next(phone for phone in PHONES if phone not in phones_of(sandbox, 456))
        move = "UPDATE batches SET upload_state = $1, leased_until = 'infinity' WHERE campaign_role = 'main'"
        await database.pool.execute(move, "prepared")
        assert (await erase(service, held))["state"] == "running"
        await database.pool.execute(move, "held")
        assert (await erase(service, held))["state"] == "done"
        assert await find_everywhere(database, held[1:]) == []


@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_only_the_rows_of_the_phones_leave_the_file(tmp_path: Path, ends: str) -> None:
    rows = [
        "customer_phone,note",
        '+911,"one, with a\nline break and +912"',
        "+912,two",
        "+9123,three",
        '"+912",twice',
        "",
    ]
    before, kept, again = (tmp_path / name for name in ("before", "kept", "again"))
    before.write_bytes(ends.join(rows).encode())
    assert remove_phones(before, kept, {"+912", "+914"}) == 2
    assert kept.read_bytes() == ends.join([*rows[:2], rows[3], ""]).encode()
    assert remove_phones(kept, again, {"+912"}) == 0
    assert again.read_bytes() == kept.read_bytes()


async def test_a_csv_that_is_registered_after_the_erasure_brings_nobody_back_and_keeps_what_is_counted(
    start_service: StartService, database: Database
) -> None:
    await hold_discovery(database)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await make_elsewhere(sandbox, FILE)
        await sandbox.sandbox.wait_until_done(456)
        await discover(database, sandbox)
        before = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
        called = await database.pool.fetchval(
            "SELECT phone FROM recipients JOIN outcomes USING (batch_key, recipient_no) LIMIT 1"
        )
        assert (await erase(service, called))["state"] == "done"
        assert await find_everywhere(database, called[1:]) == []

        registered = (await put(service, FILE)).json()["data"]
        assert (registered["recipients"], registered["still_unattributed"]) == (50, 0)
        reopened = await database.pool.fetchval("SELECT max(erasure_id) FROM erasures")
        assert reopened == 2
        while (await service.get(f"/v1/erasures/{reopened}")).json()["data"]["state"] != "done":
            pass  # the service goes on by itself
        assert await find_everywhere(database, called[1:]) == []
        after = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
        for name in ("recipients", "statuses", "attempts", "by_hour"):
            assert after[name] == before[name]
    await check_counters(database)


async def test_a_retry_of_an_erased_recipient_of_a_dashboard_batch_still_counts(
    start_service: StartService, database: Database
) -> None:
    await database.pool.execute(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, columns, origin, is_registered, created_at, "
        "prepared_at) VALUES (900, 7, '', 'uploaded', '{}', 'provider', false, '2026-03-16', '2026-03-16')"
    )
    person: dict[str, Any] = {
        "recipient": None,
        "phone": "+918887776665",
        "agent_id": 7,
        "parameters": {"name": "Rahul"},
    }
    async with start_service() as service:
        await post_webhook(service, make_payload(**person, attempt=1, status="busy", final=False))
        await erase(service, "+918887776665")
        await post_webhook(service, make_payload(**person, attempt=2))
        shown = (await service.get("/v1/batch-calls/900/outcomes")).json()["data"]
        assert (shown["statuses"]["completed"], shown["attempts"]["total"]) == (1, 2)
        row = (await service.get("/v1/batch-calls/900/recipients")).json()["data"]
        assert [(each["state"], each["phone"]) for each in row] == [("erased", None)]
    assert await find_everywhere(database, "8887776665", json.dumps("Rahul")) == []
    await check_counters(database)
