-- Grants a role the rights that running the service needs: rows, but no DDL and no TRUNCATE. It may read the audit log and
-- add lines to it, and use the erasure key but not read it. Run by the owner; safe to repeat. Default privileges cover the
-- tables of later migrations.
CREATE OR REPLACE FUNCTION grant_service(p_role text) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_statement text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p_role) THEN
        RAISE EXCEPTION 'There is no role %', p_role USING ERRCODE = 'undefined_object';
    END IF;
    FOREACH v_statement IN ARRAY ARRAY[
        'GRANT CONNECT, TEMPORARY ON DATABASE ' || quote_ident(current_database()) || ' TO %1$I',
        'GRANT USAGE ON SCHEMA public TO %1$I',
        'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %1$I',
        'GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO %1$I',
        'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO %1$I',
        'REVOKE EXECUTE ON FUNCTION grant_service FROM %1$I, PUBLIC',
        'REVOKE ALL ON schema_migrations, schema_functions, audit_log, erasure_key FROM %1$I',
        'GRANT SELECT ON schema_migrations, schema_functions TO %1$I',
        'GRANT SELECT, INSERT ON audit_log TO %1$I',
        'ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %1$I',
        'ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO %1$I'
    ] LOOP
        EXECUTE format(v_statement, p_role);
    END LOOP;
END
$$;

-- Only the service may use functions that act as the owner.
REVOKE EXECUTE ON FUNCTION create_body_partitions, forget_bodies, forget_audit, hash_person, hash_phones FROM PUBLIC;
