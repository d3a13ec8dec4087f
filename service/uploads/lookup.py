"""Uploads whose answer was lost: looked for in the provider's list, and adopted when a batch there is certainly theirs.

What that takes is in ``matching``: everything fits, and no other upload or batch can explain it, or calls decide. All
else is left to a person (``resolution``). Nothing here sends anything.
"""

import json
from datetime import datetime
from typing import Any

import asyncpg
import structlog

from service.access.audit import record_audit
from service.background import every
from service.errors import ApiError, ConflictError
from service.formant.batches import ProviderBatch
from service.formant.client import FormantClient
from service.formant.events import ANYWHERE
from service.formant.regions import Regions
from service.store.database import Database
from service.telemetry.context import current_actor, current_request_id
from service.uploads.evidence import Evidence, add_calls, begin_of_calls, gather_evidence
from service.uploads.matching import Decision, decide, fits, is_plausible

logger = structlog.get_logger()

FIRST_WAIT_SECONDS = 5.0  # doubled with every lookup, up to about six hours
MOVED_AT_ONCE = 1000
"""Entries of the feed that are moved in one commit: a few hundredths of a second in which webhooks wait."""


class UploadFinder:
    """Finds out what became of unknown uploads. ``client`` is None where no key for the provider is configured."""

    def __init__(self, database: Database, client: FormantClient | None, regions: Regions = ANYWHERE) -> None:
        self._database = database
        self._client = client
        self.regions = regions
        """The country of each agent's phones."""

    async def look_for_all(self) -> None:
        """Looks for every unknown upload that is due."""
        while self._client is not None and (await self._look(self._client, None))[0]:
            pass

    async def look_for(self, batch_key: int) -> ProviderBatch | None:
        """The batch that an unknown upload became, adopted; None when that is not certain (its detail says why)."""
        return (await self._look(self._client, batch_key))[1] if self._client else None

    async def record(
        self,
        batch_key: int,
        batch: ProviderBatch,
        *,
        known_by: str = "answer",
        sent_at: datetime | None = None,
        action: str = "upload",
        details: dict[str, Any] | None = None,
    ) -> bool:
        """Records which batch an upload became; False when the upload does not wait for that any more.

        An upload that held the batch by a worse guess is unknown again. Raises ConflictError when the batch is
        another's and that does not give way.
        """
        actor = current_actor()
        try:
            adopted = await self._database.queries.adopt_batch(
                self._database.pool,
                batch_key=batch_key,
                batch_id=batch.id,
                status=batch.status,
                total_recipients=batch.total_recipients,
                created_at=batch.created_at,
                rows=MOVED_AT_ONCE,
                known_by=known_by,
                sent_at=sent_at,
                actor=actor.name,
                key_id=actor.key_id,
                request_id=current_request_id(),
                action=action,
                details=json.dumps(details or {}),
            )
        except asyncpg.UniqueViolationError as error:
            raise ConflictError(f"Batch {batch.id} is known already, and not as upload {batch_key}") from error
        if adopted["displaced_key"] is not None:
            logger.error("batch_reassigned", batch_id=batch.id, upload_id=adopted["displaced_key"], reason=known_by)
        return adopted["batch_key"] is not None

    async def fail(
        self,
        batch_key: int,
        states: list[str],
        detail: str,
        *,
        known_by: str = "answer",
        sent_at: datetime | None = None,
        action: str = "upload",
        details: dict[str, Any] | None = None,
    ) -> str | None:
        """Records that nobody was dialled; the state that came of it, or None when it was in none of ``states``, or was
        sent again since ``sent_at``."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            state: str | None = await self._database.queries.fail_upload(
                connection, batch_key=batch_key, states=states, detail=detail, known_by=known_by, sent_at=sent_at
            )
            if state is not None:
                await record_audit(self._database, connection, action, f"upload {batch_key}", state, **(details or {}))
        return state

    async def record_unknown(self, batch_key: int, detail: str, sent_at: datetime | None) -> None:
        """Records that it was sent and no answer came; it is looked for from then on."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            await self._database.queries.record_unknown(
                connection, batch_key=batch_key, detail=detail, seconds=FIRST_WAIT_SECONDS, sent_at=sent_at
            )
            await record_audit(self._database, connection, "upload", f"upload {batch_key}", "unknown")

    async def _look(self, client: FormantClient, batch_key: int | None) -> tuple[bool, ProviderBatch | None]:
        """Whether there was something to look for, and what it became where that is certain."""
        claimed = await self._database.queries.claim_lookup(
            self._database.pool, batch_key=batch_key, seconds=FIRST_WAIT_SECONDS
        )
        if claimed is None:
            return False, None
        key: int = claimed["batch_key"]
        found: ProviderBatch | None = None
        try:
            found, detail = await self._decide(client, key)
        except ApiError as error:
            detail = f"could not be looked for: {error.message}"
        except Exception:  # the others are looked for all the same
            detail = "could not be looked for: see the service's log"
            logger.warning("upload_lookup_failed", upload_id=key, exc_info=True)
        if found is None:
            await self._database.queries.record_lookup(self._database.pool, batch_key=key, detail=detail)
        logger.info("upload_looked_up", upload_id=key, batch_id=found.id if found else None)
        return True, found

    async def _decide(self, client: FormantClient, key: int) -> tuple[ProviderBatch | None, str]:
        """The batch, adopted, or why not."""
        evidence = await gather_evidence(self._database, client, key)
        fitting = [batch for batch in evidence.free if fits(evidence.upload, batch, evidence.agent_id)]
        if fitting:
            since = begin_of_calls(evidence, fitting)
            evidence = await add_calls(self._database, client, evidence, since, self.regions)
        decision = decide(
            evidence.upload,
            evidence.rivals,
            evidence.free,
            evidence.agent_id,
            is_contradicted=evidence.is_contradicted,
            unreadable=evidence.unreadable,
        )
        if decision.batch_id is not None:
            batch = evidence.answers[decision.batch_id]
            if await self.record(key, batch, known_by="lookup"):
                return batch, ""
        return None, _describe(evidence, decision)


def _describe(evidence: Evidence, decision: Decision) -> str:
    """Why an upload was not found, and what the provider lists that may be it, for a person."""
    sent = "its webhooks come in, so it was sent; " if evidence.is_known_sent else ""
    near = [batch for batch in evidence.free if is_plausible(evidence.upload, batch)]
    remedy = f"; if you know, say so: POST /v1/uploads/{evidence.upload.key}/resolve"
    if not near:
        return f"{sent}{decision.reason}{remedy}"
    ids = ", ".join(str(batch.id) for batch in near[:10])
    shown = "; ".join(batch.describe() for batch in near[:10])
    todo = "" if decision.waits else ": a person must decide"
    return f"{sent}{decision.reason}: the provider's list holds {ids}{todo}{remedy} ({shown})"


class UploadRecovery:
    """Settles what killed services left, looks for what is unknown, and has the feed tell ids that were found out late,
    for as long as it runs."""

    def __init__(self, database: Database, finder: UploadFinder, *, interval_seconds: float = 5.0) -> None:
        self._database = database
        self._finder = finder
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Until it is cancelled."""
        await every(self._interval_seconds, self.settle, "upload_recovery_failed")

    async def settle(self) -> None:
        """One pass."""
        left = await self._database.queries.settle_abandoned_uploads(self._database.pool)
        if left["failed"] or left["unknown"]:
            logger.warning("uploads_abandoned", failed=left["failed"], unknown=left["unknown"])
        await self._finder.look_for_all()
        while await self._database.queries.move_feed_entries(self._database.pool, rows=MOVED_AT_ONCE):
            pass
