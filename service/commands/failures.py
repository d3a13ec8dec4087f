"""How commands report failures: in one line, with the remedy. A database's detail of a row is never quoted."""

import asyncpg
import click
import httpx
import structlog

from service.certificates import describe_failure
from service.errors import OutcomesError
from service.store.preconditions import POOLER_REMEDY, STATEMENTS_LOST
from service.telemetry.logs import configure_logs

logger = structlog.get_logger()

_REMEDIES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (STATEMENTS_LOST, f"A pooler in transaction mode is in between (prepared statements get lost): {POOLER_REMEDY}"),
    (
        (asyncpg.InsufficientPrivilegeError,),
        "The role of OUTCOMES_DATABASE_URL may not do this ({error}): run it as the role that owns the tables, or have "
        "that role run `outcomes grant-service`",
    ),
    (
        (asyncpg.ReadOnlySQLTransactionError, asyncpg.TargetServerAttributeNotMatched),
        "The database takes no writes: name the server that does in OUTCOMES_DATABASE_URL",
    ),
    (
        (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError),
        "The schema does not fit this version ({error}): run `outcomes migrate`",
    ),
    (
        (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError),
        "Another session holds a lock that this takes: end it (see pg_stat_activity), and run this again",
    ),
    ((asyncpg.InsufficientResourcesError,), "The database has no room ({error}): make some, and run this again"),
    (
        (TimeoutError, asyncpg.QueryCanceledError),
        "The database took too long: see what keeps it busy (pg_stat_activity), and run this again",
    ),
    ((httpx.TransportError,), "No answer over HTTP ({cause}): check that the other side runs, and run this again"),
    ((UnicodeDecodeError,), "The file is not UTF-8: save it as UTF-8, and run this again"),
    (
        (ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError),
        "The database went away ({kind}): check that it runs, and run this again",
    ),
    ((OSError,), "The system refuses ({error}): correct that, and run this again"),
)
"""The first match counts. Quoted messages of the database name objects, never their content."""


def report(error: Exception) -> int:
    """Prints why a command failed; returns its exit status: 2 where the user can do something about it, else 1."""
    line = _explain(error)
    if line is None:
        if not structlog.is_configured():
            configure_logs("error", for_people=True)
        logger.error("command_failed", exc_info=error)
        return 1
    click.echo(f"outcomes: {' '.join(line.split())}", err=True)
    return 2


def _explain(error: Exception) -> str | None:
    """What failed and what to do; None for a fault of ours."""
    if isinstance(error, OutcomesError | click.ClickException):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror}): name another, or give it to this user"
    found = next((text for kinds, text in _REMEDIES if isinstance(error, kinds)), None)
    return found and found.format(
        error=getattr(error, "strerror", None) or error, kind=type(error).__name__, cause=describe_failure(error)
    )
