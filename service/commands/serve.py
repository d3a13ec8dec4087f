"""``outcomes serve``: the service itself."""

import gc
import os
from contextlib import ExitStack
from dataclasses import replace

import uvloop

from service.app import open_app
from service.commands.startup import begin, open_database_url
from service.errors import ConfigurationError
from service.formant.targets import load_targets
from service.server.process import serve_until_signal
from service.settings import Settings
from service.spill.embedded import run_embedded_stream
from service.telemetry.context import SERVICE, set_actor

GC_THRESHOLD = 2000


def serve(*, has_embedded_stream: bool = False) -> None:
    """Runs the service until SIGTERM; ``has_embedded_stream``: with a spill stream of its own."""
    settings = begin(os.environ, for_people=False)
    # Refused before an embedded Postgres is made.
    load_targets(settings.webhook_secrets, allow_unsigned=settings.allow_unsigned, path=settings.targets_file)
    with ExitStack() as stack:
        if has_embedded_stream:
            settings = _embed_stream(settings, stack)
        url = stack.enter_context(open_database_url(settings, may_create=True))
        uvloop.run(_serve(settings, url))


def _embed_stream(settings: Settings, stack: ExitStack) -> Settings:
    """The settings with the address of a stream that runs until ``stack`` exits."""
    if settings.spill_url:
        raise ConfigurationError("--spill embedded and OUTCOMES_SPILL_URL exclude each other: keep one of them")
    running = run_embedded_stream(settings.data_dir, max_body_bytes=settings.max_body_bytes)
    return replace(settings, spill_url=stack.enter_context(running))


async def _serve(settings: Settings, url: str) -> None:
    set_actor(SERVICE)  # for background work; requests act for their keys
    async with open_app(settings, url) as service:
        # Objects of the start stay, so garbage collections during requests need not scan them.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        await serve_until_signal(service, settings.host, settings.port)
