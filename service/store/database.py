"""The database: a pool of connections, the named queries of ``sql/queries``, and checks of its durability settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import aiosql
import asyncpg
import structlog

from service.errors import DatabaseError
from service.settings import Settings
from service.store.database_url import SESSION, read_database_url
from service.store.hosts import connect_to_any

logger = structlog.get_logger()

Connection: TypeAlias = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

POOL_CONNECTIONS = 10
WRITERS = 3
"""The most connections for webhooks, replays and healing."""
HEALTH_CONNECTIONS = 1
SPILL_CONNECTIONS = 3
"""For what is drained, the replica's row, and the probe."""
STATEMENT_SECONDS = 30.0
"""A silent network never reports a failure: after this time a statement counts as lost."""
COPY_SECONDS = 600.0
"""The same for the rows of a whole file."""
UNSAFE_SETTINGS = {
    "fsync": "a crash of the machine loses what was acknowledged, or all of it",
    "synchronous_commit": "a crash of Postgres loses what it acknowledged last",
    "full_page_writes": "a crash of the machine can damage pages beyond repair",
}


def find_sql_folder() -> Path:
    """The folder of ``migrations``, ``functions`` and ``queries``: in the package of an installed wheel, else beside
    it."""
    package = Path(__file__).parent.parent
    inside = package / "sql"
    return inside if inside.is_dir() else package.parent / "sql"


@cache
def load_queries() -> Any:
    """The named queries: each is a method named after the query, which takes a connection and the parameters."""
    return aiosql.from_path(find_sql_folder() / "queries", "asyncpg")


class _Connection(asyncpg.Connection):
    """Keeps its address, so that another connection to the same database can be opened."""

    url: str


async def connect(
    url: str, *, statement_seconds: float | None = STATEMENT_SECONDS, application_name: str = "outcomes"
) -> asyncpg.Connection:
    """One connection with the service's settings. ``url`` may name several hosts: the one that takes writes is chosen.
    Operators see it in ``pg_stat_activity`` as ``application_name``.

    A statement that takes longer than ``statement_seconds`` raises TimeoutError; None: no limit.
    """
    connection = await connect_to_any(
        **_make_options(url, application_name), command_timeout=statement_seconds, connection_class=_Connection
    )
    assert isinstance(connection, _Connection)
    connection.url = url
    return connection


async def connect_beside(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Another connection to the database of one from ``connect``, without a limit for its statements."""
    assert isinstance(connection, _Connection)
    return await connect(connection.url, statement_seconds=None)


class Database:
    """Connections for everything but the hot path, which has its own (``connect``)."""

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
    """Opens the pool; raises DatabaseError with the remedy when the server's settings are not durable."""
    pool = await asyncpg.create_pool(
        connect=_connect_pooled,
        **_make_options(url),
        min_size=1,
        max_size=POOL_CONNECTIONS,
        command_timeout=statement_seconds,
        init=note_server,
        reset=_keep_session,
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
    """A pool for a server that may be unsafe or absent: it connects with the first statement."""
    options = _make_options(url, application_name)
    pool = await asyncpg.create_pool(
        connect=_connect_pooled,
        **options,
        min_size=0,
        max_size=connections,
        command_timeout=statement_seconds,
        reset=_keep_session,
    )
    try:
        yield Database(url, pool, load_queries())
    finally:
        pool.terminate()


async def _keep_session(connection: asyncpg.Connection) -> None:
    """Nothing here changes a session beyond its transaction, so a connection returns to the pool without a round trip.
    The pool itself ends a transaction that is still open."""


async def note_server(connection: Connection) -> None:
    """Every connection of the service calls this first. When the data are now on another server, the feed continues
    beyond everything that readers may have seen (``sql/functions/50_feed_timelines.sql``)."""
    try:
        reason = await load_queries().note_server(connection)
    except asyncpg.UndefinedFunctionError:
        return  # there is no schema yet
    if reason is not None:
        logger.warning("feed_timeline_opened", reason=reason)


async def check_server(connection: Connection, *, allow_unsafe: bool) -> None:
    """Raises DatabaseError for a server that may lose confirmed commits."""
    for setting, harm in UNSAFE_SETTINGS.items():
        if await connection.fetchval("SELECT current_setting($1)", setting) != "off":
            continue
        if not allow_unsafe:
            raise DatabaseError(
                f"The database has {setting} off: {harm}. Set {setting} = on (for this role, database or server), "
                f"or OUTCOMES_ALLOW_UNSAFE_DATABASE=1 to accept the loss"
            )
        logger.warning("database_unsafe", setting=setting)


async def _connect_pooled(dsn: str | None = None, **options: Any) -> asyncpg.Connection:
    """What a pool calls to connect; the addresses are among the options."""
    return await connect_to_any(**options)


def _make_options(url: str, application_name: str = "outcomes") -> dict[str, Any]:
    """Options of every connection of the service."""
    address = read_database_url(url)
    return {
        "hosts": address.hosts,
        "timeout": address.connect_seconds,
        "target_session_attrs": "read-write",
        "server_settings": SESSION | {"application_name": application_name},
    }


def count_connections(settings: Settings) -> int:
    """The most database connections that one replica opens."""
    spill = SPILL_CONNECTIONS if settings.spill_url else 0
    return POOL_CONNECTIONS + WRITERS + HEALTH_CONNECTIONS + spill + settings.max_exports
