"""``outcomes doctor``: looks at everything, and says what to do."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click
import uvloop

from service.doctor.configuration import read_what_is_usable
from service.doctor.examination import Examination
from service.doctor.findings import Finding, problem, unchecked
from service.doctor.printing import print_json, print_lines
from service.settings import Settings
from service.store.embedded import run_embedded_postgres
from service.telemetry.context import COMMAND_LINE, set_actor
from service.telemetry.logs import configure_logs

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  an address that is listened on, not one to listen on

EMBEDDED_SECONDS = 30.0


@click.command()
@click.option("--url", help="Where the running service answers.  [default: from OUTCOMES_HOST and OUTCOMES_PORT]")
@click.option("--no-service", is_flag=True, help="Leave the running service out, as before a first start.")
@click.option("--webhook-url", help="The public address that the provider sends to: https://…/webhooks/formant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def doctor(url: str | None, no_service: bool, webhook_url: str | None, as_json: bool) -> None:
    """Check configuration, database, clocks, provider, webhooks and the running service, and say what to do.

    One line for each finding: ok, unchecked, warning or problem. Ends with 1 when there is a problem, else with 0.
    Changes nothing, and tells no secret and no person. Needs the settings that the service has: run it where it runs.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    configure_logs("error")
    set_actor(COMMAND_LINE)
    settings, wrong = read_what_is_usable(os.environ)
    with _find_database(settings) as (database_url, no_database):
        examination = Examination(
            environ=os.environ,
            settings=settings,
            wrong_settings=wrong,
            database_url=database_url,
            no_database=no_database,
            service_url=None if no_service else (url or _find_service(settings)),
            webhook_url=webhook_url,
        )
        problems = uvloop.run((print_json if as_json else print_lines)(examination.run()))
    sys.exit(1 if problems else 0)


@contextmanager
def _find_database(settings: Settings) -> Iterator[tuple[str | None, Finding | None]]:
    """The database's address, or why there is none. The embedded one is started where it was made, and never made."""
    if settings.database_url:
        yield settings.database_url, None
        return
    folder = settings.data_dir.expanduser() / "postgres"
    if not (folder / "PG_VERSION").exists():
        remedy = "Set OUTCOMES_DATABASE_URL; or start the service, which makes the embedded one"
        yield None, unchecked(f"There is no database yet in {settings.data_dir}", remedy)
        return
    with ExitStack() as stack:
        failure = database_url = None
        try:
            database_url = stack.enter_context(run_embedded_postgres(settings.data_dir, start_seconds=EMBEDDED_SECONDS))
        except Exception as error:  # of many kinds, and told in the report like everything else
            remedy = f"See {folder / 'log'}, and that OUTCOMES_DATA_DIR belongs to this user"
            failure = problem(f"The embedded Postgres does not start ({type(error).__name__})", remedy)
        yield database_url, failure


def _find_service(settings: Settings) -> str | None:
    if not settings.port:
        return None
    host = ANYWHERE.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
