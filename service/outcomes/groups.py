"""Outcomes across the batches created in a period, grouped by agent, day, name or campaign.

Each group is the sum of its batches' counters, as defined in ``summary.py``; ``verdicts`` counts its batches by
verdict. A batch belongs to the period in which the provider created it. A campaign (a test batch and the main batch
that it was promoted to) belongs as a whole to the period of its test batch. A main batch that is still held is in no
figure.
"""

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import msgspec

from service.errors import InvalidRequestError
from service.formant.events import STATUSES
from service.outcomes.figures import describe_rates, describe_recipients, to_rate
from service.store.database import Database

GROUPS = ("agent", "day", "name", "campaign")
MAX_BATCHES = 5000
MAX_NAME = 1000
_DAY_ZERO = date(2000, 1, 1)
_FIRST = (-(2**63), "")


class BatchFilter(NamedTuple):
    """Batches created from ``start`` on and before ``end``, of one agent or of all. ``time_zone`` defines the days."""

    start: datetime
    end: datetime
    agent_id: int | None
    time_zone: str


class GroupsPage(NamedTuple):
    """Groups in order, the cursor of the next page or None, and the instant of all figures, None without groups."""

    groups: list[dict[str, Any]]
    next: str | int | None
    as_of: datetime | None


async def read_groups(
    database: Database, batch_filter: BatchFilter, group_by: str, after: str | None, limit: int
) -> GroupsPage:
    """One page of groups (``shapes.Group``): agents and names ascending, days and campaigns newest first.

    Raises InvalidRequestError for an invalid cursor, a time zone that the database does not know, and a period with
    more than ``MAX_BATCHES`` batches.
    """
    after_no, after_text = _read_cursor(group_by, after)
    made = {"start": batch_filter.start, "until": batch_filter.end, "agent_id": batch_filter.agent_id}
    count = await database.queries.count_batches_made(database.pool, **made, most=MAX_BATCHES + 1)
    if count > MAX_BATCHES:
        raise InvalidRequestError(
            f"from, to: more than {MAX_BATCHES:,} batches were created in that period; shorten it, or give an agent_id"
        )
    try:
        rows = [
            row
            async for row in database.queries.list_outcomes_across(
                database.pool, **made, group_by=group_by, time_zone=batch_filter.time_zone, after_no=after_no,
                after_text=after_text, limit=limit + 1,
            )
        ]  # fmt: skip
    except asyncpg.InvalidParameterValueError as error:
        raise InvalidRequestError(f"time_zone: {batch_filter.time_zone!r} is not known to the database") from error
    page = rows[:limit]
    return GroupsPage(
        [_show_key(group_by, row) | _show_figures(row) for row in page],
        _to_cursor(group_by, page[-1]) if len(rows) > limit else None,
        rows[0]["as_of"] if rows else None,
    )


def _read_cursor(group_by: str, after: str | None) -> tuple[int, str]:
    """The key of the last group of the previous page. A cursor is that key as the API shows it."""
    if after is None:
        return _FIRST
    if group_by == "name" and len(after) <= MAX_NAME and "\0" not in after:
        return 0, after
    if group_by == "day":
        try:
            return (_DAY_ZERO - date.fromisoformat(after)).days, ""
        except ValueError as error:
            raise InvalidRequestError("after: takes the `next` of a page, a day such as 2026-03-16") from error
    if group_by != "name" and after.isascii() and after.isdecimal() and len(after) <= 18:
        return int(after) if group_by == "agent" else -int(after), ""
    raise InvalidRequestError("after: takes the `next` of a page with the same group_by")


def _to_cursor(group_by: str, row: asyncpg.Record) -> str | int:
    if group_by == "name":
        return str(row["key_text"])
    return str(_to_day(row["key_no"])) if group_by == "day" else abs(row["key_no"])


def _to_day(key_no: int) -> date:
    return _DAY_ZERO - timedelta(days=key_no)


def _show_key(group_by: str, row: asyncpg.Record) -> dict[str, Any]:
    if group_by == "agent":
        return {"agent_id": row["key_no"]}
    if group_by == "day":
        return {"day": _to_day(row["key_no"])}
    if group_by == "name":
        return {"name": row["key_text"]}
    return {"campaign_id": row["campaign_id"], "name": row["name"], "batch_ids": row["batch_ids"]}


def _show_figures(row: asyncpg.Record) -> dict[str, Any]:
    states: dict[str, int] = msgspec.json.decode(row["states"])
    statuses = {status: states.get(status, 0) for status in STATUSES}
    processed = sum(statuses.values())
    total, attempted, attempts, connects = row["total"], row["attempted"], row["attempts"], row["connects"]
    return {
        "batches": row["batches"],
        "verdicts": msgspec.json.decode(row["verdicts"]),
        "first_created_at": row["first_created_at"],
        "last_created_at": row["last_created_at"],
        "last_event_at": row["last_event_at"],
        "recipients": describe_recipients(
            total, processed, in_progress=row["in_progress"], pending_retry=states.get("pending_retry", 0)
        ),
        "statuses": statuses,
        "attempts": {"total": attempts, "recipients": attempted, "connects": connects},
        "rates": describe_rates(
            total=total,
            processed=processed,
            completed=statuses["completed"],
            attempts=attempts,
            connects=connects,
            attempted=attempted,
            contacted=row["contacted"],
            goal_rate=to_rate(
                None if row["goal_counting"] or not row["goal_batches"] else row["goal_met"],
                row["goal_recipients"],
                "goal.recipients",
            ),
        ),
        "goal": {
            "batches": row["goal_batches"],
            "recipients": row["goal_recipients"],
            "batches_being_counted": row["goal_counting"],
        },
    }
