"""``outcomes repair``: corrects implausible values that older versions stored."""

import click

from service.commands.startup import run_on_database, start
from service.counts import count
from service.settings import Settings
from service.store.database import Database
from service.webhooks.decoding import open_decoder
from service.webhooks.repair import Repairer


def repair() -> None:
    """Corrects implausible values that older versions stored; prints the number of rows."""
    settings = start()
    corrected = run_on_database(settings, lambda database: _repair(settings, database))
    click.echo(f"{count(corrected, 'row')} corrected" if corrected else "Nothing to repair")


async def _repair(settings: Settings, database: Database) -> int:
    return await Repairer(database, await open_decoder(database, settings.ref_column)).repair()
