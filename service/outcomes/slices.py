"""Slices: the outcomes of a batch for each value of a call parameter (``city``) or of a result (``results.intent``).

No counter holds these, so a slice scans the whole batch, and its cost grows with the batch. Slices are bounded: few at
a time, each within a time limit, and only the most frequent values are listed. The answer says how it was computed and
how long that took.
"""

import asyncio
import time
from typing import Any

import asyncpg

from service.errors import InvalidRequestError, UnavailableError
from service.formant.events import STATUSES
from service.outcomes.figures import describe_recipients, to_rate
from service.store.database import Connection, Database

MAX_VALUES = 50
MAX_RESULT_NAMES = 100
SAMPLED_RECIPIENTS = 1000
SLICES_AT_ONCE = 2
TIME_LIMIT_SECONDS = 10.0
RESULT_PREFIX = "results."


class Slicer:
    """Slices batches. ``time_limit_seconds`` applies to each slice."""

    def __init__(self, database: Database, *, time_limit_seconds: float = TIME_LIMIT_SECONDS) -> None:
        self._database = database
        self._time_limit_seconds = time_limit_seconds
        self._turns = asyncio.Semaphore(SLICES_AT_ONCE)

    async def check_name(self, batch_id: int, by: str) -> None:
        """Raises InvalidRequestError, with the known names, for an unknown ``by``. An unknown batch takes any name."""
        queries, pool = self._database.queries, self._database.pool
        names = await queries.list_slice_names(pool, batch_id=batch_id, sampled=SAMPLED_RECIPIENTS)
        if names is None or by in names:
            return
        results = queries.list_result_names(pool, batch_id=batch_id, names=MAX_RESULT_NAMES)
        known = [*names, *[RESULT_PREFIX + row["name"] async for row in results]]
        if by not in known:
            raise InvalidRequestError(f"by: takes one of {', '.join(known) or 'nothing: this batch has no columns'}")

    async def slice(self, connection: Connection, batch_id: int, by: str) -> dict[str, Any]:
        """The slices of a batch by a checked name, in the snapshot that ``connection`` sees: ``shapes.Slices``.

        Raises UnavailableError, with an alternative, when it takes too long or too many others are running.
        """
        if self._turns.locked():
            raise UnavailableError("by: too many slices are running; try again in a few seconds", retry_after=5)
        async with self._turns:
            began = time.perf_counter()
            rows = await self._read(connection, batch_id, by)
            seconds = time.perf_counter() - began
        shown = [_show_slice(row) for row in rows if not row["is_other"]]
        others = next((row for row in rows if row["is_other"]), None)
        return {
            "by": by,
            "values": shown,
            "other": None if others is None else _show_slice(others) | {"distinct_values": others["distinct_values"]},
            "computed": {
                "how": "a scan of the batch's recipients, as of the same instant as the rest of this answer",
                "recipients": sum(row["recipients"] for row in rows),
                "seconds": round(seconds, 3),
                "time_limit_seconds": self._time_limit_seconds,
            },
        }

    async def _read(self, connection: Connection, batch_id: int, by: str) -> list[asyncpg.Record]:
        queries = self._database.queries
        await queries.begin_slice(connection, milliseconds=str(max(1, round(1000 * self._time_limit_seconds))))
        try:
            names = await queries.list_slice_names(connection, batch_id=batch_id, sampled=SAMPLED_RECIPIENTS) or []
            is_result = by not in names and by.startswith(RESULT_PREFIX)
            name = by.removeprefix(RESULT_PREFIX) if is_result else by
            rows = queries.slice_batch(connection, batch_id=batch_id, name=name, is_result=is_result, values=MAX_VALUES)
            return [row async for row in rows]
        except asyncpg.QueryCanceledError as error:
            raise UnavailableError(
                f"by: slicing batch {batch_id} took longer than {self._time_limit_seconds:g} s. Ask again when the "
                f"database is less busy, or page through /v1/batch-calls/{batch_id}/recipients and count there"
            ) from error


def _show_slice(row: asyncpg.Record) -> dict[str, Any]:
    statuses = {status: row[status] for status in STATUSES}
    processed = sum(statuses.values())
    return {
        "value": row["value"],
        "recipients": describe_recipients(
            row["recipients"], processed, in_progress=row["in_progress"], pending_retry=row["pending_retry"]
        ),
        "statuses": statuses,
        "attempts": {"total": row["attempts"], "recipients": row["attempted"]},
        "rates": {
            "success_rate": to_rate(row["completed"], row["recipients"], "recipients.total"),
            "completion_rate": to_rate(row["completed"], processed, "recipients.processed"),
            "penetration": to_rate(row["attempted"], row["recipients"], "recipients.total"),
        },
    }
