"""The database server: its settings, standbys, storage and connections, and sessions that hold it up."""

import re
from datetime import UTC, datetime

from service.counts import count
from service.doctor.findings import (
    Finding,
    Thresholds,
    judge,
    ok,
    problem,
    show_bytes,
    show_name,
    show_seconds,
    unchecked,
    warning,
)
from service.store.database import UNSAFE_SETTINGS, Database
from service.store.preconditions import find_session_faults

SEE_MORE = "GRANT pg_read_all_stats TO the service's role, or run this as a role that has it"
SHOWN = 5
CONNECTION_LIMITS = ("max_connections", "superuser_reserved_connections", "reserved_connections")
UNITS = {"kB": 1024, "8kB": 8192, "MB": 1024**2, "GB": 1024**3, "B": 1}
TIMEOUTS = {"transaction_timeout": (3600, "exports")}
"""The seconds below which each would interrupt the service, and what it would interrupt. The service sets all others
itself (``SESSION``)."""


async def _read(database: Database, *names: str) -> dict[str, tuple[str, str | None]]:
    rows = database.queries.list_server_settings(database.pool, names=list(names))
    return {row["name"]: (row["setting"], row["unit"]) async for row in rows}


async def check_durability(database: Database) -> list[Finding]:
    """Whether a crash loses committed data."""
    settings = await _read(database, *UNSAFE_SETTINGS)
    findings = [
        problem(f"{name} is off: {harm}", f"Set {name} = on (for this role, database or server)")
        for name, harm in UNSAFE_SETTINGS.items()
        if settings[name][0] == "off"
    ]
    return findings or [ok(f"{', '.join(UNSAFE_SETTINGS)} are on")]


async def check_standby(database: Database) -> list[Finding]:
    """Whether commits wait for a standby if there is one, and whether it is connected: without it nothing is
    acknowledged."""
    settings = await _read(database, "synchronous_standby_names", "synchronous_commit")
    names, level = settings["synchronous_standby_names"][0], settings["synchronous_commit"][0]
    rows = [row async for row in database.queries.list_standbys(database.pool)]
    if not names:
        return [_judge_asynchronous(sum(row["state"] in {"streaming", None} for row in rows))]
    if level in {"local", "off"}:
        return [warning(f"A standby is named, and synchronous_commit = {level} does not wait for it", "Set it to on")]
    counted = re.match(r"(?:FIRST|ANY)?\s*(\d+)\s*\(", names, re.IGNORECASE)
    needed = int(counted[1]) if counted else 1
    present = sum(row["sync_state"] in {"sync", "quorum"} for row in rows)
    if present >= needed:
        return [ok(f"{count(present, 'synchronous standby')} connected")]
    if rows and all(row["sync_state"] is None for row in rows):
        message = f"{count(len(rows), 'standby')} connected; this role cannot see whether commits wait for any"
        return [unchecked(message, SEE_MORE)]
    message = f"Commits wait for {count(needed, 'synchronous standby')}, {present} connected: nothing is acknowledged"
    remedy = (
        "Bring the standby back; or empty synchronous_standby_names and reload (with Patroni: set synchronous_mode to "
        "false by patronictl edit-config): commits are then on one disk alone"
    )
    return [problem(message, remedy)]


def _judge_asynchronous(standbys: int) -> Finding:
    """The finding of a server whose commits wait for no standby. A standby whose state our role may not see counts."""
    if not standbys:
        return ok("Commits wait for no standby: they are on this server's disk alone")
    return warning(
        f"{count(standbys, 'standby')} connected, and commits wait for none: a failover loses the latest events",
        "Set synchronous_standby_names (with Patroni: synchronous_mode and synchronous_mode_strict); standbys that are "
        "never promoted need nothing",
    )


async def check_session(database: Database) -> list[Finding]:
    """Whether sessions have the settings that the service asks for, whatever the defaults are."""
    async with database.pool.acquire() as connection:
        faults = await find_session_faults(connection)
    findings = [problem(message, f"{remedy[:1].upper()}{remedy[1:]}") for message, remedy in faults]
    return findings or [ok("Sessions have the settings that the service needs")]


async def check_timeouts(database: Database) -> list[Finding]:
    """Whether the server's time limits interrupt the service."""
    findings = []
    for name, (value, _) in (await _read(database, *TIMEOUTS)).items():
        seconds, (least, harmed) = int(value) / 1000, TIMEOUTS[name]
        if 0 < seconds < least:
            remedy = f"ALTER ROLE … SET {name} = 0 for the service's role: it has time limits of its own"
            findings.append(warning(f"{name} = {show_seconds(seconds)} interrupts {harmed}", remedy))
    return findings or [ok("No time limit of the server interrupts the service")]


