"""Exports over HTTP: recipients, attempts and batches as CSV, NDJSON or Parquet."""

from typing import TypeAlias, get_args

from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.exports.export import Exporter, ExportRequest, Kind
from service.exports.formats import MEDIA_TYPES, Format
from service.exports.streaming import ExportResponse
from service.outcomes.http import AGENT_ID, BATCH_ID
from service.outcomes.recipients import MAX_RECIPIENT, STATE
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
            "after", "Only rows with a higher key: where another export ended", default=0, minimum=0, maximum=maximum
        ),
        Number("until", "Only rows up to this key", default=maximum, minimum=0, maximum=maximum),
    )


FORMAT = PathChoice("format", "export as", "The kind of file", FORMATS)
SPAN, SPAN_ACROSS = _declare_span(MAX_RECIPIENT), _declare_span(MAX_ID)
FORMULAS = Choice(
    "formulas", "In CSV: `escape` cells that a spreadsheet would run, as it does unless told otherwise, or `keep` them",
    ("escape", "keep"), default=None,
)  # fmt: skip
ANSWERS = tuple(
    Answer(
        str, "The file; one that could not be finished is broken off without HTTP's last chunk",
        media_type=kind.partition(";")[0],
        headers=(("X-Outcomes-As-Of", "The instant of all of it"), ("X-Outcomes-Until", "Its last key, for `after`")),
    )
    for kind in MEDIA_TYPES.values()
)  # fmt: skip


class Exports:
    """Handlers of ``/v1/batch-calls/{id}/recipients.{format}`` and its like."""

    def __init__(self, exporter: Exporter, metrics: Metrics, *, max_seconds: float, default_time_zone: str) -> None:
        self._exporter = exporter
        self._metrics = metrics
        self._max_seconds = max_seconds
        self._period = Period("Batches made", default_time_zone=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/recipients.{format}", self.export_recipients, "read", "Exports",
                parameters=(BATCH_ID, FORMAT, STATE, *SPAN, FORMULAS),
                answers=ANSWERS,
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/attempts.{format}", self.export_attempts, "read", "Exports",
                parameters=(BATCH_ID, FORMAT, *SPAN, FORMULAS),
                answers=ANSWERS,
            ),
            Operation(
                "GET", "/v1/exports/batches.{format}", self.export_batches, "read", "Exports",
                parameters=(FORMAT, *self._period.parameters, AGENT_ID, *SPAN_ACROSS, FORMULAS),
                answers=ANSWERS,
            ),
            Operation(
                "GET", "/v1/exports/recipients.{format}", self.export_all_recipients, "read", "Exports",
                parameters=(FORMAT, *self._period.parameters, AGENT_ID, *SPAN_ACROSS, FORMULAS),
                answers=ANSWERS,
            ),
        ]  # fmt: skip

    async def export_recipients(self, request: Request) -> Response:
        """The recipients of a batch, each with its parameters and outcome."""
        return self._export_batch(request, "recipients", STATE.read(request))

    async def export_attempts(self, request: Request) -> Response:
        """The attempts of a batch's recipients, each by the fact that counts for it."""
        return self._export_batch(request, "attempts", None)

    async def export_batches(self, request: Request) -> Response:
        """Batches with the figures of their outcomes."""
        return self._export_across(request, "batches")

    async def export_all_recipients(self, request: Request) -> Response:
        """The recipients of many batches."""
        return self._export_across(request, "recipients")

    def _export_batch(self, request: Request, kind: Kind, state: str | None) -> Response:
        batch_id = BATCH_ID.read(request)
        after, until = _read_span(request, SPAN, MAX_RECIPIENT)
        asked = ExportRequest(
            kind=kind,
            file_format=FORMAT.read(request),
            batch_id=batch_id,
            state=state,
            after=after,
            until=until,
            escapes_formulas=_read_formulas(request),
        )
        return self._answer(asked, f"batch-{batch_id}-{kind}")

    def _export_across(self, request: Request, kind: Kind) -> Response:
        since, before, _ = self._period.read(request)
        after, until = _read_span(request, SPAN_ACROSS, MAX_ID)
        asked = ExportRequest(
            kind=kind,
            file_format=FORMAT.read(request),
            agent_id=AGENT_ID.read(request),
            since=since,
            before=before,
            after=after,
            until=until,
            escapes_formulas=_read_formulas(request),
        )
        return self._answer(asked, kind)

    def _answer(self, asked: ExportRequest, name: str) -> Response:
        name += f"-after-{asked.after}" if asked.after else ""
        name += f"-until-{asked.until}" if asked.until not in {MAX_RECIPIENT, MAX_ID} else ""
        return ExportResponse(
            self._exporter,
            asked,
            self._metrics,
            file_name=f"{name}.{asked.file_format}",
            max_seconds=self._max_seconds,
        )


def _read_span(request: Request, span: Span, maximum: int) -> tuple[int, int]:
    """What stands in ``after`` and ``until``: everything where they are absent."""
    after, until = (parameter.read(request) for parameter in span)
    if until < after:
        raise InvalidRequestError(f"until: takes a whole number from after ({after}) to {maximum}")
    return after, until


def _read_formulas(request: Request) -> bool:
    """Whether cells that a spreadsheet would run are made harmless: ``formulas=escape``, the default, or ``keep``."""
    if FORMULAS.name in request.query_params and request.path_params["format"] != "csv":
        raise InvalidRequestError("formulas: is for csv alone; the other formats hold every text as it is")
    text = FORMULAS.read(request)
    return text != "keep" and request.path_params["format"] == "csv"
