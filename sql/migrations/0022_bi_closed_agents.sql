-- Agents of whose results BI readers see only what is shown by name: those that ask for people's names, say.

-- compatible-from: 0013
-- migrate:up
CREATE TABLE bi_closed_agents (
    agent_id bigint PRIMARY KEY
);
COMMENT ON TABLE bi_closed_agents IS
    'Agents whose results the masked views of schema bi hide unless bi_fields lists them as shown.';
COMMENT ON COLUMN bi_fields.name IS
    'The name of the CSV''s column, or the key in results; of a hidden result, * stands for any characters.';

-- migrate:down
DROP TABLE bi_closed_agents;
