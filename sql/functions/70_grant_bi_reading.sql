-- Lets the BI roles that exist read their schemas, and nothing else of this database; returns them. Safe to call again.
CREATE OR REPLACE FUNCTION grant_bi_reading() RETURNS text[]
LANGUAGE plpgsql
AS $$
DECLARE
    v_grant record;
    v_roles text[] := '{}';
BEGIN
    FOR v_grant IN
        SELECT * FROM (VALUES ('bi_reader', 'bi'), ('bi_reader_full', 'bi'), ('bi_reader_full', 'bi_full')) AS g (role, schema)
        WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = g.role) AND to_regnamespace(g.schema) IS NOT NULL
    LOOP
        IF NOT has_database_privilege(v_grant.role, current_database(), 'CONNECT') THEN
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), v_grant.role);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', v_grant.schema, v_grant.role);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', v_grant.schema, v_grant.role);
        v_roles := v_roles || v_grant.role;
    END LOOP;
    RETURN v_roles;
END
$$;
