"""The table of the damage by each fault, which pytest prints at the end of a run. A plugin, because the process that
prints it reads the conftest of no folder but the first, when others run the tests."""

import pytest

from tests.guarantees.checker import Tally

TALLY, NOTES = "tally", "notes"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints a line for each fault: what was sent under it, and what was lost."""
    rows, notes = [], []
    for report in terminalreporter.getreports(""):  # the key under which pytest keeps the reports of teardowns
        for name, value in report.user_properties if report.when == "teardown" else ():
            if name == NOTES:
                notes += value
            elif name == TALLY:
                rows.append((report.nodeid.rpartition("::test_")[2].replace("_", " "), Tally(*value)))
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(
        "| fault | acknowledged | refused | no answer | acknowledged and lost | counted twice |"
    )
    terminalreporter.write_line("|---|--:|--:|--:|--:|--:|")
    for fault, tally in sorted(rows):
        terminalreporter.write_line(f"| {fault} | {' | '.join(str(number) for number in tally)} |")
    for note in sorted(notes):
        terminalreporter.write_line(note)
