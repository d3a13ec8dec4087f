"""Lookup of uploads whose answer was lost, in the provider's list. Nothing here sends anything.

A batch is adopted only when ``matching`` is certain: everything fits and no other upload or batch can explain it, or
calls decide. All else is left to a person (``resolution``).
"""

import structlog

from service.background import every
from service.errors import ApiError
from service.formant.batches import ProviderBatch
from service.formant.client import FormantClient
from service.formant.events import ANYWHERE
from service.formant.regions import Regions
from service.store.database import Database
from service.uploads.evidence import Evidence, add_calls, gather_evidence
from service.uploads.matching import Decision, decide, fits, is_plausible
from service.uploads.results import FIRST_WAIT_SECONDS, move_entries, record_batch

logger = structlog.get_logger()

RECOVERY_SECONDS = 5.0


class UploadFinder:
    """Finds out what unknown uploads became. ``client`` is None where no key for the provider is configured."""

    def __init__(self, database: Database, client: FormantClient | None, regions: Regions = ANYWHERE) -> None:
        self._database = database
        self._client = client
        self._regions = regions

    async def find_all(self) -> None:
        while self._client is not None and (await self._look_up(self._client, None))[0]:
            pass

    async def find(self, batch_key: int) -> ProviderBatch | None:
        """The batch that an unknown upload became, adopted; None when that is not certain (its detail says why)."""
        return (await self._look_up(self._client, batch_key))[1] if self._client else None

    async def _look_up(self, client: FormantClient, batch_key: int | None) -> tuple[bool, ProviderBatch | None]:
        """Whether an upload was due, and what it became where that is certain."""
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
        except Exception:  # one failure must not stop the lookup of the others
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
            evidence = await add_calls(self._database, client, evidence, fitting, self._regions)
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
            if await record_batch(self._database, key, batch, known_by="lookup"):
                return batch, ""
        return None, _describe(evidence, decision)


def _describe(evidence: Evidence, decision: Decision) -> str:
    """Why an upload was not found, and which listed batches may be it, for a person."""
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
    """Settles uploads of killed services, looks up unknown ones, and moves feed entries whose batch id came late."""

    def __init__(self, database: Database, finder: UploadFinder) -> None:
        self._database = database
        self._finder = finder

    async def run(self) -> None:
        await every(RECOVERY_SECONDS, self.settle, "upload_recovery_failed")

    async def settle(self) -> None:
        left = await self._database.queries.settle_abandoned_uploads(self._database.pool)
        if left["failed"] or left["unknown"]:
            logger.warning("uploads_abandoned", failed=left["failed"], unknown=left["unknown"])
        await self._finder.find_all()
        await move_entries(self._database)
