"""From entries to records: converted values, skipped recipients with their reasons, and no recipient lost."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.crm.entries import SOURCES, STATES, STATUSES, Entry
from service.crm.exchange import SyncError
from service.crm.mapping import read_mapping
from service.crm.records import Mapped, Mapper
from service.crm.report import SKIP_REASONS
from tests.crm.mapping_files import make_content

ATTEMPTED = datetime(2026, 3, 16, 20, 30, 0, 250_000, tzinfo=UTC)


def make_entry(**fields: Any) -> Entry:
    """A recipient who was reached; parameters and results as objects or as JSON."""
    usual: dict[str, Any] = {
        "position": 4711, "batch_id": 456, "recipient": 7, "phone": "+919876543210", "state": "completed",
        "status": "completed", "is_final": True, "attempts": 2, "duration_seconds": 62, "source": "webhook",
        "parameters": {"loan_id": "LN-7", "due": 15000}, "results": {"intent": "promise_to_pay", "paid": False},
        "last_attempt_at": ATTEMPTED, "conversation_id": "c_1", "version": 3,
    }  # fmt: skip
    given_fields = usual | fields
    for name in ("parameters", "results"):
        value = given_fields[name]
        given_fields[name] = msgspec.Raw(value if isinstance(value, bytes) else json.dumps(value).encode())
    return Entry(**given_fields)


def apply(*entries: Entry, **changes: Any) -> Mapped:
    return Mapper(read_mapping(make_content(**changes), "map.toml")).map(entries)


def read_one(rule: Any, **fields: Any) -> Any:
    """The value of a property by a rule, or "nothing" where it is not sent."""
    (record,) = apply(make_entry(**fields), properties={"x": rule}).records
    return record.properties.get("x", "nothing")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "completed"), ("status", "completed"), ("is_final", True), ("attempts", 2), ("duration_seconds", 62),
        ("batch_id", 456), ("recipient", 7), ("recipient_id", "456-7"), ("phone", "+919876543210"), ("version", 3),
        ("position", 4711), ("source", "webhook"), ("conversation_id", "c_1"), ("failure_reason", None),
        ("next_retry_at", None), ("last_attempt_at", "2026-03-16T20:30:00.250Z"), ("results.intent", "promise_to_pay"),
        ("results.paid", False), ("results.none", None), ("parameters.due", 15000), ("parameters.loan_id", "LN-7"),
    ],
)  # fmt: skip
def test_every_field_comes_as_it_is(field: str, value: Any) -> None:
    assert read_one({"field": field, "empty": "clear"}) == value
    assert read_one(field) == ("nothing" if value is None else value)


def test_a_record_has_its_key_its_constants_and_where_it_comes_from() -> None:
    (record,) = apply(make_entry(), constants={"channel": "voice", "score": 1.5}).records
    assert record.properties == {"loan_id": "LN-7", "channel": "voice", "score": 1.5, "call_status": "completed"}
    assert (record.key, record.position, record.batch_id, record.recipient) == ("LN-7", 4711, 456, 7)


def test_values_are_mapped_and_the_rest_has_a_default_or_stays() -> None:
    values = {"completed": "CONNECTED", "null": "NEVER"}
    assert read_one({"field": "status", "values": values}) == "CONNECTED"
    assert read_one({"field": "status", "values": values}, status=None) == "NEVER"
    assert read_one({"field": "status", "values": values}, status="busy") == "busy"
    assert read_one({"field": "status", "values": values, "default": "OTHER"}, status="busy") == "OTHER"
    assert read_one({"field": "is_final", "values": {"true": "yes"}}) == "yes"
    assert read_one({"field": "attempts", "values": {"2": "twice"}}) == "twice"


def test_an_empty_field_leaves_its_property_unless_it_clears_it() -> None:
    assert read_one({"field": "results.date", "empty": "clear"}) is None
    assert read_one({"field": "results.date", "empty": "keep"}) == "nothing"
    assert read_one("results.date") == "nothing"
    assert (
        read_one({"field": "status", "values": {"busy": "B"}, "default": "D", "empty": "keep"}, status=None)
        == "nothing"
    )


def test_times_are_shown_as_the_target_takes_them() -> None:
    assert read_one({"field": "last_attempt_at", "format": "epoch_ms"}) == 1_773_693_000_250
    assert read_one({"field": "last_attempt_at", "format": "date"}) == "2026-03-16"
    rule = {"x": {"field": "last_attempt_at", "format": "date"}}
    (record,) = apply(make_entry(), properties=rule, time_zone="Asia/Kolkata").records
    assert record.properties["x"] == "2026-03-17"  # two in the morning there


@pytest.mark.parametrize(
    ("fields", "changes", "reason"),
    [
        ({"is_final": False, "state": "pending_retry"}, {}, "not_final"),
        ({}, {"filter__batches": [455, 457]}, "filtered"),
        ({"state": "erased", "parameters": None, "phone": None}, {}, "erased"),
        ({"state": "erased"}, {"erased__properties": {}}, "erased"),
        ({"state": "erased", "parameters": None}, {"erased__properties": {"call_status": "ERASED"}}, "erased"),
        ({"state": "withdrawn"}, {"only_final": False}, "withdrawn"),
    ],
)
def test_skipped_recipients_are_counted_by_reason(fields: Any, changes: Any, reason: str) -> None:
    mapped = apply(make_entry(**fields), **changes)
    assert (mapped.records, mapped.failures, mapped.skipped) == ([], [], Counter({reason: 1}))
    assert reason in SKIP_REASONS


@pytest.mark.parametrize(
    "parameters", [{}, None, {"loan_id": "  "}, {"loan_id": None}, {"loan_id": ["LN-7"]}, {"due": 1}, b"[1]"]
)
def test_a_recipient_without_the_key_is_a_failure_that_names_what_is_missing(parameters: Any) -> None:
    mapped = apply(make_entry(parameters=parameters))
    assert (mapped.records, mapped.skipped) == ([], Counter())
    (failure,) = mapped.failures
    assert (failure.key, failure.batch_id, failure.recipient) == ("456-7", 456, 7)
    assert failure.reason == "there is no 'loan_id' among the call parameters, or it is empty"


@pytest.mark.parametrize("field", ["recipient_id", "conversation_id", "phone"])
def test_a_field_that_has_no_value_yet_is_skipped_since_the_entry_comes_again(field: str) -> None:
    key = {"key": {"field": field, "property": "call_id"}}
    assert apply(make_entry(batch_id=None, conversation_id=None, phone=None), **key).skipped == {"without_key": 1}


def check_keys(*parameters: Any, accepts: bool = False, batch_id: int = 456, **changes: Any) -> str:
    """The error for a page whose recipients have these parameters, or ""."""
    mapper = Mapper(read_mapping(make_content(**changes), "map.toml"), accepts_keyless=accepts)
    try:
        mapper.check_keys(
            [make_entry(parameters=each, recipient=n, batch_id=batch_id) for n, each in enumerate(parameters)]
        )
    except SyncError as error:
        return str(error)
    return ""


def test_a_batch_without_the_key_is_refused_with_its_columns() -> None:
    row = {"customer_name": "Asha", "loan_id": "LN-1", "due_amount": 5}
    message = check_keys(row, row, key__parameter="loan")
    assert message.startswith(
        "key.parameter: no recipient of batch 456 has 'loan' (did you mean 'loan_id'?); "
        "columns: customer_name, due_amount, loan_id. Nothing of this page was sent or acknowledged."
    )
    assert "Asha" not in message
    assert check_keys(row, row) == ""
    assert check_keys(row, key__parameter="loan", accepts=True) == ""
    assert check_keys(row, key__parameter="loan", filter__batches=[457]) == ""
    assert check_keys(row, key={"field": "phone", "property": "loan_id"}) == ""


def test_one_recipient_with_the_key_or_without_any_parameters_says_nothing_against_the_batch() -> None:
    assert check_keys({"a": 1}, {"a": 1}, {"loan_id": "LN-1"}) == ""
    assert check_keys(None, {}, b"[1]", b'{"loan_id": 1e999}') == ""
    assert check_keys({"a": 1}, None) != ""


def test_a_column_that_all_leave_empty_is_an_accident_only_up_to_nine() -> None:
    assert check_keys(*[{"loan_id": " "}] * 9) == ""
    assert "batch 456 has nothing in 'loan_id'" in check_keys(*[{"loan_id": " "}] * 10)
    assert check_keys(*[{"loan_id": " "}] * 10, {"loan_id": "LN-1"}) == ""


def test_a_batch_without_the_key_is_seen_beside_one_that_has_it() -> None:
    mapper = Mapper(read_mapping(make_content(), "map.toml"))
    with pytest.raises(SyncError, match="batch 457"):
        mapper.check_keys([make_entry(), make_entry(batch_id=457, parameters={"loan": 1})])
    mapper.check_keys([make_entry(), make_entry(batch_id=457, parameters={"loan": 1}, state="erased")])


def test_a_batch_without_the_key_that_is_accepted_is_skipped() -> None:
    mapper = Mapper(read_mapping(make_content(), "map.toml"), accepts_keyless=True)
    mapped = mapper.map([make_entry(parameters={"loan": 1}), make_entry(parameters={"loan_id": ""})])
    assert (mapped.skipped, len(mapped.failures)) == ({"without_key": 1}, 1)


def test_values_that_identify_a_person_are_the_records_own() -> None:
    rules = {"a": "parameters.name", "b": "state", "c": "results.intent"}
    (record,) = apply(make_entry(parameters={"loan_id": "LN-7", "name": "Asha Rao"}), properties=rules).records
    assert record.own == {"+919876543210", "Asha Rao"}


def test_outcomes_that_are_not_final_are_sent_where_all_are_wanted() -> None:
    (record,) = apply(make_entry(is_final=False, state="pending_retry"), only_final=False).records
    assert record.properties["call_status"] == "completed"


def test_a_batch_whose_number_is_not_known_yet_gives_no_key_that_names_it() -> None:
    (failure,) = apply(make_entry(batch_id=None, parameters=b'{"loan_id": 1e999}')).failures
    assert failure.key == "position 4711"


def test_the_filter_lets_its_batches_through() -> None:
    assert len(apply(make_entry(), filter__batches=[456]).records) == 1


def test_a_property_can_mark_an_erased_recipient() -> None:
    erased = make_entry(state="erased", is_final=False, parameters=None, results=None, phone=None)
    by_number = {"key": {"field": "recipient_id", "property": "call_id"}}
    (record,) = apply(erased, erased__properties={"call_status": "ERASED"}, **by_number).records
    assert (record.key, record.properties) == ("456-7", {"call_id": "456-7", "call_status": "ERASED"})


def test_a_property_can_mark_a_withdrawn_recipient_final_or_not() -> None:
    withdrawn = make_entry(state="withdrawn", is_final=False, attempts=0)
    (record,) = apply(withdrawn, withdrawn__properties={"call_status": ""}).records
    assert record.properties == {"loan_id": "LN-7", "call_status": ""}


@pytest.mark.parametrize(("given_key", "key"), [(" LN-7 ", "LN-7"), (12345, "12345"), (1.5, "1.5")])
def test_keys_are_text_without_blanks_around_them(given_key: Any, key: str) -> None:
    (record,) = apply(make_entry(parameters={"loan_id": given_key})).records
    assert record.key == record.properties["loan_id"] == key


def test_of_entries_with_one_key_the_last_is_sent() -> None:
    first, other, last = (
        make_entry(position=1, status="busy"),
        make_entry(position=2, parameters={"loan_id": "LN-8"}),
        make_entry(position=3, recipient=9, batch_id=457),
    )
    mapped = apply(first, other, last)
    assert [(record.key, record.position, record.recipient) for record in mapped.records] == [
        ("LN-8", 2, 7), ("LN-7", 3, 9),
    ]  # fmt: skip
    assert mapped.skipped == {"overtaken": 1}


def test_an_undecodable_object_fails_only_its_record_and_only_when_read() -> None:
    broken = make_entry(results=b'{"score": 1e999}')
    good = make_entry(position=4712, parameters={"loan_id": "LN-8"})
    rule = {"properties": {"score": "results.score"}}
    mapped = apply(broken, good, **rule)
    assert [(each.key, each.position) for each in mapped.failures] == [("LN-7", 4711)]
    assert mapped.failures[0].reason.startswith("results cannot be read: ")
    assert [record.key for record in mapped.records] == ["LN-8"]
    assert len(apply(broken, good).records) == 2
    (failure,) = apply(make_entry(parameters=b'{"loan_id": 1e999}')).failures
    assert failure.key == "456-7"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=4) | st.sampled_from(["LN-1", "LN-2"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["loan_id", "a"]), inner, max_size=2),
    max_leaves=4,
)
_OBJECTS = st.dictionaries(st.sampled_from(["loan_id", "intent"]), _JSON, max_size=2) | st.sampled_from(
    [b"1e999", None]
)
_ENTRIES = st.lists(
    st.builds(
        make_entry, recipient=st.integers(1, 5), batch_id=st.sampled_from([456, 457]), state=st.sampled_from(STATES),
        status=st.none() | st.sampled_from(STATUSES), is_final=st.booleans(), parameters=_OBJECTS, results=_OBJECTS,
        source=st.none() | st.sampled_from(SOURCES), last_attempt_at=st.none() | st.just(ATTEMPTED),
    ),
    max_size=12,
)  # fmt: skip


@settings(deadline=None, derandomize=True)
@given(_ENTRIES, st.booleans(), st.booleans(), st.sampled_from([None, [456]]))
def test_no_recipient_is_lost_and_no_key_is_sent_twice(
    entries: list[Entry], only_final: bool, maps_erased: bool, batches: list[int] | None
) -> None:
    for position, entry in enumerate(entries, 1):
        entry.position = position
    changes: dict[str, Any] = {"filter__batches": batches} if batches else {}
    properties = {"x": "state", "y": "results.intent", "z": {"field": "last_attempt_at", "format": "date"}}
    mapped = apply(
        *entries, only_final=only_final, properties=properties,
        erased={"properties": {"x": "gone"} if maps_erased else {}}, **changes,
    )  # fmt: skip
    assert len(mapped.records) + len(mapped.failures) + mapped.skipped.total() == len(entries)
    assert mapped.skipped.keys() <= SKIP_REASONS.keys()
    keys = [record.key for record in mapped.records] + [failure.key for failure in mapped.failures]
    assert len(keys) == len(set(keys))
    by_position = {entry.position: entry for entry in entries}
    for record in mapped.records:
        entry = by_position[record.position]
        assert record.properties["x"] == ("gone" if entry.state == "erased" else entry.state)
        assert entry.is_final or not only_final or entry.state == "erased"
