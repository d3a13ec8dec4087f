"""The summary of a batch: its counters turned into the figures of ``…/outcomes`` and of the provider's own metrics.

``docs/analyse/figures.md`` defines each figure.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from service.errors import InvalidRequestError
from service.formant.batches import ProviderMetrics
from service.formant.events import STATUSES
from service.formant.wanted import Wanted
from service.outcomes.figures import (
    PRECISION,
    AttemptCount,
    RetryCounts,
    TalkTimeCount,
    add_connect_rate,
    describe_rates,
    describe_recipients,
    describe_retries,
    find_percentiles,
    group_by_weekday,
    group_by_weekday_and_hour,
    to_rate,
)
from service.outcomes.healing import describe_details, describe_healing, only_future, update_reasons
from service.outcomes.shapes import Reason
from service.outcomes.spilled import Spilled, add_spilled
from service.outcomes.timeline import MAX_ENTRIES, Step, TimelineCount, describe_timeline
from service.store.database import Connection, Database
from service.wording import describe_verdict, note_goal

MAX_RESULT_NAMES = 100
MAX_RESULT_VALUES = 50


class _OutcomeCount(msgspec.Struct):
    state: str
    attempts: int
    source: str
    recipients: int
    talked: int
    talk_seconds: int


class _ResultCount(msgspec.Struct):
    name: str
    total: int
    value: str
    recipients: int


class _CallCount(msgspec.Struct):
    name: str
    total_attempts: int
    total_connects: int
    value: str
    attempts: int
    connects: int


class GoalCount(msgspec.Struct):
    """The goal of the batch's agent, and how many recipients meet it; None while that is being counted."""

    rule: dict[str, list[Wanted]]
    set_at: datetime
    recipients: int | None


class CampaignBatch(msgspec.Struct):
    """A batch of a campaign: its role, and its recipients by state."""

    role: str
    upload_id: int
    batch_id: int | None
    state: str
    total_recipients: int
    states: dict[str, int]


class Counts(msgspec.Struct):
    """A batch and its counters at one instant (``as_of``)."""

    id: int
    name: str
    agent_id: int
    status: str | None
    created_at: datetime | None
    total_recipients: int
    as_of: datetime
    last_event_at: datetime | None
    outcomes: list[_OutcomeCount]
    attempts: list[AttemptCount]
    results: list[_ResultCount]
    campaign_id: int | None = None
    campaign: list[CampaignBatch] = []
    verdict: str = "unverified"
    verdict_since: datetime | None = None
    last_reconciled_at: datetime | None = None
    reconciliation: str | None = None
    """The last comparison with the provider, as JSON."""
    talk_times: list[TalkTimeCount] = []
    contacted: int | None = None
    """Recipients that any attempt reached; None when unknown, such as before the first event."""
    retries: RetryCounts | None = None
    healing: str | None = None
    """The progress of healing, as JSON."""
    spilled: Spilled | None = None
    """What may wait in the spill stream; None when it is known to be empty."""
    details_outstanding: int | None = None
    """Healed calls whose details are still being fetched; None when unknown."""
    details_expected_at: datetime | None = None
    calls: list[_CallCount] = []
    """Attempts by caller number and by reason of failure."""
    is_calls_counted: bool = True
    """False while the service still counts the calls of a batch from before it counted them."""
    goal: GoalCount | None = None
    timeline: list[TimelineCount] = []
    version: str = ""
    """Changes whenever anything but ``as_of`` does, see ``batch_version()``."""

    def count_state(self, *states: str) -> int:
        return sum(count.recipients for count in self.outcomes if count.state in states)

    def count_open(self) -> int:
        """Recipients neither processed nor waiting for a retry."""
        return max(0, self.total_recipients - sum(count.recipients for count in self.outcomes))


