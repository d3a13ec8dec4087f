"""The messages of the stream: the raw rows of a group, from which a later version can decode the same events.

A message is MessagePack: the version of the format, then the rows. It has everything that the receiver knew of a
webhook, so that decoding it again gives the same event id and digest.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from service.errors import OutcomesError
from service.formant.events import Event, EventDecoder, Unreadable, to_unreadable
from service.formant.targets import Target
from service.webhooks.quarantine import UNDECODABLE

FORMAT = 1
ROW_BYTES = 4096
"""The most that a row takes in addition to its body."""
UNKNOWN_TARGET = "unknown_target"
_encode = msgspec.msgpack.Encoder().encode


class SpilledRow(msgspec.Struct, array_like=True, gc=False):
    """One webhook as the receiver took it."""

    target: str
    received_at: datetime
    event_id: str | None
    """The hint for a body that names no event id."""
    signature: bytes | None
    encoding: str | None
    """The Content-Encoding of a body that could not be decoded."""
    body: bytes


class _Message(msgspec.Struct, array_like=True, gc=False):
    version: int
    rows: list[SpilledRow]


_decode = msgspec.msgpack.Decoder(_Message).decode


class Part(NamedTuple):
    """A message and the number of its events."""

    payload: bytes
    events: int


class UnknownFormatError(OutcomesError):
    """A newer version of the service wrote this message."""


def split_group(items: Sequence[Event | Unreadable], max_bytes: int) -> Iterator[Part]:
    """The messages of a group, each of at most ``max_bytes``. A row must fit into one by itself."""
    rows: list[SpilledRow] = []
    size = ROW_BYTES
    for item in items:
        grown = len(item.body) + ROW_BYTES
        if rows and size + grown > max_bytes:
            yield Part(_encode(_Message(FORMAT, rows)), len(rows))
            rows, size = [], ROW_BYTES
        rows.append(_to_row(item))
        size += grown
    if rows:
        yield Part(_encode(_Message(FORMAT, rows)), len(rows))


def read_message(payload: bytes) -> list[SpilledRow]:
    """The rows of a message. Raises UnknownFormatError if a newer version wrote it."""
    message = _decode(payload)
    if message.version > FORMAT:
        raise UnknownFormatError(f"A message of format {message.version} waits in the stream: upgrade this replica")
    return message.rows


def decode_row(row: SpilledRow, targets: Mapping[str, Target], decoder: EventDecoder) -> Event | Unreadable:
    """The item that the receiver made of this webhook. One of a target that is configured no longer is unreadable: who
    may report there is not known."""
    item = decoder.decode_event(row.body, row.target, row.received_at, row.event_id, row.signature)
    if isinstance(item, Unreadable):
        is_encoded = row.encoding is not None and item.reason == "not_json"
        return item._replace(reason=UNDECODABLE, detail=row.encoding or "") if is_encoded else item
    target = targets.get(row.target)
    return to_unreadable(item, UNKNOWN_TARGET, "target") if target is None else target.admit(item)


def _to_row(item: Event | Unreadable) -> SpilledRow:
    encoding = item.detail if isinstance(item, Unreadable) and item.reason == UNDECODABLE else None
    return SpilledRow(item.target, item.received_at, item.event_id, item.signature, encoding, item.body)
