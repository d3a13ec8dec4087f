"""Healing as a reason of the verdict: how far it has come now, not at the last comparison."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formant.batches import ProviderMetrics
from service.outcomes.healing import Missing, describe_details, describe_healing, only_future, update_reasons
from service.outcomes.shapes import Reason, explain

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
STORED = [Reason("healing", done=0, total=5), Reason("within_grace", "busy_count", ours=1, theirs=6)]
FINALS = ("completed_count", "busy_count")


def make_metrics(completed: int = 0, busy: int = 0) -> ProviderMetrics:
    return ProviderMetrics(completed_count=completed, busy_count=busy)


def describe(ours: ProviderMetrics, **progress: Any) -> Reason | None:
    stored = {"began_at": NOW, "missing": 5, "total": 5, "finals": {"busy_count": 6}, **progress}
    return describe_healing(msgspec.json.encode(stored).decode(), ours, NOW)


def test_the_progress_of_healing_replaces_that_of_the_last_comparison() -> None:
    now = Reason("healing", done=3, total=5)
    assert update_reasons(STORED, now, make_metrics(busy=4)) == [
        now, *explain([Reason("within_grace", "busy_count", ours=4, theirs=6)]),
    ]  # fmt: skip


def test_a_figure_that_agrees_by_now_is_no_reason_any_more_while_the_batch_is_healed() -> None:
    now = Reason("healing", done=5, total=5)
    lagging = Reason("lagging", "busy_count", 5, ours=1, theirs=6)
    assert update_reasons([*STORED, lagging], now, make_metrics(busy=6)) == [now]
    (shown,) = update_reasons([lagging], now, make_metrics(busy=4))[1:]
    assert (shown.count, shown.text) == (2, "2 recipients that the provider counts as busy are missing here")


def test_healing_that_is_over_is_no_reason_any_more_and_its_figures_stay_those_compared() -> None:
    assert update_reasons(STORED, None, make_metrics(busy=4)) == [STORED[1]]
    assert describe(make_metrics(), walked_at=NOW) is None
    assert describe(make_metrics(), began_at=None) is None


def test_recipients_are_counted_not_their_calls() -> None:
    shown = describe(make_metrics(busy=4), healed=500)
    assert shown is not None
    assert (shown.done, shown.total, shown.text) == (3, 5, "3 of 5 missing outcomes were found so far")


def test_a_time_that_has_passed_is_not_expected() -> None:
    for seconds, is_shown in ((-60, False), (0, False), (60, True)):
        at = NOW + timedelta(seconds=seconds)
        shown = describe(make_metrics(), expected_at=at), describe_details(3, at, NOW)
        assert [each is not None and each.expected_at for each in shown] == [at if is_shown else None] * 2
        assert all(each is not None and ("final about" in each.text) == is_shown for each in shown)
    assert only_future(None, NOW) is None
    assert describe_details(0, NOW, NOW) is None


def test_progress_stored_by_an_earlier_version_is_still_shown() -> None:
    shown = describe_healing(f'{{"began_at": "{NOW.isoformat()}", "healed": 3, "missing": 4}}', make_metrics(), NOW)
    assert shown is not None
    assert (shown.done, shown.total) == (0, 4)


counts = st.integers(0, 50)
steps = st.lists(st.tuples(st.booleans(), counts, counts), max_size=20)


@settings(deadline=None, derandomize=True)
@given(steps=steps)
def test_done_only_grows_and_equals_the_total_only_when_nothing_is_missing(
    steps: list[tuple[bool, int, int]],
) -> None:
    """Each step adds to both sides; some are comparisons with the provider, after the others only our side is known."""
    theirs, ours, known, done = make_metrics(), make_metrics(), Missing(), 0
    for is_compared, provider_adds, we_add in steps:
        theirs = make_metrics((theirs.completed_count or 0) + provider_adds, (theirs.busy_count or 0) + provider_adds)
        ours = make_metrics(min(theirs.completed_count or 0, (ours.completed_count or 0) + we_add),
                            min(theirs.busy_count or 0, (ours.busy_count or 0) + we_add // 2))  # fmt: skip
        if is_compared:
            known = known.compare({name: getattr(theirs, name) for name in FINALS}, ours)
            assert known.missing == sum(getattr(theirs, name) - getattr(ours, name) for name in FINALS)
        shown = known.count(ours)
        assert done <= shown.total - shown.missing <= shown.total
        assert (shown.total == shown.total - shown.missing) == (shown.missing == 0)
        done = shown.total - shown.missing
