"""Recipients over HTTP: one row each, with what decided its outcome; and all that is known of one."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.formant.events import STATUSES
from service.store.database import Database
from service.web.json import JsonResponse, raw
from service.web.operations import Operation
from service.web.parameters import read_id, read_number

STATES = ("in_progress", "pending_retry", *STATUSES, "withdrawn", "erased")
MAX_RECIPIENT = 2**31 - 1
SCANNED_FOR_A_STATE = 10_000


class Recipients:
    """Handlers of ``/v1/batch-calls/{id}/recipients``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/batch-calls/{batch_id}/recipients", self.list, "read"),
            Operation("GET", "/v1/batch-calls/{batch_id}/recipients/{recipient}", self.get, "read"),
        ]

    async def list(self, request: Request) -> Response:
        """By number. With ``status`` a page looks at so many of them and may hold few or none: go on with ``next``."""
        batch_id = read_id(request, "batch_id", "batch")
        limit = read_number(request, "limit", 100, minimum=1, maximum=1000)
        after = read_number(request, "after", 0, minimum=0, maximum=MAX_RECIPIENT)
        state = request.query_params.get("status")
        if state not in {None, *STATES}:
            raise InvalidRequestError(f"status: takes one of {', '.join(STATES)}")
        count = await self._database.queries.get_recipient_count(self._database.pool, batch_id=batch_id)
        if count is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        until = min(count, after + (limit if state is None else SCANNED_FOR_A_STATE))
        rows = await self._read(batch_id, after, until, state)
        if len(rows) > limit:
            rows = rows[:limit]
            until = rows[-1]["recipient"]
        has_more = until < count
        return JsonResponse(
            {"data": [_show(row) for row in rows], "next": until if has_more else None, "has_more": has_more}
        )

    async def get(self, request: Request) -> Response:
        """One recipient, with the history of its attempts and where each word of it came from."""
        batch_id, number = read_id(request, "batch_id", "batch"), read_id(request, "recipient", "recipient")
        rows = await self._read(batch_id, number - 1, number, None) if 1 <= number <= MAX_RECIPIENT else []
        if not rows:
            raise NotFoundError(f"There is no recipient {number} in batch {batch_id}")
        facts = self._database.queries.list_recipient_facts(self._database.pool, batch_id=batch_id, recipient_no=number)
        history = [dict(fact) | {"results": raw(fact["results"])} async for fact in facts]
        return JsonResponse({"data": _show(rows[0]) | {"history": history}})

    async def _read(self, batch_id: int, after: int, until: int, state: str | None) -> Sequence[asyncpg.Record]:
        page = self._database.queries.list_recipients(
            self._database.pool, batch_id=batch_id, after=after, until=until, state=state
        )
        return [row async for row in page]


def _show(row: asyncpg.Record) -> dict[str, Any]:
    return dict(row) | {"parameters": raw(row["parameters"]), "results": raw(row["results"])}
