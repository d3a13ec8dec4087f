"""``outcomes replay``: processes quarantined webhooks again."""

import sys
from contextlib import closing

import click

from service.commands.startup import read_targets, run_on_database, start
from service.formant.targets import load_kinds, load_opt_outs
from service.settings import Settings
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.decoding import open_decoder
from service.webhooks.quarantine import Replayer
from service.webhooks.writer import Writer


def replay(quarantine_id: int | None) -> None:
    """Processes one quarantined body again, or all; exits with 1 when one still cannot be used."""
    settings = start()
    failed = run_on_database(settings, lambda database: _replay(settings, database, quarantine_id))
    sys.exit(1 if failed else 0)


async def _replay(settings: Settings, database: Database, quarantine_id: int | None) -> int:
    # Replaying verifies no signature, so it needs no secrets, but it needs the targets' agents.
    targets, regions = read_targets(settings)
    decoder = await open_decoder(database, settings.ref_column, regions, load_kinds(settings.targets_file, regions))
    opt_outs = load_opt_outs(settings.targets_file)
    with closing(Writer(database.url, database.queries, Metrics(), opt_outs)) as writer:
        replayer = Replayer(database, targets, decoder, writer, max_body_bytes=settings.max_body_bytes)
        if quarantine_id is not None:
            return _print_replayed(quarantine_id, await replayer.replay(quarantine_id))
        failed = [_print_replayed(*replayed) async for replayed in replayer.replay_all()]
    if not failed:
        click.echo("Nothing is in quarantine.")
    return sum(failed)


def _print_replayed(quarantine_id: int, event_id: str | None) -> int:
    click.echo(f"{quarantine_id}: {'still cannot be used, stays' if event_id is None else f'is event {event_id}'}")
    return event_id is None
