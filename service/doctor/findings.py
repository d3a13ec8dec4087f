"""Findings of checks, and the thresholds of measured values."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

GIGABYTE = 1024**3


class Level(StrEnum):
    """How bad it is. ``unchecked``: it could not be checked."""

    OK = "ok"
    UNCHECKED = "unchecked"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """``remedy`` says what to do; it is empty where nothing needs to be done."""

    level: Level
    message: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Beyond the first value of a pair a finding is a warning, beyond the second a problem."""

    check_seconds: float = 10.0  # of one check
    round_trip_seconds: tuple[float, float] = (0.02, 1.0)
    commit_seconds: tuple[float, float] = (0.1, 2.0)  # /readyz fails beyond the second
    transaction_seconds: tuple[float, float] = (300.0, 3600.0)
    idle_seconds: tuple[float, float] = (60.0, 900.0)
    prepared_seconds: float = 60.0
    slot_bytes: tuple[float, float] = (1 * GIGABYTE, 10 * GIGABYTE)
    wal_bytes: float = 1 * GIGABYTE
    free_bytes: tuple[float, float] = (5 * GIGABYTE, 1 * GIGABYTE)
    frozen_age_transactions: tuple[int, int] = (500_000_000, 1_500_000_000)
    clock_seconds: tuple[float, float] = (2.0, 60.0)
    certificate_days: float = 14.0
    webhook_seconds: tuple[float, float] = (1.0, 8.0)  # the provider gives up at 10
    due_seconds: tuple[float, float] = (900.0, 3600.0)
    consumer_lag_seconds: float = 3600.0
    backlog_events: int = 10_000


DEFAULT_THRESHOLDS = Thresholds()


def ok(message: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, message)


def unchecked(message: str, remedy: str = "") -> Finding:
    """Not checked, and why."""
    return Finding(Level.UNCHECKED, message, remedy)


def warning(message: str, remedy: str) -> Finding:
    """Works, but may stop working, or works badly."""
    return Finding(Level.WARNING, message, remedy)


def problem(message: str, remedy: str) -> Finding:
    """Does not work, or loses data."""
    return Finding(Level.PROBLEM, message, remedy)


def judge(value: float, limits: tuple[float, float], message: str, remedy: str) -> Finding:
    """The finding of a measured value by its thresholds."""
    if value <= limits[0]:
        return ok(message)
    return Finding(Level.WARNING if value <= limits[1] else Level.PROBLEM, message, remedy)


def explain(error: Exception) -> Finding:
    """A problem from an error whose text is "message: remedy"."""
    message, _, remedy = str(error).partition(": ")
    return problem(message, f"{remedy[:1].upper()}{remedy[1:]}")


def show_bytes(size: float) -> str:
    """A size for people: ``1.5 GB``."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while abs(size) >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def show_seconds(seconds: float) -> str:
    """A duration for people: ``1.2 ms``, ``5 s``, ``3 min``, ``2 h``, ``4 days``."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def show_name(name: str | None) -> str:
    """A name from outside, made safe to print: short, and only printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name or "")[:64]
