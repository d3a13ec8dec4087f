"""BI tools and API callers see the same numbers: each view is compared with its route, on batches from a sandbox."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from service.formant.events import STATUSES
from service.store.database import Database
from tests.bi.playing import LOSSY, MAIN, TEST, play_batches
from tests.conftest import StartService
from tests.factories import encode, make_payload, post_webhook

BATCHES = (TEST, MAIN, LOSSY)


@pytest.fixture
async def service(start_service: StartService) -> AsyncIterator[httpx.AsyncClient]:
    async with play_batches(start_service) as (client, _):
        yield client


async def get(service: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await service.get(f"/v1/batch-calls/{path}", params=params)
    return answer.raise_for_status().json()["data"]


async def fetch(database: Database, view: str, batch_id: int) -> list[dict[str, Any]]:
    rows = await database.pool.fetch(f"SELECT * FROM {view} WHERE batch_id = $1", batch_id)
    return [dict(row) for row in rows]


def round_off(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


def parse(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


async def test_batch_outcomes_has_one_row_per_batch_with_the_figures_of_the_api(
    service: httpx.AsyncClient, database: Database
) -> None:
    token = await database.pool.fetchval("SELECT ref_token FROM batches WHERE batch_id = 459")
    for recipient, status in ((3, "busy"), (4, "busy"), (5, "completed")):
        final = status == "completed"
        payload = make_payload(recipient=recipient, status=status, final=final, agent_id=125, ref_token=token)
        assert (await post_webhook(service, encode(payload))).status_code == 204
    for batch_id in (459, *BATCHES):
        outcomes = await get(service, f"{batch_id}/outcomes")
        (row,) = await fetch(database, "bi.batch_outcomes", batch_id)
        recipients, rates, talk = outcomes["recipients"], outcomes["rates"], outcomes["duration_seconds"]
        expected = {
            "batch_id": outcomes["batch"]["id"],
            "batch_name": outcomes["batch"]["name"],
            "agent_id": outcomes["batch"]["agent_id"],
            "provider_status": outcomes["batch"]["status"],
            "batch_created_at": parse(outcomes["batch"]["created_at"]),
            "verdict": outcomes["verdict"],
            "verdict_since": parse((outcomes["reconciliation"] or {}).get("verdict_since")),
            "last_event_at": parse(outcomes["last_event_at"]),
            "last_reconciled_at": parse(outcomes["last_reconciled_at"]),
            "campaign_id": outcomes["campaign"] and outcomes["campaign"]["id"],
            **{
                f"recipients_{name}": recipients[name]
                for name in ("total", "processed", "in_progress", "pending_retry")
            },
            **{f"recipients_{status}": outcomes["statuses"][status] for status in STATUSES},
            "attempts_total": outcomes["attempts"]["total"],
            **{f"attempts_{status}": outcomes["attempts"]["by_status"][status] for status in STATUSES},
            "talk_seconds_total": talk["total"],
            "talk_count": talk["count"],
            "recipients_from_webhooks": outcomes["sources"]["webhook"],
            "recipients_healed": outcomes["sources"]["healed"],
            "recipients_attempted": recipients["processed"] + recipients["pending_retry"],
        }
        assert {name: row[name] for name in expected} == expected
        assert json.loads(row["recipients_by_attempts"]) == outcomes["attempts"]["recipients_by_attempts"]
        for name in ("success_rate", "completion_rate", "connect_rate"):
            assert round_off(row[f"{name}_percent"]) == rates[name]["percent"]
        assert round_off(row["talk_seconds_average"]) == talk["average"]
        assert row["penetration_percent"] == 100 * row["recipients_attempted"] / row["recipients_total"]
        assert row["attempts_per_connect"] == row["attempts_total"] / row["attempts_completed"]
        assert (row["recipients_pending_retry"], row["recipients_in_progress"]) == (
            (2, 7) if batch_id == 459 else (0, 0)
        )
    assert row["recipients_healed"] > 0


async def test_the_figures_of_a_campaign_are_the_sums_over_its_batches(
    service: httpx.AsyncClient, database: Database
) -> None:
    held = (await get(service, "459/outcomes"))["campaign"]
    for expected in ((await get(service, f"{MAIN}/outcomes"))["campaign"], held):
        (row,) = await database.pool.fetch(
            "SELECT count(*) AS batches, sum(recipients_total) AS total, sum(recipients_processed) AS processed, "
            "sum(recipients_in_progress) AS in_progress, sum(recipients_completed) AS completed "
            "FROM bi.batch_outcomes WHERE campaign_id = $1",
            expected["id"],
        )
        assert row["batches"] == 2
        assert {name: row[name] for name in ("total", "processed", "in_progress")}.items() <= expected[
            "recipients"
        ].items()
        assert row["completed"] == expected["statuses"]["completed"]
    rows = await database.pool.fetch(
        "SELECT campaign_role, batch_id, upload_state FROM bi.batches WHERE campaign_id = $1 ORDER BY 1 DESC",
        held["id"],
    )
    assert [tuple(row) for row in rows] == [("test", 459, "uploaded"), ("main", None, "held")]


async def test_results_are_the_same_as_in_the_api(service: httpx.AsyncClient, database: Database) -> None:
    for batch_id in BATCHES:
        results = (await get(service, f"{batch_id}/outcomes"))["results"]
        rows = await fetch(database, "bi_full.batch_results", batch_id)
        values: dict[str, dict[str, int]] = {}
        for row in rows:
            values.setdefault(row["name"], {})[row["value"]] = row["recipients"]
            assert row["recipients_with_name"] == results[row["name"]]["total"]
            assert row["share_percent"] == 100 * row["recipients"] / row["recipients_with_name"]
        assert values.keys() == results.keys()
        for name, result in results.items():
            assert result["values"].items() <= values[name].items()
            assert sum(values[name].values()) == result["total"]
        masked = await fetch(database, "bi.batch_results", batch_id)
        assert Counter({r["name"]: 0 for r in masked}) | sum_by_name(masked) == sum_by_name(rows)


def sum_by_name(rows: list[dict[str, Any]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row["name"]] += row["recipients"]
    return sums


async def test_hours_are_the_same_as_in_the_api_in_any_time_zone(
    service: httpx.AsyncClient, database: Database
) -> None:
    for zone in ("UTC", "Asia/Kolkata"):
        by_hour = (await get(service, f"{MAIN}/outcomes", time_zone=zone))["by_hour"]
        rows = await database.pool.fetch(
            "SELECT extract(hour FROM slot_at AT TIME ZONE $2)::integer AS hour, sum(attempts)::integer AS attempts, "
            "sum(connects)::integer AS connects FROM bi.hourly_attempts WHERE batch_id = $1 GROUP BY 1 ORDER BY 1",
            MAIN, zone,
        )  # fmt: skip
        shown = [{name: hour[name] for name in ("hour", "attempts", "connects")} for hour in by_hour]
        assert [dict(row) for row in rows] == [hour for hour in shown if hour["attempts"]]
    hours = await database.pool.fetch("SELECT DISTINCT hour_at FROM bi.hourly_attempts WHERE batch_id = $1", MAIN)
    assert all((row["hour_at"].minute, row["hour_at"].second) == (0, 0) for row in hours)


async def test_recipients_and_their_attempts_are_the_same_as_in_the_api(
    service: httpx.AsyncClient, database: Database
) -> None:
    for batch_id in (LOSSY, 459):
        recipients = {row["recipient"]: row for row in await get(service, f"{batch_id}/recipients")}
        rows = await fetch(database, "bi_full.recipient_outcomes", batch_id)
        assert len(rows) == len(recipients)
        attempts = await fetch(database, "bi_full.call_attempts", batch_id)
        by_recipient = Counter(row["recipient"] for row in attempts)
        for row in rows:
            shown = recipients[row["recipient"]]
            for name, value in shown.items():
                if name == "callbacks":  # not in bi
                    continue
                ours = json.loads(row[name]) if name in {"parameters", "results"} and row[name] else row[name]
                assert (ours.isoformat() if isinstance(ours, datetime) else ours) == (
                    parse(value).isoformat() if isinstance(ours, datetime) else value  # type: ignore[union-attr]
                ), name
            assert by_recipient[row["recipient"]] == row["attempts"]
        assert Counter(row["recipient"] for row in attempts if row["is_latest"]) == dict.fromkeys(by_recipient, 1)
    assert {row["state"] for row in rows} == {"in_progress"}


async def test_an_attempt_with_several_events_is_one_row_with_the_winning_values(
    service: httpx.AsyncClient, database: Database
) -> None:
    token = await database.pool.fetchval("SELECT ref_token FROM batches WHERE batch_id = 459")
    for status, seconds in (("busy", None), ("completed", 75)):
        payload = make_payload(
            recipient=3, attempt=1, agent_id=125, status=status, duration_seconds=seconds or 62, ref_token=token,
            conversation_id="same_1",
        )  # fmt: skip
        assert (await post_webhook(service, encode(payload))).status_code == 204
    (row,) = await fetch(database, "bi_full.call_attempts", 459)
    assert (row["recipient"], row["status"], row["duration_seconds"], row["is_latest"]) == (3, "completed", 75, True)
    (history,) = [fact for fact in (await get(service, "459/recipients/3"))["history"] if fact["won"]]
    assert history["event_id"] == row["event_id"]


async def test_a_withdrawn_recipient_is_in_no_view(service: httpx.AsyncClient, database: Database) -> None:
    await database.pool.execute(
        "SELECT withdraw_recipients(ARRAY[batch_key], ARRAY[7]) FROM batches WHERE batch_id = $1", LOSSY
    )
    for view in ("recipient_outcomes", "call_attempts"):
        for schema in ("bi", "bi_full"):
            rows = await fetch(database, f"{schema}.{view}", LOSSY)
            assert 7 not in {row["recipient"] for row in rows}
            assert len({row["recipient"] for row in rows}) == 79
    (row,) = await fetch(database, "bi.batch_outcomes", LOSSY)
    assert row["recipients_attempted"] == 79


async def test_attempts_add_up_to_the_counters(service: httpx.AsyncClient, database: Database) -> None:
    for batch_id in BATCHES:
        counted = await database.pool.fetch(
            "SELECT slot_at, status, attempts FROM bi.hourly_attempts WHERE batch_id = $1 ORDER BY 1, 2", batch_id
        )
        recounted = await database.pool.fetch(
            "SELECT date_bin('15 minutes', called_at, '2000-01-01Z'), status, count(*) FROM bi.call_attempts "
            "WHERE batch_id = $1 GROUP BY 1, 2 ORDER BY 1, 2",
            batch_id,
        )
        assert [tuple(row) for row in counted] == [tuple(row) for row in recounted]


async def test_reconciliations_and_the_providers_figures_are_listed_over_time(
    service: httpx.AsyncClient, database: Database
) -> None:
    reconciliations = await get(service, f"{LOSSY}/reconciliations")
    rows = sorted(await fetch(database, "bi.reconciliations", LOSSY), key=lambda row: -row["reconciliation_id"])
    assert [(row["reconciliation_id"], row["verdict"], row["healed_calls"]) for row in rows] == [
        (line["reconciliation_id"], line["verdict"], line["healed"]) for line in reconciliations
    ]
    assert [json.loads(row["differences"]) for row in rows] == [line["differences"] for line in reconciliations]
    assert [row["is_latest"] for row in rows] == [True] + [False] * (len(rows) - 1)
    figures = await get(service, f"{LOSSY}/metrics")
    (latest,) = [row for row in await fetch(database, "bi.provider_metrics", LOSSY) if row["is_latest"]]
    assert latest["verdict"] == "complete"
    counts = [name for name in figures if name.endswith("_count") or name == "total_processed"]
    assert {name: latest[name] for name in counts} == {name: figures[name] for name in counts}


async def test_the_masked_views_have_every_row_of_the_full_views(
    service: httpx.AsyncClient, database: Database
) -> None:
    views = await database.pool.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'bi'")
    for name in (row["viewname"] for row in views):
        (counts,) = await database.pool.fetch(
            f"SELECT (SELECT count(*) FROM bi.{name}) AS masked, (SELECT count(*) FROM bi_full.{name}) AS whole"
        )
        assert counts["masked"] == counts["whole"] > 0 or name in {"batch_results", "other_calls"}, name
