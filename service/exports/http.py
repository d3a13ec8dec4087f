"""Exports over HTTP: recipients, attempts and batches as CSV, NDJSON or Parquet."""

from typing import Any, TypeAlias, get_args

from starlette.requests import Request
from starlette.responses import Response

from service.errors import ConflictError, InvalidRequestError
from service.exports.export import Exporter, ExportRequest, Kind
from service.exports.formats import MEDIA_TYPES, Format
from service.exports.streaming import ExportResponse
from service.outcomes.http import AGENT_ID, BATCH_ID
from service.outcomes.recipients_http import MAX_RECIPIENT, STATE
from service.telemetry.metrics import Metrics
from service.web.operations import Answer, Operation
from service.web.parameters import Choice, Number, PathChoice
from service.web.times import Period

FORMATS: tuple[Format, ...] = get_args(Format)
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


FORMAT = PathChoice("format", "export format", "The format of the file", FORMATS)
RECIPIENT_SPAN, BATCH_SPAN = _declare_span(MAX_RECIPIENT), _declare_span(MAX_ID)
FORMULAS = Choice(
    "formulas", "In CSV: `escape` cells that a spreadsheet would run as formulas (the default), or `keep` them",
    ("escape", "keep"), default=None,
)  # fmt: skip
LAYOUT = Choice(
    "layout", "In CSV: `upload` for a file that can be uploaded again, with `customer_phone` and the parameters, "
    "unescaped, without people who were erased or withdrawn", ("upload",), default=None,
)  # fmt: skip
AS_OF_HEADER = ("X-Outcomes-As-Of", "Everything committed until then is in the file, and nothing later")
UNTIL_HEADER = ("X-Outcomes-Until", "The last key in the file, for `after`")
ROWS_HEADER = (
    "X-Outcomes-Rows",
    "The number of rows, without a CSV's header; absent for the attempts of a range, and for an upload",
)
VERDICT_HEADER = ("X-Outcomes-Verdict", "How final the batch is")


def _declare_answers(*headers: tuple[str, str]) -> tuple[Answer, ...]:
    """A file in each format, with these headers."""
    text = "The file. One that cannot be finished ends without HTTP's last chunk"
    return tuple(Answer(str, text, media_type=kind.partition(";")[0], headers=headers) for kind in MEDIA_TYPES.values())


BATCH_ANSWERS = _declare_answers(AS_OF_HEADER, UNTIL_HEADER, ROWS_HEADER, VERDICT_HEADER)
PERIOD_ANSWERS = _declare_answers(AS_OF_HEADER, UNTIL_HEADER, ROWS_HEADER)


class Exports:
    """Handlers of ``/v1/batch-calls/{id}/recipients.{format}`` and its like."""

    def __init__(self, exporter: Exporter, metrics: Metrics, *, max_seconds: float, default_time_zone: str) -> None:
        self._exporter = exporter
        self._metrics = metrics
        self._max_seconds = max_seconds
        self._period = Period("batches created", default_time_zone=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/recipients.{format}", self.export_recipients, "read", "Exports",
                parameters=(BATCH_ID, FORMAT, STATE, *RECIPIENT_SPAN, FORMULAS, LAYOUT), answers=BATCH_ANSWERS,
                errors=(ConflictError,),
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/attempts.{format}", self.export_attempts, "read", "Exports",
                parameters=(BATCH_ID, FORMAT, *RECIPIENT_SPAN, FORMULAS), answers=BATCH_ANSWERS,
            ),
            Operation(
                "GET", "/v1/exports/batches.{format}", self.export_batches, "read", "Exports",
                parameters=(FORMAT, *self._period.parameters, AGENT_ID, *BATCH_SPAN, FORMULAS),
                answers=PERIOD_ANSWERS,
            ),
            Operation(
                "GET", "/v1/exports/recipients.{format}", self.export_all_recipients, "read", "Exports",
                parameters=(FORMAT, *self._period.parameters, AGENT_ID, *BATCH_SPAN, FORMULAS),
                answers=PERIOD_ANSWERS,
            ),
        ]  # fmt: skip

    async def export_recipients(self, request: Request) -> Response:
        """The recipients of a batch, each with its parameters and outcome. With ``layout=upload``, a file to upload."""
        is_for_upload = LAYOUT.read(request) is not None
        if is_for_upload and FORMAT.read(request) != "csv":
            raise InvalidRequestError("layout: is only for csv, the format that an upload takes")
        if is_for_upload and FORMULAS.read(request) == "escape":
            raise InvalidRequestError("formulas: is not for layout=upload, which keeps every text as it was uploaded")
        return self._export_batch(request, "recipients", STATE.read(request), is_for_upload=is_for_upload)

    async def export_attempts(self, request: Request) -> Response:
        """The attempts of a batch's recipients, each by the fact that counts for it."""
        return self._export_batch(request, "attempts", None)

    async def export_batches(self, request: Request) -> Response:
        """Batches with the figures of their outcomes."""
        return self._export_batches_of_period(request, "batches")

    async def export_all_recipients(self, request: Request) -> Response:
        """The recipients of many batches."""
        return self._export_batches_of_period(request, "recipients")

    def _export_batch(
        self, request: Request, kind: Kind, state: str | None, *, is_for_upload: bool = False
    ) -> Response:
        batch_id = BATCH_ID.read(request)
        name = f"batch-{batch_id}-{kind}" + ("-upload" if is_for_upload else "")
        return self._answer(
            request, kind, RECIPIENT_SPAN, MAX_RECIPIENT, name, batch_id=batch_id, state=state,
            is_for_upload=is_for_upload,
        )  # fmt: skip

    def _export_batches_of_period(self, request: Request, kind: Kind) -> Response:
        since, before, _ = self._period.read(request)
        agent_id = AGENT_ID.read(request)
        return self._answer(request, kind, BATCH_SPAN, MAX_ID, kind, agent_id=agent_id, since=since, before=before)

    def _answer(self, request: Request, kind: Kind, span: Span, maximum: int, name: str, **filters: Any) -> Response:
        """The export as a file with this name and its span."""
        after, until = _read_span(request, span, maximum)
        asked = ExportRequest(
            kind=kind,
            file_format=FORMAT.read(request),
            after=after,
            until=until,
            escapes_formulas=_read_formulas(request) and not filters.get("is_for_upload"),
            **filters,
        )
        name += f"-after-{after}" if after else ""
        name += f"-until-{until}" if until not in {MAX_RECIPIENT, MAX_ID} else ""
        file_name = f"{name}.{asked.file_format}"
        return ExportResponse(self._exporter, asked, self._metrics, file_name=file_name, max_seconds=self._max_seconds)


def _read_span(request: Request, span: Span, maximum: int) -> tuple[int, int]:
    """The values of ``after`` and ``until``; without them, all keys."""
    after, until = (parameter.read(request) for parameter in span)
    if until < after:
        raise InvalidRequestError(f"until: takes a whole number from after ({after}) to {maximum}")
    return after, until


def _read_formulas(request: Request) -> bool:
    """Whether to escape cells that a spreadsheet would run: ``formulas=escape``, the default, or ``keep``."""
    if FORMULAS.name in request.query_params and request.path_params["format"] != "csv":
        raise InvalidRequestError("formulas: is only for csv; the other formats keep every text unchanged")
    return FORMULAS.read(request) != "keep" and request.path_params["format"] == "csv"
