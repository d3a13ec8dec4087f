"""Conversations (contract, "Conversations"): the provider's own record of each call, and the event that heals one.

Read leniently, field by field: any word may be a status, any field may be absent. Unlike a webhook, a conversation has
no retry block, so the healer decides from the provider's figures whether a retry may follow.
"""

import hashlib
import re
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from service.formant.events import STATUSES, TEXT_LIMIT, Event, read_trace_id
from service.formant.lenient import decode_leniently, read_data, to_int, to_json, to_text, to_time
from service.formant.plausible import LARGEST_ID, plausible_attempts, plausible_duration, plausible_time, within
from service.formant.wanted import says_something
from service.phones.canonical import canonical_phone

TARGET = "conversations"
"""The target of healed events; a webhook has the inbound address instead."""
TIE_BREAK = timedelta(milliseconds=1)


class Conversation(NamedTuple):
    """One record, from a list or in full. ``body`` is its JSON as received; ``results`` is JSON text."""

    conversation_id: str
    agent_id: int | None
    raw_phone: str | None
    """As the provider wrote it. The ids of healed events are derived from it, so it must not be normalised."""
    status: str | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: int | None
    failure_reason: str | None
    results: str
    body: bytes

    def read_phone(self, region: str) -> str | None:
        """The phone in canonical form, for comparison."""
        return canonical_phone(self.raw_phone, region)

    @property
    def is_terminal(self) -> bool:
        """Whether the call has ended with a known status."""
        return self.status in STATUSES


class ConversationPage(NamedTuple):
    """The records of one page that name a conversation. ``keys`` has a key for every record, including the others."""

    data: list[Conversation]
    keys: list[int]
    has_more: bool | None
    total: int | None = None
    """The length of the list, where it is given."""


