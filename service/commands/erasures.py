"""``outcomes erasures``: the list of who was erased, to be kept outside the database for the day it is restored."""

from pathlib import Path

import click
import uvloop

from service.app import prepare_schema
from service.commands.startup import open_database_url, read_targets, run_on_database, start
from service.privacy.tombstones import Tombstones
from service.store.database import Database, open_database

HASHING_SECONDS = 6 * 3600.0


def list_erasures() -> None:
    """Prints who was erased, as keyed hashes."""
    run_on_database(start(), _print)


async def _print(database: Database) -> None:
    async for line in Tombstones(database).list():
        click.echo(line)


def repeat(file: Path) -> None:
    """Erases again whom the list in ``file`` names."""
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
