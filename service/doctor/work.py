"""The work: alarms, reconciliation, items that wait for an operator, and slow consumers of the feed."""

from datetime import datetime

from service.alarms.alarms import COUNTED, list_alarms
from service.counts import count
from service.doctor.findings import Finding, Thresholds, judge, ok, problem, show_seconds, unchecked, warning
from service.feed.consumers import Consumers
from service.settings import Settings
from service.store.database import Database


async def check_alarms(database: Database) -> list[Finding]:
    """The alarms at GET /v1/alarms."""
    findings = []
    for alarm in await list_alarms(database):
        make = problem if alarm.severity == "page" else warning
        since = f", since {alarm.since:%Y-%m-%d %H:%M} UTC" if alarm.since else ""
        reasons = "".join(f", {reason} {count:,}" for reason, count in alarm.reasons.items())
        agents = f", agents {', '.join(map(str, alarm.agents[:5]))}" if alarm.agents else ""
        message = f"{alarm.name} ({alarm.count:,}{reasons}{agents}{since}): {alarm.message}"
        findings.append(make(message, f"{alarm.remedy}. See {alarm.name} in docs/operate/runbook.md"))
    return findings or [ok("No alarm is on")]


async def check_waiting(database: Database, settings: Settings, thresholds: Thresholds) -> list[Finding]:
    """What waits for an operator (the alarms have the remedies), and whether reconciliation is on time."""
    row = await database.queries.get_work_waiting(database.pool, counted=COUNTED)
    names = {"quarantined": "Quarantined", "unattributed": "unattributed", "uploads_unknown": "unknown uploads"}
    shown = ", ".join(f"{shown} {row[name]:,}{'+' * (row[name] >= COUNTED)}" for name, shown in names.items())
    return [
        ok(f"{shown} (see the alarms)"),
        _judge_reconciliation(row["first_due_at"], row["last_compared_at"], row["now"], settings, thresholds),
    ]


def _judge_reconciliation(
    due_at: datetime | None, compared_at: datetime | None, now: datetime, settings: Settings, thresholds: Thresholds
) -> Finding:
    last = "the provider's figures have not been read yet"
    if compared_at:
        last = f"the provider's figures were last read {show_seconds((now - compared_at).total_seconds())} ago"
    if not settings.formant_api_key or not settings.reconcile_seconds:
        return unchecked(f"Reconciliation runs only on demand: {last}")
    late = (now - due_at).total_seconds() if due_at else 0.0
    message = f"A batch has been due for comparison for {show_seconds(late)}: {last}"
    if late <= thresholds.due_seconds[0]:
        message = f"Reconciliation is on time: {last}"
    remedy = "Check that a service runs with FORMANT_API_KEY; the provider's limit; reconciliation_failed in its log"
    return judge(late, thresholds.due_seconds, message, remedy)


async def check_consumers(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether the consumers of the feed keep up."""
    findings = []
    consumers = await Consumers(database).list()
    now = (await database.queries.get_clock(database.pool))["now"]
    for row in consumers:
        seconds = (now - row["behind_since"]).total_seconds() if row["behind_since"] else 0.0
        if seconds > thresholds.consumer_lag_seconds:
            lag = count(row["lag"], "entry", "entries")
            message = f"The feed's consumer {row['name']} is {lag} and {show_seconds(seconds)} behind"
            findings.append(warning(message, "Start its job again, or DELETE /v1/feed/consumers/NAME"))
    return findings or [ok(f"{count(len(consumers), 'consumer')} of the feed, none behind")]
