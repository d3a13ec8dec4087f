"""An entry of the feed, and the fields of it that a mapping can name.

``parameters`` and ``results`` are free-form and stay undecoded until a field is read: one that cannot be decoded (a
number out of range) fails only its own record.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from service.spelling import find_near

STATUSES = ("completed", "busy", "no_answer", "failed", "socket_failure", "telephony_failed", "unreachable")
STATES = ("in_progress", "pending_retry", *STATUSES, "withdrawn", "erased")
SOURCES = ("webhook", "healed")
WORDS = {
    "status": STATUSES,
    "state": STATES,
    "source": SOURCES,
    "is_final": ("true", "false"),
    "goal_met": ("true", "false"),
}
NULL = "null"

PLAIN_FIELDS = (
    "state", "status", "is_final", "attempts", "duration_seconds", "failure_reason", "source", "batch_id", "recipient",
    "recipient_id", "phone", "conversation_id", "last_attempt_at", "next_retry_at", "version", "position", "goal_met",
)  # fmt: skip
OPEN_FIELDS = ("parameters", "results")  # each followed by .NAME


class Entry(msgspec.Struct):
    """The state of one recipient in the feed. Times have a zone; durations are in seconds."""

    position: int
    recipient: int
    state: str
    batch_id: int | None = None
    phone: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    status: str | None = None
    is_final: bool = False
    attempts: int = 0
    duration_seconds: int | None = None
    results: msgspec.Raw = msgspec.Raw(b"null")
    failure_reason: str | None = None
    next_retry_at: datetime | None = None
    last_attempt_at: datetime | None = None
    conversation_id: str | None = None
    source: str | None = None
    version: int | None = None
    goal_met: bool | None = None

    @property
    def recipient_id(self) -> str | None:
        """Batch and recipient number; it survives erasure. None until the batch's id is known."""
        return None if self.batch_id is None else f"{self.batch_id}-{self.recipient}"


class UnreadableError(Exception):
    """The parameters or results of an entry cannot be decoded."""


def read_field(entry: Entry, field: str) -> Any:
    """The value of a valid field (see ``explain_field``), or None.

    Raises UnreadableError when it is in an object that cannot be decoded.
    """
    name, _, key = field.partition(".")
    return _read_object(entry, name).get(key) if name in OPEN_FIELDS else getattr(entry, field)


def read_names(entry: Entry, name: str) -> set[str]:
    """The names in an entry's parameters or results; raises UnreadableError like ``read_field``."""
    return set(_read_object(entry, name))


def _read_object(entry: Entry, name: str) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(getattr(entry, name))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(f"{name} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def explain_field(field: str) -> str:
    """What is wrong with the name of a field, with the nearest valid one; "" for a valid name."""
    name, dot, key = field.partition(".")
    if name in OPEN_FIELDS:
        return "" if key else f"{field!r} lacks the name: write {name}.NAME, such as {name}.intent"
    if field in PLAIN_FIELDS:
        return ""
    nearest = suggest(name, OPEN_FIELDS) if dot else suggest(field, (*PLAIN_FIELDS, *OPEN_FIELDS))
    fields = ", ".join((*PLAIN_FIELDS, *(f"{open_field}.NAME" for open_field in OPEN_FIELDS)))
    return f"{field!r} is not a field of the feed{nearest}; valid fields: {fields}"


def suggest(word: str, known: Iterable[str]) -> str:
    """The nearest known word as the end of a message, or ""."""
    nearest = find_near(word, known)
    return f" (did you mean {nearest!r}?)" if nearest else ""
