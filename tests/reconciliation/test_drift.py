"""Drift: what differs, what is allowed for, and the verdict; a pure function of figures and times."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formant.batches import ProviderMetrics
from service.outcomes.shapes import VERDICTS
from service.reconciliation.drift import FIGURES, FINALS, Assessment, Side, assess, count_unheard

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
GRACE = 900
SEED = ProviderMetrics(
    avg_duration_seconds=125.5, busy_count=15, completed_count=420, failed_count=30, in_progress_count=5,
    no_answer_count=20, pending_retry_count=10, socket_failure_count=0, success_count=420, success_rate=84.0,
    total_processed=485, unreachable_count=0,
)  # fmt: skip
DONE = msgspec.structs.replace(SEED, in_progress_count=0, pending_retry_count=0, failed_count=45, total_processed=500)


def change(figures: ProviderMetrics, **changes: Any) -> ProviderMetrics:
    return msgspec.structs.replace(figures, **changes)


def compare(
    theirs: ProviderMetrics,
    ours: ProviderMetrics,
    *,
    seconds: float = 0,
    total: int | None = 500,
    our_total: int | None = 500,
    earlier: ProviderMetrics | None = None,
) -> Assessment:
    """``seconds`` after both sides last changed."""
    changed = NOW - timedelta(seconds=seconds)
    return assess(
        Side(theirs, total, changed), Side(ours, our_total, changed), now=NOW, grace_seconds=GRACE, earlier=earlier
    )


def lose(figures: ProviderMetrics, figure: str, count: int) -> ProviderMetrics:
    """What we would count, had ``count`` webhooks of recipients with a final status been lost."""
    return change(
        figures,
        **{figure: getattr(figures, figure) - count},
        total_processed=(figures.total_processed or 0) - count,
        in_progress_count=(figures.in_progress_count or 0) + count,
    )


def codes(assessment: Assessment) -> list[str]:
    return [reason.code for reason in assessment.reasons]


def test_a_batch_that_was_never_compared_is_unverified() -> None:
    assessment = assess(None, Side(SEED, 500, NOW), now=NOW, grace_seconds=GRACE)
    assert (assessment.verdict, codes(assessment)) == ("unverified", ["never_compared"])


def test_the_seeds_batch_is_open_and_says_what_for() -> None:
    assessment = compare(SEED, SEED, seconds=GRACE)
    assert assessment.verdict == "open"
    assert [(reason.code, reason.count) for reason in assessment.reasons] == [
        ("in_progress", 5), ("waiting_for_retry", 10),
    ]  # fmt: skip
    assert (assessment.differences, assessment.inconsistencies, assessment.needs_healing) == ([], [], False)


def test_a_batch_is_open_while_fewer_are_processed_than_it_has_recipients() -> None:
    theirs = change(SEED, in_progress_count=0, pending_retry_count=0)
    assert compare(theirs, theirs, seconds=GRACE).verdict == "open"
    assert "not_all_processed" in codes(compare(theirs, theirs, seconds=GRACE))


@pytest.mark.parametrize("seconds", [0, GRACE - 1, GRACE, 10 * GRACE])
def test_finished_and_equal_is_complete_at_any_time(seconds: float) -> None:
    assessment = compare(DONE, DONE, seconds=seconds)
    assert (assessment.verdict, assessment.reasons, assessment.settles_at) == ("complete", [], None)


def test_finished_and_different_settles_while_grace_runs_and_has_drifted_when_it_is_over() -> None:
    ours = lose(DONE, "busy_count", 3)
    early, late = (compare(DONE, ours, seconds=seconds) for seconds in (GRACE - 1, GRACE))
    assert (early.verdict, early.settles_at) == ("settling", NOW + timedelta(seconds=1))
    assert {(d.allowed, d.reason) for d in early.differences} == {(True, "within_grace")}
    assert late.verdict == "drifted"
    assert [(d.figure, d.ours, d.theirs) for d in late.differences] == [
        ("busy_count", 12, 15), ("in_progress_count", 3, 0), ("total_processed", 497, 500),
    ]  # fmt: skip
    assert not any(d.allowed for d in late.differences)
    assert (early.needs_healing, late.needs_healing) == (False, True)


def test_a_change_on_either_side_restarts_grace() -> None:
    ours, old, new = lose(DONE, "busy_count", 3), NOW - timedelta(days=1), NOW - timedelta(seconds=GRACE - 1)
    for mine, other in ((old, new), (new, old), (None, new)):
        sides = Side(DONE, 500, other), Side(ours, 500, mine)
        assert assess(*sides, now=NOW, grace_seconds=GRACE).verdict == "settling"
    assert assess(Side(DONE, 500, old), Side(ours, 500, None), now=NOW, grace_seconds=GRACE).verdict == "drifted"


def test_without_grace_a_difference_is_drift_at_once() -> None:
    sides = Side(DONE, 500, NOW), Side(lose(DONE, "busy_count", 1), 500, NOW)
    assert assess(*sides, now=NOW, grace_seconds=0).verdict == "drifted"


def test_a_recipient_that_waits_there_and_is_final_here_is_allowed_for_within_grace_only() -> None:
    ours = change(DONE)
    theirs = change(DONE, busy_count=14, total_processed=499, pending_retry_count=1)
    early, late = (compare(theirs, ours, seconds=seconds) for seconds in (0, GRACE))
    assert all(d.allowed for d in early.differences)
    assert [d.figure for d in late.differences if not d.allowed] == ["busy_count", "total_processed"]
    assert (early.verdict, late.verdict) == ("open", "open")


def test_a_retry_that_is_being_dialled_may_wait_here_for_as_long_as_it_takes() -> None:
    theirs = change(SEED, in_progress_count=6, pending_retry_count=9)
    assessment = compare(theirs, SEED, seconds=10 * GRACE)
    assert {(d.figure, d.allowed, d.reason) for d in assessment.differences} == {
        ("in_progress_count", True, "under_way"), ("pending_retry_count", True, "under_way"),
    }  # fmt: skip
    assert not assessment.needs_healing


@pytest.mark.parametrize(("average", "verdict"), [(126.7, "complete"), (124.3, "complete"), (127.0, "drifted")])
def test_averages_pass_as_equal_within_one_percent(average: float, verdict: str) -> None:
    assert compare(DONE, change(DONE, avg_duration_seconds=average), seconds=GRACE).verdict == verdict


@pytest.mark.parametrize(("average", "verdict"), [(2.5, "complete"), (2.6, "drifted")])
def test_short_averages_pass_as_equal_within_half_a_second(average: float, verdict: str) -> None:
    theirs = change(DONE, avg_duration_seconds=2.0)
    assert compare(theirs, change(DONE, avg_duration_seconds=average), seconds=GRACE).verdict == verdict


@pytest.mark.parametrize(("rate", "verdict"), [(84.04, "complete"), (84.5, "complete"), (86.6, "drifted")])
def test_rates_pass_as_equal_when_they_were_rounded(rate: float, verdict: str) -> None:
    assert compare(change(DONE, success_rate=rate), DONE, seconds=GRACE).verdict == verdict


def test_a_figure_that_is_no_longer_reported_does_not_count_as_zero() -> None:
    assessment = compare(change(DONE, busy_count=None), DONE, seconds=GRACE)
    assert assessment.verdict == "complete"  # the total still proves it
    assert [(d.figure, d.theirs, d.allowed, d.reason) for d in assessment.differences] == [
        ("busy_count", None, True, "not_reported"),
    ]  # fmt: skip


def test_nothing_is_complete_that_the_reported_figures_cannot_prove() -> None:
    theirs = change(DONE, busy_count=None, failed_count=None)
    assessment = compare(theirs, DONE, seconds=GRACE)
    assert assessment.verdict == "unverified"
    assert [(reason.code, reason.figure) for reason in assessment.reasons] == [
        ("not_reported", "busy_count"), ("not_reported", "failed_count"),
    ]  # fmt: skip
    assert compare(ProviderMetrics(), DONE, seconds=GRACE).verdict == "unverified"


def test_another_number_of_recipients_is_a_difference_where_both_are_known() -> None:
    assert compare(DONE, DONE, seconds=GRACE, our_total=501).verdict == "drifted"
    assert compare(DONE, DONE, seconds=GRACE, our_total=None).verdict == "complete"


@pytest.mark.parametrize(
    ("total", "ours", "excess"),
    [
        (500, DONE, []),
        (499, DONE, [1]),
        (0, DONE, [500]),
        (None, DONE, []),
        (500, SEED, []),  # 485 and 10 waiting for a retry; those in progress may not have been called
        (490, SEED, [5]),
        (485, change(SEED, in_progress_count=900), [10]),
        (400, change(DONE, busy_count=None), []),
    ],
)
def test_more_recipients_with_calls_than_the_provider_says_there_are_is_a_reason(
    total: int | None, ours: ProviderMetrics, excess: list[int]
) -> None:
    assessment = compare(DONE, ours, seconds=GRACE, total=total)
    found = [reason for reason in assessment.reasons if reason.code == "more_recipients_than_total"]
    assert [(reason.figure, reason.count) for reason in found] == [("total_recipients", count) for count in excess]
    assert not excess or assessment.verdict == "drifted"


def test_finals_that_they_counted_a_grace_ago_and_we_lack_lag_though_the_batch_is_open_and_moves() -> None:
    ours = lose(SEED, "no_answer_count", 20)
    earlier = change(SEED, no_answer_count=18, completed_count=300)
    assessment = compare(SEED, ours, seconds=0, earlier=earlier)
    assert (assessment.verdict, assessment.lagging, assessment.needs_healing) == ("open", {"no_answer_count": 18}, True)
    assert {d.figure for d in assessment.differences if not d.allowed} == {"no_answer_count"}
    assert not compare(SEED, ours, seconds=0).needs_healing
    assert not compare(SEED, ours, seconds=0, earlier=change(SEED, no_answer_count=0)).needs_healing


def test_an_open_batch_that_has_been_quiet_for_as_long_as_grace_lags_by_its_present_figures() -> None:
    ours = lose(SEED, "no_answer_count", 2)
    assert not compare(SEED, ours, seconds=GRACE - 1).needs_healing
    assert compare(SEED, ours, seconds=GRACE).lagging == {"no_answer_count": 2}


@pytest.mark.parametrize(("unheard", "is_silent"), [(0, False), (2, False), (3, True), (500, True)])
def test_recipients_finished_without_a_webhook_raise_webhooks_silent_while_they_are_missing(
    unheard: int, is_silent: bool
) -> None:
    earlier = change(SEED, no_answer_count=18)
    for theirs in (SEED, DONE):
        for ours, is_missing in ((lose(theirs, "no_answer_count", 20), True), (theirs, False)):
            sides = Side(theirs, 500, NOW), Side(ours, 500, NOW)
            assessment = assess(*sides, now=NOW, grace_seconds=GRACE, earlier=earlier, unheard=unheard)
            assert ("webhooks_silent" in codes(assessment)) == (is_silent and is_missing)


def test_what_the_provider_finished_before_the_last_webhook_is_not_unheard() -> None:
    heard = change(SEED, busy_count=10, failed_count=29)
    assert count_unheard(SEED, heard) == 6
    assert count_unheard(heard, SEED) == 0
    assert count_unheard(None, heard) == count_unheard(SEED, None) == 0
    assert count_unheard(SEED, ProviderMetrics()) == 0  # not known, which is not zero


def test_an_open_batch_is_stuck_once_nothing_moves_on_either_side_and_no_retry_is_expected() -> None:
    hours = timedelta(hours=6)
    for theirs, ours, expected_retries, left in (
        (hours, hours, 0, 15),
        (hours, None, 0, 15),
        (hours, hours, 10, 5),
        (hours, hours, 15, None),
        (hours, hours - timedelta(seconds=1), 0, None),
        (hours - timedelta(seconds=1), hours, 0, None),
    ):
        assessment = assess(
            Side(SEED, 500, NOW - theirs), Side(SEED, 500, None if ours is None else NOW - ours), now=NOW,
            grace_seconds=GRACE, stuck_seconds=hours.total_seconds(), expected_retries=expected_retries,
        )  # fmt: skip
        assert [reason.count for reason in assessment.reasons if reason.code == "stuck"] == [left] * (left is not None)
        assert assessment.verdict == "open"
    assert "stuck" not in codes(compare(DONE, DONE, seconds=hours.total_seconds()))


def test_the_providers_contradictions_are_distinguished_from_drift() -> None:
    theirs = change(DONE, total_processed=501, success_rate=86.6)
    assessment = compare(theirs, theirs, seconds=GRACE)
    assert [(found.rule, found.reported, found.expected) for found in assessment.inconsistencies] == [
        ("total_processed_is_the_sum_of_finals", 501, 500),
        ("total_is_processed_in_progress_and_pending", 500, 501),
        ("success_rate_is_success_of_total", 86.6, 84.0),
    ]
    assert (assessment.verdict, set(codes(assessment))) == ("complete", {"provider_inconsistent"})


counts = st.none() | st.integers(0, 600) | st.integers(-(2**31), 2**31)
figures = st.builds(
    ProviderMetrics,
    **{name: st.none() | st.floats(allow_nan=False) if name in {"avg_duration_seconds", "success_rate"} else counts
       for name in FIGURES},
)  # fmt: skip
totals = st.none() | st.integers(0, 2**31)
moments = st.none() | st.integers(-10_000, 10_000).map(lambda seconds: NOW + timedelta(seconds=seconds))
finished = st.fixed_dictionaries({name: st.integers(0, 50) for name in FINALS}).map(
    lambda finals: ProviderMetrics(
        avg_duration_seconds=60.0, in_progress_count=0, pending_retry_count=0, success_count=finals["completed_count"],
        total_processed=sum(finals.values()), success_rate=50.0, **finals,
    )
)  # fmt: skip


@settings(deadline=None, derandomize=True, max_examples=500)
@given(theirs=figures, ours=figures, earlier=st.none() | figures, total=totals, our_total=totals, when=moments)
def test_any_figures_give_a_verdict(
    theirs: ProviderMetrics, ours: ProviderMetrics, earlier: ProviderMetrics | None, total: int | None,
    our_total: int | None, when: datetime | None,
) -> None:  # fmt: skip
    assessment = assess(
        Side(theirs, total, when), Side(ours, our_total, None), now=NOW, grace_seconds=GRACE, earlier=earlier
    )
    assert assessment.verdict in VERDICTS
    msgspec.json.encode(assessment)


@settings(deadline=None, derandomize=True)
@given(theirs=figures, total=totals, when=moments, seconds=st.integers(-5000, 5000))
def test_equal_figures_have_never_drifted(
    theirs: ProviderMetrics, total: int | None, when: datetime | None, seconds: int
) -> None:
    side = Side(theirs, total, when)
    assessment = assess(side, side, now=NOW + timedelta(seconds=seconds), grace_seconds=GRACE, earlier=theirs)
    assert assessment.verdict in {"unverified", "open", "complete"}
    assert (assessment.differences, assessment.needs_healing) == ([], False)


@settings(deadline=None, derandomize=True)
@given(
    theirs=finished, ours=finished, when=moments, steps=st.lists(st.integers(0, 5000), min_size=2), bare=st.booleans()
)
def test_settling_becomes_drifted_exactly_when_grace_is_over_and_never_goes_back(
    theirs: ProviderMetrics, ours: ProviderMetrics, when: datetime | None, steps: list[int], bare: bool
) -> None:
    when = when or NOW
    sides = Side(theirs, theirs.total_processed, when), Side(ours, None if bare else ours.total_processed, None)
    differs = any(getattr(theirs, name) != getattr(ours, name) for name in FINALS)
    for seconds in sorted(steps):
        now = when + timedelta(seconds=seconds)
        expected = ("settling" if seconds < GRACE else "drifted") if differs else "complete"
        assert assess(*sides, now=now, grace_seconds=GRACE, earlier=theirs).verdict == expected
