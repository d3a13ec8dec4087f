"""When people answer: attempts and connects by weekday, and by weekday and hour, of the time zone that was asked for.

Weekdays are ISO 8601's: 1 is Monday. Attempts of which the provider told no time are in none of them.
"""

from collections.abc import Sequence
from typing import Any, Protocol

WEEKDAYS = range(1, 8)


class TimedAttempts(Protocol):
    """Attempts of one status that began in the same hour of the same weekday."""

    @property
    def weekday(self) -> int | None: ...
    @property
    def hour(self) -> int | None: ...
    @property
    def status(self) -> str: ...
    @property
    def attempts(self) -> int: ...


def group_by_weekday(counts: Sequence[TimedAttempts]) -> list[dict[str, int]]:
    """Seven rows of ``weekday``, ``attempts`` and ``connects``."""
    return [
        {"weekday": row["weekday"], "attempts": sum(row["attempts"]), "connects": sum(row["connects"])}
        for row in group_by_weekday_and_hour(counts)
    ]


def group_by_weekday_and_hour(counts: Sequence[TimedAttempts]) -> list[dict[str, Any]]:
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
