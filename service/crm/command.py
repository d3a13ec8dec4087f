"""The command ``outcomes crm-sync``: what it takes, and what its help says. It is done in ``service.crm.run``."""

from pathlib import Path

import click

_EXAMPLES = """\b
Try it:
  outcomes crm-sync deploy/crm/hubspot.toml --dry-run     what would be sent
  outcomes crm-sync deploy/crm/hubspot.toml --once        send what is new, and end
  outcomes crm-sync deploy/crm/hubspot.toml               go on as outcomes change

\b
It ends with
  0  all that was read is in the CRM, or skipped for a reason that it prints
  1  some outcomes are not in the CRM and are in the failures file; or it was interrupted
  2  it could not go on: nothing was acknowledged after the last page that was settled
"""


@click.command("crm-sync", epilog=_EXAMPLES, short_help="Upsert recipients' outcomes into a CRM.")
@click.argument("mapping_file", metavar="MAPPING", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="End at the end of the feed, instead of waiting for more.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, phones masked; send and acknowledge nothing.")
@click.option(
    "--failures", type=click.Path(path_type=Path), show_default="CONSUMER.failures.ndjson",
    help="Where outcomes are kept that the CRM did not take.",
)  # fmt: skip
@click.option(
    "--retry-failures", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Send the present outcomes of those in such a file, and end; who fails again stays in it.",
)  # fmt: skip
@click.option("--from-start", is_flag=True, help="Forget what was acknowledged, and send everything again.")
@click.option("--accept", "accepts_change", is_flag=True, help="Go on from here although the mapping has changed.")
@click.option(
    "--accept-unknown", is_flag=True,
    help="Go on although no recipient has a field of the mapping; a batch without the key is skipped.",
)  # fmt: skip
@click.option(
    "--page", "limit", default=500, show_default=True, type=click.IntRange(1, 1000),
    help="Entries of the feed between two acknowledgements.",
)  # fmt: skip
@click.option(
    "--give-up-after", default=10, show_default=True, type=click.IntRange(0),
    help="Stop when so many records in a row are refused for one reason; 0: never.",
)  # fmt: skip
def crm_sync(
    mapping_file: Path,
    once: bool,
    dry_run: bool,
    failures: Path | None,
    retry_failures: Path | None,
    from_start: bool,
    accepts_change: bool,
    accept_unknown: bool,
    limit: int,
    give_up_after: int,
) -> None:
    """Upserts recipients' outcomes into a CRM, as the feed tells them and as the file MAPPING says.

    It is a client of the service (OUTCOMES_URL, OUTCOMES_FEED_KEY) and of the CRM (OUTCOMES_CRM_TOKEN), and goes on
    from where its consumer has come to. A position is acknowledged once everything up to it is confirmed by the CRM or
    in the failures file.
    """
    if retry_failures and (dry_run or from_start or accepts_change or failures):
        raise click.UsageError("--retry-failures goes with none of --dry-run, --from-start, --accept and --failures")
    if from_start and accepts_change:
        raise click.UsageError("--from-start sends everything again, --accept goes on from here: give one of them")
    from service.crm.run import run_sync

    run_sync(
        mapping_file,
        is_once=once,
        is_dry=dry_run,
        failures=failures,
        retry_failures=retry_failures,
        from_start=from_start,
        accepts_change=accepts_change,
        accepts_unknown=accept_unknown,
        limit=limit,
        give_up_after=give_up_after,
    )
