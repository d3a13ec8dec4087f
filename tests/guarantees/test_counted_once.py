"""Any number of deliveries, in any order and grouping, gives the same state: that of a plain in-memory oracle."""

import asyncio
import itertools
from datetime import timedelta
from random import Random
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from service.formant.events import STATUSES, Event
from service.store.database import Database, connect, load_queries
from tests.factories import BEGAN, decode, make_payload, split_events, store_batch
from tests.guarantees.oracle import Expected, expect
from tests.guarantees.recount import find_differences, read_state

RECIPIENTS = 3
_numbers = itertools.count(1)

facts = st.fixed_dictionaries(
    {
        "recipient": st.integers(1, RECIPIENTS),
        "attempt": st.none() | st.integers(1, 3),
        "status": st.sampled_from(STATUSES),
        "final": st.booleans(),
        # Few values, so that times are often equal and often contradict the attempt numbers.
        "minute": st.sampled_from([0, 0, 0, 20, 40]),
        "conversation": st.sampled_from(["kept", "new"]),
        "results": st.sampled_from(
            [{}, {"intent": "yes"}, {"intent": "no", "sentiment": "calm"}, {"intent": ""}, {"intent": None}, [], " "]
        ),
        "duration_seconds": st.sampled_from([10, 10, 70]),
        "healed": st.booleans(),
        "has_times": st.sampled_from([True, True, True, False]),
    }
)
histories = st.lists(facts, min_size=1, max_size=8)


def complete(**changes: Any) -> dict[str, Any]:
    """A fact about one completed call."""
    return {
        "recipient": 1, "attempt": 1, "status": "completed", "final": True, "minute": 0, "conversation": "kept",
        "results": {}, "duration_seconds": 10, "healed": False, "has_times": True, **changes,
    }  # fmt: skip


KNOWN = {"results": {"intent": "yes"}, "duration_seconds": 70}
NOTHING: list[Any] = [
    None, {}, [], "", " ", {"intent": None}, {"intent": ""}, [None, [""]], {"a": {"b": [{}, {"c": " "}]}},
    {"a": "\u2003"},
]  # fmt: skip
RESULTS_KNOWN_AND_UNKNOWN = [
    [complete(), complete(attempt=None, healed=True, **KNOWN)],
    [complete(), complete(healed=True, **KNOWN), complete(healed=True, results={"intent": "no"}), complete(minute=20)],
    [complete(attempt=None), complete(attempt=None, **KNOWN), complete(attempt=2, minute=20)],
    *([complete(**KNOWN), complete(minute=1, results=nothing)] for nothing in NOTHING),
    [complete(), complete(status="failed", minute=20), complete(attempt=None, healed=True, **KNOWN)],
]
"""Histories in which a fact without results wins over one that knows them."""


def build_event(fact: dict[str, Any], event_id: str, ref_token: str) -> Event:
    """The event for a generated fact."""
    began = BEGAN + timedelta(minutes=fact["minute"])
    suffix = "" if fact["conversation"] == "kept" else f"_{fact['attempt']}"
    payload = make_payload(
        recipient=fact["recipient"],
        attempt=fact["attempt"],
        status=fact["status"],
        final=fact["final"],
        event_id=event_id,
        conversation_id=f"conversation-{fact['recipient']}{suffix}",
        began=began,
        duration_seconds=fact["duration_seconds"],
        results=fact["results"],
        ref_token=ref_token,
    )
    if not fact["has_times"]:
        payload["data"]["call"] |= {"started_at": None, "ended_at": None}
    event = decode(payload)[0]
    return event._replace(source="healed") if fact["healed"] else event


async def ingest(connection: Any, events: list[Event]) -> dict[str, int]:
    """Ingests the events as one group."""
    columns = dict(zip(Event._fields, zip(*events, strict=True), strict=True))
    return dict(await load_queries().ingest(connection, **columns))


