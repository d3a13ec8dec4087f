"""Statistics of two samples: intervals that cover the truth, no winner by chance, and published figures."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.outcomes.figures import TalkTimeCount
from service.outcomes.inference import (
    Interval,
    Moments,
    adjust_p_values,
    compare_means,
    compare_shares,
    find_moments,
    find_score_p_value,
    has_enough,
    judge,
)

ROUNDS = 2000


@st.composite
def samples(draw: st.DrawFn) -> tuple[int, int]:
    of = draw(st.integers(1, 10**7))
    return draw(st.integers(0, of)), of


def draw_count(randomness: random.Random, share: float, of: int) -> int:
    return sum(randomness.random() < share for _ in range(of))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ((48, 80), (56, 70), (0.0524, 0.3339)),
        ((3, 10), (9, 10), (0.1705, 0.8090)),
        ((0, 29), (5, 56), (-0.0381, 0.1926)),
        ((0, 20), (0, 10), (-0.1611, 0.2775)),
        ((0, 10), (10, 10), (0.6075, 1.0)),
    ],
)
def test_the_interval_is_that_of_newcombes_paper(
    left: tuple[int, int], right: tuple[int, int], expected: tuple[float, float]
) -> None:
    found = compare_shares(*left, *right)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(expected, abs=0.0006)


@pytest.mark.parametrize("sizes", [(30, 30), (40, 200), (150, 100)])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.1, 0.3), (0.02, 0.05), (0.9, 0.95)])
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says(
    shares: tuple[float, float], sizes: tuple[int, int]
) -> None:
    randomness = random.Random(20261116)
    covered = 0
    for _ in range(ROUNDS):
        counts = [draw_count(randomness, share, of) for share, of in zip(shares, sizes, strict=True)]
        found = compare_shares(counts[0], sizes[0], counts[1], sizes[1])
        assert found is not None
        covered += found.low <= shares[1] - shares[0] <= found.high
    assert 0.93 <= covered / ROUNDS <= 0.999


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_among_many_comparisons_of_equals_a_winner_is_rarely_named(share: float) -> None:
    randomness = random.Random(7)
    of, rows, rounds = 150, 20, 150
    named = 0
    for _ in range(rounds):
        counts = [(draw_count(randomness, share, of), of, draw_count(randomness, share, of), of) for _ in range(rows)]
        tested = [one for one in counts if has_enough(*one)]
        adjusted = adjust_p_values([find_score_p_value(*one) for one in tested])
        verdicts = {judge(compare_shares(*one), p) for one, p in zip(tested, adjusted, strict=True)}
        named += bool(verdicts & {"higher", "lower"})
    assert named / rounds <= 0.09


@given(samples(), samples())
def test_exchanging_the_sides_exchanges_the_signs(left: tuple[int, int], right: tuple[int, int]) -> None:
    one, other = compare_shares(*left, *right), compare_shares(*right, *left)
    assert one is not None
    assert other is not None
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-12)
    assert find_score_p_value(*left, *right) == pytest.approx(find_score_p_value(*right, *left))
    assert has_enough(*left, *right) == has_enough(*right, *left)
    opposite = {"higher": "lower", "lower": "higher"}
    verdict = judge(one, find_score_p_value(*left, *right))
    assert judge(other, find_score_p_value(*right, *left)) == opposite.get(verdict, verdict)


@given(samples(), samples())
def test_an_interval_holds_its_difference_and_stays_within_what_is_possible(
    left: tuple[int, int], right: tuple[int, int]
) -> None:
    found = compare_shares(*left, *right)
    assert found is not None
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert found.low < found.high
    assert 0 <= find_score_p_value(*left, *right) <= 1


@given(samples())
def test_a_side_does_not_differ_from_itself(side: tuple[int, int]) -> None:
    found = compare_shares(*side, *side)
    assert found is not None
    assert judge(found, find_score_p_value(*side, *side)) == "no_clear_difference"


def test_what_cannot_be_compared_is_too_few() -> None:
    assert compare_shares(0, 0, 5, 10) is None
    assert compare_shares(5, 10, 0, 0) is None
    assert compare_shares(0, 0, 0, 0) is None
    assert judge(None, None) == "too_few"
    for counts in ((0, 0, 0, 0), (0, 29, 29, 29), (0, 1000, 9, 1000), (1000, 1000, 1000, 1000), (3, 30, 5, 10**6)):
        assert not has_enough(*counts), counts
    for counts in ((0, 30, 10, 30), (0, 1000, 10, 1000), (40, 100, 40, 100)):
        assert has_enough(*counts), counts
    assert find_score_p_value(0, 50, 0, 60) == find_score_p_value(50, 50, 60, 60) == 1.0


def test_a_winner_takes_both_the_corrected_test_and_the_interval() -> None:
    clear = Interval(0.1, 0.05, 0.15)
    assert [judge(clear, p) for p in (0.001, 0.05, 0.051)] == ["higher", "higher", "no_clear_difference"]
    assert judge(Interval(-0.1, -0.15, -0.05), 0.001) == "lower"
    assert judge(Interval(0.1, -0.01, 0.21), 0.001) == "no_clear_difference"


def test_p_values_are_corrected_as_in_the_paper() -> None:
    published = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
                 0.7590, 1.0000]  # fmt: skip
    assert sum(p <= 0.05 for p in adjust_p_values(published)) == 4
    assert adjust_p_values([0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert adjust_p_values([]) == []


@given(st.lists(st.floats(0, 1), max_size=30))
def test_correcting_never_makes_a_p_value_smaller_nor_changes_their_order(p_values: list[float]) -> None:
    adjusted = adjust_p_values(p_values)
    assert all(p <= found <= 1 for p, found in zip(p_values, adjusted, strict=True))
    ordered = [found for _, found in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)


def test_means_are_compared_by_their_spread() -> None:
    moments = find_moments([TalkTimeCount(10, 3), TalkTimeCount(20, 1)])
    assert moments == Moments(4, 12.5, 25.0)
    assert find_moments([TalkTimeCount(10, 1)]) is None
    assert find_moments([]) is None
    difference, p_value = compare_means(Moments(100, 60.0, 400.0), Moments(400, 66.0, 400.0))
    reach = 1.959964 * math.sqrt(400 / 100 + 400 / 400)
    assert difference == pytest.approx((6.0, 6.0 - reach, 6.0 + reach))
    assert p_value == pytest.approx(0.00729, abs=0.0001)
    assert compare_means(Moments(30, 5.0, 0.0), Moments(30, 5.0, 0.0)) == (Interval(0.0, 0.0, 0.0), 1.0)