_SHAPES: dict[str, Any] = {
    "outcomes": list[_OutcomeCount],
    "attempts": list[AttemptCount],
    "results": list[_ResultCount],
    "campaign": list[CampaignBatch],
    "talk_times": list[TalkTimeCount],
    "retries": RetryCounts,
    "calls": list[_CallCount],
    "goal": GoalCount | None,
    "spilled": Spilled | None,
    "timeline": list[TimelineCount],
}


async def read_counts(
    database: Database, batch_id: int, time_zone: str, connection: Connection | None = None, *, step: Step = "hour"
) -> Counts | None:
    """The batch's counters, or None when there is no such batch. ``time_zone`` defines the hours, ``step`` the unit of
    the timeline; ``connection`` is the snapshot to read in, if any.

    Raises InvalidRequestError when the database does not know the time zone.
    """
    with refuse_time_zone(time_zone):
        row = await database.queries.get_batch_counts(
            connection or database.pool,
            batch_id=batch_id,
            time_zone=time_zone,
            names=MAX_RESULT_NAMES,
            values=MAX_RESULT_VALUES,
            step=step,
            hours=MAX_ENTRIES[step] + 1,
        )
    return None if row is None else decode_counts(dict(row))


@contextmanager
def refuse_time_zone(time_zone: str) -> Iterator[None]:
    """Raises InvalidRequestError when Postgres does not know the zone: its list of zones differs from Python's."""
    try:
        yield
    except asyncpg.InvalidParameterValueError as error:
        raise InvalidRequestError(f"time_zone: {time_zone!r} is not known to the database") from error


async def read_figures(database: Database, batch_id: int) -> Counts | None:
    """Like ``read_counts``, but only with what ``to_provider_metrics`` needs."""
    row = await database.queries.get_batch_figures(database.pool, batch_id=batch_id)
    return None if row is None else decode_counts(dict(row))


def decode_counts(fields: dict[str, Any]) -> Counts:
    """The row of ``get_batch_counts`` or ``get_batch_figures``, whose lists are JSON text.

    The total is at least the number of recipients with known calls: the provider's total may have shrunk, and a share
    above 100 percent means nothing. The verdict reports the difference.
    """
    decoded = {
        name: msgspec.json.decode(fields[name] or "null", type=_SHAPES[name]) for name in fields.keys() & _SHAPES.keys()
    }
    counts = msgspec.convert(fields | decoded, Counts)
    known = sum(count.recipients for count in counts.outcomes)
    campaign = [
        msgspec.structs.replace(batch, total_recipients=max(batch.total_recipients, sum(batch.states.values())))
        for batch in counts.campaign
    ]
    return msgspec.structs.replace(counts, total_recipients=max(counts.total_recipients, known), campaign=campaign)


def summarise(counts: Counts, step: Step = "hour") -> dict[str, Any]:
    """The data of ``…/outcomes``, in the shape of ``shapes.Outcomes``. ``step`` is that of the counts' timeline."""
    total, processed = counts.total_recipients, counts.count_state(*STATUSES)
    pending_retry = counts.count_state("pending_retry")
    attempts = sum(count.attempts for count in counts.attempts)
    connects = _sum_attempts(counts, "completed")
    attempted = sum(count.recipients for count in counts.outcomes)
    return {
        "batch": {
            "id": counts.id,
            "name": counts.name,
            "agent_id": counts.agent_id,
            "status": counts.status,
            "created_at": counts.created_at,
        },
        "verdict": counts.verdict,
        "verdict_text": explain_verdict(counts),
        "as_of": counts.as_of,
        "last_event_at": counts.last_event_at,
        "last_reconciled_at": counts.last_reconciled_at,
        "details_outstanding": counts.details_outstanding,
        "details_expected_at": find_details_end(counts),
        "recipients": describe_recipients(
            total, processed, in_progress=counts.count_open(), pending_retry=pending_retry
        ),
        "statuses": {status: counts.count_state(status) for status in STATUSES},
        "attempts": {
            "total": attempts,
            "by_status": {status: _sum_attempts(counts, status) for status in STATUSES},
            "recipients_by_attempts": _group_by_attempts(counts),
            "recipients": attempted,
            "connects": connects,
        },
        "rates": describe_rates(
            total=total,
            processed=processed,
            completed=counts.count_state("completed"),
            attempts=attempts,
            connects=connects,
            attempted=attempted,
            contacted=counts.contacted if attempted else 0,
            goal_rate=to_rate(counts.goal.recipients if counts.goal else None, total, "recipients.total"),
        ),
        "goal": _describe_goal(counts),
        "retries": describe_retries(counts.retries, pending_retry),
        "duration_seconds": _talk_time(counts) | find_percentiles(counts.talk_times) | {"precision": PRECISION},
        "results": _group_results(counts),
        "by_hour": _group_by_hour(counts),
        "by_weekday": group_by_weekday(counts.attempts),
        "by_weekday_hour": group_by_weekday_and_hour(counts.attempts),
        "timeline": describe_timeline(
            counts.timeline,
            step,
            without_time=sum(count.attempts for count in counts.attempts if count.hour is None),
        ),
        "callers": _group_callers(counts, attempts),
        "failure_reasons": _group_failures(counts),
        "sources": _group_by_source(counts),
        "reconciliation": _describe_reconciliation(counts),
        "campaign": summarise_campaign(counts.campaign_id, counts.campaign) if counts.campaign_id else None,
    }


