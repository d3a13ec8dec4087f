"""Storing: the recipients of an upload, all or nothing, before anything is sent."""

from pathlib import Path
from typing import NamedTuple

import anyio
import asyncpg
import structlog

from service.access.audit import record_audit
from service.errors import ConflictError, UnavailableError
from service.store.database import COPY_SECONDS, Connection, Database
from service.uploads.contacts import Part
from service.uploads.contracts import ColumnContracts
from service.uploads.repeats import explain_repeat
from service.uploads.report import ContactsReport
from service.uploads.requests import UploadRequest

logger = structlog.get_logger()

HELD_PART_BYTES = 2**20
RECIPIENT_COLUMNS = ("batch_key", "recipient_no", "phone", "parameters")


class StoredPart(NamedTuple):
    """A part of the file, and the state that its batch takes once it is stored."""

    part: Part
    recipients: int
    state: str


class Store:
    """Stores what was checked. ``held`` parts keep their file in the database until they are sent."""

    def __init__(self, database: Database, contracts: ColumnContracts) -> None:
        self._database = database
        self._contracts = contracts

    async def store(self, request: UploadRequest, report: ContactsReport, parts: list[StoredPart]) -> None:
        """One transaction for all parts and the column contract.

        Raises InvalidRequestError for columns that were bound otherwise meanwhile, ConflictError when the upload was
        given up, DuplicateRequestError when it repeats another, UnavailableError when the database has no room.
        """
        try:
            async with self._database.pool.acquire() as connection, connection.transaction():
                await self._contracts.bind(
                    connection,
                    request.agent_id,
                    report.columns,
                    parts[0].part.batch_key,
                    accept=request.accept_columns,
                )
                for stored in parts:
                    await self._store_part(connection, stored, report.recipients)
                    await record_audit(
                        self._database, connection, "upload", f"upload {stored.part.batch_key}", stored.state,
                        agent_id=request.agent_id, recipients=stored.recipients,
                    )  # fmt: skip
                repeated = await self._database.queries.record_file(
                    connection,
                    batch_keys=[stored.part.batch_key for stored in parts],
                    rows_digest=bytes.fromhex(report.rows_digest),
                    people_digest=bytes.fromhex(report.people_digest),
                    has_key=request.idempotency_key is not None,
                    force=request.force,
                )
                if repeated is not None:
                    raise await explain_repeat(self._database, connection, repeated)
        except asyncpg.DiskFullError as error:
            raise UnavailableError(
                "The database has no room left: nothing was stored and nothing was sent", retry_after=60
            ) from error
        logger.info("upload_prepared", agent_id=request.agent_id, recipients=report.recipients)

    async def _store_part(self, connection: Connection, stored: StoredPart, rows_checked: int) -> None:
        part = stored.part
        await connection.copy_to_table(
            "recipients", source=Path(part.copy_path), columns=RECIPIENT_COLUMNS, format="csv", timeout=COPY_SECONDS
        )
        if stored.state == "held":
            await self._hold_file(connection, part)
        recorded = await self._database.queries.record_prepared(
            connection,
            batch_key=part.batch_key,
            state=stored.state,
            recipient_count=stored.recipients,
            rows_checked=rows_checked,
        )
        if recorded is None:
            raise ConflictError(f"Upload {part.batch_key} was given up while its file was checked: upload it again")

    async def _hold_file(self, connection: Connection, part: Part) -> None:
        async with await anyio.open_file(part.upload_path, "rb") as file:
            part_no = 0
            while content := await file.read(HELD_PART_BYTES):
                part_no += 1
                await self._database.queries.insert_held_file(
                    connection, batch_key=part.batch_key, part_no=part_no, content=content
                )

    async def restore_file(self, batch_key: int, path: Path) -> None:
        """Writes the file of a held batch to ``path``."""
        async with (
            await anyio.open_file(path, "wb") as file,
            self._database.pool.acquire() as connection,
            connection.transaction(readonly=True),
        ):
            async for row in self._database.queries.read_held_file(connection, batch_key=batch_key):
                await file.write(row["content"])
