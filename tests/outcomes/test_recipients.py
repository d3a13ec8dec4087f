"""Recipients over HTTP: page by page, by state, and with where each word came from."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from service.store.database import Database
from tests.factories import BATCH_ID, decode, make_payload, post_webhook, store_batch
from tests.webhooks.ingesting import ingest

PATH = f"/v1/batch-calls/{BATCH_ID}/recipients"


async def read_all(service: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    """All pages."""
    rows: list[dict[str, Any]] = []
    while True:
        page = (await service.get(PATH, params=params)).json()
        rows += page["data"]
        assert page["has_more"] == (page["next"] is not None)
        if not page["has_more"]:
            return rows
        params["after"] = page["next"]


async def test_each_recipient_comes_once_with_what_decided_its_outcome(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 25)
    first = make_payload(recipient=2, attempt=1, status="busy", final=False, event_id="first")
    second = make_payload(recipient=2, attempt=2, event_id="second", results={"intent": "paid"})
    for payload in (second, first):
        assert (await post_webhook(service, payload)).status_code == 204
    rows = await read_all(service, limit=7)
    assert [row["recipient"] for row in rows] == list(range(1, 26))
    assert (rows[0]["state"], rows[0]["status"], rows[0]["attempts"], rows[0]["event_id"]) == (
        "in_progress", None, 0, None,
    )  # fmt: skip
    decided = rows[1]
    assert (decided["state"], decided["attempts"], decided["event_id"]) == ("completed", 2, "second")
    assert (decided["source"], decided["method"], decided["results"]) == ("webhook", "reference", {"intent": "paid"})
    assert decided["parameters"] == {"loan_id": "LN-2"}
    assert decided["known_at"] is not None


@pytest.mark.parametrize("scanned", [1, 3, 10_000])
async def test_a_state_is_found_however_rare_it_is(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    monkeypatch.setattr("service.outcomes.recipients_http.FILTER_SCAN_RECIPIENTS", scanned)
    await store_batch(database.url, 12)
    for number in (3, 4, 11):
        await post_webhook(service, make_payload(recipient=number, status="busy"))
    for limit in (1, 2, 100):
        assert [row["recipient"] for row in await read_all(service, state="busy", limit=limit)] == [3, 4, 11]
    assert len(await read_all(service, state="in_progress")) == 9
    assert await read_all(service, state="unreachable") == []


async def test_one_recipient_shows_every_word_that_is_known_of_it(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 3)
    began = make_payload(recipient=1, attempt=1, status="busy", final=False, event_id="a", conversation_id="c_1")
    again = began | {"event_id": "b", "timestamp": "2026-03-17T00:00:00+00:00"}
    last = make_payload(recipient=1, attempt=2, event_id="d", conversation_id="c_2")
    for payload in (last, began, again):
        await post_webhook(service, payload)
    shown = (await service.get(f"{PATH}/1")).json()["data"]
    assert (shown["state"], shown["attempts"], shown["event_id"]) == ("completed", 2, "d")
    assert [(fact["event_id"], fact["won"], fact["decided"]) for fact in shown["history"]] == [
        ("a", False, False),
        ("b", True, False),
        ("d", True, True),
    ]
    assert (await service.get(f"{PATH}/2")).json()["data"]["history"] == []


async def test_an_unknown_recipient_or_batch_and_a_wrong_filter_are_refused(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 3)
    for path in (f"{PATH}/4", f"{PATH}/0", f"{PATH}/x", f"{PATH}/99999999999", "/v1/batch-calls/999/recipients"):
        assert (await service.get(path)).status_code == 404, path
    for params, name in (({"state": "done"}, "state"), ({"limit": 0}, "limit"), ({"after": "x"}, "after")):
        answer = await service.get(PATH, params=params)
        assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (400, name)
    assert (await service.get(PATH, headers={"authorization": ""})).status_code == 401


async def fill_for_filters(service: httpx.AsyncClient, database: Database) -> None:
    """1: busy, then paid. 2: paid. 3: refused, and says so in two words with a colon. 4: busy, healed. 5: nothing."""
    await store_batch(database.url, 5)
    for payload in (
        make_payload(recipient=1, attempt=1, status="busy", final=False),
        make_payload(recipient=1, attempt=2, results={"intent": "paid", "amount": 5}),
        make_payload(recipient=2, results={"intent": "paid", "amount": 7}),
        make_payload(recipient=3, results={"intent": "no: never"}),
    ):
        assert (await post_webhook(service, payload)).status_code == 204
    await ingest(database, decode(make_payload(recipient=4, status="busy"))[0]._replace(source="healed"))


FILTERS: list[tuple[dict[str, str], list[int]]] = [
    ({"source": "healed"}, [4]),
    ({"source": "webhook"}, [1, 2, 3]),
    ({"min_attempts": "2"}, [1]),
    ({"max_attempts": "0"}, [5]),
    ({"min_attempts": "1", "max_attempts": "1"}, [2, 3, 4]),
    ({"result": "intent:paid"}, [1, 2]),
    ({"result": "intent:no: never"}, [3]),
    ({"result": "amount:7"}, [2]),
    ({"result": "amount:"}, []),
    ({"state": "completed", "result": "intent:paid", "min_attempts": "2"}, [1]),
]


@pytest.mark.parametrize("scanned", [2, 10_000])
async def test_filters_narrow_together_whatever_a_page_looks_at(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    monkeypatch.setattr("service.outcomes.recipients_http.FILTER_SCAN_RECIPIENTS", scanned)
    await fill_for_filters(service, database)
    for params, expected in FILTERS:
        for limit in (1, 100):
            assert [row["recipient"] for row in await read_all(service, limit=limit, **params)] == expected, params


async def test_what_changed_since_a_time_is_found_by_it(service: httpx.AsyncClient, database: Database) -> None:
    await fill_for_filters(service, database)
    moment = (await database.pool.fetchval("SELECT clock_timestamp()")).isoformat()
    assert await read_all(service, changed_since=moment) == []
    await post_webhook(service, make_payload(recipient=3, attempt=2))
    assert [row["recipient"] for row in await read_all(service, changed_since=moment)] == [3]
    assert len(await read_all(service, changed_since="2026-03-16")) == 4
    day = datetime.fromisoformat(moment).astimezone(ZoneInfo("Pacific/Kiritimati")).date()
    assert len(await read_all(service, changed_since=str(day), time_zone="Pacific/Kiritimati")) == 4
    assert await read_all(service, changed_since=str(day), time_zone="Etc/GMT+12") == []  # begins 26 hours later


WRONG_FILTERS = {
    "source": ["", "telephone"],
    "min_attempts": ["-1", "x", "9" * 30],
    "max_attempts": ["-1", "x"],
    "changed_since": ["", "yesterday", "2026-03-16T99:00Z"],
    "result": ["", "intent", ":paid", "intent:\0"],
}


@pytest.mark.parametrize("name", WRONG_FILTERS)
async def test_a_filter_that_cannot_be_used_is_named(service: httpx.AsyncClient, database: Database, name: str) -> None:
    await store_batch(database.url, 1)
    for value in WRONG_FILTERS[name]:
        answer = await service.get(PATH, params={name: value})
        assert answer.status_code == 400, value
        assert answer.json()["error"]["message"].startswith(f"{name}: ")
    crossed = await service.get(PATH, params={"min_attempts": 3, "max_attempts": 2})
    assert crossed.json()["error"]["message"].startswith("min_attempts, max_attempts: ")
