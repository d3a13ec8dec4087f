"""``outcomes doctor``: checks everything, and prints each finding as it comes, or all of them as JSON."""

import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from textwrap import TextWrapper

import uvloop
from rich.console import Console
from rich.text import Text

from service.commands.startup import find_service_url
from service.counts import count
from service.doctor.configuration import read_usable_settings
from service.doctor.examination import Examination, Result
from service.doctor.findings import Finding, Level, problem, unchecked
from service.doctor.report import make_report
from service.environment import find_environ
from service.errors import OutcomesError
from service.settings import Settings
from service.store.embedded import find_embedded_postgres, run_embedded_postgres
from service.telemetry.context import COMMAND_LINE, set_actor
from service.telemetry.logs import configure_logs

EMBEDDED_SECONDS = 30.0
COLOURS = {Level.OK: "green", Level.UNCHECKED: "cyan", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
LEVEL_WIDTH, NAME_WIDTH = 10, 30
WRAPPER = TextWrapper(
    80, subsequent_indent=" " * (LEVEL_WIDTH + NAME_WIDTH), break_long_words=False, break_on_hyphens=False
)
REMEDY_WRAPPER = TextWrapper(
    80, initial_indent=f"{'→':>{LEVEL_WIDTH + 1}} ", subsequent_indent=" " * (LEVEL_WIDTH + 2), break_long_words=False,
    break_on_hyphens=False,
)  # fmt: skip


def doctor(url: str | None, *, is_service_left_out: bool, webhook_url: str | None, as_json: bool) -> None:
    """Prints the findings; ends with 1 when there is a problem."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    configure_logs("error", for_people=True)
    set_actor(COMMAND_LINE)
    environ = find_environ("OUTCOMES_DATABASE_URL")
    settings, wrong = read_usable_settings(environ)
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
    """The database's address, or why there is none. An embedded one is started if it exists, but not created."""
    if settings.database_url:
        yield settings.database_url, None
        return
    with ExitStack() as stack:
        failure = database_url = None
        try:
            if find_embedded_postgres(settings.data_dir):
                running = run_embedded_postgres(settings.data_dir, start_seconds=EMBEDDED_SECONDS)
                database_url = stack.enter_context(running)
            else:
                remedy = "Set OUTCOMES_DATABASE_URL; or start the service, which makes the embedded one"
                failure = unchecked(f"There is no database yet in {settings.data_dir}", remedy)
        except OutcomesError as error:
            message, _, remedy = str(error).rpartition(": ")
            failure = problem(message, f"{remedy[:1].upper()}{remedy[1:]}")
        yield database_url, failure


async def print_lines(findings: AsyncIterator[Result]) -> int:
    """Prints the findings for people, and a last line with their numbers; returns the number of problems."""
    console, counts = Console(highlight=False, markup=False), Counter[Level]()
    async for check, finding in findings:
        counts[finding.level] += 1
        console.print(_show_finding(check, finding), soft_wrap=True)
    console.print(
        f"{counts[Level.OK]} ok, {counts[Level.UNCHECKED]} unchecked, {count(counts[Level.WARNING], 'warning')}, "
        f"{count(counts[Level.PROBLEM], 'problem')}"
    )
    return counts[Level.PROBLEM]


def _show_finding(check: str, finding: Finding) -> Text:
    """Its lines: level, check and message, then the remedy."""
    head = f"{finding.level:<{LEVEL_WIDTH}}{check:<{NAME_WIDTH}}"
    shown = Text(WRAPPER.fill(head + finding.message))
    shown.stylize(COLOURS[finding.level], 0, LEVEL_WIDTH)
    shown.stylize("dim", LEVEL_WIDTH, len(head))
    if finding.remedy:
        shown.append("\n").append(REMEDY_WRAPPER.fill(finding.remedy), "italic")
    return shown


async def print_json(findings: AsyncIterator[Result]) -> int:
    """Prints the findings as one JSON object; returns the number of problems."""
    results = [each async for each in findings]
    report = make_report(results)
    print(json.dumps(report, ensure_ascii=False))  # noqa: T201
    problems: int = report["counts"][Level.PROBLEM]
    return problems
