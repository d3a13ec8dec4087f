"""Filters find the same people in a list, as of a time, and in every export."""

import json
from typing import Any

import httpx
import pytest

from service.store.database import Database
from tests.factories import BATCH_ID, make_payload, post_webhook, store_batch

PATH = f"/v1/batch-calls/{BATCH_ID}"
KOLKATA = {"time_zone": "Asia/Kolkata"}


@pytest.fixture
async def filled(service: httpx.AsyncClient, database: Database) -> httpx.AsyncClient:
    """1: busy, then promised for a day. 2: promised for a time. 3: refused. 4: failed. 5: will be called again. 6: not
    called."""
    await store_batch(database.url, 6)
    await database.pool.execute(
        'UPDATE recipients SET parameters = \'{"city": "Pune, West", "n": 5}\' WHERE recipient_no IN (1, 6)'
    )
    for payload in (
        make_payload(recipient=1, attempt=1, status="busy", final=False),
        make_payload(recipient=1, attempt=2, results={"intent": "promise", "date": "2026-03-20", "sure": True}),
        make_payload(recipient=2, results={"intent": "promise", "date": "2026-03-20T18:45:00Z"}),
        make_payload(recipient=3, results={"intent": "refused, for now", "date": "2026-02-31"}),
        make_payload(recipient=4, status="failed", results={}),
        make_payload(recipient=5, attempt=1, status="no_answer", final=False),
    ):
        assert (await post_webhook(service, payload)).status_code == 204
    return service


FOUND: list[tuple[dict[str, Any], list[int]]] = [
    ({"state": "failed,pending_retry"}, [4, 5]),
    ({"state": "in_progress,failed,failed"}, [4, 6]),
    ({"status": "no_answer,completed"}, [1, 2, 3, 5]),
    ({"source": "webhook,healed"}, [1, 2, 3, 4, 5]),
    ({"min_attempts": 2}, [1]),
    ({"result": ["intent:promise", "intent:refused, for now"]}, [1, 2, 3]),
    ({"result": ["intent:promise", "sure:true"]}, [1]),
    ({"result": "other:"}, []),
    ({"parameter": "city:Pune, West"}, [1, 6]),
    ({"parameter": ["city:Pune, West", "n:5", "n:6"], "max_attempts": 0}, [6]),
    ({"parameter": "loan_id:LN-2"}, [2]),
    ({"failure_reason": ["failed", "busy"]}, [4]),
    ({"phone": "+917000000003"}, [3]),
    ({"phone": " 91 70000-00003"}, [3]),
    ({"phone": "+917000000099"}, []),
    ({"result_between": "date:2026-03-20..2026-03-20"}, [1, 2]),
    ({"result_between": "date:2026-03-20..2026-03-20", **KOLKATA}, [1]),
    ({"result_between": "date:2026-03-21..", **KOLKATA}, [2]),
    ({"result_between": "date:..2026-03-20T18:45:00Z"}, [1]),
    ({"result_between": "date:2026-01-01..2026-12-31"}, [1, 2]),
    ({"result_between": "sure:2026-01-01.."}, []),
    ({"changed_since": "2026-03-16", "state": "completed", "result": "intent:promise"}, [1, 2]),
]


async def list_numbers(service: httpx.AsyncClient, **params: Any) -> list[int]:
    """Those of all pages."""
    found: list[int] = []
    after = 0
    while True:
        answer = await service.get(f"{PATH}/recipients", params=params | {"after": after})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [row["recipient"] for row in page["data"]]
        if not page["has_more"]:
            return found
        after = page["next"]


