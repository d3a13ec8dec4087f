"""The database's settings: do they keep what was acknowledged, and let the service do its work."""

import re
from datetime import UTC, datetime

from service.doctor.findings import Finding, ok, problem, show_bytes, show_name, show_seconds, unchecked, warning
from service.doctor.limits import Thresholds
from service.store.database import UNSAFE_SETTINGS, Database
from service.store.preconditions import find_session_faults

UNITS = {"kB": 1024, "8kB": 8192, "MB": 1024**2, "GB": 1024**3, "B": 1}
TIMEOUTS = {"transaction_timeout": (3600, "exports")}
"""Below how many seconds each would end what it should not. The others the service sets itself (store/session.py)."""


async def _read(database: Database, *names: str) -> dict[str, tuple[str, str | None]]:
    rows = database.queries.list_server_settings(database.pool, names=list(names))
    return {row["name"]: (row["setting"], row["unit"]) async for row in rows}


async def check_durability(database: Database) -> list[Finding]:
    """Whether a crash loses what was confirmed."""
    settings = await _read(database, *UNSAFE_SETTINGS)
    findings = [
        problem(f"{name} is off: {harm}", f"Set {name} = on (for this role, database or server)")
        for name, harm in UNSAFE_SETTINGS.items()
        if settings[name][0] == "off"
    ]
    return findings or [ok(f"{', '.join(UNSAFE_SETTINGS)} are on")]


async def check_standby(database: Database) -> list[Finding]:
    """Whether the standby that commits wait for is there: without it nothing is acknowledged."""
    settings = await _read(database, "synchronous_standby_names", "synchronous_commit")
    names, level = settings["synchronous_standby_names"][0], settings["synchronous_commit"][0]
    if not names:
        return [ok("No standby is waited for: a commit is on this server's disk alone")]
    if level in {"local", "off"}:
        return [warning(f"A standby is named, and synchronous_commit = {level} does not wait for it", "Set it to on")]
    counted = re.match(r"(?:FIRST|ANY)?\s*(\d+)\s*\(", names, re.IGNORECASE)
    needed = int(counted[1]) if counted else 1
    rows = [row async for row in database.queries.list_standbys(database.pool)]
    present = sum(row["sync_state"] in {"sync", "quorum"} for row in rows)
    if present >= needed:
        return [
            ok(f"{present} synchronous standby follows" if present == 1 else f"{present} synchronous standbys follow")
        ]
    if rows and all(row["sync_state"] is None for row in rows):
        return [unchecked(f"{len(rows)} follow; whether commits wait for them is not visible to this role", SEE_MORE)]
    return [
        problem(
            f"Commits wait for {needed} synchronous standby, and {present} follow: nothing is acknowledged meanwhile",
            "Bring the standby back; or, accepting that a commit is on one machine alone, empty "
            "synchronous_standby_names and reload",
        )
    ]


async def check_session(database: Database) -> list[Finding]:
    """Whether sessions are as the service opens them, whatever the server, database or role has as its default."""
    async with database.pool.acquire() as connection:
        faults = await find_session_faults(connection)
    findings = [problem(message, f"{remedy[:1].upper()}{remedy[1:]}") for message, remedy in faults]
    return findings or [ok("Sessions have the settings that the service needs")]


async def check_timeouts(database: Database) -> list[Finding]:
    """Whether the server ends what the service is still at."""
    findings = []
    for name, (value, _) in (await _read(database, *TIMEOUTS)).items():
        seconds, (least, harmed) = int(value) / 1000, TIMEOUTS[name]
        if 0 < seconds < least:
            remedy = f"ALTER ROLE … SET {name} = 0 for the service's role: it has time limits of its own"
            findings.append(warning(f"{name} = {show_seconds(seconds)} ends {harmed}", remedy))
    return findings or [ok("No time limit of the server's ends what the service does")]


async def check_wal(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether checkpoints come so often that they slow commits down."""
    value, unit = (await _read(database, "max_wal_size"))["max_wal_size"]
    size = int(value) * UNITS[unit or "B"]
    message = f"max_wal_size is {show_bytes(size)}"
    if size < thresholds.wal_bytes:
        return [
            warning(f"{message}: under load checkpoints never end", "Set it to 4GB, and checkpoint_timeout to 15min")
        ]
    return [ok(message)]


async def check_vacuum(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether the tables are kept from growing, and transactions from running out."""
    settings = await _read(database, "autovacuum", "track_counts")
    findings = [
        problem(f"{name} is off: tables grow without end, and in the end nothing can be written", f"Set {name} = on")
        for name, (value, _) in settings.items()
        if value == "off"
    ]
    left = [row["name"] async for row in database.queries.list_tables_without_vacuum(database.pool)]
    if left:
        remedy = "ALTER TABLE … RESET (autovacuum_enabled)"
        findings.append(warning(f"Autovacuum leaves alone: {', '.join(left)}", remedy))
    age = (await database.queries.get_database_facts(database.pool))["age_transactions"]
    if age > thresholds.frozen_age_transactions[0]:
        make = problem if age > thresholds.frozen_age_transactions[1] else warning
        message = f"{age:,} transactions have passed since rows were last frozen; at 2 billion writing stops"
        remedy = "Find what holds vacuum back (sessions, slots, prepared transactions), then VACUUM (FREEZE)"
        findings.append(make(message, remedy))
    return findings or [ok("Autovacuum is on")]


async def check_storage(database: Database, now: datetime) -> list[Finding]:
    """Encoding, size and growth. How much of the disk is free cannot be asked by SQL."""
    facts = await database.queries.get_database_facts(database.pool)
    rows = database.queries.list_body_partitions(database.pool)
    months = [row async for row in rows if row["month"] <= now.astimezone(UTC).date()]
    grown = ", ".join(f"{row['month']:%Y-%m} {show_bytes(row['size_bytes'])}" for row in months[-3:])
    size = f"{show_bytes(facts['size_bytes'])}; raw bodies by month: {grown or 'none'}. Watch the server's free disk"
    if facts["encoding"] != "UTF8":
        remedy = "Make a database with ENCODING 'UTF8' TEMPLATE template0, and move to it"
        return [
            problem(f"The encoding is {show_name(facts['encoding'])}: names that it lacks are refused", remedy),
            ok(size),
        ]
    return [ok("The encoding is UTF8"), ok(size)]


SEE_MORE = "GRANT pg_read_all_stats TO the service's role, or run this as a role that has it"
