"""The rows of a comparison: shares and means on both sides, tested together, and a verdict in which a winner must be
more than chance. ``inference`` has the statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from service import wording
from service.formant.events import STATUSES
from service.outcomes.comparison_shapes import Compared, Sample
from service.outcomes.figures import TalkTimeCount, find_wilson_interval
from service.outcomes.inference import (
    FEWEST,
    Interval,
    Moments,
    adjust_p_values,
    compare_means,
    compare_shares,
    estimate_mean,
    find_moments,
    find_score_p_value,
    has_enough,
    judge,
)

_INVERSE = {"higher": "lower", "lower": "higher"}


@dataclass(frozen=True)
class Share:
    """``count`` out of ``of``; None when it is unknown."""

    count: int | None
    of: int
    denominator: str


class Tested(NamedTuple):
    """A row, what it differs by, and its p-value; None where nothing was tested."""

    name: str
    unit: str
    left: Sample
    right: Sample
    difference: Interval | None
    p_value: float | None


def compare_figures(left: Any, right: Any) -> list[Compared]:
    """The figures of two rows of ``sum_batches``."""
    shares = zip(_list_shares(left).items(), _list_shares(right).values(), strict=True)
    tests = [compare_share(name, one, other) for (name, one), other in shares]
    rows = conclude([*tests, _compare_talk(left, right)])
    connect_rate = next(row for row in rows if row["name"] == "connect_rate")
    return [*rows[:-1], _invert(connect_rate), rows[-1]]


def compare_share(name: str, left: Share, right: Share) -> Tested:
    """A share on both sides."""
    difference = p_value = None
    if left.count is not None and right.count is not None:
        counts = (left.count, left.of, right.count, right.of)
        difference = compare_shares(*counts)
        p_value = find_score_p_value(*counts) if has_enough(*counts) else None
        if difference is not None:
            difference = Interval(*(100 * end for end in difference))
    return Tested(name, "percent", _show_share(left), _show_share(right), difference, p_value)


def conclude(tests: Sequence[Tested]) -> list[Compared]:
    """The rows of one list with their verdicts, corrected for the number of tests in it."""
    tested = [test.p_value for test in tests if test.p_value is not None]
    adjusted = iter(adjust_p_values(tested))
    return [_conclude(test, None if test.p_value is None else next(adjusted)) for test in tests]


def _conclude(test: Tested, adjusted: float | None) -> Compared:
    is_unknown = test.left["count"] is None or test.right["count"] is None
    verdict = "unknown" if is_unknown else judge(test.difference, adjusted)
    value = test.difference
    return {
        "name": test.name,
        "unit": test.unit,
        "left": test.left,
        "right": test.right,
        "difference": None if value is None else {
            "value": round(value.value, 2), "low": round(value.low, 2), "high": round(value.high, 2)
        },
        "p_value": None if test.p_value is None else round(test.p_value, 6),
        "adjusted_p_value": None if adjusted is None else round(adjusted, 6),
        "verdict": verdict,
        "verdict_text": _describe(verdict, test.left, test.right),
    }  # fmt: skip


def _describe(verdict: str, left: Sample, right: Sample) -> str:
    """A verdict in words, which name the side where the figure is not known."""
    unknown = [side for side, one in (("left", left), ("right", right)) if one["value"] is None]
    if verdict == "unknown" and len(unknown) == 1:
        return wording.UNKNOWN_ON[unknown[0]]
    return wording.describe(wording.COMPARED, verdict) or ""


def _list_shares(row: Any) -> dict[str, Share]:
    states: dict[str, int] = msgspec.json.decode(row["states"])
    completed = states.get("completed", 0)
    total, attempted = row["total"], row["attempted"]
    met = None if row["goal_counting"] or not row["goal_recipients"] else row["goal_met"]
    return {
        "reached_rate": Share(row["contacted"], total, "recipients.total"),
        "success_rate": Share(completed, total, "recipients.total"),
        "completion_rate": Share(completed, sum(states.get(one, 0) for one in STATUSES), "recipients.processed"),
        "goal_rate": Share(met, row["goal_recipients"], "goal.recipients"),
        "penetration": Share(attempted, total, "recipients.total"),
        "contact_rate": Share(row["contacted"], attempted, "attempts.recipients"),
        "connect_rate": Share(row["connects"], row["attempts"], "attempts.total"),
    }


def _show_share(share: Share) -> Sample:
    low = high = value = None
    if share.count is not None and share.of > 0:
        value = round(100 * share.count / share.of, 2)
        low, high = (round(100 * end, 2) for end in find_wilson_interval(min(share.count, share.of), share.of))
    return {
        "value": value, "low": low, "high": high, "count": share.count, "of": share.of, "denominator": share.denominator
    }  # fmt: skip


def _invert(rate: Compared) -> Compared:
    """Attempts per connect: one divided by the connect rate, so its verdict is the opposite one."""
    left, right = _invert_sample(rate["left"]), _invert_sample(rate["right"])
    verdict = _INVERSE.get(rate["verdict"], rate["verdict"])
    has_values = left["value"] is not None and right["value"] is not None
    return {
        **rate,
        "name": "attempts_per_connect",
        "unit": "attempts",
        "left": left,
        "right": right,
        "difference": {"value": round((right["value"] or 0) - (left["value"] or 0), 2), "low": None, "high": None}
        if has_values
        else None,
        "verdict": verdict if has_values else "unknown",
        "verdict_text": _describe(verdict if has_values else "unknown", left, right),
    }


def _invert_sample(sample: Sample) -> Sample:
    count, of = sample["count"] or 0, sample["of"]
    low, high = (round(100 / end, 2) if end else None for end in (sample["high"], sample["low"]))
    return {
        "value": round(of / count, 2) if count else None, "low": low, "high": high, "count": of, "of": count,
        "denominator": "attempts.connects",
    }  # fmt: skip


def _compare_talk(left: Any, right: Any) -> Tested:
    """Seconds talked, on average, by completed recipients."""
    moments = [_read_moments(row) for row in (left, right)]
    samples = [_show_mean(row, one) for row, one in zip((left, right), moments, strict=True)]
    difference = p_value = None
    if moments[0] is not None and moments[1] is not None:
        difference, p_value = compare_means(moments[0], moments[1])
        if min(moments[0].size, moments[1].size) < FEWEST:
            p_value = None
    return Tested("average_talk_seconds", "seconds", samples[0], samples[1], difference, p_value)


def _read_moments(row: Any) -> Moments | None:
    """The mean is exact; the histogram gives the variance."""
    found = find_moments(msgspec.json.decode(row["talk_times"], type=list[TalkTimeCount]))
    if found is None or not row["talked"]:
        return None
    return Moments(row["talked"], row["talk_seconds"] / row["talked"], found.variance)


def _show_mean(row: Any, moments: Moments | None) -> Sample:
    value = round(row["talk_seconds"] / row["talked"], 2) if row["talked"] else None
    interval = None if moments is None else estimate_mean(moments)
    return {
        "value": value,
        "low": None if interval is None else round(interval.low, 2),
        "high": None if interval is None else round(interval.high, 2),
        "count": row["talk_seconds"],
        "of": row["talked"],
        "denominator": "duration_seconds.count",
    }
