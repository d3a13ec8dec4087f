"""The loop: compares every batch that is not closed with the provider, heals missing calls and records the verdict.

Workers in all replicas lease batches that are due (``claim_due_batches``), so only one worker has a batch at a time. A
worker renews its lease while it works, so another takes over soon after it is killed. A worker that was paused is
fenced off and writes nothing. A batch is due again soon after a change on either side, and rarely when nothing changes.
Once it has been complete and quiet for a day it is closed until an event arrives.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import structlog

from service.background import every
from service.errors import NotFoundError, ProviderError, UnavailableError
from service.formant.client import FormantClient, Pacer
from service.outcomes.shapes import Reason
from service.reconciliation.budget import Meter
from service.reconciliation.comparison import BatchLease, Compared, Comparer
from service.reconciliation.drift import Assessment
from service.reconciliation.healer import Healer, Progress
from service.reconciliation.schedule import (
    LEASE_SECONDS,
    MAX_INTERVAL,
    LeaseLostError,
    keep_lease,
    may_heal_again,
    plan_next,
)
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import note, span

logger = structlog.get_logger()

WORKERS = 2
TICK_SECONDS = 5.0
CLAIM_TRIES, CLAIM_SECONDS = 20, 0.25
MAX_WALKS = 5


class Reconciler:
    """Compares and heals batches. ``now`` is the clock; ``http`` carries our API key for the provider.

    ``pacer`` limits calls of the background loop, ``urgent_pacer`` those of ``reconcile_now``.
    """

    def __init__(
        self,
        database: Database,
        http: httpx.AsyncClient,
        metrics: Metrics,
        pacer: Pacer,
        urgent_pacer: Pacer,
        healer: Healer,
        *,
        grace_seconds: float,
        interval_seconds: float,
        stuck_seconds: float = 0.0,
        lease_seconds: float = LEASE_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._http = http
        self._metrics = metrics
        self._pacer = pacer
        self._urgent_pacer = urgent_pacer
        self._healer = healer
        self._grace_seconds = grace_seconds
        self._interval = timedelta(seconds=interval_seconds)
        self._lease_seconds = lease_seconds
        self._now = now
        self._comparer = Comparer(database, now, stuck_seconds)
        self._holder = secrets.token_hex(4)

    async def run(self) -> None:
        seconds = min(TICK_SECONDS, self._interval.total_seconds())
        await asyncio.gather(
            *[every(seconds, self._reconcile_all_due, "reconciliation_failed") for _ in range(WORKERS)]
        )

    async def reconcile_due(self) -> bool:
        """Reconciles the batch that has been due longest. Returns False when none is due."""
        queries = self._database.queries
        await queries.schedule_batches(
            self._database.pool, now=self._now(), interval_seconds=self._interval.total_seconds()
        )
        claimed = queries.claim_due_batches(
            self._database.pool, holder=self._holder, limit=1, lease_seconds=self._lease_seconds, now=self._now()
        )
        rows = [row async for row in claimed]
        for row in rows:
            healing = row["healing"]
            progress = Progress() if healing is None else msgspec.json.decode(healing, type=Progress)
            lease = BatchLease(row["batch_key"], row["batch_id"], row["fence"], progress)
            try:
                await self._reconcile(lease, self._grace_seconds, on_demand=False)
            except Exception as error:  # a failing batch must not stop the others
                self._metrics.reconciliations.labels("failed").inc()
                logger.warning("reconciliation_failed", batch_id=lease.batch_id, exc_info=error)
                is_gone = isinstance(error, ProviderError) and error.status == 404
                await self._release(lease, MAX_INTERVAL if is_gone else self._interval)
        return bool(rows)

    async def reconcile_now(
        self, batch_id: int, report: Callable[[Progress], None] = lambda progress: None
    ) -> Assessment:
        """Compares and heals one batch now, without a grace period. ``report`` receives the progress of the walks.

        Raises NotFoundError for an unknown batch, UnavailableError while another worker has it, ProviderError when the
        provider cannot be read.
        """
        row = await self._claim(batch_id)
        lease = BatchLease(row["batch_key"], batch_id, row["fence"], Progress())
        try:
            return await self._reconcile(lease, 0.0, on_demand=True, report=report)
        except LeaseLostError as error:
            raise UnavailableError(
                f"Batch {batch_id} was taken over by another replica: try again", retry_after=5
            ) from error
        except BaseException:
            await asyncio.shield(self._release(lease, self._interval))
            raise

    async def _claim(self, batch_id: int) -> Any:
        """The lease on a requested batch. Waits a few seconds for a worker that is comparing it."""
        queries, pool = self._database.queries, self._database.pool
        if await queries.get_batch(pool, batch_id=batch_id) is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        for _ in range(CLAIM_TRIES):
            row = await queries.claim_batch(
                pool, batch_id=batch_id, holder=self._holder, lease_seconds=self._lease_seconds, now=self._now()
            )
            if row is not None:
                return row
            await asyncio.sleep(CLAIM_SECONDS)
        raise UnavailableError(f"Batch {batch_id} is being healed right now: try again", retry_after=5)

    async def _reconcile_all_due(self) -> None:
        while await self.reconcile_due():
            pass

    async def _reconcile(
        self,
        lease: BatchLease,
        grace_seconds: float,
        *,
        on_demand: bool,
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> Assessment:
        """Compares and heals a leased batch, and records the assessment."""
        meter = Meter(self._urgent_pacer if on_demand else self._pacer)
        client = FormantClient(self._http, self._metrics, meter)
        with span("reconcile", batch_id=lease.batch_id) as traced:
            async with keep_lease(lambda: self._renew(lease), seconds=self._lease_seconds):
                compared = await self._comparer.compare(client, lease, grace_seconds)
                progress = lease.progress
                if compared.assessment.needs_healing and (on_demand or self._may_heal(progress, compared)):
                    compared, progress = await self._heal(client, lease, compared, grace_seconds, report)
                assessment = await self._add_reasons(lease, compared.assessment, progress)
            await self._record(lease, compared, assessment, meter.calls, progress)
            note(traced, verdict=assessment.verdict, calls=meter.calls)
            return assessment

    def _may_heal(self, progress: Progress, compared: Compared) -> bool:
        """Whether to walk: a walk was interrupted, or the last one was long enough ago."""
        return progress.offset > 0 or may_heal_again(
            progress.walked_at, now=self._now(), changed_at=compared.changed_at, grace_seconds=self._grace_seconds
        )

    async def _add_reasons(self, lease: BatchLease, assessment: Assessment, progress: Progress) -> Assessment:
        """The assessment with what healing found, and with the recipients concerned."""
        shown = await self._comparer.show_recipients(lease, assessment)
        reasons = await self._comparer.name_stuck(lease, assessment.reasons)
        return msgspec.structs.replace(assessment, reasons=reasons + _list_reasons(progress) + shown)

    async def _heal(
        self,
        client: FormantClient,
        lease: BatchLease,
        compared: Compared,
        grace_seconds: float,
        report: Callable[[Progress], None],
    ) -> tuple[Compared, Progress]:
        """Heals by walks, and records when the last one ended."""
        with span("heal", batch_id=lease.batch_id) as traced:
            compared, progress = await self._walk(client, lease, compared, grace_seconds, report)
            progress.walked_at = self._now()
            await self._save(lease, progress)
            logger.info("batch_healed", batch_id=lease.batch_id, count=progress.healed)
            note(traced, healed=progress.healed)
        return compared, progress

    async def _walk(
        self,
        client: FormantClient,
        lease: BatchLease,
        compared: Compared,
        grace_seconds: float,
        report: Callable[[Progress], None],
    ) -> tuple[Compared, Progress]:
        """Walks until the figures agree, or a whole walk finds nothing new."""
        progress = msgspec.structs.replace(lease.progress, walked_at=None)
        if progress.offset:  # resumed where another worker stopped
            progress.is_whole = False
        else:
            progress = Progress()

        async def save(current: Progress) -> None:
            report(current)
            await self._save(lease, current)

        for _ in range(MAX_WALKS):
            may_retry = (compared.theirs.pending_retry_count or 0) > 0
            progress.found = progress.ambiguous = progress.unknown = progress.refused = 0
            met: set[str] = set()
            batch = await self._comparer.describe(lease, may_retry)
            progress = await self._healer.walk(client, batch, progress, save, met)
            is_whole, found = progress.is_whole, progress.found
            progress.offset, progress.is_whole = 0, True
            await save(progress)
            if found:
                compared = await self._comparer.compare(client, lease, grace_seconds)
                if not compared.assessment.needs_healing and not grace_seconds:
                    break
                if compared.assessment.verdict == "complete":
                    break
            elif is_whole:
                if not progress.ending:
                    progress.unknown_there = await self._comparer.find_unmet(lease, met)
                break
        return compared, progress

    async def _renew(self, lease: BatchLease) -> bool:
        """Renews the lease for its full length; False when it is lost."""
        kept = await self._database.queries.renew_batch_lease(
            self._database.pool,
            batch_key=lease.batch_key,
            fence=lease.fence,
            leased_until=self._now() + timedelta(seconds=self._lease_seconds),
        )
        return kept is not None

    async def _save(self, lease: BatchLease, progress: Progress) -> None:
        kept = await self._database.queries.save_healing(
            self._database.pool,
            batch_key=lease.batch_key,
            fence=lease.fence,
            healing=_encode(progress),
            leased_until=self._now() + timedelta(seconds=self._lease_seconds),
        )
        if kept is None:
            raise LeaseLostError(f"Batch {lease.batch_id} was taken over")

    async def _record(
        self, lease: BatchLease, compared: Compared, assessment: Assessment, calls: int, progress: Progress
    ) -> None:
        now = self._now()
        is_kept = await self._database.queries.record_reconciliation(
            self._database.pool,
            batch_key=lease.batch_key,
            fence=lease.fence,
            at=compared.compared_at,
            verdict=assessment.verdict,
            reasons=_encode(assessment.reasons),
            differences=_encode(assessment.differences),
            inconsistencies=_encode(assessment.inconsistencies),
            calls_spent=calls,
            healed=progress.healed if progress is not lease.progress else 0,
            due_at=plan_next(assessment, now=now, changed_at=compared.changed_at, interval=self._interval),
        )
        if not is_kept:
            raise LeaseLostError(f"Batch {lease.batch_id} was taken over")
        self._metrics.reconciliations.labels(assessment.verdict).inc()
        self._metrics.last_reconciliation.set_to_current_time()
        logger.info("batch_reconciled", batch_id=lease.batch_id, state=assessment.verdict, count=calls)

    async def _release(self, lease: BatchLease, wait: timedelta) -> None:
        now = self._now()
        await self._database.queries.release_batch(
            self._database.pool,
            batch_key=lease.batch_key,
            fence=lease.fence,
            due_at=now + wait,
            retry_at=now + self._interval,
        )


def _list_reasons(progress: Progress) -> list[Reason]:
    """What healing found; empty when no walk was made."""
    if progress.walked_at is None:
        return []
    counts = {
        "healed": progress.healed,
        "ambiguous_conversations": progress.ambiguous,
        "conversations_of_unknown_status": progress.unknown,
        "conversations_refused": progress.refused,
    }
    explained = [Reason(code, count=count) for code, count in counts.items() if count or code == "healed"]
    if progress.ending:  # the walk did not see the rest of the list
        explained.append(Reason(f"conversations_{progress.ending}"))
    if progress.unknown_there:
        explained.append(Reason("calls_unknown_there", recipients=progress.unknown_there))
    return explained


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()
