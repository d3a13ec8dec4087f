"""``outcomes repair``: corrects implausible values of older versions, and adds what they did not keep of calls."""

import click

from service.commands.startup import read_targets, run_on_database, start
from service.counts import count
from service.settings import Settings
from service.store.database import Database
from service.webhooks.decoding import open_decoder
from service.webhooks.repair import Repairer


def repair() -> None:
    """Corrects what older versions stored; prints the number of rows."""
    settings = start()
    corrected = run_on_database(settings, lambda database: _repair(settings, database))
    click.echo(f"{count(corrected, 'row')} corrected" if corrected else "Nothing to repair")


async def _repair(settings: Settings, database: Database) -> int:
    _, regions = read_targets(settings)
    return await Repairer(database, await open_decoder(database, settings.ref_column, regions)).repair()
