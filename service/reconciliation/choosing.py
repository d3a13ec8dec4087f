"""Choosing: which recipient a call of the provider's list belongs to, by the rows of ``find_called_recipients``."""

from datetime import datetime
from typing import Any, Literal, TypeAlias

from service.formant.conversations import Conversation

Skipped: TypeAlias = Literal["ambiguous", "waiting", "not_due"]
"""Why a call is skipped: several fit, an event of it already waits, or nobody was due."""


def choose(candidates: list[Any]) -> tuple[Any, Skipped]:
    """The one row of ``find_called_recipients`` that the evidence supports, or None and why."""
    found = [row for row in candidates if row["is_same"]]
    if not found and any(row["is_waiting"] for row in candidates):
        return None, "waiting"
    found = found or [row for row in candidates if row["is_due"]]
    if not found:
        return None, "not_due"
    for evidence in ("is_named", "is_exact"):
        found = [row for row in found if row[evidence]] or found
    return (found[0] if len(found) == 1 else None), "ambiguous"


def is_known(row: Any, record: Conversation, may_retry: bool) -> bool:
    """Whether this call adds nothing: its status is known, and as final as the provider's figures allow."""
    return agrees(row, record) and (row["is_certain"] or may_retry)


def agrees(row: Any, conversation: Conversation) -> bool:
    """Whether the stored status agrees. The provider may list a ``telephony_failed`` call as ``failed``."""
    known, listed = row["latest_status"], conversation.status
    return known == listed or (known, listed) == ("telephony_failed", "failed")


def find_contradicted(row: Any, conversation: Conversation) -> tuple[int, datetime] | None:
    """The attempt number and time of a webhook about this call that the conversation contradicts."""
    if row["call_number"] is None or row["known_until"] is None or agrees(row, conversation):
        return None
    return row["call_number"], row["known_until"]
