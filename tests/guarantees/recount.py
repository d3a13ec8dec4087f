"""Reads what the database holds, recounts the facts, and runs the service's own verification."""

from collections import Counter
from datetime import datetime

from service.formant.events import EventDecoder
from service.formant.targets import load_targets
from service.store.database import Connection, Database
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Discrepancy, Verifier
from tests.conftest import SECRET
from tests.guarantees.oracle import Expected, Outcome

# Every counter that differs from a recount of the attempts, with both values.
_DIFFERENCES = """
WITH attempts AS MATERIALIZED (
    SELECT a.* FROM attempts_of(
        (SELECT array_agg(batch_key) FROM (SELECT DISTINCT batch_key, recipient_no FROM facts ORDER BY 1, 2) AS f),
        (SELECT array_agg(recipient_no) FROM (SELECT DISTINCT batch_key, recipient_no FROM facts ORDER BY 1, 2) AS f),
        NULL) AS a
), latest AS MATERIALIZED (
    SELECT DISTINCT ON (batch_key, recipient_no)
           *, count(*) OVER (PARTITION BY batch_key, recipient_no)::integer AS attempts,
           count(*) FILTER (WHERE status = 'completed') OVER (PARTITION BY batch_key, recipient_no) AS connects
    FROM attempts
    ORDER BY batch_key, recipient_no, attempt_order DESC, called_at DESC NULLS LAST, conversation_id DESC
), recounted AS (
    SELECT batch_key, 'outcome' AS facet, concat_ws('/', state, attempts, source) AS value, count(*) AS n,
           count(duration_seconds) AS talked, coalesce(sum(duration_seconds), 0) AS seconds
    FROM latest GROUP BY 1, 2, 3
    UNION ALL
    SELECT l.batch_key, 'result', v.name || '=' || v.value, count(*), 0, 0
    FROM latest AS l CROSS JOIN LATERAL result_values(l.results) AS v GROUP BY 1, 2, 3
    UNION ALL
    SELECT l.batch_key, 'result_total', v.name, count(*), 0, 0
    FROM latest AS l CROSS JOIN LATERAL result_values(l.results) AS v GROUP BY 1, 2, 3
    UNION ALL
    SELECT batch_key, 'attempt', concat_ws('/', attempt_slot(called_at), status), count(*), 0, 0
    FROM attempts GROUP BY 1, 2, 3
    UNION ALL
    SELECT batch_key, 'call', v.name || '=' || v.value, count(*), count(*) FILTER (WHERE status = 'completed'), 0
    FROM attempts
    CROSS JOIN LATERAL (
        VALUES ('from_phone', from_phone), ('from_phone', CASE WHEN from_phone <> '' THEN '' END),
               ('failure_reason', CASE WHEN length(failure_reason) > 80 THEN '(long text)' ELSE failure_reason END),
               ('failure_reason', CASE WHEN failure_reason <> '' THEN '' END)
    ) AS v (name, value)
    WHERE v.value IS NOT NULL
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT batch_key, 'talk_time', talk_time_slot(duration_seconds)::text, count(*), 0, 0
    FROM latest WHERE state = 'completed' AND duration_seconds IS NOT NULL GROUP BY 1, 2, 3
    UNION ALL
    SELECT batch_key, 'contact', '', count(*), sum(connects), 0 FROM latest WHERE connects > 0 GROUP BY 1
    UNION ALL
    SELECT batch_key, 'retry', coalesce(date_trunc('minute', next_retry_at), 'infinity')::text, count(*), 0, 0
    FROM latest WHERE state = 'pending_retry' GROUP BY 1, 2, 3
    UNION ALL
    SELECT l.batch_key, 'goal', '', count(*), 0, 0
    FROM latest AS l JOIN goal_counts AS c USING (batch_key) JOIN agent_goals AS g USING (goal_id)
    WHERE l.recipient_no <= c.counted_to AND meets_goal(l.results, g.rule)
    GROUP BY 1
    UNION ALL
    SELECT batch_key, 'row',
           concat_ws('/', recipient_no, CASE WHEN e.phone_hash IS NULL THEN state ELSE 'erased' END, attempts,
                     arrival_id), 1, 0, 0
    FROM latest LEFT JOIN erased_recipients AS e USING (batch_key, recipient_no)
    UNION ALL
    SELECT coalesce(agent_id, 0), 'other_call', concat_ws('/', kind, (called_at AT TIME ZONE 'UTC')::date, status),
           count(*), 0, 0
    FROM other_events WHERE is_counted GROUP BY 1, 2, 3
), counted AS (
    SELECT batch_key, 'outcome' AS facet, concat_ws('/', state, attempts, source) AS value, recipients AS n, talked,
           talk_seconds AS seconds
    FROM outcome_counts WHERE recipients <> 0 OR talked <> 0 OR talk_seconds <> 0
    UNION ALL
    SELECT batch_key, 'result', name || '=' || value, recipients, 0, 0 FROM result_counts WHERE recipients <> 0
    UNION ALL
    SELECT batch_key, 'result_total', name, recipients, 0, 0 FROM result_totals WHERE recipients <> 0
    UNION ALL
    SELECT batch_key, 'attempt', concat_ws('/', slot, status), attempts, 0, 0
    FROM attempt_counts WHERE attempts <> 0
    UNION ALL
    SELECT batch_key, 'call', name || '=' || value, attempts, connects, 0
    FROM call_counts WHERE attempts <> 0 OR connects <> 0
    UNION ALL
    SELECT batch_key, 'talk_time', from_seconds::text, recipients, 0, 0 FROM talk_time_counts WHERE recipients <> 0
    UNION ALL
    SELECT batch_key, 'contact', '', recipients, connects, 0
    FROM contact_counts WHERE recipients <> 0 OR connects <> 0
    UNION ALL
    SELECT batch_key, 'retry', due_at::text, recipients, 0, 0 FROM retry_counts WHERE recipients <> 0
    UNION ALL
    SELECT batch_key, 'goal', '', recipients, 0, 0 FROM goal_counts WHERE recipients <> 0
    UNION ALL
    SELECT batch_key, 'row', concat_ws('/', recipient_no, state, attempts, arrival_id), 1, 0, 0
    FROM outcomes WHERE attempts > 0
    UNION ALL
    SELECT agent_id, 'other_call', concat_ws('/', kind, day, status), calls, 0, 0
    FROM other_call_counts WHERE calls <> 0
)
(SELECT 'counted' AS side, * FROM counted EXCEPT SELECT 'counted', * FROM recounted)
UNION ALL
(SELECT 'recounted', * FROM recounted EXCEPT SELECT 'recounted', * FROM counted)
"""


