"""What holds for every body that is decoded."""

import hashlib
import json
from typing import Any

from service.formant.events import STATUSES, TEXT_LIMIT, Event, EventDecoder, Unreadable
from tests.factories import RECEIVED

DECODER = EventDecoder("outcome_ref")
REASONS = {"not_json", "not_an_object", "too_deep", "missing_field", "unusable_field", "unknown_event_type"}


def check(body: bytes) -> Event | Unreadable:
    decoded = DECODER.decode_event(body, "default", RECEIVED, None)
    assert (decoded.body, decoded.digest) == (body, hashlib.sha256(body).digest())
    if isinstance(decoded, Unreadable):
        assert decoded.reason in REASONS
        assert decoded.event_id is None or is_storable(decoded.event_id)
        return decoded
    assert all(is_storable(field) for field in decoded if isinstance(field, str))
    assert is_storable_json(decoded.parameters)
    assert is_storable_json(decoded.results)
    assert decoded.status in STATUSES
    assert 1 <= len(decoded.event_id) <= TEXT_LIMIT
    assert 1 <= len(decoded.conversation_id) <= TEXT_LIMIT
    for time in (decoded.occurred_at, decoded.started_at, decoded.ended_at, decoded.next_retry_at):
        assert time is None or time.utcoffset() is not None
    for number in (decoded.attempt_number, decoded.max_attempts, decoded.duration_seconds, decoded.ref_no):
        assert number is None or (isinstance(number, int) and 0 <= number < 2**31)
    assert decoded.agent_id is None or abs(decoded.agent_id) < 2**63
    assert (decoded.ref_token is None) == (decoded.ref_no is None)
    return decoded


def is_storable(text: str) -> bool:
    """Whether Postgres takes it as text."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def is_storable_json(text: str) -> bool:
    """Whether Postgres takes it as jsonb: strict JSON whose strings it can hold."""
    json.loads(text, parse_constant=_refuse, parse_int=str, object_pairs_hook=_check_pairs)
    return is_storable(text) and is_storable(str(_strings(json.loads(text, parse_int=str))))


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _check_pairs(pairs: list[tuple[str, Any]]) -> None:
    assert all(is_storable(key) for key, _ in pairs)


def _strings(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(key + _strings(item) for key, item in value.items())
    if isinstance(value, list):
        return "".join(map(_strings, value))
    return value if isinstance(value, str) else ""
