"""Ingest, healing: a call known from its conversation and from its webhook counts once, whichever came first."""

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.formant.conversations import decode_conversation, to_event
from service.formant.events import Event
from service.store.database import Database
from tests.factories import BEGAN, RECEIVED, decode, make_payload, store_batch
from tests.webhooks.ingesting import Counted, converse, get_event, heal, ingest, list_outcomes, read_state

_numbers = itertools.count()


def call(*, attempt: int | None = 1, status: str = "busy", began: datetime | None = BEGAN, **fields: Any) -> Event:
    """The webhook of such a call."""
    final = fields.pop("final", True)
    payload = make_payload(attempt=attempt, status=status, final=final, began=began, results={}, **fields)
    if began is None:
        payload["data"]["call"] |= {"started_at": None, "ended_at": None}
    return decode(payload)[0]


async def states_of_all_orders(database: Database, *events: Event) -> list[tuple[Any, ...]]:
    """State, attempts and source of the recipient after each order of arrival, and the attempts counted."""
    states = []
    for order in itertools.permutations(events):
        agent = next(_numbers)  # of its own, so that no other order's batch holds the phone
        token = f"order{agent}"
        key = await store_batch(database.url, batch_id=None, ref_token=token, agent_id=agent)
        for event in order:
            named = event._replace(event_id=f"{token}-{event.event_id}", agent_id=agent)
            await ingest(database, named if event.ref_token is None else named._replace(ref_token=token))
        state = await read_state(database)
        (outcome,) = [row for row in state["outcomes"] if row[0] == key]
        attempts = sum(row[3] for row in state["attempt_counts"] if row[0] == key)
        states.append((outcome[2], outcome[3], outcome[8], attempts))
    return states


@pytest.mark.parametrize("attempt", [1, None])
@pytest.mark.parametrize("skew_milliseconds", [0, 700, -700])
async def test_one_call_counts_once_whether_its_webhook_numbers_it_or_not_and_rounds_its_times_or_not(
    database: Database, attempt: int | None, skew_milliseconds: int
) -> None:
    webhook = call(attempt=attempt, conversation_id="c-1")
    healed = heal(began=BEGAN + timedelta(milliseconds=skew_milliseconds))
    assert set(await states_of_all_orders(database, webhook, healed)) == {("busy", 1, "webhook", 1)}


@pytest.mark.parametrize("ids", [("same", "same"), ("c_1", "c_2")])
async def test_both_attempts_of_a_recipient_count_once_each_with_conversation_ids_kept_or_new(
    database: Database, ids: tuple[str, str]
) -> None:
    later = BEGAN + timedelta(hours=1)
    events = [
        call(attempt=1, final=False, conversation_id=ids[0]),
        heal(may_retry=True, conversation_id=ids[0]),
        call(attempt=2, status="completed", conversation_id=ids[1], began=later, duration_seconds=20),
        heal(status="completed", conversation_id=ids[1], began=later, duration_seconds=20),
    ]
    assert set(await states_of_all_orders(database, *events)) == {("completed", 2, "webhook", 2)}
    assert set(await states_of_all_orders(database, *events[:2], events[3])) == {("completed", 2, "healed", 2)}
    assert set(await states_of_all_orders(database, *events[1:3])) == {("completed", 2, "webhook", 2)}
    assert set(await states_of_all_orders(database, events[1], events[3])) == {("completed", 2, "healed", 2)}


@pytest.mark.parametrize("attempt", [1, None])
async def test_a_retry_is_healed_although_the_first_calls_webhook_has_no_times(
    database: Database, attempt: int | None
) -> None:
    first = call(attempt=attempt, final=False, conversation_id="same", began=None)._replace(is_final=False)
    assert first.occurred_at is not None
    healed_first = heal(may_retry=True, conversation_id="same", began=first.occurred_at - timedelta(seconds=21))
    healed_second = heal(conversation_id="same", began=first.occurred_at + timedelta(hours=1))
    assert set(await states_of_all_orders(database, first, healed_first, healed_second)) == {("busy", 2, "healed", 2)}


async def test_a_healed_call_waits_for_its_retry_until_nobody_waits_any_more(database: Database) -> None:
    waiting, final = heal(may_retry=True), heal()
    assert set(await states_of_all_orders(database, waiting, final)) == {("busy", 1, "healed", 1)}
    await store_batch(database.url)
    await ingest(database, waiting)
    assert (await list_outcomes(database))[-1]["state"] == "pending_retry"


async def test_the_last_word_on_a_healed_call_holds_even_where_its_conversation_was_corrected(
    database: Database,
) -> None:
    waiting, final = heal(may_retry=True, status="failed"), heal(status="unreachable")
    assert set(await states_of_all_orders(database, waiting, final)) == {("unreachable", 1, "healed", 1)}


async def test_a_webhook_that_says_a_retry_follows_outweighs_the_conversation(database: Database) -> None:
    webhook, final = call(final=False, conversation_id="c-1"), heal()
    assert set(await states_of_all_orders(database, webhook, final)) == {("pending_retry", 1, "webhook", 1)}


async def test_healing_twice_is_one_event_and_its_body_is_the_conversation_as_received(database: Database) -> None:
    await store_batch(database.url)
    body = converse()
    events = [to_event(decode_conversation(body), received_at=RECEIVED, may_retry=False)] * 2
    healed = [event for event in events if event is not None]
    assert await ingest(database, *healed) == Counted(applied=1, duplicates=1)
    assert await ingest(database, healed[0]) == Counted(duplicates=1)
    assert await database.pool.fetchval("SELECT body FROM event_bodies") == body
    state = await get_event(database, healed[0].event_id)
    assert (state["disposition"], state["target"], state["attempt_number"]) == ("applied", "conversations", None)


async def test_without_a_reference_agent_and_phone_decide_and_several_batches_are_left_ambiguous(
    database: Database,
) -> None:
    healed = heal()._replace(ref_token=None, ref_no=None)
    await store_batch(database.url)
    assert await ingest(database, healed) == Counted(applied=1)
    await store_batch(database.url, batch_id=457, ref_token="other")
    assert await ingest(database, healed._replace(event_id="healed:2")) == Counted(unattributed=1)


@pytest.mark.parametrize("nothing", [None, {}, [], "", {"intent": ""}, {"intent": None, "more": [" "]}])
async def test_details_are_outstanding_until_results_say_something(database: Database, nothing: Any) -> None:
    await store_batch(database.url)
    count = "SELECT count(*) FROM outstanding_details"
    await ingest(database, heal(status="completed", results=None))  # an entry of the list
    assert await database.pool.fetchval(count) == 1
    later = ("empty", nothing, 1), ("blank", {"intent": " "}, 1), ("known", {"intent": "x"}, 0), ("last", nothing, 0)
    for minute, (event_id, results, left) in enumerate(later):
        payload = make_payload(conversation_id="c-1", began=BEGAN, event_id=event_id)
        payload["data"]["results"] = results
        (event,) = decode(payload)
        await ingest(database, event._replace(occurred_at=RECEIVED + timedelta(minutes=minute)))
        assert await database.pool.fetchval(count) == left, event_id
    assert (await read_state(database))["outcomes"][0][6] == '{"intent": "x"}'
