"""The API as the console uses it: called in this process, with the scopes of the session.

A page shows what the API answers and nothing else, so the two cannot differ, and a page can do no more than a key with
the session's scopes.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from service.access.sessions import Session
from service.console.looks import Looks
from service.errors import ApiError, PermissionDeniedError
from service.plain import reword
from service.web.operations import Operation, to_handler
from service.web.scopes import Scope, allows, grant

Query = Mapping[str, Any]


def require_scope(session: Session, scope: Scope | None, purpose: str) -> None:
    """Raises PermissionDeniedError, which names the purpose, unless the session has the scope."""
    if scope is not None and not allows(session.scopes, scope):
        raise PermissionDeniedError(
            f"{purpose} needs the permission “{scope}”. Yours: {', '.join(session.scopes) or 'none'}. "
            "Ask the person who gave you access."
        )


class _SessionGuard:
    """Accepts a call whose session has the scope."""

    async def require(self, request: Request, scope: Scope) -> None:
        session: Session = request.scope["session"]
        require_scope(session, scope, "This")
        grant(request, session.scopes)


class Api:
    """The operations of the API by method and path, such as ``GET /v1/batch-calls/{batch_id}/outcomes``."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        guard = _SessionGuard()
        self._scopes = {f"{each.method} {each.path}": each.scope for each in operations}
        self._handlers = {f"{each.method} {each.path}": to_handler(each, guard) for each in operations}
        self._looks = Looks()

    async def call(
        self,
        caller: Request,
        session: Session,
        call: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        **ids: Any,
    ) -> Response:
        """The answer to ``call``, such as ``GET /v1/alarms``. ``ids`` fill its path; empty query values
        are left out. Without ``body`` the call reads the body of ``caller``. Raises the ApiError of the call."""
        method, _, path = call.partition(" ")
        headers = [(b"content-type", content_type.encode())] if body is not None else caller.scope["headers"]
        if body is not None:
            headers = [*headers, (b"content-length", str(len(body)).encode())]
        scope = {
            **caller.scope,
            "method": method,
            "path": path.format(**ids),
            "query_string": encode_query(query or {}).encode(),
            "headers": headers,
            "path_params": {name: str(value) for name, value in ids.items()},
            "session": session,
        }
        waiting = [] if body is None else [body]

        async def receive() -> Message:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(), "more_body": False}
            return await caller.receive()

        try:
            return await self._handlers[call](Request(scope, receive))
        except ApiError as error:
            error.message = reword(error.message, has_country="/v1/batch-call" in call)
            raise

    async def read(self, caller: Request, session: Session, call: str, query: Query | None = None, **ids: Any) -> Any:
        """The JSON that a GET answers."""
        return msgspec.json.decode((await self.call(caller, session, call, query=query, body=b"", **ids)).body)

    async def look(self, caller: Request, session: Session, call: str, query: Query | None = None, **ids: Any) -> Any:
        """Like ``read``, but all viewers share one answer for about a second, so that many cost what one does."""
        require_scope(session, self._scopes[call], "This")
        key = (call, encode_query(query or {}), tuple(sorted(ids.items())))
        return await self._looks.get(key, lambda: self.read(caller, session, call, query, **ids))

    async def send(
        self, caller: Request, session: Session, call: str, content: Any, query: Query | None = None, **ids: Any
    ) -> Any:
        """The JSON that a call with a JSON body answers; None for an answer without a body."""
        body = json.dumps(content).encode() if content is not None else b""
        answer = await self.call(caller, session, call, query=query, body=body, **ids)
        return msgspec.json.decode(answer.body) if answer.body else None


def encode_query(query: Query) -> str:
    """The query string of the values that are neither None nor empty; a list repeats its name."""
    return urlencode({name: value for name, value in query.items() if value not in (None, "", [])}, doseq=True)
