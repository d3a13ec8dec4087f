"""The timeline of a batch: its calls by hour or day of real time, and the retries that are due."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

Step: TypeAlias = Literal["hour", "day"]
STEPS: tuple[Step, ...] = ("hour", "day")
MAX_ENTRIES: dict[Step, int] = {"hour": 14 * 24, "day": 366}
"""Two weeks or a year of uninterrupted calls."""


class TimelineCount(msgspec.Struct):
    """Attempts that began in the hour or day from ``start`` on, and retries that are due in it."""

    start: datetime
    attempts: int
    connects: int
    expected: int


def describe_timeline(counts: Sequence[TimelineCount], step: Step, *, without_time: int) -> dict[str, Any]:
    """The latest entries in the order of time, in the shape of ``shapes.Timeline``. ``counts`` has one entry more than
    is shown where there are earlier ones."""
    latest = sorted(counts, key=lambda count: count.start)[-MAX_ENTRIES[step] :]
    return {
        "step": step,
        "values": [msgspec.structs.asdict(count) for count in latest],
        "has_earlier": len(latest) < len(counts),
        "without_time": without_time,
    }
