"""The command ``outcomes crm-sync``: its arguments and its help. ``service.crm.run`` runs it."""

from pathlib import Path
from typing import Any

import click

_EXAMPLES = """\b
Try it:
  outcomes crm-sync deploy/crm/hubspot.toml --dry-run  show what it would send
  outcomes crm-sync deploy/crm/hubspot.toml --once     send what is new
  outcomes crm-sync deploy/crm/hubspot.toml            follow the changes

\b
Exit status:
  0  everything read is in the CRM, or skipped for a reason that it prints
  1  some outcomes are in the failures file instead, or it was interrupted
  2  it could not continue; only settled pages are acknowledged
"""


@click.command("crm-sync", epilog=_EXAMPLES, short_help="Upsert recipients' outcomes into a CRM.")
@click.argument("mapping_file", metavar="MAPPING", type=click.Path(path_type=Path))
@click.option("--once", "is_once", is_flag=True, help="Stop at the end of the feed instead of waiting for more.")
@click.option(
    "--dry-run", "is_dry", is_flag=True,
    help="Show what would be sent, with phones masked; send and acknowledge nothing.",
)  # fmt: skip
@click.option(
    "--failures", type=click.Path(path_type=Path), show_default="CONSUMER.failures.ndjson",
    help="File for outcomes that the CRM did not accept.",
)  # fmt: skip
@click.option(
    "--retry-failures", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Send the current outcomes of the recipients in such a file, then stop; those that fail again stay in it.",
)  # fmt: skip
@click.option("--from-start", is_flag=True, help="Discard the acknowledged position and send everything again.")
@click.option("--accept", "accepts_change", is_flag=True, help="Continue from here although the mapping has changed.")
@click.option(
    "--accept-unknown", "accepts_unknown", is_flag=True,
    help="Continue although no recipient has a field of the mapping; a batch without the key is skipped.",
)  # fmt: skip
@click.option(
    "--page", "page_size", default=500, show_default=True, type=click.IntRange(1, 1000),
    help="Feed entries per acknowledgement.",
)  # fmt: skip
@click.option(
    "--give-up-after", default=10, show_default=True, type=click.IntRange(0),
    help="Stop when this many records in a row are refused for one reason; 0: never.",
)  # fmt: skip
def crm_sync(**arguments: Any) -> None:
    """Upsert recipients' outcomes from the feed into a CRM, as the file MAPPING defines.

    It is a client of the service (OUTCOMES_URL, OUTCOMES_FEED_KEY) and of the CRM (OUTCOMES_CRM_TOKEN), and continues
    from its consumer's position. A position is acknowledged once everything up to it is confirmed by the CRM or in the
    failures file.
    """
    from service.crm.run import SyncOptions, run_sync  # here, so that --help stays quick

    options = SyncOptions(**arguments)
    if options.retry_failures and (options.is_dry or options.from_start or options.accepts_change or options.failures):
        raise click.UsageError("--retry-failures excludes --dry-run, --from-start, --accept and --failures")
    if options.from_start and options.accepts_change:
        raise click.UsageError("--from-start sends everything again, --accept continues from here: give only one")
    run_sync(options)
