"""``outcomes demo``: everything at work at once; what it shows is in ``service.demo``."""

import os
import sys
from typing import Any

import click
import uvloop

from service.commands.starting import open_database_url
from service.demo import DemoOptions, run_demo
from service.settings import read_settings
from service.telemetry.logs import configure_logs


@click.command()
@click.option("--recipients", default=500, show_default=True, type=click.IntRange(1, 100_000), help="Batch size.")
@click.option("--seed", default=1, show_default=True, type=int, help="The same seed gives the same calls.")
@click.option("--speed", default=480.0, show_default=True, type=click.FloatRange(1), help="Times real time.")
@click.option("--drop", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Share never sent.")
@click.option("--duplicate", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="Share sent twice.")
@click.option(
    "--reorder", default=300.0, show_default=True, type=click.FloatRange(0), help="Shuffled within so many seconds."
)
@click.option(
    "--bad-signature", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Share with a forged copy."
)
@click.option(
    "--sandbox-port", default=0, show_default="a free one", type=click.IntRange(0, 65535), help="The sandbox's port."
)
@click.option("--exit", "is_exit", is_flag=True, help="End when the batch has; status 0 only if the figures agree.")
def demo(**options: Any) -> None:
    """See it at work: Postgres, the provider's sandbox and the service, and one batch from CSV to final figures.

    Needs no account and no settings. Afterwards it keeps serving until Ctrl-C, so that you can look around.
    """
    configure_logs("error")
    settings = read_settings({name: value for name, value in os.environ.items() if name.startswith("OUTCOMES_")})
    with open_database_url(settings) as url:
        agrees = uvloop.run(run_demo(settings, url, DemoOptions(reorder_seconds=options.pop("reorder"), **options)))
    sys.exit(0 if agrees else 1)
