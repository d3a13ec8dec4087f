"""Findings: what a check has to tell, and what to do about it."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is. ``unchecked``: it could not be looked at, and nothing is known of it."""

    OK = "ok"
    UNCHECKED = "unchecked"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One thing that was found; ``remedy`` says what to do, and is empty where there is nothing to do."""

    level: Level
    message: str
    remedy: str = ""


class Check(NamedTuple):
    """Something to look at, by its name: ``area.subject``."""

    name: str
    look: Callable[[], Awaitable[list[Finding]]]


def ok(message: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, message)


def unchecked(message: str, remedy: str = "") -> Finding:
    """Not looked at, and why."""
    return Finding(Level.UNCHECKED, message, remedy)


def warning(message: str, remedy: str) -> Finding:
    """Works, and may not for long, or not as well as it should."""
    return Finding(Level.WARNING, message, remedy)


def problem(message: str, remedy: str) -> Finding:
    """Does not work, or loses something."""
    return Finding(Level.PROBLEM, message, remedy)


def show_bytes(size: float) -> str:
    """A size for people: ``1.5 GB``."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while abs(size) >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def show_seconds(seconds: float) -> str:
    """A span of time for people: ``1.2 ms``, ``5 s``, ``3 min``, ``2 h``, ``4 days``."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def show_name(name: str | None) -> str:
    """A name that somebody else chose, harmless to print: short, and nothing but printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name or "")[:64]
