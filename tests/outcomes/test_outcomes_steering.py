"""The figures that outbound teams steer by: contacts, retries outstanding, talk time, and when people answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from service.store.database import Database
from tests.factories import BATCH_ID, BEGAN, make_payload, post_webhook, store_batch

PATH = f"/v1/batch-calls/{BATCH_ID}/outcomes"


async def read(service: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    answer = await service.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def post(service: httpx.AsyncClient, **fields: Any) -> None:
    assert (await post_webhook(service, make_payload(**fields))).status_code == 204


def due_in(payload: dict[str, Any], moment: datetime | None) -> dict[str, Any]:
    """The same event, with its retry due at ``moment``."""
    payload["data"]["retry"]["next_retry_at"] = moment and moment.isoformat()
    return payload


async def test_a_recipient_that_any_attempt_reached_is_contacted_though_its_last_one_was_not(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 8)
    await post(service, recipient=1)
    await post(service, recipient=2, attempt=1, final=False)
    await post(service, recipient=2, attempt=2, status="busy")
    await post(service, recipient=3, attempt=1, status="no_answer", final=False)
    await post(service, recipient=4, status="unreachable")
    shown = await read(service)
    assert shown["attempts"]["recipients"] == 4
    assert shown["attempts"]["connects"] == 2
    rates = shown["rates"]
    assert (rates["penetration"]["count"], rates["penetration"]["of"], rates["penetration"]["percent"]) == (4, 8, 50.0)
    assert (rates["contact_rate"]["count"], rates["contact_rate"]["of"]) == (2, 4)
    assert (rates["connect_rate"]["count"], rates["connect_rate"]["of"]) == (2, 5)
    assert rates["attempts_per_connect"]["ratio"] == 2.5
    assert (rates["success_rate"]["count"], rates["success_rate"]["of"]) == (1, 8)


async def test_retries_show_how_many_are_overdue_due_soon_and_later_and_when_the_next_is(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 10)
    now = datetime.now(UTC).replace(second=30, microsecond=0)
    times = [
        now - timedelta(hours=3), now - timedelta(minutes=2), now + timedelta(minutes=20), now + timedelta(minutes=20),
        now + timedelta(days=2), None,
    ]  # fmt: skip
    for recipient, moment in enumerate(times, start=1):
        payload = make_payload(recipient=recipient, status="busy", final=False)
        assert (await post_webhook(service, due_in(payload, moment))).status_code == 204
    shown = (await read(service))["retries"]
    assert (shown["outstanding"], shown["overdue"], shown["due_within_hour"]) == (6, 2, 2)
    assert (shown["due_later"], shown["without_time"]) == (1, 1)

    def minute(moment: datetime) -> str:
        return moment.replace(second=0).isoformat().replace("+00:00", "Z")

    assert (shown["earliest_at"], shown["next_at"]) == (
        minute(now - timedelta(hours=3)),
        minute(now + timedelta(minutes=20)),
    )
    for recipient in range(1, 7):
        await post(service, recipient=recipient, attempt=2)
    shown = (await read(service))["retries"]
    assert (shown["outstanding"], shown["overdue"], shown["due_later"]) == (0, 0, 0)
    assert (shown["earliest_at"], shown["next_at"]) == (None, None)


async def test_talk_time_has_percentiles_of_the_completed_and_says_how_exact_they_are(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 10)
    for recipient, seconds in enumerate((10, 20, 30, 40, 50, 60, 61, 62, 63, 200), start=1):
        await post(service, recipient=recipient, duration_seconds=seconds)
    shown = (await read(service))["duration_seconds"]
    assert (shown["p50"], shown["p90"], shown["average"], shown["count"]) == (50, 63, 59.6, 10)
    assert abs(shown["p99"] - 200) <= 0.016 * 200
    assert shown["precision"]["within_percent"] == 1.6
    await post(service, recipient=10, attempt=2, duration_seconds=5)
    assert (await read(service))["duration_seconds"]["p99"] == 63


async def test_hours_and_weekdays_are_those_of_the_requested_time_zone(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 3)
    late_on_monday = BEGAN.replace(hour=22)  # UTC; 03:30 on Tuesday in Kolkata, 15:00 on Monday in Los Angeles
    await post(service, recipient=1, began=late_on_monday)
    await post(service, recipient=2, began=late_on_monday, status="busy")
    for zone, weekday, hour in (("UTC", 1, 22), ("Asia/Kolkata", 2, 4), ("America/Los_Angeles", 1, 15)):
        shown = await read(service, time_zone=zone)
        rate = {"percent": 50.0, "low_percent": 9.5, "high_percent": 90.5, "attempts": 2}
        assert shown["by_weekday"][weekday - 1] == {
            "weekday": weekday, "attempts": 2, "connects": 1, "connect_rate": rate,
        }  # fmt: skip
        assert sum(row["attempts"] for row in shown["by_weekday"]) == 2
        assert shown["by_weekday_hour"][weekday - 1]["attempts"][hour] == 2
        assert shown["by_hour"][hour] == {"hour": hour, "attempts": 2, "connects": 1, "connect_rate": rate}
    refused = await service.get(PATH, params={"time_zone": "Mars/Olympus"})
    assert (refused.status_code, refused.json()["error"]["message"][:10]) == (400, "time_zone:")
