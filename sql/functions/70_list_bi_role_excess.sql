-- What a BI role may do in this database beyond reading its schemas, each in words; none if it is as it should be. Includes
-- grants that come through other roles or PUBLIC.
CREATE OR REPLACE FUNCTION list_bi_role_excess(p_role text) RETURNS SETOF text
LANGUAGE sql STABLE
AS $$
SELECT 'is a superuser' FROM pg_roles WHERE rolname = p_role AND rolsuper
UNION ALL
SELECT 'has rights on ' || c.oid::regclass
FROM pg_class AS c
WHERE (c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
       OR c.relnamespace = to_regnamespace('bi_full') AND p_role <> 'bi_reader_full')
  AND has_table_privilege(p_role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
$$;
