"""Outcomes across batches: groups that are the sum of their batches, and say how final they are."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.outcomes import groups
from service.sandbox import sample_contacts
from service.store.database import Database
from tests.conftest import StartService
from tests.factories import BEGAN, decode, make_payload, store_batch
from tests.provider import connect_provider, upload
from tests.webhooks.ingesting import ingest

RANGE = {"from": "2026-03-01", "to": "2026-03-31"}


async def read(service: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    answer = await service.get("/v1/outcomes", params=RANGE | params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def read_all(service: httpx.AsyncClient, **params: str) -> list[dict[str, Any]]:
    """All pages."""
    groups: list[dict[str, Any]] = []
    while True:
        page = await read(service, **params)
        groups += page["data"]
        assert page["has_more"] == (page["next"] is not None)
        if not page["has_more"]:
            return groups
        params["after"] = str(page["next"])


async def fill(database: Database) -> None:
    """Six batches of two agents, three days and two names; each has a recipient more than the one before, and as many
    calls as its number, the first of which is busy."""
    for number in range(1, 7):
        made = BEGAN + timedelta(days=number // 2)
        await store_batch(
            database.url, 4 + number, batch_id=number, ref_token=f"token{number}", agent_id=100 + number % 2,
            prepared_at=made, first_phone=100 * number,
        )  # fmt: skip
        await database.pool.execute("UPDATE batches SET name = $1 WHERE batch_id = $2", "AB"[number % 2], number)
        payloads = [
            make_payload(recipient=n, ref_token=f"token{number}", status="completed" if n > 1 else "busy",
                         final=n > 1, agent_id=100 + number % 2, phone=f"+91{n}")
            for n in range(1, number + 1)
        ]  # fmt: skip
        await ingest(database, *decode(*payloads))
    await database.pool.execute(
        "INSERT INTO batch_schedules (batch_key, due_at, verdict) "
        "SELECT batch_key, now(), CASE WHEN batch_id = 2 THEN 'drifted' ELSE 'complete' END FROM batches "
        "WHERE batch_id IN (2, 4)"
    )


async def test_each_group_is_the_sum_of_its_batches_and_says_how_many_of_them_are_final(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    even, odd = (await read(service, group_by="agent"))["data"]
    assert (even["agent_id"], odd["agent_id"]) == (100, 101)
    assert (even["batches"], even["verdicts"]) == (3, {"complete": 1, "drifted": 1, "unverified": 1})
    assert even["recipients"] == {"total": 24, "processed": 9, "in_progress": 12, "pending_retry": 3}
    assert (even["statuses"]["completed"], even["statuses"]["busy"]) == (9, 0)
    assert even["attempts"] == {"total": 12, "recipients": 12, "connects": 9}
    assert even["rates"]["success_rate"] == {
        "percent": 37.5, "count": 9, "of": 24, "denominator": "recipients.total",
    }  # fmt: skip
    assert even["rates"]["contact_rate"]["percent"] == 75.0
    assert odd["recipients"]["total"] == 21


@pytest.mark.parametrize(
    ("group_by", "keys"),
    [
        ("agent", [100, 101]),
        ("day", ["2026-03-19", "2026-03-18", "2026-03-17", "2026-03-16"]),
        ("name", ["A", "B"]),
        ("campaign", [[6], [5], [4], [3], [2], [1]]),
    ],
)
async def test_pages_hold_each_group_once_in_its_order(
    service: httpx.AsyncClient, database: Database, group_by: str, keys: list[Any]
) -> None:
    await fill(database)
    key = {"agent": "agent_id", "day": "day", "name": "name", "campaign": "batch_ids"}[group_by]
    whole = await read_all(service, group_by=group_by)
    assert [group[key] for group in whole] == keys
    assert sum(group["batches"] for group in whole) == 6
    assert sum(group["recipients"]["total"] for group in whole) == 45
    assert await read_all(service, group_by=group_by, limit="1") == whole


async def test_a_test_batch_and_its_promotion_are_one_campaign(start_service: StartService) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        first = await upload(service, sample_contacts(50, seed=3), test_recipients="10")
        assert first.status_code == 200, first.text
        await sandbox.sandbox.wait_until_done(456)
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        await sandbox.sandbox.wait_until_done(457)
        assert (await upload(service, sample_contacts(7, seed=4), name="Another")).status_code == 200
        await sandbox.sandbox.wait_until_done(458)
        groups = []
        after: dict[str, str] = {}
        while True:
            params = {"group_by": "campaign", "limit": "1", "from": "2026-01-01", "to": "2026-12-31", **after}
            page = (await service.get("/v1/outcomes", params=params)).json()
            groups += page["data"]
            if not page["has_more"]:
                break
            after = {"after": str(page["next"])}
        assert [(group["batches"], group["recipients"]["total"], group["batch_ids"]) for group in groups] == [
            (1, 7, [458]), (2, 50, [456, 457]),
        ]  # fmt: skip
        assert (groups[0]["campaign_id"], groups[1]["name"]) == (None, "March Follow Ups")
        shown = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]["campaign"]
        assert groups[1]["recipients"] == shown["recipients"]
        assert groups[1]["statuses"] == shown["statuses"]


async def test_days_are_those_of_the_time_zone_and_both_ends_are_within(
    service: httpx.AsyncClient, database: Database
) -> None:
    for number, hour in enumerate((18, 19), start=1):  # 23:30 and 00:30 in Kolkata
        made = BEGAN.replace(hour=hour, minute=0)
        await store_batch(database.url, 5, batch_id=number, ref_token=None, prepared_at=made)

    async def days(zone: str, start: str, end: str) -> list[str]:
        params = {"group_by": "day", "time_zone": zone, "from": start, "to": end}
        return [group["day"] for group in (await read(service, **params))["data"]]

    assert await days("UTC", "2026-03-16", "2026-03-16") == ["2026-03-16"]
    assert await days("Asia/Kolkata", "2026-03-01", "2026-03-31") == ["2026-03-17", "2026-03-16"]
    assert await days("Asia/Kolkata", "2026-03-17", "2026-03-17") == ["2026-03-17"]
    assert await days("UTC", "2026-03-16T18:00:00Z", "2026-03-16T19:00:00Z") == ["2026-03-16"]
    assert await days("UTC", "2026-03-16T19:00:01Z", "2026-03-17") == []
    assert await days("UTC", "2026-03-17", "2026-03-31") == []


async def test_one_agents_batches_are_asked_for_by_its_id(service: httpx.AsyncClient, database: Database) -> None:
    await fill(database)
    groups = (await read(service, group_by="name", agent_id="101"))["data"]
    assert [(group["name"], group["batches"]) for group in groups] == [("B", 3)]
    assert (await read(service, agent_id="999"))["data"] == []
    recent = (await service.get("/v1/outcomes")).json()  # the last 30 days, where there is nothing
    assert (recent["data"], recent["group_by"], recent["time_zone"]) == ([], "agent", "UTC")


async def test_more_batches_than_one_answer_adds_up_are_refused_with_what_to_do(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database)
    monkeypatch.setattr(groups, "MAX_BATCHES", 5)
    refused = await service.get("/v1/outcomes", params=RANGE)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("from, to: more than 5 batches")
    assert (await service.get("/v1/outcomes", params=RANGE | {"agent_id": "100"})).status_code == 200


WRONG = {
    "group_by": ["", "agents", "hour"],
    "from": ["", "yesterday", "2026-13-01", "2026-03-16T99:00:00Z"],
    "to": ["", "2026-02-30"],
    "limit": ["0", "201", "x"],
    "agent_id": ["-1", "x"],
    "time_zone": ["Mars/Olympus", ""],
    "after": ["x", "-3", "9" * 30, "2026-03-16"],
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_parameter_is_named(service: httpx.AsyncClient, name: str) -> None:
    for value in WRONG[name]:
        answer = await service.get("/v1/outcomes", params=RANGE | {name: value})
        assert answer.status_code == 400, value
        error = answer.json()["error"]
        assert (error["type"], error["message"].startswith(f"{name}: ")) == ("invalid_request", True), error


@pytest.mark.parametrize(
    ("start", "end"), [("2026-03-16", "2026-03-15"), ("2024-01-01", "2026-03-15"), ("2026-03-16T10:00:00Z",) * 2]
)
async def test_an_empty_or_too_long_period_is_refused(service: httpx.AsyncClient, start: str, end: str) -> None:
    answer = await service.get("/v1/outcomes", params={"from": start, "to": end})
    assert (answer.status_code, answer.json()["error"]["message"][:9]) == (400, "from, to:")


@pytest.mark.parametrize(
    ("group_by", "after"), [("day", "12"), ("day", "2026-99-99"), ("name", "x" * 1001), ("campaign", "x")]
)
async def test_a_cursor_of_another_grouping_is_refused(service: httpx.AsyncClient, group_by: str, after: str) -> None:
    answer = await service.get("/v1/outcomes", params=RANGE | {"group_by": group_by, "after": after})
    assert (answer.status_code, answer.json()["error"]["message"][:6]) == (400, "after:")
