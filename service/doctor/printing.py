"""What ``outcomes doctor`` prints: a line for each finding, as soon as there is one; or all of them as JSON."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.metadata import version

from rich.console import Console
from rich.text import Text

from service.doctor.examination import Told
from service.doctor.findings import Level

COLOURS = {Level.OK: "green", Level.UNCHECKED: "cyan", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
COUNTED = {Level.OK: "ok", Level.UNCHECKED: "unchecked", Level.WARNING: "warnings", Level.PROBLEM: "problems"}
NAME_WIDTH = 30


async def print_lines(findings: AsyncIterator[Told]) -> int:
    """Prints them for people, and a last line with their numbers; returns how many problems there are."""
    console, counts = Console(highlight=False, markup=False), Counter[Level]()
    async for check, finding in findings:
        level = finding.level
        counts[level] += 1
        line = Text.assemble((f"{level:<10}", COLOURS[level]), (f"{check:<{NAME_WIDTH}}", "dim"), finding.message)
        if finding.remedy:
            line.append(f" → {finding.remedy}", "italic" if console.is_terminal else "")
        console.print(line, soft_wrap=True)
    console.print(", ".join(f"{counts[level]} {name}" for level, name in COUNTED.items()))
    return counts[Level.PROBLEM]


async def print_json(findings: AsyncIterator[Told]) -> int:
    """Prints them as one JSON object for programs; returns how many problems there are."""
    told = [each async for each in findings]
    counts = Counter(each.finding.level for each in told)
    report = {
        "status": "problem" if counts[Level.PROBLEM] else "warning" if counts[Level.WARNING] else "ok",
        "version": version("formant-outcomes"),
        "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "counts": {level.value: counts[level] for level in Level},
        "findings": [{"check": check, **finding._asdict()} for check, finding in told],
    }
    print(json.dumps(report, ensure_ascii=False))  # noqa: T201
    return counts[Level.PROBLEM]
