"""What the contract leaves open: odd, missing and absurd fields cost themselves, never the event."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formant.events import Event, Unreadable
from service.formant.lenient import bound_numbers
from tests.factories import decode, make_payload
from tests.formant.bodies import decode_body, make_body

ABSENT = object()


def decode_with(path: str, value: object) -> Event:
    """The usual event with the field at ``path`` replaced."""
    payload: dict[str, Any] = make_payload(recipient=3, attempt=2)
    *parents, name = path.split(".")
    inner = payload
    for parent in parents:
        inner = inner[parent]
    if value is ABSENT:
        del inner[name]
    else:
        inner[name] = value
    return decode(payload)[0]


@pytest.mark.parametrize("value", [ABSENT, None])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("timestamp", {"occurred_at": None}),
        ("data.results", {"results": "null"}),
        ("data.retry", {"attempt_number": None, "max_attempts": None, "is_final": True}),
        ("data.retry_context", {}),
        ("data.transcript", {}),
        ("data.call.agent_id", {"agent_id": None}),
        ("data.call.call_parameters", {"parameters": "null", "ref_token": None, "ref_no": None}),
        ("data.call.to_phone", {"phone": None}),
        ("data.call.from_phone", {"from_phone": None}),
        ("data.call.trace_id", {"trace_id": None}),
        ("data.call.duration_seconds", {"duration_seconds": None}),
        ("data.call.started_at", {"started_at": None}),
        ("data.call.ended_at", {"ended_at": None}),
        ("data.call.failure_reason", {"failure_reason": None}),
        ("data.call.status", {}),
        ("data.retry.attempt_number", {"attempt_number": None}),
        ("data.retry.max_attempts", {"max_attempts": None}),
        ("data.retry.is_final_attempt", {"is_final": True}),
        ("data.retry.next_retry_at", {"next_retry_at": None}),
    ],
)
def test_a_field_that_is_absent_or_null_costs_only_itself(path: str, value: object, fields: dict[str, Any]) -> None:
    event = decode_with(path, value)
    usual = decode(make_payload(recipient=3, attempt=2))[0]
    ids = {name: getattr(event, name) for name in ("event_id", "digest", "body", "trace_id")}
    assert event == usual._replace(**ids | fields)


@pytest.mark.parametrize(
    ("path", "value", "field", "expected"),
    [
        ("data.call.duration_seconds", 62.4, "duration_seconds", 62),
        ("data.call.duration_seconds", "62", "duration_seconds", 62),
        ("data.call.duration_seconds", "62.9", "duration_seconds", None),
        ("data.call.duration_seconds", -1, "duration_seconds", None),
        ("data.call.duration_seconds", 86_400, "duration_seconds", 86_400),
        ("data.call.duration_seconds", 86_401, "duration_seconds", None),
        ("data.call.duration_seconds", 1764000000, "duration_seconds", None),
        ("data.call.duration_seconds", 2**31, "duration_seconds", None),
        ("data.call.duration_seconds", 1e300, "duration_seconds", None),
        ("data.call.duration_seconds", True, "duration_seconds", None),
        ("data.call.duration_seconds", {"seconds": 62}, "duration_seconds", None),
        ("data.call.agent_id", "123", "agent_id", 123),
        ("data.call.agent_id", 123.0, "agent_id", 123),
        ("data.call.agent_id", 2**63, "agent_id", None),
        ("data.call.agent_id", "agent", "agent_id", None),
        ("data.call.conversation_id", 77, "conversation_id", "77"),
        ("event_id", 4711, "event_id", "4711"),
        ("data.call.to_phone", 919876543210, "phone", "+919876543210"),
        ("data.call.to_phone", [], "phone", None),
        ("data.call.failure_reason", 486, "failure_reason", "486"),
        ("data.call.failure_reason", {"code": 486}, "failure_reason", None),
        ("data.retry.attempt_number", "2", "attempt_number", 2),
        ("data.retry.attempt_number", 0, "attempt_number", None),
        ("data.retry.attempt_number", -3, "attempt_number", None),
        ("data.retry.attempt_number", 1_000, "attempt_number", 1_000),
        ("data.retry.attempt_number", 1_001, "attempt_number", None),
        ("data.retry.max_attempts", 1764000000, "max_attempts", None),
        ("data.retry.attempt_number", 2**31, "attempt_number", None),
        ("data.results", [1, "two"], "results", '[1, "two"]'),
        ("data.results", "free text", "results", '"free text"'),
        ("data.call.call_parameters", ["a"], "parameters", '["a"]'),
    ],
)
def test_a_field_of_another_type_is_understood_where_it_makes_sense(
    path: str, value: object, field: str, expected: object
) -> None:
    assert getattr(decode_with(path, value), field) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-16T10:31:00", datetime(2026, 3, 16, 10, 31, tzinfo=UTC)),
        ("2026-03-16 10:31:00.5+00:00", datetime(2026, 3, 16, 10, 31, 0, 500_000, tzinfo=UTC)),
        ("2026-03-16T10:31:00+05:30", datetime(2026, 3, 16, 5, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59.999999Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("1999-12-31T23:59:59.999999Z", None),
        ("2000-01-01T05:30:00+05:30", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2099-12-31T23:59:59.999999", datetime(2099, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2100-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+05:30", None),
        ("9999-12-31T23:59:59-05:30", None),
        ("0000-00-00T00:00:00Z", None),
        ("2026-02-30T10:00:00Z", None),
        ("2026-03-16T25:00:00Z", None),
        ("+12026-03-16T10:31:00Z", None),
        ("yesterday", None),
        ("", None),
        ("2026-03-16T10:31:00Z" + " " * 100, None),
        ("2026-03-16T10:31Z", datetime(2026, 3, 16, 10, 31, tzinfo=UTC)),
        ("2026-03-16 10:31", datetime(2026, 3, 16, 10, 31, tzinfo=UTC)),
        ("20260316T103100Z", datetime(2026, 3, 16, 10, 31, tzinfo=UTC)),
        (" 2026-03-16T16:01+05:30 ", datetime(2026, 3, 16, 10, 31, tzinfo=UTC)),
        (1_773_657_060, datetime(2026, 3, 16, 10, 31, tzinfo=UTC)),
        (1_773_657_060_250, datetime(2026, 3, 16, 10, 31, 0, 250_000, tzinfo=UTC)),
        (1_773_657_060.25, datetime(2026, 3, 16, 10, 31, 0, 250_000, tzinfo=UTC)),
        ("1773657060", datetime(2026, 3, 16, 10, 31, tzinfo=UTC)),
        ("1773657060250", datetime(2026, 3, 16, 10, 31, 0, 250_000, tzinfo=UTC)),
        (1_773_657_060_250_000, None),
        (0, None),
        (-1, None),
        (1e300, None),
        ("2026-03-16", None),
        ("20260316", None),
        ("12:30", None),
        (True, None),
    ],
)
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("timestamp", "occurred_at"),
        ("data.call.started_at", "started_at"),
        ("data.call.ended_at", "ended_at"),
        ("data.retry.next_retry_at", "next_retry_at"),
    ],
)
def test_times_are_converted_to_utc_and_absurd_ones_count_as_absent(
    path: str, field: str, text: object, expected: datetime | None
) -> None:
    time = getattr(decode_with(path, text), field)
    assert time == expected
    assert time is None or time.tzinfo is UTC


@pytest.mark.parametrize(
    ("number", "served"),
    [
        ("1e400", '"1e400"'), ("-1E+400", '"-1E+400"'), ("1e-400", '"1e-400"'), ("0.5e99999", '"0.5e99999"'),
        ("1" * 400, f'"{"1" * 400}"'), ("1e308", "1e308"), ("1e-300", "1e-300"), ("0e999", "0e999"), ("1e23", "1e23"),
        ("-0.0", "-0.0"), ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ('"a 1e400 b"', '"a 1e400 b"'), ('"\\"1e400"', '"\\"1e400"'),
        ('[1e400,{"1e400":2}]', '["1e400",{"1e400":2}]'),
    ],
)  # fmt: skip
def test_a_number_that_no_double_holds_is_a_text_as_it_came(number: str, served: str) -> None:
    event = decode_body(make_body(results=f'{{"score": {number}}}'))
    assert isinstance(event, Event)
    assert event.results == f'{{"score": {served}}}'
    odd = decode_body(make_body(duration='"62"', results=f'{{"score": {number}}}'))  # read field by field
    assert isinstance(odd, Event)
    assert json.loads(odd.results) == json.loads(f'{{"score": {served}}}')


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.text(), st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.builds(lambda digits, power: Number(f"{digits}e{power}"), st.integers(-99, 99), st.integers(-999, 999)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip


class Number(str):
    """A number of JSON by its text."""


def write_json(value: object) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(write_json, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{write_json(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def bound(value: object) -> object:
    """What a reader with doubles gets."""
    if isinstance(value, Number):
        number = float(value)
        is_lost = math.isinf(number) or (number == 0 and int(value.partition("e")[0]) != 0)
        return str(value) if is_lost else number
    if isinstance(value, list):
        return list(map(bound, value))
    return {key: bound(item) for key, item in value.items()} if isinstance(value, dict) else value


@settings(deadline=None, derandomize=True, max_examples=500)
@given(JSON)
def test_any_json_is_served_with_finite_numbers_and_otherwise_unchanged(value: object) -> None:
    assert json.loads(bound_numbers(write_json(value))) == bound(value)


@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_beyond_all_measure_cost_only_themselves(digits: int) -> None:
    number = "9" * digits
    event = decode_body(make_body(duration=number, agent_id=number, results=f'{{"score": {number}}}'))
    assert isinstance(event, Event)
    assert (event.duration_seconds, event.agent_id, event.conversation_id) == (None, None, "c-1")
    assert list(json.loads(event.results, parse_int=str)) == ["score"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_know_become_text_as_they_came(number: str) -> None:
    event = decode_body(make_body(duration=number, results=f'{{"score": {number}}}'))
    assert isinstance(event, Event)
    assert event.duration_seconds is None
    assert json.loads(event.results) == {"score": number}


@pytest.mark.parametrize(
    ("escaped", "stored"),
    [
        (r"a\u0000b", "a\ufffdb"),
        (r"a\ud83db", "a\ufffdb"),
        (r"a\uDE00b", "a\ufffdb"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\ude00", "😀"),
        (r"\uD83D\uDE00", "😀"),
        (r"\\u0000", r"\u0000"),
        (r"\\ud83d", r"\ud83d"),
        ("😀 ₹", "😀 ₹"),
    ],
)
def test_text_that_postgres_cannot_hold_is_replaced_and_all_other_text_kept(escaped: str, stored: str) -> None:
    text = f'{{"k{escaped}": "{escaped}"}}'
    body = make_body(event_id=escaped, parameters=text, results=text, reason=f'"{escaped}"')
    event = decode_body(body)
    assert isinstance(event, Event)
    assert (event.event_id, event.failure_reason, event.body) == (stored, stored, body)
    assert json.loads(event.parameters) == json.loads(event.results) == {f"k{stored}": stored}


@pytest.mark.parametrize("raw", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
@pytest.mark.parametrize("field", ["event_id", "parameters", "results", "reason"])
def test_bytes_that_are_not_utf8_are_replaced_in_any_field(field: str, raw: bytes) -> None:
    mark = "@"
    value = {"event_id": mark, "reason": f'"{mark}"'}.get(field, f'{{"k": "{mark}"}}')
    event = decode_body(make_body(**{field: value}).replace(mark.encode(), raw))
    assert isinstance(event, Event)
    assert "\ufffd" in str(event._replace(body=b"", digest=b""))


def test_a_byte_order_mark_is_no_hindrance() -> None:
    event = decode_body(b"\xef\xbb\xbf" + make_body())
    assert isinstance(event, Event)
    assert event.body.startswith(b"\xef\xbb\xbf")


def test_of_duplicate_keys_the_last_one_counts() -> None:
    event = decode_body(make_body().replace(b'"to_phone"', b'"to_phone": "+911", "to_phone"'))
    assert isinstance(event, Event)
    assert event.phone == "+919876543210"


@pytest.mark.parametrize("field", ["parameters", "results"])
def test_duplicate_keys_inside_free_form_fields_are_no_hindrance(field: str) -> None:
    event = decode_body(make_body(**{field: '{"a": 1, "a": 2}'}))
    assert isinstance(event, Event)
    assert json.loads(getattr(event, field)) == {"a": 2}


def test_ids_that_are_long_numbers_stay_apart_and_one_that_may_be_another_is_none() -> None:
    """Two of them must not become one float, or the second event is taken for the first's and lost."""
    numbers = ("1234567890123456781", "1234567890123456782", str(2**63 - 1), str(-(2**63)))
    events = [decode_body(make_body().replace(b'"e-1"', number.encode())) for number in numbers]
    assert [event.event_id for event in events] == list(numbers)
    calls = [decode_body(make_body().replace(b'"c-1"', number.encode())) for number in numbers]
    assert [call.conversation_id for call in calls if isinstance(call, Event)] == list(numbers)
    for number in (str(2**63), "1" * 40, "1e300"):
        assert isinstance(decode_body(make_body().replace(b'"e-1"', number.encode())), Unreadable)
        assert isinstance(decode_body(make_body().replace(b'"c-1"', number.encode())), Unreadable)
