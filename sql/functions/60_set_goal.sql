-- Sets the goal of an agent, or of a campaign (the other key is null); a null rule removes it. The goal that it has already
-- stays, with its counts. Returns whether anything changed. Under the ingest lock: every batch that has facts by then is
-- counted by count_goal_step(), and every later one by apply_facts() from its first facts on. With its line in the audit log.
DROP FUNCTION IF EXISTS set_goal(bigint, jsonb, text, bigint, text);
CREATE OR REPLACE FUNCTION set_goal(
    p_agent_id bigint, p_campaign_key bigint, p_rule jsonb, p_actor text, p_key_id bigint, p_request_id text
) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM lock_ingest();
    IF (SELECT g.rule FROM agent_goals AS g WHERE g.agent_id = p_agent_id OR g.campaign_key = p_campaign_key
        ORDER BY g.goal_id DESC LIMIT 1) IS NOT DISTINCT FROM p_rule THEN
        RETURN false;
    END IF;
    -- Without its own goal a campaign has its agent's again, which is then counted; an agent has none.
    INSERT INTO agent_goals (agent_id, campaign_key, rule, set_at, actor, counted_at)
    VALUES (p_agent_id, p_campaign_key, p_rule, clock_timestamp(), p_actor,
            CASE WHEN p_rule IS NULL AND p_campaign_key IS NULL THEN clock_timestamp() END);
    INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
    VALUES (p_actor, p_key_id, p_request_id, 'goal',
            coalesce('agent ' || p_agent_id, 'campaign ' || p_campaign_key),
            CASE WHEN p_rule IS NULL THEN 'removed' ELSE 'set' END, json_build_object('rule', p_rule));
    RETURN true;
END
$$;

-- Counts some more recipients of a batch for the goal in force, which replaces the one that was counted before. One commit.
-- Returns whether recipients are left.
DROP FUNCTION IF EXISTS count_goal_step(bigint, bigint, integer);
CREATE OR REPLACE FUNCTION count_goal_step(p_batch_key bigint, p_recipients integer) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_goal_id bigint;
    v_rule  jsonb;
    v_from  integer;
    v_until integer;
    v_met   bigint;
BEGIN
    PERFORM lock_ingest();
    SELECT g.goal_id, g.rule INTO v_goal_id, v_rule FROM batch_goals AS g WHERE g.batch_key = p_batch_key;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO goal_counts AS c (batch_key, goal_id, counted_to, recipients)
    VALUES (p_batch_key, v_goal_id, 0, 0)
    ON CONFLICT (batch_key) DO UPDATE SET goal_id = excluded.goal_id, counted_to = 0, recipients = 0
    WHERE c.goal_id <> excluded.goal_id;
    SELECT c.counted_to INTO v_from FROM goal_counts AS c WHERE c.batch_key = p_batch_key;
    IF v_from = 2147483647 THEN
        RETURN false;
    END IF;
    v_until := v_from + p_recipients;
    IF v_until >= (SELECT b.recipient_count FROM batches AS b WHERE b.batch_key = p_batch_key) THEN
        v_until := 2147483647;
    END IF;
    SELECT count(*) INTO v_met
    FROM outcomes_of(
        (SELECT array_agg(p_batch_key) FROM generate_series(v_from + 1, v_from + p_recipients)),
        (SELECT array_agg(n) FROM generate_series(v_from + 1, v_from + p_recipients) AS n)) AS o
    WHERE meets_goal(o.results, v_rule);
    UPDATE goal_counts AS c SET counted_to = v_until, recipients = c.recipients + v_met WHERE c.batch_key = p_batch_key;
    UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = p_batch_key;
    RETURN v_until < 2147483647;
END
$$;
