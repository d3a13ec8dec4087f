"""Exports: recipients, attempts or batches as files, streamed from the server's own COPY with constant memory.

An export is one read-only transaction, so all of it is of one instant. It runs on a connection of its own, which is
closed as soon as its reader is done or gone: it takes nothing from the pool that other requests live on. So many run
at once and no more, since each holds back the server's clean-up for as long as it lasts.

It goes through its rows by ranges of the key. That bounds what the server sorts, starts the stream at once, and holds
every range to look-ups by index.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

import asyncpg

from service.errors import NotFoundError, UnavailableError
from service.exports.formats import Column, CsvEncoder, Encoder, Format, NdjsonEncoder, name_cells
from service.store.database import COPY_SECONDS, Database, connect

Kind: TypeAlias = Literal["recipients", "attempts", "batches"]
Write: TypeAlias = Callable[[bytes], Awaitable[None]]
Arguments: TypeAlias = tuple[str | None, ...]

RANGE = 10_000  # recipients in one query
RETRY_SECONDS = 15
CLOSE_SECONDS = 5.0
MAX_CELLS = 1500  # the server gives no more than 1,664
PHONE_COLUMN = "customer_phone"  # a column of its own already
_ROWS: dict[Kind, str] = {"recipients": "recipient_rows", "attempts": "attempt_rows", "batches": "batch_rows"}


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What is asked for. ``after`` and ``until`` are numbers of recipients within a batch, else ids of batches."""

    kind: Kind
    file_format: Format
    batch_id: int | None = None
    agent_id: int | None = None
    since: datetime | None = None
    before: datetime | None = None
    state: str | None = None
    after: int
    until: int
    escapes_formulas: bool


class Choice(NamedTuple):
    """Which rows: the function that gives them and what to call it with, range after range."""

    function: str
    ranges: Iterator[Arguments]
    parameters: list[str] | None
    until: int
    rows: int | None
    verdict: str | None


class Export:
    """One that has begun: what is known of it before its rows, and the rows."""

    def __init__(
        self, connection: asyncpg.Connection, queries: Any, request: ExportRequest, as_of: datetime, choice: Choice
    ) -> None:
        self.as_of = as_of
        self.verdict = choice.verdict
        self.rows = choice.rows
        self.until = choice.until
        self._connection = connection
        self._queries = queries
        self._request = request
        self._choice = choice

    async def stream(self, write: Write) -> int:
        """Writes the file, in pieces; gives how many rows it had. What ``write`` raises ends it."""
        choice = self._choice
        found = self._queries.list_export_columns(self._connection, rows=choice.function)
        columns = [Column(*row) async for row in found]
        is_for_people = self._request.file_format == "csv"  # Parquet is made of CSV too, with all parameters in a map
        parameters = choice.parameters if is_for_people else None
        encoder = make_encoder(self._request.file_format, columns, parameters)
        await write(encoder.begin())
        rows = 0
        for arguments in choice.ranges:
            rows += await self._copy(encoder, arguments, parameters, write)
        await write(await encoder.end())
        return rows

    async def _copy(self, encoder: Encoder, arguments: Arguments, parameters: list[str] | None, write: Write) -> int:
        query = await self._queries.write_export_query(
            self._connection,
            rows=self._choice.function,
            arguments=arguments,
            format=encoder.query_format,
            parameters=parameters,
            escape=self._request.escapes_formulas,
        )

        async def pass_on(rows: bytes) -> None:
            await write(await encoder.encode(rows))

        status = await self._connection.copy_from_query(
            query, output=pass_on, timeout=COPY_SECONDS, **encoder.copy_options
        )
        return int(status.removeprefix("COPY "))


class Exporter:
    """Begins exports, so many at once."""

    def __init__(self, database: Database, *, max_exports: int) -> None:
        self._database = database
        self._max_exports = max_exports
        self._running = 0

    @asynccontextmanager
    async def begin(self, request: ExportRequest) -> AsyncIterator[Export]:
        """An export, for as long as the block lasts.

        Raises UnavailableError when as many run as may, and NotFoundError for an unknown batch.
        """
        if self._running >= self._max_exports:
            raise UnavailableError(
                f"{self._max_exports} exports run already, as many as OUTCOMES_MAX_EXPORTS allows: "
                f"repeat this one in {RETRY_SECONDS} seconds",
                retry_after=RETRY_SECONDS,
            )
        self._running += 1
        try:
            connection = await connect(self._database.url, application_name="outcomes export")
            try:
                await connection.transaction(isolation="repeatable_read", readonly=True).start()
                as_of = await self._database.queries.begin_export(connection)
                choice = await self._choose(connection, request)
                yield Export(connection, self._database.queries, request, as_of, choice)
            finally:
                # Ends the transaction with it, and first cancels what may still run. A server that does not take that
                # in time loses the connection.
                await connection.close(timeout=CLOSE_SECONDS)
        finally:
            self._running -= 1

    async def _choose(self, connection: asyncpg.Connection, request: ExportRequest) -> Choice:
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
            return Choice(_ROWS["batches"], ranges, None, until, len(batches), None)
        ranges = (
            (str(key), str(first), str(last), request.state)
            for key, _, count in batches
            for first, last in _split(0, count)
        )
        rows = sum(count for _, _, count in batches)
        return Choice(_ROWS["recipients"], ranges, None, until, rows, None)

    async def _choose_batch(self, connection: asyncpg.Connection, request: ExportRequest) -> Choice:
        batch = await self._database.queries.get_exported_batch(
            connection, batch_id=request.batch_id, state=request.state
        )
        if batch is None:
            raise NotFoundError(f"There is no batch {request.batch_id}")
        until = max(request.after, min(request.until, batch["recipient_count"]))
        rows = _count_rows(request, until, batch)
        key, spans = str(batch["batch_key"]), _split(request.after, until)
        if request.kind == "attempts":
            ranges: Iterator[Arguments] = ((key, str(first), str(last)) for first, last in spans)
            return Choice(_ROWS["attempts"], ranges, None, until, rows, batch["verdict"])
        ranges = ((key, str(first), str(last), request.state) for first, last in spans)
        parameters = choose_parameters(batch["columns"])
        return Choice(_ROWS["recipients"], ranges, parameters, until, rows, batch["verdict"])


def make_encoder(file_format: Format, columns: Sequence[Column], parameters: Sequence[str] | None) -> Encoder:
    """The encoder of a format; ``parameters`` are the call parameters that have columns of their own in a CSV."""
    if file_format == "csv":
        return CsvEncoder(name_cells(columns, parameters))
    if file_format == "ndjson":
        return NdjsonEncoder()
    from service.exports.parquet import ParquetEncoder  # 60 MB that a service without such exports does without

    return ParquetEncoder(columns)


def choose_parameters(columns: list[str]) -> list[str] | None:
    """The call parameters that get columns of their own in a CSV; None: all of them stand in one, as JSON. That is so
    for a batch whose columns are not known, and for one that has more of them than the server can give."""
    names = [name for name in columns if name != PHONE_COLUMN]
    return names if columns and len(names) <= MAX_CELLS else None


def _count_rows(request: ExportRequest, until: int, batch: asyncpg.Record) -> int | None:
    """How many rows there will be. None where only reading them would tell: a range's attempts, or those in a state."""
    if request.kind == "recipients" and request.state is None:
        return until - request.after  # they are numbered without gaps
    if request.after > 0 or until < batch["recipient_count"]:
        return None
    counted: int = batch["attempts" if request.kind == "attempts" else "matching"]
    return counted


def _split(after: int, until: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + RANGE, until)) for first in range(after, until, RANGE))
