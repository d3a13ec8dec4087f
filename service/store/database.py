"""The database: a pool of connections, the named queries of ``sql/queries``, and the checks that it can be trusted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, TypeAlias

import aiosql
import asyncpg
import structlog

from service.errors import DatabaseError
from service.store.database_url import read_database_url
from service.store.session import SESSION
from service.store.sql_files import find_sql_folder

logger = structlog.get_logger()

Connection: TypeAlias = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

POOL_CONNECTIONS = 10
STATEMENT_SECONDS = 30.0
"""A network that has gone silent tells nothing, for ever: past this a statement is taken for lost."""
COPY_SECONDS = 600.0
"""The same for the rows of a whole file."""
UNSAFE_SETTINGS = {
    "fsync": "a crash of the machine loses what was acknowledged, or all of it",
    "synchronous_commit": "a crash of Postgres loses what was acknowledged in the last moments",
    "full_page_writes": "a crash of the machine can damage pages beyond repair",
}


@cache
def load_queries() -> Any:
    """The named queries: each is a method that bears the query's name and takes a connection and its parameters."""
    return aiosql.from_path(find_sql_folder() / "queries", "asyncpg")


class _Connection(asyncpg.Connection):
    """Knows its address, so that another can be opened beside it."""

    url: str


async def connect(
    url: str, *, statement_seconds: float | None = STATEMENT_SECONDS, application_name: str = "outcomes"
) -> asyncpg.Connection:
    """One connection as the service uses them. ``url`` may name several hosts: the one that takes writes is chosen.
    ``application_name`` is what operators see it under in ``pg_stat_activity``.

    A statement that takes longer than ``statement_seconds`` raises TimeoutError; None: it may take as long as it likes.
    """
    connection = await asyncpg.connect(
        **_make_options(url, application_name), command_timeout=statement_seconds, connection_class=_Connection
    )
    assert isinstance(connection, _Connection)
    connection.url = url
    return connection


async def connect_beside(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Another connection to the database of one that ``connect`` opened; its statements have no time limit."""
    assert isinstance(connection, _Connection)
    return await connect(connection.url, statement_seconds=None)


class Database:
    """Connections for readers and for everything but the hot path, which keeps one of its own (``connect``)."""

    def __init__(self, url: str, pool: asyncpg.Pool, queries: Any) -> None:
        self.url = url
        self.pool = pool
        self.queries = queries

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection on which every query sees the same instant."""
        async with (
            self.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


@asynccontextmanager
async def open_database(
    url: str, *, allow_unsafe: bool, statement_seconds: float = STATEMENT_SECONDS
) -> AsyncIterator[Database]:
    """Opens the pool after the server was found safe; raises DatabaseError with the remedy when it is not."""
    pool = await asyncpg.create_pool(
        **_make_options(url),
        min_size=1,
        max_size=POOL_CONNECTIONS,
        command_timeout=statement_seconds,
        init=note_server,
    )
    try:
        async with pool.acquire() as connection:
            await check_server(connection, allow_unsafe=allow_unsafe)
        yield Database(url, pool, load_queries())
    finally:
        pool.terminate()


@asynccontextmanager
async def open_unchecked_database(
    url: str, *, connections: int, statement_seconds: float, application_name: str
) -> AsyncIterator[Database]:
    """The same of a server that nobody has found safe, nor even there: connects with the first statement."""
    options = _make_options(url, application_name)
    pool = await asyncpg.create_pool(**options, min_size=0, max_size=connections, command_timeout=statement_seconds)
    try:
        yield Database(url, pool, load_queries())
    finally:
        pool.terminate()


async def note_server(connection: Connection) -> None:
    """Each connection of the service asks this first: where the data have come to another server, the feed goes on
    beyond all that readers can have seen elsewhere (``sql/functions/50_feed_timelines.sql``)."""
    try:
        reason = await load_queries().note_server(connection)
    except asyncpg.UndefinedFunctionError:
        return  # the schema is not there yet, and so no feed
    if reason is not None:
        logger.warning("feed_timeline_opened", reason=reason)


async def check_server(connection: Connection, *, allow_unsafe: bool) -> None:
    """Refuses a server that may lose a commit it has confirmed."""
    for setting, harm in UNSAFE_SETTINGS.items():
        if await connection.fetchval("SELECT current_setting($1)", setting) != "off":
            continue
        if not allow_unsafe:
            raise DatabaseError(
                f"The database has {setting} off: {harm}. Set {setting} = on (for this role, database or server), "
                f"or OUTCOMES_ALLOW_UNSAFE_DATABASE=1 to accept the loss"
            )
        logger.warning("database_unsafe", setting=setting)


def _make_options(url: str, application_name: str = "outcomes") -> dict[str, Any]:
    """How every connection of the service is opened."""
    address = read_database_url(url)
    return {
        "dsn": address.url,
        "timeout": address.connect_seconds,
        "target_session_attrs": "read-write",
        "server_settings": SESSION | {"application_name": application_name},
    }
