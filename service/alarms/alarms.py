"""Alarms: problems that an operator must know about, computed from the database, so all replicas report the same.

Each says since when, how much, and what to do; ``docs/operate/runbook.md`` has an entry for each.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import structlog

from service.alarms.callers import WeakCaller, read_weak_callers
from service.background import every
from service.store.database import Database
from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

COUNTED = 10_000
SHOWN = 20
INTERVAL_SECONDS = 30.0
MIN_REJECTIONS = 5
"""Per quarter of an hour: a scanner tries once or twice, a wrong secret fails every webhook."""


class _Kind(NamedTuple):
    severity: str
    message: str
    remedy: str
    ends_when: str


KINDS = {
    "signatures_rejected": _Kind(
        "page",
        "Reports of calls are refused because of their signature, and the provider does not send them again",
        "Compare the secret of the webhook target at the provider with FORMANT_WEBHOOK_SECRET; while it is being "
        "changed, list the new one and the old one",
        "None has been refused for 15 minutes",
    ),
    "webhooks_silent": _Kind(
        "page",
        "The provider goes on calling, but no reports of its calls arrive",
        "Check at the provider that the agents' webhook targets are active and lead to this service",
        "The batch is compared again after a report has arrived",
    ),
    "batch_stuck": _Kind(
        "ticket",
        "Batches stand still: the provider says that people are being called or wait for a call, and nothing has "
        "changed for long",
        "Ask the provider about the calls of the recipients named; their batches stay unfinished until it ends them",
        "The batch is compared again after a figure has changed",
    ),
    "webhooks_missing": _Kind(
        "page",
        "Calls had to be fetched from the provider's records, because no report of them arrived from their agents",
        "Check the webhook targets of these agents at the provider (address, secret, active), and that it can "
        "reach this service: `outcomes doctor --webhook-url`",
        "A report of each agent has arrived, or its last batch has been final for a day",
    ),
    "provider_unreachable": _Kind(
        "page",
        "The provider does not answer: nothing can be uploaded, and no figure can be compared with its own",
        "The service tries again by itself; if it lasts, check the provider's status, FORMANT_BASE_URL and "
        "FORMANT_API_KEY",
        "The provider answers again",
    ),
    "quarantine_not_empty": _Kind(
        "ticket",
        "Reports of calls could not be read; they are kept as they came and count for nothing yet",
        "Look at the reasons in the quarantine; after a fix, replay them there or by `outcomes replay`",
        "All of them have been replayed",
    ),
    "spill_waiting": _Kind(
        "page",
        "Acknowledged webhooks have waited in the spill stream for over five minutes; no verdict is final meanwhile",
        "See `outcomes spill status`: Postgres is away, nothing drains the stream, or its servers do not answer",
        "The stream has been seen empty",
    ),
    "spill_unreachable": _Kind(
        "ticket",
        "A part of the service cannot use the spill stream: if Postgres goes away, it refuses webhooks",
        "See `outcomes doctor`: the stream's servers do not answer, refuse the password, or may lose what they take",
        "Every part of the service can use the stream again",
    ),
    "spill_replaced": _Kind(
        "page",
        "The spill stream was replaced by another one: webhooks that waited in the old one may be lost, and no verdict "
        "is final meanwhile",
        "Bring the old stream's servers back, or correct OUTCOMES_SPILL_URL; then, or if its files are gone, run "
        "`outcomes spill lost`",
        "A stream was accepted by `outcomes spill lost`",
    ),
    "uploads_unknown": _Kind(
        "page",
        "Nobody knows whether a file was sent: a batch that is not shown here may be calling people",
        "Look in the provider's dashboard, and answer the question under Uploads; batches that may come of the "
        "file are hidden until then",
        "The question is answered for every upload",
    ),
    "drift": _Kind(
        "ticket",
        "The figures of batches have differed from the provider's for over an hour, and fetching the missing calls "
        "has not explained it",
        "Open each batch: it names the figures that differ and, where they are known, the recipients; ask the "
        "provider about these",
        "The figures agree, or the difference is explained",
    ),
    "healed_events": _Kind(
        "ticket",
        "Reports of calls were lost in the last day; their calls were fetched from the provider's records, so the "
        "numbers are right",
        "Find out why reports are lost: an outage here, a time-out, or events that the webhook target does not select",
        "No report has been lost for a day",
    ),
    "unattributed_events": _Kind(
        "ticket",
        "Calls were reported that fit nobody in any batch, or several people; they count for none of them yet",
        "Register the files of batches that were started in the provider's dashboard; a call that you know of can "
        "be placed by hand under Health",
        "None of them waits",
    ),
    "references_contradicted": _Kind(
        "ticket",
        "In the last day, other phones were called than those in the uploaded file; the calls count for the people "
        "in the file",
        "Compare the uploaded file with the phones that the provider called, and ask the provider",
        "A day has passed since the last one",
    ),
    "provider_list_flawed": _Kind(
        "ticket",
        "The provider's list of batches has entries that cannot be used, or cannot be read to its end, so batches "
        "may be missing here",
        "Ask the provider; the reasons say what is wrong, and the batches named have no agent in its list",
        "The list has been read to its end, and nothing is wrong with it",
    ),
    "caller_number_weak": _Kind(
        "ticket",
        "Calls from a number reach people far less often than those from the agent's other numbers in the same batches",
        "The number may be marked as spam: rest or replace it at the provider, or have it registered",
        "Its batches are older than a week, or the number has caught up",
    ),
    "feed_consumer_lagging": _Kind(
        "ticket",
        "A program that takes over the outcomes, such as a CRM sync, is more than an hour behind",
        "Start the program again, or forget it under Connections if it is no longer needed",
        "The program has taken over those changes",
    ),
}
"""In words that those who only watch the figures know too: what it means, what to do, when it is over. The runbook has
the commands."""


class StuckRecipient(msgspec.Struct):
    """A recipient that a batch is stuck on. ``conversation_id``, ``trace_id``: the provider's ids of the latest known
    call; null if none is known."""

    batch_id: int
    recipient: int
    conversation_id: str | None
    trace_id: str | None


class Alarm(msgspec.Struct):
    """A current problem. ``batches``: ids of some of the batches concerned. ``reasons``: the count for each reason,
    where there can be several. ``agents``, ``recipients``: some of those concerned, where the alarm is about them.
    ``callers``: the numbers that calls are made from, where they are what is wrong. ``runbook``: the address of the
    alarm's entry in the runbook; null unless OUTCOMES_RUNBOOK_URL is set."""

    name: str
    severity: str
    since: datetime | None
    count: int
    message: str
    remedy: str
    ends_when: str
    batches: list[int]
    reasons: dict[str, int] = {}
    agents: list[int] = []
    recipients: list[StuckRecipient] = []
    callers: list[WeakCaller] = []
    runbook: str | None = None


