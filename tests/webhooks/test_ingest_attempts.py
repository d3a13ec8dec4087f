"""Ingest, attempts: a recipient's outcome is that of its latest attempt, however and whenever it became known."""

import itertools
from datetime import timedelta
from typing import Any

from service.formant.events import Event
from service.store.database import Database
from tests.factories import BEGAN, decode, make_payload, store_batch
from tests.webhooks.ingesting import Counted, get_event, ingest, list_outcomes, read_state


async def outcome_of(database: Database) -> tuple[Any, ...]:
    """State and number of attempts of the only recipient that has an outcome."""
    (row,) = await list_outcomes(database)
    return row["state"], row["attempts"]


async def count_recipients(database: Database) -> dict[str, int]:
    """Recipients by state, from the counters."""
    rows = await database.pool.fetch(
        "SELECT state, sum(recipients) AS n FROM outcome_counts GROUP BY 1 HAVING sum(recipients) <> 0"
    )
    return {row["state"]: int(row["n"]) for row in rows}


async def count_attempts(database: Database) -> dict[str, int]:
    """Attempts by status, from the counters."""
    rows = await database.pool.fetch(
        "SELECT status, sum(attempts) AS n FROM attempt_counts GROUP BY 1 HAVING sum(attempts) <> 0"
    )
    return {row["status"]: int(row["n"]) for row in rows}


def heal(event: Event, **changes: Any) -> Event:
    """The event of the call's conversation: without a retry block, with an event id of our own."""
    healed = event._replace(
        event_id=f"healed-{event.conversation_id}", digest=b"healed", source="healed", attempt_number=None,
        max_attempts=None, next_retry_at=None, occurred_at=event.ended_at, is_final=True,
    )  # fmt: skip
    return healed._replace(**changes)


async def states_of_all_orders(database: Database, *events: Event) -> list[Any]:
    """What each order of arrival comes to, each on a batch of its own."""
    states = []
    for number, order in enumerate(itertools.permutations(events)):
        token = f"order{number}"
        key = await store_batch(database.url, batch_id=None, ref_token=token)
        for event in order:
            await ingest(database, event._replace(event_id=f"{token}-{event.event_id}", ref_token=token))
        state = await read_state(database)
        states.append({
            name: [row[1:] for row in rows if row[0] == key] for name, rows in state.items() if name != "unattributed"
        })  # fmt: skip
    return states


async def test_a_call_to_be_retried_is_pending_and_the_retry_decides(database: Database) -> None:
    await store_batch(database.url)
    first, second = decode(make_payload(status="no_answer", attempt=1, final=False), make_payload(attempt=2))
    await ingest(database, first)
    assert await outcome_of(database) == ("pending_retry", 1)
    assert await count_recipients(database) == {"pending_retry": 1}
    await ingest(database, second)
    assert await outcome_of(database) == ("completed", 2)
    assert await count_recipients(database) == {"completed": 1}
    assert await count_attempts(database) == {"no_answer": 1, "completed": 1}
    assert (await get_event(database, first.event_id))["disposition"] == "applied"


async def test_attempts_give_the_same_result_in_any_order_of_arrival(database: Database) -> None:
    events = decode(
        make_payload(status="no_answer", attempt=1, final=False, results={"mood": "a"}),
        make_payload(status="busy", attempt=2, final=False, results={"mood": "b"}),
        make_payload(status="failed", attempt=3, results={"mood": "c"}),
    )
    states = await states_of_all_orders(database, *events)
    assert all(state == states[0] for state in states)
    assert [row[1:4] for row in states[0]["outcomes"]] == [("failed", 3, "failed")]
    assert states[0]["result_counts"] == [("mood", "c", 1)]


async def test_the_providers_number_decides_the_latest_attempt_even_against_its_times(database: Database) -> None:
    await store_batch(database.url)
    second = make_payload(status="busy", attempt=2, began=BEGAN)
    first = make_payload(status="no_answer", attempt=1, final=False, began=BEGAN + timedelta(hours=5))
    await ingest(database, *decode(second, first))
    assert await outcome_of(database) == ("busy", 2)


async def test_attempts_of_one_group_count_as_if_they_arrived_one_by_one(database: Database) -> None:
    await store_batch(database.url)
    events = decode(
        make_payload(status="busy", attempt=2, final=False),
        make_payload(attempt=3),
        make_payload(status="no_answer", attempt=1, final=False),
    )
    assert await ingest(database, *events) == Counted(applied=3)
    assert await outcome_of(database) == ("completed", 3)
    assert await count_attempts(database) == {"no_answer": 1, "busy": 1, "completed": 1}


async def test_attempts_that_share_a_conversation_id_or_have_one_each_count_the_same(database: Database) -> None:
    for recipient, ids in ((1, ["same", "same"]), (2, ["first", "second"])):
        await store_batch(database.url, batch_id=recipient, ref_token=f"t{recipient}")
        await ingest(
            database,
            *decode(
                make_payload(recipient=recipient, ref_token=f"t{recipient}", status="busy", attempt=1, final=False,
                             conversation_id=ids[0]),
                make_payload(recipient=recipient, ref_token=f"t{recipient}", attempt=2, conversation_id=ids[1]),
            ),
        )  # fmt: skip
    assert [(row["state"], row["attempts"]) for row in await list_outcomes(database)] == [("completed", 2)] * 2


