"""Storing: all recipients of an upload in one transaction, before anything is sent; and its file while it is held."""

import asyncio
import csv
import hashlib
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import anyio
import asyncpg
import msgspec
import structlog

from service.access.audit import record_audit
from service.errors import ConflictError, DuplicateRequestError, UnavailableError
from service.formant.batches import ProviderBatch
from service.store.database import COPY_SECONDS, Connection, Database
from service.telemetry.context import current_actor
from service.uploads.columns import bind_columns
from service.uploads.report import (
    PHONE_COLUMN,
    ContactsReport,
    DelimiterName,
    Duplicates,
    EncodingName,
    FileSummary,
    Invalid,
    Part,
    Rejected,
)
from service.uploads.rows import MAX_CELL_CHARACTERS

logger = structlog.get_logger()

HELD_PART_BYTES = 2**20
RECIPIENT_COLUMNS = ("batch_key", "recipient_no", "phone", "parameters")
REJECTED_COLUMNS = ("batch_key", "row_no", "line", "is_repeat")


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to upload. ``path`` is the received file, ``file_digest`` its SHA-256."""

    agent_id: int
    name: str
    path: Path
    file_digest: bytes
    duplicates: Duplicates = "reject"
    region: str = ""
    """The country of phones without a country code; "" for the agent's or the default one."""
    invalid: Invalid = "reject"
    phone_column: str = ""
    sheet: str = ""
    """Of a workbook; "" for its first."""
    encoding: EncodingName | None = None
    delimiter: DelimiterName | None = None
    accept_columns: bool = False
    force: bool = False
    idempotency_key: str | None = None
    test_recipients: int = 0
    promote_at_success_rate: float | None = None
    promote_at_goal_rate: float | None = None
    called_within: timedelta | None = None
    """Count the people who were called within this time."""
    skip_called_within: timedelta | None = None
    """Leave out those who were."""
    report_digest: str = ""
    """What a dry run answered: refuse to send anything else. "" to send without."""

    def digest(self) -> bytes:
        """SHA-256 of everything that distinguishes it from another request. Fields that were added later count only
        where they are given, so that a request of before an upgrade is known after it."""
        later = {
            "region": self.region,
            "invalid": "" if self.invalid == "reject" else self.invalid,
            "phone_column": self.phone_column,
            "sheet": self.sheet,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "skip_called_within": self.skip_called_within,
            "promote_at_goal_rate": "" if self.promote_at_goal_rate is None else str(self.promote_at_goal_rate),
        }
        given = {name: value for name, value in later.items() if value}
        asked = (
            self.agent_id,
            self.name,
            self.file_digest.hex(),
            self.duplicates,
            self.accept_columns,
            self.force,
            self.test_recipients,
            self.promote_at_success_rate,
            *([given] if given else []),
        )
        return hashlib.sha256(msgspec.json.encode(asked)).digest()


class Uploaded(NamedTuple):
    """The batch that an upload became, as the provider answered it, and what was found in its file."""

    upload_id: int
    batch: ProviderBatch
    summary: FileSummary | None
    """None for an upload of an earlier version."""
    withdrawn: int
    """Recipients who were taken out since then."""
    is_repeated: bool = False
    """Whether this is the answer to an earlier request."""


class StoredPart(NamedTuple):
    """A part of the file, and the state of its batch once it is stored."""

    part: Part
    recipients: int
    state: str


async def store_parts(
    database: Database, request: UploadRequest, report: ContactsReport, parts: list[StoredPart], rejected: Rejected
) -> None:
    """Stores checked parts and the column contract in one transaction. A ``held`` part keeps its file in the database
    until it is sent.

    Raises InvalidRequestError when other columns were bound meanwhile, ConflictError when the upload was given
    up, DuplicateRequestError when it repeats another, UnavailableError when the database has no space.
    """
    try:
        async with database.pool.acquire() as connection, connection.transaction():
            await bind_columns(
                database,
                connection,
                request.agent_id,
                report.columns,
                parts[0].part.batch_key,
                accept=request.accept_columns,
            )
            for stored in parts:
                await _store_part(database, connection, stored, report.recipients)
                await record_audit(
                    database, connection, "upload", f"upload {stored.part.batch_key}", stored.state,
                    agent_id=request.agent_id, recipients=stored.recipients,
                )  # fmt: skip
            await _store_report(database, connection, report, rejected)
            repeated = await database.queries.record_file(
                connection,
                batch_keys=[stored.part.batch_key for stored in parts],
                rows_digest=bytes.fromhex(report.rows_digest),
                people_digest=bytes.fromhex(report.people_digest),
                # Who has seen a report is asked again before the same file is sent under a new key.
                has_key=request.idempotency_key is not None and not request.report_digest,
                force=request.force,
            )
            if repeated is not None:
                raise await explain_repeat(database, connection, repeated)
    except asyncpg.DiskFullError as error:
        raise UnavailableError(
            "The database has no room left: nothing was stored and nothing was sent", retry_after=60
        ) from error
    logger.info("upload_prepared", agent_id=request.agent_id, recipients=report.recipients)


