"""The figures of a summary: rates, outstanding retries, percentiles of talk time, and when people answer.

- A rate is a share. It always comes with both numbers and the name of the denominator.
- Retries are counted by the minute in which they are due. A retry is ``overdue`` once that minute has passed;
  ``earliest_at`` may be in the past, and is then the longest overdue.
- A percentile of talk time is the shortest duration that at least so many percent of the completed recipients do not
  exceed (``sql/functions/10_talk_time_slot.sql``). Below 64 seconds every second has a counter. Above, each doubling
  has 32 counters, so the percentile is exact to 1.6 percent. From 8192 seconds (2 h 16 min) on it is a lower bound.
- A connect rate by caller number, hour or weekday comes with its 95 percent confidence interval (Wilson's score
  interval), because such a rate is often one of few attempts.
- Weekdays are ISO 8601's, in the time zone of the request: 1 is Monday. Attempts without a time are in none of them.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec


def to_rate(part: int | None, whole: int, denominator: str) -> dict[str, Any]:
    """``part`` of ``whole`` in percent, to one decimal; null when ``whole`` is 0 or ``part`` is unknown.

    ``denominator`` is the name of ``whole`` in the same answer.
    """
    return {
        "percent": round(100 * part / whole, 1) if whole and part is not None else None,
        "count": part,
        "of": whole,
        "denominator": denominator,
    }


def to_ratio(count: int, whole: int, denominator: str) -> dict[str, Any]:
    """``count`` per one of ``whole``, to two decimals; null when ``whole`` is 0."""
    return {
        "ratio": round(count / whole, 2) if whole else None,
        "count": count,
        "of": whole,
        "denominator": denominator,
    }


Z_95 = 1.959964
"""Of a normal distribution, 95 percent are within so many standard deviations."""


def find_wilson_interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's score interval without continuity correction: shares from 0 to 1 between which the true share lies with
    95 percent confidence. ``of`` is above 0.

    E. B. Wilson, 1927; R. G. Newcombe, Statistics in Medicine 17 (1998), method 3.
    """
    share, z_squared = count / of, Z_95**2
    middle = share + z_squared / (2 * of)
    reach = Z_95 * math.sqrt(share * (1 - share) / of + z_squared / (4 * of * of))
    scale = 1 + z_squared / of
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def estimate_connect_rate(connects: int, attempts: int) -> dict[str, Any]:
    """The connect rate and its confidence interval in percent, to one decimal; null without attempts."""
    if attempts <= 0:
        return {"percent": None, "low_percent": None, "high_percent": None, "attempts": attempts}
    low, high = find_wilson_interval(connects, attempts)
    return {
        "percent": round(100 * connects / attempts, 1),
        "low_percent": round(100 * low, 1),
        "high_percent": round(100 * high, 1),
        "attempts": attempts,
    }


def describe_recipients(total: int, processed: int, *, in_progress: int, pending_retry: int) -> dict[str, Any]:
    """Recipients by how far they are."""
    return {"total": total, "processed": processed, "in_progress": in_progress, "pending_retry": pending_retry}


def describe_rates(
    *,
    total: int,
    processed: int,
    completed: int,
    attempts: int,
    connects: int,
    attempted: int,
    contacted: int | None,
    goal_rate: dict[str, Any],
) -> dict[str, Any]:
    """The rates of a batch or a group of batches. ``attempted`` and ``contacted`` count recipients."""
    return {
        "success_rate": to_rate(completed, total, "recipients.total"),
        "completion_rate": to_rate(completed, processed, "recipients.processed"),
        "connect_rate": to_rate(connects, attempts, "attempts.total"),
        "penetration": to_rate(attempted, total, "recipients.total"),
        "contact_rate": to_rate(contacted, attempted, "attempts.recipients"),
        "goal_rate": goal_rate,
        "attempts_per_connect": to_ratio(attempts, connects, "attempts.connects"),
    }


PRECISION_SECONDS = 60


class RetryCounts(msgspec.Struct):
    """Recipients that wait for a retry, by when it is due, as of one instant."""

    overdue: int = 0
    due_within_hour: int = 0
    due_later: int = 0
    without_time: int = 0
    earliest_at: datetime | None = None
    next_at: datetime | None = None


def describe_retries(counts: RetryCounts | None, outstanding: int) -> dict[str, Any]:
    """``outstanding`` is the sum of the four counts. These are null when they are unknown."""
    times = dict.fromkeys(RetryCounts.__struct_fields__) if counts is None else msgspec.structs.asdict(counts)
    return {"outstanding": outstanding, **times, "precision_seconds": PRECISION_SECONDS}


PERCENTILES = (50, 90, 95, 99)
EXACT_BELOW_SECONDS = 64
STEPS = 32
OPEN_FROM_SECONDS = 8192
PRECISION = {
    "exact_below_seconds": EXACT_BELOW_SECONDS,
    "within_percent": 1.6,
    "at_least_from_seconds": OPEN_FROM_SECONDS,
}


class TalkTimeCount(msgspec.Struct):
    """Recipients that share a counter of talk time; ``from_seconds`` is the start of its range."""

    from_seconds: int
    recipients: int


def find_percentiles(counts: Sequence[TalkTimeCount]) -> dict[str, int | None]:
    """``p50`` to ``p99`` in seconds; null when nobody talked."""
    ordered = sorted(counts, key=lambda count: count.from_seconds)
    total = sum(count.recipients for count in ordered)
    found: dict[str, int | None] = {}
    for percent in PERCENTILES:
        reached, needed = 0, -(-total * percent // 100)
        found[f"p{percent}"] = None
        for count in ordered:
            reached += count.recipients
            if total and reached >= needed:
                found[f"p{percent}"] = find_middle(count.from_seconds)
                break
    return found


def find_middle(from_seconds: int) -> int:
    """The middle of the range that starts at ``from_seconds``."""
    if from_seconds < EXACT_BELOW_SECONDS or from_seconds >= OPEN_FROM_SECONDS:
        return from_seconds
    width = (1 << (from_seconds.bit_length() - 1)) // STEPS
    return from_seconds + (width - 1) // 2


WEEKDAYS = range(1, 8)


class AttemptCount(msgspec.Struct):
    """Attempts of one status that began in the same hour of the same weekday."""

    hour: int | None
    status: str
    attempts: int
    weekday: int | None = None


def add_connect_rate(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the connect rate of its ``attempts`` and ``connects``."""
    return row | {"connect_rate": estimate_connect_rate(row["connects"], row["attempts"])}


def group_by_weekday(counts: Sequence[AttemptCount]) -> list[dict[str, Any]]:
    """Seven rows of ``weekday``, ``attempts``, ``connects`` and ``connect_rate``."""
    return [
        add_connect_rate(
            {"weekday": row["weekday"], "attempts": sum(row["attempts"]), "connects": sum(row["connects"])}
        )
        for row in group_by_weekday_and_hour(counts)
    ]


def group_by_weekday_and_hour(counts: Sequence[AttemptCount]) -> list[dict[str, Any]]:
    """Seven rows, whose ``attempts`` and ``connects`` are lists of 24: one number for each hour."""
    rows: list[dict[str, Any]] = [
        {"weekday": weekday, "attempts": [0] * 24, "connects": [0] * 24} for weekday in WEEKDAYS
    ]
    for count in counts:
        if count.weekday is not None and count.hour is not None:
            row = rows[count.weekday - 1]
            row["attempts"][count.hour] += count.attempts
            row["connects"][count.hour] += count.attempts if count.status == "completed" else 0
    return rows
