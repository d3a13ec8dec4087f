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

SOME = "INSERT INTO spill_states VALUES ('one', 12, now() - interval '1 minute', now(), true)"
EMPTY = "INSERT INTO spill_states VALUES ('one', 0, NULL, now(), true)"
LATER = "UPDATE spill_states SET checked_at = clock_timestamp()"
AGED = "UPDATE spill_states SET checked_at = now() - interval '31 s'"
YOUNG = "UPDATE spill_states SET checked_at = now() - interval '25 s'"
AHEAD = "UPDATE spill_states SET checked_at = now() + interval '1 minute'"
OTHER = "INSERT INTO spill_states VALUES ('two', 0, NULL, now(), false)"
QUIET = "INSERT INTO spill_replicas VALUES ('a', now() + interval '2 s')"
SPILLING = "INSERT INTO spill_replicas VALUES ('a', now() + interval '2 s', 'infinity')"
HAS_SPILLED = "INSERT INTO spill_replicas VALUES ('a', now() + interval '2 s', now() - interval '1 s')"
GONE = "INSERT INTO spill_replicas VALUES ('a', now() - interval '1 s')"
FAR = "INSERT INTO spill_replicas VALUES ('a', now() + interval '1 minute')"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], None),
        ([EMPTY], None),
        ([EMPTY, YOUNG], None),
        ([EMPTY, AGED], (0, "unseen")),
        ([EMPTY, AHEAD], (0, "unseen")),
        ([EMPTY, OTHER], (0, "replaced")),
        ([SOME, OTHER], (12, "replaced")),
        ([SOME], (12, "waiting")),
        ([SOME, AGED], (12, "waiting")),
        ([QUIET], None),
        ([EMPTY, QUIET], None),
        ([SPILLING], (0, "announced")),
        ([EMPTY, SPILLING, LATER], (0, "announced")),
        ([GONE], (0, "announced")),
        ([EMPTY, GONE, AGED], (0, "announced")),
        ([EMPTY, FAR], (0, "announced")),
        ([GONE, EMPTY], None),
        ([HAS_SPILLED], (0, "announced")),
        ([HAS_SPILLED, EMPTY], None),
        ([SOME, GONE], (12, "waiting")),
    ],
    ids=[
        "never used", "seen empty", "seen empty lately", "not seen for 31 s", "seen in the future", "replaced",
        "replaced while some waited", "seen some", "seen some, long ago", "quiet and never looked at",
        "quiet and seen empty", "spilling", "spilling and looked at", "gone", "gone after it was seen empty",
        "alive for longer than anybody may say", "gone before it was seen empty", "has spilled",
        "has spilled before it was seen empty", "seen some, before a replica went",
    ],
)  # fmt: skip
async def test_the_stream_is_known_to_be_empty_only_while_all_of_the_rule_holds(
    database: Database, statements: list[str], expected: tuple[int, str] | None
) -> None:
    for statement in statements:
        await database.pool.execute(statement)
    spilled = await find_spilled(database)
    assert (None if spilled is None else (spilled.events, spilled.cause)) == expected


async def test_the_words_say_why_and_since_when(database: Database) -> None:
    async def describe() -> str:
        spilled = await find_spilled(database)
        assert spilled is not None
        return spilled.describe().text

    await database.pool.execute("INSERT INTO spill_states VALUES ('one', 0, NULL, '2026-03-16 18:05Z', true)")
    assert (
        await describe() == "webhooks may wait to be stored: nobody has looked at the stream since 2026-03-16 18:05 UTC"
    )
    await database.pool.execute("INSERT INTO spill_replicas VALUES ('a', '2026-03-16 18:06Z')")
    assert "a replica may have put some into the stream since 2026-03-16 18:05 UTC" in await describe()
    await database.pool.execute(OTHER)
    assert await describe() == "webhooks may be lost: their stream was replaced after 2026-03-16 18:05 UTC"


async def test_a_replica_that_cannot_use_the_stream_for_a_minute_raises_an_alarm_while_it_runs(
    database: Database,
) -> None:
    async def list_counts() -> list[int]:
        return [alarm.count for alarm in await list_alarms(database) if alarm.name == "spill_unreachable"]

    is_reachable = False
    presence = Presence(database.url, is_spilling=False, is_reachable=lambda: is_reachable)
    assert await presence.renew()
    assert await list_counts() == []
    await database.pool.execute("UPDATE spill_replicas SET unreachable_since = now() - interval '61 s'")
    assert await presence.renew()
    assert await list_counts() == [1]
    await database.pool.execute("UPDATE spill_replicas SET alive_until = now() - interval '1 s'")
    assert await list_counts() == []
    is_reachable = True
    assert await presence.renew()
    assert await database.pool.fetchval("SELECT count(unreachable_since) FROM spill_replicas") == 0
    await presence.end()


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


