"""``outcomes erase``: erases a person by phone."""

from typing import Any

import click

from service.commands.startup import read_targets, run_on_database, start
from service.errors import InvalidRequestError
from service.phones.canonical import require_phone
from service.phones.parsing import PhoneError
from service.privacy.erasure import Eraser
from service.store.database import Database


def erase(phone: str, *, is_dry: bool) -> None:
    """Erases the person; exits with 1 while data that names them is still being processed."""
    settings = start()
    _, regions = read_targets(settings)
    try:
        number = require_phone(phone, regions.sole)
    except PhoneError as error:
        raise InvalidRequestError(f"PHONE {error.problem}: {error.remedy}") from error

    shown = run_on_database(settings, lambda database: _erase(database, number, is_dry))
    for name, value in shown.items():
        click.echo(f"{name}: {value}")
    raise SystemExit(1 if shown["state"] == "running" else 0)


async def _erase(database: Database, number: str, is_dry: bool) -> dict[str, Any]:
    eraser = Eraser(database)
    if is_dry:
        return {"state": "dry run", **await eraser.preview(number)}
    return await eraser.finish(await eraser.begin(number))
