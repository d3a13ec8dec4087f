"""How every command begins: the settings, logs as they say, and a database."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import structlog

from service.access.actor import COMMAND_LINE, set_actor
from service.logs import configure_logs
from service.settings import Settings, find_unknown_names, read_settings
from service.store.embedded import run_embedded_postgres

logger = structlog.get_logger()


def start() -> Settings:
    """The settings, and logs as they say."""
    # Until the service listens to it: SIGTERM unwinds what was begun, such as the start of an embedded Postgres.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    settings = read_settings(os.environ)
    configure_logs(settings.log_level)
    for name, nearest in find_unknown_names(os.environ).items():
        logger.warning("unknown_setting", setting=name, nearest=nearest)
    set_actor(COMMAND_LINE)
    return settings


@contextmanager
def open_database_url(settings: Settings) -> Iterator[str]:
    """The configured database, or the embedded one for as long as the block lasts."""
    with (
        nullcontext(settings.database_url) if settings.database_url else run_embedded_postgres(settings.data_dir) as url
    ):
        yield url
