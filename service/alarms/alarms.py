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
        "Webhooks are refused because of their signature; the provider does not resend them",
        "Compare the target's secret at the provider with FORMANT_WEBHOOK_SECRET (new,old while it is rotated)",
        "None has been refused for 15 minutes",
    ),
    "webhooks_silent": _Kind(
        "page",
        "The provider's figures change but no webhooks arrive",
        "Check the agents' webhook targets at the provider, and that it can reach this service",
        "The batch is compared again after a webhook has arrived",
    ),
    "batch_stuck": _Kind(
        "ticket",
        "Batches stand still: the provider reports recipients in progress or waiting, and nothing has changed for long",
        "Ask the provider about the calls in `recipients`; their batches stay open until it ends them",
        "The batch is compared again after a figure has changed",
    ),
    "webhooks_missing": _Kind(
        "page",
        "Calls are healed, and none of their agents' webhooks has arrived",
        "Check the webhook targets of these agents at the provider (URL, secret, active), and that it can reach this "
        "service: `outcomes doctor --webhook-url`",
        "A webhook of each agent has arrived, or its last batch has been complete for a day",
    ),
    "provider_unreachable": _Kind(
        "page",
        "The provider's API fails; nothing can be uploaded, compared or healed",
        "Check FORMANT_BASE_URL, FORMANT_API_KEY and the provider's status; the service retries by itself",
        "The provider answers again",
    ),
    "quarantine_not_empty": _Kind(
        "ticket",
        "Signed webhooks could not be read and wait unchanged in quarantine",
        "See GET /v1/quarantine for the reasons; after a fix, run `outcomes replay`",
        "All of them have been replayed",
    ),
    "spill_waiting": _Kind(
        "page",
        "Acknowledged webhooks have waited in the spill stream for over five minutes; no verdict is final meanwhile",
        "See `outcomes spill status`: Postgres is away, no replica drains, or the stream's servers do not answer",
        "The stream has been seen empty",
    ),
    "uploads_unknown": _Kind(
        "page",
        "The answer to an upload was lost: an unknown batch may be calling people",
        "See GET /v1/uploads?state=unknown; check the provider's dashboard and resolve it. Batches that may belong "
        "to such an upload are hidden until then",
        "No upload is unknown",
    ),
    "drift": _Kind(
        "ticket",
        "Batches have differed from the provider's figures for over an hour, and healing has not explained it",
        "See …/reconciliations of each batch for the figures and recipients",
        "The figures agree, or the difference is explained",
    ),
    "healed_events": _Kind(
        "ticket",
        "Webhooks were lost in the last day; their calls were healed from conversations",
        "The numbers are right; find out why webhooks are lost: our outages, time-outs, the target's selected events",
        "A day has passed since the last healing",
    ),
    "unattributed_events": _Kind(
        "ticket",
        "Webhooks fit no recipient, or several",
        "See GET /v1/unattributed; register the CSV of batches created elsewhere with PUT …/recipients",
        "The list is empty",
    ),
    "references_contradicted": _Kind(
        "ticket",
        "In the last day, webhooks referred to recipients whose phone is not the one called",
        "See GET /v1/contradictions: compare the uploaded file with the phones that the provider called",
        "A day has passed since the last one",
    ),
    "provider_list_flawed": _Kind(
        "ticket",
        "The provider's list of batches has entries that cannot be used, or cannot be read to its end",
        "The reasons say what is wrong; the batches named have no agent in the list. Ask the provider",
        "The list has been read to its end, and nothing is wrong with it",
    ),
    "caller_number_weak": _Kind(
        "ticket",
        "Calls from a number connect far less often than those from the agent's other numbers in the same batches",
        "See `callers`; the number may be marked as spam: rest or replace it at the provider, or have it registered",
        "Its batches are older than a week, or the number has caught up",
    ),
    "feed_consumer_lagging": _Kind(
        "ticket",
        "Consumers of the feed have not acknowledged changes that are over an hour old",
        "See GET /v1/feed/consumers; restart the job, or DELETE a consumer that is no longer needed",
        "The consumer has acknowledged those changes",
    ),
}


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
