"""Clocks: ours against the database's and the provider's. One that is off makes hours, verdicts and retention wrong."""

from collections.abc import Callable
from datetime import datetime

from service.doctor.findings import Finding, Level, ok, show_seconds
from service.doctor.limits import Thresholds
from service.store.database import Database

REMEDY = "Set both clocks by NTP (chrony, systemd-timesyncd): see `timedatectl`"


async def check_database_clock(
    database: Database, now: Callable[[], datetime], thresholds: Thresholds
) -> list[Finding]:
    """How far the database's clock is from ours, beyond what the round trip leaves open."""
    async with database.pool.acquire() as connection:
        await database.queries.get_clock(connection)
        before = now()
        theirs = (await database.queries.get_clock(connection))["now"]
        after = now()
    return [judge_clock("The database's clock", theirs, before, after, 0.0, thresholds)]


def judge_clock(
    whose: str, theirs: datetime, before: datetime, after: datetime, resolution_seconds: float, thresholds: Thresholds
) -> Finding:
    """What a time, told between ``before`` and ``after`` and cut to that resolution, says of its clock."""
    offset = (theirs - before).total_seconds() + resolution_seconds / 2 - (after - before).total_seconds() / 2
    blur = (after - before).total_seconds() / 2 + resolution_seconds / 2
    certain = max(0.0, abs(offset) - blur)
    if certain <= thresholds.clock_seconds[0]:
        return ok(f"{whose} agrees with ours, within {show_seconds(max(certain, blur))}")
    message = f"{whose} is {show_seconds(abs(offset))} {'ahead of' if offset > 0 else 'behind'} ours"
    return Finding(Level.WARNING if certain <= thresholds.clock_seconds[1] else Level.PROBLEM, message, REMEDY)
