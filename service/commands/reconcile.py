"""``outcomes reconcile``: compares a batch with the provider's figures now."""

import sys
from contextlib import closing

from rich.console import Console
from rich.table import Table

from service.app import build_reconciler
from service.commands.startup import read_targets, run_on_database, start
from service.errors import ConfigurationError
from service.formant.client import open_http
from service.formant.targets import load_opt_outs
from service.reconciliation.drift import Assessment
from service.reconciliation.healer import Progress
from service.settings import Settings
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer


def reconcile(batch_id: int) -> None:
    """Compares the batch and heals it; exits with 1 when it has drifted."""
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
            assessment = await reconciler.reconcile_now(batch_id, report)
            await reconciler.read_details_now(
                batch_id, lambda left: status.update(f"Fetching results and failure reasons: {left} calls left")
            )
            return assessment


def _print_assessment(batch_id: int, assessment: Assessment) -> None:
    """Prints the verdict, the reasons and the figures that differ."""
    console = Console()
    console.print(f"Batch {batch_id}: [bold]{assessment.verdict}[/bold]")
    console.print(assessment.verdict_text, highlight=False)
    for reason in assessment.reasons:
        recipients = f" · recipients {', '.join(map(str, reason.recipients))}" if reason.recipients else ""
        console.print(f"  {reason.code}: {reason.text}{recipients}", highlight=False)
    if assessment.differences:
        table = Table("figure", "ours", "theirs", "why")
        for item in assessment.differences:
            table.add_row(item.figure, _show(item.ours), _show(item.theirs), item.reason)
        console.print(table)
    for found in assessment.inconsistencies:
        console.print(
            f"  The provider contradicts itself: {found.rule}, reported {found.reported}, expected {found.expected}"
        )


def _show(value: float | None) -> str:
    return "–" if value is None else str(value)
