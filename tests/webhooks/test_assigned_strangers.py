"""A call that is placed by hand at somebody else's recipient says nothing about other calls, and erasure reaches it."""

from datetime import timedelta

import httpx
import pytest

from service.privacy.erasure import Eraser
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from tests.factories import BEGAN, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.test_attributed_again import reattribute
from tests.guarantees.whole_database import find_everywhere
from tests.webhooks.ingesting import heal, ingest
from tests.webhooks.test_assignments import (
    OTHER,
    STRANGER,
    ambiguous,
    assert_sound,
    assign,
    find_arrival,
    place_of,
    receive,
    store_both,
)


async def test_calls_that_the_recipient_had_later_stay_when_a_completed_one_is_placed_before_them(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 3, batch_id=OTHER, ref_token="0ther")
    calls = []
    for hour in range(3):
        began = BEGAN + timedelta(hours=1 + hour)
        event = heal(contact_number=phone_of(2), status="busy", conversation_id=f"own-{hour}", began=began)
        calls.append(event.event_id)
        await ingest(database, event)
    assert [(await place_of(service, call))[1:3] for call in calls] == [(OTHER, 2)] * 3
    arrival_id = await receive(service, phone=STRANGER)
    answer = await assign(service, arrival_id, batch_id=OTHER, recipient=2, accept_phone=True)
    assert answer.status_code == 200
    await post_webhook(service, ambiguous(event_id="twin", phone=STRANGER))
    while job := await database.pool.fetchval("SELECT min(job_id) FROM placement_jobs"):
        await database.pool.fetchval("SELECT placement_step($1, 100)", job)
    assert await place_of(service, "twin") == ("applied", OTHER, 2, "recipient")
    assert [(await place_of(service, call))[1:3] for call in calls] == [(OTHER, 2)] * 3
    assert await reattribute(database) == 0
    await assert_sound(database)


async def test_another_phone_is_accepted_when_that_is_said_and_its_call_stays_together(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    arrival_id = await receive(service, phone=STRANGER)
    assert (await assign(service, arrival_id, batch_id=OTHER, recipient=2)).status_code == 409
    answer = await assign(service, arrival_id, batch_id=OTHER, recipient=2, accept_phone=True)
    assert answer.status_code == 200
    assert await place_of(service) == ("applied", OTHER, 2, "manual")
    await post_webhook(service, ambiguous(event_id="twin", phone=STRANGER))
    assert (await place_of(service, "twin"))[1:] == (OTHER, 2, "recipient")
    (line,) = (await service.get("/v1/audit", params={"action": "event_assigned"})).json()["data"]
    assert line["details"]["accept_phone"] is True
    assert await reattribute(database) == 0
    await assert_sound(database)


async def test_an_erased_person_leaves_nothing_in_an_assigned_event(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    for phone, recipient in ((phone_of(1), 1), (STRANGER, 2)):
        arrival_id = await receive(service, phone=phone, event_id=f"of-{recipient}", conversation_id=f"c-{recipient}")
        answer = await assign(service, arrival_id, batch_id=OTHER, recipient=recipient, accept_phone=True)
        assert answer.status_code == 200
    eraser = Eraser(database)
    for phone in (phone_of(1), STRANGER):
        await eraser.finish(await eraser.begin(phone))
        assert await find_everywhere(database, phone[1:]) == []
    assert await reattribute(database) == 0
    await assert_sound(database)


@pytest.mark.parametrize("field", ["to_phone", "from_phone"])
async def test_a_caller_who_was_placed_at_somebody_elses_recipient_is_erased_there_and_the_call_still_counts(
    service: httpx.AsyncClient, database: Database, field: str
) -> None:
    await store_both(database)
    own = make_payload(recipient=2, began=BEGAN + timedelta(days=1), ref_token="0ther", event_id="own")
    said = {"intent": "refused", "reason": "spoke of it"}
    webhook = ambiguous(phone=STRANGER, conversation_id=f"c-{STRANGER}", results=said, status="completed")
    webhook["data"]["call"]["trace_id"] = f"trace-{STRANGER}"
    if field == "from_phone":
        webhook["data"]["call"] |= {"from_phone": STRANGER, "to_phone": "+918000000001"}
    twin = {**webhook, "event_id": "twin"}
    for payload in (own, webhook):
        assert (await post_webhook(service, payload)).status_code == 204
    arrival_id = await find_arrival(service)
    answer = await assign(service, arrival_id, batch_id=OTHER, recipient=2, accept_phone=True)
    assert answer.status_code == 200
    assert (await post_webhook(service, twin)).status_code == 204
    path = f"/v1/batch-calls/{OTHER}/outcomes"
    before = (await service.get(path)).json()["data"]
    answer = await service.post("/v1/erasures", json={"phone": STRANGER})
    assert (answer.status_code, answer.json()["data"]["state"]) == (200, "done")
    assert await find_everywhere(database, STRANGER[1:], "spoke of it") == []
    after = (await service.get(path)).json()["data"]
    for name in ("recipients", "statuses", "attempts", "duration_seconds", "sources"):
        assert after[name] == before[name], name
    history = (await service.get(f"/v1/batch-calls/{OTHER}/recipients/2")).json()["data"]["history"]
    assert [fact["results"] for fact in history if fact["event_id"] != "own"] == [None, None]
    assert [fact["results"] for fact in history if fact["event_id"] == "own"] == [{"intent": "promise_to_pay"}]
    for again in (webhook, twin, {**webhook, "event_id": "third"}):
        assert (await post_webhook(service, again)).status_code == 204
    assert await find_everywhere(database, STRANGER[1:], "spoke of it") == []
    assert await reattribute(database) == 0
    assert not any([batch.counters async for batch in Rebuilder(database).rebuild()])
    assert (await place_of(service))[1:] == (OTHER, 2, "manual")
    await assert_sound(database)
