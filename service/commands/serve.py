"""``outcomes serve``: the service itself."""

import gc
import os

import uvloop

from service.app import open_app
from service.commands.startup import begin, open_database_url
from service.formant.targets import load_targets
from service.server.process import serve_until_signal
from service.settings import Settings
from service.telemetry.context import SERVICE, set_actor

GC_THRESHOLD = 2000


def serve() -> None:
    """Runs the service until SIGTERM."""
    settings = begin(os.environ, for_people=False)
    # Refused before an embedded Postgres is made.
    load_targets(settings.webhook_secrets, allow_unsigned=settings.allow_unsigned, path=settings.targets_file)
    with open_database_url(settings, may_create=True) as url:
        uvloop.run(_serve(settings, url))


async def _serve(settings: Settings, url: str) -> None:
    set_actor(SERVICE)  # for background work; requests act for their keys
    async with open_app(settings, url) as service:
        # Objects of the start stay, so garbage collections during requests need not scan them.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        await serve_until_signal(service, settings.host, settings.port)
