"""People of a file who are not called: suppressed ones, and on request those who were called lately.

Before a file is stored, its phones are compared with the list in chunks, so that no statement is long and memory stays
bounded. People who are suppressed after that are marked in the database, by the one who suppresses them or by
``mark_suppressed``; ``withdraw_suppressed`` takes their rows out of the file before it is sent.
"""

import asyncio
import csv
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import structlog

from service.access.audit import record_audit
from service.store.database import Database
from service.uploads.report import CalledLately
from service.uploads.storing import remove_phones, replace_held_file

logger = structlog.get_logger()

CHUNK_PHONES = 10_000


class Comparison(NamedTuple):
    """How many people of a file are left out, and who was called within the time that was asked for."""

    left_out: int
    called: CalledLately | None


async def compare_people(
    database: Database,
    phones_path: Path,
    left_out_path: Path,
    *,
    has_suppressions: bool,
    called_within: timedelta | None,
    skip_called_within: timedelta | None,
) -> Comparison:
    """Compares the phones of a file, one a line, with the list of suppressions and with the calls of all batches.
    Writes those to leave out, each with the kind and why."""
    now = datetime.now(UTC)
    queries, pool = database.queries, database.pool
    people, outcomes, left_out = 0, Counter[str](), 0
    with phones_path.open() as source, left_out_path.open("w", newline="") as target:
        writer = csv.writer(target)
        for phones in _read_chunks(source):
            why: dict[str, tuple[str, str]] = {}
            if called_within is not None:
                async for row in queries.count_called(pool, phones=phones, since=now - called_within):
                    if row["state"] is None:
                        people += row["people"]
                    else:
                        outcomes[row["state"]] += row["people"]
            if skip_called_within is not None:
                found = await queries.find_called(pool, phones=phones, since=now - skip_called_within)
                why |= dict.fromkeys(found, ("called", f"called within {format_duration(skip_called_within)}"))
            if has_suppressions:
                why |= {
                    row["phone"]: ("suppressed", row["reason"])
                    async for row in queries.find_suppressed(pool, phones=phones)
                }
            writer.writerows((phone, *found) for phone, found in why.items())
            left_out += len(why)
    if called_within is None:
        return Comparison(left_out, None)
    return Comparison(left_out, CalledLately(format_duration(called_within), people, dict(sorted(outcomes.items()))))


async def mark_suppressed(database: Database, batch_keys: list[int], after: int) -> None:
    """Marks the rows of stored uploads whose people were suppressed since the one numbered ``after``. From then on,
    those who suppress people see the uploads."""
    await database.queries.wait_for_suppressions(database.pool)
    await database.queries.mark_suppressed(database.pool, batch_keys=batch_keys, after=after)


async def withdraw_suppressed(database: Database, batch_key: int, path: Path) -> int:
    """Withdraws the marked recipients of a prepared upload, and removes their rows from the file at ``path`` and from
    the one that is held. Returns how many recipients are left to call."""
    queries = database.queries
    rows = [row async for row in queries.list_suppressed_recipients(database.pool, batch_key=batch_key)]
    if rows:
        kept = path.with_suffix(".kept")
        await asyncio.to_thread(remove_phones, path, kept, {row["phone"] for row in rows})
        async with database.pool.acquire() as connection, connection.transaction():
            upload = await queries.lock_upload(connection, batch_key=batch_key)
            if upload is not None and upload["upload_state"] == "prepared":
                numbers = [row["recipient_no"] for row in rows]
                count = await queries.withdraw_unsent(connection, batch_key=batch_key, recipient_nos=numbers)
                if await queries.has_held_file(connection, batch_key=batch_key):
                    await replace_held_file(database, connection, batch_key, kept)
                await record_audit(
                    database, connection, "suppression", f"upload {batch_key}", "withdrawn", recipients=count
                )
        await asyncio.to_thread(kept.replace, path)
        logger.info("suppressed_recipients_withdrawn", upload_id=batch_key, recipients=len(rows))
    upload = await queries.get_upload(database.pool, batch_key=batch_key)
    return upload["recipients"] if upload else 0


def format_duration(duration: timedelta) -> str:
    """Such as ``7d`` or ``36h``."""
    hours = round(duration / timedelta(hours=1))
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"


def _read_chunks(lines: Iterator[str]) -> Iterator[list[str]]:
    while chunk := [line.rstrip("\n") for line in islice(lines, CHUNK_PHONES)]:
        yield chunk
