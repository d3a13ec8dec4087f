"""The work: the alarms that are on, what waits for somebody, and who reads the feed too slowly."""

from datetime import datetime

from service.alarms.alarms import COUNTED, list_alarms
from service.doctor.findings import Finding, ok, problem, show_seconds, unchecked, warning
from service.doctor.limits import Thresholds
from service.feed.consumers import Consumers
from service.settings import Settings
from service.store.database import Database


async def check_alarms(database: Database) -> list[Finding]:
    """Those that GET /v1/alarms tells."""
    findings = []
    for alarm in await list_alarms(database):
        make = problem if alarm.severity == "page" else warning
        since = f", since {alarm.since:%Y-%m-%d %H:%M} UTC" if alarm.since else ""
        reasons = "".join(f", {reason} {count:,}" for reason, count in alarm.reasons.items())
        message = f"{alarm.name} ({alarm.count:,}{reasons}{since}): {alarm.message}"
        findings.append(make(message, f"{alarm.remedy}. RUNBOOK: {alarm.name}"))
    return findings or [ok("No alarm is on")]


async def check_waiting(database: Database, settings: Settings, thresholds: Thresholds) -> list[Finding]:
    """What waits for a person (the alarms say what to do about that), and whether reconciliation takes its turns."""
    row = await database.queries.get_work_waiting(database.pool, counted=COUNTED)
    counts = {name: row[name] for name in ("quarantined", "unattributed", "uploads_unknown")}
    shown = ", ".join(
        f"{count:,}{'+' if count >= COUNTED else ''} {name.replace('_', ' ')}" for name, count in counts.items()
    )
    return [
        ok(f"{shown} (see the alarms)"),
        _judge_turns(row["first_due_at"], row["last_compared_at"], row["now"], settings, thresholds),
    ]


def _judge_turns(
    due_at: datetime | None, compared_at: datetime | None, now: datetime, settings: Settings, thresholds: Thresholds
) -> Finding:
    ago = f"last {show_seconds((now - compared_at).total_seconds())} ago" if compared_at else "never yet"
    last = f"the provider's figures were read {ago}"
    if not settings.formant_api_key or not settings.reconcile_seconds:
        return unchecked(f"Reconciliation runs on demand only: {last}")
    late = (now - due_at).total_seconds() if due_at else 0.0
    if late <= thresholds.due_seconds[0]:
        return ok(f"Reconciliation takes its turns: {last}")
    make = problem if late > thresholds.due_seconds[1] else warning
    remedy = "See that a service runs with FORMANT_API_KEY, the provider's limit, and reconciliation_failed in its log"
    return make(f"A batch has been due for comparison for {show_seconds(late)}: {last}", remedy)


async def check_consumers(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether the feed's readers keep up."""
    findings = []
    consumers = await Consumers(database).list()
    now = (await database.queries.get_clock(database.pool))["now"]
    for row in consumers:
        seconds = (now - row["behind_since"]).total_seconds() if row["behind_since"] else 0.0
        if seconds > thresholds.consumer_lag_seconds:
            message = f"The feed's consumer {row['name']} is {row['lag']:,} entries, {show_seconds(seconds)} behind"
            findings.append(warning(message, "Start its job again, or DELETE /v1/feed/consumers/NAME"))
    return findings or [ok(f"{len(consumers)} consumers of the feed, all keep up")]
