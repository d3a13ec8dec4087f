"""One rule for every time and number that the provider says: what cannot be true is absent."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.formant.conversations import decode_conversation, to_event
from service.formant.events import Event
from service.formant.plausible import (
    EARLIEST,
    LATEST,
    LONGEST_CALL_SECONDS,
    MAX_ATTEMPTS,
    plausible_attempts,
    plausible_duration,
    plausible_epoch,
    plausible_time,
)
from service.store.database import Database
from tests.factories import decode, make_payload

ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-12))])
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.sampled_from([1764000000, 1764000000000, -62135596800000])
)
TIMES = ("occurred_at", "started_at", "ended_at", "next_retry_at")


@given(st.datetimes(timezones=ZONES))
def test_any_time_is_plausible_and_in_utc_or_absent(time: datetime) -> None:
    kept = plausible_time(time)
    assert kept is None or (kept.tzinfo is UTC and EARLIEST <= kept < LATEST)
    if kept is not None:
        assert kept == (time if time.tzinfo else time.replace(tzinfo=UTC))


@given(NUMBERS)
def test_any_number_is_plausible_or_absent(number: float) -> None:
    duration, attempts, time = plausible_duration(number), plausible_attempts(number), plausible_epoch(number)
    assert duration is None or 0 <= duration <= LONGEST_CALL_SECONDS
    assert attempts is None or 1 <= attempts <= 1000
    assert time is None or EARLIEST <= time < LATEST


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1764000000, datetime(2025, 11, 24, 16, tzinfo=UTC)),
        (1764000000.5, datetime(2025, 11, 24, 16, 0, 0, 500000, tzinfo=UTC)),
        (1764000000000, datetime(2025, 11, 24, 16, tzinfo=UTC)),
        (0, None), (-1, None), (946684799, None), (4102444800000, None), (1764000000000000, None), (None, None),
        (float("nan"), None), (float("inf"), None),
    ],
)  # fmt: skip
def test_an_epoch_is_taken_as_seconds_or_milliseconds_by_its_size(number: float, expected: datetime | None) -> None:
    assert plausible_epoch(number) == expected


@given(st.datetimes(timezones=st.just(UTC)), NUMBERS)
def test_a_webhook_with_any_times_and_numbers_has_plausible_ones_or_none(time: datetime, number: float) -> None:
    payload = make_payload(recipient=1)
    payload["timestamp"] = payload["data"]["call"]["started_at"] = payload["data"]["call"]["ended_at"] = (
        time.isoformat()
    )
    payload["data"]["call"]["duration_seconds"] = number
    payload["data"]["retry"] = {
        "attempt_number": number, "max_attempts": number, "next_retry_at": time.isoformat(), "is_final_attempt": False,
    }  # fmt: skip
    event = decode(payload)[0]
    assert isinstance(event, Event)
    assert_plausible(event)


@given(NUMBERS, NUMBERS, NUMBERS, st.datetimes(timezones=st.just(UTC)))
def test_a_conversation_with_any_times_and_numbers_heals_with_plausible_ones_or_none(
    start: float, end: float, duration: float, stored: datetime
) -> None:
    record = {
        "conversation_id": "c-1", "agent_id": 1, "status": "busy", "start_timestamp": start, "end_timestamp": end,
        "duration_seconds": duration,
    }  # fmt: skip
    conversation = decode_conversation(msgspec.json.encode({"data": record}))
    event = to_event(conversation, received_at=datetime.now(UTC), may_retry=False, contradicted=(2**31 - 1, stored))
    assert event is not None
    assert_plausible(event)


def assert_plausible(event: Event) -> None:
    for name in TIMES:
        time = getattr(event, name)
        assert time is None or EARLIEST <= time < LATEST, name
    assert event.duration_seconds is None or 0 <= event.duration_seconds <= LONGEST_CALL_SECONDS
    assert event.attempt_number is None or 1 <= event.attempt_number <= 1000
    assert event.max_attempts is None or 1 <= event.max_attempts <= 1000


MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    "time",
    [
        datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), EARLIEST - MOMENT, EARLIEST,
        LATEST - MOMENT, LATEST, datetime(2026, 3, 16, tzinfo=UTC), None,
    ],
)  # fmt: skip
async def test_a_time_is_plausible_to_both_or_neither(database: Database, time: datetime | None) -> None:
    assert await database.pool.fetchval("SELECT plausible_time($1)", time) == plausible_time(time)
    is_plausible = "SELECT is_plausible_fact($1, $2, $3, $4, 1, 1, 1)"
    for place in range(4):
        times = [time if n == place else None for n in range(4)]
        assert await database.pool.fetchval(is_plausible, *times) == (plausible_time(time) == time)


@pytest.mark.parametrize(
    "number", [-1, 0, 1, MAX_ATTEMPTS, MAX_ATTEMPTS + 1, LONGEST_CALL_SECONDS, LONGEST_CALL_SECONDS + 1, 2**31 - 1]
)
async def test_a_number_is_plausible_to_both_or_neither(database: Database, number: int) -> None:
    is_plausible = "SELECT is_plausible_fact(NULL, NULL, NULL, NULL, $1, $2, $3)"
    assert await database.pool.fetchval(is_plausible, number, None, None) == (plausible_duration(number) == number)
    for numbers in [(None, number, None), (None, None, number)]:
        assert await database.pool.fetchval(is_plausible, *numbers) == (plausible_attempts(number) == number)
