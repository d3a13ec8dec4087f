"""``outcomes rebuild``: recomputes outcomes and counters from the facts."""

from collections.abc import AsyncIterator

from rich.console import Console

from service.commands.rows import show_rows
from service.commands.startup import run_on_database, start
from service.counts import count
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder, Rebuilt


def rebuild(batch_id: int | None) -> None:
    """Recomputes outcomes and counters from the facts."""
    run_on_database(start(), lambda database: _rebuild(database, batch_id))


async def _rebuild(database: Database, batch_id: int | None) -> None:
    with show_rows("Rebuilt") as report:
        await _print_rebuilt(Rebuilder(database, report).rebuild(batch_id))


async def _print_rebuilt(rebuilt: AsyncIterator[Rebuilt]) -> None:
    """Prints what was corrected, by batch."""
    console, is_correct = Console(), True
    async for batch in rebuilt:
        if batch.outcomes or batch.counters:
            is_correct = False
            name = "calls outside batches" if batch.batch_key is None else f"upload {batch.batch_key}"
            console.print(
                f"{name}: {count(batch.outcomes, 'outcome')} and {count(batch.counters, 'counter')} corrected"
            )
    if is_correct:
        console.print("Nothing was wrong")