def summarise_campaign(campaign_id: int, batches: list[CampaignBatch]) -> dict[str, Any]:
    """A test batch and its main batch together; recipients still held count as in progress."""
    total = sum(batch.total_recipients for batch in batches)
    statuses = {status: sum(batch.states.get(status, 0) for batch in batches) for status in STATUSES}
    processed = sum(statuses.values())
    pending_retry = sum(batch.states.get("pending_retry", 0) for batch in batches)
    return {
        "id": campaign_id,
        "batches": [
            {
                "role": batch.role,
                "upload_id": batch.upload_id,
                "batch_id": batch.batch_id,
                "state": batch.state,
                "total_recipients": batch.total_recipients,
            }
            for batch in batches
        ],
        "recipients": describe_recipients(
            total, processed, in_progress=max(0, total - processed - pending_retry), pending_retry=pending_retry
        ),
        "statuses": statuses,
        "rates": {"success_rate": to_rate(statuses["completed"], total, "recipients.total")},
    }


def to_provider_metrics(counts: Counts) -> ProviderMetrics:
    """The provider's twelve figures; ``telephony_failed`` has none of its own and counts as failed."""
    completed = counts.count_state("completed")
    return ProviderMetrics(
        avg_duration_seconds=_talk_time(counts)["average"] or 0.0,
        busy_count=counts.count_state("busy"),
        completed_count=completed,
        failed_count=counts.count_state("failed", "telephony_failed"),
        in_progress_count=counts.count_open(),
        no_answer_count=counts.count_state("no_answer"),
        pending_retry_count=counts.count_state("pending_retry"),
        socket_failure_count=counts.count_state("socket_failure"),
        success_count=completed,
        success_rate=to_rate(completed, counts.total_recipients, "")["percent"] or 0.0,
        total_processed=counts.count_state(*STATUSES),
        unreachable_count=counts.count_state("unreachable"),
    )


def _describe_reconciliation(counts: Counts) -> dict[str, Any] | None:
    """Why the verdict is what it is; None before the first comparison."""
    if counts.reconciliation is None:
        return None
    last: dict[str, Any] = msgspec.json.decode(counts.reconciliation)
    last["reasons"] = _update_reasons(counts, msgspec.convert(last["reasons"], list[Reason]))
    return {"verdict_since": counts.verdict_since} | last


def _update_reasons(counts: Counts, reasons: list[Reason]) -> list[Reason]:
    ours = to_provider_metrics(counts)
    healing = describe_healing(counts.healing, ours, counts.as_of)
    details = describe_details(counts.details_outstanding, counts.details_expected_at, counts.as_of)
    return add_spilled(update_reasons(reasons, healing, ours, details), counts.verdict, counts.spilled)


