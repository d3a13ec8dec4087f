"""A callback that somebody has done is not overwritten by another who did not see it."""

import html

import httpx

from service.access.keys import Keys
from service.store.database import Database
from tests.callbacks.test_callbacks import FUTURE, NAMES, call, configure, mark, read
from tests.conftest import StartService
from tests.console.visiting import sign_in
from tests.factories import BATCH_ID, post_webhook, store_batch


async def mark_as(service: httpx.AsyncClient, key: str, **body: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return await service.put(f"/v1/callbacks/{BATCH_ID}/1", json={"done": True} | body, headers=headers)


async def test_what_somebody_else_has_done_is_refused_with_who_and_when(
    start_service: StartService, database: Database
) -> None:
    other = (await Keys(database).create("desk", ("people",), None)).key
    async with start_service() as service:
        await configure(service)
        await store_batch(database.url)
        await post_webhook(service, call(1, FUTURE))
        (first,) = (await mark_as(service, other, note="paid")).json()["data"]
        assert first["done_by"] == "key: desk"
        bodies: tuple[dict[str, str], ...] = (
            {"note": "left a message"},
            {},
            {"result": NAMES[0], "note": "left a message"},
        )
        for body in bodies:
            answer = await service.put(f"/v1/callbacks/{BATCH_ID}/1", json={"done": True} | body)
            assert answer.status_code == 409
            error = answer.json()["error"]
            assert "Key desk marked callback_time at 20" in error["message"]
            assert error["details"]["done_by"] == "key: desk"
            (row,) = await read(service)
            assert (row["note"], row["done_by"], row["done_at"]) == ("paid", "key: desk", first["done_at"])
        assert (await mark(service, note="paid")).json()["data"] == [first], "the same content changes nothing"
        assert (await mark_as(service, other, note="paid")).json()["data"] == [first], "nor does a repeat"
        (own,) = (await mark_as(service, other, note="paid in full")).json()["data"]
        assert own["note"] == "paid in full", "who did it may correct the note"
        assert (await mark(service, done=False)).json()["data"][0]["state"] == "open"
        (again,) = (await mark(service, note="left a message")).json()["data"]
        assert (again["note"], again["done_by"]) == ("left a message", "setting")


async def test_the_console_says_at_the_row_that_somebody_was_faster(
    start_service: StartService, database: Database
) -> None:
    other = (await Keys(database).create("desk", ("people",), None)).key
    async with start_service() as service:
        await configure(service)
        await store_batch(database.url)
        await post_webhook(service, call(1, FUTURE))
        await mark_as(service, other, note="paid")
        visitor = await sign_in(service)
        sent = {"done": "true", "note": "left a message", "result": NAMES[0]}
        answer = await visitor.post(f"/console/callbacks/{BATCH_ID}/1?state=done", **sent)
        assert answer.status_code == 409
        assert 'data-label="Done"><div class="notice bad" role="alert"><p>Already done: Key desk' in html.unescape(
            answer.text
        )
        answer = await visitor.post(f"/console/callbacks/{BATCH_ID}/1?state=open", **sent)
        assert (answer.status_code, "Already done: Key desk" in answer.text) == (409, True)
        assert "No callbacks" in answer.text
