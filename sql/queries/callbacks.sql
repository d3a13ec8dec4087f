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

-- name: mark_callbacks(batch_id, recipient_no, name, is_done, note, actor, key_id, request_id)$
-- Marks callbacks of a recipient as done or open again; returns unknown, changed or unchanged.
SELECT mark_callbacks(:batch_id, :recipient_no, :name, :is_done, :note, :actor, :key_id, :request_id);

-- name: list_callbacks(batch_id, agent_id, done, since, until, overdue_at, after_due, after_no, limit)
-- Callbacks by when they are due, each with its recipient and mark.
SELECT c.callback_no, b.batch_id, b.name AS batch_name, c.agent_id, c.recipient_no AS recipient, r.phone, r.parameters,
       c.name AS result, c.value, nullif(c.due_at, 'infinity') AS due_at, c.overdue_at > c.due_at AS is_day, c.asked_at,
       CASE WHEN c.is_done THEN 'done' WHEN c.overdue_at <= clock_timestamp() THEN 'overdue' ELSE 'open' END AS state,
       m.done_at, m.actor AS done_by, m.note, c.conversation_id
FROM list_callbacks(
    (SELECT k.batch_key FROM batches AS k WHERE k.batch_id = :batch_id), :agent_id, :done::boolean[],
    coalesce(:since::timestamptz, '-infinity'), :until::timestamptz, :overdue_at::timestamptz,
    coalesce(:after_due::text::timestamptz, '-infinity'), :after_no, :limit) AS c
LEFT JOIN LATERAL (SELECT * FROM batches WHERE batches.batch_key = c.batch_key OFFSET 0) AS b ON true
LEFT JOIN LATERAL (
    SELECT * FROM recipients WHERE recipients.batch_key = c.batch_key AND recipients.recipient_no = c.recipient_no OFFSET 0
) AS r ON true
LEFT JOIN LATERAL (
    SELECT * FROM callback_marks AS k
    WHERE c.is_done AND k.batch_key = c.batch_key AND k.recipient_no = c.recipient_no AND k.name = c.name OFFSET 0
) AS m ON true
ORDER BY c.due_at, c.callback_no;

-- name: has_batch(batch_id)$
-- Whether there is a batch with this id.
SELECT EXISTS (SELECT FROM batches WHERE batch_id = :batch_id);

-- name: list_recipient_callbacks(batch_id, recipient_no)
-- The callbacks of one recipient, by the name of the result, each with its mark.
SELECT c.name AS result, c.value, nullif(c.due_at, 'infinity') AS due_at, c.overdue_at > c.due_at AS is_day, c.asked_at,
       CASE WHEN c.is_done THEN 'done' WHEN c.overdue_at <= clock_timestamp() THEN 'overdue' ELSE 'open' END AS state,
       m.done_at, m.actor AS done_by, m.note, c.conversation_id
FROM batches AS b
JOIN callbacks AS c ON c.batch_key = b.batch_key AND c.recipient_no = :recipient_no
LEFT JOIN callback_marks AS m
    ON c.is_done AND m.batch_key = c.batch_key AND m.recipient_no = c.recipient_no AND m.name = c.name
WHERE b.batch_id = :batch_id
ORDER BY c.name;
