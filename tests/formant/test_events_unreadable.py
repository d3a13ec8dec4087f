"""Bodies that name no event, no call or no known status: kept whole, with the reason, never guessed at."""

import hashlib

import pytest

from service.formant.events import TEXT_LIMIT, Event, Unreadable
from tests.factories import RECEIVED, encode, make_payload
from tests.formant.bodies import decode_body, make_body


def refuse(body: bytes, hint: str | None = None) -> Unreadable:
    """The unreadable that ``body`` becomes; what is common to all is checked here."""
    unreadable = decode_body(body, hint)
    assert isinstance(unreadable, Unreadable)
    assert (unreadable.body, unreadable.digest) == (body, hashlib.sha256(body).digest())
    assert (unreadable.target, unreadable.received_at) == ("default", RECEIVED)
    return unreadable


def test_the_body_that_the_tests_here_start_from_is_readable() -> None:
    assert isinstance(decode_body(make_body()), Event)


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"\x00", b"event_id=1", b"{", b'{"event_id": "e-1"', b"\xff\xfe{\x00}\x00", b"<xml/>", b"{}{}",
     b'{"event_id": "e-1",}', b"{'event_id': 'e-1'}", make_body()[:-1], make_body() + b"]"],
)  # fmt: skip
def test_what_is_no_json_is_not_json(body: bytes) -> None:
    assert (refuse(body).reason, refuse(body).detail) == ("not_json", "body")


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"1", b'"text"', b'"too_deep"', b"true", b"NaN", b"[%s]" % make_body()]
)
def test_json_that_is_no_object_is_not_an_object(body: bytes) -> None:
    assert refuse(body).reason == "not_an_object"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_ten_thousand_levels_are_too_deep(opening: bytes, closing: bytes) -> None:
    deep = opening * 10_000 + b"1" + closing * 10_000
    assert refuse(deep).reason == "too_deep"
    for field in (b'"results": {}', b'"call_parameters": {}'):
        name = field.partition(b" ")[0]
        assert refuse(make_body().replace(field, name + b" " + deep)).reason == "too_deep"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{}", "data.call"),
        (b'{"event_id": "e-1", "event_type": "call.busy"}', "data.call"),
        (b'{"event_id": "e-1", "data": null}', "data.call"),
        (b'{"event_id": "e-1", "data": {"call": []}}', "data.call"),
        (b'{"data": {"call": {"conversation_id": "c-1", "status": "busy"}}}', "event_id"),
        (make_body().replace(b'"e-1"', b"null"), "event_id"),
        (make_body().replace(b'"e-1"', b"{}"), "event_id"),
        (make_body().replace(b'"e-1"', b"true"), "event_id"),
        (make_body().replace(b'"conversation_id": "c-1", ', b""), "data.call.conversation_id"),
        (make_body().replace(b'"c-1"', b"[1]"), "data.call.conversation_id"),
    ],
)
def test_a_missing_id_or_call_is_named(body: bytes, detail: str) -> None:
    assert (refuse(body).reason, refuse(body).detail) == ("missing_field", detail)


@pytest.mark.parametrize("text", ["", "x" * (TEXT_LIMIT + 1)])
@pytest.mark.parametrize(
    ("value", "detail"), [("e-1", "event_id"), ("c-1", "data.call.conversation_id")]
)  # fmt: skip
def test_an_empty_or_over_long_id_cannot_be_used(value: str, detail: str, text: str) -> None:
    unreadable = refuse(make_body().replace(f'"{value}"'.encode(), f'"{text}"'.encode()))
    assert (unreadable.reason, unreadable.detail) == ("unusable_field", f"{detail}: 1 to {TEXT_LIMIT} characters")


@pytest.mark.parametrize("value", ["e-1", "c-1"])
def test_an_id_of_the_greatest_length_can_be_used(value: str) -> None:
    assert isinstance(decode_body(make_body().replace(value.encode(), b"x" * TEXT_LIMIT)), Event)


def test_the_reason_never_quotes_the_body() -> None:
    payload = make_payload(phone="+919876543210")
    payload["event_type"] = "+919876543210"
    unreadable = refuse(encode(payload))
    assert "9876543210" not in unreadable.reason + unreadable.detail


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"not json", "hint"),
        (b"[]", "hint"),
        (b'{"event_id": ""}', "hint"),
        (b'{"event_id": "%s"}' % (b"x" * (TEXT_LIMIT + 1)), "hint"),
        (b'{"event_id": null}', "hint"),
        (b'{"event_id": "e-9"}', "e-9"),
        (b'{"event_id": 9}', "9"),
        (b'{"event_id": "e\\u00009"}', "e\ufffd9"),
    ],
)
def test_the_unsigned_headers_event_id_serves_only_where_the_body_has_none(body: bytes, expected: str) -> None:
    assert refuse(body, hint="hint").event_id == expected


def test_without_any_event_id_there_is_none() -> None:
    assert refuse(b"not json").event_id is None


def test_the_unsigned_headers_event_id_never_overrules_a_readable_body() -> None:
    event = decode_body(make_body(), hint="of-the-header")
    assert event.event_id == "e-1"
