"""What became of events: one by its id, those that fit no recipient, and the quarantine."""

from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.ledger.quarantine import Replayer
from service.store.database import Database
from service.web.json import JsonResponse
from service.web.operations import Operation
from service.web.parameters import read_id, read_number

MAX_CURSOR = 2**63 - 1


class Events:
    """Handlers of ``/v1/events``, ``/v1/unattributed`` and ``/v1/quarantine``."""

    def __init__(self, database: Database, replayer: Replayer) -> None:
        self._database = database
        self._replayer = replayer

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/events/{event_id}", self.get_event, "read"),
            Operation("GET", "/v1/unattributed", self.list_unattributed, "read"),
            Operation("GET", "/v1/quarantine", self.list_quarantine, "read"),
            Operation("POST", "/v1/quarantine/{quarantine_id}/replay", self.replay, "admin"),
        ]

    async def get_event(self, request: Request) -> Response:
        """An event's disposition; 404 until it is committed."""
        event_id = request.path_params["event_id"]
        if "\x00" in event_id:
            raise NotFoundError("There is no event with that id")
        row = await self._database.queries.get_event(self._database.pool, event_id=event_id)
        if row is None:
            raise NotFoundError(f"There is no event {event_id!r} (yet): it is shown once it is committed")
        return JsonResponse({"data": dict(row)})

    async def list_unattributed(self, request: Request) -> Response:
        """Events that fit no recipient, or several, with the reason."""
        return await self._list(request, self._database.queries.list_unattributed, "arrival_id")

    async def list_quarantine(self, request: Request) -> Response:
        """Bodies that could not be used, with the reason."""
        return await self._list(request, self._database.queries.list_quarantine, "quarantine_id")

    async def replay(self, request: Request) -> Response:
        """Sends a quarantined body on its way again; 400 when it still cannot be used."""
        quarantine_id = read_id(request, "quarantine_id", "quarantined body")
        event_id = await self._replayer.replay(quarantine_id)
        if event_id is None:
            raise InvalidRequestError(
                f"Quarantined body {quarantine_id} still cannot be used, and stays: GET /v1/quarantine tells why"
            )
        return JsonResponse({"data": {"quarantine_id": quarantine_id, "event_id": event_id}})

    async def _list(self, request: Request, query: "object", key: str) -> Response:
        limit = read_number(request, "limit", 100, minimum=1, maximum=1000)
        after = read_number(request, "after", 0, minimum=0, maximum=MAX_CURSOR)
        rows = [dict(row) async for row in query(self._database.pool, after=after, limit=limit + 1)]  # type: ignore[operator]
        has_more = len(rows) > limit
        rows = rows[:limit]
        return JsonResponse({"data": rows, "next": rows[-1][key] if has_more else None, "has_more": has_more})
