"""Logs: one JSON object per line on standard error. Event names are static words; data stands in fields. Commands that
print for people log plain lines.

Only fields on the list are let through, so that a body, a phone number or a key cannot slip into a log with an
exception or a well-meant extra field. Of those, ids that come from outside are let through only where they are plain,
names that people choose only where no phone number stands in them, and nothing but numbers and texts at all.
"""

import asyncio
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import stamina.instrumentation
import structlog

from service.telemetry.context import current_request_id, is_plain

FIELDS = frozenset(
    {
        "event", "level", "timestamp",
        "address", "agent_id", "applied", "attempt", "batch_id", "count", "database", "error", "error_at", "events",
        "failed", "group_events", "kind", "limit", "migration", "name", "nearest", "operation", "port", "quarantine_id",
        "reason", "recipients", "seconds", "setting", "signal", "sqlstate", "state", "status", "target", "targets",
        "unknown", "upload_id", "version", "wait_seconds",
        "consumer", "position", "sent", "skipped",
        "actor", "duration_ms", "event_id", "key_id", "method", "request_id", "route", "suppressed", "task",
    }
)  # fmt: skip
FOREIGN_IDS = ("request_id", "event_id")
CHOSEN_NAMES = ("actor", "consumer", "database", "kind", "name", "nearest", "reason", "setting", "state", "target")
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_PHONE_LIKE = re.compile(r"(?:\d[ ().\-/_]*){7,}")
WITHHELD = "(withheld)"
LIBRARY_LINES = 10
"""In a second, from one place."""

logger = structlog.get_logger()


def configure_logs(level: str, *, for_people: bool = False) -> None:
    """Sets structlog up for this process, and sends what libraries log the same way, reduced to its source.

    ``for_people``: plain lines, of which there are only warnings unless ``level`` is debug; nothing of libraries.
    """
    if for_people and level == "info":
        level = "warning"
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_request_id,
            _reduce_exception,
            _keep_known_fields,
            _render_line if for_people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    stamina.instrumentation.set_on_retry_hooks([])  # whoever retries tells it, with what failed
    handler = logging.NullHandler() if for_people and level != "debug" else _LibraryHandler()
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class LineLimit:
    """Lets a few lines a second through for each reason, so that a flood of what they tell does not flood the log too.
    Those that it holds back are counted, and told as one line, named ``event``, when the second is over.

    ``reasons`` are static words: one is remembered for as long as its second lasts.
    """

    def __init__(
        self,
        event: str,
        *,
        lines: int = 3,
        seconds: float = 1.0,
        call_later: Callable[[float, Callable[[str], None], str], object] | None = None,
    ) -> None:
        self._event = event
        self._lines = lines
        self._seconds = seconds
        self._call_later = call_later
        self._counts: dict[str, int] = {}

    def admit(self, reason: str, count: int = 1) -> int:
        """How many of ``count`` lines may be written for this reason now."""
        before = self._counts.get(reason)
        if before is None:
            before = 0
            (self._call_later or asyncio.get_running_loop().call_later)(self._seconds, self._end, reason)
        self._counts[reason] = before + count
        return max(0, min(count, self._lines - before))

    def _end(self, reason: str) -> None:
        suppressed = self._counts.pop(reason) - self._lines
        if suppressed > 0:
            logger.warning(self._event, reason=reason, suppressed=suppressed)


def add_request_id(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The request that the line is written for, where it is written for one and names none itself."""
    request_id = current_request_id()
    if request_id is not None:
        fields.setdefault("request_id", request_id)
    return fields


def _reduce_exception(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception becomes its class and where it was raised: its message may quote what it choked on."""
    given = fields.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, BaseException):
        fields["error"] = type(error).__name__
        if sqlstate := getattr(error, "sqlstate", None):
            fields["sqlstate"] = sqlstate
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None:
            fields["error_at"] = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
    return fields


def _keep_known_fields(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: value if _may_stand(name, value) else WITHHELD for name, value in fields.items() if name in FIELDS}


def _render_line(logger: Any, method: str, fields: MutableMapping[str, Any]) -> str:
    del fields["timestamp"]
    level, event = fields.pop("level"), fields.pop("event").replace("_", " ")
    data = ", ".join(f"{name} {value}" for name, value in fields.items() if value not in {None, ""})
    return f"outcomes: {level}: {event}" + (f" ({data})" if data else "")


def _may_stand(name: str, value: Any) -> bool:
    if value is None:
        return True
    if name in FOREIGN_IDS:
        return isinstance(value, str) and is_plain(value)
    if not isinstance(value, str):
        return isinstance(value, int | float)
    if name == "event":
        return _WORD.fullmatch(value) is not None
    return name not in CHOSEN_NAMES or _PHONE_LIKE.search(value) is None


class _LibraryHandler(logging.Handler):
    """A library's message may hold anything, so only where it came from is told, and what it failed with. One that says
    the same for each request (a full queue, say) is told a few times a second, and then how often it was not."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        began, count = self._windows.get(record.name, (float("-inf"), 0))
        suppressed = 0
        if record.created - began >= 1.0:
            began, suppressed, count = record.created, max(0, count - LIBRARY_LINES), 0
        self._windows[record.name] = (began, count + 1)
        if count >= LIBRARY_LINES:
            return
        error = record.exc_info[1] if record.exc_info else None
        level = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING  # libraries make up levels
        told = {"suppressed": suppressed} if suppressed else {}
        logger.log(level, "library_warning", name=record.name, exc_info=error, **told)
