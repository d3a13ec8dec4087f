"""Logs: one JSON object per line on standard error. Event names are static words; data is in fields. Commands that
print for people log plain lines.

Only fields in ``FIELDS`` are logged, so that a body, a phone number or a key cannot get into a log with an exception or
a well-meant extra field. Their values are numbers or text. Ids from outside are logged only if they are plain, and
names that people choose only if they contain no phone number.
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
"""Per second and logger."""

logger = structlog.get_logger()


def configure_logs(level: str, *, for_people: bool = False) -> None:
    """Sets up structlog for this process, and logs what libraries log the same way, reduced to its source.

    ``for_people``: plain lines, only warnings unless ``level`` is debug, and nothing from libraries.
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
    stamina.instrumentation.set_on_retry_hooks([])  # callers log their retries
    handler = logging.NullHandler() if for_people and level != "debug" else _LibraryHandler()
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class LineLimit:
    """Allows a few lines per second for each reason, so that a flood of events does not flood the log too. It
    counts the lines that it suppresses, and logs the count as one line, named ``event``, when the second is over.

    A reason is a static word. It is remembered for as long as its second lasts.
    """

    def __init__(
        self,
        event: str,
        *,
        lines: int = 3,
        call_later: Callable[[float, Callable[[str], None], str], object] | None = None,
    ) -> None:
        self._event = event
        self._lines = lines
        self._call_later = call_later
        self._counts: dict[str, int] = {}

    def admit(self, reason: str, count: int = 1) -> int:
        """How many of ``count`` lines may be written for this reason now."""
        before = self._counts.get(reason)
        if before is None:
            before = 0
            (self._call_later or asyncio.get_running_loop().call_later)(1.0, self._end, reason)
        self._counts[reason] = before + count
        return max(0, min(count, self._lines - before))

    def _end(self, reason: str) -> None:
        suppressed = self._counts.pop(reason) - self._lines
        if suppressed > 0:
            logger.warning(self._event, reason=reason, suppressed=suppressed)


def add_request_id(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds the id of the current request, if there is one and the line names none."""
    request_id = current_request_id()
    if request_id is not None:
        fields.setdefault("request_id", request_id)
    return fields


def _reduce_exception(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces an exception by its class and where it was raised, because its message may quote its input."""
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
    return {name: value if _may_log(name, value) else WITHHELD for name, value in fields.items() if name in FIELDS}


def _render_line(logger: Any, method: str, fields: MutableMapping[str, Any]) -> str:
    del fields["timestamp"]
    level, event = fields.pop("level"), fields.pop("event").replace("_", " ")
    data = ", ".join(f"{name} {value}" for name, value in fields.items() if value not in {None, ""})
    return f"outcomes: {level}: {event}" + (f" ({data})" if data else "")


def _may_log(name: str, value: Any) -> bool:
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
    """Logs the source of a library's message and the error it failed with, not the message, which may hold anything. A
    message that repeats for each request (a full queue, say) is logged a few times a second; the next line then has the
    number suppressed."""

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
        level = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING  # libraries define their own
        extra = {"suppressed": suppressed} if suppressed else {}
        logger.log(level, "library_warning", name=record.name, exc_info=error, **extra)
