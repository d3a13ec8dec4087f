"""Uploads whose answer was lost: looked for in the provider's list, and adopted when exactly one batch there fits.

What fits was made by the provider after sending began, for the same agent, under the same name, with as many
recipients, and belongs to no other upload. Where none or several fit, a person decides. Nothing here sends anything.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import structlog

from service.access.actor import current_actor
from service.access.audit import record_audit
from service.errors import ConflictError, InvalidRequestError, NotFoundError, ProviderError
from service.formant.batches import ProviderBatch
from service.formant.client import FormantClient
from service.request_ids import current_request_id
from service.store.database import Database

logger = structlog.get_logger()

FIRST_WAIT_SECONDS = 5.0  # doubled with every lookup, up to about six hours
CLOCK_SLACK = timedelta(minutes=5)
MOVED_AT_ONCE = 1000
"""Entries of the feed that are told again in one commit: a few hundredths of a second in which webhooks wait."""


class UploadFinder:
    """Finds out what became of unknown uploads. ``client`` is None where no key for the provider is configured."""

    def __init__(self, database: Database, client: FormantClient | None) -> None:
        self._database = database
        self._client = client

    async def look_for_all(self) -> None:
        """Looks for every unknown upload that is due."""
        while self._client is not None and (await self._look(self._client, None))[0]:
            pass

    async def look_for(self, batch_key: int) -> ProviderBatch | None:
        """The batch that an unknown upload became, adopted; None when that is not certain (its detail tells why)."""
        return (await self._look(self._client, batch_key))[1] if self._client else None

    async def resolve(self, batch_key: int, batch_id: int | None) -> None:
        """A person's word on an unknown upload: it became batch ``batch_id``, or with None was never sent.

        Raises NotFoundError, ConflictError when it is not unknown or the evidence is against it, ProviderError.
        """
        upload = await self._database.queries.get_upload(self._database.pool, batch_key=batch_key)
        if upload is None:
            raise NotFoundError(f"There is no upload {batch_key}")
        if upload["state"] != "unknown":
            raise ConflictError(f"Upload {batch_key} is {upload['state']}: only one that is unknown can be resolved")
        if batch_id is None:
            await self._declare_not_sent(batch_key)
        else:
            await self._adopt_on_word(batch_key, upload, batch_id)
        logger.info("upload_resolved", upload_id=batch_key, batch_id=batch_id)

    async def _declare_not_sent(self, batch_key: int) -> None:
        claimed = await self._claim(batch_key)
        if claimed is not None and claimed["has_events"]:
            raise ConflictError(f"Upload {batch_key} was sent: webhooks of its recipients have come in")
        fitting = await self._find_fitting(self._client, claimed) if claimed and self._client else []
        if fitting:
            ids = ", ".join(str(batch.id) for batch in fitting)
            raise ConflictError(f"Upload {batch_key} may have been sent: the provider lists {ids}, which fits it")
        await self.fail(batch_key, ["unknown"], "declared not sent", action="resolution")

    async def _adopt_on_word(self, batch_key: int, upload: asyncpg.Record, batch_id: int) -> None:
        if self._client is None:
            raise ConflictError("FORMANT_API_KEY is empty, so the provider cannot be asked for the batch")
        batch = await self._client.get_batch(batch_id)
        if batch.agent_id != upload["agent_id"]:
            raise InvalidRequestError(
                f"batch_id: {batch_id} is of agent {batch.agent_id}, the upload of {upload['agent_id']}"
            )
        if batch.total_recipients != upload["recipients"]:
            raise InvalidRequestError(
                f"batch_id: {batch_id} has {batch.total_recipients} recipients, the upload {upload['recipients']}"
            )
        if not await self.record(batch_key, batch, action="resolution"):
            raise ConflictError(f"Upload {batch_key} was resolved meanwhile: see GET /v1/uploads/{batch_key}")

    async def record(self, batch_key: int, batch: ProviderBatch, *, action: str = "upload") -> bool:
        """Takes down which batch an upload became; False when the upload does not wait for that any more.

        Raises ConflictError when the batch is another upload's.
        """
        actor = current_actor()
        try:
            recorded = await self._database.queries.record_uploaded(
                self._database.pool,
                batch_key=batch_key,
                batch_id=batch.id,
                status=batch.status,
                total_recipients=batch.total_recipients,
                created_at=batch.created_at,
                rows=MOVED_AT_ONCE,
                actor=actor.name,
                key_id=actor.key_id,
                request_id=current_request_id(),
                action=action,
            )
        except asyncpg.UniqueViolationError as error:
            raise ConflictError(f"Batch {batch.id} is known already, and not as upload {batch_key}") from error
        return recorded is not None

    async def fail(self, batch_key: int, states: list[str], detail: str, *, action: str = "upload") -> str | None:
        """Takes down that nobody was dialled; the state that came of it, or None when it was in none of ``states``."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            state: str | None = await self._database.queries.fail_upload(
                connection, batch_key=batch_key, states=states, detail=detail
            )
            if state is not None:
                await record_audit(self._database, connection, action, f"upload {batch_key}", state)
        return state

    async def record_unknown(self, batch_key: int, detail: str) -> None:
        """Takes down that it was sent and no answer came; it is looked for from then on."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            await self._database.queries.record_unknown(
                connection, batch_key=batch_key, detail=detail, seconds=FIRST_WAIT_SECONDS
            )
            await record_audit(self._database, connection, "upload", f"upload {batch_key}", "unknown")

    async def _claim(self, batch_key: int | None) -> asyncpg.Record | None:
        claimed: asyncpg.Record | None = await self._database.queries.claim_lookup(
            self._database.pool, batch_key=batch_key, seconds=FIRST_WAIT_SECONDS
        )
        return claimed

    async def _look(self, client: FormantClient, batch_key: int | None) -> tuple[bool, ProviderBatch | None]:
        """Whether there was something to look for, and what it became where that is certain."""
        upload = await self._claim(batch_key)
        if upload is None:
            return False, None
        found: ProviderBatch | None = None
        try:
            fitting = await self._find_fitting(client, upload)
            if len(fitting) == 1 and not upload["rivals"] and await self.record(upload["batch_key"], fitting[0]):
                found = fitting[0]
            else:
                await self._tell(upload["batch_key"], _describe(upload, fitting))
        except ProviderError as error:
            await self._tell(upload["batch_key"], f"could not be looked for: {error.message}")
        except ConflictError as error:
            await self._tell(upload["batch_key"], error.message)
        except Exception:  # the others are looked for all the same
            logger.warning("upload_lookup_failed", upload_id=upload["batch_key"], exc_info=True)
        logger.info(
            "upload_looked_for",
            upload_id=upload["batch_key"],
            batch_id=found.id if found else None,
            agent_id=upload["agent_id"],
        )
        return True, found

    async def _find_fitting(self, client: FormantClient, upload: asyncpg.Record) -> list[ProviderBatch]:
        fitting = {
            batch.id: batch
            async for batch in client.list_batches(upload["agent_id"])
            if batch.agent_id == upload["agent_id"]
            and batch.name == upload["name"]
            and batch.total_recipients == upload["recipient_count"]
            and _is_made_after(batch, upload["sent_at"])
        }
        known = self._database.queries.select_known_batches(self._database.pool, batch_ids=list(fitting))
        taken = {row["batch_id"] async for row in known}
        return [fitting[batch_id] for batch_id in sorted(fitting.keys() - taken)]

    async def _tell(self, batch_key: int, detail: str) -> None:
        await self._database.queries.record_lookup(self._database.pool, batch_key=batch_key, detail=detail)


def _is_made_after(batch: ProviderBatch, sent_at: datetime | None) -> bool:
    return sent_at is None or batch.created_at is None or batch.created_at >= sent_at - CLOCK_SLACK


def _describe(upload: Any, fitting: list[ProviderBatch]) -> str:
    remedy = f"; if you know, say so: POST /v1/uploads/{upload['batch_key']}/resolve"
    sent = "its webhooks come in, so it was sent; " if upload["has_events"] else ""
    if not fitting:
        return f"{sent}the provider's list holds no batch that fits it yet{remedy}"
    ids = ", ".join(str(batch.id) for batch in fitting[:10])
    rivals = "another unknown upload is like it, and " if upload["rivals"] else ""
    return f"{sent}{rivals}the provider's list holds {ids}, which fit it: a person must decide{remedy}"


class UploadRecovery:
    """Settles what killed services left, looks for what is unknown, and has the feed tell ids that were found out late,
    for as long as it runs."""

    def __init__(self, database: Database, finder: UploadFinder, *, interval_seconds: float = 5.0) -> None:
        self._database = database
        self._finder = finder
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Until it is cancelled; a failure is told, and tried again the next time."""
        while True:
            try:
                await self.settle()
            except Exception:
                logger.warning("upload_recovery_failed", exc_info=True)
            await asyncio.sleep(self._interval_seconds)

    async def settle(self) -> None:
        """One pass."""
        left = await self._database.queries.settle_abandoned_uploads(self._database.pool)
        if left["failed"] or left["unknown"]:
            logger.warning("uploads_abandoned", failed=left["failed"], unknown=left["unknown"])
        await self._finder.look_for_all()
        while await self._database.queries.move_feed_entries(self._database.pool, rows=MOVED_AT_ONCE):
            pass
