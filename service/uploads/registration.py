"""Registration: the CSV of a batch made elsewhere, imported late, with the same result as if it had come first.

staged → match → withdraw → retry → done. Each step is committed, bounded and safe to repeat, so any replica can
continue. The last one places events again, as does every other change of what events may belong to.
"""

import asyncio
from pathlib import Path
from typing import Any, TypedDict

import structlog

from service.access.audit import record_audit
from service.background import every
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.formant.events import ANYWHERE
from service.formant.regions import Regions
from service.store.database import COPY_SECONDS, Database
from service.uploads.contacts import check_contacts
from service.uploads.folders import make_folder
from service.uploads.report import ContactsOptions, Part
from service.uploads.uploader import refuse_errors

logger = structlog.get_logger()

STEP_ROWS = 1000
PLACED_EVENTS = 50
INTERVAL_SECONDS = 2.0
MAX_ROUNDS = 100
"""Placing events again may ask for another round of it. It ends after a few, unless events move to and fro."""
STAGED_COLUMNS = ("batch_key", "row_no", "phone", "parameters")


class Registration(TypedDict):
    """The result of a registration, in recipients and in events."""

    batch_id: int
    recipients: int
    """In the file."""
    matched: int
    """Made on the fly before, and in the file."""
    withdrawn: int
    """Made on the fly before, and not in the file."""
    attributed: int
    """Waiting events that found their recipient."""
    still_unattributed: int
    """Events of the agent that still wait."""


class Registrar:
    """Registers CSV files, and has events placed again after any change of what they may belong to, in steps of
    ``placed_events``."""

    def __init__(self, database: Database, regions: Regions = ANYWHERE, *, placed_events: int = PLACED_EVENTS) -> None:
        self._database = database
        self._regions = regions
        self._placed_events = placed_events

    async def register(self, batch_id: int, path: Path, digest: bytes, *, force: bool) -> Registration:
        """Registers a file. The same file again is harmless.

        Raises InvalidRequestError for an unusable file, ConflictError for a batch that has its recipients already.
        """
        row = await self._get(batch_id)
        if row["origin"] != "provider":
            raise ConflictError(f"Batch {batch_id} was uploaded here: its recipients are known")
        if row["file_digest"] is None:
            await self._stage(row, path, digest, force=force)
            row = await self._get(batch_id)
        if row["file_digest"] != digest:
            raise ConflictError(f"Batch {batch_id} is registered already, with another file")
        # Shielded: a caller that disconnects must not leave it unfinished until the next pass.
        return await asyncio.shield(self.finish(batch_id))

    async def finish(self, batch_id: int) -> Registration:
        queries, pool = self._database.queries, self._database.pool
        key = (await self._get(batch_id))["batch_key"]
        while await queries.register_step(pool, batch_key=key, rows=STEP_ROWS) in {"match", "withdraw"}:
            pass
        placed = await self._place_again(key)
        await queries.count_attributed(pool, batch_key=key, placed=placed)
        row = await self._get(batch_id)
        if row["step"] == "retry":
            await queries.finish_registration(pool, batch_key=key, file_digest=row["file_digest"])
            logger.info("registration_finished", batch_id=batch_id, applied=row["attributed"])
            row = await self._get(batch_id)
        return {
            "batch_id": batch_id,
            "recipients": row["recipients"],
            "matched": row["matched"],
            "withdrawn": row["withdrawn"],
            "attributed": row["attributed"],
            "still_unattributed": await queries.count_waiting(pool, agent_id=row["agent_id"]),
        }

    async def run(self) -> None:
        await every(INTERVAL_SECONDS, self.finish_all, "placing_failed")

    async def finish_all(self) -> None:
        """Finishes registrations and placements that any replica left unfinished. A registration that fails is tried
        again in the next pass."""
        rows = self._database.queries.list_unfinished_registrations(self._database.pool)
        for batch_id in [row["batch_id"] async for row in rows]:
            try:
                await self.finish(batch_id)
            except Exception:
                logger.warning("registration_failed", batch_id=batch_id, exc_info=True)
        await self._place_again(None)

    async def _place_again(self, batch_key: int | None) -> int:
        """Places events again after changes of one batch (None: of any). Returns how many got a recipient."""
        queries, pool, placed = self._database.queries, self._database.pool, 0
        rows = self._placed_events
        # Events that leave a batch make room there for others, which adds a job.
        for _ in range(MAX_ROUNDS):
            jobs = [row["job_id"] async for row in queries.list_placement_jobs(pool, batch_key=batch_key)]
            if not jobs:
                return placed
            for job_id in jobs:
                while (count := await queries.placement_step(pool, job_id=job_id, rows=rows)) is not None:
                    placed += count
        logger.warning("placing_does_not_settle", count=MAX_ROUNDS)  # the next pass goes on
        return placed

    async def _get(self, batch_id: int) -> Any:
        row = await self._database.queries.get_registration(self._database.pool, batch_id=batch_id)
        if row is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return row

    async def _stage(self, row: Any, path: Path, digest: bytes, *, force: bool) -> None:
        """Stores the file's rows, all or none; none when another request was faster."""
        key, total = row["batch_key"], row["total_recipients"]
        with make_folder() as folder:
            part = Part(batch_key=key, ref_token="", upload_path=f"{folder}/upload", copy_path=f"{folder}/copy")
            # The provider calls every row, so a repeated phone is two recipients.
            options = ContactsOptions(region=self._regions.find(row["agent_id"]), duplicates="all")
            report = await check_contacts(path, options, (part,))
            refuse_errors(report)
            if report.recipients != total and not force:
                raise InvalidRequestError(
                    f"file: has {report.recipients} recipients, the provider's batch {row['batch_id']} has {total}: "
                    "send the file that it was made with, or force=true if this is that file"
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
