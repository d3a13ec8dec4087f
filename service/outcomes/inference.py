"""Statistics of two samples, side by side: intervals of a difference, tests, and a correction for many of them.

Pure functions of counts. Shares are from 0 to 1; a difference is the right side minus the left one; intervals have 95
percent confidence. ``docs/analyse/figures.md`` says which method stands where, and why.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from service.outcomes.figures import Z_95, TalkTimeCount, find_middle, find_wilson_interval

CONFIDENCE_PERCENT = 95
FALSE_DISCOVERY_PERCENT = 5
FEWEST = 30
"""Below this many on a side nothing is called a difference."""
FEWEST_EXPECTED = 5
"""So many of either kind must be expected on both sides, or the normal approximation of a test is too coarse."""


class Interval(NamedTuple):
    """A value, and the two ends between which the true one lies with 95 percent confidence."""

    value: float
    low: float
    high: float


class Moments(NamedTuple):
    """A sample of durations: its size, its mean and its variance, in seconds."""

    size: int
    mean: float
    variance: float


def compare_shares(left_count: int, left_of: int, right_count: int, right_of: int) -> Interval | None:
    """The difference of two independent shares; None if a side is empty.

    Newcombe's hybrid score interval: R. G. Newcombe, Statistics in Medicine 17 (1998) 873, method 10. It joins the
    Wilson intervals of both sides, never leaves -1 to 1, and holds for small samples and shares of 0 and 1.
    """
    if left_of <= 0 or right_of <= 0:
        return None
    left, right = left_count / left_of, right_count / right_of
    left_low, left_high = find_wilson_interval(left_count, left_of)
    right_low, right_high = find_wilson_interval(right_count, right_of)
    difference = right - left
    down = math.hypot(right - right_low, left_high - left)
    up = math.hypot(right_high - right, left - left_low)
    return Interval(difference, max(-1.0, difference - down), min(1.0, difference + up))


def has_enough(left_count: int, left_of: int, right_count: int, right_of: int) -> bool:
    """Whether both samples are large enough for ``find_score_p_value``. It looks only at the sums of both sides, never
    at their difference, so leaving out the others does not favour a result."""
    fewest, most = min(left_of, right_of), left_of + right_of
    met = left_count + right_count
    return fewest >= FEWEST and fewest * min(met, most - met) >= FEWEST_EXPECTED * most


def find_score_p_value(left_count: int, left_of: int, right_count: int, right_of: int) -> float:
    """The two-sided p-value of two independent shares being equal: the score test, with the pooled variance. Both sides
    hold somebody."""
    pooled = (left_count + right_count) / (left_of + right_of)
    variance = pooled * (1 - pooled) * (1 / left_of + 1 / right_of)
    if variance <= 0:
        return 1.0
    return _find_two_sided(right_count / right_of - left_count / left_of, variance)


def find_moments(counts: Sequence[TalkTimeCount]) -> Moments | None:
    """The moments of talk times, from counters that are exact to 1.6 percent; None for fewer than two."""
    size = sum(count.recipients for count in counts)
    if size < 2:
        return None
    middles = [(find_middle(count.from_seconds), count.recipients) for count in counts]
    mean = sum(middle * number for middle, number in middles) / size
    variance = sum(number * (middle - mean) ** 2 for middle, number in middles) / (size - 1)
    return Moments(size, mean, variance)


def estimate_mean(moments: Moments) -> Interval:
    """The mean of a large sample, by the central limit theorem."""
    reach = Z_95 * math.sqrt(moments.variance / moments.size)
    return Interval(moments.mean, max(0.0, moments.mean - reach), moments.mean + reach)


def compare_means(left: Moments, right: Moments) -> tuple[Interval, float]:
    """The difference of two means, and the two-sided p-value of their being equal: Welch's, for large samples."""
    difference, variance = right.mean - left.mean, left.variance / left.size + right.variance / right.size
    reach = Z_95 * math.sqrt(variance)
    p_value = _find_two_sided(difference, variance) if variance > 0 else float(difference == 0)
    return Interval(difference, difference - reach, difference + reach), p_value


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for being several, in the same order: calling those at most q a difference keeps the
    expected share of wrong ones among them at q.

    Y. Benjamini, Y. Hochberg, Journal of the Royal Statistical Society B 57 (1995) 289.
    """
    adjusted = [1.0] * len(p_values)
    least = 1.0
    ordered = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in reversed(list(enumerate(ordered, 1))):
        least = min(least, p_values[place] * (len(p_values) / rank))
        adjusted[place] = least
    return adjusted


def judge(difference: Interval | None, adjusted_p_value: float | None) -> str:
    """How the right side stands to the left one: ``higher`` or ``lower`` only if both the corrected test and the
    interval say so, else ``no_clear_difference``; ``too_few`` where nothing was tested."""
    if difference is None or adjusted_p_value is None:
        return "too_few"
    if adjusted_p_value <= FALSE_DISCOVERY_PERCENT / 100:
        if difference.low > 0:
            return "higher"
        if difference.high < 0:
            return "lower"
    return "no_clear_difference"


def _find_two_sided(difference: float, variance: float) -> float:
    return math.erfc(abs(difference) / math.sqrt(2 * variance))
