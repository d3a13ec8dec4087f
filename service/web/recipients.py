"""Recipients over HTTP: one row each, with what decided its outcome; and all that is known of one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.formant.events import STATUSES
from service.outcomes.past import PastReader
from service.store.database import Database
from service.web.json import JsonResponse, raw
from service.web.operations import Operation
from service.web.parameters import read_choice, read_id, read_moment, read_number, read_optional_time

STATES = ("in_progress", "pending_retry", *STATUSES, "withdrawn")
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
        self._past = PastReader(database)

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
        as_of = read_optional_time(request, "as_of")
        if as_of is not None and filters.changed_since is not None:
            raise InvalidRequestError("changed_since: not together with as_of")
        count = await self._count(batch_id, as_of)
        until = min(count, after + (limit if filters == NO_FILTERS else SCANNED_FOR_A_STATE))
        rows = await self._read(batch_id, after, until, filters, as_of)
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
        as_of = read_optional_time(request, "as_of")
        count = await self._count(batch_id, as_of)
        rows = await self._read(batch_id, number - 1, number, NO_FILTERS, as_of) if 1 <= number <= count else []
        if not rows:
            raise NotFoundError(f"There is no recipient {number} in batch {batch_id}")
        queries, pool = self._database.queries, self._database.pool
        if as_of is None:
            facts = queries.list_recipient_facts(pool, batch_id=batch_id, recipient_no=number)
        else:
            facts = queries.list_recipient_facts_as_of(pool, batch_id=batch_id, recipient_no=number, as_of=as_of)
        history = [dict(fact) | {"results": raw(fact["results"])} async for fact in facts]
        return JsonResponse({"data": _show(rows[0]) | {"history": history}})

    async def _count(self, batch_id: int, as_of: datetime | None) -> int:
        """How many recipients are, or were, numbered."""
        if as_of is not None:
            return (await self._past.find(batch_id, as_of))[1]
        count: int | None = await self._database.queries.get_recipient_count(self._database.pool, batch_id=batch_id)
        if count is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return count

    async def _read(
        self, batch_id: int, after: int, until: int, filters: Filters, as_of: datetime | None
    ) -> Sequence[asyncpg.Record]:
        queries, pool = self._database.queries, self._database.pool
        asked: dict[str, Any] = {"batch_id": batch_id, "after": after, "until": until, **filters._asdict()}
        if as_of is None:
            return [row async for row in queries.list_recipients(pool, **asked)]
        del asked["changed_since"]
        return [row async for row in queries.list_recipients_as_of(pool, **asked, as_of=as_of)]


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
