"""What an export consists of: the request, the rows that it names, and how many there are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import asyncpg

from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.exports.formats import TABLES, Format, Members
from service.exports.xlsx import MAX_ROWS

Kind: TypeAlias = Literal["recipients", "attempts", "batches", "callbacks"]
Arguments: TypeAlias = tuple[str | None, ...]

RANGE = 10_000  # recipients in one query
MAX_CELLS = 1500  # with results, less than the 1,664 columns that Postgres returns
MAX_RESULT_COLUMNS = 100
MAX_PARAMETER_COLUMNS = 200
"""Where the columns of a file are not known."""
SAMPLED_RECIPIENTS = 20
PHONE_COLUMN = "customer_phone"  # exported as a column already
MAX_KEY = 2**63 - 1
_ROWS: dict[Kind, str] = {
    "recipients": "recipient_rows", "attempts": "attempt_rows", "batches": "batch_rows", "callbacks": "callback_rows",
}  # fmt: skip


class CallbackFilters(Protocol):
    """Which callbacks to export, as for their list: see ``service.callbacks``."""

    def to_arguments(self) -> dict[str, Any]:
        """The arguments of the query ``split_callbacks`` but the size of its parts."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A request to export. ``after`` and ``until`` are recipient numbers within one batch, else batch ids."""

    kind: Kind
    file_format: Format
    batch_id: int | None = None
    agent_id: int | None = None
    since: datetime | None = None
    before: datetime | None = None
    filters: str | None = None
    """What ``meets_filters()`` reads, as JSON."""
    states: tuple[str, ...] | None = None
    """The states of ``filters`` if these name nothing else: such rows can be counted."""
    is_for_upload: bool = False
    """Of recipients in a CSV: only the columns that an upload takes."""
    callbacks: CallbackFilters | None = None
    after: int = 0
    until: int = MAX_KEY
    escapes_formulas: bool
    has_result_columns: bool = False
    """Whether each result has a column, and each parameter wherever it can."""
    has_mark: bool = False
    """Whether a CSV begins with a byte order mark."""
    time_zone: str = "UTC"
    """In which times are shown."""


class Selection(NamedTuple):
    """The rows to export: the SQL function that returns them, and its arguments for each range."""

    function: str
    list_ranges: Callable[[], Iterator[Arguments]]
    members: Members
    until: int | None
    """The last key; None for rows without one."""
    rows: int | None
    """The number of rows; None where only reading them shows it."""
    most: int
    """There are no more rows than this."""
    verdict: str | None


