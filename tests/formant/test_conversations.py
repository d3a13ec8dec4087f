"""Conversations: read whatever they hold, and turned into the events that heal their calls."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formant.client import FormantClient
from service.formant.conversations import decode_conversation, decode_conversation_page, restore_event, to_event
from service.formant.events import STATUSES, Event
from service.telemetry.metrics import Metrics

RECEIVED = datetime(2026, 3, 16, 12, tzinfo=UTC)
BEGAN = datetime(2026, 3, 16, 10, 30, 0, 250_000, tzinfo=UTC)
ENDED = datetime(2026, 3, 16, 10, 31, 2, tzinfo=UTC)
RECORD = {
    "agent_id": 123, "contact_number": "+919876543210", "conversation_id": "e36853de_1", "duration_seconds": 62,
    "end_timestamp": round(ENDED.timestamp() * 1000), "start_timestamp": round(BEGAN.timestamp() * 1000),
    "status": "completed",
}  # fmt: skip
DETAILS = {"failure_reason": None, "results": {"intent": "pay"}, "trace_id": "t", "transcript": [{"role": "bot"}]}


def heal(*, may_retry: bool = False, **changes: Any) -> Event | None:
    """The event of a conversation with these fields; None leaves one out."""
    record = {name: value for name, value in (RECORD | DETAILS | changes).items() if value is not None}
    conversation = decode_conversation(json.dumps({"data": record}).encode())
    return to_event(conversation, received_at=RECEIVED, may_retry=may_retry)


def must_heal(**arguments: Any) -> Event:
    event = heal(**arguments)
    assert event is not None
    return event


def test_a_conversation_becomes_the_event_of_its_call() -> None:
    event = must_heal()
    assert (event.source, event.event_type, event.status, event.is_final) == (
        "healed", "call.completed", "completed", True,
    )  # fmt: skip
    assert (event.agent_id, event.phone, event.ref_token, event.ref_no) == (123, "+919876543210", None, None)
    assert (event.started_at, event.ended_at, event.occurred_at, event.duration_seconds) == (BEGAN, ENDED, ENDED, 62)
    assert (event.attempt_number, event.next_retry_at, event.conversation_id) == (None, None, "e36853de_1")
    assert json.loads(event.results) == {"intent": "pay"}


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("+919876543210", "519526865c4b9131e7d027214b9ea7d0c05c0bfe"),
        ("919876543210", "d4a21e8a216f985952f3ac4ae4d27ba33d73e21e"),
        ("98765 43210", "a12cd81a8c6e00d4257311a6cde0a94e30c83afc"),
    ],
)
def test_a_phone_is_read_in_any_spelling_and_a_call_that_was_healed_keeps_its_name(said: str, name: str) -> None:
    record = {
        "conversation_id": "c_1", "agent_id": 123, "contact_number": said, "status": "busy", "results": {"a": 1},
        "start_timestamp": 1773657000000, "end_timestamp": 1773657020000, "duration_seconds": None,
    }  # fmt: skip
    conversation = decode_conversation(json.dumps({"data": record}).encode())
    event = to_event(conversation, received_at=RECEIVED, may_retry=True, region="IN")
    assert event is not None
    # Names that the version before gave: with other names these calls would be healed again.
    assert (event.event_id, event.phone) == (f"healed:{name}", "+919876543210")
    restored = restore_event(conversation.body, event.event_id, agent_id=123, received_at=RECEIVED, region="IN")
    assert restored == event


def test_its_body_is_what_was_received() -> None:
    body = b'{ "data" : {"conversation_id":"c", "status":"busy", "new": 1.50} }'
    event = to_event(decode_conversation(body), received_at=RECEIVED, may_retry=False)
    assert event is not None
    assert (event.body, event.digest) == (body, hashlib.sha256(body).digest())
    page = decode_conversation_page(b'{"data": [{"conversation_id": "c",  "status": "busy"}], "has_more": false}')
    assert (page.data[0].body, page.has_more) == (b'{"conversation_id": "c",  "status": "busy"}', False)


def test_healing_a_call_twice_is_one_event_and_what_does_not_matter_makes_no_other() -> None:
    assert must_heal().event_id == must_heal().event_id == must_heal(transcript=[], trace_id="other").event_id
    assert must_heal().event_id.startswith("healed:")


@pytest.mark.parametrize(
    "changes", [{"status": "busy"}, {"results": {"intent": "no"}}, {"duration_seconds": 63}, {"conversation_id": "x"}]
)
def test_another_content_that_matters_is_another_event(changes: dict[str, Any]) -> None:
    assert must_heal(**changes).event_id != must_heal().event_id


@pytest.mark.parametrize("status", ["in_progress", "queued", "ringing", "ended", "", None, "something new"])
def test_a_call_that_is_ongoing_or_ended_with_an_unknown_status_makes_no_event(status: str | None) -> None:
    assert heal(status=status) is None


@pytest.mark.parametrize("word", ["No-Answer", "no answer", "call.no_answer", " NO_ANSWER "])
def test_a_status_is_known_in_any_spelling(word: str) -> None:
    assert must_heal(status=word).status == "no_answer"


def test_a_call_is_final_unless_it_may_be_one_of_those_that_wait_for_a_retry() -> None:
    for status in STATUSES:
        assert must_heal(status=status).is_final
        assert must_heal(status=status, may_retry=True).is_final == (status == "completed")


def test_the_word_that_a_call_was_final_is_another_event_and_a_later_one() -> None:
    waiting, final = must_heal(status="busy", may_retry=True), must_heal(status="busy")
    assert waiting.event_id != final.event_id
    assert waiting.occurred_at is not None
    assert final.occurred_at is not None
    assert final.occurred_at > waiting.occurred_at


def test_a_call_without_times_or_results_is_healed_all_the_same() -> None:
    event = must_heal(start_timestamp=None, end_timestamp=None, results=None, duration_seconds=None, agent_id=None)
    assert (event.started_at, event.occurred_at, event.results, event.duration_seconds) == (None, None, "null", None)


def test_a_page_skips_what_names_no_conversation_and_counts_it() -> None:
    records = [{"conversation_id": "a"}, {}, "text", 5, {"conversation_id": None}, {"conversation_id": "b"}]
    page = decode_conversation_page(json.dumps({"data": records, "total": "many", "has_more": "?"}).encode())
    assert [record.conversation_id for record in page.data] == ["a", "b"]
    assert (len(page.keys), page.has_more) == (6, None)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(STATUSES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_records = st.fixed_dictionaries({}, optional=dict.fromkeys(RECORD | DETAILS, _json))


@settings(deadline=None, derandomize=True, max_examples=300)
@given(record=_records)
def test_any_record_is_read_or_refused_as_a_whole(record: dict[str, Any]) -> None:
    body = json.dumps({"data": record}).encode()
    try:
        event = to_event(decode_conversation(body), received_at=RECEIVED, may_retry=True)
    except msgspec.MsgspecError:
        return
    if event is not None:
        assert "\x00" not in event.results
        assert event.status in STATUSES


async def test_conversations_are_requested_by_the_contracts_paths() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        data = [RECORD] if request.url.path == "/v1/conversations" else RECORD
        return httpx.Response(200, json={"data": data, "has_more": True, "total": 9})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="https://provider.test") as http:
        client = FormantClient(http, Metrics())
        page = await client.list_conversations(123, 100, 300)
        assert (len(page.data), page.has_more) == (1, True)
        assert (await client.get_conversation("a/b?c_1")).status == "completed"
    assert asked == ["/v1/conversations?agent_id=123&limit=100&offset=300", "/v1/conversations/a%2Fb%3Fc_1"]


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_an_invalid_number_loses_its_field_and_not_the_page(word: bytes) -> None:
    body = b'{"data": [{"conversation_id": "a", "duration_seconds": %s}, {"conversation_id": "b"}]}' % word
    assert [(call.conversation_id, call.duration_seconds) for call in decode_conversation_page(body).data] == [
        ("a", None), ("b", None)
    ]  # fmt: skip
