"""Exports over HTTP: recipients, attempts and batches as CSV, XLSX, NDJSON or Parquet."""

from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from service.errors import ConflictError, InvalidRequestError
from service.exports.export import Exporter
from service.exports.options import (
    AS_OF_HEADER,
    BOM,
    FORMAT,
    FORMULAS,
    OPTIONS,
    RESULTS,
    TIME_ZONE,
    TIME_ZONE_TEXT,
    declare_answers,
    read_options,
)
from service.exports.selection import ExportRequest, Kind
from service.exports.streaming import ExportResponse
from service.outcomes.filters import ATTEMPT_FILTERS, NO_FILTERS, RECIPIENT_FILTERS, FilterReader, Filters
from service.outcomes.http import AGENT_ID, BATCH_ID
from service.outcomes.recipients_http import MAX_RECIPIENT
from service.telemetry.metrics import Metrics
from service.web.operations import Operation
from service.web.parameters import Choice, Number
from service.web.times import Period, TimeZone

MAX_ID = 2**63 - 1
Span: TypeAlias = tuple[Number[int], Number[int]]


def _declare_span(maximum: int) -> Span:
    return (
        Number(
            "after",
            "Only rows after this key, such as `X-Outcomes-Until` of an earlier export",
            default=0,
            minimum=0,
            maximum=maximum,
        ),
        Number("until", "Only rows up to and including this key", default=maximum, minimum=0, maximum=maximum),
    )


RECIPIENT_SPAN, BATCH_SPAN = _declare_span(MAX_RECIPIENT), _declare_span(MAX_ID)
LAYOUT = Choice(
    "layout", "In CSV: `upload` for a file that can be uploaded again, with `customer_phone` and the parameters, "
    "unescaped, without people who were erased or withdrawn", ("upload",), default=None,
)  # fmt: skip
UNTIL_HEADER = ("X-Outcomes-Until", "The last key in the file, for `after`")
ROWS_HEADER = (
    "X-Outcomes-Rows",
    "The number of rows, without a header; absent for the attempts of a range, for an upload, and with filters other "
    "than `state`",
)
VERDICT_HEADER = ("X-Outcomes-Verdict", "How final the batch is")


BATCH_ANSWERS = declare_answers(AS_OF_HEADER, UNTIL_HEADER, ROWS_HEADER, VERDICT_HEADER)
PERIOD_ANSWERS = declare_answers(AS_OF_HEADER, UNTIL_HEADER, ROWS_HEADER)