@pytest.mark.parametrize("scanned", [2, 10_000])
async def test_a_list_and_each_export_find_the_same_people(
    filled: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    monkeypatch.setattr("service.outcomes.recipients_http.FILTER_SCAN_RECIPIENTS", scanned)
    now = (await database.pool.fetchval("SELECT clock_timestamp()")).isoformat()
    for params, expected in FOUND:
        assert await list_numbers(filled, **params) == expected, params
        if "changed_since" not in params:
            assert await list_numbers(filled, **params, as_of=now) == expected, params
        for path in (f"{PATH}/recipients.ndjson", "/v1/exports/recipients.ndjson"):
            exported = await filled.get(path, params=params)
            assert [json.loads(line)["recipient"] for line in exported.text.splitlines()] == expected, (path, params)


async def test_only_a_filter_by_state_is_counted_beforehand(filled: httpx.AsyncClient) -> None:
    for params, expected in FOUND:
        answer = await filled.get(f"{PATH}/recipients.csv", params=params)
        rows = str(len(expected)) if params.keys() == {"state"} else None
        assert answer.headers.get("x-outcomes-rows") == rows, params


async def test_a_file_to_upload_takes_the_same_filters(filled: httpx.AsyncClient) -> None:
    answer = await filled.get(f"{PATH}/recipients.csv", params={"layout": "upload", "result": "intent:promise"})
    assert [line.partition(",")[0] for line in answer.text.splitlines()[1:]] == ["+917000000001", "+917000000002"]


async def test_filters_of_attempts_are_about_each_attempt_and_leave_its_place(filled: httpx.AsyncClient) -> None:
    for params, expected in (
        ({"status": "busy,no_answer"}, [(1, 1), (5, 1)]),
        ({"result": "intent:promise"}, [(1, 2), (2, 1)]),
        ({"phone": "917000000001"}, [(1, 1), (1, 2)]),
        ({"parameter": "city:Pune, West", "failure_reason": "busy"}, [(1, 1)]),
        ({"result_between": "date:2026-03-20.."}, [(1, 2), (2, 1)]),
        ({"changed_since": "2999-01-01"}, []),
    ):
        answer = await filled.get(f"{PATH}/attempts.ndjson", params=params)
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert [(row["recipient"], row["attempt"]) for row in rows] == expected, params
        assert "x-outcomes-rows" not in answer.headers
    refused = await filled.get(f"{PATH}/attempts.ndjson", params={"state": "busy"})
    assert refused.json()["error"]["message"].startswith("state: is not a parameter of this call")


WRONG: dict[str, list[str]] = {
    "state": ["busy,", "busy, failed", ",", "done"],
    "status": ["pending_retry", ""],
    "parameter": ["city", ":x", "a:\0", ""],
    "failure_reason": ["", "\0"],
    "phone": ["", "nobody", "12", "+91700"],
    "result_between": [
        "date", "date:2026-03-20", "date:..", "date:x..2026-03-20", ":2026-03-20..", "date:2026-03-21..2026-03-20",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("path", [f"{PATH}/recipients", f"{PATH}/recipients.csv", "/v1/exports/recipients.csv"])
async def test_a_filter_that_cannot_be_used_is_named_with_what_it_takes(
    service: httpx.AsyncClient, database: Database, name: str, path: str
) -> None:
    await store_batch(database.url, 1)
    for value in WRONG[name]:
        answer = await service.get(path, params={name: value})
        assert answer.status_code == 400, value
        assert answer.json()["error"]["message"].startswith(f"{name}: ")


async def test_what_may_be_repeated_may_not_be_repeated_without_end(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 1)
    for params, message in (
        ({"result": ["a:b"] * 21}, "result: was given 21 times; 20 are the most"),
        ({"state": ["busy", "failed"]}, "state: was given 2 times; once is enough"),
        (
            {"result_between": ["d:2026-01-01..", "d:..2026-01-02"]},
            "result_between: was given twice for one name; give one range",
        ),
    ):  # fmt: skip
        answer = await service.get(f"{PATH}/recipients", params=params)
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


async def test_a_phone_is_found_by_its_index_however_far_back_it_is(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.outcomes.recipients_http.FILTER_SCAN_RECIPIENTS", 10)
    await store_batch(database.url, 500)
    page = (await service.get(f"{PATH}/recipients", params={"phone": "+917000000490"})).json()
    assert [row["recipient"] for row in page["data"]] == [490]
