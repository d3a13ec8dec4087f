"""The loop: compares every batch that is not closed with the provider, heals missing calls and records the verdict.

Workers in all replicas lease batches that are due (``claim_due_batches``), so only one worker has a batch at a time. A
worker renews its lease while it works, so another takes over soon after it is killed. A worker that was paused is
fenced off and writes nothing. A batch is due again soon after a change on either side, and rarely when nothing changes.
Once it has been complete and quiet for a day it is closed until an event arrives.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import structlog

from service.background import every
from service.errors import NotFoundError, ProviderError, UnavailableError
from service.formant.client import FormantClient
from service.outcomes.healing import DETAILS, HEALING, describe_details, only_future
from service.outcomes.shapes import Reason, explain
from service.outcomes.spilled import FINAL, Spilled, add_spilled, find_spilled
from service.reconciliation.budget import Budget, Meter
from service.reconciliation.comparison import BatchLease, Compared, Comparer
from service.reconciliation.details import DetailsReader
from service.reconciliation.drift import Assessment
from service.reconciliation.healer import Healer, Progress
from service.reconciliation.pace import expect_end
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
COMPARE_HEALING = timedelta(minutes=1)
"""A batch is compared this often while it is healed, so that its verdict keeps to what the provider says."""
SAVE_EVERY = 20
CLOSING_CALLS = 2
"""A walk ends with another comparison."""


@dataclass
class _Turn:
    """A worker's turn at a batch."""

    lease: BatchLease
    client: FormantClient
    meter: Meter
    on_demand: bool
    report: Callable[[Progress], None]

    def wants_healing(self, assessment: Assessment) -> bool:
        """Whether to heal: on demand, without waiting for webhooks that may still arrive."""
        return assessment.may_be_healed if self.on_demand else assessment.needs_healing


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
        self._comparer = Comparer(database, now, grace_seconds, stuck_seconds)
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
                    await self._reconcile(lease, on_demand=False)
            except Exception as error:  # a failing batch must not stop the others
                self._metrics.reconciliations.labels("failed").inc()
                logger.warning("reconciliation_failed", batch_id=lease.batch_id, exc_info=error)
                is_gone = isinstance(error, ProviderError) and error.status == 404
                await self._release(lease, MAX_INTERVAL if is_gone else self._interval)
        return bool(rows)

    async def reconcile_now(
        self, batch_id: int, report: Callable[[Progress], None] = lambda progress: None
    ) -> Assessment:
        """Compares one batch now, and heals it even within the grace period. ``report`` receives the progress of the
        walks.

        Raises NotFoundError for an unknown batch, UnavailableError while another worker has it, ProviderError when the
        provider cannot be read.
        """
        row = await self._claim(batch_id)
        lease = _open_lease(row, batch_id)
        lease.progress = Progress(healed_before=lease.stored.count_healed(), walked_at=lease.stored.walked_at)
        try:
            assessment = await self._reconcile(lease, on_demand=True, report=report)
            return _show_spilled(assessment, await find_spilled(self._database))
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
        *,
        on_demand: bool,
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> Assessment:
        """Compares and heals a leased batch, and records the assessment."""
        meter = Meter(self._urgent_pacer if on_demand else self._pacer)
        client = FormantClient(self._http, self._metrics, meter)
        turn = _Turn(lease, client, meter, on_demand, report)
        with span("reconcile", batch_id=lease.batch_id) as traced:
            async with keep_lease(lambda: self._renew(lease), seconds=self._lease_seconds):
                compared = await self._comparer.compare(client, lease)
                progress = lease.progress
                wants_healing = turn.wants_healing(compared.assessment)
                heals = wants_healing and (on_demand or self._may_heal(progress, compared))
                if heals and await find_spilled(self._database):
                    heals = False  # what is missing may be among the events that wait
                if heals:
                    compared, progress = await self._heal(turn, compared)
                elif lease.stored.is_under_way:  # it is no longer needed, or begins again once no event waits
                    ended_at = None if wants_healing else self._now()
                    ended = msgspec.structs.replace(lease.stored, offset=0, began_at=None, walked_at=ended_at)
                    await self._save(lease, ended)
                assessment = await self._add_reasons(lease, compared.assessment, progress)
                due_at, details = await self._expect_details(lease)
            assessment = _explain(assessment, [*assessment.reasons, *details])
            await self._record(turn, compared, assessment, healed=progress.healed if heals else 0, due_at=due_at)
            note(traced, verdict=assessment.verdict, calls=meter.calls)
            return assessment

    async def _show_healing(self, turn: _Turn, compared: Compared, progress: Progress) -> None:
        """Records a comparison of a batch that is being healed, and goes on: healing may take long, and until it ends
        the last verdict would be shown."""
        progress.note_missing(compared.theirs, compared.ours)
        await self._save(turn.lease, progress)
        assessment, now = compared.assessment, self._now()
        verdict = assessment.verdict
        # The walk is not over, and may still explain a difference, unless an earlier one has not.
        if verdict == "complete" or verdict == "drifted" != turn.lease.verdict:
            verdict = "settling"
        done, expected_at = progress.total - progress.missing, only_future(progress.expected_at, now)
        reasons = [Reason(HEALING, done=done, total=progress.total, expected_at=expected_at), *assessment.reasons]
        assessment = _explain(msgspec.structs.replace(assessment, verdict=verdict), reasons)
        await self._record(turn, compared, assessment, due_at=now, leased_until=self._find_lease_end())

    async def _expect_details(self, lease: BatchLease, after: datetime | None = None) -> tuple[datetime, list[Reason]]:
        """Records when the outstanding details are expected, if fetching them begins ``after`` then; returns when some
        of them are due, and the reason that some are outstanding."""
        counts = await self._count_details(lease)
        if not counts["outstanding"]:
            return FOREVER, []
        expected_at = await self._save_expected(lease, counts["due"], counts["last_due_at"], after=after)
        reason = describe_details(counts["outstanding"], expected_at, self._now())
        return self._now() if counts["due"] else counts["next_due_at"], [] if reason is None else [reason]

    async def _save_expected(
        self,
        lease: BatchLease,
        calls: int,
        last_due_at: datetime | None,
        *,
        after: datetime | None = None,
        done: int = 0,
        seconds: float = 0.0,
    ) -> datetime | None:
        """Records and returns when so many details more will be there: ``done`` ones took ``seconds``."""
        expected_at = last_due_at
        if calls:
            ends_at = self._expect(calls, after=after, done=done, seconds=seconds)
            expected_at = ends_at and max(ends_at, last_due_at or ends_at)
        kept = await self._database.queries.expect_details(
            self._database.pool, batch_key=lease.batch_key, fence=lease.fence, expected_at=expected_at
        )
        if kept is None:
            raise LeaseLostError(f"Batch {lease.batch_id} was taken over")
        return expected_at

    def _expect(
        self, calls: int, *, after: datetime | None = None, done: int = 0, seconds: float = 0.0
    ) -> datetime | None:
        """When so many more calls to the provider will have been made, not faster than the budget allows."""
        least_seconds = self._pacer.seconds_per_call
        return expect_end(after or self._now(), left=calls, done=done, seconds=seconds, least_seconds=least_seconds)

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
        calls, began_at = 0, self._now()
        counts = await self._count_details(lease)

        async def save() -> None:
            nonlocal calls
            calls += 1
            left = max(0, counts["due"] - calls)
            report(left)
            if calls % SAVE_EVERY == 0:
                seconds = (self._now() - began_at).total_seconds()
                await self._save_expected(lease, left, counts["last_due_at"], done=calls, seconds=seconds)

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

    async def _heal(self, turn: _Turn, compared: Compared) -> tuple[Compared, Progress]:
        """Heals by walks, or goes on where another worker stopped, and records when the last walk ended."""
        progress = msgspec.structs.replace(turn.lease.progress, walked_at=None)
        if not turn.lease.progress.is_under_way:
            progress = Progress(began_at=self._now(), healed_before=progress.count_healed())
        with span("heal", batch_id=turn.lease.batch_id) as traced:
            await self._show_healing(turn, compared, progress)
            compared, progress = await self._walk(turn, compared, progress)
            progress.walked_at = self._now()
            await self._save(turn.lease, progress)
            logger.info("batch_healed", batch_id=turn.lease.batch_id, count=progress.healed)
            note(traced, healed=progress.healed)
        return compared, progress

    async def _walk(self, turn: _Turn, compared: Compared, progress: Progress) -> tuple[Compared, Progress]:
        """Walks until the figures agree, or a whole walk finds nothing new."""
        lease = turn.lease
        if progress.offset:  # resumed where another worker stopped
            progress.is_whole = False
        saved_at, calls = self._now(), turn.meter.calls

        async def save(current: Progress) -> None:
            nonlocal compared, saved_at, calls
            now = self._now()
            current.seconds += max(0.0, (now - saved_at).total_seconds())
            current.calls += turn.meter.calls - calls
            saved_at, calls = now, turn.meter.calls
            left = current.pages_left + CLOSING_CALLS
            current.expected_at = self._expect(left, done=current.calls, seconds=current.seconds)
            turn.report(current)
            if now - compared.compared_at >= COMPARE_HEALING:
                compared = await self._comparer.compare(turn.client, lease)
                await self._show_healing(turn, compared, current)
            else:
                await self._save(lease, current)
            await self._expect_details(lease, current.expected_at)

        for walk in range(MAX_WALKS):
            may_retry = (compared.theirs.pending_retry_count or 0) > 0
            progress.found = progress.unknown = progress.refused = 0
            progress.ambiguous = progress.waiting = progress.not_due = 0
            met: set[str] = set()
            batch = await self._comparer.describe(lease, may_retry)
            # Only the first walk: it may have missed what a list in an odd order shows elsewhere.
            progress = await self._healer.walk(turn.client, batch, progress, save, met, searches=walk == 0)
            is_whole, found = progress.is_whole, progress.found
            progress.offset, progress.is_whole, progress.pages_left = 0, True, 0
            await save(progress)
            if found:
                compared = await self._comparer.compare(turn.client, lease)
                if not turn.wants_healing(compared.assessment):
                    break
            elif is_whole:
                if not progress.ending:
                    progress.unknown_there = await self._comparer.find_unmet(lease, met)
                break
            progress.expected_at = None  # until the next walk shows how much there is to read
            await self._save(lease, progress)
        return compared, progress

    def _find_lease_end(self) -> datetime:
        return self._now() + timedelta(seconds=self._lease_seconds)

    async def _renew(self, lease: BatchLease) -> bool:
        """Renews the lease for its full length; False when it is lost."""
        kept = await self._database.queries.renew_batch_lease(
            self._database.pool,
            batch_key=lease.batch_key,
            fence=lease.fence,
            leased_until=self._find_lease_end(),
        )
        return kept is not None

    async def _save(self, lease: BatchLease, progress: Progress) -> None:
        kept = await self._database.queries.save_healing(
            self._database.pool,
            batch_key=lease.batch_key,
            fence=lease.fence,
            healing=_encode(progress),
            leased_until=self._find_lease_end(),
        )
        if kept is None:
            raise LeaseLostError(f"Batch {lease.batch_id} was taken over")

    async def _record(
        self,
        turn: _Turn,
        compared: Compared,
        assessment: Assessment,
        *,
        due_at: datetime,
        healed: int = 0,
        leased_until: datetime | None = None,
    ) -> None:
        """Records an assessment and ends the lease, or keeps it with ``leased_until``. The batch is due as planned, but
        not after ``due_at``."""
        lease, now, calls = turn.lease, self._now(), turn.meter.take()
        planned = plan_next(assessment, now=now, changed_at=compared.changed_at, interval=self._interval)
        queries, pool = self._database.queries, self._database.pool
        fields: dict[str, Any] = {
            "batch_key": lease.batch_key,
            "fence": lease.fence,
            "at": compared.compared_at,
            "verdict": assessment.verdict,
            # How many details are outstanding is stored beside it.
            "reasons": _encode([reason for reason in assessment.reasons if reason.code != DETAILS]),
            "differences": _encode(assessment.differences),
            "inconsistencies": _encode(assessment.inconsistencies),
            "calls_spent": calls,
            "verdict_text": assessment.verdict_text,
            "due_at": min(planned, due_at),
        }
        if leased_until is None:
            is_kept = await queries.record_reconciliation(pool, **fields, healed=healed)
        else:
            is_kept = await queries.record_healing(pool, **fields, leased_until=leased_until)
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
        "healed": progress.count_healed(),
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


def _show_spilled(assessment: Assessment, spilled: Spilled | None) -> Assessment:
    """The assessment as readers see it while events may wait in the spill stream."""
    if spilled is None:
        return assessment
    verdict = "settling" if assessment.verdict in FINAL else assessment.verdict
    shown = msgspec.structs.replace(assessment, verdict=verdict)
    return _explain(shown, add_spilled(assessment.reasons, verdict, spilled))


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
