"""Batches at a glance: figures, filters, order and pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.outcomes import overview
from service.store.database import Database
from tests.factories import BATCH_ID, BEGAN, decode, make_payload, post_webhook, store_batch
from tests.webhooks.ingesting import ingest


async def read(service: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    answer = await service.get("/v1/batches", params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def ids(service: httpx.AsyncClient, **params: str) -> list[int]:
    return [batch["id"] for batch in (await read(service, **params))["data"]]


async def fill(database: Database) -> None:
    """Six batches of two agents, one a day, with a recipient more than the one before; the first 3, 1, 2, 0, 4 and 0 of
    them are reached, in this order."""
    for number, reached in enumerate((3, 1, 2, 0, 4, 0), start=1):
        await store_batch(
            database.url, 4 + number, batch_id=number, ref_token=f"token{number}", agent_id=100 + number % 2,
            prepared_at=BEGAN + timedelta(days=number), first_phone=100 * number,
        )  # fmt: skip
        name = ("Zeta", "alpha", "Beta 100%", "beta", "gamma", "Delta_1")[number - 1]
        await database.pool.execute("UPDATE batches SET name = $1 WHERE batch_id = $2", name, number)
        calls = [make_payload(recipient=n, ref_token=f"token{number}", agent_id=100 + number % 2, phone=f"+91{n}")
                 for n in range(1, reached + 1)]  # fmt: skip
        if calls:
            await ingest(database, *decode(*calls))


async def set_schedule(database: Database, batch_id: int, **columns: Any) -> None:
    names = ", ".join(columns)
    values = ", ".join(f"${n}" for n in range(2, len(columns) + 2))
    await database.pool.execute(
        f"INSERT INTO batch_schedules (batch_key, due_at, {names}) "
        f"SELECT batch_key, now(), {values} FROM batches WHERE batch_id = $1", batch_id, *columns.values(),
    )  # fmt: skip


async def test_a_batch_is_shown_with_the_figures_of_its_outcomes(
    service: httpx.AsyncClient, database: Database
) -> None:
    now = datetime.now(UTC)
    await store_batch(database.url, 10, prepared_at=now - timedelta(minutes=50))
    began = now - timedelta(minutes=40)
    for recipient in range(1, 5):
        await post_webhook(service, make_payload(recipient=recipient, began=began))
    for recipient, due in ((5, now + timedelta(hours=3)), (6, now - timedelta(minutes=5))):
        payload = make_payload(recipient=recipient, began=began, status="busy", final=False)
        payload["data"]["retry"]["next_retry_at"] = due.isoformat()
        await post_webhook(service, payload)
    await post_webhook(service, make_payload(recipient=7, began=began, attempt=2, status="no_answer"))
    rule = {"results": {"intent": ["promise_to_pay"]}}
    assert (await service.put("/v1/agents/123/goal", json=rule)).status_code == 200
    await database.pool.execute(
        "INSERT INTO goal_counts SELECT batch_key, goal_id, 2147483647, 4 FROM batches, agent_goals "
        "ON CONFLICT (batch_key) DO UPDATE SET counted_to = excluded.counted_to, recipients = excluded.recipients"
    )
    page = await read(service)
    assert (page["total"], page["has_more"]) == (1, False)
    (shown,) = page["data"]
    outcomes = (await service.get(f"/v1/batch-calls/{BATCH_ID}/outcomes")).json()["data"]
    for name in ("verdict", "verdict_text", "last_event_at", "last_reconciled_at", "recipients", "details_outstanding"):
        assert shown[name] == outcomes[name], name
    assert shown["recipients"] == {"total": 10, "processed": 5, "in_progress": 3, "pending_retry": 2}
    assert shown["success_rate"] == outcomes["rates"]["success_rate"]
    assert (shown["reached"], shown["attempts"]) == (4, outcomes["attempts"]["total"])
    assert shown["goal"] == {"met": outcomes["goal"]["met"], "percent": outcomes["rates"]["goal_rate"]["percent"]}
    assert (shown["next_retry_at"], shown["retries_overdue"]) == (outcomes["retries"]["next_at"], 1)
    assert shown["is_running"] is True
    expected = datetime.fromisoformat(shown["expected_end_at"])
    assert now + timedelta(hours=3) - timedelta(minutes=1) <= expected <= now + timedelta(hours=4)


async def test_healing_under_way_and_the_verdicts_reasons_are_shown(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    healing = (
        '{"began_at": "2026-03-16T10:00:00Z", "missing": 5, "total": 7, "expected_at": "2126-03-16T11:00:00Z", '
        '"finals": {"unreachable_count": 5}}'
    )
    await set_schedule(database, 2, verdict="settling", verdict_since=BEGAN, healing=healing)
    (shown,) = (await read(service, q="2"))["data"]
    assert shown["healing"] == {"done": 2, "total": 7, "expected_at": "2126-03-16T11:00:00Z"}
    assert (shown["verdict"], shown["verdict_since"]) == ("settling", "2026-03-16T10:30:00Z")
    assert shown["verdict_text"].startswith("The provider has finished")
    assert (shown["is_running"], shown["expected_end_at"]) == (False, None)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("created", [1, 2, 3, 4, 5, 6]),
        ("name", [2, 4, 3, 6, 5, 1]),
        ("recipients", [1, 2, 3, 4, 5, 6]),
        ("reached", [6, 4, 2, 3, 1, 5]),
        ("success_rate", [6, 4, 2, 3, 5, 1]),  # 0, 0, 1/6, 2/7, 4/9, 3/5
        ("-created", [6, 5, 4, 3, 2, 1]),
        ("-name", [1, 5, 6, 3, 4, 2]),
        ("-reached", [5, 1, 3, 2, 6, 4]),
        ("-success_rate", [1, 5, 3, 2, 6, 4]),
    ],
)
async def test_pages_are_sorted_and_hold_each_batch_once(
    service: httpx.AsyncClient, database: Database, sort: str, order: list[int]
) -> None:
    await fill(database)
    assert await ids(service, sort=sort) == order
    pages = [await read(service, sort=sort, limit="4", offset=offset) for offset in ("0", "4", "8")]
    assert [batch["id"] for page in pages for batch in page["data"]] == order
    assert [(page["total"], page["has_more"]) for page in pages] == [(6, True), (6, False), (6, False)]


async def test_batches_without_an_event_come_last_in_both_directions(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    for batch_id, moment in ((1, 3), (2, 1), (3, 4), (5, 2)):
        await database.pool.execute(
            "UPDATE batch_activity SET last_event_at = $1 "
            "WHERE batch_key = (SELECT batch_key FROM batches WHERE batch_id = $2)",
            BEGAN + timedelta(hours=moment), batch_id,
        )  # fmt: skip
    assert await ids(service, sort="last_event") == [2, 5, 1, 3, 6, 4]
    assert await ids(service, sort="-last_event") == [3, 1, 5, 2, 6, 4]
    assert (await ids(service))[0] == 6


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"q": "BETA"}, [4, 3]),
        ({"q": "100%"}, [3]),
        ({"q": "_"}, [6]),
        ({"q": "1"}, [6, 3, 1]),  # two names contain it, and it is one's id
        ({"q": "no such name"}, []),
        ({"agent_id": "101"}, [5, 3, 1]),
        ({"verdict": "drifted"}, [2]),
        ({"verdict": "unverified", "agent_id": "100"}, [6, 4]),
        ({"campaign_id": "999"}, []),
        ({"from": "2026-03-18", "to": "2026-03-19"}, [3, 2]),
        ({"from": "2026-03-18T10:31:00Z", "to": "2026-03-18T12:00:00Z"}, []),
        ({"from": "2026-03-18", "to": "2026-03-18", "time_zone": "Pacific/Kiritimati"}, [1]),
    ],
)
async def test_filters_choose_batches(
    service: httpx.AsyncClient, database: Database, params: dict[str, str], found: list[int]
) -> None:
    await fill(database)
    await set_schedule(database, 2, verdict="drifted")
    page = await read(service, **params)
    assert [batch["id"] for batch in page["data"]] == found
    assert page["total"] == len(found)


async def test_a_campaigns_batches_are_found_by_its_id(service: httpx.AsyncClient, database: Database) -> None:
    await fill(database)
    await database.pool.execute(
        "UPDATE batches SET campaign_key = 77, campaign_role = CASE batch_id WHEN 3 THEN 'test' ELSE 'main' END "
        "WHERE batch_id IN (3, 4)"
    )
    shown = (await read(service, campaign_id="77"))["data"]
    assert [(batch["id"], batch["campaign_id"], batch["campaign_role"]) for batch in shown] == [
        (4, 77, "main"), (3, 77, "test"),
    ]  # fmt: skip


async def test_a_batch_runs_while_the_provider_has_not_finished_it(
    service: httpx.AsyncClient, database: Database
) -> None:
    """The ids say: hundreds 1 should run, 2 should not."""
    now = datetime.now(UTC)
    old, recent = now - timedelta(days=9), now - timedelta(hours=2)
    kinds: dict[int, tuple[datetime, dict[str, Any] | None]] = {
        101: (recent, {"verdict": "open"}),
        102: (old, {"verdict": "open", "last_reconciled_at": recent}),
        103: (recent, None),
        104: (old, None),  # has a retry due tomorrow
        105: (old, None),  # has a recent event
        201: (recent, {"verdict": "complete"}),
        202: (recent, {"verdict": "settling"}),
        203: (recent, {"verdict": "drifted"}),
        204: (old, {"verdict": "open", "last_reconciled_at": old}),
        205: (old, {"verdict": "unverified", "last_reconciled_at": recent}),
        206: (old, None),  # its retry was due long ago
        207: (recent, None),  # everyone is finished
    }
    for batch_id, (made, schedule) in kinds.items():
        await store_batch(
            database.url, 2, batch_id=batch_id, ref_token=f"t{batch_id}", prepared_at=made, first_phone=batch_id * 10
        )
        if schedule is not None:
            await set_schedule(database, batch_id, **schedule)
    for batch_id, due in ((104, now + timedelta(days=1)), (206, now - timedelta(days=3))):
        await database.pool.execute(
            "INSERT INTO retry_counts SELECT batch_key, $1, 1 FROM batches WHERE batch_id = $2", due, batch_id
        )
    await database.pool.execute(
        "INSERT INTO batch_activity SELECT batch_key, $1 FROM batches WHERE batch_id = 105", recent
    )
    await database.pool.execute(
        "INSERT INTO outcome_counts SELECT batch_key, 'completed', 1, 'webhook', 2, 0, 0 FROM batches "
        "WHERE batch_id = 207"
    )
    running = await read(service, is_running="true")
    assert sorted(batch["id"] for batch in running["data"]) == [101, 102, 103, 104, 105]
    assert all(batch["is_running"] for batch in running["data"])
    others = await read(service, is_running="false")
    assert sorted(batch["id"] for batch in others["data"]) == [201, 202, 203, 204, 205, 206, 207]
    assert not any(batch["is_running"] or batch["expected_end_at"] for batch in others["data"])


async def test_too_many_batches_are_not_sorted_by_a_counter(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database)
    monkeypatch.setattr(overview, "MAX_SORTED", 5)
    refused = await service.get("/v1/batches", params={"sort": "-reached"})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("sort: more than 5 batches match; narrow them with from")
    assert len(await ids(service, sort="-reached", agent_id="100")) == 3
    assert len(await ids(service, sort="last_event")) == 6


async def test_without_batches_the_page_is_empty(service: httpx.AsyncClient) -> None:
    page = await read(service, sort="reached")
    assert (page["data"], page["total"], page["has_more"]) == ([], 0, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sort", "size"), ("is_running", "yes"), ("q", " "), ("q", "x" * 201), ("limit", "101"), ("verdict", "final")],
)
async def test_a_wrong_parameter_is_named(service: httpx.AsyncClient, name: str, value: str) -> None:
    answer = await service.get("/v1/batches", params={name: value})
    assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (400, name)
