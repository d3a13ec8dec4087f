"""``outcomes batches``: manual resolution of uploads; ``outcomes reconcile``: one batch against the provider, now."""

import sys
from collections.abc import Awaitable, Callable
from contextlib import closing

import click
from rich.console import Console
from rich.table import Table

from service.app import build_reconciler
from service.commands.startup import read_targets, run_on_database, start
from service.errors import ConfigurationError
from service.formant.client import FormantClient, open_http
from service.formant.targets import load_opt_outs
from service.outcomes.shapes import Reason
from service.reconciliation.drift import Assessment
from service.reconciliation.healer import Progress
from service.settings import Settings
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.resolution import Resolver
from service.webhooks.writer import Writer


def resolve(
    upload_id: int,
    batch_id: int | None,
    *,
    accept_difference: bool,
    not_these: list[int] | None,
    accept_unreadable: bool,
) -> None:
    """Records that the upload became ``batch_id``; None: it was not sent, and is none of the batches ``not_these``."""

    async def settle(resolver: Resolver) -> None:
        if batch_id is not None:
            await resolver.adopt(upload_id, batch_id, accept_difference=accept_difference)
        else:
            await resolver.declare_not_sent(upload_id, not_these, accept_unreadable=accept_unreadable)

    settings = start()
    run_on_database(settings, lambda database: _resolve(settings, database, settle))
    click.echo(f"Upload {upload_id} {'was not sent' if batch_id is None else f'is batch {batch_id}'}.")


async def _resolve(settings: Settings, database: Database, settle: Callable[[Resolver], Awaitable[None]]) -> None:
    _, regions = read_targets(settings)
    async with open_http(settings.formant_base_url, settings.formant_api_key) as http:
        client = FormantClient(http, Metrics()) if settings.formant_api_key else None
        await settle(Resolver(database, client, regions))


def reconcile(batch_id: int) -> None:
    """Compares the batch and heals it; exits with 1 when the figures still differ."""
    settings = start()
    if not settings.formant_api_key:
        raise ConfigurationError("FORMANT_API_KEY is empty, so the provider cannot be asked: set it")
    assessment = run_on_database(settings, lambda database: _reconcile(settings, database, batch_id))
    _print_assessment(batch_id, assessment)
    sys.exit(1 if assessment.verdict == "drifted" else 0)


async def _reconcile(settings: Settings, database: Database, batch_id: int) -> Assessment:
    metrics = Metrics()
    async with open_http(settings.formant_base_url, settings.formant_api_key) as http:
        _, regions = read_targets(settings)
        writer = Writer(database.url, database.queries, metrics, load_opt_outs(settings.targets_file))
        # Progress goes to standard error, so that the table can be piped.
        with closing(writer), Console(stderr=True).status(f"Comparing batch {batch_id} with the provider") as status:

            def report(progress: Progress) -> None:
                status.update(f"Reading the conversations, at {progress.offset}: {progress.healed} healed")

            reconciler = build_reconciler(settings, database, http, metrics, writer, regions)
            return await reconciler.reconcile_now(batch_id, report)


def _print_assessment(batch_id: int, assessment: Assessment) -> None:
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
        console.print(
            f"  The provider contradicts itself: {found.rule}, reported {found.reported}, expected {found.expected}"
        )


def _describe(reason: Reason) -> str:
    parts = [reason.code, reason.figure, None if reason.count is None else str(reason.count)]
    if reason.recipients:
        parts.append(f"recipients {', '.join(map(str, reason.recipients))}")
    return " · ".join(part for part in parts if part)


def _show(value: float | None) -> str:
    return "–" if value is None else str(value)
