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
from service.formant.client import FormantClient
from service.outcomes.shapes import Reason, explain
from service.reconciliation.budget import Budget, Meter
from service.reconciliation.comparison import BatchLease, Compared, Comparer
from service.reconciliation.details import DetailsReader
from service.reconciliation.drift import Assessment, count_missing
from service.reconciliation.healer import Healer, Progress
from service.reconciliation.schedule import (
    FOREVER,
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
from service.wording import describe_verdict

logger = structlog.get_logger()

WORKERS = 2
TICK_SECONDS = 5.0
CLAIM_TRIES, CLAIM_SECONDS = 20, 0.25
MAX_WALKS = 5
DETAILS_SECONDS = 60.0
"""A worker fetches details of one batch for about so long, then others have their turn."""
COMPARE_AGAIN = timedelta(minutes=10)
"""A batch is compared this often while its details are fetched."""
SAVE_EVERY = 20
CLOSING_CALLS = 2
"""A walk ends with another comparison."""


class Reconciler:
    """Compares and heals batches. ``now`` is the clock; ``http`` carries our API key for the provider.

    ``pacer`` limits calls of the background loop, ``urgent_pacer`` those of ``reconcile_now``.
    """

    def __init__(
        self,
        database: Database,
        http: httpx.AsyncClient,
        metrics: Metrics,
        pacer: Budget,
        urgent_pacer: Budget,
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
        self._details = DetailsReader(database, healer.write, now)
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
            lease = _open_lease(row, row["batch_id"])
            try:
                if await self._may_only_read_details(lease, row["last_reconciled_at"]):
                    await self._read_details(lease)
                else:
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
        lease = _open_lease(row, batch_id)
        lease.progress = Progress()
        try:
            return await self._reconcile(lease, 0.0, on_demand=True, report=report)
        except LeaseLostError as error:
            raise UnavailableError(
                f"Batch {batch_id} was taken over by another replica: try again", retry_after=5
            ) from error
        except BaseException:
            await asyncio.shield(self._release(lease, self._interval))
            raise

    async def read_details_now(self, batch_id: int, report: Callable[[int], None] = lambda left: None) -> None:
        """Reads all details of a batch that are due, unless another worker has the batch. ``report`` receives how many
        are left."""
        left = 1
        while left:
            row = await self._try_to_claim(batch_id)
            if row is None:
                return
            lease = _open_lease(row, batch_id)
            try:
                left = await self._read_details(lease, report)
            except BaseException:
                await asyncio.shield(self._release(lease, self._interval))
                raise

    async def _try_to_claim(self, batch_id: int) -> Any | None:
        return await self._database.queries.claim_batch(
            self._database.pool,
            batch_id=batch_id,
            holder=self._holder,
            lease_seconds=self._lease_seconds,
            now=self._now(),
        )

    async def _claim(self, batch_id: int) -> Any:
        """The lease on a requested batch. Waits a few seconds for a worker that is comparing it."""
        queries, pool = self._database.queries, self._database.pool
        if await queries.get_batch(pool, batch_id=batch_id) is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        for _ in range(CLAIM_TRIES):
            row = await self._try_to_claim(batch_id)
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
            progress, calls = lease.progress, meter.calls
            heals = compared.assessment.needs_healing and (on_demand or self._may_heal(progress, compared))
            if heals and not progress.is_under_way:
                await self._begin_healing(lease, compared, calls)
                calls = 0
            async with keep_lease(lambda: self._renew(lease), seconds=self._lease_seconds):
                if heals:
                    made = meter.calls - calls
                    compared, progress = await self._heal(client, lease, compared, grace_seconds, report)
                    calls = meter.calls - made
                elif lease.stored.is_under_way:  # it is no longer needed
                    await self._save(lease, msgspec.structs.replace(lease.stored, offset=0, walked_at=self._now()))
                assessment = await self._add_reasons(lease, compared.assessment, progress)
                details_due_at = await self._expect_details(lease)
            await self._record(lease, compared, assessment, calls, progress.healed if heals else 0, details_due_at)
            note(traced, verdict=assessment.verdict, calls=meter.calls)
            return assessment

    async def _begin_healing(self, lease: BatchLease, compared: Compared, calls: int) -> None:
        """Records that the batch is being healed, which may take long: until then the last verdict would be shown. The
        batch is ``settling``, unless it was known to be drifted."""
        missing = count_missing(compared.assessment.differences)
        lease.progress = Progress(began_at=self._now(), missing=missing)
        await self._save(lease, lease.progress)
        assessment = compared.assessment
        verdict = "settling" if assessment.verdict == "drifted" != lease.verdict else assessment.verdict
        reasons = [Reason("healing", done=0, total=missing), *assessment.reasons]
        assessment = _explain(msgspec.structs.replace(assessment, verdict=verdict), reasons)
        # The record ends the lease. Nobody else is due to take it for an interval.
        await self._record(lease, compared, assessment, calls, 0, self._now() + self._interval)
        row = await self._try_to_claim(lease.batch_id)
        if row is None:
            raise LeaseLostError(f"Batch {lease.batch_id} was taken over")
        lease.fence = row["fence"]

    async def _expect_details(self, lease: BatchLease) -> datetime:
        """Records when the outstanding details are expected; returns when some of them are due."""
        counts = await self._count_details(lease)
        if not counts["outstanding"]:
            return FOREVER
        await self._save_expected(lease, counts["due"], counts["last_due_at"])
        due_at: datetime = self._now() if counts["due"] else counts["next_due_at"]
        return due_at

    async def _save_expected(self, lease: BatchLease, calls: int, last_due_at: datetime | None) -> None:
        kept = await self._database.queries.expect_details(
            self._database.pool,
            batch_key=lease.batch_key,
            fence=lease.fence,
            expected_at=self._expect(calls, last_due_at),
        )
        if kept is None:
            raise LeaseLostError(f"Batch {lease.batch_id} was taken over")

    def _expect(self, calls: int, at_least: datetime | None = None) -> datetime:
        """When so many more calls to the provider will have been made, by the budget's pace."""
        expected = self._now() + timedelta(seconds=calls * self._pacer.seconds_per_call)
        return max(expected, at_least or expected)

    async def _count_details(self, lease: BatchLease) -> Any:
        return await self._database.queries.count_outstanding_details(
            self._database.pool, batch_key=lease.batch_key, now=self._now()
        )

    async def _may_only_read_details(self, lease: BatchLease, reconciled_at: datetime | None) -> bool:
        """Whether details are due, and the comparison is recent enough to go on with them."""
        if reconciled_at is None or not timedelta(0) <= self._now() - reconciled_at < COMPARE_AGAIN:
            return False
        return not lease.progress.is_under_way and (await self._count_details(lease))["due"] > 0

    async def _read_details(self, lease: BatchLease, report: Callable[[int], None] = lambda left: None) -> int:
        """Reads details of a leased batch for a while and releases it; returns how many are still due."""
        meter = Meter(self._pacer)
        client = FormantClient(self._http, self._metrics, meter)
        calls = 0
        counts = await self._count_details(lease)

        async def save() -> None:
            nonlocal calls
            calls += 1
            left = max(0, counts["due"] - calls)
            report(left)
            if calls % SAVE_EVERY == 0:
                await self._save_expected(lease, left, counts["last_due_at"])

        with span("read_details", batch_id=lease.batch_id) as traced:
            async with keep_lease(lambda: self._renew(lease), seconds=self._lease_seconds):
                await self._details.read(client, lease.batch_key, save, seconds=DETAILS_SECONDS)
                await self._expect_details(lease)
            note(traced, calls=meter.calls)
        await self._release(lease, timedelta(0))  # to be compared again, or to go on
        logger.info("details_read", batch_id=lease.batch_id, count=calls)
        return int((await self._count_details(lease))["due"])

    def _may_heal(self, progress: Progress, compared: Compared) -> bool:
        """Whether to walk: a walk was interrupted, or the last one was long enough ago."""
        return progress.offset > 0 or may_heal_again(
            progress.walked_at, now=self._now(), changed_at=compared.changed_at, grace_seconds=self._grace_seconds
        )

    async def _add_reasons(self, lease: BatchLease, assessment: Assessment, progress: Progress) -> Assessment:
        """The assessment with what healing found, and with the recipients concerned."""
        shown = await self._comparer.show_recipients(lease, assessment)
        reasons = await self._comparer.name_stuck(lease, assessment.reasons)
        return _explain(assessment, reasons + _list_reasons(progress) + shown)

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

        async def save(current: Progress) -> None:
            current.expected_at = self._expect(current.pages_left + CLOSING_CALLS)
            report(current)
            await self._save(lease, current)

        for walk in range(MAX_WALKS):
            may_retry = (compared.theirs.pending_retry_count or 0) > 0
            progress.found = progress.unknown = progress.refused = 0
            progress.ambiguous = progress.waiting = progress.not_due = 0
            met: set[str] = set()
            batch = await self._comparer.describe(lease, may_retry)
            # Only the first walk: it may have missed what a list in an odd order shows elsewhere.
            progress = await self._healer.walk(client, batch, progress, save, met, searches=walk == 0)
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
        self,
        lease: BatchLease,
        compared: Compared,
        assessment: Assessment,
        calls: int,
        healed: int,
        due_at: datetime,
    ) -> None:
        """Records an assessment and ends the lease. The batch is due by the schedule, but not after ``due_at``."""
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
            healed=healed,
            verdict_text=assessment.verdict_text,
            due_at=min(plan_next(assessment, now=now, changed_at=compared.changed_at, interval=self._interval), due_at),
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
        "waiting_conversations": progress.waiting,
        "conversations_of_nobody_due": progress.not_due,
        "conversations_of_unknown_status": progress.unknown,
        "conversations_refused": progress.refused,
    }
    explained = [Reason(code, count=count) for code, count in counts.items() if count or code == "healed"]
    if progress.ending:  # the walk did not see the rest of the list
        explained.append(Reason(f"conversations_{progress.ending}"))
    if progress.unknown_there:
        explained.append(Reason("calls_unknown_there", recipients=progress.unknown_there))
    return explained


def _explain(assessment: Assessment, reasons: list[Reason]) -> Assessment:
    """The assessment with its reasons, in words too."""
    text = describe_verdict(assessment.verdict, reasons)
    return msgspec.structs.replace(assessment, reasons=explain(reasons), verdict_text=text)


def _open_lease(row: Any, batch_id: int) -> BatchLease:
    healing = row["healing"]
    stored, progress = (
        Progress() if healing is None else msgspec.json.decode(healing, type=Progress) for _ in range(2)
    )
    return BatchLease(row["batch_key"], batch_id, row["fence"], progress, row["verdict"], stored)


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()
