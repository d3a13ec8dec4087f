"""The messages of the stream: the raw rows of a group, from which a later version can decode the same events.

A message is MessagePack: the version of the format, then the rows. It has everything that the receiver knew of a
webhook, so that decoding it again gives the same event id and digest.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
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
UNREADABLE_MESSAGE = "unreadable_message"
NO_TARGET = "outcomes.spill"
"""The target of what came by none, in quarantine: no target can have this name."""
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


class _Version(msgspec.Struct, array_like=True, gc=False):
    version: int


_decode = msgspec.msgpack.Decoder(_Message).decode
_decode_version = msgspec.msgpack.Decoder(_Version).decode


class Part(NamedTuple):
    """A message and the number of its events."""

    payload: bytes
    events: int


class UnknownFormatError(OutcomesError):
    """A newer version of the service wrote this message."""


class UnreadableMessageError(OutcomesError):
    """No version of the service wrote this message."""


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
    """The rows of a message. Raises UnknownFormatError if a newer version wrote it, and UnreadableMessageError if none
    did."""
    try:
        version = _decode_version(payload).version
        if version <= FORMAT:
            return _decode(payload).rows
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableMessageError("A message in the stream cannot be read") from error
    raise UnknownFormatError(f"A message of format {version} waits in the stream: upgrade this replica")


def decode_message(
    payload: bytes, targets: Mapping[str, Target], decoder: EventDecoder
) -> Sequence[Event | Unreadable]:
    """What the receiver made of the webhooks of a message. One that cannot be read is unreadable as a whole. Raises
    UnknownFormatError if a newer version wrote it."""
    try:
        rows = read_message(payload)
    except UnreadableMessageError:
        digest = hashlib.sha256(payload).digest()
        return [Unreadable(None, digest, NO_TARGET, payload, datetime.now(UTC), UNREADABLE_MESSAGE, "")]
    return [decode_row(row, targets, decoder) for row in rows]


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
