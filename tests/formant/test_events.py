"""Events that follow the contract: each field is found where the contract puts it."""

import hashlib
from datetime import UTC, datetime

import pytest

from service.formant.events import STATUSES, Event, EventDecoder, Unreadable
from tests.factories import RECEIVED, decode, encode, make_payload

EXAMPLE = b"""{
  "event_id": "evt-7d1f", "event_type": "call.completed", "timestamp": "2026-03-16T10:32:05Z",
  "data": {
    "call": {
      "agent_id": 123,
      "call_parameters": {"customer_phone": "+919876543210", "loan_id": "LN-1", "outcome_ref": "feedc0de-42"},
      "conversation_id": "e36853de-9cbb-441e-ad75-d3c8ac82abfb_1",
      "duration_seconds": 62,
      "started_at": "2026-03-16T10:31:00Z",
      "ended_at": "2026-03-16T16:02:02+05:30",
      "failure_reason": null,
      "from_phone": "+918000000000",
      "to_phone": "+919876543210",
      "recording_url": null,
      "status": "completed",
      "trace_id": "trace-1"
    },
    "results": {"intent": "promise_to_pay", "sentiment": "positive"},
    "retry": {"attempt_number": 1, "max_attempts": 3, "is_final_attempt": true, "next_retry_at": null},
    "retry_context": {"collected_data": {}, "retry_stage_id": "s-1"},
    "transcript": "BOT: Hello\\nHUMAN: Yes",
    "a_field_of_next_year": [1, 2]
  }
}"""


def test_the_contracts_example_decodes_to_its_fields() -> None:
    assert EventDecoder("outcome_ref").decode_event(EXAMPLE, "india", RECEIVED, "evt-of-the-header") == Event(
        event_id="evt-7d1f",
        digest=hashlib.sha256(EXAMPLE).digest(),
        event_type="call.completed",
        target="india",
        body=EXAMPLE,
        received_at=RECEIVED,
        source="webhook",
        agent_id=123,
        phone="+919876543210",
        ref_token="feedc0de",
        ref_no=42,
        parameters='{"customer_phone": "+919876543210", "loan_id": "LN-1", "outcome_ref": "feedc0de-42"}',
        conversation_id="e36853de-9cbb-441e-ad75-d3c8ac82abfb_1",
        attempt_number=1,
        max_attempts=3,
        status="completed",
        is_final=True,
        next_retry_at=None,
        occurred_at=datetime(2026, 3, 16, 10, 32, 5, tzinfo=UTC),
        started_at=datetime(2026, 3, 16, 10, 31, tzinfo=UTC),
        ended_at=datetime(2026, 3, 16, 10, 32, 2, tzinfo=UTC),
        duration_seconds=62,
        failure_reason=None,
        results='{"intent": "promise_to_pay", "sentiment": "positive"}',
        from_phone="+918000000000",
        trace_id="trace-1",
    )


@pytest.mark.parametrize("status", STATUSES)
def test_each_event_type_of_the_contract_gives_its_status(status: str) -> None:
    (event,) = decode(make_payload(status=status))
    assert (event.event_type, event.status) == (f"call.{status}", status)


def test_an_attempt_to_be_retried_keeps_its_number_and_the_time_of_the_next() -> None:
    payload = make_payload(status="busy", attempt=2, final=False)
    payload["data"]["retry"]["next_retry_at"] = "2026-03-16T14:00:00+05:30"
    (event,) = decode(payload)
    assert (event.attempt_number, event.max_attempts, event.is_final) == (2, 3, False)
    assert event.next_retry_at == datetime(2026, 3, 16, 8, 30, tzinfo=UTC)
    assert event.failure_reason == "busy"
    assert event.duration_seconds is None


@pytest.mark.parametrize(
    ("reference", "token", "number"),
    [
        ("feedc0de-1", "feedc0de", 1),
        ("feedc0de-999999999", "feedc0de", 999_999_999),
        ("feedc0de-007", "feedc0de", 7),
        ("feedc0de-0", "feedc0de", 0),
        ("feedc0de-9999999999", None, None),
        ("feedc0de-", None, None),
        ("feedc0de", None, None),
        ("feedc0de-1-2", None, None),
        ("feedc0de--1", None, None),
        ("feedc0de-1.0", None, None),
        ("feedc0de-x", None, None),
        ("feedc0de-١", None, None),
        ("feedc0de-²", None, None),
        (f"{'t' * 201}-1", None, None),
        ("", None, None),
        (None, None, None),
        (1, None, None),
        (["feedc0de-1"], None, None),
    ],
)
def test_a_reference_is_split_into_token_and_number_or_is_none(
    reference: object, token: str | None, number: int | None
) -> None:
    (event,) = decode(make_payload(recipient=None, parameters={"loan_id": "LN-1", "outcome_ref": reference}))
    assert (event.ref_token, event.ref_no) == (token, number)


@pytest.mark.parametrize(
    ("column", "token"), [("outcome_ref", "feedc0de"), ("ref", "0ther"), ("ref column é", "third"), ("", None)]
)
def test_the_reference_is_looked_for_in_the_configured_column_only(column: str, token: str | None) -> None:
    parameters = {"outcome_ref": "feedc0de-1", "ref": "0ther-1", "ref column é": "third-1"}
    body = encode(make_payload(recipient=None, parameters=parameters))
    event = EventDecoder(column).decode_event(body, "default", RECEIVED, None)
    assert isinstance(event, Event)
    assert event.ref_token == token


@pytest.mark.parametrize(
    ("event_type", "status"),
    [
        ("call.started", "completed"),
        ("batch.completed", "completed"),
        ("completed", "completed"),
        ("call.", "completed"),
        ("call.call.completed", "completed"),
        ("Call.Completed", "completed"),
        ("", "started"),
    ],
)
def test_an_event_type_that_the_contract_does_not_name_is_kept_for_quarantine(event_type: str, status: str) -> None:
    payload = make_payload(event_id="event-new", status=status)
    payload["event_type"] = event_type
    body = encode(payload)
    unreadable = EventDecoder("outcome_ref").decode_event(body, "default", RECEIVED, None)
    assert unreadable == Unreadable(
        "event-new", hashlib.sha256(body).digest(), "default", body, RECEIVED, "unknown_event_type", "event_type"
    )


@pytest.mark.parametrize("event_type", [None, 7, ["call.busy"]])
def test_the_status_of_the_call_stands_in_for_a_missing_event_type(event_type: object) -> None:
    payload = make_payload(status="busy")
    if event_type is None:
        del payload["event_type"]
        assert decode(payload)[0].status == "busy"
        payload["event_type"] = None
        assert decode(payload)[0].event_type == "call.busy"
    elif isinstance(event_type, list):
        payload["event_type"] = event_type
        assert decode(payload)[0].status == "busy"
    else:
        payload["event_type"] = event_type
        event = EventDecoder("").decode_event(encode(payload), "default", RECEIVED, None)
        assert isinstance(event, Unreadable)
