-- name: assign_event(arrival_id, batch_id, recipient_no, kind, accept_phone, actor, key_id, request_id)$
-- Places an unattributed event where a person says; returns assigned, unchanged, or why it was not placed.
SELECT assign_event(:arrival_id, :batch_id, :recipient_no, :kind, :accept_phone, :actor, :key_id, :request_id);

-- name: get_unattributed(arrival_id)^
-- An event that fits no recipient, or several, with the call that it reports.
SELECT arrival_id, event_id, agent_id, phone, coalesce(source, 'webhook') AS source, is_question(source) AS is_question, reason,
       received_at, coalesce(started_at, ended_at, occurred_at) AS called_at, status, duration_seconds, conversation_id
FROM unattributed
WHERE arrival_id = :arrival_id;

-- name: list_candidates(arrival_id, limit)
-- Recipients of the event's agent with its phone: first those whose batch was under way when the call began, then the newest.
SELECT b.batch_id, b.name AS batch_name, b.created_at, r.recipient_no AS recipient,
       coalesce(o.state, 'in_progress') AS state, coalesce(o.attempts, 0) AS attempts, t.is_in_time
FROM unattributed AS u
JOIN recipients AS r ON r.phone = u.phone AND r.withdrawn_at IS NULL
JOIN batches AS b
    ON b.batch_key = r.batch_key AND b.agent_id = u.agent_id AND b.batch_id IS NOT NULL
    AND b.upload_state IN ('uploading', 'uploaded', 'unknown')
LEFT JOIN outcomes AS o ON o.batch_key = r.batch_key AND o.recipient_no = r.recipient_no
CROSS JOIN LATERAL (
    SELECT coalesce(u.started_at, u.ended_at, u.occurred_at, u.received_at) <@ p.span AS is_in_time FROM batch_span(b) AS p
) AS t
WHERE u.arrival_id = :arrival_id
ORDER BY t.is_in_time DESC, b.created_at DESC NULLS LAST, b.batch_id DESC, r.recipient_no
LIMIT :limit;
