"""What the service requires of a database, checked before the first table is created."""

import re

import asyncpg
import structlog

from service.errors import ConfigurationError, DatabaseError, OutcomesError
from service.store.database import Connection, connect, load_queries
from service.store.database_url import CHECKED, SESSION, read_database_url

logger = structlog.get_logger()

_ERRNO = re.compile(r"\[Errno -?\d+\] ")
OLDEST_VERSION = 150000
STATEMENTS_LOST = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
POOLER_REMEDY = "connect to Postgres itself, or with pool_mode = session: the service has its own pool"
UNUSABLE = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.PostgresSyntaxError,
)
"""How Postgres refuses ``options``."""


async def open_checked(url: str) -> asyncpg.Connection:
    """A connection without a limit for its statements, to a database that passed the checks. Raises ConfigurationError
    or DatabaseError with the remedy; no message quotes the address, which contains a password."""
    if ignored := read_database_url(url).ignored:
        reason = "; ".join(f"{name}: {why}" for name, why in ignored.items())
        logger.warning("database_parameters_ignored", setting="OUTCOMES_DATABASE_URL", reason=reason)
    try:
        connection = await connect(url, statement_seconds=None)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as error:
        raise explain_failure(error) from error
    try:
        await _check_server(connection)
        await _check_pooler(connection, url)
        for message, remedy in await find_session_faults(connection):
            raise DatabaseError(f"{message}: {remedy}")
    except STATEMENTS_LOST as error:
        connection.terminate()
        raise DatabaseError(
            f"A pooler in transaction mode is in between (prepared statements get lost): {POOLER_REMEDY}"
        ) from error
    except BaseException:
        connection.terminate()
        raise
    return connection


def explain_failure(error: BaseException) -> OutcomesError:
    """Why no connection was opened."""
    if isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error):
        return DatabaseError(
            "A pooler refuses the settings that the service opens its sessions with: connect to Postgres itself, or "
            f"use session pooling with ignore_startup_parameters = {', '.join(SESSION)}"
        )
    if isinstance(error, asyncpg.UndefinedObjectError) and any(f'"{name}"' in str(error) for name in SESSION):
        return DatabaseError(_too_old("14 or older"))
    if isinstance(error, UNUSABLE):
        # Names a setting, or the value given for one; Postgres never quotes a password.
        return ConfigurationError(
            f"Postgres refuses options of OUTCOMES_DATABASE_URL ({_first_line(error)}): correct options, or remove it"
        )
    if isinstance(error, asyncpg.ClientConfigurationError) or (
        isinstance(error, ValueError) and not isinstance(error, OSError)
    ):
        return ConfigurationError(
            "OUTCOMES_DATABASE_URL cannot be read: it takes postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with % for "
            "special characters"
        )
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return DatabaseError(
            "No host of OUTCOMES_DATABASE_URL takes writes (a standby, or default_transaction_read_only is on): name "
            "the one that does, or promote the standby"
        )
    # Messages of the driver may quote the address; those of the system and the server do not.
    reason = _ERRNO.sub("", _first_line(error)) if isinstance(error, (OSError, asyncpg.PostgresError)) else ""
    return DatabaseError(
        f"The database does not answer ({reason or type(error).__name__}): "
        "check OUTCOMES_DATABASE_URL, and that Postgres runs"
    )


async def find_pooler(first: Connection, second: Connection) -> str | None:
    """The evidence that two sessions share their servers, as behind a pooler in transaction mode; None: they do not.

    A pooler assigns each statement the most or the least recently used server: the transaction reveals the former, two
    consecutive statements the latter.
    """
    queries = load_queries()
    try:
        before = [(await queries.get_clock(first))["pid"] for _ in range(2)]
        async with second.transaction():
            other = (await queries.get_clock(second))["pid"]
    except STATEMENTS_LOST:
        return "prepared statements get lost"
    except (asyncpg.ProtocolViolationError, asyncpg.ConnectionDoesNotExistError) as error:
        if not isinstance(error.__cause__ or error, asyncpg.ProtocolViolationError):
            raise
        return "transactions are refused"
    return "one session has two servers" if before[0] != before[1] or other in before else None


async def check_rights(connection: Connection) -> None:
    """Raises DatabaseError if our role may not create the schema, before the first table is created."""
    if missing := await load_queries().list_missing_create_rights(connection):
        raise DatabaseError(
            "The role of OUTCOMES_DATABASE_URL may not create the schema: as the database's owner, run "
            + "; ".join(missing)
        )


async def _check_server(connection: Connection) -> None:
    version = int(await connection.fetchval("SHOW server_version_num"))
    if version < OLDEST_VERSION:
        raise DatabaseError(_too_old(str(version // 10000)))
    encoding = (await load_queries().get_database_facts(connection))["encoding"]
    if encoding != "UTF8":
        raise DatabaseError(
            f"The database's encoding is {encoding}, which lacks letters of people's names: create one with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and use that"
        )


async def find_session_faults(connection: Connection) -> list[tuple[str, str]]:
    """Settings that differ from what the service asked for, each as message and remedy.

    Checks the values after RESET ALL, which the pool runs too: a pooler's own SET would not survive it.
    """
    await connection.reset()
    wanted = SESSION | {name: value for name, (value, _) in CHECKED.items()}
    rows = load_queries().list_server_settings(connection, names=list(wanted))
    different = {row["name"]: row["setting"] async for row in rows if row["setting"] != wanted[row["name"]]}
    faults = [
        (
            f"The database has {name} = {different[name]}, and {harm}",
            f"set {name} = {value} (for this role, database or server)",
        )
        for name, (value, harm) in CHECKED.items()
        if name in different
    ]
    commands = [
        f"ALTER ROLE … SET {name} = {value if name == 'search_path' else repr(value)}"
        for name, value in SESSION.items()
        if name in different
    ]
    if commands:
        message = "A pooler drops the settings that the service opens its sessions with"
        faults.append((message, f"connect to Postgres itself, or run {'; '.join(commands)} and restart it"))
    return faults


async def _check_pooler(connection: Connection, url: str) -> None:
    """Refuses a pooler that shares servers. Without a free second connection this cannot be checked."""
    try:
        second = await connect(url)
    except asyncpg.TooManyConnectionsError:
        return
    except (OSError, asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched) as error:
        raise explain_failure(error) from error
    try:
        found = await find_pooler(connection, second)
    finally:
        second.terminate()
    if found is not None:
        raise DatabaseError(f"A pooler in transaction mode is in between ({found}): {POOLER_REMEDY}")


def _too_old(version: str) -> str:
    return f"Postgres {version} is too old: this service needs 15 or newer"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
