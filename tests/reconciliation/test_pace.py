"""When work will be done, by the pace observed so far."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from service.reconciliation.pace import LONGEST, expect_end

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
counts = st.integers(0, 10_000)
durations = st.floats(0, 10_000)
paces = st.floats(0.01, 100)


def test_the_rest_takes_as_long_as_what_is_done_and_no_less_than_the_budget_allows() -> None:
    assert expect_end(NOW, left=30, done=10, seconds=50) == NOW + timedelta(seconds=150)
    assert expect_end(NOW, left=30, done=10, seconds=5, least_seconds=1.5) == NOW + timedelta(seconds=45)
    assert expect_end(NOW, left=30, least_seconds=1.5) == NOW + timedelta(seconds=45)
    assert expect_end(NOW, left=0, least_seconds=1.5) == NOW + SECOND


def test_what_cannot_be_estimated_is_not() -> None:
    assert expect_end(NOW, left=30) is None
    assert expect_end(NOW, left=10**12, least_seconds=1.5) is None


@settings(deadline=None, derandomize=True)
@given(left=counts, done=counts, seconds=durations, least_seconds=durations)
def test_the_end_is_never_in_the_past(left: int, done: int, seconds: float, least_seconds: float) -> None:
    expected = expect_end(NOW, left=left, done=done, seconds=seconds, least_seconds=least_seconds)
    assert expected is None or NOW + SECOND <= expected <= NOW + LONGEST + MILLISECOND


@settings(deadline=None, derandomize=True)
@given(total=st.integers(2, 1000), pace=paces, least_seconds=paces)
def test_work_at_a_steady_pace_is_expected_to_end_when_it_does(total: int, pace: float, least_seconds: float) -> None:
    pace = max(pace, least_seconds)  # nothing is faster than the budget
    ends_at = NOW + timedelta(seconds=total * pace)
    for done in {1, total // 3, total // 2, total - 1} - {0}:
        now = NOW + timedelta(seconds=done * pace)
        expected = expect_end(now, left=total - done, done=done, seconds=done * pace, least_seconds=least_seconds)
        assert expected is not None
        assert abs(expected - max(ends_at, now + SECOND)) <= MILLISECOND


@settings(deadline=None, derandomize=True)
@given(left=counts, done=st.integers(1, 10_000), seconds=st.floats(0.1, 10_000), pause=st.floats(0, 10**6))
def test_a_pause_delays_the_end_by_its_length(left: int, done: int, seconds: float, pause: float) -> None:
    """Such as the time until another worker goes on after a crash."""
    before = expect_end(NOW, left=left, done=done, seconds=seconds, least_seconds=0.1)
    after = expect_end(NOW + timedelta(seconds=pause), left=left, done=done, seconds=seconds, least_seconds=0.1)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert abs(after - before - timedelta(seconds=pause)) <= MILLISECOND
