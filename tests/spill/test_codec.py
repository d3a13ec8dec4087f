"""What goes through the stream comes out as the receiver made it."""

from datetime import UTC, datetime

import pytest

from service.formant.events import Event, EventDecoder, Unreadable
from service.formant.targets import Target
from service.spill.codec import ROW_BYTES, UnknownFormatError, decode_row, read_message, split_group
from service.webhooks.quarantine import note_encoding
from tests.factories import encode, make_payload

RECEIVED = datetime(2026, 3, 16, 10, 30, 0, 123456, UTC)
DECODER = EventDecoder("outcome_ref")
TARGETS = {"default": Target("default", None), "india": Target("india", None, frozenset({7}))}


def take(body: bytes, target: str = "default", hint: str | None = None, encoding: bytes = b"") -> Event | Unreadable:
    """The item that the receiver makes of a body."""
    item = DECODER.decode_event(body, target, RECEIVED, hint, b"signature")
    return TARGETS[target].admit(note_encoding(item, encoding) if encoding else item)


@pytest.mark.parametrize(
    "item",
    [
        take(encode(make_payload())),
        take(encode(make_payload(results={"text": "\u0000"}))),
        take(b"no json", hint="event-of-the-header"),
        take(b'{"event_id": "named", "data": {}}', hint="event-of-the-header"),
        take(encode(make_payload(agent_id=8)), target="india"),
        take(b"\x1f\x8b\x00", encoding="br, \u00e9".encode()),
    ],
    ids=["event", "with NUL", "no JSON", "unusable", "agent not allowed", "unknown encoding"],
)
def test_an_item_is_the_same_behind_the_stream(item: Event | Unreadable) -> None:
    (part,) = split_group([item], 2**20)
    assert part.events == 1
    assert [decode_row(row, TARGETS, DECODER) for row in read_message(part.payload)] == [item]


def test_an_event_of_a_target_that_is_gone_goes_to_quarantine() -> None:
    (part,) = split_group([take(encode(make_payload(agent_id=7)), target="india")], 2**20)
    (row,) = read_message(part.payload)
    item = decode_row(row, {"default": TARGETS["default"]}, DECODER)
    assert isinstance(item, Unreadable)
    assert (item.reason, item.detail, item.target) == ("unknown_target", "target", "india")


def test_a_group_is_split_into_messages_that_the_servers_take() -> None:
    items = [take(encode(make_payload(results={"text": "x" * 50_000}))) for _ in range(30)]
    most = 200_000
    parts = list(split_group(items, most))
    assert len(parts) > 1
    assert all(len(part.payload) <= most for part in parts)
    rows = [row for part in parts for row in read_message(part.payload)]
    assert [row.body for row in rows] == [item.body for item in items]
    assert sum(part.events for part in parts) == len(items)


def test_a_row_takes_no_more_than_is_reckoned_beside_its_body() -> None:
    item = take(b"x" * 100, hint="é" * 200, encoding=b"\xff" * 500)
    (part,) = split_group([item], 2**20)
    assert len(part.payload) <= 100 + ROW_BYTES


def test_a_message_of_a_newer_version_is_left_alone() -> None:
    (part,) = split_group([take(encode(make_payload()))], 2**20)
    newer = part.payload.replace(b"\x92\x01", b"\x92\x02", 1)
    with pytest.raises(UnknownFormatError, match="upgrade"):
        read_message(newer)
