"""``outcomes batches``: what a person knows about uploads and the service does not."""

import click

from service.batches.lookup import UploadFinder
from service.commands.starting import run_on_database, start
from service.formant.client import FormantClient, open_http
from service.metrics import Metrics
from service.settings import Settings
from service.store.database import Database


@click.group()
def batches() -> None:
    """Batches and their uploads."""


@batches.command()
@click.argument("upload_id", type=int)
@click.option("--batch-id", type=int, help="The provider's batch that the upload became.")
@click.option("--not-sent", is_flag=True, help="The provider has never taken it: nobody is dialled.")
def resolve(upload_id: int, batch_id: int | None, not_sent: bool) -> None:
    """Say what became of an upload that is unknown (GET /v1/uploads?state=unknown).

    The evidence is checked first: the provider's list, and webhooks that have come in.
    """
    if (batch_id is None) == (not not_sent):
        raise click.UsageError("Give either --batch-id N or --not-sent")
    settings = start()
    run_on_database(settings, lambda database: _resolve(settings, database, upload_id, batch_id))
    click.echo(f"Upload {upload_id} {'was not sent' if batch_id is None else f'is batch {batch_id}'}.")


async def _resolve(settings: Settings, database: Database, upload_id: int, batch_id: int | None) -> None:
    async with open_http(settings.formant_base_url, settings.formant_api_key) as http:
        client = FormantClient(http, Metrics()) if settings.formant_api_key else None
        await UploadFinder(database, client).resolve(upload_id, batch_id)
