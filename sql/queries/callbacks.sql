-- name: set_callback_results(agent_id, results, time_zone, actor, key_id, request_id)$
-- Sets or removes the results of an agent that are callbacks; returns whether anything changed.
SELECT set_callback_results(:agent_id, :results::text[], :time_zone, :actor, :key_id, :request_id);

-- name: list_callback_results(agent_id, limit)
-- The settings of callbacks of an agent, present and past, the latest first; null results: none from then on.
SELECT s.results, s.time_zone, s.set_at, s.actor, s.applied_at IS NOT NULL AS is_applied
FROM agent_callbacks AS s WHERE s.agent_id = :agent_id ORDER BY s.setting_id DESC LIMIT :limit;

-- name: list_unapplied_callbacks()
-- The settings of callbacks that the batches from before them do not all follow yet.
SELECT setting_id, agent_id FROM agent_callbacks WHERE applied_at IS NULL ORDER BY setting_id;

-- name: apply_callbacks_step(setting_id, recipients)$
-- Applies a setting to some more recipients; returns whether any are left.
SELECT apply_callbacks_step(:setting_id, :recipients);

-- name: mark_callbacks(batch_id, recipient_no, name, is_done, note, actor, key_id, request_id)^
-- Marks callbacks of a recipient as done or open again; outcome: unknown, changed, unchanged, or taken by the mark given.
SELECT * FROM mark_callbacks(:batch_id, :recipient_no, :name, :is_done, :note, :actor, :key_id, :request_id);

-- name: list_callbacks(batch_id, agent_id, done, since, until, from_day, to_day, overdue_at, after_due, after_no, limit)
-- Callbacks by when they are due, each with its recipient and mark.
SELECT d.*
FROM describe_callbacks(
    (SELECT k.batch_key FROM batches AS k WHERE k.batch_id = :batch_id), :agent_id, :done::boolean[],
    coalesce(:since::timestamptz, '-infinity'), :until::timestamptz, :overdue_at::timestamptz,
    coalesce(:after_due::text::timestamptz, '-infinity'), :after_no, :limit,
    :from_day::date, :to_day::date) AS d
ORDER BY d.due_at NULLS LAST, d.callback_no;

-- name: split_callbacks(batch_id, agent_id, done, since, until, from_day, to_day, overdue_at, rows)^
-- The callbacks of an export: the key of the batch, how many there are, their batches, and where each :rows of them end.
WITH asked AS MATERIALIZED (
    SELECT (SELECT k.batch_key FROM batches AS k WHERE k.batch_id = :batch_id) AS batch_key
), found AS MATERIALIZED (
    SELECT c.batch_key, c.due_at, c.callback_no, row_number() OVER (ORDER BY c.due_at, c.callback_no) AS place
    FROM asked AS a
    CROSS JOIN LATERAL list_callbacks(
        a.batch_key, :agent_id, :done::boolean[], coalesce(:since::timestamptz, '-infinity'), :until::timestamptz,
        :overdue_at::timestamptz, '-infinity', 0, NULL, :from_day::date, :to_day::date) AS c
)
SELECT a.batch_key, t.callbacks, t.batch_keys, t.due_times, t.callback_nos
FROM asked AS a
CROSS JOIN (
    SELECT count(*) AS callbacks, coalesce(array_agg(DISTINCT f.batch_key), '{}') AS batch_keys,
           coalesce(array_agg(f.due_at::text ORDER BY f.place) FILTER (WHERE f.place % :rows = 0), '{}') AS due_times,
           coalesce(array_agg(f.callback_no ORDER BY f.place) FILTER (WHERE f.place % :rows = 0), '{}') AS callback_nos
    FROM found AS f
) AS t;

-- name: has_batch(batch_id)$
-- Whether there is a batch with this id.
SELECT EXISTS (SELECT FROM batches WHERE batch_id = :batch_id);

-- name: list_recipient_callbacks(batch_id, recipient_no)
-- The callbacks of one recipient, by the name of the result, each with its mark.
SELECT c.name AS result, c.value, nullif(c.due_at, 'infinity') AS due_at, due_day(c.value, c.due_at, c.overdue_at) AS due_on,
       c.overdue_at > c.due_at AS is_day, c.asked_at,
       CASE WHEN c.is_done THEN 'done' WHEN c.overdue_at <= clock_timestamp() THEN 'overdue' ELSE 'open' END AS state,
       m.done_at, m.actor AS done_by, m.note, c.conversation_id
FROM batches AS b
JOIN callbacks AS c ON c.batch_key = b.batch_key AND c.recipient_no = :recipient_no
LEFT JOIN callback_marks AS m
    ON c.is_done AND m.batch_key = c.batch_key AND m.recipient_no = c.recipient_no AND m.name = c.name
WHERE b.batch_id = :batch_id
ORDER BY c.name;
