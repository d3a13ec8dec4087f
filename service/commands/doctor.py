"""``outcomes doctor``: looks at everything, and says what to do."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import uvloop

from service.commands.starting import find_environ, find_service_url
from service.doctor.configuration import read_what_is_usable
from service.doctor.examination import Examination
from service.doctor.findings import Finding, problem, unchecked
from service.doctor.printing import print_json, print_lines
from service.settings import Settings
from service.store.embedded import run_embedded_postgres
from service.telemetry.context import COMMAND_LINE, set_actor
from service.telemetry.logs import configure_logs

EMBEDDED_SECONDS = 30.0


def doctor(url: str | None, *, is_service_left_out: bool, webhook_url: str | None, as_json: bool) -> None:
    """Prints the findings; ends with 1 when there is a problem."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    configure_logs("error", for_people=True)
    set_actor(COMMAND_LINE)
    environ = find_environ()
    settings, wrong = read_what_is_usable(environ)
    found = find_service_url(settings) if settings.port else None
    with _find_database(settings) as (database_url, no_database):
        examination = Examination(
            environ=environ,
            settings=settings,
            wrong_settings=wrong,
            database_url=database_url,
            no_database=no_database,
            service_url=None if is_service_left_out else (url or found),
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
