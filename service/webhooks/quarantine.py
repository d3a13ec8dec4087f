"""Replay: processes a quarantined body like a new event, once a fix makes it readable.

A body in an encoding that cannot be decoded is quarantined as it was sent, as ``undecodable``, with its encoding as the
detail, so that a version that knows the encoding, or a larger bound on the content, makes it readable.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from service.access.audit import record_audit
from service.errors import NotFoundError
from service.formant.events import TEXT_LIMIT, Event, EventDecoder, Unreadable
from service.formant.targets import Target
from service.store.database import Database
from service.webhooks.encodings import ContentDecoder, find_encoding
from service.webhooks.signatures import sign_content
from service.webhooks.verification import read_pages
from service.webhooks.writer import Writer

UNDECODABLE = "undecodable"


def note_encoding(item: Event | Unreadable, encoding: bytes) -> Event | Unreadable:
    """The item of a body that could not be decoded. A body that is readable as it was sent is not in that encoding."""
    if not isinstance(item, Unreadable) or item.reason != "not_json":
        return item
    text = "".join(each if each.isprintable() else "\ufffd" for each in encoding.decode("ascii", "replace"))
    return item._replace(reason=UNDECODABLE, detail=text[:TEXT_LIMIT])


class Replayer:
    """Replays one quarantined body or all of them. Replaying twice is harmless: the ledger knows the event id."""

    def __init__(
        self,
        database: Database,
        targets: Mapping[str, Target],
        decoder: EventDecoder,
        writer: Writer,
        *,
        max_body_bytes: int,
    ) -> None:
        self._database = database
        self._targets = targets
        self._decoder = decoder
        self._writer = writer
        self._contents = ContentDecoder(max_body_bytes)
        self._turn = asyncio.Lock()

    async def replay(self, quarantine_id: int) -> str | None:
        """The event id once the event is in the ledger; None when the body still cannot be used and stays.

        Raises NotFoundError when no quarantined body has this id.
        """
        queries = self._database.queries
        row = await queries.get_quarantined(self._database.pool, quarantine_id=quarantine_id)
        if row is None:
            raise NotFoundError(f"There is no quarantined body {quarantine_id}: see GET /v1/quarantine")
        target = self._targets.get(row["target"])
        if target is None:  # without its target, its list of allowed agents is unknown
            return None
        body, signature = await self._read(target, row)
        item = target.admit(self._decoder.decode_event(body, row["target"], row["received_at"], None, signature))
        if isinstance(item, Unreadable):
            return None
        async with self._turn:
            if not await self._writer.write_one(item):
                return None
        async with self._database.pool.acquire() as connection, connection.transaction():
            await queries.mark_replayed(connection, quarantine_id=quarantine_id)
            await record_audit(self._database, connection, "replay", f"quarantined {quarantine_id}", "event")
        return item.event_id

    async def _read(self, target: Target, row: Any) -> tuple[bytes, bytes | None]:
        """The content of a body and its signature; the body as it was sent where it cannot be decoded."""
        body: bytes = row["body"]
        encoding = row["detail"].encode() if row["reason"] == UNDECODABLE else find_encoding(body)
        content = await self._contents.decode(body, encoding) if encoding else None
        if content is None:
            return body, row["signature"]
        return content, sign_content(target, content, body, row["signature"])

    async def replay_all(self) -> AsyncIterator[tuple[int, str | None]]:
        """Replays everything in quarantine; yields each quarantine id with the result of ``replay``."""
        query = partial(self._database.queries.list_quarantine, self._database.pool)
        async for page in read_pages(query, after="quarantine_id"):
            for row in page:
                yield row["quarantine_id"], await self.replay(row["quarantine_id"])
