"""``outcomes grant-service``: lets a database role run the service."""

import asyncpg
import click

from service.commands.startup import run_on_database, start
from service.errors import ConfigurationError
from service.store.database import Database


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
