-- Goals are counted again: they compare numbers by value and text by its letters (fold_value()), and meet some results that
-- they did not meet before.

-- compatible-from: 0032
-- migrate:up
UPDATE goal_counts SET counted_to = 0, recipients = 0;
UPDATE agent_goals SET counted_at = NULL WHERE rule IS NOT NULL;

-- migrate:down
UPDATE goal_counts SET counted_to = 0, recipients = 0;
UPDATE agent_goals SET counted_at = NULL WHERE rule IS NOT NULL;
