"""The acknowledged-event checker as a fixture, and a table of what each fault cost."""

from collections.abc import Callable, Iterator

import pytest

from tests.guarantees.checker import Checker, Told

TOLD = "told"


@pytest.fixture
def checker(record_property: Callable[[str, object], None]) -> Iterator[Checker]:
    """A checker of what every client was told; what it found stands in the table at the end of the run."""
    checker = Checker()
    yield checker
    if checker.told is not None:
        record_property(TOLD, list(checker.told))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints a line for each fault: what was sent under it, and what was lost."""
    rows = []
    for report in terminalreporter.getreports(""):  # where pytest counts what came at the end of each
        for name, value in report.user_properties if report.when == "teardown" else ():
            if name == TOLD:
                rows.append((report.nodeid.rpartition("::test_")[2].replace("_", " "), Told(*value)))
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(
        "| fault | acknowledged | refused | no answer | acknowledged and lost | counted twice |"
    )
    terminalreporter.write_line("|---|--:|--:|--:|--:|--:|")
    for fault, told in sorted(rows):
        terminalreporter.write_line(f"| {fault} | {' | '.join(str(number) for number in told)} |")
