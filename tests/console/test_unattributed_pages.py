"""Unattributed events in the console: each has a page with the people it may belong to, and is placed once ticked."""

import html

import httpx
import pytest

from service.store.database import Database
from tests.console.visiting import Visitor, sign_in
from tests.factories import phone_of, post_webhook
from tests.webhooks.test_assignments import OTHER, ambiguous, find_arrival, place_of, receive, store_both

PAGE = "/console/health/unattributed"
EVIL = '"><script>alert(1)</script>' + "x" * 50


@pytest.fixture
async def visitor(service: httpx.AsyncClient) -> Visitor:
    return await sign_in(service)


async def test_an_event_is_placed_at_one_of_its_candidates_once_that_is_ticked(
    service: httpx.AsyncClient, database: Database, visitor: Visitor
) -> None:
    await store_both(database)
    path = f"{PAGE}/{await receive(service)}"
    assert f'href="{path}"' in await visitor.read(PAGE)
    page = await visitor.read(path)
    assert "Several recipients fit" in page
    assert page.count("the batch was calling") == 2
    assert phone_of(1)[1:] not in page
    place = {"batch_id": str(OTHER), "recipient": "1"}
    unticked = await visitor.post(path, **place)
    assert (unticked.status_code, "Tick first" in unticked.text) == (400, True)
    assert (await visitor.post_without_token(path, confirmed="true", **place)).status_code == 403
    assert (await place_of(service))[0] == "unattributed"
    done = await visitor.post(path, confirmed="true", **place)
    assert (done.status_code, done.headers["location"]) == (303, f"{PAGE}?done=assigned")
    assert "counts where you put it" in await visitor.read(done.headers["location"])
    assert await place_of(service) == ("applied", OTHER, 1, "manual")
    assert (await visitor.get(path)).status_code == 404


async def test_what_contradicts_it_is_said_at_the_form_which_keeps_what_was_typed(
    service: httpx.AsyncClient, database: Database, visitor: Visitor
) -> None:
    await store_both(database)
    path = f"{PAGE}/{await receive(service)}"
    for fields, status, words in (
        ({"batch_id": str(OTHER), "recipient": "2"}, 409, "has another phone"),
        ({"batch_id": "1", "recipient": "2"}, 404, "there is no batch 1"),
        ({"batch_id": EVIL, "recipient": "2"}, 400, "give both numbers"),
        ({"kind": EVIL}, 400, "kind"),
    ):
        answer = await visitor.post(path, confirmed="true", **fields)
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
        assert "<script>alert" not in answer.text
        assert html.escape(fields.get("batch_id", "")).replace("&quot;", "&#34;") in answer.text
    fields = {"batch_id": str(OTHER), "recipient": "2", "accept_phone": "true"}
    assert (await visitor.post(path, confirmed="true", **fields)).status_code == 303
    assert await place_of(service) == ("applied", OTHER, 2, "manual")


async def test_a_call_in_no_batch_is_counted_outside(
    service: httpx.AsyncClient, database: Database, visitor: Visitor
) -> None:
    await store_both(database)
    await post_webhook(service, ambiguous(event_id=EVIL, conversation_id=EVIL))
    path = f"{PAGE}/{await find_arrival(service)}"
    assert "<script>alert" not in await visitor.read(path)
    assert (await visitor.post(path, confirmed="true", kind="single")).status_code == 303
    (call,) = (await service.get("/v1/calls")).json()["data"]
    assert call["kind"] == "single"