def find_details_end(counts: Counts) -> datetime | None:
    """When the outstanding details are expected to be there; None if none are outstanding, or nobody knows."""
    return only_future(counts.details_expected_at, counts.as_of) if counts.details_outstanding else None


def explain_verdict(counts: Counts) -> str:
    """The verdict and its reasons in a sentence."""
    reconciliation = _describe_reconciliation(counts)
    return describe_verdict(
        counts.verdict, reconciliation["reasons"] if reconciliation else _update_reasons(counts, [])
    )


def _describe_goal(counts: Counts) -> dict[str, Any] | None:
    goal = counts.goal
    if goal is None:
        return None
    return {
        "results": goal.rule,
        "set_at": goal.set_at,
        "is_counted": goal.recipients is not None,
        "met": goal.recipients,
        "note": note_goal(counts.details_outstanding),
    }


def _sum_attempts(counts: Counts, status: str) -> int:
    return sum(count.attempts for count in counts.attempts if count.status == status)


def _talk_time(counts: Counts) -> dict[str, Any]:
    completed = [count for count in counts.outcomes if count.state == "completed"]
    talked = sum(count.talked for count in completed)
    seconds = sum(count.talk_seconds for count in completed)
    return {"average": round(seconds / talked, 1) if talked else None, "total": seconds, "count": talked}


def _group_by_attempts(counts: Counts) -> dict[int, int]:
    grouped: dict[int, int] = {}
    for count in counts.outcomes:
        grouped[count.attempts] = grouped.get(count.attempts, 0) + count.recipients
    return dict(sorted(grouped.items()))


def _group_by_source(counts: Counts) -> dict[str, int]:
    grouped = {"webhook": 0, "healed": 0}
    for count in counts.outcomes:
        grouped[count.source] += count.recipients
    return grouped


def _group_results(counts: Counts) -> dict[str, dict[str, Any]]:
    """For each result its values by count, most frequent first, and the remaining recipients as ``other``."""
    grouped: dict[str, dict[str, Any]] = {}
    for count in counts.results:
        result = grouped.setdefault(count.name, {"total": count.total, "values": {}, "other": count.total})
        result["values"][count.value] = count.recipients
        result["other"] -= count.recipients
    return grouped


def _group_callers(counts: Counts, attempts: int) -> dict[str, Any]:
    """Attempts by caller number, most frequent first."""
    if not counts.is_calls_counted:
        return {"is_counted": False, "values": [], "other": None, "without_number": None}
    rows = [count for count in counts.calls if count.name == "from_phone"]
    known, connects = (rows[0].total_attempts, rows[0].total_connects) if rows else (0, 0)
    return {
        "is_counted": True,
        "values": [
            add_connect_rate({"from_phone": row.value, "attempts": row.attempts, "connects": row.connects})
            for row in rows
        ],
        "other": {
            "attempts": known - sum(row.attempts for row in rows),
            "connects": connects - sum(row.connects for row in rows),
        },
        "without_number": attempts - known,
    }


def _group_failures(counts: Counts) -> dict[str, Any]:
    """Attempts by reason of failure, most frequent first."""
    if not counts.is_calls_counted:
        return {"is_counted": False, "total": None, "values": {}, "other": None}
    rows = [count for count in counts.calls if count.name == "failure_reason"]
    total = rows[0].total_attempts if rows else 0
    return {
        "is_counted": True,
        "total": total,
        "values": {row.value: row.attempts for row in rows},
        "other": total - sum(row.attempts for row in rows),
    }


def _group_by_hour(counts: Counts) -> list[dict[str, Any]]:
    hours = [{"hour": hour, "attempts": 0, "connects": 0} for hour in range(24)]
    for count in counts.attempts:
        if count.hour is not None:
            hours[count.hour]["attempts"] += count.attempts
            hours[count.hour]["connects"] += count.attempts if count.status == "completed" else 0
    return [add_connect_rate(row) for row in hours]
