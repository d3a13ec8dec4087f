"""``outcomes migrate`` and ``outcomes grant-service``: what the owner of the database does before the service runs."""

import asyncpg
import click
import uvloop

from service.app import prepare_schema
from service.commands.starting import open_database_url, run_on_database, start
from service.errors import ConfigurationError
from service.store.database import Database


@click.command()
def migrate() -> None:
    """Bring the database's schema up to this version (serve does so too, unless told not to)."""
    settings = start()
    with open_database_url(settings) as url:
        uvloop.run(prepare_schema(url, may_migrate=True))
    click.echo("The schema is up to date.")


@click.command("grant-service")
@click.argument("role")
def grant_service(role: str) -> None:
    """Give a database role what running the service takes: no DDL, no TRUNCATE, no change of the audit log.

    Run it as the owner that migrates; the service then runs as ROLE with OUTCOMES_MIGRATE_ON_START=0.
    """
    settings = start()
    run_on_database(settings, lambda database: _grant(database, role))
    click.echo(f"{role} may run the service.")


async def _grant(database: Database, role: str) -> None:
    try:
        await database.queries.grant_service(database.pool, role=role)
    except asyncpg.UndefinedObjectError as error:
        raise ConfigurationError(f"There is no role {role!r}: make it first, with CREATE ROLE … LOGIN") from error
