"""Exports over HTTP: recipients, attempts and batches as CSV, NDJSON or Parquet."""

from datetime import UTC, datetime
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.metrics import Metrics
from service.outcomes.export_formats import Format
from service.outcomes.exports import Exporter, ExportRequest, Kind
from service.web.operations import Operation
from service.web.parameters import read_id, read_number, read_optional_number
from service.web.recipients import MAX_RECIPIENT, STATES
from service.web.streaming import ExportResponse

FORMATS: tuple[Format, ...] = get_args(Format)
MAX_ID = 2**63 - 1


class Exports:
    """Handlers of ``/v1/batch-calls/{id}/recipients.{format}`` and its like."""

    def __init__(self, exporter: Exporter, metrics: Metrics, *, max_seconds: float) -> None:
        self._exporter = exporter
        self._metrics = metrics
        self._max_seconds = max_seconds

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/batch-calls/{batch_id}/recipients.{format}", self.export_recipients, "read"),
            Operation("GET", "/v1/batch-calls/{batch_id}/attempts.{format}", self.export_attempts, "read"),
            Operation("GET", "/v1/exports/batches.{format}", self.export_batches, "read"),
            Operation("GET", "/v1/exports/recipients.{format}", self.export_all_recipients, "read"),
        ]

    async def export_recipients(self, request: Request) -> Response:
        """The recipients of a batch, each with its parameters and outcome."""
        return self._export_batch(request, "recipients", _read_state(request))

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
        batch_id = read_id(request, "batch_id", "batch")
        after, until = _read_span(request, MAX_RECIPIENT)
        asked = ExportRequest(
            kind=kind,
            file_format=_read_format(request),
            batch_id=batch_id,
            state=state,
            after=after,
            until=until,
            escapes_formulas=_read_formulas(request),
        )
        return self._answer(asked, f"batch-{batch_id}-{kind}")

    def _export_across(self, request: Request, kind: Kind) -> Response:
        since, before = _read_time(request, "from"), _read_time(request, "to")
        if since and before and since >= before:
            raise InvalidRequestError("to: takes a time after from")
        after, until = _read_span(request, MAX_ID)
        asked = ExportRequest(
            kind=kind,
            file_format=_read_format(request),
            agent_id=read_optional_number(request, "agent_id", minimum=0, maximum=MAX_ID),
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


def _read_format(request: Request) -> Format:
    text: str = request.path_params["format"]
    if text not in FORMATS:
        raise NotFoundError(f"There is no export as {text!r}: it is one of {', '.join(FORMATS)}")
    return text


def _read_span(request: Request, maximum: int) -> tuple[int, int]:
    """What stands in ``after`` and ``until``: everything where they are absent."""
    after = read_number(request, "after", 0, minimum=0, maximum=maximum)
    until = read_number(request, "until", maximum, minimum=0, maximum=maximum)
    if until < after:
        raise InvalidRequestError(f"until: takes a whole number from after ({after}) to {maximum}")
    return after, until


def _read_state(request: Request) -> str | None:
    state = request.query_params.get("status")
    if state not in {None, *STATES}:
        raise InvalidRequestError(f"status: takes one of {', '.join(STATES)}")
    return state


def _read_formulas(request: Request) -> bool:
    """Whether cells that a spreadsheet would run are made harmless: ``formulas=escape``, the default, or ``keep``."""
    text = request.query_params.get("formulas")
    if text is not None and request.path_params["format"] != "csv":
        raise InvalidRequestError("formulas: is for csv alone; the other formats hold every text as it is")
    if text not in {None, "escape", "keep"}:
        raise InvalidRequestError("formulas: takes one of escape, keep")
    return text != "keep" and request.path_params["format"] == "csv"


def _read_time(request: Request, name: str) -> datetime | None:
    """A day (which begins at midnight in UTC) or a time with its offset."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is not None and len(text) == len("2026-03-16"):
        instant = instant.replace(tzinfo=UTC)
    if instant is None or instant.tzinfo is None:
        raise InvalidRequestError(f"{name}: takes a day such as 2026-03-16 or a time such as 2026-03-16T10:30:00Z")
    return instant
