-- What counts as success for an agent: a rule over the results of its calls, with its history, and how many recipients of
-- each batch meet it.

-- compatible-from: 0032
-- migrate:up
CREATE TABLE agent_goals (
    goal_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id   bigint      NOT NULL,
    rule       jsonb,
    set_at     timestamptz NOT NULL,
    actor      text        NOT NULL,
    counted_at timestamptz
);
COMMENT ON TABLE agent_goals IS 'The goals of agents, present and past; an agent''s latest row is in force. Rows are added under the ingest lock, and only counted_at changes.';
COMMENT ON COLUMN agent_goals.rule IS 'For each result the values that meet the goal, all of them needed: see meets_goal(). Null: from then on the agent has no goal.';
COMMENT ON COLUMN agent_goals.actor IS 'The key that set it.';
COMMENT ON COLUMN agent_goals.counted_at IS 'When the last of the batches from before it was counted; null until then.';
CREATE INDEX agent_goals_agent ON agent_goals (agent_id, goal_id DESC);

CREATE TABLE goal_counts (
    batch_key  bigint  PRIMARY KEY,
    goal_id    bigint  NOT NULL,
    counted_to integer NOT NULL,
    recipients bigint  NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE goal_counts IS 'Recipients of a batch whose latest attempt meets a goal of its agent. No row: nothing is counted, because the batch has no facts, or its agent''s first goal has not been counted yet.';
COMMENT ON COLUMN goal_counts.goal_id IS 'The goal that is counted; after a change the one before, until the batch''s turn comes.';
COMMENT ON COLUMN goal_counts.counted_to IS 'Recipients up to this one are counted, and kept by deltas; 2147483647 when all are.';

ALTER TABLE batches ADD COLUMN promote_at_goal_rate numeric;
COMMENT ON COLUMN batches.promote_at_goal_rate IS 'As promote_at_success_rate, of the recipients that meet the agent''s goal.';

-- migrate:down
DROP SCHEMA IF EXISTS bi, bi_full CASCADE;
ALTER TABLE batches DROP COLUMN promote_at_goal_rate;
DROP TABLE goal_counts, agent_goals;
