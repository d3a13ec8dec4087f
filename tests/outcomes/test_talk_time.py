"""Percentiles of talk time: exact below a minute, near beyond it, whatever the durations are."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from service.outcomes.figures import PERCENTILES, TalkTimeCount, find_percentiles
from service.store.database import Database


def slot_of(seconds: int) -> int:
    """Written from the table's comment alone: 32 steps to each doubling from 64 on, all from 8192 on together."""
    if seconds < 64:
        return seconds
    step = 1
    while step * 64 <= seconds:
        step *= 2
    return 8192 if seconds >= 8192 else seconds - seconds % step


def count(durations: list[int]) -> list[TalkTimeCount]:
    return [TalkTimeCount(slot, number) for slot, number in Counter(map(slot_of, durations)).items()]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 63), min_size=1, max_size=300))
def test_below_a_minute_percentiles_are_exact(durations: list[int]) -> None:
    ordered = sorted(durations)
    expected = {f"p{percent}": ordered[-(-len(ordered) * percent // 100) - 1] for percent in PERCENTILES}
    assert find_percentiles(count(durations)) == expected


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 8191), min_size=1, max_size=300))
def test_beyond_they_are_within_what_is_promised(durations: list[int]) -> None:
    ordered = sorted(durations)
    for percent in PERCENTILES:
        exact = ordered[-(-len(ordered) * percent // 100) - 1]
        found = find_percentiles(count(durations))[f"p{percent}"]
        assert found is not None
        assert abs(found - exact) <= 0.016 * exact


def test_calls_of_many_hours_are_shown_as_at_least_so_long() -> None:
    assert find_percentiles(count([8191, 20_000, 90_000]))["p99"] == 8192


def test_without_talk_there_is_no_percentile() -> None:
    assert find_percentiles([]) == dict.fromkeys(("p50", "p90", "p95", "p99"))


async def test_the_database_counts_in_the_same_steps(database: Database) -> None:
    rows = await database.pool.fetch("SELECT n, talk_time_slot(n) AS slot FROM generate_series(-5, 9000) AS n")
    assert {row["n"]: row["slot"] for row in rows} == {n: slot_of(max(n, 0)) for n in range(-5, 9001)}
    assert len({row["slot"] for row in rows}) == 289
    assert await database.pool.fetchval("SELECT talk_time_slot(2147483647)") == 8192
