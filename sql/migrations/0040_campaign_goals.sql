-- A goal for a campaign, which takes precedence over its agent's.

-- compatible-from: 0038
-- migrate:up
-- The index comes with the column: this table has a few rows, and only people write them.
ALTER TABLE agent_goals
    ALTER COLUMN agent_id DROP NOT NULL, ADD COLUMN campaign_key bigint, ADD UNIQUE (campaign_key, goal_id);
COMMENT ON TABLE agent_goals IS 'The goals of agents and of campaigns, present and past; the latest row of an agent or campaign is in force: see batch_goals. Rows are added under the ingest lock, and only counted_at changes.';
COMMENT ON COLUMN agent_goals.agent_id IS 'Null for the goal of a campaign.';
COMMENT ON COLUMN agent_goals.campaign_key IS 'Null for the goal of an agent.';
COMMENT ON COLUMN agent_goals.rule IS 'For each result the values that meet the goal, all of them needed: see meets_goal(). Null: from then on the agent or campaign has none of its own.';

-- migrate:down
DROP SCHEMA IF EXISTS bi, bi_full CASCADE;
DROP VIEW IF EXISTS batch_goals;
DELETE FROM agent_goals WHERE agent_id IS NULL;
ALTER TABLE agent_goals DROP COLUMN campaign_key, ALTER COLUMN agent_id SET NOT NULL;
