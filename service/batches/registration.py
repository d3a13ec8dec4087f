"""Registration: the CSV of a batch made elsewhere, brought in late, as if it had been there from the start.

staged → match → withdraw → retry → done. Each step is committed, bounded, and safe to take twice; so any replica goes
on where another died. Only the SQL functions behind the steps, and ``ingest``, change an outcome.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import structlog

from service.access.audit import record_audit
from service.batches.contacts import ContactsOptions, Part, check_contacts
from service.batches.leftovers import make_folder
from service.batches.uploads import refuse_errors
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.conversations import recall_event
from service.formant.events import ANYWHERE, Event, EventDecoder, Unreadable
from service.formant.regions import Regions
from service.formant.targets import Target
from service.ledger.writer import Writer
from service.store.database import COPY_SECONDS, Database

logger = structlog.get_logger()

STEP_ROWS = 1000
RETRY_EVENTS = 200
STAGED_COLUMNS = ("batch_key", "row_no", "phone", "parameters")


class Registration(TypedDict):
    """What came of a registration, in recipients and in events."""

    batch_id: int
    recipients: int
    """Those in the file."""
    matched: int
    """Those that had been made on the fly before."""
    withdrawn: int
    """Those made on the fly that the file does not hold."""
    attributed: int
    """Waiting events that found their recipient."""
    still_unattributed: int
    """Events of the agent that still wait."""


class Registrar:
    """Registers CSV files, and tries waiting events again once there may be a place for them."""

    def __init__(
        self,
        database: Database,
        targets: Mapping[str, Target],
        decoder: EventDecoder,
        writer: Writer,
        *,
        regions: Regions = ANYWHERE,
    ) -> None:
        self._database = database
        self._targets = targets
        self._decoder = decoder
        self._writer = writer
        self._regions = regions
        self._turn = asyncio.Lock()

    async def register(self, batch_id: int, path: Path, digest: bytes, *, force: bool) -> Registration:
        """Registers a file and returns what came of it, in recipients and events. The same file again is harmless.

        Raises InvalidRequestError for a file that cannot be used, ConflictError for a batch that needs or takes none.
        """
        row = await self._get(batch_id)
        if row["origin"] != "provider":
            raise ConflictError(f"Batch {batch_id} was uploaded here: its recipients are known")
        if row["file_digest"] is None:
            await self._stage(row, path, digest, force=force)
            row = await self._get(batch_id)
        if row["file_digest"] != digest:
            raise ConflictError(f"Batch {batch_id} is registered already, with another file")
        # Shielded: a caller that hangs up must not leave it half done until the next pass.
        return await asyncio.shield(self.finish(batch_id))

    async def finish(self, batch_id: int) -> Registration:
        """Takes all steps that a registration still lacks."""
        queries, pool = self._database.queries, self._database.pool
        key = (await self._get(batch_id))["batch_key"]
        while await queries.register_step(pool, batch_key=key, rows=STEP_ROWS) in {"match", "withdraw"}:
            pass
        while await self._retry(batch_id):
            pass
        row = await self._get(batch_id)
        return {
            "batch_id": batch_id,
            "recipients": row["recipients"],
            "matched": row["matched"],
            "withdrawn": row["withdrawn"],
            "attributed": row["attributed"],
            "still_unattributed": await queries.count_waiting(pool, agent_id=row["agent_id"]),
        }

    async def finish_all(self) -> None:
        """Finishes what was left unfinished, by whomever."""
        rows = self._database.queries.list_unfinished_registrations(self._database.pool)
        for batch_id in [row["batch_id"] async for row in rows]:
            await self.finish(batch_id)

    async def _get(self, batch_id: int) -> Any:
        row = await self._database.queries.get_registration(self._database.pool, batch_id=batch_id)
        if row is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return row

    async def _stage(self, row: Any, path: Path, digest: bytes, *, force: bool) -> None:
        """Stores the file's rows, all or none; nothing where another request is ahead."""
        key, total = row["batch_key"], row["total_recipients"]
        with make_folder() as folder:
            part = Part(batch_key=key, ref_token="", upload_path=f"{folder}/upload", copy_path=f"{folder}/copy")
            # The provider calls each row, so a phone that comes twice is two recipients.
            options = ContactsOptions(default_region=self._regions.find(row["agent_id"]), duplicates="all")
            report = await check_contacts(path, options, (part,))
            refuse_errors(report)
            if report.recipients != total and not force:
                raise InvalidRequestError(
                    f"file: has {report.recipients} recipients, the provider's batch {row['batch_id']} has {total}: "
                    "send the file that it was made with, or force=true if this is it all the same"
                )
            queries = self._database.queries
            async with self._database.pool.acquire() as connection, connection.transaction():
                if not await queries.begin_registration(
                    connection, batch_key=key, file_digest=digest, columns=report.columns, recipients=report.recipients
                ):
                    return
                await connection.copy_to_table(
                    "staged_recipients",
                    source=Path(part.copy_path),
                    columns=STAGED_COLUMNS,
                    format="csv",
                    timeout=COPY_SECONDS,
                )
                await queries.reopen_erasures(connection, batch_key=key)
                await record_audit(
                    self._database, connection, "registration", f"batch {row['batch_id']}", "staged",
                    recipients=report.recipients, forced=force,
                )  # fmt: skip
        logger.info("registration_staged", batch_id=row["batch_id"], recipients=report.recipients)

    async def _retry(self, batch_id: int) -> bool:
        """Tries the next waiting events again; False when none is left, and the registration is finished."""
        queries, pool = self._database.queries, self._database.pool
        row = await self._get(batch_id)
        key = row["batch_key"]
        if row["step"] != "retry":
            return False
        waiting = [
            found async for found in queries.list_waiting(pool, batch_key=key, after=row["cursor"], limit=RETRY_EVENTS)
        ]
        if not waiting:
            await queries.finish_registration(pool, batch_key=key, cursor=row["cursor"], file_digest=row["file_digest"])
            logger.info("registration_finished", batch_id=batch_id, applied=row["attributed"])
            return False
        events = [event for found in waiting if (event := self._decode(found)) is not None]
        if events:
            async with self._turn:
                await self._writer.write(events)
        await queries.count_attributed(pool, batch_key=key, arrival_ids=[found["arrival_id"] for found in waiting])
        return True

    def _decode(self, row: Any) -> Event | None:
        if row["target"] == CONVERSATIONS:
            return recall_event(
                row["body"],
                row["event_id"],
                agent_id=row["agent_id"],
                received_at=row["received_at"],
                region=self._regions.find(row["agent_id"]),
            )
        target = self._targets.get(row["target"])
        if target is None:  # it may have named the agents that may report there
            return None
        item = target.admit(self._decoder.decode_event(row["body"], row["target"], row["received_at"], None))
        return None if isinstance(item, Unreadable) else item
