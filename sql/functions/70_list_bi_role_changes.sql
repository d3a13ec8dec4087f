-- The statements that make a BI role what it should be; none if it is. They need CREATEROLE, which the service's own role
-- may lack, so they can also be shown to somebody who has it. p_verifier is a SCRAM verifier; null leaves the password alone.
-- The limits are defaults of the role's sessions: they prevent accidents. Only grants decide what it may read.
CREATE OR REPLACE FUNCTION list_bi_role_changes(
    p_role text, p_connections integer, p_statement_seconds integer, p_verifier text
)
RETURNS SETOF text
LANGUAGE sql STABLE
AS $$
WITH wanted (name, value) AS (
    VALUES ('default_transaction_read_only', 'on'),
           ('statement_timeout', p_statement_seconds || 's'),
           ('idle_in_transaction_session_timeout', '60s'),
           ('lock_timeout', '5s'),
           ('random_page_cost', '1.1'),  -- a view of one batch should use its index, even with few stored batches
           ('jit', 'off'),  -- compiling such wide views takes longer than reading a batch
           ('search_path', CASE p_role WHEN 'bi_reader_full' THEN 'bi_full' ELSE 'bi' END)
), present AS (
    SELECT r.rolcanlogin, r.rolconnlimit,
           (SELECT s.setconfig FROM pg_db_role_setting AS s WHERE s.setrole = r.oid AND s.setdatabase = 0) AS settings
    FROM pg_roles AS r
    WHERE r.rolname = p_role
)
SELECT c.statement
FROM (
    SELECT 1 AS nth, format('CREATE ROLE %I LOGIN CONNECTION LIMIT %s', p_role, p_connections) AS statement
    WHERE NOT EXISTS (SELECT FROM present)
    UNION ALL
    SELECT 2, format('ALTER ROLE %I LOGIN CONNECTION LIMIT %s', p_role, p_connections)
    FROM present
    WHERE NOT rolcanlogin OR rolconnlimit <> p_connections
    UNION ALL
    SELECT 3, format('ALTER ROLE %I SET %I = %L', p_role, w.name, w.value)
    FROM wanted AS w
    WHERE NOT EXISTS (SELECT FROM present WHERE w.name || '=' || w.value = ANY (settings))
    UNION ALL
    SELECT 4, format('ALTER ROLE %I PASSWORD %L', p_role, p_verifier)
    WHERE p_verifier IS NOT NULL
) AS c
ORDER BY c.nth, c.statement
$$;
