"""Comparisons: the figures of …/outcomes side by side, with verdicts that name no winner where there is none."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.console.rendering import format_side
from service.store.database import Database
from tests.console.visiting import sign_in
from tests.factories import BEGAN, decode, make_payload, store_batch
from tests.webhooks.ingesting import ingest

SIZE = 200


async def add_batch(database: Database, batch_id: int, *, completed: int, size: int = SIZE, made: datetime = BEGAN,
                    agent_id: int = 7, results: dict[str, Any] | None = None) -> None:  # fmt: skip
    """A batch with one call each, the first ``completed`` of which are completed."""
    await store_batch(
        database.url, size, batch_id=batch_id, ref_token=f"token{batch_id}", agent_id=agent_id, prepared_at=made,
        first_phone=1000 * batch_id,
    )  # fmt: skip
    payloads = [
        make_payload(
            recipient=n, ref_token=f"token{batch_id}", status="completed" if n <= completed else "busy",
            agent_id=agent_id, phone=f"+91{7_000_000_000 + 1000 * batch_id + n - 1}", results=results,
            duration_seconds=40 + n % 20,
        )
        for n in range(1, size + 1)
    ]  # fmt: skip
    await ingest(database, *decode(*payloads))


async def set_verdict(database: Database, *batch_ids: int) -> None:
    await database.pool.execute(
        "INSERT INTO batch_schedules (batch_key, due_at, verdict) "
        "SELECT batch_key, now(), 'complete' FROM batches WHERE batch_id = ANY ($1::bigint[])",
        batch_ids,
    )


async def compare(service: httpx.AsyncClient, left: str, right: str, **params: str) -> dict[str, Any]:
    answer = await service.get("/v1/compare", params={"left": left, "right": right, **params})
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


async def test_both_sides_have_the_figures_of_their_batches_and_a_verdict(
    service: httpx.AsyncClient, database: Database
) -> None:
    await add_batch(database, 1, completed=60)
    await add_batch(database, 2, completed=100)
    await set_verdict(database, 1, 2)
    compared = await compare(service, "batch:1", "batch:2")
    figures = by_name(compared["figures"])
    for side, batch_id in (("left", 1), ("right", 2)):
        outcomes = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
        assert compared[side]["recipients"] == outcomes["recipients"]
        assert (compared[side]["batch_ids"], compared[side]["is_final"]) == ([batch_id], True)
        for name, rate in outcomes["rates"].items():
            shown = figures[name][side]
            if name == "attempts_per_connect":
                assert (shown["value"], shown["count"], shown["of"]) == (rate["ratio"], rate["count"], rate["of"])
            elif name != "goal_rate":
                assert (shown["count"], shown["of"], shown["denominator"]) == (
                    rate["count"],
                    rate["of"],
                    rate["denominator"],
                )
        assert figures["average_talk_seconds"][side]["value"] == outcomes["duration_seconds"]["average"]
    success = figures["success_rate"]
    assert (success["left"]["value"], success["right"]["value"]) == (30.0, 50.0)
    assert success["left"]["low"] < 30 < success["left"]["high"]
    assert success["difference"]["value"] == 20.0
    assert 10 < success["difference"]["low"] < 20 < success["difference"]["high"] < 30
    assert (success["verdict"], success["verdict_text"]) == ("higher", "The right side is higher")
    assert figures["attempts_per_connect"]["verdict"] == "lower"
    assert figures["penetration"]["verdict"] == "too_few"  # everybody on both sides: nothing to test
    assert figures["average_talk_seconds"]["verdict"] == "no_clear_difference"
    assert figures["goal_rate"]["verdict"] == "unknown"
    assert compared["notes"] == []
    swapped = by_name((await compare(service, "batch:2", "batch:1"))["figures"])
    assert swapped["success_rate"]["verdict"] == "lower"
    assert swapped["success_rate"]["difference"]["low"] == -success["difference"]["high"]


async def test_nobody_wins_by_chance_or_with_too_few(service: httpx.AsyncClient, database: Database) -> None:
    await add_batch(database, 1, completed=60)
    await add_batch(database, 2, completed=66)
    await add_batch(database, 3, completed=29, size=29)
    await store_batch(database.url, 500, batch_id=4, ref_token="token4", agent_id=7)
    even = by_name((await compare(service, "batch:1", "batch:2"))["figures"])
    assert even["success_rate"]["verdict"] == "no_clear_difference"
    few = by_name((await compare(service, "batch:1", "batch:3"))["figures"])
    assert few["success_rate"]["verdict"] == few["connect_rate"]["verdict"] == "too_few"
    none = by_name((await compare(service, "batch:1", "batch:4"))["figures"])
    assert none["connect_rate"]["right"] == {
        "value": None, "low": None, "high": None, "count": 0, "of": 0, "denominator": "attempts.total",
    }  # fmt: skip
    assert none["connect_rate"]["verdict"] == "too_few"
    assert none["connect_rate"]["difference"] is None
    assert none["attempts_per_connect"]["verdict"] == "unknown"


async def test_a_side_that_is_not_final_is_noted(service: httpx.AsyncClient, database: Database) -> None:
    await add_batch(database, 1, completed=60)
    await add_batch(database, 2, completed=66)
    await set_verdict(database, 2)
    compared = await compare(service, "batch:1", "batch:2")
    assert [(note["code"], note["side"]) for note in compared["notes"]] == [("not_final", "left")]
    assert compared["notes"][0]["text"] == "Figures of the left side may still change"
    assert compared["left"]["verdicts"] == {"unverified": 1}


async def test_weeks_campaigns_and_tests_are_sides_too(service: httpx.AsyncClient, database: Database) -> None:
    for batch_id, days in ((1, 0), (2, 6), (3, 7), (4, 8)):
        await add_batch(database, batch_id, completed=20, size=40, made=BEGAN + timedelta(days=days))
    await add_batch(database, 5, completed=20, size=40, agent_id=8)
    await database.pool.execute(
        "UPDATE batches SET campaign_key = (SELECT batch_key FROM batches WHERE batch_id = 4), "
        "campaign_role = CASE batch_id WHEN 3 THEN 'test' ELSE 'main' END WHERE batch_id IN (3, 4)"
    )
    campaign = await database.pool.fetchval("SELECT campaign_key FROM batches WHERE batch_id = 4")
    for left, right, expected in (
        ("agent:7:2026-03-16..2026-03-22", "agent:7:2026-03-23..2026-03-29", ([1, 2], [3, 4])),
        ("period:2026-03-16..2026-03-22", "batch:3", ([1, 2, 5], [3])),
        ("agent:7:2026-03-16T00:00Z..2026-03-22T00:00Z", f"campaign:{campaign}", ([1], [3, 4])),
        (f"test:{campaign}", f"main:{campaign}", ([3], [4])),
    ):
        compared = await compare(service, left, right)
        assert (compared["left"]["batch_ids"], compared["right"]["batch_ids"]) == expected
        assert compared["left"]["recipients"]["total"] == 40 * len(expected[0])
        assert (compared["left"]["side"], compared["right"]["side"]) == (left, right)
    empty = await compare(service, "agent:9:2026-03-16..2026-03-22", "batch:1")
    assert [(note["code"], note["side"]) for note in empty["notes"]] == [("no_batches", "left"), ("not_final", "right")]
    # In New York, a batch of half past ten is of the same day; 18 hours later it is not.
    west = await compare(service, "agent:7:2026-03-16..2026-03-16", "batch:3", time_zone="Pacific/Kiritimati")
    assert west["left"]["batches"] == 0


async def test_values_and_caller_numbers_are_compared_with_a_correction(
    service: httpx.AsyncClient, database: Database
) -> None:
    await add_batch(database, 1, completed=100)
    await add_batch(database, 2, completed=150)
    for batch_id, moved in ((1, 20), (2, 60)):
        await ingest(database, *decode(*[
            make_payload(recipient=n, ref_token=f"token{batch_id}", attempt=2, agent_id=7,
                         results={"intent": "refused"}, phone=f"+91{7_000_000_000 + 1000 * batch_id + n - 1}")
            for n in range(1, moved + 1)
        ]))  # fmt: skip
    compared = await compare(service, "batch:1", "batch:2", by="results.intent")
    assert (compared["by"], compared["results"]) == ("results.intent", ["intent"])
    assert compared["correction"] == {"method": "benjamini_hochberg", "false_discovery_percent": 5}
    values = by_name(compared["values"])
    assert list(values) == ["promise_to_pay", "refused"]
    assert (values["refused"]["left"]["count"], values["refused"]["left"]["of"]) == (20, 100)
    assert (values["refused"]["right"]["count"], values["refused"]["right"]["of"]) == (60, 150)
    assert (values["refused"]["verdict"], values["promise_to_pay"]["verdict"]) == ("higher", "lower")
    assert values["refused"]["p_value"] <= values["refused"]["adjusted_p_value"]
    callers = await compare(service, "batch:1", "batch:2", by="caller_numbers")
    (number,) = callers["values"]
    assert (number["name"], number["left"]["count"], number["left"]["of"]) == ("+918000000000", 120, 220)
    assert (number["right"]["count"], number["right"]["of"]) == (210, 260)
    assert number["verdict"] == "higher"


async def test_the_side_without_batches_is_named(service: httpx.AsyncClient, database: Database) -> None:
    await add_batch(database, 1, completed=60)
    nowhere, elsewhere = "period:2020-11-17..2020-11-23", "period:2020-12-28..2021-01-03"
    for left, right, said in (
        (nowhere, "batch:1", "No batches on the left"),
        ("batch:1", nowhere, "No batches on the right"),
        (nowhere, elsewhere, "No batches on either side"),
    ):
        compared = await compare(service, left, right)
        assert {row["verdict_text"] for row in compared["figures"]} == {said}
    visitor = await sign_in(service)
    page = await visitor.read(f"/console/compare?left={nowhere}&right={elsewhere}")
    assert "<h2>Left: 17 to 23 Nov 2020</h2>" in page
    assert "<h2>Right: 28 Dec 2020 to 3 Jan 2021</h2>" in page


async def test_a_figure_that_one_side_lacks_says_which(service: httpx.AsyncClient, database: Database) -> None:
    await add_batch(database, 1, completed=60)
    await store_batch(database.url, 500, batch_id=4, ref_token="token4", agent_id=7)
    figures = by_name((await compare(service, "batch:1", "batch:4"))["figures"])
    assert figures["attempts_per_connect"]["verdict_text"] == "Not known on the right"
    figures = by_name((await compare(service, "batch:4", "batch:1"))["figures"])
    assert figures["attempts_per_connect"]["verdict_text"] == "Not known on the left"
    assert figures["goal_rate"]["verdict_text"] == "Not known on both sides"


@pytest.mark.parametrize(
    ("side", "words"),
    [
        ("batch:456", "Batch 456"),
        ("campaign:5", "Campaign 5"),
        ("test:5", "Test batch of campaign 5"),
        ("main:5", "Main batch of campaign 5"),
        ("agent:7:2026-10-28..2026-11-03", "Agent 7, 28 Oct to 3 Nov 2026"),
        ("period:2026-11-17..2026-11-17", "17 Nov 2026"),
        ("period:2026-11-17T10:00..2026-11-18", "2026-11-17T10:00 to 2026-11-18"),
    ],
)
def test_a_side_is_named_in_words(side: str, words: str) -> None:
    assert format_side(side) == words


async def test_goals_that_differ_are_noted(service: httpx.AsyncClient, database: Database) -> None:
    await add_batch(database, 1, completed=60)
    await add_batch(database, 2, completed=60, agent_id=8)
    for agent_id, value in ((7, "promise_to_pay"), (8, "paid")):
        rule = {"results": {"intent": [value]}}
        assert (await service.put(f"/v1/agents/{agent_id}/goal", json=rule)).status_code == 200
    codes = {note["code"] for note in (await compare(service, "batch:1", "batch:2"))["notes"]}
    assert "different_goals" in codes


@pytest.mark.parametrize(
    ("params", "status", "message"),
    [
        ({"right": "batch:1"}, 400, "left: is missing; it takes batch:ID, "),
        ({"left": "batch:1"}, 400, "right: is missing; it takes batch:ID, "),
        ({"left": "batch:1", "right": "batch:x"}, 400, "right: takes batch:ID, "),
        ({"left": "week:1", "right": "batch:1"}, 400, "left: takes batch:ID, "),
        ({"left": "agent:7", "right": "batch:1"}, 400, "left: FROM and TO take a day"),
        ({"left": "agent:x:2026-03-16..2026-03-17", "right": "batch:1"}, 400, "left: takes batch:ID, "),
        ({"left": "period:2026-03-16", "right": "batch:1"}, 400, "left: FROM and TO take a day"),
        ({"left": "period:2026-03-17..2026-03-16", "right": "batch:1"}, 400, "left: the period must end after"),
        ({"left": "period:2025-01-01..2026-03-16", "right": "batch:1"}, 400, "left: a period takes at most 366 days"),
        ({"left": "batch:1", "right": "period:2026-03-16..2026-03-16"}, 400, "left, right: both have batch 1; "),
        ({"left": "batch:1", "right": "batch:99"}, 404, "right: there is no batch 99"),
        ({"left": "test:5", "right": "batch:1"}, 404, "left: there is no test 5"),
        ({"left": "batch:1", "right": "batch:2", "by": "hour"}, 400, "by: takes one of caller_numbers"),
        ({"left": "batch:1", "right": "batch:2", "by": "results.x"}, 400, "by: takes one of caller_numbers"),
        ({"left": "batch:1", "right": "batch:2", "time_zone": "Mars"}, 400, "time_zone: takes "),
    ],
)  # fmt: skip
async def test_what_cannot_be_compared_is_refused_with_the_remedy(
    service: httpx.AsyncClient, database: Database, params: dict[str, str], status: int, message: str
) -> None:
    await add_batch(database, 1, completed=2, size=2)
    await store_batch(database.url, 1, batch_id=2, ref_token=None, first_phone=5000)
    answer = await service.get("/v1/compare", params=params)
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(message)
