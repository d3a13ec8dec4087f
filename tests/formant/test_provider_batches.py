"""The provider's list of batches is read entry by entry, field by field: nothing odd costs more than itself."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.formant.batches import (
    OddEntry,
    ProviderBatch,
    ProviderMetrics,
    decode_batch,
    decode_batch_page,
    decode_metrics,
)

CREATED = datetime(2026, 3, 16, 10, 30, tzinfo=UTC)
EPOCH = int(CREATED.timestamp())
USUAL: dict[str, Any] = {
    "id": 456, "agent_id": 123, "name": "March", "status": "pending", "total_recipients": 2,
    "created_at": "2026-03-16T10:30:00Z",
}  # fmt: skip
READ = ProviderBatch(456, 123, "March", "pending", 2, CREATED)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from(["456", 1e300, "\ud800", "\x00", EPOCH, EPOCH * 1000, "2026-03-16", "0001-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def encode(*entries: Any, **page: Any) -> bytes:
    return json.dumps({"data": list(entries), **page}).encode()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("id", "456", 456), ("id", 456.0, 456), ("id", 2**63, None), ("id", 2**63 - 1, 2**63 - 1),
        ("id", str(2**63 - 1), 2**63 - 1),
        ("id", " 456 ", 456),
        ("agent_id", "123", 123), ("agent_id", None, None), ("agent_id", {"id": 123}, None), ("agent_id", 2**70, None),
        ("agent_id", True, None), ("agent_id", 0, None),
        ("name", None, None), ("name", 7, "7"), ("name", [], None), ("name", "a\x00b", "a\ufffdb"),
        ("name", "x" * 2000, "x" * 1000),
        ("status", 3, "3"), ("status", None, None), ("status", {}, None), ("status", "", None),
        ("total_recipients", None, None), ("total_recipients", "2", 2), ("total_recipients", -1, None),
        ("total_recipients", 2**31, None), ("total_recipients", "many", None), ("total_recipients", 0, 0),
        ("created_at", None, None), ("created_at", EPOCH, CREATED), ("created_at", EPOCH * 1000, CREATED),
        ("created_at", str(EPOCH), CREATED), ("created_at", "2026-03-16T10:30:00", CREATED),
        ("created_at", "2026-03-16T16:00:00+05:30", CREATED), ("created_at", "0001-01-01T00:00:00Z", None),
        ("created_at", "9999-12-31T23:59:59.999999Z", None), ("created_at", 0, None), ("created_at", [], None),
    ],
)  # fmt: skip
def test_each_field_is_read_by_itself(field: str, value: Any, expected: Any) -> None:
    page = decode_batch_page(encode(USUAL | {field: value}))
    if field == "id" and expected is None:
        assert (page.data, page.odd) == ([], {0: OddEntry("no_id", 123, USUAL["name"], 2, CREATED)})
    else:
        assert page.data == [msgspec.structs.replace(READ, **{field: expected})]


@pytest.mark.parametrize("field", USUAL)
def test_each_field_may_be_missing(field: str) -> None:
    page = decode_batch_page(encode({name: value for name, value in USUAL.items() if name != field}))
    expected = [] if field == "id" else [msgspec.structs.replace(READ, **{field: None})]
    assert (page.data, [entry.reason for entry in page.odd.values()]) == (expected, ["no_id"] if field == "id" else [])


def test_unusable_entries_are_listed_by_reason_and_the_others_are_read() -> None:
    page = decode_batch_page(encode(None, USUAL, 7, [], "x", {}, {"id": "b-1"}, {"id": -1}, has_more="yes"))
    assert page.data == [READ]
    assert {place: entry.reason for place, entry in page.odd.items()} == {
        0: "not_an_object", 2: "not_an_object", 3: "not_an_object", 4: "not_an_object",
        5: "no_id", 6: "no_id", 7: "no_id",
    }  # fmt: skip
    assert (len(page.keys), page.has_more) == (8, None)


def test_of_several_entries_with_one_id_the_first_counts_with_what_only_the_others_say() -> None:
    page = decode_batch_page(encode(USUAL | {"name": None}, USUAL | {"id": "456", "name": "April", "status": "done"}))
    assert page.data == [msgspec.structs.replace(READ, name="April")]
    assert page.keys == [456, 456]


@given(st.lists(st.dictionaries(st.sampled_from(sorted(USUAL)), ANYTHING) | ANYTHING, max_size=5))
def test_whatever_the_list_contains_its_valid_entries_are_read(entries: list[Any]) -> None:
    body = encode(*entries, USUAL)
    page = decode_batch_page(body)
    assert len(page.keys) == len(entries) + 1
    assert READ.id in {batch.id for batch in page.data}
    for batch in page.data:
        assert 1 <= batch.id < 2**63
        assert batch.agent_id is None or 1 <= batch.agent_id < 2**63
        assert batch.total_recipients is None or 0 <= batch.total_recipients < 2**31
        assert batch.created_at is None or 2000 <= batch.created_at.year < 2100
        for text in (batch.name, batch.status):
            assert text is None or "\x00" not in text.encode().decode()  # storable


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"data": null}', b'{"data": {}}', b"[" * 100_000])
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_batch_page(body)


def test_one_batch_may_lack_its_id_and_may_not_be_another() -> None:
    assert decode_batch(json.dumps({"data": USUAL | {"id": None}}).encode(), 456) == READ
    assert decode_batch(json.dumps({"data": USUAL | {"id": "456"}}).encode(), 456) == READ
    others: list[Any] = [USUAL | {"id": 457}, USUAL | {"id": "b-1"}, None, []]
    for data in others:
        with pytest.raises(msgspec.ValidationError):
            decode_batch(json.dumps({"data": data}).encode(), 456)


@pytest.mark.parametrize("value", [None, -1, 2**31, 1764000000000, "many", [], True, "1e400", {}])
def test_a_figure_that_cannot_be_is_absent(value: Any) -> None:
    figures = dict.fromkeys(ProviderMetrics.__struct_fields__, value) | {"completed_count": "7"}
    assert decode_metrics(json.dumps({"data": figures}).encode()) == ProviderMetrics(completed_count=7)


def test_an_average_of_more_than_a_day_and_a_rate_of_more_than_all_are_absent() -> None:
    body = json.dumps({"data": {"avg_duration_seconds": 1764000000, "success_rate": 8400.0, "busy_count": 3}}).encode()
    assert decode_metrics(body) == ProviderMetrics(busy_count=3)
