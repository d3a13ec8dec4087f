"""``outcomes erasures``: the list of erasures, to keep and to repeat after a restore."""

from pathlib import Path

import click

from service.commands.startup import read_targets, run_on_database, start
from service.counts import count
from service.privacy.tombstones import Tombstones
from service.store.database import Database

HASHING_SECONDS = 6 * 3600.0


def list_erasures() -> None:
    """Prints who was erased, as keyed hashes."""

    async def print_lines(database: Database) -> None:
        async for line in Tombstones(database).list():
            click.echo(line)

    run_on_database(start(), print_lines)


def repeat(file: Path) -> None:
    """Erases again everyone on the list in ``file``."""
    settings = start()
    lines = file.read_text().splitlines()
    _, regions = read_targets(settings)
    erased = run_on_database(
        settings, lambda database: Tombstones(database, regions).repeat(lines), statement_seconds=HASHING_SECONDS
    )
    click.echo(f"{count(erased, 'person', 'people')} erased again.")
