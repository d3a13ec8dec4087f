"""``outcomes erase``: takes a person out by phone."""

from typing import Any

import click
import uvloop

from service.app import prepare_schema
from service.batches.phones import PhoneError, normalise_phone
from service.errors import InvalidRequestError
from service.privacy.erasure import Eraser
from service.starting import open_database_url, start
from service.store.database import open_database


@click.command()
@click.argument("phone")
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
def erase(phone: str, dry_run: bool) -> None:
    """Erase a person: phone, parameters, what was said, raw events, and rows of files that are held.

    What became of their calls stays counted. Webhooks that come later bring nobody back. Ends with 1 while something
    is on its way in that names them still; a running service then goes on by itself.
    """
    settings = start()
    try:
        number = normalise_phone(phone, settings.default_region)
    except PhoneError as error:
        raise InvalidRequestError(f"PHONE {error.problem}: {error.remedy}") from error

    async def run(url: str) -> dict[str, Any]:
        await prepare_schema(url, may_migrate=False)
        async with open_database(url, allow_unsafe=settings.allow_unsafe_database) as database:
            eraser = Eraser(database)
            if dry_run:
                return {"state": "dry run", **await eraser.preview(number)}
            return await eraser.finish(await eraser.begin(number))

    with open_database_url(settings) as url:
        shown = uvloop.run(run(url))
    for name, value in shown.items():
        click.echo(f"{name}: {value}")
    raise SystemExit(1 if shown["state"] == "running" else 0)
