"""How every command begins: the settings, logs as they say, and a database."""

import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import click
import structlog
import uvloop

from service.app import prepare_schema
from service.commands.running_demo import find_demo
from service.errors import ConfigurationError
from service.formant.regions import Regions
from service.formant.targets import Target, find_regions, load_targets
from service.settings import Settings, find_unknown_names, read_settings
from service.store.database import Database, open_database
from service.store.embedded import find_embedded_postgres, run_embedded_postgres
from service.telemetry.context import COMMAND_LINE, set_actor
from service.telemetry.logs import configure_logs

logger = structlog.get_logger()

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  addresses that are listened on, by where they are reached

_Result = TypeVar("_Result")


def start() -> Settings:
    """The settings of a command that prints for people, and its logs."""
    return begin(find_environ(), for_people=True)


def find_environ() -> dict[str, str]:
    """Our environment; beside a demo, in its folder, with the demo's settings first."""
    demo = find_demo(os.environ)
    if demo:
        click.echo("outcomes: using the settings of the demo that runs here", err=True)
    return {**os.environ, **demo}


def begin(environ: Mapping[str, str], *, for_people: bool) -> Settings:
    """The settings in ``environ``, and logs as they say."""
    # Until the service listens to it: SIGTERM unwinds what was begun, such as the start of an embedded Postgres.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    settings = read_settings(environ)
    configure_logs(settings.log_level, for_people=for_people)
    for name, nearest in find_unknown_names(environ).items():
        logger.warning("unknown_setting", setting=name, nearest=nearest)
    set_actor(COMMAND_LINE)
    return settings


def find_service_url(settings: Settings) -> str:
    """Where the service answers on this machine."""
    host = LOOPBACK.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def read_targets(settings: Settings) -> tuple[dict[str, Target], Regions]:
    """The inbound addresses, for which no command needs a secret; and the country of each agent's phones."""
    targets = load_targets(settings.webhook_secrets, allow_unsigned=True, path=settings.targets_file)
    return targets, find_regions(targets, settings.default_region)


@contextmanager
def open_database_url(settings: Settings, *, may_create: bool = False) -> Iterator[str]:
    """The configured database, or the embedded one for as long as the block lasts.

    Raises ConfigurationError where there is none and ``may_create`` is false: an empty one would hide a wrong folder.
    """
    if not (settings.database_url or may_create or find_embedded_postgres(settings.data_dir)):
        raise ConfigurationError(
            f"There is no database in {settings.data_dir.expanduser().absolute()}: run this in the folder of the "
            "service or demo, or set OUTCOMES_DATA_DIR or OUTCOMES_DATABASE_URL as there"
        )
    with (
        nullcontext(settings.database_url) if settings.database_url else run_embedded_postgres(settings.data_dir) as url
    ):
        yield url


def run_on_database(settings: Settings, work: Callable[[Database], Coroutine[Any, Any, _Result]]) -> _Result:
    """What ``work`` comes to, on the configured database.

    Raises DatabaseError, with the remedy, when the database or its schema does not fit this version.
    """

    async def run(url: str) -> _Result:
        await prepare_schema(url, may_migrate=False)
        async with open_database(url, allow_unsafe=settings.allow_unsafe_database) as database:
            return await work(database)

    with open_database_url(settings) as url:
        return uvloop.run(run(url))
