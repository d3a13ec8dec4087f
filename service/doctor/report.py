"""The findings of an examination as one object."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from service.doctor.examination import Result
from service.doctor.findings import Level


def make_report(results: Sequence[Result]) -> dict[str, Any]:
    """The worst level, the number of findings by level, and the findings."""
    counts = Counter(each.finding.level for each in results)
    return {
        "status": "problem" if counts[Level.PROBLEM] else "warning" if counts[Level.WARNING] else "ok",
        "version": version("formant-outcomes"),
        "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "counts": {level.value: counts[level] for level in Level},
        "findings": [{"check": check, **finding._asdict()} for check, finding in results],
    }
