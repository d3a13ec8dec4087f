"""When a batch is expected to end: never before what is known, sooner with more calls, and unknown without a basis."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.outcomes.ending import FURTHEST, DueRetries, SlotCalls, estimate_end, find_busiest_pace, measure_pace

NOW = datetime(2026, 3, 16, 12, 0, tzinfo=UTC)
RETRIES = st.lists(
    st.builds(
        DueRetries,
        st.timedeltas(timedelta(), timedelta(days=3)).map(lambda later: NOW + later),
        st.integers(1, 500),
    ),
    max_size=6,
)
SLOTS = st.lists(
    st.builds(SlotCalls, st.integers(0, 95).map(lambda n: NOW - n * timedelta(minutes=15)), st.integers(1, 1000)),
    max_size=8,
    unique_by=lambda slot: slot.start,
)


def slot(minutes_ago: float, calls: int) -> SlotCalls:
    return SlotCalls(NOW - timedelta(minutes=minutes_ago), calls)


def due(minutes: float, recipients: int) -> DueRetries:
    return DueRetries(NOW + timedelta(minutes=minutes), recipients)


def estimate(**given: Any) -> datetime | None:
    known: dict[str, Any] = {"now": NOW, "ready": 0, "retries": [], "calls_per_recipient": 1.0, "calls": []}
    return estimate_end(**{**known, "created_at": None, **given})


@pytest.mark.parametrize(
    ("known", "minutes"),
    [
        # 120 calls within the last hour, 60 people left: half an hour.
        ({"ready": 60, "calls": [slot(60, 60), slot(30, 60)]}, 30),
        # Each needs two calls.
        ({"ready": 60, "calls": [slot(60, 60), slot(30, 60)], "calls_per_recipient": 2.0}, 60),
        # The batch has called for a quarter of an hour only: 120 calls an hour.
        ({"ready": 60, "calls": [slot(15, 30)]}, 30),
        # It was made in the middle of that quarter: 240 an hour.
        ({"ready": 60, "calls": [slot(15, 30)], "created_at": NOW - timedelta(minutes=7.5)}, 15),
        # A retry comes after all others are done: it is called when it is due.
        ({"ready": 60, "calls": [slot(60, 120)], "retries": [due(90, 2)]}, 91),
        # It is due while others are still called: it waits for them.
        ({"ready": 60, "calls": [slot(60, 120)], "retries": [due(10, 2)]}, 31),
        # Everyone waits: the busiest quarter of an hour of the day, ten a minute, says how fast they will be called.
        ({"calls": [slot(600, 150), slot(300, 15)], "retries": [due(60, 100)]}, 70),
        # Without any call of the last day only the times of the retries are known.
        ({"retries": [due(60, 1), due(300, 5)]}, 300),
    ],
)
def test_the_work_that_is_left_is_done_at_the_pace_of_the_calls(known: dict[str, Any], minutes: float) -> None:
    end = estimate(**known)
    assert end is not None
    assert abs((end - NOW).total_seconds() / 60 - minutes) < 0.001


@pytest.mark.parametrize(
    "known",
    [
        {},  # nobody is left
        {"calls": [slot(10, 5)]},
        {"ready": 5},  # nobody was ever called
        {"ready": 5, "calls": [slot(90, 500)]},  # not in the last hour: the batch may be paused
        {"ready": 5, "retries": [due(60, 5)]},
        {"ready": 10**9, "calls": [slot(60, 1)]},  # in a century
        {"retries": [DueRetries(NOW + FURTHEST, 1)]},
    ],
)
def test_there_is_no_estimate_without_a_basis(known: dict[str, Any]) -> None:
    assert estimate(**known) is None


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 5000), RETRIES, st.floats(1, 10), SLOTS)
def test_an_end_is_not_before_the_last_retry_nor_before_the_work_is_done(
    ready: int, retries: list[DueRetries], calls_per_recipient: float, calls: list[SlotCalls]
) -> None:
    known = {"ready": ready, "retries": retries, "calls_per_recipient": calls_per_recipient, "calls": calls}
    end = estimate(**known)
    if end is None:
        return
    left = ready + sum(retry.recipients for retry in retries)
    assert left > 0
    assert max([NOW, *(retry.due_at for retry in retries)]) <= end < NOW + FURTHEST
    pace = measure_pace(calls, now=NOW, created_at=None) if ready else find_busiest_pace(calls)
    if pace is not None:
        assert end >= NOW + timedelta(hours=left * calls_per_recipient / pace) - timedelta(seconds=1)
        latest = max([NOW, *(retry.due_at for retry in retries)])
        assert end <= latest + timedelta(hours=left * calls_per_recipient / pace) + timedelta(seconds=1)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 5000), RETRIES, SLOTS, st.integers(1, 500))
def test_more_work_never_ends_sooner_and_more_calls_never_later(
    ready: int, retries: list[DueRetries], calls: list[SlotCalls], more: int
) -> None:
    end = estimate(ready=ready, retries=retries, calls=calls)
    for harder in (
        estimate(ready=ready + more, retries=retries, calls=calls),
        estimate(ready=ready, retries=[*retries, due(more, 3)], calls=calls),
        estimate(ready=ready, retries=retries, calls=calls, calls_per_recipient=2.0),
    ):
        assert harder is None or (end is not None and harder >= end)
    faster = [SlotCalls(one.start, one.calls + more) for one in calls]
    sooner = estimate(ready=ready, retries=retries, calls=faster)
    assert end is None or (sooner is not None and sooner <= end)


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 500), st.permutations([due(5, 1), due(50, 7), due(20, 3), due(20, 4)]))
def test_the_order_in_which_retries_are_given_changes_nothing(ready: int, retries: list[DueRetries]) -> None:
    calls = [slot(30, 100)]
    ordered = sorted(retries, key=lambda retry: retry.due_at)
    assert estimate(ready=ready, retries=retries, calls=calls) == estimate(ready=ready, retries=ordered, calls=calls)
