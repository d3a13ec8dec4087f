-- Queries of `outcomes doctor`. Each reads settings, catalogues, or a few rows by an index, and runs as the service's own
-- role: what that role may not see is null.

-- name: get_clock()^
-- The database's clock, and the process that answers.
SELECT clock_timestamp() AS now, pg_backend_pid() AS pid;

-- name: list_server_settings(names)
-- Settings of this session: times in ms, others in multiples of their unit. Settings that the server does not know are left out.
SELECT name, setting, unit FROM pg_settings WHERE name = ANY(:names::text[]);

-- name: get_database_facts()^
-- What this database is: its encoding, size and age in transactions, and how the session reached it.
SELECT pg_encoding_to_char(d.encoding) AS encoding, pg_database_size(d.oid) AS size_bytes, age(d.datfrozenxid) AS age_transactions,
       d.datconnlimit AS database_connections, r.rolconnlimit AS role_connections,
       s.ssl AS is_encrypted, s.version AS tls_version, current_setting('server_version_num')::integer AS version_number
FROM pg_database AS d
JOIN pg_roles AS r ON r.rolname = current_user
LEFT JOIN pg_stat_ssl AS s ON s.pid = pg_backend_pid()
WHERE d.datname = current_database();

-- name: get_role_facts()^
-- Our role, and whether it sees the sessions of other roles.
SELECT r.rolname AS name, r.rolsuper AS is_superuser, r.rolcreaterole OR r.rolcreatedb OR r.rolreplication AS is_powerful,
       coalesce(pg_has_role(c.relowner, 'USAGE'), false) AS is_owner, pg_has_role('pg_read_all_stats', 'USAGE') AS sees_sessions
FROM pg_roles AS r
LEFT JOIN pg_class AS c ON c.oid = to_regclass('events')
WHERE r.rolname = current_user;

-- name: list_missing_rights(limit)
-- Tables, sequences and functions of ours on which our role lacks a right that the service needs.
SELECT x.name, x.rights
FROM (
    SELECT c.relname::text AS name, r.rights
    FROM pg_class AS c
    CROSS JOIN LATERAL (
        SELECT string_agg(u.need, ', ' ORDER BY u.need) AS rights
        FROM unnest(CASE WHEN c.relkind = 'S' THEN ARRAY['USAGE']
                         WHEN c.relname IN ('schema_migrations', 'schema_functions') THEN ARRAY['SELECT']
                         WHEN c.relname = 'audit_log' THEN ARRAY['SELECT', 'INSERT']
                         ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END) AS u (need)
        WHERE NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, u.need) ELSE has_table_privilege(c.oid, u.need) END
    ) AS r
    WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition
      AND c.relname <> 'erasure_key' AND r.rights IS NOT NULL
    UNION ALL
    SELECT p.proname, 'EXECUTE'
    FROM pg_proc AS p
    WHERE p.pronamespace = to_regnamespace('public') AND p.proname IN ('ingest', 'create_body_partitions', 'hash_person')
      AND NOT has_function_privilege(p.oid, 'EXECUTE')
) AS x
ORDER BY x.name
LIMIT :limit;

-- name: get_connection_counts()^
-- The number of connections, and how many of them belong to this service, on any replica.
SELECT count(*) AS used, count(*) FILTER (WHERE datname = current_database() AND application_name IN ('outcomes', 'outcomes export')) AS ours
FROM pg_stat_activity
WHERE datid IS NOT NULL AND usesysid IS NOT NULL;

-- name: list_standbys()
-- The standbys of this server, and whether commits wait for them (null if our role may not see that).
SELECT application_name, sync_state, state FROM pg_stat_replication;

