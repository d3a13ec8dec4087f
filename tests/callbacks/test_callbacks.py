"""Callbacks: results of the latest attempt that are a time or a promise, when they are due, and which are done."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from service.callbacks.callbacks import Callbacks, CallbackSettings
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from tests.console.visiting import sign_in
from tests.eventually import eventually
from tests.factories import AGENT_ID, BATCH_ID, decode, make_payload, phone_of, post_webhook, store_batch
from tests.webhooks.ingesting import ingest

SETTING = f"/v1/agents/{AGENT_ID}/callbacks"
NAMES = ["callback_time", "promise_date"]
FUTURE = "2099-03-16T11:30:00Z"


def call(recipient: int, value: Any, name: str = "callback_time", **fields: Any) -> dict[str, Any]:
    return make_payload(recipient=recipient, results={"intent": "later", name: value}, **fields)


async def configure(service: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await service.put(SETTING, json={"results": NAMES} | body)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def read(service: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await service.get("/v1/callbacks", params=params)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def mark(service: httpx.AsyncClient, recipient: int = 1, **body: Any) -> httpx.Response:
    return await service.put(f"/v1/callbacks/{BATCH_ID}/{recipient}", json={"done": True} | body)


async def test_the_setting_is_kept_with_its_history(service: httpx.AsyncClient) -> None:
    assert (await service.get(SETTING)).status_code == 404
    first = await configure(service)
    assert (first["results"], first["time_zone"], first["actor"]) == (NAMES, "UTC", "setting")
    assert (await configure(service))["history"][0]["set_at"] == first["set_at"], "the same setting changes nothing"
    await configure(service, results=["promise_date"], time_zone="Asia/Kolkata")
    gone = (await service.delete(SETTING)).json()["data"]
    assert [version["results"] for version in gone["history"]] == [None, ["promise_date"], NAMES]
    lines = (await service.get("/v1/audit")).json()["data"]
    assert [line["outcome"] for line in lines if line["action"] == "callbacks"] == ["removed", "set", "set"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"results": []}, "results"),
        ({"results": ["x" * 81]}, "results"),
        ({"results": [" "]}, "results"),
        ({"results": ["a"], "time_zone": "Mars/Olympus"}, "time_zone"),
        ({"results": "callback_time"}, "The body"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_refused_with_what_is_wrong(
    service: httpx.AsyncClient, body: Any, named: str
) -> None:
    answer = await service.put(SETTING, json=body)
    assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (400, named)


@pytest.mark.parametrize(
    ("value", "due_at"),
    [
        ("2026-03-16T17:00:00Z", "2026-03-16T17:00:00Z"),
        ("2026-03-16T17:00:00+05:30", "2026-03-16T11:30:00Z"),
        ("2026-03-16 17:00 +0530", "2026-03-16T11:30:00Z"),
        ("2026-03-16T17:00", "2026-03-16T11:30:00Z"),
        ("2026-03-16 5:00 PM", "2026-03-16T11:30:00Z"),
        ("2026-03-16 17:00:00.250", "2026-03-16T11:30:00.250000Z"),
        ("2026-03-16", "2026-03-15T18:30:00Z"),
        (1773660600, "2026-03-16T11:30:00Z"),
        ("1773660600000", "2026-03-16T11:30:00Z"),
        ("2026-02-30", None),
        ("0001-01-01T00:00:00Z", None),
        ("16/03/2026", None),
        ("tomorrow at five", None),
        ({"day": "Monday"}, None),
        (True, None),
        ("ﾃ" * 300, None),
    ],
)
async def test_a_time_is_read_in_the_zone_of_the_setting_and_other_text_is_shown_as_it_is(
    service: httpx.AsyncClient, database: Database, value: Any, due_at: str | None
) -> None:
    await configure(service, time_zone="Asia/Kolkata")
    await store_batch(database.url)
    await ingest(database, *decode(call(1, value)))
    (row,) = await read(service)
    assert row["due_at"] == due_at
    assert row["value"] == (value[:200] if isinstance(value, str) else row["value"])
    assert (row["recipient"], row["phone"], row["result"], row["batch_id"]) == (1, phone_of(1), NAMES[0], BATCH_ID)
    assert row["is_day"] == (value == "2026-03-16")


@pytest.mark.parametrize("value", [None, "", " ", "none", "N/A", False, [], {}, "-"])
async def test_a_result_that_says_nothing_is_no_callback(
    service: httpx.AsyncClient, database: Database, value: Any
) -> None:
    await configure(service)
    await store_batch(database.url)
    await ingest(database, *decode(call(1, value)))
    assert await read(service) == []


async def test_callbacks_are_listed_by_when_they_are_due_and_those_without_a_time_last(
    service: httpx.AsyncClient, database: Database
) -> None:
    await configure(service)
    await store_batch(database.url)
    await store_batch(database.url, batch_id=457, ref_token="other", agent_id=7, first_phone=100)
    today = datetime.now(UTC).date().isoformat()
    said = ["soon", FUTURE, "2026-03-01", today, "2026-02-01T10:00:00Z"]
    await ingest(database, *decode(*(call(n, value) for n, value in enumerate(said, 1))))
    await ingest(database, *decode(call(1, FUTURE, ref_token="other", agent_id=7)))
    rows = await read(service)
    assert [(row["value"], row["state"]) for row in rows] == [
        (said[4], "overdue"), (said[2], "overdue"), (today, "open"), (FUTURE, "open"), ("soon", "open"),
    ]  # fmt: skip
    await mark(service, 3)
    for params, values in (
        ({"state": "overdue"}, [said[4]]),
        ({"state": "open"}, [said[4], today, FUTURE, "soon"]),
        ({"state": "done"}, [said[2]]),
        ({"due_from": "2026-03-01"}, [said[2], today, FUTURE]),
        ({"due_to": "2026-03-01"}, [said[4], said[2]]),
        ({"due_from": "2026-03-01", "due_to": "2026-03-01", "agent_id": AGENT_ID}, [said[2]]),
        ({"agent_id": 7}, []),
        ({"batch_id": 457}, []),
        ({"batch_id": BATCH_ID, "state": "overdue"}, [said[4]]),
        ({"batch_id": BATCH_ID, "agent_id": 7}, []),
    ):
        assert [row["value"] for row in await read(service, **params)] == values, params
    pages, after = [], None
    while True:
        page = (await service.get("/v1/callbacks", params={"limit": 2} | ({"after": after} if after else {}))).json()
        pages.append([row["value"] for row in page["data"]])
        after = page["next"]
        assert page["has_more"] == (after is not None)
        if after is None:
            break
    assert pages == [[said[4], said[2]], [today, FUTURE], ["soon"]]
    assert (await service.get("/v1/callbacks", params={"batch_id": 9})).status_code == 404
    for params in ({"after": "x"}, {"state": "late"}, {"due_from": "2026-03-02", "due_to": "2026-03-01"}):
        assert (await service.get("/v1/callbacks", params=params)).status_code == 400


async def test_a_mark_is_kept_and_shown_in_the_feed_until_another_call_asks_again(
    service: httpx.AsyncClient, database: Database
) -> None:
    await configure(service)
    await store_batch(database.url)
    await post_webhook(service, call(1, FUTURE))
    before = (await service.get("/v1/feed")).json()["data"][-1]
    assert before["callbacks"] == [
        {
            "result": NAMES[0],
            "value": FUTURE,
            "due_at": "2099-03-16T11:30:00+00:00",
            "due_on": None,
            "is_done": False,
            "done_at": None,
        }
    ]
    (done,) = (await mark(service, note="spoke to her")).json()["data"]
    assert (done["state"], done["note"], done["done_by"]) == ("done", "spoke to her", "setting")
    entries = (await service.get("/v1/feed", params={"after": before["position"]})).json()["data"]
    assert [(entry["recipient"], entry["version"], entry["callbacks"][0]["is_done"]) for entry in entries] == [
        (1, 2, True)
    ]
    assert (await mark(service, note="spoke to her")).json()["data"] == [done], "the same mark changes nothing"
    assert (await service.get("/v1/feed", params={"after": entries[0]["position"]})).json()["data"] == []
    shown = (await service.get(f"/v1/batch-calls/{BATCH_ID}/recipients/1")).json()["data"]
    assert shown["callbacks"][0]["is_done"]
    await post_webhook(service, call(1, FUTURE, attempt=2))
    (again,) = await read(service)
    assert (again["state"], again["note"]) == ("open", None), "another call makes a new callback"
    await mark(service)
    (opened,) = (await mark(service, done=False)).json()["data"]
    assert (opened["state"], opened["done_at"]) == ("open", None)
    lines = (await service.get("/v1/audit")).json()["data"]
    assert [line["outcome"] for line in lines if line["action"] == "callback"] == ["open", "done", "done"]
    assert "spoke" not in json.dumps(lines)


async def test_one_of_two_callbacks_is_marked_by_its_result(service: httpx.AsyncClient, database: Database) -> None:
    await configure(service)
    await store_batch(database.url)
    await post_webhook(service, make_payload(results=dict.fromkeys(NAMES, "2026-03-20")))
    rows = (await mark(service, result="promise_date")).json()["data"]
    assert [(row["result"], row["state"]) for row in rows] == [(NAMES[0], "overdue"), (NAMES[1], "done")]
    for answer in (await mark(service, 2), await mark(service, result="other"), await mark(service, 2**31)):
        assert answer.status_code == 404
    for body in ({"done": False, "note": "x"}, {"note": ""}, {"note": "x" * 501}, {"done": "yes"}, {"note": "\0"}):
        assert (await mark(service, **body)).status_code == 400


async def test_callbacks_and_marks_survive_a_rebuild_and_end_with_the_erasure(
    service: httpx.AsyncClient, database: Database
) -> None:
    await configure(service)
    await store_batch(database.url)
    await post_webhook(service, call(1, FUTURE))
    await post_webhook(service, call(2, FUTURE))
    await mark(service, note="ring the neighbour")
    rows = await read(service)
    await database.pool.execute("UPDATE callbacks SET value = 'wrong', is_done = false")
    await database.pool.execute("DELETE FROM callbacks WHERE recipient_no = 2")
    async for _ in Rebuilder(database).rebuild():
        pass
    assert await read(service) == rows
    await service.post("/v1/erasures", json={"phone": phone_of(1)})
    assert [row["recipient"] for row in await read(service)] == [2]
    assert await database.pool.fetchval("SELECT count(*) FROM callback_marks") == 0


async def test_a_change_applies_to_earlier_calls_in_steps_that_continue_after_a_kill(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url)
    await store_batch(database.url, batch_id=457, ref_token="second", first_phone=100)
    await ingest(database, *decode(*(call(n, FUTURE) for n in range(1, 11))))
    await ingest(database, *decode(*(call(n, FUTURE, ref_token="second") for n in range(1, 11))))
    assert await read(service) == []
    await Callbacks(database).set_results(AGENT_ID, NAMES, "UTC")
    (setting,) = [row async for row in database.queries.list_unapplied_callbacks(database.pool)]
    counts = []
    while await database.queries.apply_callbacks_step(database.pool, setting_id=setting["setting_id"], recipients=6):
        counts.append(len(await read(service)))
        assert len(counts) < 10
    assert counts[-1] == 20
    await configure(service, results=["promise_date"])
    await eventually(lambda: service.get(SETTING), lambda answer: answer.json()["data"]["is_applied"])
    assert await read(service) == []


async def test_callbacks_follow_the_outcome_whatever_the_order_of_events(
    service: httpx.AsyncClient, database: Database
) -> None:
    await configure(service)
    await store_batch(database.url)
    later, earlier = call(1, FUTURE, attempt=2), call(1, "2026-03-20", attempt=1, final=False)
    await ingest(database, *decode(later))
    await ingest(database, *decode(earlier))
    assert [row["value"] for row in await read(service)] == [FUTURE]
    await ingest(database, *decode(make_payload(recipient=1, attempt=3, status="no_answer")))
    assert await read(service) == []


async def test_settings_are_applied_by_a_service_that_starts_later(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(call(1, FUTURE)))
    await Callbacks(database).set_results(AGENT_ID, NAMES, "UTC")
    await CallbackSettings(database).finish()
    assert await database.pool.fetchval("SELECT count(*) FROM callbacks") == 1
    assert [row async for row in database.queries.list_unapplied_callbacks(database.pool)] == []


async def test_a_list_says_whether_earlier_calls_follow_the_setting_yet(
    service: httpx.AsyncClient, database: Database
) -> None:
    await database.pool.execute(
        "INSERT INTO agent_callbacks (agent_id, results, time_zone, set_at, actor) VALUES ($1, $2, 'UTC', now(), 'x')",
        2**40, NAMES,
    )  # fmt: skip
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT lock_ingest()")  # nothing is applied meanwhile
        for agent_id, is_applied in ((None, False), (2**40, False), (AGENT_ID, True)):
            params = {} if agent_id is None else {"agent_id": agent_id}
            assert (await service.get("/v1/callbacks", params=params)).json()["is_applied"] is is_applied
        visitor = await sign_in(service)
        assert "are still being searched" in await visitor.read("/console/callbacks")
    await CallbackSettings(database).finish()
    assert (await service.get("/v1/callbacks")).json()["is_applied"]
    assert "are still being searched" not in await visitor.read("/console/callbacks")
