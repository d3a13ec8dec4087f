-- The statements that bound what a BI role, or anyone else who may connect, can use up of the server; none when all of them
-- have been run. They need the owner of the database or a superuser. A role can lift the limits of its own sessions, but not
-- temp_file_limit, nor what is revoked here.
CREATE OR REPLACE FUNCTION list_bi_role_bounds(p_role text) RETURNS SETOF text
LANGUAGE sql STABLE
AS $$
WITH open (privilege) AS (
    SELECT a.privilege_type
    FROM pg_database AS d
    CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
    WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type IN ('TEMPORARY', 'CREATE')
)
SELECT s.statement
FROM (
    -- The owner of the tables keeps what it may have had through PUBLIC alone; grant_service() names the service's role.
    SELECT 1 AS nth, format('GRANT TEMPORARY ON DATABASE %I TO %s', current_database(), c.relowner::regrole) AS statement
    FROM pg_class AS c
    WHERE c.oid = 'events'::regclass AND EXISTS (SELECT FROM open)
    UNION ALL
    SELECT 2, format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database())
    WHERE EXISTS (SELECT FROM open)
    UNION ALL
    SELECT 3, format('ALTER ROLE %I SET temp_file_limit = %L', p_role, '5GB')
    WHERE NOT EXISTS (
        SELECT FROM pg_db_role_setting AS s
        JOIN pg_roles AS r ON r.oid = s.setrole
        WHERE r.rolname = p_role AND s.setdatabase = 0 AND 'temp_file_limit=5GB' = ANY (s.setconfig))
    UNION ALL
    SELECT 4, format('REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC', p.oid::regprocedure)
    FROM pg_proc AS p
    CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND a.grantee = 0
      AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import', 'lo_open', 'lo_put', 'lo_truncate',
                        'lo_truncate64', 'lowrite')
) AS s
ORDER BY s.nth, s.statement
$$;
