"""``outcomes reattribute``: moves the events that belong elsewhere."""

from contextlib import closing

from rich.console import Console

from service.commands.discrepancies import LISTED, make_table
from service.commands.rows import show_rows
from service.commands.startup import read_targets, run_on_database, start
from service.counts import count
from service.formant.targets import load_kinds, load_opt_outs
from service.settings import Settings
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.phone_repair import PhoneRepair
from service.webhooks.decoding import open_decoder
from service.webhooks.reattribution import Reattributor
from service.webhooks.repair import Repairer
from service.webhooks.writer import Writer


def reattribute() -> None:
    """Moves the events that belong elsewhere, and prints them."""
    settings = start()
    run_on_database(settings, lambda database: _reattribute(settings, database))


async def _reattribute(settings: Settings, database: Database) -> None:
    targets, regions = read_targets(settings)
    writer = Writer(database.url, database.queries, Metrics(), load_opt_outs(settings.targets_file))
    with closing(writer), show_rows("Attributed") as report:
        decoder = await open_decoder(database, settings.ref_column, regions, load_kinds(settings.targets_file, regions))
        # Attribution depends on times and phones, so those are repaired first.
        await Repairer(database, decoder).repair()
        await PhoneRepair(database, regions).finish()
        worker = Reattributor(database, targets, decoder, writer, report, regions=regions)
        findings = [finding async for finding in worker.reattribute()]
    console = Console()
    if findings:
        console.print(make_table(findings[:LISTED], "was", "is now"))
    console.print(
        f"{count(len(findings), 'event')} moved" + (f", the first {LISTED} are shown" if len(findings) > LISTED else "")
    )
