"""Downloads of people, each with its line in the audit log: which rows, in which format, and by which filters.

An operation declares what it hands out (``Operation.download``). The line is written before the first byte goes out, so
no file leaves without one, and an error leaves none.
"""

from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.access.audit import record_audit
from service.errors import UnavailableError
from service.store.database import Database
from service.web.operations import Operation
from service.web.problems import UNREACHABLE

HIDDEN = "not recorded"
"""Stands for a value that may name a person."""


class DownloadLog:
    """Records downloads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def watch(self, operation: Operation) -> Operation:
        """The operation with its downloads recorded, if it hands out people."""
        if operation.download is None:
            return operation

        @wraps(operation.handler)
        async def handle(request: Request) -> Response:
            answer: Response = await operation.handler(request)
            return _Download(self._database, answer, _name_rows(operation, request), _describe(operation, request))

        return operation._replace(handler=handle)


class _Download(Response):
    """An answer that is recorded as it begins."""

    def __init__(self, database: Database, answer: Response, subject: str, details: dict[str, Any]) -> None:
        self.status_code = answer.status_code
        self.background = None
        self._database = database
        self._answer = answer
        self._subject = subject
        self._details = details

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def pass_on(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200 and scope["method"] != "HEAD":
                await self._record()
            await send(message)

        await self._answer(scope, receive, pass_on)

    async def _record(self) -> None:
        try:
            await record_audit(self._database, self._database.pool, "download", self._subject, "begun", **self._details)
        except UNREACHABLE as error:  # a streamed answer would take it for a client that has gone
            message = "The download cannot be recorded in the audit log now, so it does not begin: try again"
            raise UnavailableError(message) from error


def _name_rows(operation: Operation, request: Request) -> str:
    """Such as ``recipients of batch 456``."""
    ids = [f"{name.removesuffix('_id')} {request.path_params[name]}" for name in ("batch_id", "upload_id")
           if name in request.path_params]  # fmt: skip
    return " of ".join([str(operation.download), *ids])


def _describe(operation: Operation, request: Request) -> dict[str, Any]:
    """The format, and the parameters that were given: those that may name a person without their values."""
    declared = {parameter.name: parameter for parameter in operation.list_query()}
    given = {
        name: value if declared[name].is_impersonal else HIDDEN
        for name, value in request.query_params.items()
        if name in declared
    }
    return {"format": request.path_params.get("format", "csv"), **given}