class Selector:
    """Chooses the rows of exports."""

    def __init__(self, queries: Any) -> None:
        self._queries = queries

    async def choose(self, connection: asyncpg.Connection, request: ExportRequest) -> Selection:
        """The rows of an export. Raises NotFoundError for an unknown batch, ConflictError for an upload's file of one
        without known columns, and InvalidRequestError for more rows than a sheet holds."""
        if request.callbacks is not None:
            selection = await self._choose_callbacks(connection, request, request.callbacks.to_arguments())
        elif request.batch_id is not None:
            selection = await self._choose_batch(connection, request)
        else:
            selection = await self._choose_batches(connection, request)
        if request.file_format == "xlsx" and selection.most > MAX_ROWS:
            await self._refuse_large_sheet(connection, selection)
        return selection

    async def _choose_batches(self, connection: asyncpg.Connection, request: ExportRequest) -> Selection:
        filters = {"agent_id": request.agent_id, "since": request.since, "before": request.before}
        span = {"after": request.after, "until": request.until}
        found = self._queries.list_exported_batches(connection, **filters, **span)
        batches = [(row["batch_key"], row["batch_id"], row["recipient_count"]) async for row in found]
        until = batches[-1][1] if batches else request.after
        if request.kind == "batches":
            values = [*filters.values(), *span.values()]
            arguments = tuple(None if value is None else str(value) for value in values)
            count = len(batches)
            return Selection(_ROWS["batches"], lambda: iter([arguments]), Members(), until, count, count, None)
        members = Members()
        if request.has_result_columns:
            members = await self._name_members(connection, [key for key, _, _ in batches], None)

        def list_ranges() -> Iterator[Arguments]:
            return (
                (str(key), str(first), str(last), request.filters)
                for key, _, count in batches
                for first, last in _split(0, count)
            )

        most = sum(count for _, _, count in batches)
        rows = most if request.filters is None else None
        return Selection(_ROWS["recipients"], list_ranges, members, until, rows, most, None)

    async def _choose_batch(self, connection: asyncpg.Connection, request: ExportRequest) -> Selection:
        batch = await self._queries.get_exported_batch(
            connection, batch_id=request.batch_id, after=request.after, until=request.until, states=request.states
        )
        if batch is None:
            raise NotFoundError(f"There is no batch {request.batch_id}")
        until = max(request.after, min(request.until, batch["recipient_count"]))
        rows = _count_rows(request, until, batch)
        key = str(batch["batch_key"])

        def list_ranges() -> Iterator[Arguments]:
            return ((key, str(first), str(last), request.filters) for first, last in _split(request.after, until))

        parameters = choose_parameters(batch["columns"])
        members = Members(parameters if request.file_format in TABLES else None)
        if request.has_result_columns:
            members = await self._name_members(connection, [batch["batch_key"]], parameters)
        most = rows if rows is not None else batch["attempts"] if request.kind == "attempts" else until - request.after
        verdict = batch["verdict"]
        if not request.is_for_upload:
            return Selection(_ROWS[request.kind], list_ranges, members, until, rows, most, verdict)
        if parameters is None:
            raise ConflictError(
                f"layout: the columns of batch {request.batch_id} are not known, or over {MAX_CELLS}, so its "
                "recipients cannot be written as a file to upload; register the batch's CSV first"
            )
        # Those who are erased or withdrawn are not written, which only reading shows.
        members = Members(parameters, parameter_prefix="")
        return Selection("upload_rows", list_ranges, members, until, None, most, verdict)

    async def _choose_callbacks(
        self, connection: asyncpg.Connection, request: ExportRequest, asked: dict[str, Any]
    ) -> Selection:
        found = await self._queries.split_callbacks(connection, **asked, rows=RANGE)
        if asked["batch_id"] is not None and found["batch_key"] is None:
            raise NotFoundError(f"There is no batch {asked['batch_id']}")
        members = Members()
        if request.has_result_columns:
            members = await self._name_members(connection, found["batch_keys"], None)
        begins = [("-infinity", 0), *zip(found["due_times"], found["callback_nos"], strict=True)]
        done = "{" + ",".join(map(str, asked["done"])) + "}"
        period = (asked["since"] or "-infinity", asked["until"], asked["overdue_at"])
        days = (asked["from_day"], asked["to_day"])

        def list_ranges() -> Iterator[Arguments]:
            for begin in begins:
                values = (found["batch_key"], asked["agent_id"], done, *period, *begin, RANGE, *days)
                yield tuple(None if value is None else str(value) for value in values)

        count = found["callbacks"]
        return Selection(_ROWS["callbacks"], list_ranges, members, None, count, count, None)

    async def _name_members(
        self, connection: asyncpg.Connection, batch_keys: list[int], parameters: list[str] | None
    ) -> Members:
        """Columns for the results of some batches, and for their parameters: those known, or else those found."""
        found = self._queries.list_result_columns(connection, batch_keys=batch_keys, names=MAX_RESULT_COLUMNS)
        results = [row["name"] async for row in found] or None
        if parameters is not None:
            return Members(parameters, results=results)
        found = self._queries.list_parameter_columns(
            connection, batch_keys=batch_keys, names=MAX_PARAMETER_COLUMNS, sampled=SAMPLED_RECIPIENTS
        )
        names = [row["name"] async for row in found]
        return Members(names or None, bool(names), results)

    async def _refuse_large_sheet(self, connection: asyncpg.Connection, selection: Selection) -> None:
        """Raises InvalidRequestError if there are more rows than a sheet holds, which it counts if need be."""
        rows = selection.rows
        if rows is None:
            rows = 0
            for arguments in selection.list_ranges():
                query = await self._queries.write_export_query(
                    connection, rows=selection.function, arguments=arguments, format="count", parameters=None,
                    escape=False, has_other_parameters=False, results=None,
                )  # fmt: skip
                rows += await connection.fetchval(query)
                if rows > MAX_ROWS:
                    break
        if rows > MAX_ROWS:
            raise InvalidRequestError(
                f"format: a sheet holds {MAX_ROWS:,} rows, and this export has more; ask for csv, or for parts with "
                "after and until"
            )


def choose_parameters(columns: Sequence[str]) -> list[str] | None:
    """The call parameters that get their own columns in a CSV. None: one column has all of them as JSON, because the
    batch's columns are unknown or too many."""
    names = [name for name in columns if name != PHONE_COLUMN]
    return names if columns and len(names) <= MAX_CELLS else None


def _count_rows(request: ExportRequest, until: int, batch: asyncpg.Record) -> int | None:
    """The number of rows; None where only reading them could show it."""
    if request.kind == "attempts":
        is_whole = request.filters is None and request.after == 0 and until >= batch["recipient_count"]
        return int(batch["attempts"]) if is_whole else None
    if request.filters is None:
        return until - request.after  # they are numbered without gaps
    return None if request.states is None else int(batch["matching"])


def _split(after: int, until: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + RANGE, until)) for first in range(after, until, RANGE))
