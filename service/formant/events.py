"""Decodes webhook bodies into events, tolerating everything that the contract leaves open.

``decode_event`` never raises. A body that follows the contract takes the fast path, through typed structs. Anything
else (odd types, ``\\u0000``, lone surrogates, NaN, a byte order mark) takes the lenient path, field by field. A body
without an event id, a call or a known status is ``Unreadable``: the caller stores it unchanged, and nothing is guessed.
"""

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from service.formant.kinds import NO_KINDS, CallKinds
from service.formant.lenient import bound_numbers, decode_leniently, to_int, to_json, to_text, to_time
from service.formant.plausible import LARGEST_ID, plausible_attempts, plausible_duration, plausible_time, within
from service.formant.regions import Regions
from service.phones.canonical import CACHED, canonical_phone

STATUSES = ("completed", "busy", "no_answer", "failed", "socket_failure", "telephony_failed", "unreachable")
TEXT_LIMIT = 200
CALLER_LIMIT = 40
ANYWHERE = Regions()
_EMPTY = msgspec.Raw(b"null")
_ABSENT: Any = msgspec.field(default_factory=lambda: _EMPTY)  # a default could not be shown in a schema


class Event(NamedTuple):
    """One event; fields are in the order of ``ingest``'s arguments. Times are aware and plausible; JSON is text."""

    event_id: str
    digest: bytes
    event_type: str
    target: str
    body: bytes
    received_at: datetime
    source: str
    agent_id: int | None
    phone: str | None
    """As ``canonical_phone`` reads it; the body has the original."""
    ref_token: str | None
    ref_no: int | None
    parameters: str
    conversation_id: str
    attempt_number: int | None
    max_attempts: int | None
    status: str
    is_final: bool
    next_retry_at: datetime | None
    occurred_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: int | None
    failure_reason: str | None
    results: str
    signature: bytes | None = None
    """The provider's HMAC of the body, verified on arrival; None where it was not signed, or is not a webhook."""
    kind: str | None = None
    """Of a call that a rule knows to be in no batch: single or inbound. ``phone`` is then the person's,
    None if withheld."""
    from_phone: str | None = None
    """The number that the call was made from, as ``canonical_phone`` reads it."""
    trace_id: str | None = None
    """The provider's id of the call, for its support."""


class Unreadable(NamedTuple):
    """A signed body that cannot be read: ``reason`` is a fixed word, ``detail`` names the field."""

    event_id: str | None
    digest: bytes
    target: str
    body: bytes
    received_at: datetime
    reason: str
    detail: str
    signature: bytes | None = None


def to_unreadable(event: Event, reason: str, detail: str) -> Unreadable:
    """Turns a readable event that cannot be used into an ``Unreadable``."""
    return Unreadable(
        event.event_id, event.digest, event.target, event.body, event.received_at, reason, detail, event.signature
    )


class WebhookRetry(msgspec.Struct, gc=False):
    """Whether another attempt follows."""

    attempt_number: int | None = None
    max_attempts: int | None = None
    is_final_attempt: bool | None = None
    next_retry_at: datetime | None = None


class WebhookCall(msgspec.Struct, gc=False):
    """One call attempt: the fields used here. The rest stays in the stored body."""

    conversation_id: str
    agent_id: int | None = None
    call_parameters: Annotated[msgspec.Raw, Meta(extra={"shape": dict[str, Any] | None})] = _ABSENT
    """The other columns of the recipient's row, including the reference."""
    to_phone: str | None = None
    """The recipient's phone."""
    from_phone: str | None = None
    """The phone that called: the agent's, or the person's where the call is inbound."""
    trace_id: str | None = None
    """The provider's id of the call, for its support."""
    duration_seconds: int | float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure_reason: str | None = None


class WebhookData(msgspec.Struct, gc=False):
    """The content of the event."""

    call: WebhookCall
    results: Annotated[msgspec.Raw, Meta(extra={"shape": Any})] = _ABSENT
    """The agent's results of the call: any JSON."""
    retry: WebhookRetry | None = None


class Webhook(msgspec.Struct, gc=False):
    """The body of a webhook (contract, "Webhooks")."""

    event_id: str
    """The key by which repeated deliveries are counted once."""
    event_type: str
    """``call.`` followed by the status."""
    data: WebhookData
    timestamp: datetime | None = None
    """When the provider created the event."""


