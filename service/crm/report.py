"""The output of ``outcomes crm-sync``: progress on standard error, a table on standard output, phones masked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from service.crm.job import Report, Totals
from service.crm.records import to_word

_PHONE = re.compile(r"\+\d[\d ().-]{5,}\d|(?<!\w)\d{8,15}(?!\w)|(?<![\w-])\d{3,5}[ -]\d{3,6}(?:[ -]\d{3,5})*(?![\w-])")
SHOWN_DIGITS = 2
MIN_PHONE = 10**9  # a number from here on may be a phone
SKIP_REASONS = {
    "overtaken": "a later entry of the same key was sent instead",
    "not_final": "not final yet (only_final)",
    "filtered": "of another batch (filter.batches)",
    "without_key": "without the key: it has none yet, or its batch has no such column (--accept-unknown)",
    "erased": "erased",
    "withdrawn": "withdrawn: its call counts for another recipient, or for none",
    "gone": "of a retry, and no longer in the feed",
}


def mask(text: str) -> str:
    """The text with all but the last digits of phone numbers masked."""
    return _PHONE.sub(lambda found: "•••" + found.group()[-SHOWN_DIGITS:], text)


@contextmanager
def show_progress(activity: str, *, is_quiet: bool) -> Iterator[Report]:
    """Yields a function that shows the progress on a terminal, unless ``is_quiet``."""
    with Console(stderr=True, quiet=is_quiet).status(activity) as status:
        yield lambda totals: status.update(
            f"{activity}: position {totals.position:,}, {totals.sent:,} sent, {totals.failed:,} failed, "
            f"{totals.skipped.total():,} skipped"
        )


def print_totals(totals: Totals, *, is_dry: bool, is_retry: bool, is_stopped: bool, failures_file: str) -> None:
    """Prints the totals of a run and the reasons for failures. Recipients are named by batch and number alone."""
    console = Console()
    table = Table("outcomes", "", "", title="Dry run: nothing was sent or acknowledged" if is_dry else None)
    table.add_row("read", f"{totals.read:,}", f"up to position {totals.position:,}")
    table.add_row("would be sent" if is_dry else "sent", f"{totals.sent:,}", "")
    for skip, reason in SKIP_REASONS.items():
        if count := totals.skipped[skip]:
            table.add_row("skipped", f"{count:,}", reason)
    place = f"in {failures_file}; --retry-failures {failures_file} tries again" if totals.failed and not is_dry else ""
    table.add_row("would fail" if is_dry else "failed", f"{totals.failed:,}", place)
    if is_stopped:
        table.add_row(
            "unsettled", f"{totals.unsettled:,}", "the run stopped: they are not acknowledged, and come again"
        )
    console.print(table)
    if is_retry and not totals.read and not is_stopped:
        console.print(f"There is nothing to retry in {failures_file}.", soft_wrap=True)
    for record in totals.samples:
        shown = ", ".join(f"{name}={_mask_value(value)}" for name, value in record.properties.items())
        console.print(f"position {record.position}: {shown}", markup=False, highlight=False, soft_wrap=True)
    for summary, group in totals.reasons.rank():
        more = ", …" if group.count > len(group.examples) else ""
        line = f"{group.count:,} × {mask(summary)} (recipient {', '.join(group.examples)}{more})"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _mask_value(value: Any) -> str:
    if isinstance(value, int) and abs(value) < MIN_PHONE:
        return to_word(value)
    return mask(to_word(value))
