"""Uploads: recipients stored first, then sent to the provider once, every step committed before the next.

prepared → uploading → uploaded | unknown | failed. The provider has no idempotency key, and a repeated upload calls
people again; so an upload whose answer was lost is ``unknown``, is said to be, and is never sent again by itself.
"""

import asyncio
import hashlib
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

import stamina
import structlog

from service.batches.contacts import ContactsOptions, Part, check_contacts
from service.errors import InvalidRequestError, ProviderError, UnavailableError
from service.formant.client import FormantClient, ProviderBatch
from service.store.database import Database

logger = structlog.get_logger()

RECORD_SECONDS = 30.0
STALE_UPLOAD_SECONDS = 600  # longer than a request to the provider can last: whoever began it is gone


class Uploader:
    """Takes CSV files to the provider. ``client`` is None where no key for the provider is configured."""

    def __init__(
        self, database: Database, client: FormantClient | None, *, ref_column: str, default_region: str = ""
    ) -> None:
        self._database = database
        self._client = client
        self._ref_column = ref_column
        self._options = ContactsOptions(ref_column=ref_column, default_region=default_region, duplicates="all")

    async def upload(self, agent_id: int, name: str, file_name: str, file: BinaryIO) -> ProviderBatch:
        """The batch as the provider answered it, once that is stored.

        Raises InvalidRequestError for a file that cannot be used (nothing is stored or sent), ProviderError when the
        provider refused it or its answer was lost, UnavailableError when there is no key for the provider.
        """
        client = self._client
        if client is None:
            raise UnavailableError("No uploads: FORMANT_API_KEY is empty, so the provider cannot be called")
        with tempfile.TemporaryDirectory() as folder:
            batch_key = await self._prepare(agent_id, name, file, Path(folder))
            with Path(folder, "upload.csv").open("rb") as upload:  # noqa: ASYNC230 a local file just written
                # Shielded: a caller that hangs up must not leave what came of a sent upload unrecorded.
                return await asyncio.shield(self._send(client, batch_key, agent_id, name, file_name, upload))

    async def mark_stale(self) -> None:
        """Uploads that were being sent when a service was killed become ``unknown``: nobody knows what came of them."""
        stale = await self._database.queries.mark_stale_uploads(self._database.pool, seconds=STALE_UPLOAD_SECONDS)
        if stale:
            logger.warning("uploads_unknown", count=stale)

    async def _prepare(self, agent_id: int, name: str, file: BinaryIO, folder: Path) -> int:
        """Stores the batch and its recipients, all or nothing, and writes the file to send; returns the batch's key."""
        queries, pool = self._database.queries, self._database.pool
        path = folder / "contacts.csv"
        digest = await asyncio.to_thread(_save, file, path)
        part = Part(
            batch_key=await queries.reserve_batch_key(pool),
            ref_token=secrets.token_hex(8),
            upload_path=str(folder / "upload.csv"),
            copy_path=str(folder / "copy.csv"),
        )
        report = await check_contacts(path, self._options, (part,))
        if report.error_count:
            more = f" (and {report.error_count - 1} more errors)" if report.error_count > 1 else ""
            raise InvalidRequestError(f"{report.errors[0]}{more}")
        async with pool.acquire() as connection, connection.transaction():
            await queries.insert_batch(
                connection,
                batch_key=part.batch_key,
                agent_id=agent_id,
                name=name,
                ref_token=part.ref_token if self._ref_column else None,
                ref_column=self._ref_column or None,
                columns=report.columns,
                file_digest=digest,
            )
            await connection.copy_to_table(
                "recipients",
                source=Path(part.copy_path),
                columns=("batch_key", "recipient_no", "phone", "parameters"),
                format="csv",
            )
            await queries.set_recipient_count(connection, recipient_count=report.recipients, batch_key=part.batch_key)
        logger.info("upload_prepared", agent_id=agent_id, recipients=report.recipients)
        return part.batch_key

    async def _send(
        self, client: FormantClient, batch_key: int, agent_id: int, name: str, file_name: str, upload: BinaryIO
    ) -> ProviderBatch:
        await self._set_state(batch_key, "uploading")
        try:
            batch = await client.upload_batch(agent_id, name, file_name, upload)
        except ProviderError as error:
            state = "unknown" if error.is_sent_unknown else "failed"
            await self._set_state(batch_key, state, error.message)
            logger.warning("upload_not_confirmed", agent_id=agent_id, state=state, status=error.status)
            error.message += f" (upload {batch_key} is {state}: see GET /v1/uploads)"
            raise
        try:
            await self._record(batch_key, batch)
        except Exception as error:
            logger.error("upload_not_recorded", agent_id=agent_id, batch_id=batch.id, exc_info=True)
            raise ProviderError(
                f"The provider took the batch as {batch.id} and is calling, but the database did not take that down: "
                f"do not upload it again (upload {batch_key}: see GET /v1/uploads)",
                status=504,
                error_type="upload_unknown",
                is_sent_unknown=True,
            ) from error
        logger.info("batch_uploaded", agent_id=agent_id, batch_id=batch.id, recipients=batch.total_recipients)
        return batch

    async def _record(self, batch_key: int, batch: ProviderBatch) -> None:
        """Takes down the provider's answer; a database that is away for a moment must not cost us the batch's id."""
        async for attempt in stamina.retry_context(on=Exception, attempts=None, timeout=RECORD_SECONDS, wait_max=2.0):
            with attempt:
                await self._database.queries.record_uploaded(
                    self._database.pool,
                    batch_key=batch_key,
                    batch_id=batch.id,
                    status=batch.status,
                    total_recipients=batch.total_recipients,
                    created_at=batch.created_at,
                )

    async def _set_state(self, batch_key: int, state: str, detail: str | None = None) -> None:
        await self._database.queries.set_upload_state(
            self._database.pool, batch_key=batch_key, state=state, detail=detail
        )


def _save(file: BinaryIO, path: Path) -> bytes:
    """Copies what was uploaded to ``path``; returns its SHA-256."""
    file.seek(0)
    with path.open("w+b") as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        return hashlib.file_digest(copy, "sha256").digest()