class _UnreadableError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class EventDecoder:
    """Decodes bodies. ``ref_columns`` are the call parameters that may contain the reference ("" for none); the first
    one that contains a reference wins. ``kinds`` are the rules for calls without a reference."""

    def __init__(
        self, ref_columns: str | Iterable[str], regions: Regions = ANYWHERE, kinds: CallKinds = NO_KINDS
    ) -> None:
        self._find_region = regions.find
        self._kinds = kinds
        self._decode = msgspec.json.Decoder(Webhook).decode
        columns = [ref_columns] if isinstance(ref_columns, str) else dict.fromkeys(ref_columns)
        self._reference_decoders = [_reference_decoder(column) for column in columns if column]

    def decode_event(
        self, body: bytes, target: str, received_at: datetime, hint: str | None, signature: bytes | None = None
    ) -> Event | Unreadable:
        """The event in ``body``. ``hint`` is the event id of the unsigned header, used for unreadable bodies only."""
        digest = hashlib.sha256(body).digest()
        try:
            envelope = self._decode_envelope(body)
            return self._build(envelope, digest, target, body, received_at, signature)
        except _UnreadableError as error:
            event_id = _find_event_id(body) or hint
            return Unreadable(event_id, digest, target, body, received_at, error.reason, error.detail, signature)

    def _decode_envelope(self, body: bytes) -> Webhook:
        # msgspec.Raw lets NUL through, and Postgres refuses it.
        if b"\\u0000" not in body:
            try:
                return self._decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass
        return _read_leniently(body)

    def _build(
        self, envelope: Webhook, digest: bytes, target: str, body: bytes, received_at: datetime, signature: bytes | None
    ) -> Event:
        call = envelope.data.call
        retry = envelope.data.retry or _NO_RETRY
        status = envelope.event_type.removeprefix("call.")
        if status not in STATUSES or status == envelope.event_type:
            raise _UnreadableError("unknown_event_type", "event_type")
        if not 0 < len(envelope.event_id) <= TEXT_LIMIT:
            raise _UnreadableError("unusable_field", f"event_id: 1 to {TEXT_LIMIT} characters")
        if not 0 < len(call.conversation_id) <= TEXT_LIMIT:
            raise _UnreadableError("unusable_field", f"data.call.conversation_id: 1 to {TEXT_LIMIT} characters")
        try:
            parameters = bound_numbers(bytes(call.call_parameters).decode())
            results = bound_numbers(bytes(envelope.data.results).decode())
        except UnicodeDecodeError:
            return self._build(_read_leniently(body), digest, target, body, received_at, signature)
        ref_token, ref_no = self._read_reference(call.call_parameters)
        next_retry_at = plausible_time(retry.next_retry_at)
        agent_id = within(call.agent_id, -LARGEST_ID, LARGEST_ID)
        region = self._find_region(agent_id)
        kind, phone = None, canonical_phone(call.to_phone, region)
        if self._kinds and ref_token is None:
            kind, phone = self._kinds.find(target, agent_id, call.from_phone, call.to_phone, parameters, region)
        # In the order of the fields: to name all of them would take as long as decoding the JSON.
        return Event(
            envelope.event_id,
            digest,
            envelope.event_type,
            target,
            body,
            received_at,
            "webhook",
            agent_id,
            phone,
            ref_token,
            ref_no,
            parameters,
            call.conversation_id,
            plausible_attempts(retry.attempt_number),
            plausible_attempts(retry.max_attempts),
            status,
            is_final(status, retry.is_final_attempt, next_retry_at),
            next_retry_at,
            plausible_time(envelope.timestamp),
            plausible_time(call.started_at),
            plausible_time(call.ended_at),
            plausible_duration(call.duration_seconds),
            call.failure_reason,
            results,
            signature,
            kind,
            None if kind == "inbound" else read_caller(call.from_phone, region),
            read_trace_id(call.trace_id),
        )

    def _read_reference(self, parameters: msgspec.Raw) -> tuple[str | None, int | None]:
        for decode in self._reference_decoders:
            found = _split_reference(decode(parameters))
            if found[0] is not None:
                return found
        return None, None


_NO_RETRY = WebhookRetry()


