"""Migrations: plain SQL in dbmate's file format and in dbmate's table, so that you can change to dbmate.

Beyond dbmate, each has a checksum. Functions and views are applied again when their text changes, but never by an older
version than the one that applied them last. A schema ahead of this version is refused, unless its newer migrations are
compatible with this version (``-- compatible-from: 0013``), so that the previous version may start during an upgrade.
Meanwhile another session holds the lock of ``migrations_lock``, so that replicas that start together take turns.

No migration blocks others for long: it waits a second for a table lock, behind which others queue, then lets them pass
and tries again.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import asyncpg
import stamina
import structlog

from service.errors import DatabaseError
from service.store.database import Connection, connect_beside, find_sql_folder, load_queries
from service.store.preconditions import check_rights

logger = structlog.get_logger()

PACKAGE = "formant-outcomes"
LOCK_TIMEOUT = "1s"
TURN_SECONDS = 0.1
"""Between two attempts to take the migrators' lock."""
LOCK_WAIT = timedelta(seconds=10)
LOCK_SECONDS = 300.0
"""How long a migration that cannot acquire a lock is tried again."""
UP = re.compile(r"^-- migrate:up(?P<alone> transaction:false)?$\n", re.MULTILINE)
COMPATIBLE_FROM = re.compile(r"^-- compatible-from: (\d{4})$", re.MULTILINE)


class SqlFile(NamedTuple):
    """A migration (its part after ``-- migrate:up``), a function, or a view for BI tools (``bi/…``)."""

    name: str
    text: str
    checksum: str
    is_alone: bool = False
    """It is one statement that takes no transaction, such as CREATE INDEX CONCURRENTLY."""
    compatible_from: str | None = None
    """The oldest migration whose version is compatible with this one; None: only versions that have this file."""


class SchemaState(NamedTuple):
    """What the database lacks of this version."""

    migrations: list[SqlFile]
    functions: list[SqlFile]

    @property
    def is_current(self) -> bool:
        return not self.migrations and not self.functions


def read_migrations(folder: Path | None = None) -> list[SqlFile]:
    """The migrations in their order. Raises DatabaseError for a file without ``-- migrate:up``."""
    files = []
    for path in sorted((folder or find_sql_folder() / "migrations").glob("*.sql")):
        text = path.read_text()
        marker = UP.search(text)
        if marker is None:
            raise DatabaseError(f"{path.name} has no line '-- migrate:up'")
        compatible = COMPATIBLE_FROM.search(text, 0, marker.start())
        files.append(
            SqlFile(
                path.stem,
                text[marker.end() :].partition("-- migrate:down")[0],
                _checksum(text),
                is_alone=marker["alone"] is not None,
                compatible_from=compatible[1] if compatible else None,
            )
        )
    return files


def read_functions() -> list[SqlFile]:
    """The functions, then the views of ``sql/bi`` (``bi/…``), in the order in which they build on each other."""
    folder = find_sql_folder()
    functions = {path.stem: path.read_text() for path in sorted(folder.glob("functions/*.sql"))}
    views = {f"bi/{path.stem}": path.read_text() for path in sorted(folder.glob("bi/*.sql"))}
    # Views build on each other and share their comments: when one changes, all are applied.
    of_views = _checksum("".join(views.values()))
    files = [SqlFile(name, text, _checksum(text)) for name, text in functions.items()]
    return files + [SqlFile(name, text, of_views) for name, text in views.items()]


async def migrate(connection: asyncpg.Connection, *, lock_seconds: float = LOCK_SECONDS) -> SchemaState:
    """Brings the schema up to this version; returns what was applied. Raises DatabaseError when it is ahead of what
    this version is compatible with, or when a lock was not available for ``lock_seconds``."""
    queries = load_queries()
    async with _lock(connection):
        if not await queries.has_schema_tables(connection):
            await check_rights(connection)
            await _retry("the records of migrations", lock_seconds, partial(_create_records, connection))
        state = await find_state(connection)
        if not state.is_current:
            await check_rights(connection)
        for file in state.migrations:
            apply = _apply_alone if file.is_alone else _apply
            await _retry(file.name, lock_seconds, partial(apply, connection, file))
            logger.info("migration_applied", migration=file.name)
        if state.functions:
            await _retry("functions and views", lock_seconds, partial(_apply_functions, connection, state.functions))
            logger.info("functions_applied", count=len(state.functions))
        finish = partial(queries.finish_lock_change, connection, wait=LOCK_WAIT)
        await _retry("the ingest lock", lock_seconds, finish)
        await queries.create_body_partitions(connection)
    return state


