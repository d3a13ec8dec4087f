-- Comments on the columns that several views share, and on those of bi_full, which are bi's except for people's data.
DO $$
DECLARE
    v_common CONSTANT jsonb := $json${
        "upload_id": "The service's own number of the batch, never null; joins the views of this schema.",
        "batch_id": "The provider's id of the batch. Null while it has none: held, being uploaded, or the answer was lost.",
        "agent_id": "The provider's id of the agent that calls.",
        "batch_name": "The batch's name as uploaded; in bi, what looks like a phone in it is (masked).",
        "campaign_id": "A test batch and its promotion share it: group by it to see them as one. Null for all other batches.",
        "campaign_role": "test: the sample that was called first. main: the rest. Null outside a campaign.",
        "batch_created_at": "When the provider created the batch, else when its upload was prepared.",
        "verdict": "How final the batch's numbers are. open: the provider still calls. settling: it has finished and we differ, which late webhooks may explain. complete: finished, and equal to the provider's figures. drifted: different beyond the grace period. unverified: never compared.",
        "verdict_since": "Since when the verdict stands; null when never compared.",
        "last_reconciled_at": "When the batch was last compared with the provider's figures; null if never.",
        "last_event_at": "When the last event of the batch was received; null before the first.",
        "as_of": "When this row was read: the instant that its numbers hold for."
    }$json$;
    v_column record;
BEGIN
    FOR v_column IN
        SELECT c.table_name AS view, c.column_name AS name,
               CASE
                   WHEN c.table_name = 'reconciliations' AND c.column_name = 'verdict' THEN d.sentence
                   ELSE coalesce(v_common ->> c.column_name, d.sentence)
               END AS sentence
        FROM information_schema.columns AS c
        CROSS JOIN LATERAL (
            SELECT col_description(format('bi.%I', c.table_name)::regclass, c.ordinal_position::integer) AS sentence
        ) AS d
        WHERE c.table_schema = 'bi'
    LOOP
        EXECUTE format('COMMENT ON COLUMN bi.%I.%I IS %L', v_column.view, v_column.name, v_column.sentence);
        EXECUTE format('COMMENT ON COLUMN bi_full.%I.%I IS %L', v_column.view, v_column.name, v_column.sentence);
    END LOOP;
    FOR v_column IN
        SELECT v.viewname AS view, obj_description(format('bi.%I', v.viewname)::regclass, 'pg_class') AS sentence
        FROM pg_views AS v
        WHERE v.schemaname = 'bi'
    LOOP
        EXECUTE format('COMMENT ON VIEW bi_full.%I IS %L', v_column.view, v_column.sentence);
    END LOOP;
END
$$;

COMMENT ON COLUMN bi_full.caller_numbers.from_phone IS 'The number, in E.164.';
COMMENT ON COLUMN bi_full.recipient_outcomes.from_phone IS 'The number that made the latest attempt, in E.164; null if the event that decided it does not name it.';
COMMENT ON COLUMN bi_full.call_attempts.from_phone IS 'The number that made the attempt, in E.164; null if its event does not name it.';
COMMENT ON COLUMN bi_full.failure_reasons.reason IS 'The provider''s words. (long text) for more than 80 characters.';
COMMENT ON COLUMN bi_full.batch_results.value IS 'Its value as text. (null), or (long text) for more than 80 characters.';
COMMENT ON COLUMN bi_full.recipient_outcomes.phone IS 'The phone in E.164, such as +919876543210.';
COMMENT ON COLUMN bi_full.recipient_outcomes.parameters IS 'The CSV''s other columns with their values.';
COMMENT ON COLUMN bi_full.recipient_outcomes.results IS 'What the agent found out in the latest attempt, as the provider sent it.';
COMMENT ON COLUMN bi_full.recipient_outcomes.failure_reason IS 'Why the latest attempt failed, in the provider''s words.';
COMMENT ON COLUMN bi_full.call_attempts.phone IS 'The phone in E.164, such as +919876543210.';
COMMENT ON COLUMN bi_full.call_attempts.parameters IS 'The CSV''s other columns with their values.';
COMMENT ON COLUMN bi_full.call_attempts.results IS 'What the agent found out, as the provider sent it.';
COMMENT ON COLUMN bi_full.call_attempts.failure_reason IS 'Why it failed, in the provider''s words.';
COMMENT ON COLUMN bi_full.other_calls.phone IS 'The person''s phone in E.164: of an inbound call the caller''s. Null if withheld, and once erased.';
COMMENT ON COLUMN bi_full.other_calls.parameters IS 'The call parameters with their values.';
COMMENT ON COLUMN bi_full.other_calls.results IS 'What the agent found out, as the provider sent it.';
COMMENT ON COLUMN bi_full.other_calls.failure_reason IS 'Why it failed, in the provider''s words.';
