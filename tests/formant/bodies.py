"""Webhook bodies written as text, for what ``json.dumps`` cannot write."""

from service.formant.events import Event, EventDecoder, Unreadable
from tests.factories import RECEIVED


def make_body(
    *,
    event_id: str = "e-1",
    agent_id: str = "123",
    duration: str = "62",
    parameters: str = "{}",
    results: str = "{}",
    reason: str = "null",
) -> bytes:
    """A body of the contract; all but ``event_id`` is JSON text."""
    call = (
        f'"agent_id": {agent_id}, "conversation_id": "c-1", "duration_seconds": {duration}, '
        f'"call_parameters": {parameters}, "failure_reason": {reason}, "to_phone": "+919876543210"'
    )
    return (
        f'{{"event_id": "{event_id}", "event_type": "call.completed", '
        f'"data": {{"call": {{{call}}}, "results": {results}}}}}'
    ).encode()


def decode_body(body: bytes, hint: str | None = None) -> Event | Unreadable:
    """What the service makes of it."""
    return EventDecoder("outcome_ref").decode_event(body, "default", RECEIVED, hint)
