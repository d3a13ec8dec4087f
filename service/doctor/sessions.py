"""Who else is in the database, and what they hold back: connections, old transactions, slots."""

from service.doctor.findings import Finding, ok, problem, show_bytes, show_name, show_seconds, unchecked, warning
from service.doctor.limits import Thresholds
from service.doctor.postgres import SEE_MORE
from service.store.database import Database

SHOWN = 5
LIMITS = ("max_connections", "superuser_reserved_connections", "reserved_connections")


async def check_connections(database: Database, needed: int) -> list[Finding]:
    """Whether one more replica would find its connections: at a rolling upgrade there is one more for a while."""
    rows = database.queries.list_server_settings(database.pool, names=list(LIMITS))
    settings = {row["name"]: int(row["setting"]) async for row in rows}
    facts = await database.queries.get_database_facts(database.pool)
    counts = await database.queries.get_connection_counts(database.pool)
    room = settings["max_connections"] - sum(settings.get(name, 0) for name in LIMITS[1:])
    room -= counts["used"] - counts["ours"]
    room = min([room, *(facts[name] for name in ("database_connections", "role_connections") if facts[name] >= 0)])
    replicas = max(room, 0) // needed
    message = (
        f"A replica opens up to {needed} connections; there is room for {replicas} replicas, {counts['ours']} are open"
    )
    remedy = "Raise max_connections (or the role's or database's CONNECTION LIMIT), or lower OUTCOMES_MAX_EXPORTS"
    if replicas == 0:
        return [problem(message, remedy)]
    if replicas == 1:
        return [warning(f"{message}: an upgrade that begins a second one has too few", remedy)]
    return [ok(message)]


async def check_old_sessions(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether somebody's transaction keeps vacuum, and perhaps others, waiting."""
    rows = database.queries.list_old_sessions(
        database.pool,
        transaction_seconds=thresholds.transaction_seconds[0],
        idle_seconds=thresholds.idle_seconds[0],
        limit=SHOWN,
    )
    findings = []
    async for row in rows:
        doing = "stands idle" if row["is_idle"] else "runs"
        limit = (thresholds.idle_seconds if row["is_idle"] else thresholds.transaction_seconds)[1]
        who = f"pid {row['pid']}, role {show_name(row['role'])}, program {show_name(row['program']) or 'unnamed'}"
        message = f"A transaction {doing} for {show_seconds(row['seconds'])} and holds vacuum back ({who})"
        make = problem if row["seconds"] > limit else warning
        findings.append(make(message, f"End it there, or SELECT pg_terminate_backend({row['pid']})"))
    if not (await database.queries.get_role_facts(database.pool))["sees_sessions"]:
        findings.append(unchecked("Transactions of other roles are not visible to this role", SEE_MORE))
    return findings or [ok("No transaction is old")]


async def check_prepared_transactions(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether two-phase commits were left: they hold locks and vacuum, also over a restart."""
    rows = database.queries.list_prepared_transactions(database.pool, seconds=thresholds.prepared_seconds, limit=SHOWN)
    findings = [
        warning(
            f"A prepared transaction is left for {show_seconds(row['seconds'])}: {show_name(row['gid'])}",
            "Ask whose it is; then ROLLBACK PREPARED '…' or COMMIT PREPARED '…'",
        )
        async for row in rows
    ]
    return findings or [ok("No prepared transaction is left")]


async def check_replication_slots(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether a slot keeps WAL that nobody fetches, until the disk is full."""
    findings, slots = [], 0
    async for row in database.queries.list_replication_slots(database.pool):
        slots += 1
        name, held = show_name(row["name"]), show_bytes(row["held_bytes"])
        remedy = f"Start who reads it; if nobody does: SELECT pg_drop_replication_slot('{name}')"
        if row["wal_status"] in {"lost", "unreserved"}:
            findings.append(problem(f"The slot {name} has lost WAL, or is about to ({row['wal_status']})", remedy))
        elif row["held_bytes"] > thresholds.slot_bytes[1]:
            findings.append(problem(f"The slot {name} holds {held} of WAL", remedy))
        elif row["held_bytes"] > thresholds.slot_bytes[0] or not row["is_active"]:
            idle = "" if row["is_active"] else ", and nobody reads it"
            findings.append(warning(f"The slot {name} holds {held} of WAL{idle}", remedy))
    return findings or [ok(f"Replication slots: {slots}, none holds much WAL")]
