"""What is there and what is going on: the agents with batches, and today's figures over all batches."""

from datetime import date, datetime, time, tzinfo
from typing import Any

import msgspec

from service.store.database import Database
from service.web.responses import Time

CALLER_BATCHES = 20
"""Caller numbers are those of an agent's newest batches."""
CALLER_NUMBERS = 20
COUNTED = 10_000


class LastBatch(msgspec.Struct):
    """An agent's latest batch."""

    id: int
    name: str
    created_at: Time


class Agent(msgspec.Struct):
    """An agent that has batches."""

    agent_id: int
    batches: int
    """The number of its batches."""
    last_batch: LastBatch
    has_goal: bool
    callers: list[str]
    """The numbers that called in its newest 20 batches, in E.164: at most 20, most calls first."""


class CallsToday(msgspec.Struct):
    """Calls of batches that began on a day."""

    total: int
    connects: int
    """Completed ones."""
    batches: int
    """The number of batches that called."""


class Summary(msgspec.Struct):
    """What is going on over all batches."""

    as_of: Time
    day: date
    time_zone: str
    running: int
    """Batches that the provider has not finished, as in ``GET /v1/batches``."""
    calls: CallsToday
    alarms: int
    """The number of current alarms."""
    unattributed: int
    """Events that fit no recipient, or several: at most 10,000 are counted."""
    unknown_uploads: int
    """Uploads whose outcome is unknown; somebody has to decide."""


async def list_agents(database: Database, after: int | None, limit: int) -> list[Agent]:
    """At most ``limit`` agents with an id above ``after``, by id."""
    rows = database.queries.list_agents(
        database.pool, after=after, limit=limit, batches=CALLER_BATCHES, numbers=CALLER_NUMBERS
    )
    return [
        Agent(
            row["agent_id"],
            row["batches"],
            LastBatch(row["batch_id"], row["name"], row["created_at"]),
            row["has_goal"],
            row["callers"],
        )
        async for row in rows
    ]


async def read_summary(database: Database, *, now: datetime, zone: tzinfo, zone_name: str, alarms: int) -> Summary:
    """Today's figures: the day on which ``now`` is in ``zone``."""
    day = now.astimezone(zone).date()
    midnight = datetime.combine(day, time.min, zone)
    row: dict[str, Any] = dict(await database.queries.get_summary(database.pool, since=midnight, counted=COUNTED))
    calls = CallsToday(row.pop("calls"), row.pop("connects"), row.pop("batches"))
    return Summary(**row, day=day, time_zone=zone_name, calls=calls, alarms=alarms)