class Exports:
    """Handlers of ``/v1/batch-calls/{id}/recipients.{format}`` and its like."""

    def __init__(
        self, exporter: Exporter, metrics: Metrics, filters: FilterReader, *, max_seconds: float, default_time_zone: str
    ) -> None:
        self._exporter = exporter
        self._metrics = metrics
        self._filters = filters
        self._max_seconds = max_seconds
        self._time_zone = TimeZone(TIME_ZONE, TIME_ZONE_TEXT, default=default_time_zone)
        self._period = Period("batches created", default_time_zone=default_time_zone, zone_text=TIME_ZONE_TEXT)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/recipients.{format}", self.export_recipients, "read", "Exports",
                parameters=(BATCH_ID, FORMAT, *RECIPIENT_FILTERS, self._time_zone, *RECIPIENT_SPAN, *OPTIONS, LAYOUT),
                answers=BATCH_ANSWERS, errors=(ConflictError,), download="recipients",
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/attempts.{format}", self.export_attempts, "read", "Exports",
                parameters=(BATCH_ID, FORMAT, *ATTEMPT_FILTERS, self._time_zone, *RECIPIENT_SPAN, *OPTIONS),
                answers=BATCH_ANSWERS, download="attempts",
            ),
            Operation(
                "GET", "/v1/exports/batches.{format}", self.export_batches, "read", "Exports",
                parameters=(FORMAT, *self._period.parameters, AGENT_ID, *BATCH_SPAN, FORMULAS, BOM),
                answers=PERIOD_ANSWERS,
            ),
            Operation(
                "GET", "/v1/exports/recipients.{format}", self.export_all_recipients, "read", "Exports",
                parameters=(FORMAT, *self._period.parameters, AGENT_ID, *RECIPIENT_FILTERS, *BATCH_SPAN, *OPTIONS),
                answers=PERIOD_ANSWERS, download="recipients",
            ),
        ]  # fmt: skip

    async def export_recipients(self, request: Request) -> Response:
        """The recipients of a batch, each with its parameters and outcome, all or those that the filters find. With
        ``layout=upload``, a file to upload."""
        is_for_upload = LAYOUT.read(request) is not None
        if is_for_upload and FORMAT.read(request) != "csv":
            raise InvalidRequestError("layout: is only for csv, the format that an upload takes")
        if is_for_upload and FORMULAS.read(request) == "escape":
            raise InvalidRequestError("formulas: is not for layout=upload, which keeps every text as it was uploaded")
        if is_for_upload and RESULTS.read(request) == "columns":
            raise InvalidRequestError("results: is not for layout=upload, which has the columns of the uploaded file")
        return await self._export_batch(request, "recipients", is_for_upload=is_for_upload)

    async def export_attempts(self, request: Request) -> Response:
        """The attempts of a batch's recipients, each by the fact that counts for it. The filters are about the attempt;
        ``parameter`` and ``phone`` about its recipient."""
        return await self._export_batch(request, "attempts")

    async def export_batches(self, request: Request) -> Response:
        """Batches with the figures of their outcomes."""
        return self._export_period(request, "batches", NO_FILTERS)

    async def export_all_recipients(self, request: Request) -> Response:
        """The recipients of many batches, all or those that the filters find."""
        zone = ZoneInfo(self._time_zone.read(request))
        filters = await self._filters.read(request, zone, agent_id=AGENT_ID.read(request))
        return self._export_period(request, "recipients", filters)

    async def _export_batch(self, request: Request, kind: Kind, *, is_for_upload: bool = False) -> Response:
        batch_id = BATCH_ID.read(request)
        filters = await self._filters.read(request, ZoneInfo(self._time_zone.read(request)), batch_id=batch_id)
        name = f"batch-{batch_id}-{kind}" + ("-upload" if is_for_upload else "")
        return self._answer(
            request, kind, RECIPIENT_SPAN, name, filters, batch_id=batch_id, is_for_upload=is_for_upload
        )

    def _export_period(self, request: Request, kind: Kind, filters: Filters) -> Response:
        since, before, _ = self._period.read(request)
        agent_id = AGENT_ID.read(request)
        return self._answer(request, kind, BATCH_SPAN, kind, filters, agent_id=agent_id, since=since, before=before)

    def _answer(
        self, request: Request, kind: Kind, span: Span, name: str, filters: Filters, **selected: Any
    ) -> Response:
        """The export as a file with this name and its span."""
        after, until = _read_span(request, span)
        options = read_options(request, self._time_zone)
        if selected.get("is_for_upload"):
            options = options._replace(escapes_formulas=False)
        has_only_states = bool(filters.states) and filters == Filters(states=filters.states)
        asked = ExportRequest(
            kind=kind,
            file_format=FORMAT.read(request),
            filters=filters.to_json(),
            states=filters.states if has_only_states else None,
            after=after,
            until=until,
            **options._asdict(),
            **selected,
        )
        name += f"-after-{after}" if after else ""
        name += f"-until-{until}" if until not in {MAX_RECIPIENT, MAX_ID} else ""
        file_name = f"{name}.{asked.file_format}"
        return ExportResponse(self._exporter, asked, self._metrics, file_name=file_name, max_seconds=self._max_seconds)


def _read_span(request: Request, span: Span) -> tuple[int, int]:
    """The values of ``after`` and ``until``; without them, all keys."""
    after, until = (parameter.read(request) for parameter in span)
    if until < after:
        maximum = span[1].default
        raise InvalidRequestError(f"until: takes a whole number from after ({after}) to {maximum}")
    return after, until
