"""When work at the provider will be done, by the pace observed since it began. Pure: no clock."""

from datetime import datetime, timedelta

LONGEST = timedelta(days=30)
"""Nobody plans by an estimate beyond this."""


def expect_end(
    now: datetime, *, left: int, done: int = 0, seconds: float = 0.0, least_seconds: float = 0.0
) -> datetime | None:
    """When the ``left`` steps will be done, if they take as long as the ``done`` ones, which took ``seconds`` of work:
    a step takes ``least_seconds`` at least. A second after ``now`` at the earliest; None beyond ``LONGEST``, or without
    any pace.

    Work at a steady pace is expected to end at the same time throughout. A pause before ``now``, such as a restart, is
    no work.
    """
    pace = max(seconds / done if done else 0.0, least_seconds)
    expected = left * pace
    if not pace or expected > LONGEST.total_seconds():
        return None
    return now + timedelta(seconds=max(expected, 1.0))