def normalise(state: Expected) -> Expected:
    """Drops entries that count nothing."""
    for counter in (state.outcome_counts, state.talk_seconds, state.result_counts, state.attempt_counts):
        for key in [key for key, count in counter.items() if not count]:
            del counter[key]
    return state


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    derandomize=True,
)
@example(history=RESULTS_KNOWN_AND_UNKNOWN[0], order=Random(1), sizes=[1])
@example(history=RESULTS_KNOWN_AND_UNKNOWN[1], order=Random(2), sizes=[1, 2])
@example(history=RESULTS_KNOWN_AND_UNKNOWN[2], order=Random(3), sizes=[1])
@example(history=RESULTS_KNOWN_AND_UNKNOWN[3], order=Random(4), sizes=[2])
@given(
    history=histories,
    order=st.randoms(use_true_random=False),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
def test_any_order_grouping_and_repetition_of_deliveries_gives_the_state_of_the_oracle(
    runner: asyncio.Runner, connection: asyncpg.Connection, database_url: str, history: list[dict[str, Any]],
    order: Any, sizes: list[int],
) -> None:  # fmt: skip
    number = next(_numbers)
    token = f"token{number}"
    events = [build_event(fact, f"event-{number}-{index}", token) for index, fact in enumerate(history)]
    deliveries = events + [event for event in events if order.random() < 0.5]
    order.shuffle(deliveries)

    async def play() -> None:
        batch_key = await store_batch(database_url, RECIPIENTS, batch_id=number, ref_token=token)
        for group in split_events(deliveries, sizes):
            await ingest(connection, group)
        assert await read_state(connection, batch_key) == normalise(expect(events))

    runner.run(play())


async def test_counters_equal_a_recount_after_repeated_and_contradictory_events(
    database: Database, database_url: str
) -> None:
    await store_batch(database_url, RECIPIENTS)
    events = [
        build_event(fact, f"event-{index}", "feedc0de")
        for index, fact in enumerate(
            {
                "recipient": recipient, "attempt": attempt, "status": status, "final": attempt == 3,
                "minute": 20 * attempt, "conversation": "new", "results": {"intent": status},
                "duration_seconds": 10, "healed": attempt == 2, "has_times": True,
            }
            for recipient in range(1, RECIPIENTS + 1) for attempt in (3, 1, 2) for status in ("busy", "completed")
        )
    ]  # fmt: skip
    async with database.pool.acquire() as connection:
        for group in split_events(events + events, [4]):
            await ingest(connection, group)
        assert await find_differences(connection) == []


async def test_the_same_event_on_two_replicas_at_once_counts_once(database: Database, database_url: str) -> None:
    batch_key = await store_batch(database_url, 50)
    events = decode(*[make_payload(recipient=number) for number in range(1, 51)])
    replicas = [await connect(database_url) for _ in range(3)]
    try:
        counts = await asyncio.gather(
            ingest(replicas[0], events), ingest(replicas[1], events[::-1]), ingest(replicas[2], events)
        )
        assert sum(count["applied"] for count in counts) == 50
        assert sum(count["duplicates"] for count in counts) == 100
        assert await read_state(replicas[0], batch_key) == normalise(expect(events))
    finally:
        for replica in replicas:
            await replica.close()


@pytest.mark.parametrize("is_webhook_first", [True, False])
async def test_a_webhook_and_the_healing_of_its_call_count_once(
    database: Database, database_url: str, is_webhook_first: bool
) -> None:
    batch_key = await store_batch(database_url)
    webhook = decode(make_payload(recipient=1, attempt=2, conversation_id="one"))[0]
    healed = webhook._replace(
        event_id="conversation:one", digest=b"other", source="healed", attempt_number=None, max_attempts=None
    )
    async with database.pool.acquire() as connection:
        for event in (webhook, healed) if is_webhook_first else (healed, webhook):
            await ingest(connection, [event])
        state = await read_state(connection, batch_key)
        assert state.outcome_counts == {("completed", 1, "webhook"): 1}
        assert await find_differences(connection) == []


@pytest.mark.parametrize("is_webhook_first", [True, False])
async def test_of_a_webhook_and_a_healed_event_of_the_same_instant_the_webhook_counts(
    database: Database, database_url: str, is_webhook_first: bool
) -> None:
    batch_key = await store_batch(database_url)
    webhook = decode(make_payload(recipient=1, status="busy", final=False, event_id="a"))[0]
    # The healed event would win by every later criterion.
    healed = webhook._replace(
        event_id="b", digest=b"other", source="healed", status="completed", is_final=True, duration_seconds=99
    )
    async with database.pool.acquire() as connection:
        for event in (webhook, healed) if is_webhook_first else (healed, webhook):
            await ingest(connection, [event])
        state = await read_state(connection, batch_key)
        assert state.outcome_counts == {("pending_retry", 1, "webhook"): 1}
        assert state == normalise(expect([webhook, healed]))
