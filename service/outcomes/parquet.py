"""Parquet, written row group by row group while the rows come: memory holds one group, whatever the file's size.

Types: times are microseconds in UTC, rates and averages ``decimal128(12, 4)``, ``parameters`` and ``results`` maps from
text to text. In a map a string stands as it is and anything else as its JSON, so that an agent may change the type of a
result without making the column unreadable.
"""

import asyncio
import io
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from service.outcomes.export_formats import Column

SLICE_BYTES = 2**18  # of JSON, decoded at once: some milliseconds of the event loop
GROUP_BYTES = 2**24  # of JSON in a row group

_TEXT_MAP = pa.map_(pa.string(), pa.string())
_TYPES: dict[str, tuple[Any, pa.DataType]] = {
    "text": (str | None, pa.string()),
    "integer": (int | None, pa.int32()),
    "bigint": (int | None, pa.int64()),
    "boolean": (bool | None, pa.bool_()),
    "numeric": (Decimal | None, pa.decimal128(12, 4)),
    "timestamp with time zone": (datetime | None, pa.timestamp("us", tz="UTC")),
    "jsonb": (msgspec.Raw, _TEXT_MAP),
}
_decode_texts = msgspec.json.Decoder(list[dict[str, str | None] | None]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ParquetEncoder:
    """Makes a Parquet file of JSON lines whose keys are the columns."""

    query_format: Literal["csv", "json"] = "json"

    def __init__(self, columns: Sequence[Column], copy_options: dict[str, Any]) -> None:
        self.copy_options = copy_options
        self._schema = pa.schema([(column.name, _TYPES[column.type][1]) for column in columns])
        row = msgspec.defstruct("Row", [(column.name, _TYPES[column.type][0]) for column in columns], gc=False)
        self._decode_lines = msgspec.json.Decoder(row).decode_lines
        self._outbox = _Outbox()
        self._writer = pq.ParquetWriter(self._outbox, self._schema, compression="zstd")
        self._lines: list[bytes] = []
        self._line_bytes = 0
        self._batches: list[pa.RecordBatch] = []
        self._group_bytes = 0

    def begin(self) -> bytes:
        return self._outbox.take()

    async def encode(self, rows: bytes) -> bytes:
        self._lines.append(rows)
        self._line_bytes += len(rows)
        if self._line_bytes >= SLICE_BYTES:
            self._convert_lines()
        if self._group_bytes >= GROUP_BYTES:
            await asyncio.to_thread(self._write_group)
        return self._outbox.take()

    async def end(self) -> bytes:
        self._convert_lines()
        await asyncio.to_thread(self._write_group)
        self._writer.close()
        return self._outbox.take()

    def _convert_lines(self) -> None:
        rows = self._decode_lines(b"".join(self._lines))
        columns = [_convert(list(map(attrgetter(field.name), rows)), field.type) for field in self._schema]
        self._batches.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._group_bytes += self._line_bytes
        self._lines, self._line_bytes = [], 0

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._batches, schema=self._schema)
        self._batches, self._group_bytes = [], 0
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)


class _Outbox(io.RawIOBase):
    """A file that hands on what was written into it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _convert(values: list[Any], data_type: pa.DataType) -> pa.Array:
    if data_type != _TEXT_MAP:
        return pa.array(values, data_type)
    maps = _read_maps(values)
    offsets, keys, items = [0], [], []  # type: tuple[list[int], list[str], list[str | None]]
    for one in maps:
        if one:
            keys += one
            items += one.values()
        offsets.append(len(keys))
    mask = pa.array([one is None for one in maps], pa.bool_())
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(keys, pa.string()), pa.array(items, pa.string()), mask=mask
    )


def _read_maps(values: list[msgspec.Raw]) -> Sequence[dict[str, str | None] | None]:
    """JSON objects as maps of texts; all at once where every value is a string, as in most columns."""
    try:
        return _decode_texts(b"[" + b",".join(values) + b"]")
    except msgspec.ValidationError:
        return [_read_map(value) for value in values]


def _read_map(value: msgspec.Raw) -> dict[str, str | None] | None:
    """One value: an object's members; null is none; what is no object stands alone under the empty name."""
    if bytes(value) == b"null":
        return None
    try:
        members = _decode_object(value)
    except msgspec.ValidationError:
        return {"": _to_text(value)}
    return {name: _to_text(member) for name, member in members.items()}


def _to_text(value: msgspec.Raw) -> str | None:
    text = bytes(value)
    if text == b"null":
        return None
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()
