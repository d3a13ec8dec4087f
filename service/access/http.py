"""The audit log over HTTP."""

from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Number
from service.web.responses import JsonResponse, Page, Time, raw, to_page

LIMIT = Number("limit", "Maximum number of lines", default=100, minimum=1, maximum=1000)
AFTER = Number("after", "`next` of the previous page", default=2**62, minimum=1, maximum=2**62)


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
                parameters=(LIMIT, AFTER), answers=(Answer(Page[AuditLine]),),
            ),
        ]  # fmt: skip

    async def list_audit(self, request: Request) -> Response:
        """Who did what to what, and the outcome. Newest first."""
        limit, before = LIMIT.read(request), AFTER.read(request)
        page = self._database.queries.list_audit(self._database.pool, before=before, limit=limit + 1)
        rows = [AuditLine(**(dict(row) | {"details": raw(row["details"])})) async for row in page]
        return JsonResponse(to_page(rows, limit, "audit_id"))
