"""Percentiles of talk time, from counters of completed recipients by length (``sql/functions/10_talk_time_slot.sql``).

A percentile is the shortest duration that at least so many percent of them do not exceed. Below 64 seconds every second
has a counter of its own; above, 32 share each doubling, so what is told is within 1.6 percent; from 8192 seconds (two
hours and a quarter) on it is a lower bound.
"""

from collections.abc import Sequence

import msgspec

WANTED = (50, 90, 95, 99)
EXACT_BELOW_SECONDS = 64
STEPS = 32
OPEN_FROM_SECONDS = 8192
PRECISION = {
    "exact_below_seconds": EXACT_BELOW_SECONDS,
    "within_percent": 1.6,
    "at_least_from_seconds": OPEN_FROM_SECONDS,
}


class TalkTimeCount(msgspec.Struct):
    """Recipients whose talk time is counted together: ``from_seconds`` is the shortest of it."""

    from_seconds: int
    recipients: int


def find_percentiles(counts: Sequence[TalkTimeCount]) -> dict[str, int | None]:
    """``p50`` to ``p99`` in seconds; null where nobody talked."""
    ordered = sorted(counts, key=lambda count: count.from_seconds)
    total = sum(count.recipients for count in ordered)
    found: dict[str, int | None] = {}
    for wanted in WANTED:
        reached, needed = 0, -(-total * wanted // 100)
        found[f"p{wanted}"] = None
        for count in ordered:
            reached += count.recipients
            if total and reached >= needed:
                found[f"p{wanted}"] = _middle_of(count.from_seconds)
                break
    return found


def _middle_of(from_seconds: int) -> int:
    """The middle of what is counted together with ``from_seconds``."""
    if from_seconds < EXACT_BELOW_SECONDS or from_seconds >= OPEN_FROM_SECONDS:
        return from_seconds
    width = (1 << (from_seconds.bit_length() - 1)) // STEPS
    return from_seconds + (width - 1) // 2
