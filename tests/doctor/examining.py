"""Runs the doctor in this process, with a test's settings."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from service.doctor.configuration import read_usable_settings
from service.doctor.examination import Examination, Result
from service.doctor.findings import Finding, Level, Thresholds

STRONG_SECRET = "0f6a7b1c2d3e4f5061728394a5b6c7d8"
STRONG_KEY = "8d7c6b5a49382716f5e4d3c2b1a09f8e"
PATIENT = {"round_trip_seconds": (5.0, 9.0), "commit_seconds": (5.0, 9.0), "webhook_seconds": (5.0, 9.0)}
"""A busy machine must not look like a slow database."""


async def examine(
    database_url: str | None,
    settings: Mapping[str, str] = MappingProxyType({}),
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    service_url: str | None = None,
    webhook_url: str | None = None,
    limits: dict[str, Any] | None = None,
    **more: str,
) -> list[Result]:
    """All findings; ``limits`` are other thresholds, further keyword arguments settings."""
    environ = {
        "FORMANT_WEBHOOK_SECRET": STRONG_SECRET,
        "OUTCOMES_API_KEY": STRONG_KEY,
        "OUTCOMES_DATABASE_URL": database_url or "",
        **settings,
        **more,
    }
    configured, wrong = read_usable_settings(environ)
    examination = Examination(
        environ=environ,
        settings=configured,
        wrong_settings=wrong,
        database_url=database_url,
        service_url=service_url,
        webhook_url=webhook_url,
        now=now,
        thresholds=Thresholds(**{**PATIENT, **(limits or {})}),
    )
    return [report async for report in examination.run()]


def list_troubles(output: str) -> list[str]:
    """The findings of a report that are not ok, each in one line, except those about a busy machine."""
    findings = [" ".join(lines.split()) for lines in re.split(r"\n(?! )", output.rstrip())][:-1]
    slow = ("takes", "No commit within", "No answer within")
    return [each for each in findings if not each.startswith("ok ") and not any(word in each for word in slow)]


def find(findings: list[Result], check: str) -> list[Finding]:
    """The findings of one check."""
    return [report.finding for report in findings if report.check == check]


def find_one(findings: list[Result], check: str, level: Level) -> Finding:
    """The one finding of that level of a check; a bad one has a remedy."""
    (found,) = [finding for finding in find(findings, check) if finding.level is level]
    assert found.remedy or level in {Level.OK, Level.UNCHECKED}
    return found
