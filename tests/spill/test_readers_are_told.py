"""While events wait in the stream, or may wait there, no verdict is final, and healing waits."""

from typing import Any

import httpx
import pytest

from service.alarms.alarms import list_alarms
from service.outcomes.spilled import find_spilled
from service.sandbox import sample_contacts
from service.spill.state import Presence
from service.store.database import Database
from tests.conftest import StartService
from tests.provider import connect_provider, upload

SOME = "INSERT INTO spill_states VALUES ('one', 12, now() - interval '1 minute', now())"
EMPTY = "INSERT INTO spill_states VALUES ('one', 0, NULL, now())"
LATER = "UPDATE spill_states SET checked_at = clock_timestamp()"
QUIET = "INSERT INTO spill_replicas VALUES ('a', now() + interval '1 minute')"
SPILLING = "INSERT INTO spill_replicas VALUES ('a', now() + interval '1 minute', 'infinity')"
HAS_SPILLED = "INSERT INTO spill_replicas VALUES ('a', now() + interval '1 minute', now() - interval '1 second')"
GONE = "INSERT INTO spill_replicas VALUES ('a', now() - interval '1 second')"


@pytest.mark.parametrize(
    ("statements", "events"),
    [
        ([], None),
        ([EMPTY], None),
        ([SOME], 12),
        ([QUIET], None),
        ([EMPTY, QUIET], None),
        ([SPILLING], 0),
        ([EMPTY, SPILLING, LATER], 0),
        ([GONE], 0),
        ([GONE, EMPTY], None),
        ([HAS_SPILLED], 0),
        ([HAS_SPILLED, EMPTY], None),
        ([SOME, GONE], 12),
    ],
    ids=[
        "never used", "seen empty", "seen some", "quiet and never looked at", "quiet and seen empty", "spilling",
        "spilling and looked at", "gone", "gone before it was seen empty", "has spilled",
        "has spilled before it was seen empty", "seen some, before a replica went",
    ],
)  # fmt: skip
async def test_the_stream_is_known_to_be_empty_only_after_it_was_seen_so(
    database: Database, statements: list[str], events: int | None
) -> None:
    for statement in statements:
        await database.pool.execute(statement)
    spilled = await find_spilled(database)
    assert (None if spilled is None else spilled.events) == events


async def test_a_replica_says_that_it_may_spill_before_it_may(database: Database) -> None:
    presence = Presence(database.url, is_spilling=False)
    assert await presence.renew()
    assert await find_spilled(database) is None
    await presence.permit()
    assert await find_spilled(database) is not None
    await presence.withdraw()
    assert await find_spilled(database) is not None  # nobody has looked since
    await database.pool.execute(EMPTY)
    assert await find_spilled(database) is None
    await presence.end()
    assert await database.pool.fetchval("SELECT count(*) FROM spill_replicas") == 0


async def test_a_replica_that_cannot_say_so_lets_its_row_run_out(database: Database) -> None:
    presence = Presence(database.url, is_spilling=False)
    assert await presence.renew()
    holder = await database.pool.acquire()
    async with holder.transaction():
        await holder.execute("LOCK TABLE spill_replicas IN EXCLUSIVE MODE")
        await presence.permit()
        assert await find_spilled(database) is not None
    await database.pool.release(holder)
    await presence.end()


async def read(service: httpx.AsyncClient, batch_id: int) -> dict[str, Any]:
    data: dict[str, Any] = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
    return data


async def test_every_reader_sees_that_a_final_verdict_is_not_final(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True, OUTCOMES_GRACE_SECONDS="0") as (service, sandbox):
        batch_id = (await upload(service, sample_contacts(5, seed=1))).json()["data"]["id"]
        await sandbox.sandbox.wait_until_done(batch_id)
        path = f"/v1/batch-calls/{batch_id}"
        assert (await service.post(f"{path}/reconcile")).json()["data"]["verdict"] == "complete"
        final = await service.get(f"{path}/outcomes")
        assert final.json()["data"]["verdict"] == "complete"
        await database.pool.execute(SOME)
        unchanged = await service.get(f"{path}/outcomes", headers={"if-none-match": final.headers["etag"]})
        assert unchanged.status_code == 200
        data = unchanged.json()["data"]
        assert data["verdict"] == "settling"
        reason = data["reconciliation"]["reasons"][0]
        assert (reason["code"], reason["count"], "since" in reason) == ("spilled", 12, True)
        assert "12 webhooks wait to be stored since" in data["verdict_text"]
        again = (await service.post(f"{path}/reconcile")).json()["data"]
        assert (again["verdict"], again["reasons"][0]["code"]) == ("settling", "spilled")
        following = (await service.get(f"{path}/reconcile")).json()["data"]
        assert (following["verdict"], following["reasons"][0]["code"]) == ("settling", "spilled")
        listed = (await service.get("/v1/batch-calls", params={"verdict": "settling"})).json()
        assert [each["id"] for each in listed["data"]] == [batch_id]
        assert (await service.get("/v1/batch-calls", params={"verdict": "complete"})).json()["total"] == 0
        shown = await database.pool.fetchrow("SELECT verdict, verdict_text FROM bi.batches")
        assert shown is not None
        assert (shown["verdict"], shown["verdict_text"]) == ("settling", listed["data"][0]["verdict_text"])
        assert {row["verdict"] for row in await database.pool.fetch("SELECT verdict FROM bi.recipient_outcomes")} == {
            "settling"
        }
        await database.pool.execute("UPDATE spill_states SET waiting_events = 0")
        assert (await read(service, batch_id))["verdict"] == "complete"
        assert await database.pool.fetchval("SELECT verdict FROM bi.batches") == "complete"


async def test_healing_waits_while_events_wait(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, plays=True, OUTCOMES_GRACE_SECONDS="0") as (service, sandbox):
        sandbox.sandbox.faults.drop = 1.0
        batch_id = (await upload(service, sample_contacts(5, seed=1))).json()["data"]["id"]
        await sandbox.sandbox.wait_until_done(batch_id)
        await database.pool.execute(SOME)
        path = f"/v1/batch-calls/{batch_id}/reconcile"
        waiting = (await service.post(path)).json()["data"]
        assert waiting["verdict"] == "settling"
        assert (await read(service, batch_id))["sources"]["healed"] == 0
        await database.pool.execute("DELETE FROM spill_states")
        assert (await service.post(path)).json()["data"]["verdict"] == "complete"
        assert (await read(service, batch_id))["sources"]["healed"] == 5


async def test_events_that_wait_for_long_raise_an_alarm(database: Database) -> None:
    await database.pool.execute(SOME)
    assert "spill_waiting" not in {alarm.name for alarm in await list_alarms(database)}
    await database.pool.execute("UPDATE spill_states SET oldest_at = now() - interval '6 minutes'")
    (alarm,) = [each for each in await list_alarms(database) if each.name == "spill_waiting"]
    assert (alarm.severity, alarm.count) == ("page", 12)
    await database.pool.execute("DELETE FROM spill_states")
    await database.pool.execute("INSERT INTO spill_replicas VALUES ('a', now() - interval '6 minutes')")
    assert [alarm.count for alarm in await list_alarms(database) if alarm.name == "spill_waiting"] == [1]