async def find_differences(
    connection: Connection,
) -> list[tuple[object, ...]]:
    """The counters and outcomes that differ from a recount of the attempts."""
    return [tuple(row) for row in await connection.fetch(_DIFFERENCES)]


async def read_state(connection: Connection, batch_key: int) -> Expected:
    """Everything that the database derived for one batch, in the form of the oracle."""
    outcomes = await connection.fetch(
        "SELECT o.recipient_no, o.state, o.attempts, f.event_id FROM outcomes AS o "
        "JOIN facts AS f USING (batch_key, recipient_no, arrival_id) WHERE batch_key = $1",
        batch_key,
    )
    outcome_counts = await connection.fetch("SELECT * FROM outcome_counts WHERE batch_key = $1", batch_key)
    results = await connection.fetch("SELECT * FROM result_counts WHERE batch_key = $1", batch_key)
    attempts = await connection.fetch(
        "SELECT nullif(slot, '-infinity') AS slot, status, attempts FROM attempt_counts WHERE batch_key = $1", batch_key
    )
    talk_seconds: Counter[str] = Counter()
    for row in outcome_counts:
        talk_seconds[row["state"]] += row["talk_seconds"]
    slots: dict[tuple[datetime | None, str], int] = {
        (row["slot"], row["status"]): row["attempts"] for row in attempts if row["attempts"]
    }
    return Expected(
        {row["recipient_no"]: Outcome(row["state"], row["attempts"], row["event_id"]) for row in outcomes},
        Counter({(r["state"], r["attempts"], r["source"]): r["recipients"] for r in outcome_counts if r["recipients"]}),
        Counter({state: seconds for state, seconds in talk_seconds.items() if seconds}),
        Counter({(row["name"], row["value"]): row["recipients"] for row in results if row["recipients"]}),
        Counter(slots),
    )


async def verify(database: Database) -> list[str]:
    """Runs the service's own verification; returns what each finding is about."""
    return [finding.what for finding in (await verify_all(database))[0]]


async def verify_all(database: Database, *secrets: str) -> tuple[list[Discrepancy], BodyCheck]:
    """All findings of the verification, and the check of the bodies, which counts what it could not check."""
    bodies = BodyCheck(load_targets(secrets or (SECRET,), allow_unsigned=False, path=None))
    found = [finding async for finding in Verifier(database, EventDecoder("outcome_ref"), bodies).verify()]
    return found, bodies
