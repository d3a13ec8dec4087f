"""``outcomes migrate``: brings the database's schema up to this version."""

import click
import uvloop

from service.app import prepare_schema
from service.commands.startup import open_database_url, start


def migrate() -> None:
    """Brings the schema up to this version, in an embedded Postgres that it creates if there is none."""
    settings = start()
    with open_database_url(settings, may_create=True) as url:
        uvloop.run(prepare_schema(url, may_migrate=True))
    click.echo("The schema is up to date.")
