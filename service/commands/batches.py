"""``outcomes batches``: what a person knows about uploads and the service does not."""

from collections.abc import Awaitable, Callable

import click

from service.commands.starting import read_targets, run_on_database, start
from service.formant.client import FormantClient, open_http
from service.settings import Settings
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.lookup import UploadFinder
from service.uploads.resolution import Resolver


@click.group()
def batches() -> None:
    """Batches and their uploads."""


@batches.command()
@click.argument("upload_id", type=int)
@click.option("--batch-id", type=int, help="The provider's batch that the upload became.")
@click.option("--accept-difference", is_flag=True, help="It is, although the provider counts other recipients.")
@click.option("--not-sent", is_flag=True, help="The provider has never taken it: nobody is dialled.")
@click.option("--not-these", metavar="N,N", help="It is none of these batches: all that could be it.")
@click.option("--accept-unreadable", is_flag=True, help="Nor is it an entry of the list that cannot be read.")
def resolve(
    upload_id: int,
    batch_id: int | None,
    *,
    accept_difference: bool,
    not_sent: bool,
    not_these: str | None,
    accept_unreadable: bool,
) -> None:
    """Say what became of an upload that is unknown (GET /v1/uploads?state=unknown).

    The evidence is checked first: the provider's list, and webhooks that have come in.
    """
    if (batch_id is None) == (not not_sent):
        raise click.UsageError("Give either --batch-id N or --not-sent")
    if accept_difference and batch_id is None:
        raise click.UsageError("--accept-difference goes with --batch-id")
    if not_these is not None and not not_sent:
        raise click.UsageError("--not-these goes with --not-sent")
    if accept_unreadable and not not_sent:
        raise click.UsageError("--accept-unreadable goes with --not-sent")
    denied = _read_ids(not_these) if not_these is not None else None

    async def settle(resolver: Resolver) -> None:
        if batch_id is not None:
            await resolver.adopt(upload_id, batch_id, accept_difference=accept_difference)
        else:
            await resolver.declare_not_sent(upload_id, denied, accept_unreadable=accept_unreadable)

    settings = start()
    run_on_database(settings, lambda database: _resolve(settings, database, settle))
    click.echo(f"Upload {upload_id} {'was not sent' if batch_id is None else f'is batch {batch_id}'}.")


def _read_ids(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in parts):
        raise click.UsageError("--not-these takes numbers of batches, separated by commas")
    return [int(part) for part in parts]


async def _resolve(settings: Settings, database: Database, settle: Callable[[Resolver], Awaitable[None]]) -> None:
    _, regions = read_targets(settings)
    async with open_http(settings.formant_base_url, settings.formant_api_key) as http:
        client = FormantClient(http, Metrics()) if settings.formant_api_key else None
        await settle(Resolver(database, client, UploadFinder(database, client, regions)))
