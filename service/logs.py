"""Logs: one JSON object per line on standard error. Event names are static words; data stands in fields.

Only fields on the list are let through, so that a body, a phone number or a key cannot slip into a log with an
exception or a well-meant extra field.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import stamina.instrumentation
import structlog

FIELDS = frozenset(
    {
        "event", "level", "timestamp",
        "address", "agent_id", "applied", "attempt", "batch_id", "count", "database", "error", "error_at", "events",
        "failed", "group_events", "kind", "limit", "migration", "name", "nearest", "operation", "port", "quarantine_id",
        "reason", "recipients", "seconds", "setting", "signal", "sqlstate", "state", "status", "target", "targets",
        "unknown", "upload_id", "version", "wait_seconds",
        "consumer", "position", "sent", "skipped",
    }
)  # fmt: skip


def configure_logs(level: str) -> None:
    """Sets structlog up for this process, and sends what libraries log the same way, reduced to its source."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _reduce_exception,
            _keep_known_fields,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    stamina.instrumentation.set_on_retry_hooks([])  # whoever retries tells it, with what failed
    logging.basicConfig(handlers=[_LibraryHandler()], level=logging.WARNING, force=True)


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
    return {name: value for name, value in fields.items() if name in FIELDS}


class _LibraryHandler(logging.Handler):
    """A library's message may hold anything, so only where it came from is told, and what it failed with."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        level = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING  # libraries make up levels
        structlog.get_logger().log(level, "library_warning", name=record.name, exc_info=error)
