"""Streams an export to a client, which may be slow, stall or disconnect.

No file is ever truncated silently. An answer that cannot be finished ends without HTTP's last chunk, so every client
reports an error; a Parquet file without its end cannot be opened. A client that stalls or takes too long in all is cut
off in the same way, because an export holds a snapshot of the database.
"""

import asyncio
import time

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.exports.export import Export, Exporter
from service.exports.formats import MEDIA_TYPES
from service.exports.selection import ExportRequest
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import note, span
from service.web.responses import wait_for_disconnect

logger = structlog.get_logger()

STALL_SECONDS = 30.0
CHUNK_BYTES = 2**16


class ExportResponse(Response):
    """An export as an answer. An error before it begins is raised and answered like any other."""

    def __init__(
        self, exporter: Exporter, request: ExportRequest, metrics: Metrics, *, file_name: str, max_seconds: float
    ) -> None:
        self.status_code = 200
        self.background = None
        self._exporter = exporter
        self._request = request
        self._metrics = metrics
        self._file_name = file_name
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._exporter.begin(self._request) as export:
            self.init_headers(self._make_headers(export))
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            began = time.monotonic()
            with span("export", exported=self._request.kind, format=self._request.file_format) as traced:
                ending = await self._send(export, receive, send)
                note(traced, ending=ending)
        self._metrics.exports.labels(self._request.kind, self._request.file_format, ending).inc()
        seconds = round(time.monotonic() - began, 3)
        logger.info("export_ended", name=self._request.kind, state=ending, seconds=seconds)

    def _make_headers(self, export: Export) -> dict[str, str]:
        selection = export.selection
        headers = {
            "content-type": MEDIA_TYPES[self._request.file_format],
            "content-disposition": f'attachment; filename="{self._file_name}"',
            "cache-control": "private, no-store",
            "x-outcomes-as-of": export.as_of.isoformat().replace("+00:00", "Z"),
        }
        if selection.until is not None:
            headers["x-outcomes-until"] = str(selection.until)
        if selection.rows is not None:
            headers["x-outcomes-rows"] = str(selection.rows)
        if selection.verdict is not None:
            headers["x-outcomes-verdict"] = selection.verdict
        return headers

    async def _send(self, export: Export, receive: Receive, send: Send) -> str:
        """Sends the rows until they end, the client disconnects, or the time is up. Returns how it ended. Without the
        last chunk the server closes the connection."""
        sending = asyncio.create_task(self._send_rows(export, send))
        leaving = asyncio.create_task(wait_for_disconnect(receive))
        try:
            await asyncio.wait({sending, leaving}, timeout=self._max_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                return "disconnected" if leaving.done() else "too_slow"
            error = sending.exception()
            if error is None:
                return "done"
            if isinstance(error, _StalledError):
                return "stalled"
            logger.warning("export_failed", name=self._request.kind, exc_info=error)
            return "failed"
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_rows(self, export: Export, send: Send) -> None:
        pending: list[bytes] = []
        size = 0

        async def write(data: bytes) -> None:
            nonlocal size
            pending.append(data)
            size += len(data)
            if size >= CHUNK_BYTES:
                await _send_chunk(send, b"".join(pending), more=True)
                pending.clear()
                size = 0

        rows = await export.stream(write)
        if export.selection.rows not in {None, rows}:
            logger.error("export_rows_differ", name=self._request.kind, count=rows, recipients=export.selection.rows)
        await _send_chunk(send, b"".join(pending), more=False)


class _StalledError(Exception):
    """The client received nothing for too long."""


async def _send_chunk(send: Send, body: bytes, *, more: bool) -> None:
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await send({"type": "http.response.body", "body": body, "more_body": more})
    except TimeoutError as error:
        raise _StalledError from error
