"""The agents that have batches, and what is going on today."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx

from service.outcomes.present import read_summary
from service.store.database import Database
from tests.factories import BEGAN, make_payload, post_webhook, store_batch

NOW = datetime.now(UTC)


async def test_agents_are_listed_with_their_latest_batch_goal_and_numbers(
    service: httpx.AsyncClient, database: Database
) -> None:
    for batch_id, agent_id, days in ((1, 7, 0), (2, 7, 2), (3, 7, 1), (4, 9, 0), (None, 11, 0)):
        await store_batch(
            database.url, 3, batch_id=batch_id, agent_id=agent_id, ref_token=f"t{batch_id}",
            prepared_at=BEGAN + timedelta(days=days), first_phone=100 * (batch_id or 9),
        )  # fmt: skip
    for recipient in (1, 2):
        await post_webhook(
            service, make_payload(recipient=recipient, ref_token="t1", agent_id=7, phone=f"+9197{recipient}")
        )
    other = make_payload(recipient=1, ref_token="t2", agent_id=7, phone="+91973")
    other["data"]["call"]["from_phone"] = "+918000000001"
    await post_webhook(service, other)
    assert (await service.put("/v1/agents/9/goal", json={"results": {"intent": ["yes"]}})).status_code == 200
    page = (await service.get("/v1/agents")).json()
    assert page == {
        "data": [
            {
                "agent_id": 7, "batches": 3, "has_goal": False, "callers": ["+918000000000", "+918000000001"],
                "last_batch": {"id": 2, "name": "March Follow Ups", "created_at": "2026-03-18T10:30:00Z"},
            },
            {
                "agent_id": 9, "batches": 1, "has_goal": True, "callers": [],
                "last_batch": {"id": 4, "name": "March Follow Ups", "created_at": "2026-03-16T10:30:00Z"},
            },
        ],
        "next": None, "has_more": False,
    }  # fmt: skip
    first = (await service.get("/v1/agents", params={"limit": "1"})).json()
    assert ([agent["agent_id"] for agent in first["data"]], first["next"]) == ([7], 7)
    second = (await service.get("/v1/agents", params={"limit": "1", "after": "7"})).json()
    assert ([agent["agent_id"] for agent in second["data"]], second["next"]) == ([9], None)


async def test_the_summary_counts_what_is_going_on(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 5, prepared_at=NOW)
    await store_batch(database.url, 5, batch_id=457, ref_token="old", first_phone=50)
    for recipient, status, began in (
        (1, "completed", NOW),
        (2, "busy", NOW),
        (3, "completed", NOW - timedelta(days=3)),
    ):
        await post_webhook(service, make_payload(recipient=recipient, status=status, began=began))
    await post_webhook(service, make_payload(recipient=None, phone="+19999999999"))
    shown = (await service.get("/v1/summary", params={"time_zone": "Asia/Kolkata"})).json()["data"]
    alarms = (await service.get("/v1/alarms")).json()["data"]
    assert shown["calls"] == {"total": 2, "connects": 1, "batches": 1}
    assert (shown["running"], shown["unattributed"], shown["unknown_uploads"]) == (1, 1, 0)
    assert (shown["alarms"], shown["time_zone"]) == (len(alarms), "Asia/Kolkata")
    assert shown["alarms"] == 1


async def test_today_is_that_of_the_time_zone(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 5)
    midnight = datetime(2026, 3, 15, 18, 30, tzinfo=UTC)  # in Kolkata
    for recipient, began in ((1, midnight), (2, midnight - timedelta(seconds=1)), (3, midnight + timedelta(hours=9))):
        await post_webhook(service, make_payload(recipient=recipient, began=began))
    for zone, day, calls in (("Asia/Kolkata", "2026-03-16", 2), ("UTC", "2026-03-16", 1)):
        summary = await read_summary(
            database, now=midnight + timedelta(hours=10), zone=ZoneInfo(zone), zone_name=zone, alarms=0
        )
        assert (str(summary.day), summary.calls.total) == (day, calls)


async def test_the_summary_of_nothing_is_zero(service: httpx.AsyncClient) -> None:
    shown = (await service.get("/v1/summary")).json()["data"]
    assert shown["calls"] == {"total": 0, "connects": 0, "batches": 0}
    assert (shown["running"], shown["alarms"]) == (0, 0)
