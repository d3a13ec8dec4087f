"""``outcomes migrate`` and ``outcomes grant-service``: what the owner of the database does before the service runs."""

import asyncpg
import click
import uvloop

from service.app import prepare_schema
from service.commands.startup import open_database_url, run_on_database, start
from service.errors import ConfigurationError
from service.store.database import Database


def migrate() -> None:
    """Brings the schema up to this version, in an embedded Postgres that it makes if there is none."""
    settings = start()
    with open_database_url(settings, may_create=True) as url:
        uvloop.run(prepare_schema(url, may_migrate=True))
    click.echo("The schema is up to date.")


def grant_service(role: str) -> None:
    """Grants ``role`` what running the service takes."""
    settings = start()
    run_on_database(settings, lambda database: _grant(database, role))
    click.echo(f"{role} may run the service.")


async def _grant(database: Database, role: str) -> None:
    try:
        await database.queries.grant_service(database.pool, role=role)
    except asyncpg.UndefinedObjectError as error:
        raise ConfigurationError(f"There is no role {role!r}: make it first, with CREATE ROLE … LOGIN") from error
