"""Agents over HTTP: the columns that bind their files."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError
from service.store.database import Database
from service.web.answers import One, Time
from service.web.declarations import Id
from service.web.json import JsonResponse
from service.web.operations import Answer, Operation

AGENT_ID = Id("agent_id", "agent", "The provider's id of the agent")


class ColumnsVersion(msgspec.Struct):
    """The columns that an upload fixed, or changed with ``accept_columns=true``."""

    version: int
    columns: list[str]
    accepted_at: Time
    upload_id: int
    batch_id: int | None


class AgentColumns(msgspec.Struct):
    """The columns that bind an agent's next file, and every version of them, the present one first."""

    agent_id: int
    version: int
    columns: list[str]
    accepted_at: Time
    upload_id: int
    batch_id: int | None
    history: list[ColumnsVersion]


class Agents:
    """Handlers of ``/v1/agents``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/agents/{agent_id}/columns", self.get_columns, "read", "Uploads",
                parameters=(AGENT_ID,),
                answers=(Answer(One[AgentColumns]),),
            ),
        ]  # fmt: skip

    async def get_columns(self, request: Request) -> Response:
        """The columns of an agent's files, and those that it had before. The agent's first upload fixes them."""
        agent_id = AGENT_ID.read(request)
        rows = self._database.queries.list_agent_columns(self._database.pool, agent_id=agent_id)
        history = [ColumnsVersion(**row) async for row in rows]
        if not history:
            raise NotFoundError(f"Agent {agent_id} has no columns yet: its first upload fixes them")
        present = msgspec.structs.asdict(history[0])
        return JsonResponse(One(AgentColumns(agent_id=agent_id, **present, history=history)))
