"""The feed: the latest state of each recipient in the order of its last change. From position 0 it is a snapshot of all
outcomes, then the tail, without a gap. A reader that has seen position n has seen every change up to n.

A write that changes nothing makes no entry. A recipient that is withdrawn or erased makes one, with that state. A call
that overtakes the answer to its batch's upload makes one at once, with ``batch_id`` null, and another when the id is
known.
"""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from service.errors import ConflictError
from service.store.database import Database

MAX_PAGE_BYTES = 8 * 2**20
"""Of parameters and results. A page ends after the entry that exceeds this, so it may be one event's body larger."""


class FeedRows(NamedTuple):
    """Rows of entries in the order of their positions, and the position to continue from."""

    entries: Sequence[asyncpg.Record]
    next: int
    has_more: bool


async def read_feed(database: Database, after: int, limit: int) -> FeedRows:
    """The page after a position: at most ``limit`` entries, read at one instant.

    Raises ConflictError when ``after`` is beyond the end, where a reader would miss changes, and when it comes from a
    history that was lost in a restore or failover (``feed_timelines``), where a reader would keep stale entries.
    """
    queries, pool = database.queries, database.pool
    rows = [row async for row in queries.read_feed(pool, after=after, limit=limit, bytes=MAX_PAGE_BYTES)]
    if rows:
        return FeedRows(rows, rows[-1]["position"], rows[-1]["has_more"])
    if after > 0:
        if (end := await queries.find_lost_end(pool, position=after)) is not None:
            raise ConflictError(
                f"after: {after} was read before this database was restored or failed over, and what came after {end} "
                "is gone: discard what was read, and read again from 0"
            )
        last = await queries.get_last_taken_position(pool)
        if after > last:
            raise ConflictError(
                f"after: {after} is beyond the end of the feed ({last}): this is not the database that it was read "
                "from, or it was restored from a backup; read again from 0, and reset a consumer to 0"
            )
    return FeedRows([], after, has_more=False)
