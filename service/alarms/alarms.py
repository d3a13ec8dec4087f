"""Alarms: what an operator has to know, computed from the database, so that all replicas tell the same.

Each says since when, how much, and what to do; ``docs/operate/runbook.md`` has an entry for each.
"""

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import structlog

from service.background import every
from service.store.database import Database
from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

COUNTED = 10_000
SHOWN = 20
INTERVAL_SECONDS = 30.0
REJECTIONS_WORTH_TELLING = 5
"""In a quarter of an hour: a scanner tries once or twice, a wrong secret fails each webhook."""


class _Kind(NamedTuple):
    severity: str
    message: str
    remedy: str


KINDS = {
    "signatures_rejected": _Kind(
        "page",
        "Webhooks are refused for their signature; the provider does not send those again",
        "Compare the target's secret at the provider with FORMANT_WEBHOOK_SECRET (new,old while it is rotated)",
    ),
    "webhooks_silent": _Kind(
        "page",
        "The provider's figures move and no webhooks come",
        "Check the agents' webhook targets at the provider, and that it can reach this service",
    ),
    "provider_unreachable": _Kind(
        "page",
        "The provider's API fails; nothing can be uploaded, compared or healed",
        "Check FORMANT_BASE_URL, FORMANT_API_KEY and the provider's status; it is tried again by itself",
    ),
    "quarantine_not_empty": _Kind(
        "ticket",
        "Signed webhooks could not be understood and wait, byte for byte",
        "See GET /v1/quarantine for the reasons; after a fix, outcomes replay",
    ),
    "uploads_unknown": _Kind(
        "page",
        "The answer to an upload was lost: people may be being called by a batch that nobody counts",
        "See GET /v1/uploads?state=unknown; look in the provider's dashboard and resolve it. Batches that may be "
        "one of them are not shown until then",
    ),
    "drift": _Kind(
        "ticket",
        "Batches have differed from the provider's figures for over an hour, and healing did not explain it",
        "See …/reconciliations of the batches for the figures and recipients",
    ),
    "healed_events": _Kind(
        "ticket",
        "Webhooks were lost in the last day, and their calls brought in from conversations",
        "The numbers are right; find out why webhooks are lost: outages of ours, time-outs, a target's set of events",
    ),
    "unattributed_events": _Kind(
        "ticket",
        "Events fit no recipient, or several",
        "See GET /v1/unattributed; register the CSV of batches made elsewhere with PUT …/recipients",
    ),
    "references_contradicted": _Kind(
        "ticket",
        "In the last day, webhooks named recipients by reference whose phone is not the one that was called",
        "See GET /v1/contradictions: compare the file that was uploaded with what the provider dialled",
    ),
    "provider_list_odd": _Kind(
        "ticket",
        "The provider's list of batches has entries that cannot be used, or cannot be read to its end",
        "Its reasons say what is odd; the batches named have no agent in the list. Ask the provider",
    ),
    "feed_consumer_lagging": _Kind(
        "ticket",
        "Consumers of the feed have not acknowledged what changed over an hour ago",
        "See GET /v1/feed/consumers; start the job again, or DELETE a consumer that nobody needs any more",
    ),
}


class Alarm(msgspec.Struct):
    """Something that is wrong now. ``batches``: some of the provider's ids that it is about. ``reasons``: how much
    of it there is for each reason, where it can have several."""

    name: str
    severity: str
    since: datetime | None
    count: int
    message: str
    remedy: str
    batches: list[int]
    reasons: dict[str, int] = {}


class AlarmList(msgspec.Struct):
    """The alarms that there are, those that should wake somebody first."""

    data: list[Alarm]
    as_of: datetime


async def list_alarms(database: Database) -> list[Alarm]:
    """The alarms that there are, those that should wake somebody first."""
    rows = {row["name"]: row async for row in database.queries.list_alarms(database.pool, counted=COUNTED, shown=SHOWN)}
    alarms = []
    for name, kind in KINDS.items():
        row = rows[name]
        least = REJECTIONS_WORTH_TELLING if name == "signatures_rejected" else 1
        if row["count"] >= least:
            alarm = Alarm(
                name, kind.severity, row["since"], int(row["count"]), kind.message, kind.remedy, row["batches"] or []
            )
            if name == "provider_list_odd":
                flaws = database.queries.list_list_flaws(database.pool)
                alarm.reasons = {flaw["reason"]: flaw["count"] async for flaw in flaws}
            alarms.append(alarm)
    return sorted(alarms, key=lambda alarm: alarm.severity)


class AlarmWatch:
    """Tells the database of refused signatures, and the metrics of alarms, for as long as it runs."""

    def __init__(self, database: Database, metrics: Metrics, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._database = database
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._told: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Until it is cancelled."""
        await every(self._interval_seconds, self.look, "alarms_not_read")

    async def look(self) -> list[Alarm]:
        """One pass. Refusals are counted in memory and told as sums, so that a flood costs the database nothing."""
        async with self._turn:
            await self._tell_rejections()
        alarms = await list_alarms(self._database)
        counts = {alarm.name: alarm.count for alarm in alarms}
        ages = {alarm.name: datetime.now(UTC) - alarm.since for alarm in alarms if alarm.since is not None}
        for name in KINDS:
            self._metrics.alarms.labels(name).set(counts.get(name, 0))
            self._metrics.alarm_age_seconds.labels(name).set(ages[name].total_seconds() if name in ages else 0)
        return alarms

    async def _tell_rejections(self) -> None:
        queries, pool = self._database.queries, self._database.pool
        for (target, answer), count in list(self._metrics.webhooks.counts.items()):
            new = count - self._told.get(target, 0) if answer == "authentication_error" else 0
            if new:
                await queries.note_rejected_signatures(pool, target=target, rejections=new)
                self._told[target] = count
        await queries.forget_rejected_signatures(pool)


def describe(alarms: list[Alarm]) -> AlarmList:
    """The alarms as of now."""
    return AlarmList(alarms, datetime.now(UTC))