class _RawPage(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: object = None
    total: object = None


def decode_conversation_page(body: bytes) -> ConversationPage:
    """A page of the list. Raises msgspec.MsgspecError when it is not a list."""
    try:
        page = msgspec.json.decode(body, type=_RawPage)
    except msgspec.DecodeError:  # for example, a record contains NaN
        page = msgspec.json.decode(msgspec.json.encode(decode_leniently(body)), type=_RawPage)
    # Copied, so that a stored record does not keep the whole page in memory.
    records = [(bytes(raw), decode_leniently(bytes(raw))) for raw in page.data]
    found = [_read(content, raw) if isinstance(content, dict) else None for raw, content in records]
    has_more = page.has_more if isinstance(page.has_more, bool) else None
    keys = [
        # Attempts may share an id.
        hash(raw if call is None else (call.conversation_id, call.started_at, call.status))
        for call, (raw, _) in zip(found, records, strict=True)
    ]
    total = within(to_int(page.total), 0, LARGEST_ID)
    return ConversationPage([call for call in found if call is not None], keys, has_more, total)


def decode_conversation(body: bytes) -> Conversation:
    """One conversation, in full. Raises msgspec.MsgspecError when it is not a conversation."""
    data = read_data(body)
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
    """The event that heals this call; None while the call is in progress or has an unknown status.

    ``may_retry``: the provider's figures say that recipients wait for a retry. An uncompleted call may then be one of
    theirs, and is final only once the figures say that none waits. ``region`` is the region of the agent's phones. The
    event id is derived from the content, so healing twice gives one event.

    An event that says a call was final is a millisecond later than one that says it was not, so that it wins.
    ``contradicted``: the attempt number and time of a webhook that gave this call another status. The conversation is
    newer, so the event takes that attempt number and a time after the webhook's.
    """
    status = conversation.status
    if status is None or not conversation.is_terminal:
        return None
    is_final = status == "completed" or not may_retry
    occurred_at = conversation.ended_at or conversation.started_at
    if occurred_at is not None and is_final and status != "completed":
        occurred_at += TIE_BREAK
    attempt_number = None
    if contradicted is not None:
        # An older version may have stored implausible values.
        attempt_number, stated_at = plausible_attempts(contradicted[0]), plausible_time(contradicted[1])
        if stated_at is not None:
            occurred_at = max(occurred_at or stated_at, stated_at + TIE_BREAK)
    return Event(
        event_id=_derive_event_id(conversation, is_final, contradicted),
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
        trace_id=find_trace_id(conversation.body),
    )


def knows_results(results: str) -> bool:
    """Whether a conversation's results are known; the same as ``knows_results()`` in the database."""
    return says_something(msgspec.json.decode(results))


def to_details(fact: Any, conversation: Conversation, *, received_at: datetime) -> Event | None:
    """The event that adds results, failure reason and trace id to ``fact``, a row of ``list_outstanding_details``;
    None where it has none of them. All that decides where the call belongs, and what it counts as, stays as in the
    fact."""
    trace_id = find_trace_id(conversation.body)
    if not knows_results(conversation.results) and conversation.failure_reason is None and trace_id is None:
        return None
    # With neither, it would pass for an entry of the list, whose details are outstanding.
    is_bare = conversation.results == "null" and conversation.failure_reason is None
    duration = conversation.duration_seconds if fact["duration_seconds"] is None else fact["duration_seconds"]
    content = (fact["event_id"], conversation.results, conversation.failure_reason, duration)
    return Event(
        event_id=f"healed:{hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:40]}",
        digest=hashlib.sha256(conversation.body).digest(),
        event_type=f"call.{fact['status']}",
        target=TARGET,
        body=conversation.body,
        received_at=received_at,
        source="healed",
        agent_id=fact["agent_id"],
        phone=fact["phone"],
        ref_token=None,
        ref_no=None,
        parameters="null",
        conversation_id=fact["conversation_id"],
        attempt_number=fact["attempt_number"],
        max_attempts=None,
        status=fact["status"],
        is_final=fact["is_final"],
        next_retry_at=None,
        occurred_at=fact["occurred_at"],
        started_at=fact["started_at"],
        ended_at=fact["ended_at"],
        duration_seconds=duration,
        failure_reason=conversation.failure_reason,
        results="{}" if is_bare else conversation.results,
        trace_id=trace_id,
    )


def find_trace_id(body: bytes) -> str | None:
    """The trace id in a stored conversation. It is no field of ``Conversation``: event ids derive from those."""
    content = decode_leniently(body)
    data = content.get("data", content) if isinstance(content, dict) else None
    return read_trace_id(to_text(data.get("trace_id"))) if isinstance(data, dict) else None


def restore_event(
    body: bytes, event_id: str, *, agent_id: int | None, received_at: datetime, region: str
) -> Event | None:
    """The healed event with this id, rebuilt from its stored ``body``. The id determines whether it was final.

    None where the body is not a conversation, or the event contradicted a webhook, which the body does not contain.
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


def _derive_event_id(conversation: Conversation, is_final: bool, contradicted: tuple[int, datetime] | None) -> str:
    content = (*conversation._replace(body=b""), is_final, *(contradicted or ()))
    return f"healed:{hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:40]}"


def _read(content: dict[str, object], body: bytes) -> Conversation | None:
    conversation_id = to_text(content.get("conversation_id"))
    if conversation_id is None or not 0 < len(conversation_id) <= TEXT_LIMIT:
        return None
    return Conversation(
        conversation_id=conversation_id,
        agent_id=within(to_int(content.get("agent_id")), 0, LARGEST_ID),
        raw_phone=to_text(content.get("contact_number")),
        status=_read_status(content.get("status")),
        started_at=plausible_time(to_time(content.get("start_timestamp"))),
        ended_at=plausible_time(to_time(content.get("end_timestamp"))),
        duration_seconds=plausible_duration(to_int(content.get("duration_seconds"))),
        failure_reason=to_text(content.get("failure_reason")),
        results=bytes(to_json(content.get("results"))).decode(),
        body=body,
    )


def _read_status(value: object) -> str | None:
    """The status as webhooks spell it: ``No-Answer`` and ``call.no_answer`` both become ``no_answer``."""
    text = to_text(value)
    return re.sub(r"[\s-]+", "_", text.strip().lower()).removeprefix("call.") if text else None