class AlarmList(msgspec.Struct):
    """The current alarms, those of severity ``page`` first."""

    data: list[Alarm]
    as_of: datetime


async def list_alarms(database: Database) -> list[Alarm]:
    """The current alarms, those of severity ``page`` first."""
    rows: dict[str, Any] = {
        row["name"]: row async for row in database.queries.list_alarms(database.pool, counted=COUNTED, shown=SHOWN)
    }
    alarms = []
    weak = await read_weak_callers(database)
    rows["caller_number_weak"] = {
        "since": None,
        "count": len(weak),
        "batches": sorted({batch for caller in weak for batch in caller.batches})[:SHOWN],
    }
    for name, kind in KINDS.items():
        row = rows[name]
        least = MIN_REJECTIONS if name == "signatures_rejected" else 1
        if row["count"] >= least:
            alarm = Alarm(
                name, kind.severity, row["since"], int(row["count"]), kind.message, kind.remedy, kind.ends_when,
                row["batches"] or [],
            )  # fmt: skip
            if name == "provider_list_flawed":
                flaws = database.queries.list_list_flaws(database.pool)
                alarm.reasons = {flaw["reason"]: flaw["count"] async for flaw in flaws}
            if name == "webhooks_missing":
                agents = database.queries.list_unreached_agents(database.pool, counted=COUNTED)
                alarm.agents = [agent["agent_id"] async for agent in agents]
            if name == "batch_stuck":
                calls = database.queries.list_stuck_calls(database.pool, counted=COUNTED, shown=SHOWN)
                alarm.recipients = [StuckRecipient(**call) async for call in calls]
            if name == "caller_number_weak":
                alarm.callers = weak[:SHOWN]
            alarms.append(alarm)
    return sorted(alarms, key=lambda alarm: alarm.severity)


class AlarmWatch:
    """Records refused signatures in the database and exports alarms as metrics."""

    def __init__(
        self, database: Database, metrics: Metrics, runbook_url: str = "", *, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._runbook_url = runbook_url
        self._interval_seconds = interval_seconds
        self._recorded: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Refreshes until it is cancelled."""
        await every(self._interval_seconds, self.refresh, "alarms_not_read")

    async def refresh(self) -> list[Alarm]:
        """One pass; returns the current alarms. Refusals are counted in memory and recorded as sums, so that a flood
        costs the database nothing."""
        async with self._turn:
            await self._record_rejections()
        alarms = await list_alarms(self._database)
        for alarm in alarms:
            alarm.runbook = f"{self._runbook_url}#{alarm.name}" if self._runbook_url else None
        counts = {alarm.name: alarm.count for alarm in alarms}
        ages = {alarm.name: datetime.now(UTC) - alarm.since for alarm in alarms if alarm.since is not None}
        for name in KINDS:
            self._metrics.alarms.labels(name).set(counts.get(name, 0))
            self._metrics.alarm_age_seconds.labels(name).set(ages[name].total_seconds() if name in ages else 0)
        return alarms

    async def _record_rejections(self) -> None:
        queries, pool = self._database.queries, self._database.pool
        for (target, answer), count in list(self._metrics.webhooks.counts.items()):
            new = count - self._recorded.get(target, 0) if answer == "authentication_error" else 0
            if new:
                await queries.note_rejected_signatures(pool, target=target, rejections=new)
                self._recorded[target] = count
        await queries.forget_rejected_signatures(pool)


def describe(alarms: list[Alarm]) -> AlarmList:
    """The alarms with the current time."""
    return AlarmList(alarms, datetime.now(UTC))
