"""``outcomes migrate``: brings the database's schema up to this version."""

import click
import uvloop

from service.app import prepare_schema
from service.commands.startup import open_database_url, start
from service.store.embedded import find_embedded_postgres


def migrate() -> None:
    """Brings the schema up to this version, in an embedded Postgres that it creates if there is none."""
    settings = start()
    is_new = not settings.database_url and find_embedded_postgres(settings.data_dir) is None
    with open_database_url(settings, may_create=True) as url:
        if is_new:
            click.echo(f"Made an embedded Postgres in {settings.data_dir.expanduser().absolute()}.")
        uvloop.run(prepare_schema(url, may_migrate=True))
    click.echo("The schema is up to date.")
