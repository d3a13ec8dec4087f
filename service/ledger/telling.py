"""What ``outcomes verify`` and ``outcomes rebuild`` show: progress on standard error, findings on standard output."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.ledger.bodies import BodyCheck
from service.ledger.rebuilding import Rebuilt
from service.ledger.verification import Finding, Tell

LISTED = 100


@contextmanager
def show_rows(doing: str) -> Iterator[Tell]:
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


async def tell_findings(findings: AsyncIterator[Finding], bodies: BodyCheck, *, as_json: bool) -> int:
    """Prints what was found, at most 100 of it, and what could not be checked; returns how much was found."""
    count, listed = 0, []
    async for finding in findings:
        count += 1
        if count <= LISTED:
            listed.append(finding)
    if as_json:
        told = {
            "count": count,
            "findings": [finding._asdict() for finding in listed],
            "unsigned_bodies": bodies.unsigned,
            "unchecked_signatures": bodies.unchecked,
        }
        print(json.dumps(told))  # noqa: T201
        return count
    console = Console()
    if count:
        table = Table("upload", "what", "key", "stored", "should be")
        for finding in listed:
            table.add_row("" if finding.batch_key is None else str(finding.batch_key), *finding[1:])
        console.print(table)
    console.print(f"{count:,} differences" + (f", the first {LISTED} are shown" if count > LISTED else ""))
    if bodies.unsigned:
        console.print(f"{bodies.unsigned:,} webhooks have no signature: unsigned, or from before signatures were kept")
    if bodies.unchecked:
        console.print(f"{bodies.unchecked:,} signatures are not checked: no secret of their target is configured here")
    return count


async def tell_rebuilt(rebuilt: AsyncIterator[Rebuilt]) -> None:
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