async def check_wal(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether checkpoints come so often that they slow commits down."""
    value, unit = (await _read(database, "max_wal_size"))["max_wal_size"]
    size = int(value) * UNITS[unit or "B"]
    message = f"max_wal_size is {show_bytes(size)}"
    if size < thresholds.wal_bytes:
        remedy = "Set it to 4GB, and checkpoint_timeout to 15min"
        return [warning(f"{message}: under load checkpoints never end", remedy)]
    return [ok(message)]


async def check_vacuum(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether vacuum keeps tables small and transaction ids available."""
    settings = await _read(database, "autovacuum", "track_counts")
    findings = [
        problem(f"{name} is off: tables grow, and one day nothing can be written", f"Set {name} = on")
        for name, (value, _) in settings.items()
        if value == "off"
    ]
    left = [row["name"] async for row in database.queries.list_tables_without_vacuum(database.pool)]
    if left:
        remedy = "ALTER TABLE … RESET (autovacuum_enabled)"
        findings.append(warning(f"Autovacuum skips: {', '.join(left)}", remedy))
    age = (await database.queries.get_database_facts(database.pool))["age_transactions"]
    if age > thresholds.frozen_age_transactions[0]:
        message = f"{age:,} transactions have passed since rows were last frozen; at 2 billion writing stops"
        remedy = "Find what holds up vacuum (sessions, slots, prepared transactions), then VACUUM (FREEZE)"
        findings.append(judge(age, thresholds.frozen_age_transactions, message, remedy))
    return findings or [ok("Autovacuum is on")]


async def check_storage(database: Database, now: datetime) -> list[Finding]:
    """Encoding, size and growth. SQL cannot ask for the free disk space."""
    facts = await database.queries.get_database_facts(database.pool)
    rows = database.queries.list_body_partitions(database.pool)
    months = [row async for row in rows if row["month"] <= now.astimezone(UTC).date()]
    grown = ", ".join(f"{row['month']:%Y-%m} {show_bytes(row['size_bytes'])}" for row in months[-3:])
    size = f"{show_bytes(facts['size_bytes'])}; raw bodies by month: {grown or 'none'}. Watch the server's free disk"
    if facts["encoding"] != "UTF8":
        remedy = "Make a database with ENCODING 'UTF8' TEMPLATE template0, and move to it"
        return [
            problem(f"The encoding is {show_name(facts['encoding'])}: it lacks letters", remedy),
            ok(size),
        ]
    return [ok("The encoding is UTF8"), ok(size)]


async def check_connections(database: Database, needed: int) -> list[Finding]:
    """Whether there are connections for one more replica, which a rolling upgrade needs for a while."""
    rows = database.queries.list_server_settings(database.pool, names=list(CONNECTION_LIMITS))
    settings = {row["name"]: int(row["setting"]) async for row in rows}
    facts = await database.queries.get_database_facts(database.pool)
    counts = await database.queries.get_connection_counts(database.pool)
    room = settings["max_connections"] - sum(settings.get(name, 0) for name in CONNECTION_LIMITS[1:])
    room -= counts["used"] - counts["ours"]
    room = min([room, *(facts[name] for name in ("database_connections", "role_connections") if facts[name] >= 0)])
    replicas = max(room, 0) // needed
    message = f"A replica opens up to {needed} connections; there is room for {replicas} replicas"
    remedy = "Raise max_connections (or the role's or database's CONNECTION LIMIT), or lower OUTCOMES_MAX_EXPORTS"
    if replicas == 0:
        return [problem(message, remedy)]
    if replicas == 1:
        return [warning(f"{message}: too few for an upgrade that starts a second one", remedy)]
    return [ok(message)]


async def check_old_sessions(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether an old transaction holds up vacuum, and perhaps others."""
    rows = database.queries.list_old_sessions(
        database.pool,
        transaction_seconds=thresholds.transaction_seconds[0],
        idle_seconds=thresholds.idle_seconds[0],
        limit=SHOWN,
    )
    findings = []
    async for row in rows:
        state = "has been idle" if row["is_idle"] else "has run"
        limits = thresholds.idle_seconds if row["is_idle"] else thresholds.transaction_seconds
        who = f"pid {row['pid']}, role {show_name(row['role'])}, program {show_name(row['program']) or 'unnamed'}"
        message = f"A transaction {state} for {show_seconds(row['seconds'])} and holds up vacuum ({who})"
        remedy = f"End it there, or SELECT pg_terminate_backend({row['pid']})"
        findings.append(problem(message, remedy) if row["seconds"] > limits[1] else warning(message, remedy))
    if not (await database.queries.get_role_facts(database.pool))["sees_sessions"]:
        findings.append(unchecked("This role cannot see the transactions of other roles", SEE_MORE))
    return findings or [ok("No transaction is old")]


async def check_prepared_transactions(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether there are old prepared transactions, which hold locks and vacuum up, even after a restart."""
    rows = database.queries.list_prepared_transactions(database.pool, seconds=thresholds.prepared_seconds, limit=SHOWN)
    findings = [
        warning(
            f"A prepared transaction has been left for {show_seconds(row['seconds'])}: {show_name(row['gid'])}",
            "Find out whose it is; then ROLLBACK PREPARED '…' or COMMIT PREPARED '…'",
        )
        async for row in rows
    ]
    return findings or [ok("There are no old prepared transactions")]


async def check_replication_slots(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether a slot keeps WAL that nothing reads, until the disk is full."""
    findings, slots = [], 0
    async for row in database.queries.list_replication_slots(database.pool):
        slots += 1
        name, held = show_name(row["name"]), show_bytes(row["held_bytes"])
        remedy = f"Start its reader; if it has none: SELECT pg_drop_replication_slot('{name}')"
        if row["wal_status"] in {"lost", "unreserved"}:
            findings.append(problem(f"The slot {name} has lost WAL, or is about to ({row['wal_status']})", remedy))
        elif row["held_bytes"] > thresholds.slot_bytes[1]:
            findings.append(problem(f"The slot {name} holds {held} of WAL", remedy))
        elif row["held_bytes"] > thresholds.slot_bytes[0] or not row["is_active"]:
            idle = "" if row["is_active"] else ", and nothing reads it"
            findings.append(warning(f"The slot {name} holds {held} of WAL{idle}", remedy))
    return findings or [ok(f"Replication slots: {slots}, none holds much WAL")]
