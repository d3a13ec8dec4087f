"""The connection to the database: latency, commits, poolers, encryption; and the database's clock."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import asyncpg

from service.doctor.configuration import LOOPBACK
from service.doctor.findings import Finding, Thresholds, judge, ok, problem, show_seconds, warning
from service.errors import OutcomesError
from service.store.database import Database
from service.store.preconditions import OLDEST_VERSION, STATEMENTS_LOST, explain_failure, find_pooler

SAMPLES = 5
POOLER = "Connect past the pooler, or with pool_mode = session: the service has its own pool"
CLOCK_REMEDY = "Set both clocks by NTP (chrony, systemd-timesyncd): see `timedatectl`"


async def check_answer(database: Database, thresholds: Thresholds) -> list[Finding]:
    """Whether it answers, and how long a round trip takes."""
    try:
        async with database.pool.acquire() as connection:
            seconds = await _measure(lambda: database.queries.get_clock(connection))
            version = int(await connection.fetchval("SHOW server_version_num"))
    except STATEMENTS_LOST:
        return [problem("Statements get lost between us and Postgres: a pooler in transaction mode", POOLER)]
    findings = [_judge_duration("A round trip", seconds, thresholds.round_trip_seconds, "Move them closer together")]
    if version < OLDEST_VERSION:
        findings.append(problem(f"Postgres {version // 10000} is too old", "Upgrade it to 15 or newer"))
    else:
        findings.append(ok(f"Postgres {version // 10000}.{version % 10000}"))
    return findings


def explain_silence(error: BaseException) -> Finding:
    """Why the database could not be reached, without the address, which holds a password."""
    hints = {
        asyncpg.InvalidPasswordError: ("It refuses our password", "Compare the password in OUTCOMES_DATABASE_URL"),
        asyncpg.InvalidAuthorizationSpecificationError: (
            "It refuses our role", "Check the role in OUTCOMES_DATABASE_URL, and pg_hba.conf",
        ),
        asyncpg.InvalidCatalogNameError: ("There is no such database", "Create it, or correct OUTCOMES_DATABASE_URL"),
        asyncpg.TooManyConnectionsError: (
            "It has no free connection", "See who holds them in pg_stat_activity; raise max_connections",
        ),
        asyncpg.CannotConnectNowError: ("It is starting up, or shutting down", "Wait; see its log if it stays so"),
        asyncpg.TargetServerAttributeNotMatched: (
            "None of the hosts takes writes", "Promote a standby, or name the primary in OUTCOMES_DATABASE_URL",
        ),
        TimeoutError: ("It does not answer in time", "Check the network, firewall rules and Postgres' own log"),
    }  # fmt: skip
    for kind, (message, remedy) in hints.items():
        if isinstance(error, kind):
            return problem(message, remedy)
    if not isinstance(error, OutcomesError):
        error = explain_failure(error)
    message, _, remedy = str(error).rpartition(": ")
    return problem(message, f"{remedy[:1].upper()}{remedy[1:]}")


async def check_commit(database: Database, thresholds: Thresholds) -> list[Finding]:
    """How long a commit takes, since webhooks are acknowledged after it."""
    severities: list[str | None] = []

    def note(_: object, message: asyncpg.PostgresLogMessage) -> None:
        severities.append(message.severity_en)

    async with database.pool.acquire() as connection:
        connection.add_log_listener(note)
        try:
            async with asyncio.timeout(thresholds.commit_seconds[1] + 1):
                seconds = await _measure(lambda: database.queries.commit_heartbeat(connection))
        except TimeoutError:
            remedy = (
                "See the standby below, pg_stat_activity (wait_event), the disk; Overload in docs/operate/runbook.md"
            )
            return [
                problem(
                    f"No commit within {show_seconds(thresholds.commit_seconds[1])}: nothing is acknowledged", remedy
                )
            ]
        except asyncpg.UndefinedTableError:
            return [problem("Commits cannot be tried: the database has no schema", "Run `outcomes migrate`")]
        finally:
            connection.remove_log_listener(note)
    if "WARNING" in severities:
        return [problem("Postgres warned about the commit: the standby may lack it", "See Postgres' log")]
    remedy = "Check the disk's fsync, the distance to the standby, and what else writes"
    return [_judge_duration("A commit", seconds, thresholds.commit_seconds, remedy)]


async def check_pooler(database: Database) -> list[Finding]:
    """Whether a pooler in transaction mode is in between: it would share sessions, and their locks, among clients."""
    async with database.pool.acquire() as first, database.pool.acquire() as second:
        found = await find_pooler(first, second)
    if found is not None:
        return [problem(f"A pooler in transaction mode is in between: {found}", POOLER)]
    return [ok("Sessions stay with one server: no pooler in transaction mode")]


async def check_encryption(database: Database, database_url: str) -> list[Finding]:
    """Whether the traffic to a remote database could be read on the way, or reach an impostor."""
    address = urlsplit(database_url)
    asked = parse_qs(address.query)
    named = asked.get("host", [address.hostname or ""])[0].split(",")
    hosts = [host.rsplit("]", 1)[0].lstrip("[").partition(":")[0] if host.count(":") < 2 else host for host in named]
    if all(host in LOOPBACK or not host or host.startswith("/") for host in hosts):
        return [ok("It is on this machine: nothing to encrypt")]
    facts = await database.queries.get_database_facts(database.pool)
    remedy = "Add sslmode=verify-full&sslrootcert=… to OUTCOMES_DATABASE_URL"
    if not facts["is_encrypted"]:
        return [warning("The connection to a remote host is not encrypted", remedy)]
    mode = asked.get("sslmode", [os.environ.get("PGSSLMODE", "prefer")])[0]
    if mode != "verify-full":
        return [
            warning(f"{facts['tls_version']}, but the server's certificate is not verified (sslmode={mode})", remedy)
        ]
    return [ok(f"{facts['tls_version']}, certificate and name are verified")]


async def check_database_clock(
    database: Database, now: Callable[[], datetime], thresholds: Thresholds
) -> list[Finding]:
    """How far the database's clock is from ours, beyond the uncertainty of the round trip."""
    async with database.pool.acquire() as connection:
        await database.queries.get_clock(connection)
        before = now()
        theirs = (await database.queries.get_clock(connection))["now"]
        after = now()
    return [judge_clock("The database's clock", theirs, before, after, 0.0, thresholds)]


def judge_clock(
    whose: str, theirs: datetime, before: datetime, after: datetime, resolution_seconds: float, thresholds: Thresholds
) -> Finding:
    """The finding of a clock that showed ``theirs`` between ``before`` and ``after``, truncated to that resolution."""
    offset = (theirs - before).total_seconds() + resolution_seconds / 2 - (after - before).total_seconds() / 2
    blur = (after - before).total_seconds() / 2 + resolution_seconds / 2
    certain = max(0.0, abs(offset) - blur)
    message = f"{whose} is {show_seconds(abs(offset))} {'ahead of' if offset > 0 else 'behind'} ours"
    if certain <= thresholds.clock_seconds[0]:
        message = f"{whose} agrees with ours, within {show_seconds(max(certain, blur))}"
    return judge(certain, thresholds.clock_seconds, message, CLOCK_REMEDY)


def _judge_duration(what: str, seconds: float, limits: tuple[float, float], remedy: str) -> Finding:
    return judge(seconds, limits, f"{what} takes {show_seconds(seconds)}", remedy)


async def _measure(do: Callable[[], Awaitable[object]]) -> float:
    """Seconds that it takes: the median of ``SAMPLES``, after one warm-up."""
    await do()
    taken = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        await do()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[SAMPLES // 2]