async def renew(database: Database, valid_for: str, *, is_spilling: bool = False) -> bool:
    valid_until = await database.pool.fetchval("SELECT clock_timestamp() + $1::text::interval", valid_for)
    written_at = await database.queries.renew_spill_replica(
        database.pool,
        replica="a",
        valid_until=valid_until,
        is_spilling=is_spilling,
        has_spilled=False,
        is_reachable=True,
    )
    return written_at is not None


async def test_a_renewal_that_runs_late_changes_nothing(database: Database) -> None:
    assert not await renew(database, "-1 ms")
    assert await database.pool.fetchval("SELECT count(*) FROM spill_replicas") == 0
    assert await renew(database, "2 s")
    assert not await renew(database, "1 s", is_spilling=True)  # overtaken by the one before
    assert not await renew(database, "1 minute")  # made by the clock of another server
    assert await find_spilled(database) is None


async def test_a_replica_renews_again_after_the_clock_was_set_back(database: Database) -> None:
    presence = Presence(database.url, is_spilling=False)
    assert await presence.renew()
    await database.pool.execute("UPDATE spill_replicas SET alive_until = now() + interval '1 minute'")
    assert await find_spilled(database) is not None
    assert await presence.renew()
    assert await find_spilled(database) is None
    await presence.end()


async def look(database: Database, age: str = "0 s", stream: str = "one", waiting: int = 0) -> None:
    """Records a look at the stream that was made so long ago."""
    checked_at = await database.pool.fetchval("SELECT clock_timestamp() - $1::text::interval", age)
    await database.queries.note_spill_state(
        database.pool, stream=stream, waiting_events=waiting, oldest_at=None, checked_at=checked_at
    )


async def read_state(database: Database) -> list[tuple[str, int, bool]]:
    rows = await database.pool.fetch("SELECT * FROM spill_states ORDER BY stream")
    return [(row["stream"], row["waiting_events"], row["is_accepted"]) for row in rows]


async def test_looks_are_written_when_they_change_something_and_else_every_ten_seconds(database: Database) -> None:
    async def is_written(age: str, waiting: int = 0) -> bool:
        before = await database.pool.fetchval("SELECT xmin::text || ctid FROM spill_states")
        await look(database, age, waiting=waiting)
        return bool(before != await database.pool.fetchval("SELECT xmin::text || ctid FROM spill_states"))

    await look(database, "25 s")
    assert not await is_written("16 s")
    assert await is_written("14 s")
    assert await is_written("13 s", waiting=3)
    assert await is_written("12 s")
    await database.pool.execute("INSERT INTO spill_replicas VALUES ('a', now() - interval '11500 ms')")
    assert await is_written("11 s")
    assert await find_spilled(database) is None


async def test_a_look_that_is_recorded_late_changes_nothing(database: Database) -> None:
    await look(database, "31 s")
    await look(database, "-1 minute")
    assert await read_state(database) == []
    await look(database, "5 s", waiting=3)
    await database.pool.execute("INSERT INTO spill_replicas VALUES ('a', now() - interval '9 s')")
    await look(database, "8 s")
    assert await read_state(database) == [("one", 3, True)]
    assert await database.pool.fetchval("SELECT count(*) FROM spill_replicas") == 1
    await database.pool.execute(AHEAD)
    await look(database)
    assert await read_state(database) == [("one", 0, True)]


async def test_another_stream_is_recorded_beside_the_accepted_one_and_settles_nothing(database: Database) -> None:
    await look(database, "20 s", waiting=3)
    await database.pool.execute("INSERT INTO spill_replicas VALUES ('a', now() - interval '10 s')")
    await look(database, stream="two")
    assert await read_state(database) == [("one", 3, True), ("two", 0, False)]
    assert await database.pool.fetchval("SELECT count(*) FROM spill_replicas") == 1
    await look(database)
    spilled = await find_spilled(database)
    assert spilled is not None
    assert spilled.cause == "replaced"
    (alarm,) = [each for each in await list_alarms(database) if each.name == "spill_replaced"]
    assert (alarm.severity, alarm.count) == ("page", 1)


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
        await database.pool.execute("UPDATE spill_states SET waiting_events = 0, checked_at = now()")
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
