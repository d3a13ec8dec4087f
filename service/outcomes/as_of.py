"""Figures as of an earlier time: what this service would have answered then.

Counters hold only the present, so a batch is recounted from the facts that were known at that time. The time it takes
grows with the number of recipients. The recount runs in the database, so memory stays bounded at any batch size.
"""

import asyncio
from datetime import datetime
from typing import Any

import msgspec

from service.errors import InvalidRequestError, NotFoundError
from service.outcomes.summary import (
    MAX_RESULT_NAMES,
    MAX_RESULT_VALUES,
    CampaignBatch,
    Counts,
    decode_counts,
    refuse_time_zone,
)
from service.outcomes.timeline import MAX_ENTRIES, Step
from service.store.database import Connection, Database

STEP_RECIPIENTS = 5000
RECOUNTS_AT_ONCE = 2
"""Per process. Each holds a connection while it runs."""


class PastReader:
    """Reads batches as they were known at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(RECOUNTS_AT_ONCE)

    async def find(self, batch_id: int, as_of: datetime) -> tuple[int, int]:
        """The batch's key, and how many recipients it had at that time.

        Raises InvalidRequestError for a time in the future, NotFoundError for a batch that was not known then.
        """
        row = await self._database.queries.find_batch_as_of(self._database.pool, batch_id=batch_id, as_of=as_of)
        if row is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        if row["is_future"]:
            raise InvalidRequestError("as_of: is in the future; leave it out for the present figures")
        if row["recipient_count"] is None:
            since = row["known_since"]
            raise NotFoundError(
                f"Batch {batch_id} was not known here as of {as_of.isoformat()}"
                + (f": it has been known since {since.isoformat()}" if since else "")
            )
        return row["batch_key"], row["recipient_count"]

    async def read_counts(self, batch_id: int, time_zone: str, as_of: datetime, step: Step = "hour") -> Counts:
        """The counters that ``summary.read_counts`` would have returned then.

        Raises the errors of ``find``, and InvalidRequestError for an unknown time zone.
        """
        key, count = await self.find(batch_id, as_of)
        async with (
            self._turns,
            self._database.pool.acquire() as connection,
            # Not read-only: the recount writes to a temporary table.
            connection.transaction(isolation="repeatable_read"),
        ):
            last_event_at = await self._recount(connection, key, count, as_of)
            with refuse_time_zone(time_zone):
                row = await self._database.queries.get_counts_as_of(
                    connection,
                    batch_key=key,
                    as_of=as_of,
                    time_zone=time_zone,
                    names=MAX_RESULT_NAMES,
                    values=MAX_RESULT_VALUES,
                    step=step,
                    hours=MAX_ENTRIES[step] + 1,
                )
            counts = decode_counts(dict(row) | {"last_event_at": last_event_at, "campaign": "[]"})
            if last_event_at is None:  # before the first event nothing is counted yet
                counts.contacted = None
            if counts.campaign_id is not None:
                counts.campaign = await self._read_campaign(connection, counts, key, as_of)
            return counts

    async def _recount(self, connection: Connection, key: int, count: int, as_of: datetime) -> datetime | None:
        """Recounts the batch as of that time; returns when the last event known then was received."""
        queries = self._database.queries
        last_event_at: datetime | None = None
        await queries.begin_recount(connection)
        for after in range(0, count, STEP_RECIPIENTS):
            step: dict[str, Any] = {"batch_key": key, "after": after, "limit": STEP_RECIPIENTS, "as_of": as_of}
            async for _ in queries.recount_step(connection, **step):
                pass
            later = await queries.find_last_event_as_of(connection, **step, since=last_event_at)
            if later is not None:
                last_event_at = max(later, last_event_at or later)
        return last_event_at

    async def _read_campaign(
        self, connection: Connection, counts: Counts, key: int, as_of: datetime
    ) -> list[CampaignBatch]:
        queries = self._database.queries
        listed = queries.list_campaign_as_of(connection, campaign_id=counts.campaign_id, as_of=as_of)
        batches = []
        for row in [row async for row in listed]:
            states: dict[str, int] = {}
            if row["upload_id"] == key:
                for count in counts.outcomes:
                    states[count.state] = states.get(count.state, 0) + count.recipients
            else:
                for after in range(0, row["recipient_count"], STEP_RECIPIENTS):
                    found = queries.count_states_as_of(
                        connection, batch_key=row["upload_id"], after=after, limit=STEP_RECIPIENTS, as_of=as_of
                    )
                    async for counted in found:
                        states[counted["state"]] = states.get(counted["state"], 0) + counted["recipients"]
            batches.append(msgspec.convert(dict(row) | {"states": states}, CampaignBatch))
        return batches