async def test_with_equal_timestamps_content_decides_and_not_arrival(database: Database) -> None:
    fields: dict[str, Any] = {"conversation_id": "c-1", "attempt": 1, "began": BEGAN}
    payloads = [
        make_payload(status=status, results={}, duration_seconds=None, event_id=event_id, **fields)
        for event_id, status in (("a", "completed"), ("b", "busy"), ("c", "unreachable"))
    ]
    for payload in payloads:
        payload["timestamp"] = BEGAN.isoformat()
    states = await states_of_all_orders(database, *decode(*payloads))
    assert all(state == states[0] for state in states)
    assert [row[1:4] for row in states[0]["outcomes"]] == [("completed", 1, "completed")]
    assert [row[-1] for row in states[0]["attempt_counts"]] == [1]


async def test_of_two_events_about_one_attempt_the_later_word_of_the_provider_wins(database: Database) -> None:
    early = make_payload(status="completed", conversation_id="c-1", began=BEGAN)
    late = make_payload(status="busy", conversation_id="c-1", began=BEGAN)
    early["timestamp"], late["timestamp"] = BEGAN.isoformat(), (BEGAN + timedelta(seconds=1)).isoformat()
    await store_batch(database.url)
    first, second = decode(late, early)
    await ingest(database, first)
    await ingest(database, second)
    assert await outcome_of(database) == ("busy", 1)
    dispositions = [(await get_event(database, event.event_id))["disposition"] for event in (first, second)]
    assert dispositions == ["applied", "superseded"]


async def test_attempts_without_a_number_are_distinguished_by_the_time_they_began(database: Database) -> None:
    await store_batch(database.url)
    calls = [make_payload(attempt=None, conversation_id="c-1", status=status, began=BEGAN + timedelta(hours=hour))
             for hour, status in ((0, "busy"), (1, "no_answer"), (0, "busy"))]  # fmt: skip
    await ingest(database, *decode(*calls))
    assert await outcome_of(database) == ("no_answer", 2)


async def test_an_attempt_without_a_number_follows_those_that_began_before_it(database: Database) -> None:
    for hour, state in ((2, "no_answer"), (4, "failed")):
        token = f"hour{hour}"
        await store_batch(database.url, batch_id=None, ref_token=token)
        calls = ((1, 1, "busy"), (None, hour, "failed"), (2, 3, "no_answer"))
        await ingest(
            database,
            *decode(
                *[
                    make_payload(ref_token=token, attempt=attempt, status=status, began=BEGAN + timedelta(hours=began))
                    for attempt, began, status in calls
                ]
            ),
        )
        row = (await list_outcomes(database))[-1]
        assert (row["state"], row["attempts"]) == (state, 3)


async def test_a_call_that_was_healed_and_whose_webhook_comes_late_counts_once(database: Database) -> None:
    (webhook,) = decode(make_payload(status="completed", attempt=1))
    states = await states_of_all_orders(database, webhook, heal(webhook))
    assert states[0] == states[1]
    assert [row[1:4] for row in states[0]["outcomes"]] == [("completed", 1, "completed")]
    assert [row[-1] for row in states[0]["outcomes"]] == ["webhook"]
    assert [row[-1] for row in states[0]["attempt_counts"]] == [1]
    assert [row[2] for row in states[0]["outcome_counts"]] == ["webhook"]


async def test_of_two_equally_old_words_the_webhooks_counts_more_than_the_conversations(database: Database) -> None:
    (webhook,) = decode(make_payload(status="busy", attempt=None))
    healed = heal(webhook, occurred_at=webhook.occurred_at, status="completed", duration_seconds=99)
    states = await states_of_all_orders(database, webhook, healed)
    assert states[0] == states[1]
    assert [(*row[1:4], row[-1]) for row in states[0]["outcomes"]] == [("busy", 1, "busy", "webhook")]


async def test_a_healed_call_is_the_same_within_two_seconds_of_its_webhook_and_another_beyond(
    database: Database,
) -> None:
    (webhook,) = decode(make_payload(status="completed", attempt=1))
    assert webhook.started_at is not None
    for number, (seconds, attempts) in enumerate([(-2, 1), (2, 1), (-3, 2), (3, 2)]):
        token = f"t{number}"
        await store_batch(database.url, batch_id=None, ref_token=token)
        healed = heal(webhook, started_at=webhook.started_at + timedelta(seconds=seconds))
        await ingest(
            database,
            *[event._replace(event_id=f"{token}{event.event_id}", ref_token=token) for event in (webhook, healed)],
        )
        assert (await list_outcomes(database))[-1]["attempts"] == attempts, seconds


async def test_a_call_known_only_by_healing_counts_as_healed(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, heal(*decode(make_payload(status="busy"))))
    rows = await database.pool.fetch("SELECT state, attempts, source, recipients FROM outcome_counts")
    assert [tuple(row) for row in rows] == [("busy", 1, "healed", 1)]


async def test_a_waiting_retry_that_turns_out_to_be_final_is_counted_again(database: Database) -> None:
    await store_batch(database.url)
    waiting = make_payload(status="busy", attempt=1, final=False, conversation_id="c-1")
    final = make_payload(status="busy", attempt=1, final=True, conversation_id="c-1")
    final["timestamp"] = (BEGAN + timedelta(days=1)).isoformat()
    for payload, state in ((waiting, "pending_retry"), (final, "busy")):
        await ingest(database, *decode(payload))
        assert await outcome_of(database) == (state, 1)
        assert await count_recipients(database) == {state: 1}
