"""Exports: recipients, attempts or batches as files, streamed from the server's own COPY with constant memory.

An export is one read-only transaction, so all of it describes one instant. It has its own connection, which is closed
when its reader is done or gone, so it takes none from the pool. The number of exports is limited, because each holds
back vacuum while it runs.

It reads its rows by ranges of the key. That bounds what the server sorts, starts the stream at once, and keeps every
range on the index.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import asyncpg

from service.errors import InvalidRequestError, UnavailableError
from service.exports.formats import CSV, JSON_LINES, Column, Encoder, TextEncoder, write_header
from service.exports.selection import Arguments, ExportRequest, Selection, Selector
from service.exports.xlsx import XlsxEncoder
from service.store.database import COPY_SECONDS, Database, connect

Write: TypeAlias = Callable[[bytes], Awaitable[None]]

RETRY_SECONDS = 15
CLOSE_SECONDS = 5.0
BYTE_ORDER_MARK = "\ufeff".encode()


@dataclass(frozen=True)
class Export:
    """An export that has begun: its instant, and the selection that ``stream`` writes."""

    connection: asyncpg.Connection
    queries: Any
    request: ExportRequest
    as_of: datetime
    selection: Selection

    async def stream(self, write: Write) -> int:
        """Writes the file in pieces. Returns its number of rows. An error of ``write`` ends it."""
        found = self.queries.list_export_columns(self.connection, rows=self.selection.function)
        encoder = self._make_encoder([Column(*row) async for row in found])
        await write(encoder.begin())
        rows = 0
        for arguments in self.selection.list_ranges():
            rows += await self._copy(encoder, arguments, write)
        await write(await encoder.end())
        return rows

    def _make_encoder(self, columns: Sequence[Column]) -> Encoder:
        """The encoder of the requested format."""
        file_columns = self.selection.members.expand(columns)
        match self.request.file_format:
            case "csv":
                mark = BYTE_ORDER_MARK if self.request.has_mark else b""
                return TextEncoder("csv", CSV, mark + write_header(file_columns))
            case "ndjson":
                return TextEncoder("json", JSON_LINES, b"")
            case "xlsx":
                return XlsxEncoder(file_columns, self.request.kind, self._describe(), self.selection.most)
            case "parquet":
                from service.exports.parquet import ParquetEncoder  # 60 MB that other exports do not load

                return ParquetEncoder(columns)

    def _describe(self) -> dict[str, str]:
        """What the rows are, for a sheet beside them."""
        batch_id, verdict = self.request.batch_id, self.selection.verdict
        return {
            "content": self.request.kind,
            **({} if batch_id is None else {"batch_id": str(batch_id)}),
            "as_of": self.as_of.isoformat().replace("+00:00", "Z"),
            **({} if verdict is None else {"verdict": verdict}),
            "time_zone": self.request.time_zone,
        }

    async def _copy(self, encoder: Encoder, arguments: Arguments, write: Write) -> int:
        members = self.selection.members
        query = await self.queries.write_export_query(
            self.connection,
            rows=self.selection.function,
            arguments=arguments,
            format=encoder.query_format,
            parameters=members.parameters,
            escape=self.request.escapes_formulas,
            has_other_parameters=members.has_other_parameters,
            results=members.results,
        )

        async def pass_on(rows: bytes) -> None:
            await write(await encoder.encode(rows))

        status = await self.connection.copy_from_query(
            query, output=pass_on, timeout=COPY_SECONDS, **encoder.copy_options
        )
        return int(status.removeprefix("COPY "))


class Exporter:
    """Starts exports, at most ``max_exports`` at a time."""

    def __init__(self, database: Database, *, max_exports: int) -> None:
        self._database = database
        self._max_exports = max_exports
        self._selector = Selector(database.queries)
        self._running = 0

    @asynccontextmanager
    async def begin(self, request: ExportRequest) -> AsyncIterator[Export]:
        """An export that lasts as long as the block. Raises UnavailableError when ``max_exports`` are running,
        InvalidRequestError for a time zone that the database does not know, and what ``Selector`` raises."""
        if self._running >= self._max_exports:
            raise UnavailableError(
                f"{self._max_exports} exports are already running, as many as OUTCOMES_MAX_EXPORTS allows: "
                f"repeat this one in {RETRY_SECONDS} seconds",
                retry_after=RETRY_SECONDS,
            )
        self._running += 1
        try:
            connection = await connect(self._database.url, application_name="outcomes export")
            try:
                await connection.transaction(isolation="repeatable_read", readonly=True).start()
                as_of = await self._begin(connection, request.time_zone)
                selection = await self._selector.choose(connection, request)
                yield Export(connection, self._database.queries, request, as_of, selection)
            finally:
                # Cancels a running query and ends the transaction. If that takes too long, the connection is dropped.
                await connection.close(timeout=CLOSE_SECONDS)
        finally:
            self._running -= 1

    async def _begin(self, connection: asyncpg.Connection, time_zone: str) -> datetime:
        """Prepares the transaction; returns the instant of its data."""
        try:
            as_of: datetime = await self._database.queries.begin_export(connection, time_zone=time_zone)
        except asyncpg.InvalidParameterValueError as error:
            raise InvalidRequestError(f"time_zone: {time_zone!r} is not known to the database") from error
        return as_of
