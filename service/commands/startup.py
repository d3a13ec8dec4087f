"""What commands start with: settings, logs and a database."""

import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import structlog
import uvloop

from service.app import prepare_schema
from service.environment import find_environ
from service.errors import ConfigurationError
from service.formant.regions import Regions
from service.formant.targets import Target, find_regions, load_targets
from service.settings import Settings, find_unknown_names, read_settings
from service.store.database import STATEMENT_SECONDS, Database, open_database
from service.store.embedded import find_embedded_postgres, run_embedded_postgres
from service.telemetry.context import COMMAND_LINE, set_actor
from service.telemetry.logs import configure_logs

logger = structlog.get_logger()

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where a service on all addresses is reached

_Result = TypeVar("_Result")


def start() -> Settings:
    """The settings of a command that prints for people; configures its logs."""
    return begin(find_environ("OUTCOMES_DATABASE_URL"), for_people=True)


def begin(environ: Mapping[str, str], *, for_people: bool) -> Settings:
    """The settings in ``environ``; configures logs as they say."""
    # Until the service handles it, SIGTERM unwinds what was started, such as an embedded Postgres.
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
    """The webhook targets, which need no secrets here, and the default region of each agent's phones."""
    targets = load_targets(settings.webhook_secrets, allow_unsigned=True, path=settings.targets_file)
    return targets, find_regions(targets, settings.default_region)


@contextmanager
def open_database_url(settings: Settings, *, may_create: bool = False) -> Iterator[str]:
    """The URL of the configured database, or of the embedded one, which runs while the block lasts.

    Raises ConfigurationError without a database unless ``may_create``: an empty one would hide a wrong folder.
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


def run_on_database(
    settings: Settings,
    work: Callable[[Database], Coroutine[Any, Any, _Result]],
    *,
    statement_seconds: float = STATEMENT_SECONDS,
) -> _Result:
    """The result of ``work`` on the configured database.

    Raises DatabaseError, with the remedy, when the database or its schema does not fit this version.
    """

    async def run(url: str) -> _Result:
        await prepare_schema(url, may_migrate=False)
        async with open_database(
            url, allow_unsafe=settings.allow_unsafe_database, statement_seconds=statement_seconds
        ) as database:
            return await work(database)

    with open_database_url(settings) as url:
        return uvloop.run(run(url))
