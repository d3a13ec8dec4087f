-- The statements that limit how much of the server a BI role, or anyone else who may connect, can use; none when all of
-- them have been run. They need the owner of the database or a superuser. A role can lift the limits of its own sessions,
-- but not temp_file_limit, nor what is revoked here.
--
-- Locks and subtransactions share one table in the server's memory. One session that fills it stops everyone, including new
-- connections: with advisory locks, or with nested savepoints once each writes a message to the WAL.
CREATE OR REPLACE FUNCTION list_bi_role_bounds(p_role text) RETURNS SETOF text
LANGUAGE sql STABLE
AS $$
WITH open (privilege) AS (
    SELECT a.privilege_type
    FROM pg_database AS d
    CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
    WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type IN ('TEMPORARY', 'CREATE')
), open_functions AS (
    SELECT string_agg('pg_catalog.' || p.oid::regprocedure, ', ' ORDER BY p.oid::regprocedure::text) AS every,
           string_agg('pg_catalog.' || p.oid::regprocedure, ', ' ORDER BY p.oid::regprocedure::text)
               FILTER (WHERE p.proname LIKE '%advisory%') AS advisory
    FROM pg_proc AS p
    CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND a.grantee = 0
      AND (p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import', 'lo_open', 'lo_put', 'lo_truncate',
                         'lo_truncate64', 'lowrite', 'pg_get_object_address', 'pg_logical_emit_message')
           OR p.proname ~ '^pg_(try_)?advisory_(xact_)?lock')  -- unlocking does no harm, and drivers do it
), ours AS (
    -- The owner of the tables and the service's roles keep rights that they may have had only through PUBLIC.
    SELECT DISTINCT a.grantee::regrole AS name
    FROM pg_class AS c
    CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
    WHERE c.oid = 'events'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> 0
)
SELECT s.statement
FROM (
    SELECT 1 AS nth, format('GRANT TEMPORARY ON DATABASE %I TO %s', current_database(), o.name) AS statement
    FROM ours AS o
    WHERE EXISTS (SELECT FROM open)
    UNION ALL
    SELECT 2, format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database())
    WHERE EXISTS (SELECT FROM open)
    UNION ALL
    SELECT 3, format('GRANT CREATE ON SCHEMA public TO %s', c.relowner::regrole)
    FROM pg_class AS c
    WHERE c.oid = 'events'::regclass AND has_schema_privilege('public', 'public', 'CREATE')
    UNION ALL
    SELECT 4, 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
    WHERE has_schema_privilege('public', 'public', 'CREATE')
    UNION ALL
    SELECT 5, format('ALTER ROLE %I SET temp_file_limit = %L', p_role, '5GB')
    WHERE NOT EXISTS (
        SELECT FROM pg_db_role_setting AS s
        JOIN pg_roles AS r ON r.oid = s.setrole
        WHERE r.rolname = p_role AND s.setdatabase = 0 AND 'temp_file_limit=5GB' = ANY (s.setconfig))
    UNION ALL
    SELECT 6, format('GRANT EXECUTE ON FUNCTION %s TO %s', f.advisory, o.name)
    FROM open_functions AS f CROSS JOIN ours AS o
    WHERE f.advisory IS NOT NULL
    UNION ALL
    SELECT 7, format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f.every)
    FROM open_functions AS f
    WHERE f.every IS NOT NULL
) AS s
ORDER BY s.nth, s.statement
$$;
