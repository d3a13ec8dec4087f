"""The audit log over HTTP."""

from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Number, Text
from service.web.responses import JsonResponse, Page, Time, raw, to_page

LIMIT = Number("limit", "Maximum number of lines", default=100, minimum=1, maximum=1000)
AFTER = Number("after", "`next` of the previous page", default=2**62, minimum=1, maximum=2**62)
ACTION = Text("action", "Only lines with this action, such as `upload`", default=None, maximum=100)
ACTOR = Text("actor", "Only lines of this actor, such as `key: crm`", default=None, maximum=200)
SEARCHED = 10_000
"""Lines that one page searches, so that what a filter costs does not grow with the log."""


class AuditLine(msgspec.Struct):
    """An action and its outcome. No line names a person."""

    audit_id: int
    recorded_at: Time
    actor: str
    """``key: NAME``, ``setting`` (the key of OUTCOMES_API_KEY), ``user: ID`` (who signed in by OpenID Connect),
    ``command line``, or ``service`` (on its own)."""
    key_id: int | None
    request_id: str | None
    """``X-Request-Id`` of the request that caused it, if any."""
    action: str
    subject: str
    """Such as ``upload 7``."""
    outcome: str
    details: Annotated[msgspec.Raw | None, msgspec.Meta(extra={"shape": dict[str, Any]})]
    """Numbers and ids."""


class Audit:
    """Handlers of ``/v1/audit``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/audit", self.list_audit, "admin", "Privacy",
                parameters=(ACTION, ACTOR, LIMIT, AFTER), answers=(Answer(Page[AuditLine]),),
            ),
        ]  # fmt: skip

    async def list_audit(self, request: Request) -> Response:
        """Who did what to what, and the outcome. Newest first. A page of filtered lines may be shorter than ``limit``
        although more follow: continue with ``next``."""
        limit, before = LIMIT.read(request), AFTER.read(request)
        action, actor = ACTION.read(request), ACTOR.read(request)
        queries, pool = self._database.queries, self._database.pool
        found = queries.list_audit(pool, before=before, action=action, actor=actor, searched=SEARCHED, limit=limit + 1)
        rows = [AuditLine(**(dict(row) | {"details": raw(row["details"])})) async for row in found]
        page = to_page(rows, limit, "audit_id")
        if not page.has_more and (end := await queries.find_audit_end(pool, before=before, searched=SEARCHED)):
            page = Page(page.data, end, True)
        return JsonResponse(page)
