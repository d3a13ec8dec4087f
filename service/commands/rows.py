"""Progress in rows, on standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from service.counts import count
from service.webhooks.verification import Report


@contextmanager
def show_rows(label: str) -> Iterator[Report]:
    """Yields a function that counts processed rows; prints the rate at the end."""
    console, began, total = Console(stderr=True), time.monotonic(), 0
    columns = TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label)

        def report(rows: int) -> None:
            nonlocal total
            total += rows
            progress.update(task, description=f"{label}: {count(total, 'row')}")

        yield report
    seconds = max(time.monotonic() - began, 1e-6)
    console.print(
        f"{label}: {count(total, 'row')} in {seconds:.1f} s, {total / seconds:,.0f} per second", highlight=False
    )
