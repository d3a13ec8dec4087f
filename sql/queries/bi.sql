-- name: list_bi_role_changes(role, connections, statement_seconds, verifier)
-- The statements that make a BI role what it should be.
SELECT * FROM list_bi_role_changes(:role, :connections, :statement_seconds, :verifier) AS statement;

-- name: grant_bi_reading()$
-- Lets the BI roles that exist read their schemas.
SELECT grant_bi_reading();

-- name: list_bi_role_bounds(role)
-- The statements, not yet run, that limit which of the server's resources a BI role can use.
SELECT * FROM list_bi_role_bounds(:role) AS statement;

-- name: list_bi_roles(roles)
-- Which of these roles exist.
SELECT rolname::text AS name FROM pg_roles WHERE rolname = ANY (:roles::text[]) ORDER BY 1;

-- name: list_bi_role_excess(role)
-- What a BI role may do beyond reading its schemas.
SELECT * FROM list_bi_role_excess(:role) AS excess;

-- name: set_bi_field(kind, name, is_shown)!
-- Shows or hides a call parameter or a result in the masked views.
INSERT INTO bi_fields (kind, name, is_shown) VALUES (:kind, :name, :is_shown)
ON CONFLICT (kind, name) DO UPDATE SET is_shown = excluded.is_shown;

-- name: close_bi_agent(agent_id)!
-- Hides all results of an agent in the masked views, except those that are shown by name.
INSERT INTO bi_closed_agents (agent_id) VALUES (:agent_id) ON CONFLICT DO NOTHING;

-- name: open_bi_agent(agent_id)!
-- Shows the results of an agent in the masked views like those of any other.
DELETE FROM bi_closed_agents WHERE agent_id = :agent_id;

-- name: list_bi_closed_agents()
-- The agents whose results are hidden unless they are shown by name.
SELECT agent_id FROM bi_closed_agents ORDER BY agent_id;

-- name: list_bi_fields()
-- The exceptions from what the masked views show by default.
SELECT kind, name, is_shown FROM bi_fields ORDER BY kind, name;

-- name: list_bi_columns()
-- Every view of the BI schemas and each of its columns, with type and comment, in their order.
SELECT n.nspname AS schema, c.relname AS view, obj_description(c.oid, 'pg_class') AS view_comment,
       a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, col_description(c.oid, a.attnum) AS comment
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname IN ('bi', 'bi_full') AND c.relkind = 'v'
ORDER BY n.nspname, c.relname, a.attnum;

-- name: list_made_roles(roles)
-- Those of some roles that exist.
SELECT rolname::text AS role FROM pg_roles WHERE rolname = ANY (:roles::text[]);

-- name: get_database_name()$
-- The name of this database.
SELECT current_database()::text;
