"""The timeline of a batch: calls and retries due by hour or day of real time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from service.outcomes.timeline import MAX_ENTRIES, TimelineCount, describe_timeline
from service.store.database import Database
from tests.factories import BATCH_ID, make_payload, post_webhook, store_batch

PATH = f"/v1/batch-calls/{BATCH_ID}/outcomes"
MORNING = datetime(2026, 3, 16, 4, 45, tzinfo=UTC)  # 10:15 in Kolkata


async def read(service: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    answer = await service.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    timeline: dict[str, Any] = answer.json()["data"]["timeline"]
    return timeline


async def post(service: httpx.AsyncClient, recipient: int, began: datetime | None, **fields: Any) -> None:
    payload = make_payload(recipient=recipient, began=began, **fields)
    if began is None:
        payload["data"]["call"] |= {"started_at": None, "ended_at": None}
        payload["timestamp"] = None
    assert (await post_webhook(service, payload)).status_code == 204


def entry(start: str, attempts: int = 0, connects: int = 0, expected: int = 0) -> dict[str, Any]:
    return {"start": f"2026-03-{start}:00Z", "attempts": attempts, "connects": connects, "expected": expected}


async def fill(service: httpx.AsyncClient, database: Database) -> None:
    """Two calls at 04:45, of which one is to be repeated at 06:00, and one at 23:30."""
    await store_batch(database.url, 5)
    await post(service, 1, MORNING)
    await post(service, 2, MORNING + timedelta(minutes=14), status="busy", final=False, duration_seconds=60)
    await post(service, 3, MORNING.replace(hour=23, minute=30))


async def test_calls_and_retries_stand_in_the_hour_in_which_they_are(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    assert await read(service) == {
        "step": "hour",
        "values": [entry("16T04:00", 2, 1), entry("16T06:00", expected=1), entry("16T23:00", 1, 1)],
        "has_earlier": False,
        "without_time": 0,
    }
    await post(service, 2, MORNING + timedelta(minutes=75), attempt=2)
    assert (await read(service))["values"][1] == entry("16T06:00", 1, 1)


async def test_hours_and_days_begin_where_those_of_the_time_zone_do(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    assert (await read(service, time_zone="Asia/Kolkata"))["values"] == [
        entry("16T04:30", 2, 1), entry("16T05:30", expected=1), entry("16T23:30", 1, 1),
    ]  # fmt: skip
    days = await read(service, time_zone="Asia/Kolkata", step="day")
    assert days["step"] == "day"
    assert days["values"] == [entry("15T18:30", 2, 1, 1), entry("16T18:30", 1, 1)]


async def test_calls_without_a_time_are_counted_apart(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    await post(service, 4, None)
    shown = await read(service)
    assert (len(shown["values"]), shown["without_time"]) == (3, 1)


async def test_the_timeline_of_an_earlier_time_has_what_was_known_then(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    present = await read(service)
    between = await database.pool.fetchval("SELECT clock_timestamp()")
    await post(service, 4, MORNING + timedelta(days=2))
    assert await read(service, as_of=between.isoformat()) == present
    assert len((await read(service, as_of=between.isoformat(), step="day"))["values"]) == 1
    assert len((await read(service))["values"]) == 4


async def test_an_answer_in_hours_is_not_current_for_days(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    etag = (await service.get(PATH)).headers["etag"]
    codes = [
        (await service.get(PATH, params=params, headers={"if-none-match": etag})).status_code
        for params in ({}, {"step": "hour"}, {"step": "day"})
    ]
    assert codes == [304, 304, 200]
    refused = await service.get(PATH, params={"step": "week"})
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "step: takes one of hour, day")


async def test_a_batch_without_calls_has_an_empty_timeline(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 5)
    assert await read(service) == {"step": "hour", "values": [], "has_earlier": False, "without_time": 0}


def test_only_the_latest_entries_are_shown_in_the_order_of_time() -> None:
    hours = [TimelineCount(MORNING + timedelta(hours=n), n, 0, 0) for n in range(MAX_ENTRIES["hour"] + 1)]
    shown = describe_timeline(hours[::-1], "hour", without_time=0)
    assert [value["attempts"] for value in shown["values"]] == list(range(1, MAX_ENTRIES["hour"] + 1))
    assert shown["has_earlier"] is True
    assert describe_timeline(hours[1:], "hour", without_time=0)["has_earlier"] is False
