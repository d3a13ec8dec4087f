"""The overview of batches: how each is doing, at a glance.

A page of batches is one query. It reads one small row for each batch, to filter and to sort, and the counters of those
on the page; so its cost does not depend on the number of recipients or events. Sorting by a counter reads that counter
of all batches that match, and is refused beyond ``MAX_SORTED``.
"""

from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from service.errors import InvalidRequestError
from service.formant.events import STATUSES
from service.outcomes.ending import DueRetries, SlotCalls, estimate_end
from service.outcomes.figures import describe_recipients, to_rate
from service.outcomes.healing import describe_healing
from service.outcomes.shapes import Rate, RecipientCounts, Verdict
from service.outcomes.summary import Counts, decode_counts, explain_verdict, to_provider_metrics
from service.store.database import Database
from service.web.responses import Time

SORTS = ("created", "name", "recipients", "reached", "success_rate", "last_event")
COUNTER_SORTS = ("recipients", "reached", "success_rate")
MAX_SORTED = 5000
"""The most batches that are sorted by one of ``COUNTER_SORTS``."""
_decode_slots = msgspec.json.Decoder(list[SlotCalls]).decode
_decode_due = msgspec.json.Decoder(list[DueRetries]).decode


class GoalMet(msgspec.Struct):
    """Recipients that meet the goal of the batch's agent, out of all; null while they are being counted."""

    met: int | None
    percent: float | None


class HealingProgress(msgspec.Struct):
    """Healing under way: of the recipients whose final outcome was missing, how many have it by now."""

    done: int
    total: int
    expected_at: Time | None


class BatchOverview(msgspec.Struct):
    """A batch at a glance. The figures are those of ``…/outcomes``."""

    id: int
    name: str
    agent_id: int
    campaign_id: int | None
    campaign_role: str | None
    """``test`` or ``main``."""
    status: str | None
    """The provider's value, unchanged."""
    is_running: bool
    """The provider has not finished it, and something was heard of it within a day."""
    created_at: Time
    last_event_at: Time | None
    verdict: Verdict
    verdict_text: str
    """The verdict and its reasons in a sentence."""
    verdict_since: Time | None
    last_reconciled_at: Time | None
    recipients: RecipientCounts
    reached: int
    """Recipients whose final status is ``completed``."""
    success_rate: Rate
    goal: GoalMet | None
    """Null if the agent has no goal."""
    attempts: int
    next_retry_at: Time | None
    """When the next retry is due, to the minute."""
    retries_overdue: int
    details_outstanding: int
    """Healed calls whose results and failure reasons are still being fetched."""
    healing: HealingProgress | None
    """Null unless lost calls are being looked up."""
    expected_end_at: Time | None
    """When the last recipient is expected to be finished: an estimate. Null unless it is running, and without a
    basis."""


class BatchPage(msgspec.Struct):
    """One page of batches; ``total`` counts all that match the filters."""

    data: list[BatchOverview]
    total: int
    has_more: bool
    as_of: Time


class OverviewFilter(NamedTuple):
    """Which batches; None: all. ``q``: part of the name in any case, or the whole id. Created from ``start`` on and
    before ``until``."""

    q: str | None = None
    agent_id: int | None = None
    campaign_id: int | None = None
    verdict: str | None = None
    is_running: bool | None = None
    start: datetime | None = None
    until: datetime | None = None


async def read_overview(
    database: Database, chosen: OverviewFilter, *, sort: str, is_descending: bool, limit: int, offset: int
) -> BatchPage:
    """One page of batches, sorted by one of ``SORTS``; those without a value come last, equal ones newest first.

    Raises InvalidRequestError where more than ``MAX_SORTED`` batches would be sorted by a counter.
    """
    q_id = int(chosen.q) if chosen.q and chosen.q.isascii() and chosen.q.isdecimal() and len(chosen.q) <= 18 else None
    page = database.queries.list_overview(
        database.pool, **chosen._asdict(), q_id=q_id, sort=sort, is_descending=is_descending, most=MAX_SORTED,
        limit=limit, offset=offset,
    )  # fmt: skip
    rows = [row async for row in page]
    total: int = rows[0]["matching"]
    if sort in COUNTER_SORTS and total > MAX_SORTED:
        raise InvalidRequestError(
            f"sort: more than {MAX_SORTED:,} batches match; narrow them with from, agent_id or q, or sort by "
            + ", ".join(name for name in SORTS if name not in COUNTER_SORTS)
        )
    batches = [describe_batch(row) for row in rows if row["id"] is not None]
    return BatchPage(batches, total, offset + len(batches) < total, rows[0]["as_of"])


def describe_batch(row: asyncpg.Record) -> BatchOverview:
    """The batch in a row of ``list_overview``."""
    fields: dict[str, Any] = dict(row)
    counts = decode_counts(fields | {"attempts": "[]", "results": "[]"})
    completed, retries = counts.count_state("completed"), counts.retries
    return BatchOverview(
        id=counts.id,
        name=counts.name,
        agent_id=counts.agent_id,
        campaign_id=counts.campaign_id,
        campaign_role=fields["campaign_role"],
        status=counts.status,
        is_running=fields["is_running"],
        created_at=fields["created_at"],
        last_event_at=counts.last_event_at,
        verdict=counts.verdict,
        verdict_text=explain_verdict(counts),
        verdict_since=counts.verdict_since,
        last_reconciled_at=counts.last_reconciled_at,
        recipients=_count_recipients(counts),
        reached=completed,
        success_rate=msgspec.convert(to_rate(completed, counts.total_recipients, "recipients.total"), Rate),
        goal=_describe_goal(counts),
        attempts=sum(count.attempts * count.recipients for count in counts.outcomes),
        next_retry_at=retries.next_at if retries else None,
        retries_overdue=retries.overdue if retries else 0,
        details_outstanding=counts.details_outstanding or 0,
        healing=_describe_healing(counts),
        expected_end_at=_find_end(counts, fields["slots"], fields["due"]) if fields["is_running"] else None,
    )


def _find_end(counts: Counts, slots: str, due: str) -> datetime | None:
    if counts.retries is None or counts.retries.without_time:
        return None
    finished = [count for count in counts.outcomes if count.state in STATUSES]
    recipients = sum(count.recipients for count in finished)
    needed = sum(count.attempts * count.recipients for count in finished)
    return estimate_end(
        now=counts.as_of,
        ready=counts.count_open() + counts.retries.overdue,
        retries=_decode_due(due),
        calls_per_recipient=max(1.0, needed / recipients) if recipients else 1.0,
        calls=_decode_slots(slots),
        created_at=counts.created_at,
    )


def _count_recipients(counts: Counts) -> RecipientCounts:
    described = describe_recipients(
        counts.total_recipients,
        counts.count_state(*STATUSES),
        in_progress=counts.count_open(),
        pending_retry=counts.count_state("pending_retry"),
    )
    return msgspec.convert(described, RecipientCounts)


def _describe_healing(counts: Counts) -> HealingProgress | None:
    healing = describe_healing(counts.healing, to_provider_metrics(counts), counts.as_of)
    if healing is None:
        return None
    return HealingProgress(healing.done or 0, healing.total or 0, healing.expected_at)


def _describe_goal(counts: Counts) -> GoalMet | None:
    if counts.goal is None:
        return None
    met = counts.goal.recipients
    return GoalMet(met, to_rate(met, counts.total_recipients, "recipients.total")["percent"])