def read_caller(text: str | None, region: str) -> str | None:
    """A number that calls are made from, in canonical form; the first ``CALLER_LIMIT`` characters of anything else."""
    is_short = text is not None and len(text) <= CALLER_LIMIT
    return _read_short_caller(text, region) if is_short else _read_caller(text, region)


def _read_caller(text: str | None, region: str) -> str | None:
    phone = canonical_phone(text, region)
    return phone[:CALLER_LIMIT].strip() if phone else None


# Agents call from few numbers.
_read_short_caller = lru_cache(maxsize=CACHED)(_read_caller)


def read_trace_id(text: str | None) -> str | None:
    """The id, or None where it is empty or too long for one."""
    return text if text and len(text) <= TEXT_LIMIT else None


def is_final(status: str, is_final_attempt: bool | None, next_retry_at: datetime | None) -> bool:
    """Whether no further attempt follows, by the webhook's retry block (contract, "Webhooks").

    ``is_final_attempt`` true decides. Otherwise a ``next_retry_at`` means that another attempt follows. Without one the
    attempt is final, unless ``is_final_attempt`` is false and the call was not completed.
    """
    if is_final_attempt:
        return True
    if next_retry_at is not None:
        return False
    return is_final_attempt is None or status == "completed"


def _reference_decoder(ref_column: str) -> Callable[[msgspec.Raw], str | None]:
    struct = msgspec.defstruct("Reference", [("value", str | None, None)], rename={"value": ref_column}, gc=False)
    decode = msgspec.json.Decoder(struct).decode

    def decode_reference(parameters: msgspec.Raw) -> str | None:
        try:
            value: str | None = decode(parameters).value  # type: ignore[attr-defined]
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return value

    return decode_reference


def _split_reference(reference: str | None) -> tuple[str | None, int | None]:
    if reference is None:
        return None, None
    token, _, number = reference.partition("-")
    if len(token) > TEXT_LIMIT or not (number.isascii() and number.isdecimal() and len(number) <= 9):
        return None, None
    return token, int(number)


def _read_leniently(body: bytes) -> Webhook:
    content = decode_leniently(body)
    if isinstance(content, str):
        raise _UnreadableError(content, "body")
    if not isinstance(content, dict):
        raise _UnreadableError("not_an_object", "body")
    data = content.get("data")
    call = data.get("call") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(call, dict):
        raise _UnreadableError("missing_field", "data.call")
    event_id = to_text(content.get("event_id"))
    conversation_id = to_text(call.get("conversation_id"))
    if event_id is None or conversation_id is None:
        raise _UnreadableError("missing_field", "event_id" if event_id is None else "data.call.conversation_id")
    event_type = to_text(content.get("event_type")) or f"call.{to_text(call.get('status')) or ''}"
    retry = data.get("retry")
    return Webhook(
        event_id=event_id,
        event_type=event_type,
        timestamp=to_time(content.get("timestamp")),
        data=WebhookData(
            call=WebhookCall(
                conversation_id=conversation_id,
                agent_id=to_int(call.get("agent_id")),
                call_parameters=to_json(call.get("call_parameters")),
                to_phone=to_text(call.get("to_phone")),
                from_phone=to_text(call.get("from_phone")),
                trace_id=to_text(call.get("trace_id")),
                duration_seconds=to_int(call.get("duration_seconds")),
                started_at=to_time(call.get("started_at")),
                ended_at=to_time(call.get("ended_at")),
                failure_reason=to_text(call.get("failure_reason")),
            ),
            results=to_json(data.get("results")),
            retry=_read_retry(retry) if isinstance(retry, dict) else None,
        ),
    )


def _read_retry(retry: dict[str, object]) -> WebhookRetry:
    is_last = retry.get("is_final_attempt")
    return WebhookRetry(
        attempt_number=to_int(retry.get("attempt_number")),
        max_attempts=to_int(retry.get("max_attempts")),
        is_final_attempt=is_last if isinstance(is_last, bool) else None,
        next_retry_at=to_time(retry.get("next_retry_at")),
    )


def _find_event_id(body: bytes) -> str | None:
    content = decode_leniently(body)
    event_id = to_text(content.get("event_id")) if isinstance(content, dict) else None
    return event_id if event_id and len(event_id) <= TEXT_LIMIT else None
