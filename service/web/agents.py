"""Agents over HTTP: the columns that bind their files."""

from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError
from service.store.database import Database
from service.web.json import JsonResponse
from service.web.operations import Operation
from service.web.parameters import read_id


class Agents:
    """Handlers of ``/v1/agents``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/agents/{agent_id}/columns", self.get_columns, "read"),
        ]

    async def get_columns(self, request: Request) -> Response:
        """The columns of an agent's files, and those that it had before."""
        agent_id = read_id(request, "agent_id", "agent")
        rows = self._database.queries.list_agent_columns(self._database.pool, agent_id=agent_id)
        history = [dict(row) async for row in rows]
        if not history:
            raise NotFoundError(f"Agent {agent_id} has no columns yet: its first upload fixes them")
        return JsonResponse({"data": {"agent_id": agent_id, **history[0], "history": history}})
