"""Migrations: plain SQL in dbmate's file format and in dbmate's table, so that anyone can change to dbmate.

Beyond dbmate, a checksum is kept with each, functions and views are applied anew when their text changes, and a schema
that is ahead of this version is refused. All of it happens under one advisory lock: replicas that start together take
turns.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import structlog

from service.errors import DatabaseError
from service.store.database import Connection, load_queries
from service.store.sql_files import find_sql_folder

logger = structlog.get_logger()


class SqlFile(NamedTuple):
    """A migration (its part after ``-- migrate:up``), a function, or a view for BI tools (``bi/…``)."""

    name: str
    text: str
    checksum: str


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
        _, marker, rest = text.partition("-- migrate:up\n")
        if not marker:
            raise DatabaseError(f"{path.name} has no line '-- migrate:up'")
        files.append(SqlFile(path.stem, rest.partition("-- migrate:down")[0], _checksum(text)))
    return files


def read_functions(folder: Path | None = None) -> list[SqlFile]:
    """The functions, then the views of ``sql/bi`` (``bi/…``), in the order in which they build on each other."""
    folder = folder or find_sql_folder()
    views = "".join(path.read_text() for path in sorted(folder.glob("bi/*.sql")))
    return [
        *(_read(path, path.stem, path.read_text()) for path in sorted(folder.glob("functions/*.sql"))),
        # Views build on each other and share their comments: when one changes, all are applied.
        *(_read(path, f"bi/{path.stem}", views) for path in sorted(folder.glob("bi/*.sql"))),
    ]


async def migrate(connection: asyncpg.Connection) -> SchemaState:
    """Brings the schema up to this version; returns what was applied. Raises DatabaseError when it is ahead."""
    async with _lock(connection):
        await load_queries().create_schema_tables(connection)
        state = await find_state(connection)
        for file in state.migrations:
            async with connection.transaction():
                await connection.execute(file.text)
                await load_queries().record_migration(connection, version=_version(file), checksum=file.checksum)
            logger.info("migration_applied", migration=file.name)
        if state.functions:
            async with connection.transaction():
                for file in state.functions:
                    await connection.execute(file.text)
                    await load_queries().record_function(connection, name=file.name, checksum=file.checksum)
                await load_queries().backfill_counters(connection)
                await load_queries().grant_bi_reading(connection)
            logger.info("functions_applied", count=len(state.functions))
        await load_queries().create_body_partitions(connection)
    return state


async def check_schema(connection: Connection) -> None:
    """Raises DatabaseError, with the remedy, when the schema is behind or ahead of this version."""
    if not await load_queries().has_schema_tables(connection):
        raise DatabaseError("The database has no schema yet: run `outcomes migrate`")
    state = await find_state(connection)
    if not state.is_current:
        missing = ", ".join(file.name for file in (*state.migrations, *state.functions))
        raise DatabaseError(f"The schema is behind this version ({missing}): run `outcomes migrate`")


async def find_state(connection: Connection) -> SchemaState:
    """What the database lacks; raises DatabaseError when it is ahead, or a migration was edited after it ran."""
    queries = load_queries()
    files = {_version(file): file for file in read_migrations()}
    applied = {row["version"]: row["checksum"] async for row in queries.list_migrations(connection)}
    ahead = sorted(applied.keys() - files.keys())
    if ahead:
        raise DatabaseError(
            f"The schema is ahead of this version of the service (it has {', '.join(ahead)}): "
            f"run the newer version, or restore the backup made before it"
        )
    for version, checksum in applied.items():
        if checksum not in {None, files[version].checksum}:
            raise DatabaseError(
                f"{files[version].name} was changed after it was applied: restore the file, "
                "and put the change into a new migration"
            )
    functions = {row["name"]: row["checksum"] async for row in queries.list_functions(connection)}
    return SchemaState(
        [file for version, file in files.items() if version not in applied],
        [file for file in read_functions() if functions.get(file.name) != file.checksum],
    )


@asynccontextmanager
async def _lock(connection: asyncpg.Connection) -> AsyncIterator[None]:
    await load_queries().lock_migrations(connection)
    try:
        yield
    finally:
        if not connection.is_closed():
            await load_queries().unlock_migrations(connection)


def _read(path: Path, name: str, checked: str) -> SqlFile:
    return SqlFile(name, path.read_text(), _checksum(checked))


def _version(file: SqlFile) -> str:
    return file.name.partition("_")[0]


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
