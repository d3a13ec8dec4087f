"""The audit log over HTTP."""

from starlette.requests import Request
from starlette.responses import Response

from service.store.database import Database
from service.web.json import JsonResponse, raw
from service.web.operations import Operation
from service.web.parameters import read_number


class Audit:
    """Handlers of ``/v1/audit``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        return [Operation("GET", "/v1/audit", self.list_audit, "admin")]

    async def list_audit(self, request: Request) -> Response:
        """Who did what, newest first."""
        limit = read_number(request, "limit", 100, minimum=1, maximum=1000)
        before = read_number(request, "after", 2**62, minimum=1, maximum=2**62)
        page = self._database.queries.list_audit(self._database.pool, before=before, limit=limit + 1)
        rows = [dict(row) | {"details": raw(row["details"])} async for row in page]
        has_more = len(rows) > limit
        rows = rows[:limit]
        return JsonResponse({"data": rows, "next": rows[-1]["audit_id"] if has_more else None, "has_more": has_more})
