"""``outcomes suppress``: puts the people of a file on the list of people who must not be called, or removes them."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
from phonenumbers import SUPPORTED_REGIONS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from service.commands.startup import read_targets, run_on_database, start
from service.errors import InvalidRequestError
from service.store.database import Database
from service.suppressions.phones import read_phones
from service.suppressions.suppressions import SuppressionList


def suppress(file: Path, *, reason: str, source: str, region: str | None, phone_column: str, is_removal: bool) -> None:
    """Suppresses the people, or removes them from the list, and prints how many."""
    settings = start()
    _, regions = read_targets(settings)
    country = (region or regions.sole).strip().upper()
    if country and country not in SUPPORTED_REGIONS:
        raise click.UsageError(f"--region takes a country's two letters, such as IN, or GB for the UK, not {region!r}")

    async def work(database: Database) -> str:
        try:
            phones = await read_phones(file, country, phone_column)
        except InvalidRequestError as error:
            raise InvalidRequestError(_name_options(error.message)) from error
        suppressions = SuppressionList(database)
        with _show_progress(len(phones)) as progress:
            report = _reporter(progress, len(phones))
            if is_removal:
                removed = 0
                for count, phone in enumerate(phones, start=1):
                    removed += await suppressions.remove(phone, reason) is not None
                    report(count)
                return f"{removed:,} people removed from the list, {len(phones) - removed:,} were not on it."
            added = await suppressions.add(phones, reason, source, report)
        known = f"{len(phones) - added.people:,} were on the list already"
        rows = f" {added.waiting_rows:,} rows of uploads that wait are left out." if added.waiting_rows else ""
        return f"{added.people:,} people suppressed, {known}.{rows}"

    click.echo(run_on_database(settings, work))


def _name_options(message: str) -> str:
    """A refusal of the service that names options of this command instead of fields."""
    message = re.sub(
        r"\bphone_column=(NAME\b|.+$)",
        lambda match: f"--phone-column {shlex.quote(match[1])}",
        re.sub(r"\bsend (?=(?:phone_column|region)=|one of them)", "use ", message.replace(": see details)", ")")),
    )
    message = re.sub(r"(?<!-)\bphone_column\b", "--phone-column", message)
    return re.sub(r"\bregion=(?=([A-Z]{2})?)", lambda match: "--region" + (" " if match[1] else ""), message)


def _show_progress(total: int) -> Progress:
    # On standard error, so that the summary can be piped.
    columns = (TextColumn("Phones"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=total == 0)


def _reporter(progress: Progress, total: int) -> Callable[[int], None]:
    task = progress.add_task("", total=total)
    return lambda done: progress.update(task, completed=done)