async def _retry(what: str, lock_seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    """Retries ``do`` while another session holds a lock that it needs."""
    try:
        async for attempt in stamina.retry_context(
            on=(asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError),
            attempts=None, timeout=lock_seconds, wait_initial=0.5, wait_max=5.0,
        ):  # fmt: skip
            with attempt:
                if attempt.num > 1:
                    logger.warning("migration_waits_for_lock", migration=what, attempt=attempt.num)
                await do()
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
        raise DatabaseError(
            f"{what}: could not acquire a lock within {lock_seconds:.0f} s, and nothing of it was applied: end "
            "what holds it (pg_stat_activity, oldest xact_start first), and run `outcomes migrate` again"
        ) from error


async def _create_records(connection: asyncpg.Connection) -> None:
    async with _transaction(connection):
        await load_queries().create_schema_tables(connection)


async def _apply(connection: asyncpg.Connection, file: SqlFile) -> None:
    async with _transaction(connection):
        await connection.execute(file.text)
        await _record(connection, file)


async def _apply_alone(connection: asyncpg.Connection, file: SqlFile) -> None:
    """Builds an index concurrently, which blocks nobody, after dropping invalid ones that a failed build left."""
    for row in [row async for row in load_queries().list_invalid_indexes(connection)]:
        await connection.execute(row["statement"])
    await connection.execute(file.text)
    await _record(connection, file)


async def _apply_functions(connection: asyncpg.Connection, files: list[SqlFile]) -> None:
    async with _transaction(connection):
        for file in files:
            await connection.execute(file.text)
            await load_queries().record_function(
                connection, name=file.name, checksum=file.checksum, release=version(PACKAGE)
            )
        await load_queries().backfill_counters(connection)
        await load_queries().grant_bi_reading(connection)


async def _record(connection: asyncpg.Connection, file: SqlFile) -> None:
    await load_queries().record_migration(
        connection, version=_version(file), checksum=file.checksum, compatible_from=file.compatible_from
    )


@asynccontextmanager
async def _transaction(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction that waits only briefly for a lock, because later sessions queue behind it."""
    async with connection.transaction():
        await load_queries().set_lock_timeout(connection, timeout=LOCK_TIMEOUT)
        yield


async def check_schema(connection: Connection) -> None:
    """Raises DatabaseError, with the remedy, when the schema is behind or ahead of this version."""
    if not await load_queries().has_schema_tables(connection):
        raise DatabaseError("The database has no schema yet: run `outcomes migrate`")
    state = await find_state(connection)
    if not state.is_current:
        missing = ", ".join(file.name for file in (*state.migrations, *state.functions))
        raise DatabaseError(f"The schema is behind this version ({missing}): run `outcomes migrate`")
    if await load_queries().is_lock_change_unfinished(connection):
        raise DatabaseError("A migration was stopped before its last step (lock_ingest): run `outcomes migrate`")


async def find_state(connection: Connection) -> SchemaState:
    """What the database lacks; raises DatabaseError when it is ahead of what this version is compatible with, or when a
    migration was edited after it ran."""
    queries = load_queries()
    files = {_version(file): file for file in read_migrations()}
    applied = {row["version"]: row async for row in queries.list_migrations(connection)}
    for number, row in applied.items():
        if number in files and row["checksum"] not in {None, files[number].checksum}:
            raise DatabaseError(
                f"{files[number].name} was changed after it was applied: restore the file, "
                "and put the change into a new migration"
            )
    lacking = [file for number, file in files.items() if number not in applied]
    ahead = sorted(applied.keys() - files.keys())
    if ahead:
        own = max(files)
        if lacking or any(row["compatible_from"] is None or row["compatible_from"] > own
                          for row in (applied[number] for number in ahead)):  # fmt: skip
            raise DatabaseError(
                f"The schema is ahead of this version of the service (it has {', '.join(ahead)}): "
                f"run the newer version, or restore the backup made before it"
            )
        logger.warning("schema_ahead", migration=", ".join(ahead))
        return SchemaState([], [])  # the functions are the newer version's
    functions = [row async for row in queries.list_functions(connection)]
    checksums = {row["name"]: row["checksum"] for row in functions}
    changed = [file for file in read_functions() if checksums.get(file.name) != file.checksum]
    newest = max((_release(row["release"]) for row in functions if row["release"]), default=())
    if changed and newest > _release(version(PACKAGE)):
        logger.warning("functions_ahead", count=len(changed))
        changed = []
    return SchemaState(lacking, changed)


def _release(text: str) -> tuple[int, ...]:
    """A comparable version: ``0.10.1`` is later than ``0.9``."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


@asynccontextmanager
async def _lock(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Held by a transaction of another session, because a concurrent index build runs outside transactions."""
    queries = load_queries()
    holder = await connect_beside(connection)
    try:
        if not await queries.has_migrations_lock(holder):
            await check_rights(holder)
            with suppress(asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError):
                await queries.create_migrations_lock(holder)  # another migrator may have just created it
        await _take_turn(holder)
        yield
    finally:
        await holder.close()


async def _take_turn(holder: Connection) -> None:
    """Begins the transaction that holds the lock. It polls, because a session that waits in LOCK holds a snapshot, and
    another migrator's concurrent index build would wait for that."""
    queries = load_queries()
    while True:
        turn = holder.transaction(isolation="read_committed")
        await turn.start()
        try:
            await queries.lock_migrations(holder)
        except asyncpg.LockNotAvailableError:
            await turn.rollback()
            await asyncio.sleep(TURN_SECONDS)
        else:
            await queries.stay_idle(holder)
            return


def _version(file: SqlFile) -> str:
    return file.name.partition("_")[0]


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