-- name: list_old_sessions(transaction_seconds, idle_seconds, limit)
-- Transactions of this database that have run, or been idle, for longer than that, oldest first. An export may take long.
SELECT a.pid, a.usename::text AS role, a.application_name AS program, a.state LIKE 'idle in transaction%' AS is_idle,
       extract(epoch FROM clock_timestamp() - CASE WHEN a.state LIKE 'idle in transaction%' THEN a.state_change
                                                   ELSE a.xact_start END)::double precision AS seconds
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
  AND a.application_name <> 'outcomes export'
  AND NOT EXISTS (  -- a rebuild or a migration, which hold no snapshot
      SELECT FROM pg_locks AS l
      WHERE l.pid = a.pid AND l.relation IN (to_regclass('rebuild_lock'), to_regclass('migrations_lock')))
  AND CASE WHEN a.state LIKE 'idle in transaction%'
           THEN a.state_change < clock_timestamp() - make_interval(secs => :idle_seconds::double precision)
           ELSE a.xact_start < clock_timestamp() - make_interval(secs => :transaction_seconds::double precision) END
ORDER BY a.xact_start
LIMIT :limit;

-- name: list_prepared_transactions(seconds, limit)
-- Transactions of this database that were prepared longer ago than that and have not ended.
SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::double precision AS seconds
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared <= clock_timestamp() - make_interval(secs => :seconds::double precision)
ORDER BY prepared
LIMIT :limit;

-- name: list_replication_slots()
-- Replication slots, and how much WAL each keeps on the server's disk.
SELECT slot_name::text AS name, active AS is_active, wal_status,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS held_bytes
FROM pg_replication_slots;

-- name: list_tables_without_vacuum()
-- Tables of ours with autovacuum turned off.
SELECT c.relname::text AS name
FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace('public') AND c.relkind = 'r'
  AND EXISTS (SELECT FROM unnest(c.reloptions) AS o (option) WHERE o.option ~ '^autovacuum_enabled=(off|false|no|0)$')
ORDER BY 1;

-- name: list_body_partitions()
-- The months of raw bodies, and their sizes.
SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS month, pg_total_relation_size(c.oid) AS size_bytes
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('event_bodies') AND c.relname ~ '^event_bodies_[0-9]{4}_[0-9]{2}$'
ORDER BY 1;

-- name: has_default_partition()$
-- Whether a default partition exists for bodies of missing months.
SELECT EXISTS (
    SELECT FROM pg_inherits WHERE inhparent = to_regclass('event_bodies') AND inhrelid = to_regclass('event_bodies_default'));

-- name: get_latest_stray_body()$
-- When the newest body outside the months' partitions came; null when there is none.
SELECT recorded_at FROM event_bodies_default ORDER BY arrival_id DESC LIMIT 1;

-- name: get_work_waiting(counted)^
-- How much waits for a person or for the next run; each counted up to :counted.
SELECT (SELECT count(*) FROM (SELECT FROM quarantine WHERE replayed_at IS NULL ORDER BY quarantine_id LIMIT :counted) AS q) AS quarantined,
       (SELECT count(*) FROM (SELECT FROM unattributed WHERE is_question(source) ORDER BY arrival_id LIMIT :counted) AS u) AS unattributed,
       (SELECT count(*) FROM (SELECT FROM batches WHERE upload_state = 'unknown' LIMIT :counted) AS b) AS uploads_unknown,
       (SELECT s.due_at FROM batch_schedules AS s
        WHERE s.due_at < 'infinity' AND s.leased_until < clock_timestamp() ORDER BY s.due_at LIMIT 1) AS first_due_at,
       (SELECT m.last_seen_at FROM provider_metrics AS m ORDER BY m.last_seen_at DESC LIMIT 1) AS last_compared_at,
       clock_timestamp() AS now;

-- name: list_last_webhooks(sampled)
-- When the last stored webhook of each target came, among the latest :sampled facts from webhooks and the waiting events.
SELECT e.target, max(e.received_at) AS received_at
FROM (
    SELECT f.event_id, f.occurred_at, f.arrival_id
    FROM (SELECT event_id, occurred_at, arrival_id, source FROM facts ORDER BY arrival_id DESC LIMIT :sampled) AS f
    WHERE f.source = 'webhook'
    UNION ALL
    SELECT u.event_id, u.occurred_at, u.arrival_id
    FROM (SELECT event_id, occurred_at, arrival_id FROM unattributed WHERE is_question(source) ORDER BY arrival_id DESC LIMIT :sampled) AS u
) AS l
CROSS JOIN LATERAL find_arrival(l.event_id, l.occurred_at, l.arrival_id) AS e
GROUP BY e.target
ORDER BY e.target;
