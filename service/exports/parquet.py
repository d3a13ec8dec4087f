"""Parquet, written row group by row group as the rows arrive: memory holds one group, whatever the file's size.

Types: times are microseconds in UTC, rates and averages ``decimal128(28, 4)``, ``parameters`` and ``results`` maps from
text to text. A map has strings unchanged and anything else as JSON, so an agent may change the type of a result without
making the column unreadable.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from service.exports.formats import CSV, Column, Outbox, QueryFormat

# Arrow's allocator reads these when it is loaded: it returns freed memory at once, which else stays with the process.
os.environ.setdefault("MIMALLOC_PURGE_DELAY", "0")
os.environ.setdefault("MIMALLOC_ARENA_EAGER_COMMIT", "0")

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SLICE_BYTES = 2**18  # of CSV, parsed at once: blocks the event loop for a millisecond or two
GROUP_BYTES = 2**24  # of CSV in a row group

_TEXT_MAP = pa.map_(pa.string(), pa.string())
_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "numeric": pa.decimal128(28, 4),  # 100 times any bigint fits
    "date": pa.date32(),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "jsonb": _TEXT_MAP,
}
_decode_texts = msgspec.json.Decoder(list[dict[str, str | None] | None]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ParquetEncoder:
    """Converts the server's CSV to Parquet."""

    query_format: QueryFormat = "csv"
    copy_options: dict[str, Any] = CSV

    def __init__(self, columns: Sequence[Column]) -> None:
        self._schema = pa.schema([(column.name, _TYPES[column.type]) for column in columns])
        # As Postgres writes CSV: an unquoted empty cell is null, a quoted one is an empty text.
        self._convert = pa_csv.ConvertOptions(
            column_types={field.name: pa.string() if field.type == _TEXT_MAP else field.type for field in self._schema},
            null_values=[""],
            true_values=["true"],
            false_values=["false"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            check_utf8=False,
        )
        self._outbox = Outbox()
        self._writer = pq.ParquetWriter(self._outbox, self._schema, compression="zstd")
        self._slice: list[bytes] = []
        self._slice_bytes = 0
        self._group: list[pa.Table] = []
        self._group_bytes = 0

    def begin(self) -> bytes:
        return self._outbox.take()

    async def encode(self, rows: bytes) -> bytes:
        self._slice.append(rows)
        self._slice_bytes += len(rows)
        if self._slice_bytes >= SLICE_BYTES:
            self._read_slice()
        if self._group_bytes >= GROUP_BYTES:
            await asyncio.to_thread(self._write_group)
        return self._outbox.take()

    async def end(self) -> bytes:
        self._read_slice()
        await asyncio.to_thread(self._write_group)
        self._writer.close()
        return self._outbox.take()

    def _read_slice(self) -> None:
        if not self._slice:
            return
        table = pa_csv.read_csv(
            pa.py_buffer(b"".join(self._slice)),
            # One block: it must hold the longest row.
            pa_csv.ReadOptions(column_names=self._schema.names, block_size=self._slice_bytes + 1, use_threads=False),
            pa_csv.ParseOptions(newlines_in_values=True),
            self._convert,
        )
        columns = [
            _read_maps(column) if field.type == _TEXT_MAP else column
            for field, column in zip(self._schema, table.columns, strict=True)
        ]
        self._group.append(pa.Table.from_arrays(columns, schema=self._schema))
        self._group_bytes += self._slice_bytes
        self._slice, self._slice_bytes = [], 0

    def _write_group(self) -> None:
        group, self._group, self._group_bytes = self._group, [], 0
        if group:
            table = pa.concat_tables(group)
            self._writer.write_table(table, row_group_size=table.num_rows)


def _read_maps(column: pa.ChunkedArray) -> pa.Array:
    """A column of JSON texts as maps from text to text."""
    if column.null_count == len(column):
        return pa.nulls(len(column), _TEXT_MAP)
    maps = _decode_maps([text or "null" for text in column.to_pylist()])
    offsets, names, values = [0], [], []  # type: tuple[list[int], list[str], list[str | None]]
    for one in maps:
        if one:
            names += one
            values += one.values()
        offsets.append(len(names))
    mask = pa.array([one is None for one in maps], pa.bool_())
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(names, pa.string()), pa.array(values, pa.string()), mask=mask
    )


def _decode_maps(texts: list[str]) -> Sequence[dict[str, str | None] | None]:
    """Decodes all texts at once where every value is a string, as in most columns."""
    try:
        return _decode_texts("[" + ",".join(texts) + "]")
    except msgspec.ValidationError:
        return [_decode_map(text) for text in texts]


def _decode_map(text: str) -> dict[str, str | None] | None:
    """The members of an object; None for null; any other value under the empty name."""
    if text == "null":
        return None
    try:
        members = _decode_object(text)
    except msgspec.ValidationError:
        return {"": _to_text(msgspec.Raw(text))}
    return {name: _to_text(member) for name, member in members.items()}


def _to_text(value: msgspec.Raw) -> str | None:
    text = bytes(value)
    if text == b"null":
        return None
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()
