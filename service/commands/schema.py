"""``outcomes migrate``, ``grant-service`` and ``restart-feed``: what the owner of the schema does."""

import asyncpg
import click
import uvloop

from service.access.audit import record_audit
from service.app import prepare_schema
from service.commands.startup import open_database_url, run_on_database, start
from service.errors import ConfigurationError, DatabaseError
from service.store.database import Database


def migrate() -> None:
    """Brings the schema up to this version, in an embedded Postgres that it creates if there is none."""
    settings = start()
    with open_database_url(settings, may_create=True) as url:
        uvloop.run(prepare_schema(url, may_migrate=True))
    click.echo("The schema is up to date.")


def grant_service(role: str) -> None:
    """Grants ``role`` the rights that running the service needs."""
    settings = start()
    run_on_database(settings, lambda database: _grant(database, role))
    click.echo(f"{role} may run the service.")


async def _grant(database: Database, role: str) -> None:
    try:
        await database.queries.grant_service(database.pool, role=role)
    except asyncpg.UndefinedObjectError as error:
        raise ConfigurationError(f"There is no role {role!r}: create it first, with CREATE ROLE … LOGIN") from error


def restart_feed() -> None:
    """Starts a timeline of the feed beyond all positions that were ever read."""
    previous_end, first_position = run_on_database(start(), _restart)
    click.echo(f"The feed ended at {previous_end} and continues at {first_position}.")


async def _restart(database: Database) -> tuple[int, int]:
    async with database.pool.acquire() as connection, connection.transaction():
        try:
            opened = await database.queries.open_feed_timeline(connection, reason="restored", is_cut_off=True)
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseError(
                "The role of OUTCOMES_DATABASE_URL may not do this: run it as the owner of the schema"
            ) from error
        await record_audit(
            database, connection, "feed restart", "feed", "restarted",
            previous_end=opened["previous_end"], first_position=opened["first_position"],
        )  # fmt: skip
    return opened["previous_end"], opened["first_position"]
