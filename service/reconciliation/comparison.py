"""One comparison: reads both sides, stores the provider's figures and reaches the verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from service.formant.batches import ProviderMetrics
from service.formant.client import FormantClient
from service.outcomes.shapes import Reason
from service.outcomes.summary import read_counts, to_provider_metrics
from service.reconciliation.drift import Assessment, Side, assess, count_unheard
from service.reconciliation.healer import HealedBatch, Progress
from service.reconciliation.schedule import LeaseLostError, correct_change_time
from service.store.database import Database
from service.wording import MAX_NAMED


@dataclass
class BatchLease:
    """A worker's exclusive, temporary right to a batch."""

    batch_key: int
    batch_id: int
    fence: int
    progress: Progress
    verdict: str
    """The verdict when the lease was taken."""
    stored: Progress
    """The progress as last stored; ``progress`` may start over."""


@dataclass(frozen=True)
class Compared:
    """One comparison and what healing needs from it."""

    assessment: Assessment
    theirs: ProviderMetrics
    ours: ProviderMetrics
    changed_at: datetime
    """When the provider last sent something new: other figures, or a webhook."""
    compared_at: datetime
    """The time before either side was read; later changes may be missing."""


class Comparer:
    """Compares leased batches. ``now`` is the clock; ``grace_seconds`` is how long webhooks may take; ``stuck_seconds``
    is how long an open batch may stand still (0: without end)."""

    def __init__(
        self, database: Database, now: Callable[[], datetime], grace_seconds: float, stuck_seconds: float = 0.0
    ) -> None:
        self._database = database
        self._now = now
        self._grace = timedelta(seconds=grace_seconds)
        self._stuck = timedelta(seconds=stuck_seconds)

    async def compare(self, client: FormantClient, lease: BatchLease) -> Compared:
        """Reads both sides, stores the snapshot and assesses the differences. Raises LeaseLostError when the lease or
        the batch is gone, ProviderError when the provider cannot be read."""
        queries, pool = self._database.queries, self._database.pool
        now, grace_seconds = self._now(), self._grace.total_seconds()
        batch = await client.get_batch(lease.batch_id)
        theirs = await client.get_metrics(lease.batch_id)
        total = batch.total_recipients or None
        await queries.record_batch_state(
            pool, batch_key=lease.batch_key, fence=lease.fence, status=batch.status, total_recipients=total
        )
        figures = msgspec.structs.asdict(theirs) | {"total_recipients": total}
        changed_at: datetime | None = await queries.record_snapshot(
            pool, batch_key=lease.batch_key, fence=lease.fence, at=now, figures=msgspec.json.encode(figures).decode()
        )
        if changed_at is None:
            raise LeaseLostError(f"Batch {lease.batch_id} was taken over")
        changed_at = correct_change_time(changed_at, now=now, grace_seconds=grace_seconds)
        earlier = await queries.get_snapshot_before(pool, batch_key=lease.batch_key, at=now - self._grace)
        counts = await read_counts(self._database, lease.batch_id, "UTC")
        stored = await queries.get_comparison(pool, batch_key=lease.batch_key)
        if counts is None or stored is None:
            raise LeaseLostError(f"Batch {lease.batch_id} is gone")
        ours = to_provider_metrics(counts)
        heard_at = stored["last_webhook_at"]
        if heard_at is not None:
            heard_at = correct_change_time(heard_at, now=now, grace_seconds=grace_seconds)
        expected_retries = await queries.count_expected_retries(
            pool, batch_key=lease.batch_key, after=now - self._stuck
        )
        assessment = assess(
            Side(theirs, total, changed_at),
            Side(ours, stored["known_recipients"] or None, heard_at),
            now=now,
            grace_seconds=grace_seconds,
            earlier=_to_metrics(earlier),
            stuck_seconds=self._stuck.total_seconds(),
            expected_retries=expected_retries,
            unheard=await self._count_unheard(lease, heard_at, now),
        )
        return Compared(assessment, theirs, ours, max(changed_at, heard_at or changed_at), now)

    async def _count_unheard(self, lease: BatchLease, heard_at: datetime | None, now: datetime) -> int:
        """How many recipients the provider finished after the grace period of the last webhook, and a grace period
        ago."""
        if heard_at is not None and now - heard_at < 2 * self._grace:
            return 0
        queries, pool = self._database.queries, self._database.pool
        earlier = await queries.get_snapshot_before(pool, batch_key=lease.batch_key, at=now - self._grace)
        # What it counted while nobody compared may have come by webhook: only what was seen afterwards is unheard.
        heard = await queries.get_snapshot_after(
            pool, batch_key=lease.batch_key, at=None if heard_at is None else heard_at + self._grace
        )
        return count_unheard(_to_metrics(earlier), _to_metrics(heard))

    async def describe(self, lease: BatchLease, may_retry: bool) -> HealedBatch:
        queries, pool = self._database.queries, self._database.pool
        stored = await queries.get_comparison(pool, batch_key=lease.batch_key)
        return HealedBatch(lease.batch_key, stored["agent_id"], stored["began_at"], may_retry, stored["closed_at"])

    async def show_recipients(self, lease: BatchLease, assessment: Assessment) -> list[Reason]:
        """Up to 20 of the recipients that are final at the provider but not here, by reason."""
        if assessment.verdict != "drifted":
            return []
        queries, pool = self._database.queries, self._database.pool
        differing = {difference.figure for difference in assessment.differences if not difference.allowed}
        shown = []
        if "in_progress_count" in differing:
            stored = await queries.get_comparison(pool, batch_key=lease.batch_key)
            rows = queries.list_open_recipients(
                pool, batch_key=lease.batch_key, recipient_count=stored["recipient_count"], limit=MAX_NAMED
            )
            shown.append(Reason("no_call_known_here", recipients=[row["recipient"] async for row in rows]))
        if "pending_retry_count" in differing:
            rows = queries.list_waiting_recipients(pool, batch_key=lease.batch_key, limit=MAX_NAMED)
            shown.append(Reason("waits_for_retry_here", recipients=[row["recipient"] async for row in rows]))
        return [reason for reason in shown if reason.recipients]

    async def name_stuck(self, lease: BatchLease, reasons: list[Reason]) -> list[Reason]:
        """The reasons, with up to 20 recipients in ``stuck``: those without a final outcome and without a retry that is
        still expected."""
        if not any(reason.code == "stuck" for reason in reasons):
            return reasons
        rows = self._database.queries.list_stuck_recipients(
            self._database.pool, batch_key=lease.batch_key, after=self._now() - self._stuck, limit=MAX_NAMED
        )
        named = [row["recipient"] async for row in rows]
        return [
            msgspec.structs.replace(reason, recipients=named) if reason.code == "stuck" else reason
            for reason in reasons
        ]

    async def find_unmet(self, lease: BatchLease, met: set[str]) -> list[int]:
        """Up to 20 recipients with a known call whose conversation id is not in ``met``."""
        rows = self._database.queries.list_unmet_recipients(
            self._database.pool, batch_key=lease.batch_key, met=list(met), limit=MAX_NAMED
        )
        return [row["recipient"] async for row in rows]


def _to_metrics(snapshot: Any) -> ProviderMetrics | None:
    if snapshot is None:
        return None
    return msgspec.convert({name: snapshot[name] for name in ProviderMetrics.__struct_fields__}, ProviderMetrics)
