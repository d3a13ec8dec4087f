"""Uploads: a file checked, its recipients stored, and then sent to the provider once.

    preparing → prepared → uploading → uploaded | unknown | failed          held → prepared: a test batch is promoted

Every step is committed before the next outside effect. The provider has no idempotency key, and a repeated upload
calls people again. So an upload whose answer was lost is ``unknown``, is looked up, and is never sent again
automatically. When the lease of a killed service runs out, its upload is settled: before ``uploading`` nothing was
sent, from then on the outcome is unknown.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from service.access.audit import record_audit
from service.background import every
from service.errors import (
    ApiError,
    ConflictError,
    DuplicateRequestError,
    InvalidRequestError,
    KeyReusedError,
    NotFoundError,
    ProviderError,
    UnavailableError,
)
from service.formant.batches import ProviderBatch
from service.formant.regions import Regions
from service.store.database import Database
from service.telemetry.tracing import span
from service.uploads.exclusion import mark_suppressed
from service.uploads.file_checks import FileChecker, digest_report
from service.uploads.folders import make_folder
from service.uploads.lease import LEASE_SECONDS, SendLease, hold_lease
from service.uploads.report import ContactsReport, Part, Rejected, read_summary
from service.uploads.sending import Sender
from service.uploads.sources import Source
from service.uploads.storing import StoredPart, Uploaded, UploadRequest, explain_repeat, restore_file, store_parts

logger = structlog.get_logger()

PROMOTION_SECONDS = 5.0


class Uploader:
    """Uploads CSV files. ``sender`` is None where no key for the provider is configured."""

    def __init__(self, database: Database, sender: Sender | None, *, ref_column: str, regions: Regions) -> None:
        self._database = database
        self._sender = sender
        self._ref_column = ref_column
        self.checker = FileChecker(database, ref_column=ref_column, regions=regions)

    async def upload(self, request: UploadRequest) -> Uploaded:
        """The batch as the provider answered it, once stored.

        Raises InvalidRequestError for an unusable file (nothing is stored or sent), DuplicateRequestError,
        KeyReusedError, ProviderError when the provider refused it or its answer was lost, UnavailableError when there
        is no key for the provider.
        """
        sender = self._require_sender()
        source = await self.checker.open(request)
        tokens = (secrets.token_hex(8), secrets.token_hex(8))
        begun = await self._begin(request, source.columns, tokens)
        if begun["refusal"] is not None:
            return await self._answer_earlier(begun["earlier_key"], begun["refusal"])
        with make_folder() as folder:
            parts = _plan_parts(begun, tokens, folder)
            async with self._hold(parts) as lease:
                with span("upload_prepare", upload_id=begun["batch_key"], agent_id=request.agent_id):
                    await self._prepare(request, source, parts, lease.report_progress)
                batch = await _finish(sender.send(begun["batch_key"], Path(parts[-1].upload_path), lease))
        return await self._describe(begun["batch_key"], batch)

    async def promote(self, test_batch_id: int) -> Uploaded:
        """Sends the main batch of a test batch, once; raises NotFoundError or ConflictError when it cannot."""
        sender = self._require_sender()
        async with self._database.pool.acquire() as connection, connection.transaction():
            begun = await self._database.queries.begin_promotion(
                connection, batch_id=test_batch_id, seconds=LEASE_SECONDS
            )
            if begun["is_promoted"]:
                await record_audit(
                    self._database, connection, "promotion", f"upload {begun['main_key']}", "begun",
                    test_batch_id=test_batch_id,
                )  # fmt: skip
        if begun["main_key"] is None:
            raise NotFoundError(f"There is no test batch {test_batch_id}: upload one with test_recipients=N")
        if not begun["is_promoted"]:
            became = f" as batch {begun['batch_id']}" if begun["batch_id"] else ""
            raise ConflictError(
                f"Batch {test_batch_id} was promoted already: the rest is {begun['upload_state']}{became} "
                f"(GET /v1/uploads/{begun['main_key']})"
            )
        with make_folder() as folder:
            path = Path(folder) / "contacts.csv"
            async with hold_lease(self._database, [begun["main_key"]]) as lease:
                await restore_file(self._database, begun["main_key"], path)
                batch = await _finish(sender.send(begun["main_key"], path, lease))
        return await self._describe(begun["main_key"], batch)

    async def _prepare(
        self, request: UploadRequest, source: Source, parts: list[Part], on_progress: Callable[[int], None]
    ) -> None:
        """Checks the file and stores its recipients, all or none."""
        await self.checker.check_columns(request, source.columns)
        folder = Path(parts[0].copy_path).parent
        rejected = Rejected(batch_key=parts[0].batch_key, copy_path=str(folder / "rejected.copy"))
        last_suppression = await self.checker.find_last_suppression()
        report = await self.checker.check_people(
            request,
            source,
            folder,
            last_suppression,
            tuple(parts),
            rejected,
            called_within=request.called_within,
            on_progress=on_progress,
        )
        refuse_errors(report)
        if request.report_digest and request.report_digest != digest_report(request, report):
            raise ConflictError(
                "report_digest: the file, the choices or the people to call are not those of the report: check the "
                "file again (dry_run=true), and send the report_digest of that; nothing was sent"
            )
        states = ["prepared"] if len(parts) == 1 else ["held", "prepared"]
        stored = [StoredPart(*each) for each in zip(parts, report.part_counts, states, strict=True)]
        await store_parts(self._database, request, report, stored, rejected)
        await mark_suppressed(self._database, [part.batch_key for part in parts], last_suppression)

    def _require_sender(self) -> Sender:
        if self._sender is None:
            raise UnavailableError("No uploads: FORMANT_API_KEY is empty, so the provider cannot be called")
        return self._sender

    async def _begin(self, request: UploadRequest, columns: list[str], tokens: tuple[str, str]) -> asyncpg.Record:
        is_test = request.test_recipients > 0
        begun: asyncpg.Record = await self._database.queries.begin_upload(
            self._database.pool,
            agent_id=request.agent_id,
            name=request.name,
            columns=columns,
            file_digest=request.file_digest,
            ref_token=tokens[0] if self._ref_column else None,
            ref_column=self._ref_column or None,
            idempotency_key=request.idempotency_key,
            request_digest=request.digest(),
            force=request.force,
            lease_seconds=LEASE_SECONDS,
            test_name=f"{request.name} (test)" if is_test else None,
            test_ref_token=tokens[1] if is_test and self._ref_column else None,
            promote_at_success_rate=request.promote_at_success_rate,
            promote_at_goal_rate=request.promote_at_goal_rate,
        )
        return begun

    async def _describe(self, batch_key: int, batch: ProviderBatch, *, is_repeated: bool = False) -> Uploaded:
        upload = await self._database.queries.get_upload(self._database.pool, batch_key=batch_key)
        return Uploaded(batch_key, batch, read_summary(upload["file"]), upload["withdrawn"], is_repeated)

    @contextlib.asynccontextmanager
    async def _hold(self, parts: list[Part]) -> AsyncIterator[SendLease]:
        """Holds the lease. An upload that fails before it is stored is discarded."""
        batch_keys = [part.batch_key for part in parts]
        async with hold_lease(self._database, batch_keys) as lease:
            try:
                yield lease
            except BaseException:
                with contextlib.suppress(Exception):  # without the database the lease runs out
                    await self._database.queries.discard_upload(self._database.pool, batch_keys=batch_keys)
                raise

    async def _answer_earlier(self, batch_key: int, refusal: str) -> Uploaded:
        """The answer to the earlier request that this one repeats, or the error that describes its state."""
        if refusal == "key_reused":
            raise KeyReusedError(
                f"Idempotency-Key: was used for another request before (upload {batch_key}): use a new key"
            )
        if refusal == "duplicate":
            raise await explain_repeat(self._database, self._database.pool, batch_key)
        upload = await self._database.queries.get_upload(self._database.pool, batch_key=batch_key)
        state = upload["state"] if upload else "gone"
        if state == "uploaded":
            row = await self._database.queries.get_batch(self._database.pool, batch_id=upload["batch_id"])
            batch = ProviderBatch(**{name: row[name] for name in ProviderBatch.__struct_fields__})
            return await self._describe(batch_key, batch, is_repeated=True)
        if state == "unknown":
            raise ProviderError(
                f"The answer to this upload is still not known: {upload['detail']}",
                status=504,
                error_type="upload_unknown",
                is_sent_unknown=True,
            )
        raise DuplicateRequestError(
            f"The same request is being processed (upload {batch_key}, {state}): try again in a moment",
            headers={"retry-after": "2"},
        )


def _plan_parts(begun: asyncpg.Record, tokens: tuple[str, str], folder: str) -> list[Part]:
    """The main batch and its test batch, or the only batch. The last one is sent at once."""
    keys = [begun["batch_key"]] if begun["main_key"] is None else [begun["main_key"], begun["batch_key"]]
    return [
        Part(batch_key=key, ref_token=token, upload_path=f"{folder}/{key}.csv", copy_path=f"{folder}/{key}.copy")
        for key, token in zip(keys, tokens, strict=False)
    ]


async def _finish(sending: Coroutine[Any, Any, ProviderBatch]) -> ProviderBatch:
    """Waits until sending has ended, even when the caller disconnects: the lease and the file must last until the
    result is recorded."""
    task = asyncio.ensure_future(sending)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def refuse_errors(report: ContactsReport) -> None:
    """Raises InvalidRequestError with the whole report when it has errors, naming the first."""
    if not report.is_refused:
        return
    more = f" (and {report.error_count - 1} more: see details)" if report.error_count > 1 else ""
    raise InvalidRequestError(f"{report.errors[0]}{more}", details={"report": report})


class Promoter:
    """Promotes test batches that have passed."""

    def __init__(self, database: Database, uploader: Uploader) -> None:
        self._database = database
        self._uploader = uploader

    async def run(self) -> None:
        await every(PROMOTION_SECONDS, self.promote_due, "promotion_failed")

    async def promote_due(self) -> None:
        due = [row["batch_id"] async for row in self._database.queries.list_due_promotions(self._database.pool)]
        for batch_id in due:
            try:
                promoted = await self._uploader.promote(batch_id)
            except ApiError as error:  # refused, lost, or another replica was faster: see the upload's state
                logger.warning("promotion_failed", batch_id=batch_id, status=error.status)
            else:
                logger.info("batch_promoted", batch_id=promoted.batch.id)
