"""What ``outcomes crm-sync`` shows: progress on standard error, a table on standard output, people masked in both."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from service.crm.job import Tell, Totals
from service.crm.records import SKIPS, to_text

_PHONE = re.compile(r"\+\d[\d ().-]{5,}\d|(?<!\w)\d{8,15}(?!\w)|(?<![\w-])\d{3,5}[ -]\d{3,6}(?:[ -]\d{3,5})*(?![\w-])")
SHOWN_DIGITS = 2
SMALLEST_PHONE = 10**9  # of those that came as a number
WHY = {
    "overtaken": "a later entry of the same key was sent instead",
    "not_final": "not final yet (only_final)",
    "filtered": "of another batch (filter.batches)",
    "without_key": "without the key: it has none yet, or its batch has no such column (--accept-unknown)",
    "erased": "erased",
    "withdrawn": "withdrawn: its call counts for another recipient, or for none",
    "gone": "of a retry, and no longer in the feed",
}


def mask(text: str) -> str:
    """The text with all but the last digits of phone numbers covered."""
    return _PHONE.sub(lambda found: "•••" + found.group()[-SHOWN_DIGITS:], text)


@contextmanager
def show_progress(doing: str) -> Iterator[Tell]:
    """Gives a function that shows how far it has come, where somebody looks."""
    with Console(stderr=True).status(doing) as status:
        yield lambda totals: status.update(
            f"{doing}: position {totals.position:,}, {totals.sent:,} sent, {totals.failed:,} failed, "
            f"{totals.skipped.total():,} skipped"
        )


def tell_totals(totals: Totals, *, is_dry: bool, is_retry: bool, is_stopped: bool, failures_file: str) -> None:
    """Prints what a run came to, and why records failed."""
    console = Console()
    table = Table("outcomes", "", "", title="Dry run: nothing was sent or acknowledged" if is_dry else None)
    table.add_row("read", f"{totals.read:,}", f"up to position {totals.position:,}")
    table.add_row("would be sent" if is_dry else "sent", f"{totals.sent:,}", "")
    for reason in SKIPS:
        if count := totals.skipped[reason]:
            table.add_row("skipped", f"{count:,}", WHY[reason])
    table.add_row(
        "would fail" if is_dry else "failed", f"{totals.failed:,}", "" if is_dry else _tell_where(totals, failures_file)
    )
    if is_stopped:
        table.add_row(
            "unsettled", f"{totals.unsettled:,}", "it was stopped: they were not acknowledged, and come again"
        )
    console.print(table)
    if is_retry and not totals.read and not is_stopped:
        console.print(f"There is nothing to retry in {failures_file}.", soft_wrap=True)
    for record in totals.samples:
        shown = ", ".join(f"{name}={_show(value)}" for name, value in record.properties.items())
        console.print(f"position {record.position}: {shown}", markup=False, highlight=False, soft_wrap=True)
    _tell_reasons(console, totals)


def _tell_where(totals: Totals, failures_file: str) -> str:
    return f"in {failures_file}; --retry-failures {failures_file} tries again" if totals.failed else ""


def _tell_reasons(console: Console, totals: Totals) -> None:
    """Each reason once. People are named by batch and number, and by nothing else."""
    for reason, group in totals.reasons.rank():
        more = ", …" if group.count > len(group.examples) else ""
        line = f"{group.count:,} × {mask(reason)} (recipient {', '.join(group.examples)}{more})"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show(value: Any) -> str:
    if isinstance(value, int) and abs(value) < SMALLEST_PHONE:
        return to_text(value)
    return mask(to_text(value))
