"""Sessions of the console over HTTP."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.access.sessions import LAST, Sessions
from service.errors import NotFoundError
from service.web.operations import Answer, Operation
from service.web.parameters import Id, Number
from service.web.responses import JsonResponse, Page, Time

LIMIT = Number("limit", "Maximum number of sessions", default=100, minimum=1, maximum=1000)
AFTER = Number("after", "`next` of the previous page", default=LAST, minimum=1, maximum=LAST)
SESSION_ID = Id("session_id", "open session", "The id from `GET /v1/sessions`")


class ConsoleSession(msgspec.Struct):
    """Somebody who is signed in to the console."""

    session_id: int
    actor: str
    """As in the audit log: ``key: NAME``, ``setting`` (the key of OUTCOMES_API_KEY) or ``user: ID``."""
    name: str
    """What is shown: which key it is, or the person's name as their OpenID provider gave it."""
    issuer: str | None
    """The OpenID provider that vouched for the person; null for a session of a key."""
    scopes: list[str]
    opened_at: Time
    last_seen_at: Time
    """To the minute."""
    expires_at: Time
    """At the latest; it ends earlier without use."""


class ConsoleSessions:
    """Handlers of ``/v1/sessions``."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/sessions", self.list_sessions, "admin", "Keys",
                parameters=(LIMIT, AFTER), answers=(Answer(Page[ConsoleSession]),),
            ),
            Operation(
                "DELETE", "/v1/sessions/{session_id}", self.revoke, "admin", "Keys",
                parameters=(SESSION_ID,), answers=(Answer(None, "It is refused everywhere within seconds", 204),),
                errors=(NotFoundError,),
            ),
        ]  # fmt: skip

    async def list_sessions(self, request: Request) -> Response:
        """Who is signed in to the console, newest first. A page may be shorter than ``limit`` although more follow:
        continue with ``next``."""
        listed, following = await self._sessions.list_sessions(before=AFTER.read(request), limit=LIMIT.read(request))
        rows = [ConsoleSession(**each._asdict() | {"scopes": list(each.scopes)}) for each in listed]
        return JsonResponse(Page(rows, following, following is not None))

    async def revoke(self, request: Request) -> Response:
        """Ends a session of the console."""
        await self._sessions.revoke_session(SESSION_ID.read(request))
        return Response(status_code=204)
