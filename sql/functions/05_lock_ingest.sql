-- THE lock: whatever changes facts, or anything derived from them, holds it until its commit. It serialises across all
-- replicas, so old state is read safely, deadlocks cannot happen, and feed positions commit in their order.
CREATE OR REPLACE FUNCTION lock_ingest() RETURNS void
LANGUAGE sql
AS $$
SELECT pg_advisory_xact_lock(7304564, 1)
$$;
