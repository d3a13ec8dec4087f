"""``outcomes batches``: manual resolution of uploads."""

from collections.abc import Awaitable, Callable

import click

from service.commands.startup import read_targets, run_on_database, start
from service.formant.client import FormantClient, open_http
from service.settings import Settings
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.resolution import Resolver


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
