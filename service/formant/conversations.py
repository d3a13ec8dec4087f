"""Conversations (contract, "Conversations"): the provider's own record of each call, and the event that heals one.

Read leniently, field by field: any word may be a status, any field may be absent. What a conversation lacks beside a
webhook is the retry block, so whoever heals says whether a retry may follow, from the provider's figures.
"""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from service.formant.events import STATUSES, TEXT_LIMIT, Event
from service.formant.lenient import decode_leniently, to_int, to_json, to_text
from service.formant.plausible import LARGEST_ID, plausible_attempts, plausible_duration, plausible_time, within
from service.phones.canonical import canonical_phone

TARGET = "conversations"
"""Stands where a webhook has the inbound address that it came to."""
AFTERTHOUGHT = timedelta(milliseconds=1)


class Conversation(NamedTuple):
    """One record, of a list or whole. ``body`` is its JSON as received; ``results`` is JSON text."""

    conversation_id: str
    agent_id: int | None
    said_phone: str | None
    """As the provider wrote it. The names of healed events are made from it, so it stays as it is."""
    status: str | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: int | None
    failure_reason: str | None
    results: str
    body: bytes

    def read_phone(self, region: str) -> str | None:
        """The phone in the one form in which phones are compared."""
        return canonical_phone(self.said_phone, region)

    @property
    def is_terminal(self) -> bool:
        """Whether the call has ended in a way that we know."""
        return self.status in STATUSES


class ConversationPage(NamedTuple):
    """Records of one page that name a conversation; ``keys`` has one for every record, also for the others."""

    data: list[Conversation]
    keys: list[int]
    has_more: bool | None


class _RawPage(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: object = None


def decode_conversation_page(body: bytes) -> ConversationPage:
    """A page of the list. Raises msgspec.MsgspecError when it is no list."""
    try:
        page = msgspec.json.decode(body, type=_RawPage)
    except msgspec.DecodeError:  # one NaN, say, among its records
        page = msgspec.json.decode(msgspec.json.encode(decode_leniently(body)), type=_RawPage)
    # Copied out of the page's buffer: a record that is kept must not keep the page.
    records = [(bytes(raw), decode_leniently(bytes(raw))) for raw in page.data]
    found = [_read(content, raw) if isinstance(content, dict) else None for raw, content in records]
    has_more = page.has_more if isinstance(page.has_more, bool) else None
    keys = [
        # Attempts may share an id.
        hash(raw if call is None else (call.conversation_id, call.started_at, call.status))
        for call, (raw, _) in zip(found, records, strict=True)
    ]
    return ConversationPage([call for call in found if call is not None], keys, has_more)


def decode_conversation(body: bytes) -> Conversation:
    """One conversation, whole. Raises msgspec.MsgspecError when it is none."""
    content = decode_leniently(body)
    data = content.get("data") if isinstance(content, dict) else None
    conversation = _read(data, body) if isinstance(data, dict) else None
    if conversation is None:
        raise msgspec.ValidationError("no conversation")
    return conversation


def to_event(
    conversation: Conversation,
    *,
    received_at: datetime,
    may_retry: bool,
    region: str = "",
    contradicted: tuple[int, datetime] | None = None,
) -> Event | None:
    """The event that heals this call; None while it goes on, or when its status is no outcome that we know.

    ``may_retry``: the provider's figures say that recipients wait for a retry; a call that was not completed may then
    be one of theirs, and is final only once they say that none does. ``region`` is that of the agent's phones. The
    event's id follows from the content, so healing twice is one event.

    The word that a call was final is a millisecond later than the word that it was not: of the two it wins.
    ``contradicted``: the attempt number and the time of a webhook that told another status of this very call. What the
    provider says now is its later word, so it takes that number, and a time after that webhook's.
    """
    status = conversation.status
    if status is None or not conversation.is_terminal:
        return None
    is_final = status == "completed" or not may_retry
    occurred_at = conversation.ended_at or conversation.started_at
    if occurred_at is not None and is_final and status != "completed":
        occurred_at += AFTERTHOUGHT
    attempt_number = None
    if contradicted is not None:
        # From what is stored, which an older version may have taken as it came.
        attempt_number, told_at = plausible_attempts(contradicted[0]), plausible_time(contradicted[1])
        if told_at is not None:
            occurred_at = max(occurred_at or told_at, told_at + AFTERTHOUGHT)
    return Event(
        event_id=_name_event(conversation, is_final, contradicted),
        digest=hashlib.sha256(conversation.body).digest(),
        event_type=f"call.{status}",
        target=TARGET,
        body=conversation.body,
        received_at=received_at,
        source="healed",
        agent_id=conversation.agent_id,
        phone=conversation.read_phone(region),
        ref_token=None,
        ref_no=None,
        parameters="null",
        conversation_id=conversation.conversation_id,
        attempt_number=attempt_number,
        max_attempts=None,
        status=status,
        is_final=is_final,
        next_retry_at=None,
        occurred_at=plausible_time(occurred_at),
        started_at=conversation.started_at,
        ended_at=conversation.ended_at,
        duration_seconds=conversation.duration_seconds,
        failure_reason=conversation.failure_reason,
        results=conversation.results,
    )


def recall_event(
    body: bytes, event_id: str, *, agent_id: int | None, received_at: datetime, region: str
) -> Event | None:
    """The healed event of this id, made anew from the ``body`` that was kept of it: whether it was final, its id tells.

    None where the body is no conversation, or the event contradicted a webhook, which the body does not hold.
    """
    content = decode_leniently(body)
    data = content.get("data", content) if isinstance(content, dict) else None
    conversation = _read(data, body) if isinstance(data, dict) else None
    if conversation is None:
        return None
    conversation = conversation._replace(agent_id=agent_id)
    made = [
        to_event(conversation, received_at=received_at, may_retry=may_retry, region=region)
        for may_retry in (False, True)
    ]
    return next((event for event in made if event is not None and event.event_id == event_id), None)


def _name_event(conversation: Conversation, is_final: bool, contradicted: tuple[int, datetime] | None) -> str:
    matters = (*conversation._replace(body=b""), is_final, *(contradicted or ()))
    return f"healed:{hashlib.sha256(msgspec.json.encode(matters)).hexdigest()[:40]}"


def _read(content: dict[str, object], body: bytes) -> Conversation | None:
    conversation_id = to_text(content.get("conversation_id"))
    if conversation_id is None or not 0 < len(conversation_id) <= TEXT_LIMIT:
        return None
    return Conversation(
        conversation_id=conversation_id,
        agent_id=within(to_int(content.get("agent_id")), 0, LARGEST_ID),
        said_phone=to_text(content.get("contact_number")),
        status=_read_status(content.get("status")),
        started_at=_read_milliseconds(content.get("start_timestamp")),
        ended_at=_read_milliseconds(content.get("end_timestamp")),
        duration_seconds=plausible_duration(to_int(content.get("duration_seconds"))),
        failure_reason=to_text(content.get("failure_reason")),
        results=bytes(to_json(content.get("results"))).decode(),
        body=body,
    )


def _read_status(value: object) -> str | None:
    """The word in the form of the webhooks' statuses: ``No-Answer`` and ``call.no_answer`` mean the same."""
    text = to_text(value)
    return re.sub(r"[\s-]+", "_", text.strip().lower()).removeprefix("call.") if text else None


def _read_milliseconds(value: object) -> datetime | None:
    number = to_int(value)
    try:
        return plausible_time(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number)) if number else None
    except OverflowError:
        return None
