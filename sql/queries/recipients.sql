-- name: get_recipient_count(batch_id)$
-- The number of stored recipients of a batch, which are numbered from 1 without gaps. Null for no batch.
SELECT recipient_count FROM batches WHERE batch_id = :batch_id;

-- name: get_batch_agent(batch_id)$
-- The agent of a batch. Null for no batch.
SELECT agent_id FROM batches WHERE batch_id = :batch_id;

-- name: find_recipient_by_phone(batch_id, after, phone)$
-- The first recipient of a batch with a phone after a given number; null if there is none.
SELECT r.recipient_no
FROM recipients AS r
WHERE r.phone = :phone AND r.batch_key = (SELECT b.batch_key FROM batches AS b WHERE b.batch_id = :batch_id)
  AND r.recipient_no > :after
ORDER BY r.recipient_no
LIMIT 1;

-- name: list_recipients(batch_id, after, until, filters, limit)
-- The first recipients of a batch by number that meet the filters, after a given one up to another, each with what decided
-- its outcome. The range bounds what is read for a rare state, the limit for a frequent one: look-ups in order, so that
-- reading ends with the last row, and only these rows are shown in full.
WITH page AS MATERIALIZED (
    SELECT r.batch_key, r.recipient_no, b.batch_id, g.rule AS goal
    FROM batches AS b
    LEFT JOIN batch_goals AS g ON g.batch_key = b.batch_key
    CROSS JOIN LATERAL (
        SELECT n.batch_key, n.recipient_no
        FROM (
            SELECT * FROM recipients
            WHERE recipients.batch_key = b.batch_key AND recipients.recipient_no > :after
              AND recipients.recipient_no <= :until
            ORDER BY recipients.recipient_no
            OFFSET 0
        ) AS n
        LEFT JOIN LATERAL (
            SELECT * FROM outcomes
            WHERE outcomes.batch_key = n.batch_key AND outcomes.recipient_no = n.recipient_no
            OFFSET 0
        ) AS o ON true
        LEFT JOIN LATERAL (
            SELECT * FROM facts
            WHERE facts.batch_key = n.batch_key AND facts.recipient_no = n.recipient_no
              AND facts.arrival_id = o.arrival_id
            OFFSET 0
        ) AS f ON true
        CROSS JOIN meets_filters(
            :filters::jsonb, recipient_state(o.state, n.withdrawn_at), f.status, f.source, coalesce(o.attempts, 0),
            o.changed_at, f.failure_reason, n.phone, n.parameters, f.results)
        ORDER BY n.recipient_no
        LIMIT :limit
    ) AS r
    WHERE b.batch_id = :batch_id
)
SELECT p.batch_id, r.*, d.from_phone, d.trace_id, shown_goal(p.goal, r.status, r.results) AS goal_met,
       show_callbacks(p.batch_key, p.recipient_no) AS callbacks
FROM page AS p
CROSS JOIN LATERAL show_recipient(p.batch_key, p.recipient_no) AS r
LEFT JOIN LATERAL (
    SELECT f.from_phone, f.trace_id
    FROM outcomes AS o
    JOIN facts AS f ON f.batch_key = o.batch_key AND f.recipient_no = o.recipient_no AND f.arrival_id = o.arrival_id
    WHERE o.batch_key = p.batch_key AND o.recipient_no = p.recipient_no
    OFFSET 0
) AS d ON true
ORDER BY p.recipient_no;

-- name: list_recipient_facts(batch_id, recipient_no)
-- All facts about a recipient's attempts, in order. won: the fact counts for its attempt; decided: the outcome is based on
-- it.
SELECT f.event_id, f.source, f.method, f.conversation_id, f.attempt_number, f.status, f.is_final,
       plausible_time(f.started_at) AS started_at, plausible_time(f.ended_at) AS ended_at, f.duration_seconds,
       f.failure_reason, plausible_time(f.next_retry_at) AS next_retry_at, f.results, plausible_time(f.occurred_at) AS occurred_at, f.recorded_at AS known_at,
       f.from_phone, f.trace_id,
       a.arrival_id IS NOT NULL AS won, o.arrival_id IS NOT NULL AS decided
FROM batches AS b
JOIN facts AS f ON f.batch_key = b.batch_key AND f.recipient_no = :recipient_no
LEFT JOIN attempts_of(
    ARRAY[(SELECT k.batch_key FROM batches AS k WHERE k.batch_id = :batch_id)], ARRAY[:recipient_no::integer], NULL
) AS a ON a.arrival_id = f.arrival_id
LEFT JOIN outcomes AS o
    ON o.batch_key = f.batch_key AND o.recipient_no = f.recipient_no AND o.arrival_id = f.arrival_id
WHERE b.batch_id = :batch_id
ORDER BY coalesce(f.started_at, f.ended_at, f.occurred_at), f.attempt_number NULLS LAST, f.recorded_at, f.arrival_id;
