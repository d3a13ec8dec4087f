"""Sending: the only place that has people dialled. Each step is committed before the next outside effect."""

from datetime import datetime
from pathlib import Path

import asyncpg
import stamina
import structlog

from service.errors import ApiError, ConflictError, ProviderError
from service.formant.batches import ProviderBatch
from service.formant.client import FormantClient
from service.store.database import Database
from service.telemetry.tracing import note, span
from service.uploads.exclusion import withdraw_suppressed
from service.uploads.lease import SendLease
from service.uploads.lookup import UploadFinder
from service.uploads.results import record_batch, record_failure, record_unknown

logger = structlog.get_logger()

RECORD_SECONDS = 30.0

# A result must survive a short outage of the database.
_persist = stamina.AsyncRetryingCaller(attempts=None, timeout=RECORD_SECONDS, wait_max=2.0).on(
    lambda error: not isinstance(error, ApiError)
)


class Sender:
    """Sends prepared uploads to the provider, each once."""

    def __init__(self, database: Database, client: FormantClient, finder: UploadFinder) -> None:
        self._database = database
        self._client = client
        self._finder = finder

    async def send(self, batch_key: int, path: Path, lease: SendLease) -> ProviderBatch:
        """The batch that the prepared upload became, once that is stored. Sends only while ``lease`` holds.

        Raises ProviderError when the provider refused it (nobody is dialled) or when its answer was lost and the batch
        is not found; ConflictError when the upload was given up before it was sent.
        """
        with span("upload_send", upload_id=batch_key) as traced:
            batch = await self._send(batch_key, path, lease)
            note(traced, batch_id=batch.id)
            return batch

    async def _send(self, batch_key: int, path: Path, lease: SendLease) -> ProviderBatch:
        upload = await self._begin(batch_key, path, lease)
        if upload is None:
            raise ConflictError(f"Upload {batch_key} was given up before anything was sent: upload it again")
        sent_at = upload["sent_at"]
        try:
            with path.open("rb") as file:
                batch = await self._client.upload_batch(upload["agent_id"], upload["name"], file, lease)
        except ProviderError as error:
            if error.is_sent_unknown:
                return await self._find(batch_key, sent_at, error)
            states = ["uploading", "unknown"]
            state = await _persist(record_failure, self._database, batch_key, states, error.message, sent_at=sent_at)
            logger.warning("upload_refused", agent_id=upload["agent_id"], state=state, status=error.status)
            if state == "unknown":
                raise ProviderError(
                    f"The provider refused it ({error.message}), yet calls of it came in: do not upload it again "
                    f"(upload {batch_key}: see GET /v1/uploads/{batch_key})",
                    status=504,
                    error_type="upload_unknown",
                    is_sent_unknown=True,
                ) from error
            became = f"upload {batch_key} is {state}" if state else f"upload {batch_key} was settled meanwhile"
            error.message += f" ({became}: see GET /v1/uploads/{batch_key})"
            raise
        await self._record(batch_key, sent_at, batch)
        return batch

    async def _begin(self, batch_key: int, path: Path, lease: SendLease) -> asyncpg.Record | None:
        """Begins to send the file without the people who are suppressed by then."""
        while True:
            if not await withdraw_suppressed(self._database, batch_key, path):
                detail = "nobody in it may be called any more"
                # Without its file a main batch cannot be held again.
                await self._database.queries.delete_held_file(self._database.pool, batch_key=batch_key)
                await _persist(record_failure, self._database, batch_key, ["prepared"], detail)
                raise ConflictError(f"Upload {batch_key} was not sent: {detail} (see GET /v1/suppressions)")
            upload = await lease.begin_sending()
            if upload is None or upload["sent_at"] is not None:
                return upload

    async def _find(self, batch_key: int, sent_at: datetime, error: ProviderError) -> ProviderBatch:
        """The batch, when the provider's list shows it at once; else raises ``error`` with the upload's state added."""
        await _persist(record_unknown, self._database, batch_key, error.message, sent_at)
        batch = await self._finder.find(batch_key)
        if batch is not None:
            return batch
        logger.warning("upload_unknown", upload_id=batch_key)
        error.message += f" (upload {batch_key} is unknown and looked for: see GET /v1/uploads/{batch_key})"
        raise error

    async def _record(self, batch_key: int, sent_at: datetime, batch: ProviderBatch) -> None:
        try:
            if not await _persist(record_batch, self._database, batch_key, batch, sent_at=sent_at):
                raise ConflictError(f"Upload {batch_key} was settled otherwise while it was being sent")
        except Exception as error:
            logger.error("upload_record_failed", batch_id=batch.id, upload_id=batch_key, exc_info=True)
            if isinstance(error, ConflictError):
                detail = f"the provider answered with batch {batch.id}, which could not be recorded: {error.message}"
                await _persist(record_unknown, self._database, batch_key, detail, sent_at)
            raise ProviderError(
                f"The provider took the batch as {batch.id} and is calling, but that could not be recorded: "
                f"do not upload it again (upload {batch_key}: see GET /v1/uploads/{batch_key})",
                status=504,
                error_type="upload_unknown",
                is_sent_unknown=True,
            ) from error
        logger.info(
            "batch_uploaded",
            upload_id=batch_key,
            batch_id=batch.id,
            agent_id=batch.agent_id,
            recipients=batch.total_recipients,
        )
