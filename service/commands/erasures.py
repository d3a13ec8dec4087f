"""``outcomes erasures``: the list of who was erased, to be kept outside the database for the day it is restored."""

from pathlib import Path

import click
import uvloop

from service.app import prepare_schema
from service.commands.starting import open_database_url, read_targets, run_on_database, start
from service.privacy.tombstones import Tombstones
from service.store.database import Database, open_database

HASHING_SECONDS = 6 * 3600.0


@click.group()
def erasures() -> None:
    """Who was erased, as keyed hashes: a list to keep, and to erase by again after a restore."""


@erasures.command("list")
def list_erasures() -> None:
    """Print the list of who was erased. Keep a copy outside the database, as recent as your promises to people are."""
    run_on_database(start(), _print)


async def _print(database: Database) -> None:
    async for line in Tombstones(database).list():
        click.echo(line)


@erasures.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def repeat(file: Path) -> None:
    """Erase again whom a restored backup has brought back, by a list that was made after it.

    Every phone is hashed and compared, so it may take minutes; run it before the service.
    """
    settings = start()
    lines = file.read_text().splitlines()
    _, regions = read_targets(settings)

    async def run(url: str) -> int:
        await prepare_schema(url, may_migrate=False)
        async with open_database(
            url, allow_unsafe=settings.allow_unsafe_database, statement_seconds=HASHING_SECONDS
        ) as database:
            return await Tombstones(database, regions).repeat(lines)

    with open_database_url(settings) as url:
        count = uvloop.run(run(url))
    click.echo(f"{count} erased again.")
