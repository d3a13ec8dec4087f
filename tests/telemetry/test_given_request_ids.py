"""Request ids: which of those that come with a request are kept, and that none of them could name a person."""

import re

import pytest

from service.telemetry.context import choose_request_id, is_plain

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
UUID = "550e8400-e29b-41d4-a716-446655440000"


def choose(**headers: str) -> str:
    """The id for a request with these headers."""
    return choose_request_id([(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()])


def is_new(request_id: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", request_id) is not None and request_id != TRACE_ID


def test_a_request_without_an_id_gets_one_of_its_own() -> None:
    assert is_new(choose())
    assert choose() != choose()


def test_a_new_id_is_never_one_that_logs_would_withhold(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [int("4" * 16 + "0919876543210123", 16), int("1" * 32, 16), int(UUID.replace("-", ""), 16)]
    monkeypatch.setattr("random.getrandbits", lambda bits: drawn.pop(0))
    assert choose() == UUID.replace("-", "")
    assert drawn == []


def test_the_trace_id_comes_before_the_request_id() -> None:
    assert choose(x_request_id=UUID) == UUID
    assert choose(traceparent=TRACEPARENT, x_request_id=UUID) == TRACE_ID
    assert choose(x_request_id=UUID, traceparent=TRACEPARENT) == TRACE_ID


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE_ID}-{'0' * 16}-01", f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        TRACEPARENT.upper(), TRACEPARENT[:-1], "00-00000000000000000000919876500001-00f067aa0ba902b7-01",
        f"{TRACEPARENT}-more", f"{TRACEPARENT}{TRACEPARENT}", "", "00-0-0-00",
    ],
)  # fmt: skip
def test_a_traceparent_that_is_none_is_ignored(traceparent: str) -> None:
    assert is_new(choose(traceparent=traceparent))
    assert choose(traceparent=traceparent, x_request_id=UUID) == UUID


def test_a_traceparent_of_a_later_version_may_say_more() -> None:
    assert choose(traceparent=f"01{TRACEPARENT[2:]}-more") == TRACE_ID


@pytest.mark.parametrize(
    "given",
    [
        "+919876500001", "919876500001", "91-9876-500001", "0091-98-765-00-001", "98765.00001", "Rahul-the-customer",
        "a1", "", "with spaces 123456", 'quote"123456', "new\nline123456", "ünïcode123456", "-leads-123456",
        "a" * 128 + "1", "%31%32%33abc", "1" * 15, "1541815603606036480", "call-919876500001", "91a-9876500001",
        "tel:91-98765-00001", "lead_98765.00001_x", "9198765abc00001.1234567", "919876500001abcdef", "xxxxxxxx9876500",
        "00000000-0000-0000-0000-919876500001", "00000000000000000000919876500001", "abcdef00000000000000919876500001",
        "4bf92f35-77b3-4da6-c3ce-919876500001", "9876500001" * 3 + "98", "98765000019876512345987650000198",
    ],
)  # fmt: skip
def test_text_that_is_too_long_or_strange_or_may_be_a_phone_or_a_name_is_no_request_id(given: str) -> None:
    assert not is_plain(given)
    assert is_new(choose(x_request_id=given))


@pytest.mark.parametrize(
    "given",
    [
        UUID,
        UUID.upper(),
        TRACE_ID,
        TRACE_ID.upper(),
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "evt_1NG8Du2eZv",
        "a" * 127 + "1",
        "12345678-1234-4234-8234-12345678901a",
        "0000000000000000a3ce929d0e0e4736",
        "req-123456-abc-123456",
    ],
)
def test_the_ids_that_programs_make_are_kept(given: str) -> None:
    assert is_plain(given)
    assert choose(x_request_id=f" {given} ") == given
