"""What ``outcomes reconcile`` shows on the terminal: progress, and the verdict with every difference."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from service.reconcile.drift import Assessment, Reason
from service.reconcile.healer import Progress


@contextmanager
def show_progress(batch_id: int) -> Iterator[Callable[[Progress], None]]:
    """Gives a function that shows how far the walk has come; on standard error, so that the table can be piped."""
    with Console(stderr=True).status(f"Comparing batch {batch_id} with the provider") as status:
        yield lambda progress: status.update(
            f"Walking through the conversations, at {progress.offset}: {progress.healed} healed"
        )


def tell_assessment(batch_id: int, assessment: Assessment) -> None:
    """Prints the verdict, the reasons and the figures that differ."""
    console = Console()
    console.print(f"Batch {batch_id}: [bold]{assessment.verdict}[/bold]")
    for reason in assessment.reasons:
        console.print(f"  {_describe(reason)}", highlight=False)
    if assessment.differences:
        table = Table("figure", "ours", "theirs", "why")
        for item in assessment.differences:
            table.add_row(item.figure, _show(item.ours), _show(item.theirs), item.reason)
        console.print(table)
    for found in assessment.inconsistencies:
        console.print(f"  The provider contradicts itself: {found.rule}, told {found.told}, expected {found.expected}")


def _describe(reason: Reason) -> str:
    parts = [reason.code, reason.figure, None if reason.count is None else str(reason.count)]
    if reason.recipients:
        parts.append(f"recipients {', '.join(map(str, reason.recipients))}")
    return " · ".join(part for part in parts if part)


def _show(value: float | None) -> str:
    return "–" if value is None else str(value)
