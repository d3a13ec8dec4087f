"""Recipients over HTTP: one row each, with what decided its outcome; and all that is known of one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.formant.events import STATUSES
from service.store.database import Database
from service.web.json import JsonResponse, raw
from service.web.operations import Operation
from service.web.parameters import read_choice, read_id, read_moment, read_number

STATES = ("in_progress", "pending_retry", *STATUSES, "withdrawn", "erased")
SOURCES = ("webhook", "healed")
MAX_RECIPIENT = 2**31 - 1
MAX_ATTEMPTS = 2**31 - 1
SCANNED_FOR_A_STATE = 10_000


class Filters(NamedTuple):
    """Which recipients are wanted; ``state`` and ``source`` are the outcome's, the result is that of its attempt."""

    state: str | None = None
    source: str | None = None
    min_attempts: int = 0
    max_attempts: int = MAX_ATTEMPTS
    changed_since: datetime | None = None
    result_name: str | None = None
    result_value: str | None = None


NO_FILTERS = Filters()


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
        """By number. With a filter a page looks at so many of them and may hold few or none: go on with ``next``."""
        batch_id = read_id(request, "batch_id", "batch")
        limit = read_number(request, "limit", 100, minimum=1, maximum=1000)
        after = read_number(request, "after", 0, minimum=0, maximum=MAX_RECIPIENT)
        filters = read_filters(request)
        count = await self._database.queries.get_recipient_count(self._database.pool, batch_id=batch_id)
        if count is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        until = min(count, after + (limit if filters == NO_FILTERS else SCANNED_FOR_A_STATE))
        rows = await self._read(batch_id, after, until, filters)
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
        rows = await self._read(batch_id, number - 1, number, NO_FILTERS) if 1 <= number <= MAX_RECIPIENT else []
        if not rows:
            raise NotFoundError(f"There is no recipient {number} in batch {batch_id}")
        facts = self._database.queries.list_recipient_facts(self._database.pool, batch_id=batch_id, recipient_no=number)
        history = [dict(fact) | {"results": raw(fact["results"])} async for fact in facts]
        return JsonResponse({"data": _show(rows[0]) | {"history": history}})

    async def _read(self, batch_id: int, after: int, until: int, filters: Filters) -> Sequence[asyncpg.Record]:
        page = self._database.queries.list_recipients(
            self._database.pool, batch_id=batch_id, after=after, until=until, **filters._asdict()
        )
        return [row async for row in page]


def read_filters(request: Request) -> Filters:
    """The filters in the query; raises InvalidRequestError, naming the parameter, for one that cannot be used."""
    least = read_number(request, "min_attempts", 0, minimum=0, maximum=MAX_ATTEMPTS)
    most = read_number(request, "max_attempts", MAX_ATTEMPTS, minimum=0, maximum=MAX_ATTEMPTS)
    if least > most:
        raise InvalidRequestError("min_attempts, max_attempts: no number of attempts is within them")
    result = request.query_params.get("result")
    name, colon, value = (result or "").partition(":")
    if result is not None and not (name and colon and "\0" not in result):
        raise InvalidRequestError("result: takes NAME:VALUE, such as intent:promise_to_pay")
    return Filters(
        state=read_choice(request, "status", STATES),
        source=read_choice(request, "source", SOURCES),
        min_attempts=least,
        max_attempts=most,
        changed_since=read_moment(request, "changed_since", UTC),
        result_name=name or None,
        result_value=value if result is not None else None,
    )


def _show(row: asyncpg.Record) -> dict[str, Any]:
    return dict(row) | {"parameters": raw(row["parameters"]), "results": raw(row["results"])}
