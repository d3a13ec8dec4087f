"""Callbacks as files over HTTP, written as every other export."""

from starlette.requests import Request
from starlette.responses import Response

from service.callbacks.http import FILTERS, read_filters
from service.errors import NotFoundError
from service.exports.export import Exporter
from service.exports.options import (
    AS_OF_HEADER,
    FORMAT,
    OPTIONS,
    TIME_ZONE,
    TIME_ZONE_TEXT,
    declare_answers,
    read_options,
)
from service.exports.selection import ExportRequest
from service.exports.streaming import ExportResponse
from service.telemetry.metrics import Metrics
from service.web.operations import Operation
from service.web.times import TimeZone

ROWS_HEADER = ("X-Outcomes-Rows", "The number of rows, without a header")


class CallbackExports:
    """Handler of ``/v1/callbacks.{format}``."""

    def __init__(self, exporter: Exporter, metrics: Metrics, *, max_seconds: float, default_time_zone: str) -> None:
        self._exporter = exporter
        self._metrics = metrics
        self._max_seconds = max_seconds
        self._time_zone = TimeZone(TIME_ZONE, TIME_ZONE_TEXT, default=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/callbacks.{format}", self.export, "read", "Callbacks",
                parameters=(FORMAT, *FILTERS, self._time_zone, *OPTIONS),
                answers=declare_answers(AS_OF_HEADER, ROWS_HEADER), errors=(NotFoundError,), download="callbacks",
            ),
        ]  # fmt: skip

    async def export(self, request: Request) -> Response:
        """The callbacks of the list as a file, with the same filters, and the results of the call. `time_zone` in the
        file names the zone of its times."""
        asked = ExportRequest(
            kind="callbacks",
            file_format=FORMAT.read(request),
            callbacks=read_filters(request, self._time_zone),
            **read_options(request, self._time_zone)._asdict(),
        )
        name = f"callbacks.{asked.file_format}"
        return ExportResponse(self._exporter, asked, self._metrics, file_name=name, max_seconds=self._max_seconds)
