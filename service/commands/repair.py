"""``outcomes repair``: what older versions stored as it came, made plausible."""

import click

from service.commands.starting import run_on_database, start
from service.settings import Settings
from service.store.database import Database
from service.webhooks.decoding import open_decoder
from service.webhooks.repair import Repairer


@click.command()
def repair() -> None:
    """Remove times and numbers that cannot be true from what older versions stored, beside webhooks.

    The service does this itself when it starts; run this after a restore, before `outcomes verify`. It can be
    stopped at any time and continues where it was.
    """
    settings = start()
    corrected = run_on_database(settings, lambda database: _repair(settings, database))
    click.echo(f"{corrected:,} rows corrected" if corrected else "Nothing to repair")


async def _repair(settings: Settings, database: Database) -> int:
    return await Repairer(database, await open_decoder(database, settings.ref_column)).repair()