async def _store_part(database: Database, connection: Connection, stored: StoredPart, rows_checked: int) -> None:
    part = stored.part
    await connection.copy_to_table(
        "recipients", source=Path(part.copy_path), columns=RECIPIENT_COLUMNS, format="csv", timeout=COPY_SECONDS
    )
    if stored.state == "held":
        await _hold_file(database, connection, part.batch_key, Path(part.upload_path))
    recorded = await database.queries.record_prepared(
        connection,
        batch_key=part.batch_key,
        state=stored.state,
        recipient_count=stored.recipients,
        rows_checked=rows_checked,
    )
    if recorded is None:
        raise ConflictError(f"Upload {part.batch_key} was given up while its file was checked: upload it again")


async def _store_report(database: Database, connection: Connection, report: ContactsReport, rejected: Rejected) -> None:
    summary = msgspec.json.encode(report.summarise()).decode()
    actor = current_actor()
    await database.queries.insert_upload_report(
        connection,
        batch_key=rejected.batch_key,
        report=summary,
        columns=report.names,
        actor=actor.name,
        key_id=actor.key_id,
    )
    if report.skipped or report.repeated:
        await connection.copy_to_table(
            "rejected_rows", source=Path(rejected.copy_path), columns=REJECTED_COLUMNS, format="csv",
            timeout=COPY_SECONDS,
        )  # fmt: skip


async def _hold_file(database: Database, connection: Connection, batch_key: int, path: Path) -> None:
    async with await anyio.open_file(path, "rb") as file:
        part_no = 0
        while content := await file.read(HELD_PART_BYTES):
            part_no += 1
            await database.queries.insert_held_file(connection, batch_key=batch_key, part_no=part_no, content=content)


async def restore_file(database: Database, batch_key: int, path: Path) -> None:
    """Writes the file of a held batch to ``path``."""
    async with database.pool.acquire() as connection, connection.transaction(readonly=True):
        await _read_held_file(database, connection, batch_key, path)


async def rewrite_held_file(
    database: Database, connection: Connection, batch_key: int, phones: Collection[str], folder: Path
) -> int:
    """Removes the rows of these phones from the file of a held batch, in the caller's transaction; returns how many."""
    before, after = folder / f"{batch_key}.held", folder / f"{batch_key}.kept"
    await _read_held_file(database, connection, batch_key, before)
    removed = await asyncio.to_thread(remove_phones, before, after, phones)
    if removed:
        await replace_held_file(database, connection, batch_key, after)
    return removed


async def replace_held_file(database: Database, connection: Connection, batch_key: int, path: Path) -> None:
    """Stores another file for a held batch, in the caller's transaction."""
    await database.queries.delete_held_file(connection, batch_key=batch_key)
    await _hold_file(database, connection, batch_key, path)


def remove_phones(source: Path, target: Path, phones: Collection[str]) -> int:
    """Copies a CSV written by this service without the rows of ``phones``; returns the number of rows left out."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    removed, phone_at = 0, -1
    with source.open(encoding="utf-8", newline="") as lines, target.open("w", encoding="utf-8", newline="") as kept:
        # Collects the text of each record, because a quoted cell may contain line breaks.
        taken: list[str] = []

        def feed() -> Iterator[str]:
            for line in lines:
                taken.append(line)
                yield line

        for row in csv.reader(feed()):
            if phone_at < 0:
                phone_at = row.index(PHONE_COLUMN)
            elif row and row[phone_at] in phones:
                removed += 1
                taken.clear()
                continue
            kept.writelines(taken)
            taken.clear()
    return removed


async def _read_held_file(database: Database, connection: Connection, batch_key: int, path: Path) -> None:
    async with await anyio.open_file(path, "wb") as file:
        async for row in database.queries.read_held_file(connection, batch_key=batch_key):
            await file.write(row["content"])


async def explain_repeat(
    database: Database, connection: Connection | asyncpg.Pool, batch_key: int
) -> DuplicateRequestError:
    """The refusal of an upload that repeats upload ``batch_key`` (see find_earlier_upload)."""
    upload = await database.queries.get_upload(connection, batch_key=batch_key)
    state = upload["state"] if upload else "gone"
    batch_id = upload["batch_id"] if upload else None
    name = f"upload {batch_key}, {state}" + (f", batch {batch_id}" if batch_id else "")
    if state == "unknown":
        why = (
            f"An upload of this agent with the same name or the same people may have been sent ({name}), and its "
            f"people may be being called: find out what became of it first (GET /v1/uploads/{batch_key})"
        )
    else:
        why = (
            f"The same file was uploaded for this agent within 24 hours ({name}): these people are being called already"
        )
    return DuplicateRequestError(
        f"{why}. To call them again, send force=true",
        details={"upload_id": batch_key, "state": state, "batch_id": batch_id},
    )
