"""Exports: recipients, attempts or batches as files, streamed from the server's own COPY with constant memory.

An export is one read-only transaction, so all of it describes one instant. It has its own connection, which is closed
when its reader is done or gone, so it takes none from the pool. The number of exports is limited, because each holds
back vacuum while it runs.

It reads its rows by ranges of the key. That bounds what the server sorts, starts the stream at once, and keeps every
range on the index.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

import asyncpg

from service.errors import ConflictError, NotFoundError, UnavailableError
from service.exports.formats import CSV, JSON_LINES, Column, Encoder, Format, TextEncoder, write_header
from service.store.database import COPY_SECONDS, Database, connect

Kind: TypeAlias = Literal["recipients", "attempts", "batches"]
Write: TypeAlias = Callable[[bytes], Awaitable[None]]
Arguments: TypeAlias = tuple[str | None, ...]

RANGE = 10_000  # recipients in one query
RETRY_SECONDS = 15
CLOSE_SECONDS = 5.0
MAX_CELLS = 1500  # Postgres returns at most 1,664 columns
PHONE_COLUMN = "customer_phone"  # exported as a column already
_ROWS: dict[Kind, str] = {"recipients": "recipient_rows", "attempts": "attempt_rows", "batches": "batch_rows"}


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A request to export. ``after`` and ``until`` are recipient numbers within one batch, else batch ids."""

    kind: Kind
    file_format: Format
    batch_id: int | None = None
    agent_id: int | None = None
    since: datetime | None = None
    before: datetime | None = None
    state: str | None = None
    is_for_upload: bool = False
    """Of recipients in a CSV: only the columns that an upload takes."""
    after: int
    until: int
    escapes_formulas: bool


class Selection(NamedTuple):
    """The rows to export: the SQL function that returns them, and its arguments for each range."""

    function: str
    ranges: Iterator[Arguments]
    parameters: list[str] | None
    until: int
    rows: int | None
    verdict: str | None


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
        selection = self.selection
        found = self.queries.list_export_columns(self.connection, rows=selection.function)
        columns = [Column(*row) async for row in found]
        is_for_people = self.request.file_format == "csv"  # Parquet has all parameters in one map
        parameters = selection.parameters if is_for_people else None
        prefix = "" if self.request.is_for_upload else "parameters."
        encoder = make_encoder(self.request.file_format, columns, parameters, prefix)
        await write(encoder.begin())
        rows = 0
        for arguments in selection.ranges:
            rows += await self._copy(encoder, arguments, parameters, write)
        await write(await encoder.end())
        return rows

    async def _copy(self, encoder: Encoder, arguments: Arguments, parameters: list[str] | None, write: Write) -> int:
        query = await self.queries.write_export_query(
            self.connection,
            rows=self.selection.function,
            arguments=arguments,
            format=encoder.query_format,
            parameters=parameters,
            escape=self.request.escapes_formulas,
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
        self._running = 0

    @asynccontextmanager
    async def begin(self, request: ExportRequest) -> AsyncIterator[Export]:
        """An export that lasts as long as the block. Raises UnavailableError when ``max_exports`` are running,
        NotFoundError for an unknown batch, and ConflictError for an upload's file of one without known columns."""
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
                as_of = await self._database.queries.begin_export(connection)
                selection = await self._choose(connection, request)
                yield Export(connection, self._database.queries, request, as_of, selection)
            finally:
                # Cancels a running query and ends the transaction. If that takes too long, the connection is dropped.
                await connection.close(timeout=CLOSE_SECONDS)
        finally:
            self._running -= 1

    async def _choose(self, connection: asyncpg.Connection, request: ExportRequest) -> Selection:
        if request.batch_id is not None:
            return await self._choose_batch(connection, request)
        filters = {"agent_id": request.agent_id, "since": request.since, "before": request.before}
        span = {"after": request.after, "until": request.until}
        found = self._database.queries.list_exported_batches(connection, **filters, **span)
        batches = [(row["batch_key"], row["batch_id"], row["recipient_count"]) async for row in found]
        until = batches[-1][1] if batches else request.after
        if request.kind == "batches":
            arguments = [*filters.values(), *span.values()]
            ranges = iter([tuple(None if value is None else str(value) for value in arguments)])
            return Selection(_ROWS["batches"], ranges, None, until, len(batches), None)
        ranges = (
            (str(key), str(first), str(last), request.state)
            for key, _, count in batches
            for first, last in _split(0, count)
        )
        rows = sum(count for _, _, count in batches)
        return Selection(_ROWS["recipients"], ranges, None, until, rows, None)

    async def _choose_batch(self, connection: asyncpg.Connection, request: ExportRequest) -> Selection:
        batch = await self._database.queries.get_exported_batch(
            connection, batch_id=request.batch_id, after=request.after, until=request.until, state=request.state
        )
        if batch is None:
            raise NotFoundError(f"There is no batch {request.batch_id}")
        until = max(request.after, min(request.until, batch["recipient_count"]))
        rows = _count_rows(request, until, batch)
        key, spans = str(batch["batch_key"]), _split(request.after, until)
        if request.kind == "attempts":
            ranges: Iterator[Arguments] = ((key, str(first), str(last)) for first, last in spans)
            return Selection(_ROWS["attempts"], ranges, None, until, rows, batch["verdict"])
        ranges = ((key, str(first), str(last), request.state) for first, last in spans)
        parameters = choose_parameters(batch["columns"])
        if not request.is_for_upload:
            return Selection(_ROWS["recipients"], ranges, parameters, until, rows, batch["verdict"])
        if parameters is None:
            raise ConflictError(
                f"layout: the columns of batch {request.batch_id} are not known, or over {MAX_CELLS}, so its "
                "recipients cannot be written as a file to upload; register the batch's CSV first"
            )
        # Those who are erased or withdrawn are not written, which only reading shows.
        return Selection("upload_rows", ranges, parameters, until, None, batch["verdict"])


def make_encoder(
    file_format: Format, columns: Sequence[Column], parameters: Sequence[str] | None, prefix: str = "parameters."
) -> Encoder:
    """The encoder of a format; ``parameters`` are the call parameters that have their own columns in a CSV, named with
    ``prefix``."""
    if file_format == "csv":
        return TextEncoder("csv", CSV, write_header(columns, parameters, prefix))
    if file_format == "ndjson":
        return TextEncoder("json", JSON_LINES, b"")
    from service.exports.parquet import ParquetEncoder  # 60 MB that a service without Parquet exports does not load

    return ParquetEncoder(columns)


def choose_parameters(columns: list[str]) -> list[str] | None:
    """The call parameters that get their own columns in a CSV. None: one column has all of them as JSON, because the
    batch's columns are unknown or too many."""
    names = [name for name in columns if name != PHONE_COLUMN]
    return names if columns and len(names) <= MAX_CELLS else None


def _count_rows(request: ExportRequest, until: int, batch: asyncpg.Record) -> int | None:
    """The number of rows; None for the attempts of a range, which only reading them could show."""
    if request.kind == "recipients" and request.state is None:
        return until - request.after  # they are numbered without gaps
    if request.kind == "attempts" and (request.after > 0 or until < batch["recipient_count"]):
        return None
    counted: int = batch["attempts" if request.kind == "attempts" else "matching"]
    return counted


def _split(after: int, until: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + RANGE, until)) for first in range(after, until, RANGE))
