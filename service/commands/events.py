"""``outcomes verify`` and ``outcomes rebuild``: what is counted, against what it was counted from.

Progress is shown on standard error, findings on standard output.
"""

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.commands.startup import read_targets, run_on_database, start
from service.settings import Settings
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.phone_repair import PhoneRepair
from service.webhooks.decoding import open_decoder
from service.webhooks.reattribution import Reattributor
from service.webhooks.rebuilding import Rebuilder, Rebuilt
from service.webhooks.repair import Repairer
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Finding, Report, Verifier
from service.webhooks.writer import Writer

LISTED = 100


def verify(batch_id: int | None, *, as_json: bool) -> None:
    """Prints what differs between the facts and what was made from them; ends with 1 when something does."""
    settings = start()
    found = run_on_database(settings, lambda database: _verify(settings, database, batch_id, as_json))
    sys.exit(1 if found else 0)


async def _verify(settings: Settings, database: Database, batch_id: int | None, as_json: bool) -> int:
    with _show_rows("Verified") as tell:
        # Without any secret the signatures are counted as unchecked, and all else is verified.
        targets, regions = read_targets(settings)
        bodies = BodyCheck(targets)
        decoder = await open_decoder(database, settings.ref_column, regions)
        verifier = Verifier(database, decoder, bodies, tell)
        return await _tell_findings(verifier.verify(batch_id), bodies, as_json=as_json)


def rebuild(batch_id: int | None) -> None:
    """Makes outcomes and counters again from the facts."""
    run_on_database(start(), lambda database: _rebuild(database, batch_id))


async def _rebuild(database: Database, batch_id: int | None) -> None:
    with _show_rows("Rebuilt") as tell:
        await _tell_rebuilt(Rebuilder(database, tell).rebuild(batch_id))


def reattribute() -> None:
    """Moves the events that belong elsewhere, and prints them."""
    settings = start()
    run_on_database(settings, lambda database: _reattribute(settings, database))


async def _reattribute(settings: Settings, database: Database) -> None:
    targets, regions = read_targets(settings)
    writer = Writer(database.url, database.queries, Metrics())
    try:
        with _show_rows("Placed") as tell:
            decoder = await open_decoder(database, settings.ref_column, regions)
            # Times and phones as they are read now come first: places follow from them.
            await Repairer(database, decoder).repair()
            await PhoneRepair(database, regions).finish()
            worker = Reattributor(database, targets, decoder, writer, tell, regions=regions)
            findings = [finding async for finding in worker.reattribute()]
    finally:
        writer.close()
    console = Console()
    if findings:
        console.print(_make_table(findings[:LISTED], "was", "is now"))
    console.print(
        f"{len(findings):,} events moved" + (f", the first {LISTED} are shown" if len(findings) > LISTED else "")
    )


def _make_table(findings: list[Finding], stored: str, expected: str) -> Table:
    table = Table("upload", "what", "key", stored, expected)
    for finding in findings:
        table.add_row("" if finding.batch_key is None else str(finding.batch_key), *finding[1:5])
    return table


@contextmanager
def _show_rows(doing: str) -> Iterator[Report]:
    """Gives a function that counts rows looked at; tells at the end how many there were in a second."""
    console, began, total = Console(stderr=True), time.monotonic(), 0
    with Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(doing)

        def tell(rows: int) -> None:
            nonlocal total
            total += rows
            progress.update(task, description=f"{doing}: {total:,} rows")

        yield tell
    seconds = max(time.monotonic() - began, 1e-6)
    console.print(f"{doing}: {total:,} rows in {seconds:.1f} s, {total / seconds:,.0f} a second", highlight=False)


async def _tell_findings(findings: AsyncIterator[Finding], bodies: BodyCheck, *, as_json: bool) -> int:
    """Prints what was found, at most 100 of it, and what could not be checked; returns how many differences there are,
    without those that are about to go by themselves."""
    count, pending = 0, 0
    differing: list[Finding] = []
    waiting: list[Finding] = []
    async for finding in findings:
        count += not finding.is_pending
        pending += finding.is_pending
        kept = waiting if finding.is_pending else differing
        if len(kept) < LISTED:
            kept.append(finding)
    listed = (differing + waiting)[:LISTED]
    if as_json:
        told = {
            "count": count,
            "pending": pending,
            "findings": [finding._asdict() for finding in listed],
            "unsigned_bodies": bodies.unsigned,
            "unchecked_signatures": bodies.unchecked,
        }
        print(json.dumps(told))  # noqa: T201
        return count
    console = Console()
    if listed:
        console.print(_make_table(listed, "stored", "should be"))
    console.print(f"{count:,} differences" + (f", the first {LISTED} are shown" if count > LISTED else ""))
    if pending:
        console.print(f"{pending:,} events are about to be placed: run this again when the service has done it")
    if bodies.unsigned:
        console.print(f"{bodies.unsigned:,} webhooks have no signature: unsigned, or from before signatures were kept")
    if bodies.unchecked:
        console.print(f"{bodies.unchecked:,} signatures are not checked: no secret of their target is configured here")
    return count


async def _tell_rebuilt(rebuilt: AsyncIterator[Rebuilt]) -> None:
    """Prints what was mended, batch by batch."""
    console, count = Console(), 0
    async for batch in rebuilt:
        if batch.outcomes or batch.counters:
            count += 1
            console.print(
                f"upload {batch.batch_key}: {batch.outcomes:,} outcomes and {batch.counters:,} counters mended"
            )
    if not count:
        console.print("Nothing was wrong")
