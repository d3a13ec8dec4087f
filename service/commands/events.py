"""Commands on stored events: ``outcomes verify``, ``rebuild``, ``reattribute``, ``repair`` and ``replay``.

Progress is shown on standard error, findings on standard output.
"""

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager

import click
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.commands.startup import read_targets, run_on_database, start
from service.formant.targets import load_opt_outs
from service.settings import Settings
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.phone_repair import PhoneRepair
from service.webhooks.decoding import open_decoder
from service.webhooks.quarantine import Replayer
from service.webhooks.reattribution import Reattributor
from service.webhooks.rebuilding import Rebuilder, Rebuilt
from service.webhooks.repair import Repairer
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Discrepancy, Report, Verifier
from service.webhooks.writer import Writer

LISTED = 100


def verify(batch_id: int | None, *, as_json: bool) -> None:
    """Prints where outcomes and counters differ from the facts; exits with 1 if they do."""
    settings = start()
    found = run_on_database(settings, lambda database: _verify(settings, database, batch_id, as_json))
    sys.exit(1 if found else 0)


async def _verify(settings: Settings, database: Database, batch_id: int | None, as_json: bool) -> int:
    with _show_rows("Verified") as report:
        # Without secrets signatures are counted as unchecked, and everything else is verified.
        targets, regions = read_targets(settings)
        bodies = BodyCheck(targets)
        decoder = await open_decoder(database, settings.ref_column, regions)
        verifier = Verifier(database, decoder, bodies, report)
        return await _print_findings(verifier.verify(batch_id), bodies, as_json=as_json)


def rebuild(batch_id: int | None) -> None:
    """Recomputes outcomes and counters from the facts."""
    run_on_database(start(), lambda database: _rebuild(database, batch_id))


async def _rebuild(database: Database, batch_id: int | None) -> None:
    with _show_rows("Rebuilt") as report:
        await _print_rebuilt(Rebuilder(database, report).rebuild(batch_id))


def reattribute() -> None:
    """Moves the events that belong elsewhere, and prints them."""
    settings = start()
    run_on_database(settings, lambda database: _reattribute(settings, database))


async def _reattribute(settings: Settings, database: Database) -> None:
    targets, regions = read_targets(settings)
    opt_outs = load_opt_outs(settings.targets_file)
    with closing(Writer(database.url, database.queries, Metrics(), opt_outs)) as writer, _show_rows("Placed") as report:
        decoder = await open_decoder(database, settings.ref_column, regions)
        # Attribution depends on times and phones, so those are repaired first.
        await Repairer(database, decoder).repair()
        await PhoneRepair(database, regions).finish()
        worker = Reattributor(database, targets, decoder, writer, report, regions=regions)
        findings = [finding async for finding in worker.reattribute()]
    console = Console()
    if findings:
        console.print(_make_table(findings[:LISTED], "was", "is now"))
    console.print(
        f"{len(findings):,} events moved" + (f", the first {LISTED} are shown" if len(findings) > LISTED else "")
    )


def repair() -> None:
    """Corrects implausible values that older versions stored; prints the number of rows."""
    settings = start()
    corrected = run_on_database(settings, lambda database: _repair(settings, database))
    click.echo(f"{corrected:,} rows corrected" if corrected else "Nothing to repair")


async def _repair(settings: Settings, database: Database) -> int:
    return await Repairer(database, await open_decoder(database, settings.ref_column)).repair()


def replay(quarantine_id: int | None) -> None:
    """Processes one quarantined body again, or all; exits with 1 when one still cannot be used."""
    settings = start()
    failed = run_on_database(settings, lambda database: _replay(settings, database, quarantine_id))
    sys.exit(1 if failed else 0)


async def _replay(settings: Settings, database: Database, quarantine_id: int | None) -> int:
    # Replaying verifies no signature, so it needs no secrets, but it needs the targets' agents.
    targets, regions = read_targets(settings)
    decoder = await open_decoder(database, settings.ref_column, regions)
    opt_outs = load_opt_outs(settings.targets_file)
    failed = 0
    with closing(Writer(database.url, database.queries, Metrics(), opt_outs)) as writer:
        replayer = Replayer(database, targets, decoder, writer)
        if quarantine_id is not None:
            return _print_replayed(quarantine_id, await replayer.replay(quarantine_id))
        async for replayed_id, event_id in replayer.replay_all():
            failed += _print_replayed(replayed_id, event_id)
    return failed


def _print_replayed(quarantine_id: int, event_id: str | None) -> int:
    click.echo(f"{quarantine_id}: {'still cannot be used, stays' if event_id is None else f'is event {event_id}'}")
    return event_id is None


def _make_table(findings: list[Discrepancy], stored: str, expected: str) -> Table:
    table = Table("upload", "what", "key", stored, expected)
    for finding in findings:
        table.add_row("" if finding.batch_key is None else str(finding.batch_key), *finding[1:5])
    return table


@contextmanager
def _show_rows(label: str) -> Iterator[Report]:
    """Yields a function that counts processed rows; prints the rate at the end."""
    console, began, total = Console(stderr=True), time.monotonic(), 0
    with Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(label)

        def report(rows: int) -> None:
            nonlocal total
            total += rows
            progress.update(task, description=f"{label}: {total:,} rows")

        yield report
    seconds = max(time.monotonic() - began, 1e-6)
    console.print(f"{label}: {total:,} rows in {seconds:.1f} s, {total / seconds:,.0f} a second", highlight=False)


async def _print_findings(findings: AsyncIterator[Discrepancy], bodies: BodyCheck, *, as_json: bool) -> int:
    """Prints the first ``LISTED`` findings, and what could not be checked; returns the number of differences without
    those that the service is about to resolve itself."""
    count, pending = 0, 0
    differing: list[Discrepancy] = []
    waiting: list[Discrepancy] = []
    async for finding in findings:
        count += not finding.is_pending
        pending += finding.is_pending
        kept = waiting if finding.is_pending else differing
        if len(kept) < LISTED:
            kept.append(finding)
    listed = (differing + waiting)[:LISTED]
    if as_json:
        found = {
            "count": count,
            "pending": pending,
            "findings": [finding._asdict() for finding in listed],
            "unsigned_bodies": bodies.unsigned,
            "unchecked_signatures": bodies.unchecked,
        }
        print(json.dumps(found))  # noqa: T201
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


async def _print_rebuilt(rebuilt: AsyncIterator[Rebuilt]) -> None:
    """Prints what was corrected, by batch."""
    console, count = Console(), 0
    async for batch in rebuilt:
        if batch.outcomes or batch.counters:
            count += 1
            console.print(
                f"upload {batch.batch_key}: {batch.outcomes:,} outcomes and {batch.counters:,} counters corrected"
            )
    if not count:
        console.print("Nothing was wrong")
